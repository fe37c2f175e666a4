"""Which classes TorchScript takes, in three questions: `can_compile_class`, torch.jit.script of the class, use in compiled code.

`can_compile_class` is asked of classes that compiled code meets, and promises less than its name: that every method has Python code
and, from torch 1.9 on, that the class is no tuple, list, exception or module. torch.jit.script of a class does not ask it.
No `from __future__ import annotations` here: a dataclass whose annotations are text has no compilable `__init__`.
"""

import collections
import dataclasses
import enum
import itertools
from dataclasses import dataclass
from typing import Any, Callable, List, Mapping, NamedTuple, Optional, Tuple

import pytest
import torch
from torch import Tensor, nn
from torch._jit_internal import can_compile_class

from detparity.core import environment

pytestmark = [pytest.mark.lanes, pytest.mark.more]

HERE = environment.environment()
NUMBER = itertools.count()
Cases = List[Tuple[Mapping[str, str], Any]]


@dataclass(frozen=True)
class Refused:
    """The error says this, found anywhere in its text."""

    text: str


ACCEPTED = "accepted"
NO_BASES = Refused("TorchScript classes does not support inheritance yet")
NO_BUILT_IN = Refused("TorchScript classes must be new-style classes")
NO_MODULE = Refused("cannot be compiled since it inherits from nn.Module, pass an instance instead")
NO_INIT = Refused("does not have an __init__ function defined")
NO_NEW_CLASS = Refused("Cannot instantiate class")
NO_YIELD = Refused("Yield aren't supported")
NO_SOURCE = Refused("(?i)(can't get source|could not get source code|failed to get source)")


def always(value) -> Cases:
    return [({"torch": ">=1.7"}, value)]


def since(version, before, value) -> Cases:
    return [({"torch": f"<{version}"}, before), ({"torch": f">={version}"}, value)]


@dataclass(frozen=True)
class Kind:
    """make: a fresh class and a function that uses it; can: what `can_compile_class` says; script: what torch.jit.script of the
    class does; met: what the compiled function returns that meets the class in its code; scripted: the same after torch.jit.script
    of the class, None where it is as before. All but the second may be Refused."""

    make: Callable[[], Tuple[type, Optional[Callable[[], Any]]]]
    can: Cases
    script: Cases
    met: Cases = dataclasses.field(default_factory=list)
    scripted: Optional[Cases] = None


def plain():
    class Plain:
        def __init__(self, stride: int):
            self.stride = stride

        def cells(self, side: int) -> int:
            return side // self.stride

    def use() -> int:
        return Plain(8).cells(64)

    return Plain, use


def slots():
    class Slots:
        __slots__ = ("stride",)

        def __init__(self, stride: int):
            self.stride = stride

    def use() -> int:
        return Slots(8).stride

    return Slots, use


def with_property():
    class Property:
        def __init__(self, stride: int):
            self.stride = stride

        @property
        def half(self) -> int:
            return self.stride // 2

    def use() -> int:
        return Property(8).half

    return Property, use


def metaclass():
    class Meta(type):
        pass

    class Made(metaclass=Meta):
        def __init__(self, stride: int):
            self.stride = stride

    def use() -> int:
        return Made(8).stride

    return Made, use


def no_init():
    class Empty:
        pass

    def use() -> bool:
        return Empty() is None

    return Empty, use


def untyped():
    class Untyped:
        def __init__(self, stride):
            self.stride = stride

    def use() -> int:
        return Untyped(8).stride

    return Untyped, use


def static():
    class Static:
        def __init__(self, stride: int):
            self.stride = stride

        @staticmethod
        def two() -> int:
            return 2

    def use() -> int:
        return Static(8).two()

    return Static, use


def generator():
    class Generator:
        def __init__(self, stride: int):
            self.stride = stride

        def cells(self):
            yield self.stride

    def use() -> int:
        return Generator(8).stride

    return Generator, use


def derived():
    class Base:
        def __init__(self, stride: int):
            self.stride = stride

    class Derived(Base):
        def double(self) -> int:
            return 2 * self.stride

    def use() -> int:
        return Derived(8).double()

    return Derived, use


def codeless():
    class Codeless:
        measure = len

        def __init__(self, stride: int):
            self.stride = stride

    def use() -> int:
        return Codeless(8).stride

    return Codeless, use


def ignored():
    @torch.jit.ignore
    class Ignored:
        def __init__(self, stride: int):
            self.stride = stride

    def use() -> int:
        return Ignored(8).stride

    return Ignored, use


def data():
    @dataclass
    class Data:
        stride: int

    def use() -> int:
        return Data(8).stride

    return Data, use


def named_tuple():
    class Size(NamedTuple):
        height: int
        width: int

    def use() -> int:
        size = Size(2, 4)
        return size.height * size.width

    return Size, use


def enumeration():
    class Head(enum.Enum):
        RAW = 8
        GRID = 16

    def use() -> int:
        return Head.RAW.value

    return Head, use


def unlike_enumeration():
    class Head(enum.Enum):
        RAW = 8
        GRID = "grid"

    def use() -> bool:
        return Head.RAW == Head.GRID

    return Head, use


