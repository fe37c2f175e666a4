"""Functions of torch, and of tools that change its files, observed by an exchange of their code.

Whatever holds such a function, under any name, calls the observed one.
The function object stays the same, and so do its identity, its signature and its defaults. One frame is added to its calls; that frame
has a file name which the `stacklevel` of warnings passes over, so that a warning still names the line of the script.
"""

from __future__ import annotations

import functools
import importlib.abc
import importlib.machinery
import inspect
import itertools
import sys
import threading
import types
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Protocol, Sequence, Set, Tuple

_KEY = "the number of a hook"
FRAME = "<detparity.capture, skipped by warnings as importlib._bootstrap is>"
_TEXT = """
def made({cells}):
    def observed(*args, **kwargs):
        if 0:
            {cells}
        from detparity.models.capture_hooks import HOOKS
        hook = HOOKS[{key!r}]
        call = hook.began(args, kwargs)
        try:
            result = hook.original(*args, **kwargs)
        except BaseException as error:
            hook.failed(call, error)
            raise
        hook.ended(call, result)
        return result
    return observed
"""


class Watched(NamedTuple):
    """role: "export" (a module becomes a file), "make" (a module becomes a program), "derive" (a program from another), "save" or
    "load" of a program, "step" (an ONNX model becomes another); exporter: its name in reports."""

    role: str
    exporter: str = ""


ONNX, DYNAMO = "torch.onnx.export", "torch.onnx.export (dynamo)"
_EXPORT, _SAVE, _DERIVE = Watched("export", ONNX), Watched("save"), Watched("derive")
_PROGRAM = {"ONNXProgram.save": _SAVE, "dynamo_export": Watched("make", DYNAMO)}
_HALF = "convert_float_to_float16"
_SCRIPT_MODULE = "RecursiveScriptModule"

# Module: the functions that are observed once it is imported. A version lacks some of them.
TARGETS: Mapping[str, Mapping[str, Watched]] = {
    "torch.onnx": {"export": _EXPORT, "dynamo_export": Watched("make", DYNAMO)},
    "torch.onnx.utils": {"export": _EXPORT, "_export": _EXPORT},
    "torch.onnx._internal.torchscript_exporter.utils": {"export": _EXPORT, "_export": _EXPORT},
    "torch.onnx._internal.exporter._compat": {"export_compat": Watched("export", DYNAMO)},
    "torch.onnx._internal.exporter._onnx_program": _PROGRAM,
    "torch.onnx._internal.exporter": _PROGRAM,
    "torch.onnx._internal._exporter_legacy": _PROGRAM,
    "torch.jit._trace": {
        "trace": Watched("make", "torch.jit.trace"),
        "trace_module": Watched("make", "torch.jit.trace"),
    },
    "torch.jit._script": {
        "script": Watched("make", "torch.jit.script"),
        f"{_SCRIPT_MODULE}.save": _SAVE,
        f"{_SCRIPT_MODULE}._save_for_lite_interpreter": _SAVE,
    },
    "torch.jit._serialization": {"save": _SAVE, "load": Watched("load")},
    "torch.jit._freeze": {"freeze": _DERIVE, "optimize_for_inference": _DERIVE},
    "torch.utils.mobile_optimizer": {"optimize_for_mobile": _DERIVE},
    "onnxslim": {"slim": Watched("step", "onnxslim.slim")},
    "onnxsim.onnx_simplifier": {"simplify": Watched("step", "onnxsim.simplify")},
    "onnxruntime.transformers.float16": {_HALF: Watched("step", _HALF)},
    "onnxconverter_common.float16": {_HALF: Watched("step", _HALF)},
    "torch.export": {"export": Watched("make", "torch.export"), "save": _SAVE, "load": Watched("load")},
}


class Observer(Protocol):
    """What a session does about a call. None of it may raise."""

    def began(self, watched: Watched, arguments: Mapping[str, Any]) -> Any: ...

    def ended(self, call: Any, result: Any) -> None: ...

    def failed(self, call: Any, error: BaseException) -> None: ...


HOOKS: Dict[int, Hook] = {}
_keys = itertools.count()
_depth = threading.local()


