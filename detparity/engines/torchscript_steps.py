"""A TorchScript program operator by operator: what each gives, and what follows where some are given other results (torch 1.13).

Results are called by their number, as text. `STEPS` holds, as JSON in bytes, what each of them was made by and of.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_map

from detparity.artifacts.torchscript_file import image_type
from detparity.artifacts.torchscript_graph import TORCH, UNKNOWN, inputs_of, walk
from detparity.artifacts.torchscript_graph import Known as KnownValues
from detparity.artifacts.torchscript_graph import source as line_of
from detparity.core.errors import EngineError
from detparity.core.trace import Step
from detparity.core.vocabulary import Arrays, Load, Runner
from detparity.engines.torchscript import loaded
from detparity.models.float64 import exactly, writes
from detparity.models.recording import Recording, storage

IMAGES, GIVEN, STEPS = "images", "given ", "steps"
PRODUCT = "mm"
# What a program writes, and what torch runs for it, by one name.
SAME_AS = {
    **dict.fromkeys(("_convolution", "conv1d", "conv2d", "conv3d", "conv_transpose2d"), "convolution"),
    **dict.fromkeys(("native_batch_norm", "_native_batch_norm_legit_no_training"), "batch_norm"),
    **dict.fromkeys(("linear", "matmul", "addmm", "bmm", "baddbmm", "__matmul__"), PRODUCT),
    **dict.fromkeys(("reshape", "_reshape_alias", "_unsafe_view", "flatten", "unflatten"), "view"),
    "native_layer_norm": "layer_norm",
    "native_group_norm": "group_norm",
    "_softmax": "softmax",
    "_log_softmax": "log_softmax",
    "max_pool2d_with_indices": "max_pool2d",
    "_adaptive_avg_pool2d": "adaptive_avg_pool2d",
    "_prelu_kernel": "prelu",
    "interpolate": "upsample_nearest2d",
    "chunk": "split",
    "concat": "cat",
    "true_divide": "div",
    "multiply": "mul",
    "_to_copy": "to",
}
SILENT = ("size", "Int", "__getitem__", "ScalarImplicit", "detach", "dropout", "contiguous", "floordiv", "len", "dim")


class Following(Recording):
    """exact: whether everything computes in float64; given: results that readers have in the place of an operator's own; single:
    whether the archive is one of float32."""

    def __init__(self, exact: bool, given: Mapping[int, np.ndarray], single: bool = True) -> None:
        super().__init__([""])
        self._exact, self._given, self._single = exact, given, single
        self.problem = ""  # of the first operator that failed: the interpreter leaves it out of what it raises
        self._views: Dict[int, torch.Tensor] = {}  # by what readers have instead: a result that shares another's memory

    def computed(self, operator: Any, types: Any, args: Any, kwargs: Any) -> Any:
        return super().computed(operator, types, args, kwargs) if self._exact else operator(*args, **(kwargs or {}))

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        try:
            return self._followed(operator, types, args, kwargs)
        except Exception as error:
            self.problem = self.problem or f"{operator}: {type(error).__name__}: {error}"
            raise

    def _followed(self, operator: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if self._exact and self._single and _to_float32(operator, args, kwargs or {}):
            return args[
                0
            ]  # as in a float32 archive's own run, where it is no operator that runs: results have the same numbers
        found = super().__torch_dispatch__(operator, types, args, kwargs)
        if not self._given:
            return found
        tensors = [one for one in tree_flatten((args, kwargs or {}))[0] if isinstance(one, torch.Tensor)]
        if writes(operator):
            for one in tensors:
                if id(one) in self._views:
                    self._write(self._views[id(one)], one)
        shared = {storage(one) for one in tensors}
        return tree_map(lambda one: self._replaced(one, shared) if isinstance(one, torch.Tensor) else one, found)

    def _parts(self, name: str, given: List[torch.Tensor], reads: Tuple[int, ...]) -> None:
        """A program has no values but those of its operators."""

    def _write(self, tensor: torch.Tensor, value: torch.Tensor) -> None:
        """Write to a tensor; what is stored of its memory stays as it was."""
        self._copy([tensor])
        tensor.copy_(value)

    def _replaced(self, tensor: torch.Tensor, shared: Any) -> torch.Tensor:
        number = self._numbers.get((id(tensor), tensor._version))
        if number is None or number not in self._given:
            return tensor
        # What was written to in place is changed for all who hold it; anything else is laid out in memory as its readers expect.
        value = tensor if tensor._version else _laid_out_as(tensor)
        given = torch.from_numpy(np.array(self._given[number])).reshape(tensor.shape)
        self._write(*_without_repeats(value, given))
        if value is not tensor and storage(tensor) in shared:
            self._views[id(value)] = tensor
        self._numbers[id(value), value._version] = number
        self._alive += [tensor, value]
        return value


def _to_float32(operator: Any, args: Any, kwargs: Mapping[str, Any]) -> bool:
    """Whether an operator converts float64 to float32."""
    converts = str(operator).startswith("aten._to_copy") and kwargs.get("dtype") == torch.float32
    return converts and bool(args[0].dtype == torch.float64)


def _laid_out_as(tensor: torch.Tensor) -> torch.Tensor:
    """An empty tensor of the same strides: of a slice or an expanded tensor `reshape` and `contiguous` make a copy, which is an
    operator more than of one that is dense."""
    return torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=tensor.device)


def _without_repeats(*tensors: torch.Tensor) -> List[torch.Tensor]:
    """The tensors without what the first of them repeats: along an expanded axis it has one number, and is written to once."""
    strides = tensors[0].stride()
    for axis, stride in enumerate(strides):
        if not stride and tensors[0].shape[axis] > 1:
            tensors = tuple(one.narrow(axis, 0, 1) for one in tensors)
    return list(tensors)


def prepare(source: Union[str, Path], how: Load = Load()) -> Runner:
    """Load an archive. how.optimisation: "exact" for float64, anything else for the archive's own precision. Raises EngineError."""
    module: Any = loaded(str(source))
    lines = [line for line, _ in operators(module)]
    exact = how.optimisation == "exact"
    own = image_type(KnownValues(module))
    kind = torch.float64 if exact else getattr(torch, own)
    module = module.double() if exact else module
    known: List[List[Any]] = []

    def call(feed: Arrays) -> Arrays:
        given = {int(name[len(GIVEN) :]): one for name, one in feed.items() if name.startswith(GIVEN)}
        mode = Following(exact, given, own == "float32")
        x = torch.from_numpy(np.array(feed[IMAGES])).to(kind)
        mode.add(x, "image", ())
        try:
            with torch.no_grad(), torch.jit.optimized_execution(False), exactly(mode) if exact else mode:
                result = module(x)
        except Exception as error:  # errors of the interpreter carry their own traceback text
            text = mode.problem or str(error) or type(error).__name__
            raise EngineError(" ".join(text.split())[-400:]) from None
        ends = [mode.number(one) for one in tree_flatten(result)[0] if isinstance(one, torch.Tensor)]
        if len(known) != len(mode.steps):
            known[:] = described(mode, lines)
        content = {"steps": known, "outputs": [one for one in ends if one is not None]}
        values: Dict[str, np.ndarray] = {str(number): value for number, value in enumerate(mode.values)}
        return {STEPS: np.frombuffer(json.dumps(content).encode(), np.uint8), **values}

    return Runner("torchscript_steps", call, {"torch": str(torch.__version__)})


