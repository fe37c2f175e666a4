"""Where an attribute of a module comes from: nn.Module's order of looking, and what the scripted wrapper answers instead.

No `from __future__ import annotations` here: see `test_postponed_annotations`.
"""

import re
from typing import Dict, Optional

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detparity.core import environment
from detparity.models.compat import jit

pytestmark = [pytest.mark.lanes, pytest.mark.more]

HERE = environment.environment()
ZEROS = torch.zeros(2)
Final = torch.jit.Final


def _lacks(module, name):
    """Reading it raises torch's sentence."""
    return pytest.raises(AttributeError, match=f"'{type(module).__name__}' object has no attribute '{name}'")


# --- nn.Module ------------------------------------------------------------------------------------------------------


class Crowded(nn.Module):
    """The name `stride` in every place it can be in. Torch refuses to register the second of a name, so it is put there by hand."""

    def __init__(self) -> None:
        super().__init__()
        self._parameters["stride"] = nn.Parameter(torch.tensor(1.0))
        self._buffers["stride"] = torch.tensor(2.0)
        self._modules["stride"] = nn.Identity()
        self.__dict__["stride"] = 4


def test_the_order_of_looking():
    """A property, the instance's dictionary, a class attribute; only then parameters, buffers, submodules."""
    module = Crowded()
    parameter, buffer, child = (store["stride"] for store in (module._parameters, module._buffers, module._modules))

    class WithProperty(Crowded):
        stride = property(lambda self: 6)

    class WithClassAttribute(Crowded):
        stride = 5

    assert WithProperty().stride == 6
    assert WithClassAttribute().stride == 4
    assert module.stride == 4
    del module.__dict__["stride"]
    shadowed = WithClassAttribute()
    del shadowed.__dict__["stride"]
    assert shadowed.stride == 5
    assert module.stride is parameter
    del module._parameters["stride"]
    assert module.stride is buffer
    del module._buffers["stride"]
    assert module.stride is child
    del module._modules["stride"]
    with _lacks(module, "stride"):
        module.stride  # noqa: B018 - reading it is the test


def test_getattr_is_asked_only_when_all_else_failed():
    asked = []

    class Watched(nn.Module):
        stride = 8

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("anchors", torch.ones(2))
            self.fields = 85

        def __getattr__(self, name):
            asked.append(name)
            return super().__getattr__(name)

    module = Watched()
    asked.clear()

    assert (module.stride, module.fields) == (8, 85) and asked == []
    assert module.anchors.tolist() == [1, 1] and asked == ["anchors"]


def test_the_error_of_a_missing_attribute():
    """torch 1.7 has a class of its own for it, which is an AttributeError too."""
    with _lacks(nn.Identity(), "stride") as raised:
        nn.Identity().stride  # noqa: B018
    assert type(raised.value).__name__ == environment.settled(
        [({"torch": "<1.8"}, "ModuleAttributeError"), ({"torch": ">=1.8"}, "AttributeError")], HERE
    )


def test_a_property_that_fails_is_called_missing():
    """An AttributeError inside a property sends Python to `__getattr__`, which blames the property's own name."""

    class Head(nn.Module):
        @property
        def grid(self):
            return self.anchor_grid

    with _lacks(Head(), "grid"):
        Head().grid  # noqa: B018


@pytest.mark.parametrize("register", ["register_buffer", "register_parameter", "add_module"])
def test_a_class_attribute_keeps_a_name_from_being_registered(register):
    """The official heads have `stride = None` on the class: a stride can then be no buffer, only a plain attribute."""

    class Head(nn.Module):
        stride = None

    value = {"register_buffer": torch.ones(3), "register_parameter": nn.Parameter(torch.ones(3))}
    with pytest.raises(KeyError, match="attribute 'stride' already exists"):
        getattr(Head(), register)("stride", value.get(register, nn.Identity()))
    head = Head()
    head.stride = torch.ones(3)
    assert "stride" in head.__dict__ and head.state_dict() == {}
    assert head.half().stride.dtype == torch.float32, "what is no buffer is not converted"