def module():
    class Layer(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x

    def use() -> int:
        Layer()
        return 8

    return Layer, use


def exception():
    class Overflow(Exception):
        pass

    def use() -> int:
        raise Overflow("too many boxes")

    return Overflow, use


def _only(base, name="Derived") -> Callable[[], Tuple[type, None]]:
    return lambda: (type(name, (base,), {}), None)


def _just(cls) -> Callable[[], Tuple[type, None]]:
    return lambda: (cls, None)


NEVER, BORDER = always(False), since("1.9", True, False)
KINDS = {
    "typed init": Kind(plain, always(True), always(ACCEPTED), always(8)),
    "slots": Kind(slots, always(True), always(ACCEPTED), always(8)),
    "property": Kind(with_property, always(True), always(ACCEPTED), always(4)),
    "metaclass": Kind(metaclass, always(True), always(ACCEPTED), always(8)),
    "dataclass": Kind(data, always(True), since("1.13", NO_SOURCE, ACCEPTED), always(NO_SOURCE), always(8)),
    # Taken as classes; what fails is their use.
    "no init": Kind(no_init, always(True), always(ACCEPTED), always(NO_INIT)),
    "untyped init": Kind(
        untyped, always(True), always(ACCEPTED), always(Refused("Inferred 'stride' to be of type 'Tensor'"))
    ),
    "static method": Kind(static, always(True), always(ACCEPTED), always(Refused("attribute or method 'two'"))),
    # What torch.jit.script takes although the rule says no. Compiled code takes it if it was scripted before.
    "attribute without code": Kind(codeless, NEVER, always(ACCEPTED), always(NO_NEW_CLASS), always(8)),
    "ignored": Kind(ignored, NEVER, always(ACCEPTED), always(NO_NEW_CLASS), always(8)),
    # What the rule says can be compiled, and cannot.
    "generator method": Kind(generator, always(True), always(NO_YIELD), always(NO_YIELD)),
    "base class": Kind(derived, always(True), always(NO_BASES), always(Refused("attribute or method 'stride'"))),
    # The second question is no for a tuple, and the third yes.
    "NamedTuple": Kind(named_tuple, BORDER, always(NO_BASES), always(8)),
    # Python 3.11 keeps a built-in function among the attributes of an enumeration, and the rule minds.
    "Enum": Kind(
        enumeration,
        [({"python": "<3.11"}, True), ({"python": ">=3.11"}, False)],
        since("1.8", NO_BUILT_IN, ACCEPTED),
        always(8),
    ),
    "Enum of unlike values": Kind(
        unlike_enumeration,
        [({"python": "<3.11"}, True), ({"python": ">=3.11"}, False)],
        since("1.8", NO_BUILT_IN, ACCEPTED),
        always(Refused("Could not unify type list")),
    ),
    "nn.Module subclass": Kind(module, BORDER, always(NO_MODULE), since("1.9", NO_INIT, NO_NEW_CLASS)),
    "exception": Kind(exception, BORDER, always(NO_BASES), always(Refused("too many boxes"))),
    "subclass of tuple": Kind(_only(tuple), BORDER, always(NO_BASES)),
    "subclass of list": Kind(_only(list), BORDER, always(NO_BASES)),
    "subclass of dict": Kind(_only(dict), always(True), always(NO_BASES)),
    "nn.Module": Kind(_just(nn.Module), BORDER, always(NO_MODULE)),
    "Tensor": Kind(_just(Tensor), NEVER, always(NO_BASES)),
    "OrderedDict": Kind(_just(collections.OrderedDict), NEVER, always(NO_BASES)),
    "Exception": Kind(_just(Exception), NEVER, always(NO_BASES)),
    **{cls.__name__: Kind(_just(cls), NEVER, always(NO_BUILT_IN)) for cls in (int, list, dict, tuple, object)},
}
MET = [name for name, kind in KINDS.items() if kind.met]
TAKEN = [name for name in MET if environment.settled(KINDS[name].script, HERE) == ACCEPTED]


def _fresh(name):
    """The class and the function of a kind, under a name of its own: classes of one name are known to the whole process."""
    cls, use = KINDS[name].make()
    if use:
        cls.__name__ = f"{cls.__name__}{next(NUMBER)}"
    return cls, use


def _raises(refused):
    return pytest.raises(Exception, match=refused.text)


@pytest.mark.parametrize("name", KINDS)
def test_can_compile_class(name):
    assert can_compile_class(_fresh(name)[0]) is environment.settled(KINDS[name].can, HERE)


@pytest.mark.parametrize("name", KINDS)
def test_script_of_a_class(name):
    """A class that is accepted comes back itself, and works in Python as before."""
    cls, _ = _fresh(name)
    outcome = environment.settled(KINDS[name].script, HERE)

    if outcome == ACCEPTED:
        assert torch.jit.script(cls) is cls
    else:
        with _raises(outcome):
            torch.jit.script(cls)


@pytest.mark.parametrize("name", MET)
def test_a_class_that_compiled_code_meets(name):
    """What the rule lets through is compiled then and there, and need not be scripted beforehand."""
    _, use = _fresh(name)
    _compare(use, environment.settled(KINDS[name].met, HERE))


@pytest.mark.parametrize("name", TAKEN)
def test_a_class_that_was_scripted_before(name):
    cls, use = _fresh(name)
    torch.jit.script(cls)
    _compare(use, environment.settled(KINDS[name].scripted or KINDS[name].met, HERE))


def _compare(use, outcome):
    if isinstance(outcome, Refused):
        with _raises(outcome):
            torch.jit.script(use)()
    else:
        assert torch.jit.script(use)() == outcome == use()


def test_an_exception_leaves_compiled_code_as_an_error_of_torch():
    overflow, use = _fresh("exception")

    with pytest.raises(overflow, match="too many boxes"):
        use()
    with pytest.raises(torch.jit.Error, match="too many boxes") as raised:
        torch.jit.script(use)()
    assert not isinstance(raised.value, overflow)


def test_a_module_class_is_refused_and_its_instance_is_not():
    cls, _ = _fresh("nn.Module subclass")

    with _raises(NO_MODULE):
        torch.jit.script(cls)
    assert isinstance(torch.jit.script(cls()), torch.jit.ScriptModule)
