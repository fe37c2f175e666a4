"""A part of a TorchScript program as an ONNX model, so that it repeats without torch (torch 1.13).

The operators that ran between some results and another are run once more, by torch's exporter.
"""

from __future__ import annotations

import inspect
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Set, Tuple, Union

import numpy as np
import torch
from torch.utils._pytree import tree_flatten, tree_map

from detparity.artifacts.torchscript_file import image_type
from detparity.artifacts.torchscript_graph import Known
from detparity.core.errors import EngineError
from detparity.core.vocabulary import Arrays, Load, Runner
from detparity.engines.torchscript import loaded
from detparity.engines.torchscript_steps import GIVEN, IMAGES, Following
from detparity.models.float64 import writes

PART, IMAGE = "part", 0
OPSET, KIND = 17, "float32"


@dataclass(frozen=True)
class Ref:
    """A result of the run in the place of a tensor: by its number, or, of one that is not stored, by its identity."""

    name: Tuple[str, int]


@dataclass(frozen=True)
class Call:
    operator: Any
    arguments: Any
    results: Tuple[Ref, ...]

    @property
    def reads(self) -> List[Ref]:
        return [one for one in tree_flatten(self.arguments)[0] if isinstance(one, Ref)]


class Calls(Following):
    """Every operator that ran, with what it was called with."""

    def __init__(self, given: Mapping[int, np.ndarray]) -> None:
        super().__init__(False, given)
        self.calls: List[Call] = []
        self._made: Set[int] = set()

    def __torch_dispatch__(self, operator: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        named = tree_map(lambda one: self._named(one) if isinstance(one, torch.Tensor) else one, (args, kwargs or {}))
        found = super().__torch_dispatch__(operator, types, args, kwargs)
        made = [one for one in tree_flatten(found)[0] if isinstance(one, torch.Tensor)]
        self._made.update(map(id, made))
        self._alive += made
        self.calls.append(Call(operator, named, tuple(self._named(one) for one in made)))
        return found

    def _named(self, tensor: torch.Tensor) -> Any:
        number = self.number(tensor)
        if number is not None:
            return Ref(("number", number))
        return Ref(("made", id(tensor))) if id(tensor) in self._made else tensor.detach()


class Repeated(torch.nn.Module):
    """Some of these calls, once more."""

    def __init__(self, calls: Sequence[Call], given: Sequence[Ref], shown: Ref) -> None:
        super().__init__()
        self._calls, self._given, self._shown = calls, given, shown

    def forward(self, *inputs: torch.Tensor) -> Any:
        values: Dict[Ref, Any] = dict(zip(self._given, inputs))
        for call in self._calls:
            args, kwargs = tree_map(lambda one: values[one] if isinstance(one, Ref) else one, call.arguments)
            found = [one for one in tree_flatten(call.operator(*args, **kwargs))[0] if isinstance(one, torch.Tensor)]
            values.update((ref, one) for ref, one in zip(call.results, found) if ref not in self._given)
        return values[self._shown]


def prepare(source: Union[str, Path], how: Load = Load()) -> Runner:
    """A runner that is given the image, some results and, as `PART`, the number of another: it gives a model. Raises EngineError."""
    module: Any = loaded(str(source))
    if image_type(Known(module)) != KIND:
        raise EngineError(f"a part of a program is converted in {KIND} alone")

    def call(feed: Arrays) -> Arrays:
        given = {int(name[len(GIVEN) :]): one for name, one in feed.items() if name.startswith(GIVEN)}
        mode = Calls(given)
        x = torch.from_numpy(np.array(feed[IMAGES], KIND))
        mode.add(x, "image", ())
        inputs = {Ref(("number", IMAGE)): x}
        inputs.update((Ref(("number", number)), torch.from_numpy(np.array(one, KIND))) for number, one in given.items())
        try:
            with torch.no_grad(), torch.jit.optimized_execution(False), mode:
                module(x)
            content = _exported(mode.calls, inputs, Ref(("number", int(feed[PART]))))
        except Exception as error:  # of the interpreter, or of an exporter that has no such operator
            first = next(iter(str(error).strip().splitlines()), type(error).__name__)
            raise EngineError(f"a part of the program cannot be written as ONNX: {first[:200]}") from None
        return {PART: np.frombuffer(content, np.uint8)}

    return Runner("torchscript_part", call, {"torch": str(torch.__version__)})


def _exported(calls: Sequence[Call], inputs: Mapping[Ref, torch.Tensor], shown: Ref) -> bytes:
    some = between(calls, set(inputs), shown)
    read = {ref for call in some for ref in call.reads}
    given = [ref for ref in inputs if ref in read]
    names = [IMAGES if ref.name[1] == IMAGE else f"{GIVEN}{ref.name[1]}" for ref in given]
    buffer: Any = io.BytesIO()
    keywords: Dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            Repeated(some, given, shown).eval(),
            tuple(inputs[ref] for ref in given),
            buffer,
            input_names=names,
            output_names=[PART],
            opset_version=OPSET,
            **keywords,
        )
    return bytes(buffer.getvalue())


def between(calls: Sequence[Call], given: Set[Ref], shown: Ref) -> List[Call]:
    """The calls that make a result of those that are given, in order. Raises EngineError where one of them writes to what it reads."""
    needed, found = {shown}, []
    for call in reversed(calls):
        if needed & set(call.results):
            needed -= set(call.results)
            needed.update(set(call.reads) - given)
            found.append(call)
    if needed or any(writes(call.operator) for call in found):
        raise EngineError("it writes to what it reads, which a part of a graph cannot")
    return found[::-1]