class Hook:
    """One observed function. A call inside another observed call is part of that one."""

    def __init__(
        self, function: types.FunctionType, watched: Watched, observer: Callable[[], Optional[Observer]]
    ) -> None:
        self.function, self.watched, self._observer = function, watched, observer
        self._signature = inspect.signature(function)
        self._before = function.__code__
        self.original = types.FunctionType(
            self._before, function.__globals__, function.__name__, function.__defaults__, function.__closure__
        )
        self.original.__kwdefaults__ = function.__kwdefaults__
        self.original.__dict__.update(function.__dict__)
        self._key = next(_keys)
        self._signed = "__signature__" in function.__dict__

    def install(self) -> None:
        HOOKS[self._key] = self
        if not self._signed:
            self.function.__signature__ = self._signature  # type: ignore[attr-defined]
        self.function.__code__ = _code(self._key, self.function.__name__, self._before.co_freevars)

    def remove(self) -> None:
        self.function.__code__ = self._before
        if not self._signed:
            del self.function.__signature__  # type: ignore[attr-defined]

    def began(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        _depth.value = getattr(_depth, "value", 0) + 1
        observer = self._observer()
        if _depth.value > 1 or observer is None:
            return None
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:  # the function itself says what is wrong with its arguments
            return None
        bound.apply_defaults()
        return observer, observer.began(self.watched, bound.arguments)

    def ended(self, call: Any, result: Any) -> None:
        _depth.value -= 1
        if call is not None:
            call[0].ended(call[1], result)

    def failed(self, call: Any, error: BaseException) -> None:
        _depth.value -= 1
        if call is not None:
            call[0].failed(call[1], error)


def _code(key: int, name: str, cells: Sequence[str]) -> types.CodeType:
    """The code of an observed function, with the same free variables as the code it is exchanged for."""
    code = _compiled(tuple(cells))
    return code.replace(co_consts=tuple(key if one == _KEY else one for one in code.co_consts), co_name=name)


@functools.cache
def _compiled(cells: Tuple[str, ...]) -> types.CodeType:
    """That code with `_KEY` in place of the hook's own."""
    found: Dict[str, Any] = {}
    text = _TEXT.format(cells=", ".join(cells) or "", key=_KEY)
    exec(compile(text.replace("if 0:\n            \n", "if 0:\n            pass\n"), FRAME, "exec"), found)
    made: types.CodeType = found["made"](*([None] * len(cells))).__code__
    return made


class Installation(importlib.abc.MetaPathFinder):
    """Observes the targets in modules that are imported, and in those that will be."""

    def __init__(self, observer: Callable[[], Optional[Observer]]) -> None:
        self._observer = observer
        self._hooks: List[Hook] = []
        self._functions: Set[int] = set()

    def install(self) -> None:
        sys.meta_path.insert(0, self)
        for name in TARGETS:
            module = sys.modules.get(name)
            if module is not None and not getattr(getattr(module, "__spec__", None), "_initializing", False):
                self._observe(module)

    def remove(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)
        while self._hooks:
            self._hooks.pop().remove()
        self._functions.clear()

    def find_spec(self, name: str, path: Any, target: Any = None) -> Optional[importlib.machinery.ModuleSpec]:
        if name not in TARGETS:
            return None
        for finder in sys.meta_path:
            spec = None if finder is self else finder.find_spec(name, path, target)
            if spec is not None:
                self._observe_after(spec.loader)
                return spec
        return None

    def _observe_after(self, loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: types.ModuleType) -> None:
            del loader.exec_module
            execute(module)
            if self in sys.meta_path:
                self._observe(module)

        loader.exec_module = exec_module

    def _observe(self, module: types.ModuleType) -> None:
        for path, watched in TARGETS[module.__name__].items():
            function: Any = module
            for part in path.split("."):
                function = getattr(function, part, None)
            if isinstance(function, types.FunctionType) and id(function) not in self._functions:
                hook = Hook(function, watched, self._observer)
                hook.install()
                self._hooks.append(hook)
                self._functions.add(id(function))
