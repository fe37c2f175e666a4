"""A module's run in float64, operator by operator (torch 1.13): what `checks/locating` compares an exported file with."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils._pytree import tree_flatten

from detparity.core.trace import Step, Trace, other
from detparity.models.float64 import Exactly, exactly, writes

Part = Callable[[torch.Tensor], torch.Tensor]
# What exporters write an operator out as: values that no operator of the model gives, worked out from what it reads.
PARTS: Dict[str, Tuple[Part, ...]] = {
    "silu": (torch.sigmoid,),
    "hardswish": (functional.hardsigmoid, lambda x: x + 3, lambda x: (x + 3).clamp(0, 6), lambda x: x * (x + 3).clamp(0, 6)),
    "hardsigmoid": (lambda x: x + 3, lambda x: (x + 3).clamp(0, 6), lambda x: x / 6 + 0.5),
    "mish": (functional.softplus, lambda x: functional.softplus(x).tanh()),
    "gelu": (
        lambda x: x / 2**0.5,
        lambda x: torch.erf(x / 2**0.5),
        lambda x: torch.erf(x / 2**0.5) + 1,
        lambda x: x * (torch.erf(x / 2**0.5) + 1),
    ),
}  # fmt: skip
LEAST = 2  # numbers in a tensor that says anything


class Recording(Exactly):
    """Every operator computes in float64, and what it gives is stored: its own memory, copied before an operator writes to it.

    earlier: another run of the module; then nothing is stored, and `same` has, step by step, whether the values are those of then.
    """

    def __init__(self, modules: List[str], earlier: Optional[Recording] = None) -> None:
        super().__init__()
        self.steps: List[Step] = []
        self.values: List[np.ndarray] = []
        self.same: List[bool] = []
        self.weights: Dict[int, Tuple[np.ndarray, ...]] = {}
        self._earlier = earlier
        self._stored: Dict[int, List[int]] = {}  # by storage: the values that lie in it
        self._modules = modules
        self._numbers: Dict[Tuple[int, int], int] = {}
        self._last: Dict[int, int] = {}  # by storage: the step that wrote to it last
        self._alive: List[torch.Tensor] = []

    def add(self, tensor: torch.Tensor, operator: str, reads: Tuple[int, ...]) -> int:
        module = self._modules[-1] if self._modules else ""
        self.steps.append(Step(operator, module, reads))
        number = len(self.steps) - 1
        values = tensor.detach().numpy()
        if self._earlier is None:
            self.values.append(values.astype(np.float64, copy=False))
            self._stored.setdefault(storage(tensor), []).append(number)
        else:
            before = self._earlier.values
            self.same.append(number < len(before) and np.array_equal(before[number], values))
        self._numbers[id(tensor), tensor._version] = number
        self._alive.append(tensor)
        return number

    def _copy(self, tensors: List[torch.Tensor]) -> None:
        """Copy the values that lie in the memory of these tensors, since it is written to next."""
        for tensor in tensors:
            for number in self._stored.pop(storage(tensor), ()):
                self.values[number] = self.values[number].copy()

    def number(self, tensor: torch.Tensor) -> Optional[int]:
        """The number of a value that an operator gave; a tensor that was written to since is a new one."""
        found = self._numbers.get((id(tensor), tensor._version))
        if found is None and any((id(tensor), version) in self._numbers for version in range(tensor._version)):
            before = [self._numbers[key] for v in range(tensor._version) if (key := (id(tensor), v)) in self._numbers]
            wrote = self._last.get(storage(tensor))
            reads = tuple(dict.fromkeys([before[-1], *([wrote] if wrote is not None else [])]))
            found = self.add(tensor, "written", reads)
        return found

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = [one for one in tree_flatten((args, kwargs or {}))[0] if isinstance(one, torch.Tensor)]
        reads = tuple(dict.fromkeys(one for one in map(self.number, given) if one is not None))
        name = str(operator).split(".")[1] if "." in str(operator) else str(operator)
        self._parts(name.rstrip("_"), given, reads)
        if writes(operator):
            self._copy(given)
        found = self.computed(operator, types, args, kwargs)
        for tensor in tree_flatten(found)[0]:
            if _says_something(tensor):
                number = self._last[storage(tensor)] = self.add(tensor, name, reads)
                self.weights.setdefault(number, _weights(name, args) if self._earlier is None else ())
        return found

    def computed(self, operator: Any, types: Any, args: Any, kwargs: Any) -> Any:
        """What an operator gives."""
        return super().__torch_dispatch__(operator, types, args, kwargs)

    def _parts(self, name: str, given: List[torch.Tensor], reads: Tuple[int, ...]) -> None:
        for part in PARTS.get(name, ()):
            if reads and given[0].is_floating_point():
                self.add(part(given[0].detach()), name, reads)
        if name == "addmm" and reads and len(given) == 3:  # a product and its bias
            self.add(given[1].detach() @ given[2].detach(), name, reads)


def _weights(name: str, args: Tuple[Any, ...]) -> Tuple[np.ndarray, ...]:
    """See `Trace.weights`; empty for other operators, and for a batch-norm without numbers of its own."""
    own = args[1:3] if name == "convolution" else (*args[1:5], args[-1]) if "batch_norm" in name else ()
    tensors = [one for one in own if isinstance(one, torch.Tensor)]
    if not tensors or ("batch_norm" in name and len(tensors) < 4):
        return ()
    epsilon = [np.array(float(own[-1]))] if "batch_norm" in name else []
    return (*(one.detach().double().numpy() for one in tensors), *epsilon)


def _says_something(tensor: Any) -> bool:
    if not isinstance(tensor, torch.Tensor) or tensor.device.type != "cpu":
        return False
    return tensor.is_floating_point() and tensor.numel() >= LEAST


def storage(tensor: torch.Tensor) -> int:
    """Where the memory of a tensor begins."""
    found = tensor.untyped_storage() if hasattr(tensor, "untyped_storage") else tensor.storage()
    return int(found.data_ptr())


def recorded(
    module: nn.Module, call: Callable[[torch.Tensor], Any], images: np.ndarray, official: Callable[[str], str] = str
) -> Trace:
    """Run `call`, which runs a float64 module, and record it. official: from a path to the name its users know."""
    kinds = {path: _kind(part) for path, part in module.named_modules()}
    mode, numbers = _recorded(module, call, images, kinds)
    again, _ = _recorded(module, call, other(images), kinds, mode)
    steps = mode.steps
    if len(again.steps) == len(steps):
        steps = [replace(step, fixed=fixed) for step, fixed in zip(steps, again.same)]
    names = {path: official(path) for path in kinds if official(path) != path}
    weights = {number: one for number, one in mode.weights.items() if one}
    return Trace(tuple(steps), tuple(mode.values), kinds, numbers, names, weights)


def _recorded(
    module: nn.Module,
    call: Callable[[torch.Tensor], Any],
    images: np.ndarray,
    kinds: Dict[str, str],
    earlier: Optional[Recording] = None,
) -> Tuple[Recording, Tuple[int, ...]]:
    """One run, and the numbers of what it returned."""
    running: List[str] = [""]
    mode = Recording(running, earlier)
    x = torch.from_numpy(np.array(images, images.dtype if images.dtype.kind in "iu" else np.float64))
    mode.add(x, "image", ())
    with torch.no_grad(), _followed(module, running, kinds), exactly(mode):
        found = call(x)
        leaves = [one for one in tree_flatten(_plain(found))[0] if isinstance(one, torch.Tensor)]
        outputs = [mode.number(one) for one in leaves if one.is_floating_point()]
    return mode, tuple(one for one in outputs if one is not None)


def _kind(part: nn.Module) -> str:
    return str(getattr(part, "kind", None) or type(part).__name__)


def _plain(found: Any) -> Any:
    """A result as tuples, lists and dictionaries, which torch flattens."""
    if hasattr(found, "to_tuple"):
        return found.to_tuple()
    return dict(found) if hasattr(found, "items") else found


@contextlib.contextmanager
def _followed(module: nn.Module, running: List[str], kinds: Dict[str, str]) -> Iterator[None]:
    """For the block, `running` ends with the path of the innermost module that runs. A module that several hold, as packages do with
    one activation, is known by who calls it."""
    handles: List[Any] = []
    parts: List[nn.Module] = []

    def enter(part: nn.Module, path: str) -> None:
        inside = parts[-1]._modules.items() if parts else ()
        name = next((name for name, child in inside if child is part), None)
        path = path if name is None else f"{running[-1]}.{name}".lstrip(".")
        running.append(path)
        parts.append(part)
        kinds[path] = _kind(part)

    def leave(part: nn.Module) -> None:
        while parts:
            running.pop()
            if parts.pop() is part:
                return

    for path, part in module.named_modules():
        if not isinstance(part, torch.jit.ScriptModule):
            handles.append(part.register_forward_pre_hook(lambda part, _, path=path: enter(part, path)))
            handles.append(part.register_forward_hook(lambda part, _, __: leave(part)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
