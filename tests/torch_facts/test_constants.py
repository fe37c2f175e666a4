"""Strides and dtypes through script, save, load and freeze: the value that arrives, and its type."""

import copy
import math
from typing import List

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detparity.models.compat import jit
from detparity.models.yolov7.network import Predictions

pytestmark = [pytest.mark.lanes, pytest.mark.more]

ZERO = torch.zeros(1)


class Attribute(nn.Module):
    def __init__(self, stride) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor):
        return self.stride, x * 2


class Constant(Attribute):
    __constants__ = {"stride"}  # noqa: RUF012


class Buffer(nn.Module):
    def __init__(self, stride) -> None:
        super().__init__()
        self.register_buffer("stride", stride)

    def forward(self, x: Tensor):
        return self.stride, x * 2


class Parameter(Buffer):
    def __init__(self, stride) -> None:
        super().__init__(None)
        del self._buffers["stride"]
        self.stride = nn.Parameter(stride, requires_grad=stride.is_floating_point())


# One step after the other, as an exporter takes them.
WAYS = {
    "scripted": lambda scripted: scripted,
    "loaded": jit.reloaded,
    "frozen": jit.freeze,
    "frozen and loaded": lambda scripted: jit.reloaded(jit.freeze(scripted)),
}
NUMBERS = {
    "int": 8,
    "float": 8.0,
    "bool": True,
    "a large int": 2**40,
    "a float with no short form": 0.1,
    "a double that no float32 holds": math.pi,
    "infinity": math.inf,
    "the smallest double": 5e-324,
    "a string": "stride",
}
# Not kept as they are: what a list or a dtype becomes, as an attribute and as a constant.
LISTS = {"ints": [8, 16, 32], "floats": [8.0, 16.0, 32.0]}
TUPLES = {"tuple": (8, 16.0), "size": torch.Size([8, 16])}
DTYPES = {torch.float16: 5, torch.float32: 6, torch.float64: 7, torch.int64: 4, torch.bool: 11}
TENSORS = {
    "float16": torch.tensor([8.0, 16.0], dtype=torch.float16),
    "bfloat16": torch.tensor([8.0, 16.0], dtype=torch.bfloat16),
    "float32": torch.tensor([8.0, 16.0]),
    "float64": torch.tensor([0.1, math.pi], dtype=torch.float64),
    "int64": torch.tensor([8, 16]),
    "uint8": torch.tensor([8], dtype=torch.uint8),
    "bool": torch.tensor([True, False]),
    "no dimensions": torch.tensor(8.0),
}


def _same(found, expected):
    """Value and type; of tensors the dtype and every bit."""
    if isinstance(expected, Tensor):
        return found.dtype == expected.dtype and found.shape == expected.shape and bool((found == expected).all())
    if isinstance(expected, (list, tuple)):
        return type(found) is type(expected) and len(found) == len(expected) and all(map(_same, found, expected))
    return type(found) is type(expected) and found == expected


def _carried(kind, stride, way):
    """What compiled code has for `stride` at the end of the way."""
    return WAYS[way](jit.script(kind(stride).eval()))(ZERO)[0]


def _constants(module):
    return [node.output().toIValue() for node in module.graph.nodes() if node.kind() == "prim::Constant"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Attribute, Constant])
@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(name, kind, way):
    assert _same(_carried(kind, NUMBERS[name], way), NUMBERS[name])


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Attribute, Constant])
def test_not_a_number(kind, way):
    found = _carried(kind, math.nan, way)

    assert type(found) is float and math.isnan(found)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", LISTS)
def test_lists(name, way):
    """A list stays one as an attribute; a constant list is a tuple from the first step on."""
    assert _same(_carried(Attribute, LISTS[name], way), LISTS[name])
    assert _same(_carried(Constant, LISTS[name], way), tuple(LISTS[name]))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Attribute, Constant])
@pytest.mark.parametrize("name", TUPLES)
def test_tuples(name, kind, way):
    """A tuple keeps the type of each place; a torch.Size is a plain one."""
    assert _same(_carried(kind, TUPLES[name], way), tuple(TUPLES[name]))


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Attribute, Constant])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_a_dtype_becomes_its_number(dtype, kind, way):
    """The same number in all versions, and the same dtype where compiled code uses it."""
    assert _same(_carried(kind, dtype, way), DTYPES[dtype])

    class Cast(kind):
        def forward(self, x: Tensor):
            return x.to(self.stride), x

    assert WAYS[way](jit.script(Cast(dtype).eval()))(ZERO)[0].dtype == dtype


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [Attribute, Buffer, Parameter])
@pytest.mark.parametrize("name", TENSORS)
def test_tensors(name, kind, way):
    expected = TENSORS[name].clone()
    found = _carried(kind, expected, way)

    assert _same(found, expected)
    assert found.requires_grad == (kind is Parameter and expected.is_floating_point() and "frozen" not in way)