Line = Tuple[str, str, str]  # operator, path of its module, source line


Known = Mapping[str, Tuple[Any, str]]  # modules that a graph is given, with their paths, by the names of its inputs


def operators(module: Any) -> Iterator[Tuple[Line, Any]]:
    """The operators of a program as it is written, with their nodes, in order; those of inner modules where they are called."""
    graph = module._c._get_method("forward").graph
    yield from _inside(graph, {next(iter(graph.inputs())).debugName(): (module, "")}, "", "")


def _inside(graph: Any, known: Known, path: str, caller: str) -> Iterator[Tuple[Line, Any]]:
    """caller: the source line of what calls this graph, for nodes that are torch's own code."""
    for node in walk(graph):
        kind, inputs = node.kind(), inputs_of(node)
        own = line_of(node)
        line = caller if caller and (own == UNKNOWN or TORCH.search(own)) else own
        if kind == "prim::CallMethod":
            called = [_module(one, known) for one in inputs]
            if called[0] is not None:
                inner = called[0][0]._c._get_method(node.s("name")).graph
                names = [one.debugName() for one in inner.inputs()]
                yield from _inside(inner, {name: one for name, one in zip(names, called) if one}, called[0][1], line)
        elif kind == "prim::CallFunction" and inputs[0].node().hasAttribute("name"):
            yield (inputs[0].node().s("name"), path, line), node
        elif kind.startswith("aten::") and kind[6:] not in SILENT:
            yield (kind[6:], path or _owner(inputs, known), line), node


