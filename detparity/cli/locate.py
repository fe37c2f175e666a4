"""`detparity locate`: the first module of the model, and the node of the file, where an exported file goes wrong."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional

from detparity.cli.check import require_one_file
from detparity.cli.console import Console
from detparity.cli.options import (
    add_any_model,
    add_display,
    add_model,
    choice_of,
    model_files,
    require_writable,
    size_of,
)
from detparity.core.errors import InputError
from detparity.core.file_kind import require_checkpoint
from detparity.core.files import require_file, write_text
from detparity.core.findings import CannotRun
from detparity.core.signals import held_back
from detparity.core.text import render
from detparity.models.choice import of_a_package, require_named, require_one_model

SAME, DIFFERS, UNKNOWN = 0, 1, 3


def add(parser: argparse.ArgumentParser) -> None:
    add_model(parser)
    add_any_model(parser)
    parser.add_argument("artifact", type=Path, metavar="ARTIFACT", help="the exported file")
    parser.add_argument("--variant", help="what the file promises to be (default: read from it)")
    parser.add_argument("--img-size", type=int, nargs="+", metavar="N", help="height, width, where it declares none")
    parser.add_argument(
        "--bundle", type=Path, metavar="DIR", help="write what repeats the first fault without the model"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what was found as JSON")
    add_display(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit codes: 0 every part is its model, 1 a part is not, 2 unusable input, 3 it differs and no part could be named."""
    require_writable(options.json, reads=[options.artifact, *model_files(options)])
    choice = choice_of(options)
    require_one_model(choice)
    require_one_file([options.artifact])
    require_named(choice, [options.artifact])
    for path in options.weights:
        require_file(path, "a checkpoint")
        require_checkpoint(path)
    from detparity.checks.session import Options
    from detparity.engines.remote import client

    with Console(vars(options), sys.stdout, options.started) as console:
        console.stage("loading")
        client().start()
        asked = Options(
            choice=of_a_package(choice),
            artifacts=(options.artifact,),
            variant=options.variant,
            img_size=size_of(options.img_size),
        )
        found, code = _located(asked, console, options.bundle)
    if options.json is not None:
        write_text(options.json, json.dumps(found, indent=1) + "\n")
    return code


def _located(asked: Any, console: Console, folder: Optional[Path]) -> Any:
    with held_back():
        from detparity.checks.foreign.sources import source_of
        from detparity.checks.locating.run import declared, failing, locate
        from detparity.checks.locating.text import findings, summary
        from detparity.checks.session import Session

    path = asked.artifacts[0]
    session = Session(asked, None, source_of(asked.choice, asked.img_size) if asked.choice.foreign else None)
    console.stage("loading the model")
    session.load()
    context = session.judged(path)
    console.stage("looking for a picture that shows it")
    check, case = next(failing(context), ("", declared(context)))
    console.stage("comparing tensors")
    try:
        answer = locate(session, context, case)
    except CannotRun as error:
        raise InputError(f"{path}: {error}") from None
    results = findings(answer)
    for finding in results:
        console(render(path.name, "locate", finding) + "\n")
    if not results:
        console(
            f"{path.name}: every part of it is its model's, at {case}" + (f", though {check} fails" if check else "")
        )
    for line in summary(answer):
        console(f"  {line}")
    if folder is not None and answer.located.faults:
        console(_bundled(folder, answer, results[0].evidence, path))
    named = bool(results) and "node" in results[0].evidence
    return _record(str(path), results), DIFFERS if named else UNKNOWN if results or check else SAME


def _bundled(folder: Path, answer: Any, evidence: Mapping[str, Any], path: Path) -> str:
    """Write a bundle; what it is, in a line."""
    from detparity.checks.locating import bundle
    from detparity.checks.locating.reduction import smaller
    from detparity.core.errors import EngineError
    from detparity.core.files import sha256

    try:
        part = smaller(bundle.part_of(answer.search, answer.located.faults[0]))
    except EngineError as error:
        raise InputError(f"no bundle of {path.name}: {error}") from None
    facts = {**evidence, "case": str(evidence["case"]), "file": path.name, "sha256": sha256(path)}
    size = bundle.write(folder, part, facts)
    large = "" if size <= bundle.LARGEST else "; no smaller part of it shows the difference"
    return f"  {folder}: {size / 1000:.0f} kB that repeat it: detparity replay {folder}, or python {folder}/replay.py{large}"


def _record(path: str, results: List[Any]) -> Dict[str, Any]:
    faults = [{**one.evidence, "case": str(one.evidence["case"])} for one in results if "node" in one.evidence]
    first: Optional[Dict[str, Any]] = faults[0] if faults else None
    return {"path": path, "first": first, "faults": faults}