@pytest.mark.parametrize("name", TENSORS)
def test_a_tensor_is_no_constant(name):
    with pytest.raises(TypeError, match=r"'.*Tensor' object in attribute 'Constant\.stride' is not a valid constant"):
        jit.script(Constant(TENSORS[name]))


@pytest.mark.parametrize("way", WAYS)
def test_numbers_of_numpy(way):
    """A float64 is a Python float to the compiler. The others are nothing to it, and arrays neither."""
    assert _same(_carried(Attribute, np.float64(0.1), way), 0.1)
    for stride in (np.int64(8), np.float32(8), np.array([8.0])):
        with pytest.raises(RuntimeError, match=r"has no attribute 'stride' .*failed to convert Python type: 'numpy"):
            # A class of its own: the type left behind by one failure hides the reason of the next.
            jit.script(type("Fresh", (Attribute,), {"forward": Attribute.forward})(stride))


# --- freezing -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [8, 8.0, (8, 16.0)], ids=repr)
def test_freezing_moves_an_attribute_into_the_graph(stride):
    """It can no longer be read from the module, and stands in the code as a constant of its own type. What was a constant before can
    still be read."""
    frozen = jit.freeze(jit.script(Attribute(stride).eval()))
    constant = jit.freeze(jit.script(Constant(stride).eval()))

    assert not hasattr(frozen, "stride")
    assert [value for value in _constants(frozen) if _same(value, stride)] == [stride]
    assert _same(constant.stride, stride)


@pytest.mark.parametrize("name", TENSORS)
def test_freezing_moves_a_buffer_into_the_graph(name):
    frozen = jit.freeze(jit.script(Buffer(TENSORS[name]).eval()))
    held = [value for value in _constants(frozen) if isinstance(value, Tensor)]

    assert not hasattr(frozen, "stride") and list(frozen.state_dict()) == []
    assert len(held) == 1 and _same(held[0], TENSORS[name])


def test_a_frozen_module_is_converted_no_more():
    """What stands in the graph is no buffer: `half()` on a frozen detector changes nothing."""
    scripted = jit.script(Buffer(torch.ones(2)).eval())
    frozen = jit.freeze(scripted)

    assert frozen.half()(ZERO)[0].dtype == torch.float32
    assert scripted.half()(ZERO)[0].dtype == torch.float16


def test_freezing_wants_evaluation_mode():
    scripted = jit.script(Attribute(8).train())
    with pytest.raises(RuntimeError, match=r"Freezing .* eval mode|Freezing module in training mode"):
        torch.jit.freeze(scripted)


# --- float and int strides ------------------------------------------------------------------------------------------


class Scales(nn.Module):
    def __init__(self, stride) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor):
        return x * self.stride


class Divides(Scales):
    def forward(self, x: Tensor):
        return x.shape[0] // self.stride


@pytest.mark.parametrize("way", ["eager", *WAYS])
@pytest.mark.parametrize(
    "cells, stride, dtype",
    [
        (torch.int64, 8, torch.int64),
        (torch.int64, 8.0, torch.float32),
        (torch.float16, 8, torch.float16),
        (torch.float16, 8.0, torch.float16),
        (torch.float16, torch.tensor(8.0, dtype=torch.float64), torch.float16),
        (torch.float16, torch.tensor([8.0]), torch.float32),
        (torch.float32, torch.tensor([8.0], dtype=torch.float64), torch.float64),
        (torch.int64, torch.tensor([8]), torch.int64),
    ],
    ids=str,
)
def test_what_a_stride_makes_of_a_grid(cells, stride, dtype, way):
    """A float stride makes a float of an integer grid; a number or a tensor without dimensions widens nothing, a tensor with does."""
    module = Scales(stride).eval()
    run = module if way == "eager" else WAYS[way](jit.script(module))
    grid = torch.tensor([1, 2]).to(cells) if cells == torch.int64 else torch.tensor([1.0, 2.0], dtype=cells)

    result = run(grid)

    assert result.dtype == dtype and result.tolist() == [8, 16]