def test_setting_goes_where_the_name_already_is():
    module = nn.Module()
    module.weight = nn.Parameter(torch.zeros(1))
    module.register_buffer("anchors", torch.zeros(1))
    module.stride = 8

    with pytest.raises(TypeError, match=r"cannot assign 'torch.FloatTensor' as parameter 'weight'"):
        module.weight = torch.zeros(1)
    with pytest.raises(TypeError, match="cannot assign 'int' as buffer 'anchors'"):
        module.anchors = 3
    module.anchors = torch.ones(1)
    assert module._buffers["anchors"].item() == 1 and "anchors" not in module.__dict__
    module.weight = None
    assert module.weight is None and "weight" in module._parameters
    module.stride = nn.Parameter(torch.ones(1))
    assert "stride" in module._parameters and "stride" not in module.__dict__


# --- the scripted wrapper -------------------------------------------------------------------------------------------


class Child(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x


class Detector(nn.Module):
    """One attribute of every kind."""

    on_class = 7
    final: Final[int]
    maybe: Optional[int]
    counts: Dict[str, int]
    __constants__ = {"constant"}  # noqa: RUF012 - a set: see `test_lists_of_constants`

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(2))
        self.register_buffer("anchors", torch.ones(2))
        self.register_buffer("grid", torch.ones(2), persistent=False)
        self.child = Child()
        self.plain = torch.ones(2)
        self.fields = 3
        self.gain = 2.5
        self.name = "tiny"
        self.flag = True
        self.nothing = None
        self.strides = [8, 16]
        self.mixed_tuple = (1, 2.0)
        self.tensors = [torch.ones(1)]
        self.table = {"raw": 1}
        self.size = torch.Size([1, 2])
        self.dtype = torch.float16
        self.device = torch.device("cpu")
        self.numpy_float = np.float64(0.25)
        self.complex = 1j
        self.final = 4
        self.constant = 5
        self.maybe = None
        self.counts = {}
        # What has no type that can be inferred.
        self.mixed_list = [1, "a"]
        self.mixed_table = {"a": 1, "b": "c"}
        self.empty_list = []
        self.empty_table = {}
        self.anything = object()
        self.function = lambda x: x
        self.a_class = int
        self.a_set = {1}
        self.numpy_int = np.int64(3)

    @property
    def cells(self) -> int:
        return self.fields * 2

    def called(self, x: Tensor) -> Tensor:
        return x * self.fields

    def uncalled(self, x: Tensor) -> Tensor:
        return x

    def forward(self, x: Tensor) -> Tensor:
        return self.child(self.called(x)) + self.weight + self.anchors + self.constant + self.final


# What the wrapper returns, and of which type.
KEPT = {
    "fields": 3,
    "gain": 2.5,
    "name": "tiny",
    "flag": True,
    "nothing": None,
    "strides": [8, 16],
    "mixed_tuple": (1, 2.0),
    "tensors": [torch.ones(1)],
    "table": {"raw": 1},
    "final": 4,
    "constant": 5,
    "maybe": None,
    "counts": {},
    "device": torch.device("cpu"),
    # These change their type: a size is a tuple, a dtype is its number.
    "size": (1, 2),
    "dtype": 5,
    "numpy_float": 0.25,
}
DROPPED = ["mixed_list", "mixed_table", "empty_list", "empty_table", "anything", "function", "a_class", "a_set"]
DROPPED += ["numpy_int", "on_class", "uncalled"]


@pytest.fixture
def module():
    return Detector().eval()


@pytest.fixture
def scripted(module):
    return jit.script(module)


@pytest.mark.parametrize("way", ["scripted", "loaded"])
@pytest.mark.parametrize("name", KEPT)
def test_typed_attributes_are_kept(name, way, scripted):
    wrapper = scripted if way == "scripted" else jit.reloaded(scripted)
    found, expected = getattr(wrapper, name), KEPT[name]

    assert type(found) is type(expected) and found == expected