def _module(of: Any, known: Known) -> Optional[Tuple[Any, str]]:
    """The module that a value is, with its path; None for any other value."""
    node = of.node()
    if node.kind() != "prim::GetAttr":
        return known.get(of.debugName())
    owner = _module(node.inputsAt(0), known)
    found = None if owner is None else getattr(owner[0], node.s("name"), None)
    if owner is None or not isinstance(found, torch.nn.Module):
        return None
    return found, f"{owner[1]}.{node.s('name')}".lstrip(".")


def _owner(inputs: Sequence[Any], known: Known) -> str:
    """The module of the weights that a node of a program without calls reads."""
    for given in inputs:
        if given.node().kind() == "prim::GetAttr":
            owner = _module(given.node().inputsAt(0), known)
            if owner is not None:
                return owner[1]
    return ""


def described(mode: Following, lines: List[Line]) -> List[List[Any]]:
    """Operator, module, source line and what was read, of every result. Lines are found by the order of operators; what one of the
    program ran in several steps has one line."""
    steps = mode.steps
    first = [k for k, step in enumerate(steps) if not k or (step.operator, step.reads) != _key(steps[k - 1])]
    ran, texts = [plain(steps[k].operator) for k in first], [plain(kind) for kind, _, _ in lines]
    found = {first[k]: lines[at][1:] for k, at in common(ran, texts)}
    for k, step in enumerate(steps):
        if k not in found and plain(step.operator) != PRODUCT and step.reads and step.reads[0] in found:
            before = step.reads[0]
            if plain(steps[before].operator) in (PRODUCT, "view") or k not in first:
                found[k] = found[before] if k in first else found.get(k - 1, ("", ""))
    for k, step in reversed(list(enumerate(steps))):
        for source in step.reads if k in found and plain(step.operator) == PRODUCT else ():
            found.setdefault(source, found[k])
    return [[step.operator, *found.get(k, ("", "")), list(step.reads)] for k, step in enumerate(steps)]


def common(one: List[str], other: List[str]) -> List[Tuple[int, int]]:
    """The longest common subsequence of two lists, as pairs of positions."""
    lengths = np.zeros((len(one) + 1, len(other) + 1), np.int32)
    codes = np.unique([*one, *other], return_inverse=True)[1]
    mine, theirs = codes[: len(one)], codes[len(one) :]
    for k in range(len(one) - 1, -1, -1):
        row = np.maximum(lengths[k + 1, :-1], np.where(theirs == mine[k], lengths[k + 1, 1:] + 1, 0))
        lengths[k, :-1] = np.maximum.accumulate(row[::-1])[::-1]
    found, k, at = [], 0, 0
    while k < len(one) and at < len(other):
        if mine[k] == theirs[at] and lengths[k, at] == lengths[k + 1, at + 1] + 1:
            found.append((k, at))
            k, at = k + 1, at + 1
        elif lengths[k + 1, at] >= lengths[k, at + 1]:
            k += 1
        else:
            at += 1
    return found


def _key(step: Step) -> Tuple[str, Tuple[int, ...]]:
    return step.operator, step.reads


def plain(operator: str) -> str:
    """One name for what a program writes and for what torch runs."""
    name = operator.rstrip("_") if not operator.startswith("__") else operator
    return SAME_AS.get(name, name)
