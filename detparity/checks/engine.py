"""What an engine does with a file: that it loads there, and what the engine computes by default, which is not always float32.

These checks, those of numbers and those of suppression are all that is run on an engine that `--engine` names, or on a runtime's own
file. There the engine is set to compute in float32, so that a difference is the file's; `engine.default` then states what a user
gets who sets nothing.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Iterator, List, Mapping, Sequence, Tuple

from detparity.checks import parity
from detparity.checks.context import Context
from detparity.checks.foreign import parity as foreign_parity
from detparity.checks.foreign.context import ForeignContext
from detparity.checks.inputs import first_case
from detparity.core.contract import INFO, MUST, SHOULD
from detparity.core.errors import EngineError
from detparity.core.findings import CannotRun, Check, Finding

DEFAULT = "default"
# How each engine is set to compute in float32.
SETTINGS: Mapping[str, str] = {
    "openvino": 'core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"}) computes in float32.',
    "ncnn": "net.opt.use_fp16_packed, use_fp16_storage, use_fp16_arithmetic, use_bf16_storage and "
    "use_winograd_convolution = False compute in plain float32.",
}


def load(context: Any) -> Iterator[Finding]:
    """That it loads, and runs on what it declares."""
    does = "load"
    try:
        context.runner()
        does = "run"
        context.predict(context.declared if isinstance(context, ForeignContext) else first_case(context))
    except EngineError as error:
        text = str(error)[:600]
        yield Finding(f"does not {does} in {context.engine()}.", notes=(text,), evidence={"refused": text})


def default(context: Any) -> Iterator[Finding]:
    """Numbers as the engine computes them by default. What that costs is SHOULD: the file is right."""
    asked, own = context.runner().facts, context.runner(precision=DEFAULT).facts
    changed = tuple(
        (key, asked[key], own.get(key, "")) for key in asked if own.get(key) != asked[key] and key != "asked for"
    )
    if not changed:
        return
    found = _compared(context)
    precision = own.get("precision", "")
    rows = (("", "set to float32", "by default"), *changed)
    fix = SETTINGS.get(context.engine(), "")
    if found:
        yield replace(
            found[0],
            message=f"computes {f'in {precision}' if precision else 'otherwise'} by default on this processor, and {found[0].message}",
            notes=(*found[0].notes, *_changes(changed)),
            level=SHOULD,
            fix=fix,
        )
    elif precision and precision != asked.get("precision"):
        yield Finding(
            f"computes in {precision} by default on this processor.",
            rows,
            headed=True,
            level=INFO,
            fix=fix,
            evidence=dict(own),
        )


def _changes(changed: Sequence[Tuple[str, str, str]]) -> List[str]:
    """What the engine does otherwise by default, as far as it reports it."""
    return [f"By default its {key} is {other}; set to float32 it is {one}." for key, one, other in changed if other]


def _compared(context: Any) -> List[Finding]:
    if context.contract.quantised:  # differs from the model beyond any floor, however it is computed
        return []
    if isinstance(context, ForeignContext):
        return foreign_parity.compare(context, context.declared, precision=DEFAULT)
    assert isinstance(context, Context)
    if context.contract.variant.head not in ("raw", "grid"):
        raise CannotRun("what it selects is certified in float32 alone", hides=False)
    return list(parity.compare(context, first_case(context), precision=DEFAULT))


def _always(_: Any) -> bool:
    return True


CHECKS: Tuple[Check, ...] = (
    Check("engine.load", MUST, "The engine that is asked for, or whose file it is, loads and runs it.", load, _always),
    Check(
        "engine.default",
        SHOULD,
        "Right numbers as that engine computes by default, and in which precision that is.",
        default,
        _always,
        ("engine.load", "parity.declared"),
    ),
)
