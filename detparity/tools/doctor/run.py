"""`detparity script-doctor`: from the options to a diagnosis."""

from __future__ import annotations

import contextlib
import shlex
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Callable, List, Mapping, Optional, Sequence, Tuple

from detparity.core.environment import environment
from detparity.core.errors import InputError
from detparity.core.files import require_file
from detparity.core.resources import PACKAGE
from detparity.models.choice import ModelChoice, load_detector
from detparity.tools.doctor.call_sites import MODULE, CallSite, call_sites
from detparity.tools.doctor.causes import grouped
from detparity.tools.doctor.report import BLOCKED, NO_MODULE, READ, SCRIPTS, UNSAVEABLE, Diagnosis

COMMAND = "detparity script-doctor"


@dataclass(frozen=True)
class Request:
    """model: `FILE.py:NAME` of the user's own; arguments: what it is made with; sites: files whose calls of torch.jit.script
    are read. Without a model, `choice` is examined; where only sites are given, only they are."""

    choice: ModelChoice
    model: Optional[str] = None
    arguments: Optional[str] = None
    sites: Tuple[Path, ...] = ()


def diagnose(request: Request) -> Diagnosis:
    """Raises InputError for what cannot be examined."""
    sites = tuple(site for path in request.sites for site in _sites_of(path))
    repeat = _repeat(request)
    if request.model is not None:
        return replace(_users(request, sites), repeat=repeat)
    if request.sites and not request.choice.arguments:
        files = ", ".join(path.name for path in request.sites)
        return _diagnosis(files, READ, sites=sites, repeat=repeat)
    return replace(_ours(request.choice, sites), repeat=repeat)


def _diagnosis(subject: str, verdict: str, **rest: Any) -> Diagnosis:
    empty: Mapping[str, Any] = {"modules": 0, "causes": (), "unused": (), "sites": (), "facts": (), "repeat": ""}
    found = {**empty, **rest}
    wrong = any(site.result for site in found["sites"])
    results = _doctor().results_scripted() if wrong else ()
    return Diagnosis(subject, verdict, results=results, torch=environment().get("torch", "unknown"), **found)


def _doctor() -> Any:
    from detparity.tools.doctor import compiler

    return compiler


def _repeat(request: Request) -> str:
    words: List[str] = []
    if request.model is not None:
        words = ["--model", request.model]
    elif request.choice.arguments:
        words = request.choice.arguments
    if request.arguments is not None:
        words += ["--args", request.arguments]
    if request.sites:
        words += ["--call-site", *map(str, request.sites)]
    return " ".join([COMMAND, *map(shlex.quote, words)])


def _sites_of(path: Path) -> Tuple[CallSite, ...]:
    require_file(path, "a Python file")
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not Python that this interpreter reads: {error.reason}") from None
    return call_sites(text, path.name, {})


# --- a detector of ours ---------------------------------------------------------------------------------------------


def _ours(choice: ModelChoice, sites: Tuple[CallSite, ...]) -> Diagnosis:
    """The decoding form of a detector, and what scripting its results would have given."""
    detector = load_detector(choice)
    import torch

    from detparity.models.yolov7 import network

    model = network.Predictions(detector.network).eval()
    side = 2 * max(int(level.stride) for level in detector.network.levels)
    with torch.no_grad():
        images = torch.zeros(1, 3, side, side)
        decoded, raw = model(images), detector.network(images)
    doctor = _doctor()
    found = doctor.examine(model, _namer(Path()))
    facts = (
        ("torch.jit.script(model)", "compiles it: a module with forward, weights and code"),
        ("torch.jit.script(model(x))", "would have scripted what the call returned, not the model:"),
        ("  decoded", f"one tensor of shape {tuple(decoded.shape)}; {doctor.scripted(decoded)}"),
        ("  raw", f"a list of {len(raw)} tensors; {doctor.scripted(raw)}"),
    )
    title = f"{detector.facts.name}, as the module detparity makes of it (Predictions),"
    shown = facts if not found.failures else facts[1:]
    return _examined(title, found, sites, shown)


def _examined(subject: str, found: Any, sites: Tuple[CallSite, ...], facts: Any = ()) -> Diagnosis:
    causes = grouped(found.failures)
    at = {cause.at for cause in causes}
    verdict = BLOCKED if "script" in at else UNSAVEABLE if at else SCRIPTS
    return _diagnosis(
        subject, verdict, modules=found.modules, causes=causes, unused=found.unused, sites=sites, facts=facts
    )


# --- the user's own file --------------------------------------------------------------------------------------------


def _users(request: Request, sites: Tuple[CallSite, ...]) -> Diagnosis:
    from detparity.tools.doctor import user_model

    assert request.model is not None
    with contextlib.ExitStack() as stack:
        stack.enter_context(contextlib.redirect_stdout(sys.stderr))  # what the user's code prints is not our report
        mine = stack.enter_context(user_model.opened(request.model, request.arguments))
        own = call_sites(mine.text, mine.path.name, mine.known)
        already = {site.location for site in own}
        all_sites = own + tuple(site for site in sites if site.location not in already)
        facts = _breaking(mine, own)
        subject = f"{mine.name} of {mine.path.name}"
        if mine.model is not None:
            found = _doctor().examine(mine.model, _namer(mine.path))
            return _examined(subject, found, all_sites, facts)
        if mine.result:
            facts += _of_a_result(mine)
        return _diagnosis(subject, NO_MODULE, sites=all_sites, facts=facts)


def _of_a_result(mine: Any) -> Tuple[Tuple[str, str], ...]:
    """What was given where a module is expected, where it came from, and which module may be intended."""
    rows: List[Tuple[str, str]] = []
    if type(mine.value).__name__ in ("ScriptList", "ScriptDict"):
        rows.append(
            ("it is", f"{mine.result}, which torch.jit.script makes of a plain one: no forward, no weights, no code")
        )
    else:
        rows += [("it is", mine.result), ("scripting it", _doctor().scripted(mine.value))]
        if mine.made:
            rows.append(("it came from", f"line {mine.made[0]}, which calls {mine.made[1]}"))
    rows.append(("instead", "torch.jit.script(model): the module itself, and call the result with the data"))
    names = [name for name, what in mine.known.items() if what == MODULE]
    if names:
        again = f"{mine.path.name} holds a module as {names[0]}: --model {mine.path.name}:{names[0]} examines it"
        rows.append(("", again))
    return tuple(rows)


def _breaking(mine: Any, own: Sequence[CallSite]) -> Tuple[Tuple[str, str], ...]:
    """A file that ends in an error is of use only where scripting a result is that error, or the model was there before."""
    if mine.broke is None:
        return ()
    line, error = mine.broke
    here = f"{mine.path.name}:{line}"
    guilty = any(site.result and site.location.line <= line <= site.last for site in own)
    if mine.model is None and not guilty:
        raise InputError(f"{mine.path} cannot be imported: line {line} raised {error}")
    return (("importing it", f"ended at {here}, which raised {error}"),)


def _namer(path: Path) -> Callable[[str], str]:
    """How source files are named: those beside the model relative to its folder, torch's from `torch/` on."""
    folder = path.resolve().parent
    import torch as framework

    torch = Path(str(framework.__file__)).resolve().parent
    package = PACKAGE

    def name(file: str) -> str:
        for base, root in ((folder, folder), (torch, torch.parent), (package, package.parent)):
            with contextlib.suppress(ValueError):
                Path(file).relative_to(base)
                return Path(file).relative_to(root).as_posix()
        return file

    return name