@pytest.mark.parametrize("name", DROPPED)
def test_what_has_no_type_is_dropped(name, module, scripted):
    """So are class attributes and methods nothing calls. Nothing is said of it before the attribute is used."""
    assert hasattr(module, name)
    with _lacks(scripted, name):
        getattr(scripted, name)


def test_complex_numbers(scripted):
    if environment.holds({"torch": ">=1.8"}, HERE):
        assert scripted.complex == 1j
    else:
        with _lacks(scripted, "complex"):
            scripted.complex  # noqa: B018


def test_tensors_are_shared_with_the_module(module, scripted):
    for name in ("weight", "anchors", "grid", "plain"):
        assert getattr(scripted, name) is getattr(module, name), name
    assert isinstance(scripted.weight, nn.Parameter)
    with torch.no_grad():
        module.anchors.add_(10)
    assert scripted(ZEROS).tolist() == [21, 21]


def test_what_counts_as_a_buffer(module, scripted):
    """Up to torch 1.8 every plain tensor of the module does; an archive holds those that are not persistent, too."""
    expected = ["anchors", "grid"] + (["plain"] if environment.holds({"torch": "<1.9"}, HERE) else [])

    assert list(dict(module.named_buffers())) == ["anchors", "grid"] and list(module.state_dict()) == [
        "weight",
        "anchors",
    ]
    assert list(dict(scripted.named_buffers())) == expected
    assert list(scripted.state_dict()) == ["weight", *expected]
    assert jit.reloaded(scripted).grid.tolist() == [1, 1]


def test_submodules_and_methods(scripted):
    assert isinstance(scripted.child, torch.jit.ScriptModule) and not isinstance(scripted, Detector)
    assert scripted.original_name == "Detector"
    for name in ("forward", "called"):
        assert isinstance(getattr(scripted, name), torch._C.ScriptMethod), name
    assert not hasattr(scripted, "uncalled") and "uncalled" not in scripted._c._method_names()
    assert scripted.called(torch.ones(2)).tolist() == [3, 3]


def test_a_property_read_from_python_is_no_value(scripted):
    """Compiled code reads it; the wrapper hands out the property object itself, and after loading nothing."""

    class Reads(Detector):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.cells

    assert jit.script(Reads().eval())(ZEROS).tolist() == [6, 6]
    assert isinstance(scripted.cells, property)
    with _lacks(scripted, "cells"):
        jit.reloaded(scripted).cells  # noqa: B018


def test_writing_a_typed_attribute(module, scripted):
    scripted.fields = 10
    assert scripted.fields == 10 and module.fields == 3
    assert scripted(torch.ones(2)).tolist() == [21, 21], "compiled code sees it"
    assert jit.reloaded(scripted).fields == 10, "and so does the file"
    for wrong in ("a", 2.5):
        with pytest.raises(RuntimeError, match="Unable to cast Python instance"):
            scripted.fields = wrong
    scripted.gain = 3
    assert isinstance(scripted.gain, float), "an int becomes what the attribute is"
    scripted.maybe = 3
    assert scripted.maybe == 3, "an annotated Optional takes both"


def test_a_list_is_read_as_a_copy(scripted):
    scripted.strides.append(32)
    assert scripted.strides == [8, 16]
    scripted.strides = [8, 16, 32]
    assert scripted.strides == [8, 16, 32]


@pytest.mark.parametrize("name", ["constant", "final"])
def test_constants_cannot_be_written(name, scripted):
    before = getattr(scripted, name)
    for wrapper in (scripted, jit.reloaded(scripted)):
        with pytest.raises(RuntimeError, match=f"Can't set constant '{name}' which has value:{before}"):
            setattr(wrapper, name, 9)
        assert getattr(wrapper, name) == before