@pytest.mark.parametrize("way", ["eager", *WAYS])
@pytest.mark.parametrize("stride, cells", [(8, 8), (8.0, 8.0)], ids=repr)
def test_how_many_cells_a_stride_makes(stride, cells, way):
    """A size divided by a float stride is a float, and no size any more."""
    module = Divides(stride).eval()
    run = module if way == "eager" else WAYS[way](jit.script(module))

    assert _same(run(torch.zeros(64)), cells)


def test_a_float_stride_cannot_make_a_shape():
    class Grid(Scales):
        def forward(self, x: Tensor):
            return torch.zeros([x.shape[0] // self.stride])

    with pytest.raises(TypeError):
        Grid(8.0)(torch.zeros(64))
    with pytest.raises(RuntimeError, match=r"Expected a value of type 'List\[int\]' for argument 'size'"):
        jit.script(Grid(8.0))
    assert jit.script(Grid(8))(torch.zeros(64)).shape == (8,)


# --- strides worked out by the module itself ------------------------------------------------------------------------


class MeasuresItself(nn.Module):
    """As official models do: `__init__` runs an image through `forward` and keeps what each level made of it."""

    def __init__(self, side: int = 64) -> None:
        super().__init__()
        self.levels = nn.ModuleList([nn.Conv2d(3, 4, 3, 8, 1), nn.Conv2d(3, 4, 3, 16, 1)])
        with torch.no_grad():
            shapes = [raw.shape for raw in self.forward(torch.zeros(1, 3, side, side))]
        self.stride = torch.tensor([side / shape[-2] for shape in shapes])
        self.strides = [side // shape[-2] for shape in shapes]
        self.floats = [float(side / shape[-2]) for shape in shapes]

    def forward(self, x: Tensor) -> List[Tensor]:
        raw: List[Tensor] = []
        for level in self.levels:
            raw.append(level(x))
        return raw


class Tells(MeasuresItself):
    def forward(self, x: Tensor) -> List[Tensor]:
        raw: List[Tensor] = []
        for level in self.levels:
            raw.append(level(x))
        if hasattr(self, "stride"):
            raw.append(self.stride * self.strides[1] * self.floats[0])
        return raw


@pytest.mark.parametrize("way", ["scripted", "loaded"])
def test_a_stride_from_a_forward_in_init(way):
    """Scripting runs no `__init__`: of the finished module such strides are plain data, and stay what they were."""
    module = WAYS[way](jit.script(MeasuresItself().eval()))

    assert _same(module.stride, torch.tensor([8.0, 16.0]))
    assert _same(module.strides, [8, 16]) and _same(module.floats, [8.0, 16.0])


@pytest.mark.parametrize("way", WAYS)
def test_compiled_code_uses_a_stride_from_a_forward_in_init(way):
    """At any size: the stride is not measured again."""
    module = WAYS[way](jit.script(Tells().eval()))

    for side in (64, 32):
        assert _same(module(torch.zeros(1, 3, side, side))[-1], torch.tensor([8.0, 16.0]) * 16 * 8)


# --- a detector -----------------------------------------------------------------------------------------------------


def _numbers(module):
    """The numbers of a graph and of what stands inside its blocks: floats, and tensors without dimensions."""
    values = [node.output().toIValue() for node in module.graph.findAllNodes("prim::Constant")]
    return [value for value in values if type(value) is float or (isinstance(value, Tensor) and value.dim() == 0)]


@pytest.mark.parametrize("maker", ["script", "trace"])
def test_strides_of_a_detector(maker, network):
    """Frozen, saved and loaded they are what the module has: floats where it was scripted, and where it was traced float64 tensors
    without dimensions, which widen nothing."""
    module = Predictions(network).eval()
    made = jit.script(module) if maker == "script" else jit.trace(module, torch.zeros(1, 3, 64, 64))
    frozen = jit.freeze(made)

    for graph in (frozen, jit.reloaded(frozen)):
        found = _numbers(graph)
        for level in network.levels:
            same = [value for value in found if value == level.stride]
            assert same and type(level.stride) is float
            if maker == "trace":
                assert {value.dtype for value in same} == {torch.float64}
            else:
                assert {type(value) for value in same} == {float}


def test_a_half_precision_detector_keeps_its_dtypes(network):
    """Weights and anchors are half, the strides the same floats, in the file as in memory."""
    half = copy.deepcopy(network).half()
    loaded = jit.reloaded(jit.script(half))

    assert {value.dtype for value in loaded.state_dict().values()} == {torch.float16}
    for k, level in enumerate(half.levels):
        found = getattr(loaded.levels, str(k))
        assert _same(found.anchors, level.anchors) and _same(found.stride, level.stride)
