"""TorchScript archives, run by the interpreter of this torch."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional, Tuple, Union

import numpy as np
import torch

from detparity.artifacts.torchscript_facts import METADATA_FILE, ScriptFile
from detparity.artifacts.torchscript_file import describe, image_type
from detparity.artifacts.torchscript_graph import Known, plain
from detparity.core.errors import EngineError
from detparity.core.vocabulary import Arrays, Load, Runner
from detparity.models.compat import jit

# What was read last, so that it need not be loaded again to be run: for one runner alone, as running may change a module.
Version = Tuple[str, int, int, int]
_READ: Dict[Optional[Version], Known] = {}


def _load(path: str) -> Tuple[torch.jit.ScriptModule, str]:
    extra = {METADATA_FILE: ""}
    try:
        module = jit.load(path, extra)
    except Exception as error:  # torch raises RuntimeError, ValueError or its own types by version
        raise EngineError(" ".join(str(error).split())[:300]) from None
    text = extra[METADATA_FILE]
    return module, text.decode(errors="replace") if isinstance(text, bytes) else text


def loaded(path: str) -> torch.jit.ScriptModule:
    """An archive as a module. Raises EngineError where torch cannot load it."""
    return _load(path)[0]


def read(path: str) -> ScriptFile:
    """Read an archive. Raises EngineError where torch cannot load it."""
    version = _version(path)  # before it is loaded: what replaces it meanwhile is another
    module, metadata = _load(path)
    known = Known(module)
    facts = describe(known, metadata)
    _READ.clear()
    if version is not None:
        _READ[version] = known
    return facts


def _version(path: str) -> Optional[Version]:
    """A file as it is now, None where there is none: loading it says so."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return path, found.st_ino, found.st_size, found.st_mtime_ns


def flatten(result: Any) -> Dict[str, np.ndarray]:
    """Name what a module returned: a tensor, or the tensors of a list, tuple or dictionary, in order; nested ones are appended. Those
    of a dictionary are called by their keys in brackets."""
    found: List[np.ndarray] = []
    keys: Dict[int, str] = {}

    def visit(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.append(plain(value).copy())
        elif isinstance(value, dict):
            for key, item in value.items():
                keys[len(found)] = f"[{key}]"
                visit(item)
        elif isinstance(value, (list, tuple)):
            for item in value:
                visit(item)
        else:
            raise EngineError(f"it returns a {type(value).__name__} where tensors are expected")

    visit(result)
    if not found:
        raise EngineError("it returns no tensor")
    names = ("output" if index == 0 else f"output_{index}" for index in range(len(found)))
    return {keys.get(index, name): value for index, (name, value) in enumerate(zip(names, found))}


def prepare(source: Union[str, Path], how: Load = Load()) -> Runner:
    """Load an archive for running. A decoded tensor that comes with its logits is returned alone unless `every` output is asked for.

    Raises EngineError if it does not load; running raises it with torch's own reason.
    """
    known = _READ.pop(_version(str(source)), None) or Known(_load(str(source))[0])
    return runner("torchscript", known.module, how, image_type(known))


def prepare_frozen(source: Union[str, Path], how: Load = Load()) -> Runner:
    """Load an archive and optimise it for inference: weights folded into the graph, convolutions fused and prepacked.

    Raises EngineError where it does not load, or torch cannot optimise it.
    """
    module = _load(str(source))[0]
    try:
        optimised = jit.for_inference(module)
    except Exception as error:  # torch raises RuntimeError, AttributeError or its own types by version
        raise EngineError(f"it cannot be optimised for inference: {' '.join(str(error).split())[:300]}") from None
    return runner("torchscript", optimised, how, optimised="for inference")


def runner(engine: str, module: Callable[..., Any], how: Load = Load(), image: str = "float32", **more: str) -> Runner:
    """A loaded module as the runner of `engine`; image: the type it takes; more: facts beside the common ones."""
    threads = how.threads
    half: torch.dtype = getattr(torch, image)
    more = {**more, "precision": image} if image != "float32" else more
    facts = {"provider": "CPU", "torch": str(torch.__version__), "threads": str(threads or "default"), **more}
    compiled: List[Tuple[int, ...]] = []

    def call(feed: Arrays) -> Arrays:
        before, shape = torch.get_num_threads(), feed["images"].shape
        if shape not in compiled and (how.compiled is None or len(compiled) < how.compiled):
            compiled.append(shape)
        try:
            if threads:
                torch.set_num_threads(threads)
            with torch.no_grad(), jit.compiling(shape in compiled):
                given = torch.from_numpy(feed["images"])
                beside = [torch.from_numpy(value) for name, value in feed.items() if name != "images"]
                result = module(given if image == "float32" else given.to(half), *beside)
        except Exception as error:  # errors of the interpreter carry their own traceback text
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise EngineError(lines[-1] if lines else type(error).__name__) from None
        finally:
            torch.set_num_threads(before)
        arrays = flatten(result)
        first, *others = arrays.values()
        logits = "output" in arrays and first.ndim == 3 and all(other.ndim == 5 for other in others)
        return {"output": first} if logits and not how.every else arrays

    return Runner(engine, call, facts)
