"""Captures in a folder: what each call stated as JSON, the file as the exporter wrote it, and the module where it can be pickled.

    DIR/captures.json, DIR/N/FILE, DIR/N/module.pt, DIR/N/reference.json, DIR/N/run-K.npz

The last two hold what the module gave (`stored_reference.py`), which repeats a verdict without it. Reading executes nothing, but for
the modules, which are read only on request: a pickle runs what its writer put there.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

from detparity.artifacts.external_data import beside
from detparity.core.errors import InputError, clipped
from detparity.core.files import write_text
from detparity.models.capture import CapturedCall, Captures

FORMAT = "detparity-captures-1"
INDEX, MODULE = "captures.json", "module.pt"
_PLAIN = ("exporter", "opset", "problem", "failed")
_TUPLES = ("input_names", "output_names", "shared")


def write(captures: Captures, folder: Path) -> None:
    """Store them. Raises InputError where the folder cannot be written to, or holds something else."""
    if folder.is_dir() and any(folder.iterdir()) and not (folder / INDEX).is_file():
        raise InputError(f"{folder} holds other files and no captures: give a new folder to --keep")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        calls = [_write_call(call, folder, index) for index, call in enumerate(captures)]
    except OSError as error:
        raise InputError(f"the captures cannot be stored in {folder}: {error.strerror or error}") from None
    index = {
        "format": FORMAT,
        "calls": calls,
        "unclaimed": [str(path) for path in captures.unclaimed],
        "seconds": round(captures.seconds, 4),
    }
    write_text(folder / INDEX, json.dumps(index, indent=1) + "\n")


def _write_call(call: CapturedCall, folder: Path, index: int) -> Dict[str, Any]:
    own = folder_of(folder, index)
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    found: Dict[str, Any] = {name: getattr(call, name) for name in _PLAIN}
    found.update({name: list(getattr(call, name)) for name in _TUPLES})
    found["dynamic_axes"] = {
        name: {str(axis): symbol for axis, symbol in axes.items()} for name, axes in call.dynamic_axes.items()
    }
    found["files"] = [str(path) for path in call.files]
    found["first"] = None
    if call.first is not None:
        for source in (call.first, *beside(call.first)):
            shutil.copyfile(source, own / source.name)
        found["first"] = call.first.name
    found["module"], found["module_problem"] = _write_module(call, own / MODULE)
    return found


def _write_module(call: CapturedCall, path: Path) -> Tuple[bool, str]:
    """Whether the module and its example inputs could be pickled, and why not."""
    import torch

    if call.module is None:
        return False, call.problem
    try:
        torch.save({"module": call.module, "arguments": call.arguments, "kwargs": dict(call.kwargs)}, str(path))
    except Exception as error:  # lambdas, local classes, locks: whatever a module's own pickling raises
        path.unlink(missing_ok=True)
        return False, f"{type(call.module).__name__} cannot be pickled: {clipped(error)}"
    return True, ""


def folder_of(folder: Path, index: int) -> Path:
    """Where the call of this number is stored."""
    return folder / str(index)


def read(folder: Path, trust: bool = False) -> List[CapturedCall]:
    """What was stored. trust: whether the modules are loaded, which runs the code that they name; without it a call has none, and its
    `problem` says so. Raises InputError for a folder that holds no captures, or whose captures are damaged."""
    path = folder / INDEX
    try:
        index = json.loads(path.read_text(encoding="utf-8"))
        if index["format"] != FORMAT:
            raise InputError(f"{folder} holds captures of another version ({index['format']}): capture again")
        return [_read_call(found, folder_of(folder, number), trust) for number, found in enumerate(index["calls"])]
    except OSError:
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder") from None
        raise InputError(
            f"{folder} holds no captures: `detparity capture --keep {folder} -- COMMAND` stores them"
        ) from None
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged ({clipped(error)}): capture again") from None


def _read_call(found: Dict[str, Any], own: Path, trust: bool) -> CapturedCall:
    made: Dict[str, Any] = {name: found[name] for name in _PLAIN}
    made.update({name: tuple(found[name]) for name in _TUPLES})
    made["dynamic_axes"] = {
        name: {int(axis): symbol for axis, symbol in axes.items()} for name, axes in found["dynamic_axes"].items()
    }
    made["files"] = tuple(Path(path) for path in found["files"])
    made["first"] = _inside(own, found["first"])
    if not found["module"]:
        made["problem"] = made["problem"] or found["module_problem"]
    elif trust:
        made.update(_load(own / MODULE))
    else:
        made["problem"] = made["problem"] or "its module is a pickle, which is loaded with --trust only"
    return CapturedCall(**made)


def _inside(own: Path, name: Optional[str]) -> Optional[Path]:
    if name is None:
        return None
    if Path(name).name != name:
        raise ValueError(f"a file outside its folder, {name}")
    return own / name


def _load(path: Path) -> Dict[str, Any]:
    import torch

    try:
        try:
            found = torch.load(str(path), map_location="cpu", weights_only=False)
        except TypeError:  # torch before 1.13
            found = torch.load(str(path), map_location="cpu")
    except Exception as error:  # the code it names is not here, or is another
        return {"problem": f"its module cannot be loaded here: {clipped(error)}"}
    return {name: found[name] for name in ("module", "arguments", "kwargs")}