def test_writing_what_the_compiled_module_does_not_have(scripted):
    """It becomes an attribute of the Python wrapper alone, and is not saved."""
    for name in ("brand_new", "anything", "on_class"):
        setattr(scripted, name, 6)
        assert getattr(scripted, name) == 6 and name in scripted.__dict__
        with _lacks(scripted, name):
            getattr(jit.reloaded(scripted), name)


def test_the_wrappers_own_dictionary_is_looked_at_first(scripted):
    scripted.__dict__["fields"] = 99

    assert scripted.fields == 99 and scripted._c.getattr("fields") == 3
    assert scripted(torch.ones(2)).tolist() == [14, 14]


def test_submodules_cannot_be_replaced_by_plain_ones(scripted):
    with pytest.raises(RuntimeError, match="Cannot re-assign modules in a ScriptModule with non-scripted module"):
        scripted.child = Child()


def test_replacing_a_tensor_leaves_the_module_alone(module, scripted):
    scripted.anchors = torch.zeros(2)

    assert scripted.anchors.tolist() == [0, 0] and module.anchors.tolist() == [1, 1]
    assert scripted(ZEROS).tolist() == [10, 10]


# --- using what is not there ----------------------------------------------------------------------------------------


class UsesObject(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.kept = object()

    def forward(self, x: Tensor) -> Tensor:
        print(self.kept)
        return x


class UsesMixedList(UsesObject):
    def __init__(self) -> None:
        super().__init__()
        self.kept = [1, "a"]


class UsesEmptyList(UsesObject):
    def __init__(self) -> None:
        super().__init__()
        self.kept = []


class UsesMissing(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x + self.kept


class UsesClassAttribute(UsesMissing):
    kept = 3


class UsesAnnotatedClassAttribute(UsesMissing):
    kept: int = 3


class UsesClassConstant(UsesMissing):
    kept = 3
    __constants__ = {"kept"}  # noqa: RUF012


class Writes(nn.Module):
    """What the official head does with its grid."""

    def __init__(self) -> None:
        super().__init__()
        self.grid = torch.zeros(2)
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.grid = x + 1
        self.calls += 1
        return self.grid


class WritesNew(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        self.grid = x
        return x


class WritesConstant(WritesNew):
    __constants__ = {"grid"}  # noqa: RUF012

    def __init__(self) -> None:
        super().__init__()
        self.grid = 3


def _unseen(kind):
    """An instance of a subclass no compiler has met: see `test_a_later_attempt_hides_the_reason`."""
    return type(kind.__name__, (kind,), {})()


@pytest.mark.parametrize("kind, type_name", [(UsesObject, "object"), (UsesMixedList, "list"), (UsesEmptyList, "list")])
def test_using_what_was_dropped(kind, type_name):
    """The error names the type that was not converted."""
    text = f"has no attribute 'kept' .This attribute exists on the Python module, but we failed to convert Python type: '{type_name}'"
    with pytest.raises(RuntimeError, match=text):
        jit.script(_unseen(kind))


@pytest.mark.parametrize("kind", [UsesMissing, UsesClassAttribute, UsesAnnotatedClassAttribute])
def test_class_attributes_do_not_exist_for_compiled_code(kind):
    with pytest.raises(RuntimeError, match=f"Module '{kind.__name__}' has no attribute 'kept'"):
        jit.script(_unseen(kind))


def test_class_attributes_that_are_named_constants_do():
    scripted = jit.script(UsesClassConstant())

    assert scripted.kept == 3 and scripted(ZEROS).tolist() == [3, 3]


def test_a_later_attempt_hides_the_reason():
    """A failed compilation leaves its half-made type behind, and the next one stumbles over it: only the first error tells."""

    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + self.kept

    reason, hidden = "has no attribute 'kept'", "Can't redefine method: forward on class"
    second = environment.settled(
        [
            ({"torch": "<1.11"}, hidden),
            ({"torch": ">=1.11,<1.13"}, reason),
            ({"torch": ">=1.13"}, hidden),
        ],
        HERE,
    )
    for text in (reason, second, hidden):
        with pytest.raises(RuntimeError, match=text):
            jit.script(Broken())


def test_compiled_code_writes_to_the_wrapper_alone():
    module = Writes()
    scripted = jit.script(module)
    scripted(ZEROS)
    scripted(ZEROS)

    assert (scripted.calls, module.calls) == (2, 0)
    assert (scripted.grid.tolist(), module.grid.tolist()) == ([1, 1], [0, 0])
    assert jit.reloaded(scripted).calls == 2, "what a call left there is saved"


@pytest.mark.parametrize("kind", [WritesNew, WritesConstant])
def test_compiled_code_writes_only_attributes_that_are_there(kind):
    with pytest.raises(RuntimeError, match="Tried to set nonexistent attribute: grid"):
        jit.script(_unseen(kind))


def test_lists_of_constants():
    """`__constants__` as a list, as most code writes it, beside a Final breaks up to torch 1.9."""

    class Both(nn.Module):
        __constants__ = ["constant"]  # noqa: RUF012
        final: Final[int]

        def __init__(self) -> None:
            super().__init__()
            self.constant, self.final = 5, 4

        def forward(self, x: Tensor) -> Tensor:
            return x + self.constant + self.final

    if environment.holds({"torch": "<1.10"}, HERE):
        with pytest.raises(AttributeError, match="'list' object has no attribute 'add'"):
            jit.script(Both())
    else:
        assert jit.script(Both())(ZEROS).tolist() == [9, 9]


@pytest.mark.parametrize("annotation", ["Final[int]", "Optional[int]", "int"])
def test_postponed_annotations(annotation):
    """Under `from __future__ import annotations` the annotations of a class are text, which scripting takes for no type."""

    class Postponed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stride = 8

        def forward(self, x: Tensor) -> Tensor:
            return x * self.stride

    Postponed.__annotations__ = {"stride": annotation}
    error, text = environment.settled(
        [
            ({"torch": "<2.3"}, (AttributeError, "'str' object has no attribute '__module__'")),
            ({"torch": ">=2.3"}, (ValueError, f"Unknown type annotation: '{re.escape(annotation)}'")),
        ],
        HERE,
    )
    with pytest.raises(error, match=text):
        jit.script(Postponed())


def test_attributes_marked_as_ignored():
    """`__jit_ignored_attributes__` puts them on the wrapper as they are, from torch 1.8 on."""

    class Marked(nn.Module):
        __jit_ignored_attributes__ = ["anything"]  # noqa: RUF012

        def __init__(self) -> None:
            super().__init__()
            self.anything = object()

        def forward(self, x: Tensor) -> Tensor:
            return x

    module = Marked()
    scripted = jit.script(module)

    if environment.holds({"torch": ">=1.8"}, HERE):
        assert scripted.anything is module.anything
    else:
        with _lacks(scripted, "anything"):
            scripted.anything  # noqa: B018
    with _lacks(scripted, "anything"):
        jit.reloaded(scripted).anything  # noqa: B018


# --- a detector -----------------------------------------------------------------------------------------------------


def test_the_wrapper_of_a_detector(network, scripted_network):
    """What the network is made of is there under the same names; its plan of routes is a list of lists of integers."""
    scripted = jit.reloaded(scripted_network)

    assert list(scripted.state_dict()) == list(network.state_dict())
    assert (scripted.routes, scripted.taps, scripted.last_use) == (network.routes, network.taps, network.last_use)
    for k, theirs in enumerate(network.levels):
        ours = getattr(scripted.levels, str(k))
        assert (ours.stride, ours.na, ours.fields) == (theirs.stride, theirs.na, theirs.fields)
        assert (type(ours.stride), type(ours.na)) == (float, int)
        assert torch.equal(ours.anchors, theirs.anchors)
