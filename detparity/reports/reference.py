"""The reference pages of checks and shims, made from the checks and the shims themselves."""

from __future__ import annotations

from typing import Any, Iterable, List, Mapping

from detparity.core.findings import Check
from detparity.core.guides import EXPORTERS, Guide

HEAD = """# Checks

Made by `detparity checks --markdown`; a test keeps it true.

A check's level is the worst its findings have. MUST: the artifact is wrong. SHOULD: it is imprecise, and violates only under
`--strict`. INFO: an optional engine; never counts. A check that needs another is skipped when that one fails.
"""


FOREIGN_HEAD = """
# Any other detector

Files judged with `--model`, `--against` or `detparity capture` ([any_detector.md](any_detector.md)).
"""


GUIDES_HEAD = """
# Why it matters, what causes it, how to fix it

`detparity explain CHECK` prints the same. Causes are those that public reports of exporters and the defects of tests/defects show.
"""


def page(checks: Iterable[Check], foreign: Iterable[Check], guides: Mapping[str, Guide]) -> str:
    """Return the page as Markdown, one table per group, then a section a check; foreign: checks of files of any detector."""
    home, other = list(checks), list(foreign)
    lines = [HEAD, *_tables(home), FOREIGN_HEAD, *_tables(other, "any detector: "), GUIDES_HEAD]
    for name in dict.fromkeys(check.id for check in [*home, *other]):
        lines += _section(name, guides[name])
    return "\n".join(lines) + "\n"


def _section(name: str, guide: Guide) -> List[str]:
    fixes = [f"- {EXPORTERS[key]}: {text}" for key, text in guide.fixes.items()]
    causes = [f"- {cause}" for cause in guide.causes]
    return [
        "",
        f"## {name}",
        "",
        guide.why,
        "",
        "Causes:",
        "",
        *causes,
        "",
        f"Fix: {guide.fix}",
        *([""] if fixes else []),
        *fixes,
    ]


def _tables(checks: Iterable[Check], before: str = "") -> List[str]:
    """A heading, which begins with `before`, and a table for each group."""
    lines: List[str] = []
    group = ""
    for check in checks:
        if check.id.split(".")[0] != group:
            group = check.id.split(".")[0]
            lines += [
                "",
                f"## {before}{group}",
                "",
                "| check | level | what holds | needs |",
                "|---|---|---|---|",
            ]
        lines.append(f"| `{check.id}` | {check.level} | {check.about} | {', '.join(check.needs)} |")
    return lines


SHIMS_HEAD = """# Shims

Made by `detparity shims --markdown`; a test keeps it true.

What one version of torch needs and another does not, one file of `detparity/models/compat/` each.
`tests/models/compat/test_shims.py` switches each one
off in every lane: where it is needed, the failure its file states must follow; elsewhere nothing may fail. They serve
your own exporter as they serve ours: `from detparity.models.compat.onnx_export import export_onnx`.

| shim | what it replaces | needed by | without it | may go when |
|---|---|---|---|---|
"""


def shims_page(shims: Mapping[str, Any]) -> str:
    """Return the page of shims as Markdown; shims: modules of `detparity.models.compat` by name."""
    rows = []
    for name, module in shims.items():
        about = str(module.__doc__).strip().splitlines()[0]
        where = "; ".join(
            ", ".join(f"{fact} {versions}" for fact, versions in need.when.items()) for need in module.SHIM.needs
        )
        rows.append(f"| `{name}` | {about} | {where} | {module.SHIM.without} | {module.SHIM.until} |\n")
    return SHIMS_HEAD + "".join(rows)
