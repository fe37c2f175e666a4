"""torch.jit.script of what a model returns: a list becomes a ScriptList, which no one can call; a tensor or a tuple is refused.

Scripting `model(x)` for `model` is a common slip, and for raw heads it raises nothing from torch 1.10 on.
"""

from __future__ import annotations

import copy
from typing import List

import pytest
import torch
from torch import Tensor

from detparity.core import environment
from detparity.models.compat import jit
from detparity.models.yolov7.network import Predictions, RawTuple

pytestmark = [pytest.mark.lanes, pytest.mark.more]

HERE = environment.environment()
NO_LISTS, LISTS = {"torch": "<1.10"}, {"torch": ">=1.10"}
# What is raised: the type and the start of its text. Up to 1.9 nothing but classes, functions and modules is looked at.
NO_NAME = (RuntimeError, "Could not get name of python class object")
AS_FUNCTION = (AttributeError, r".* object has no attribute '__globals__'")
UNLIKE = (torch.jit.Error, "Unable to infer type of list: List inputs .* must have consistent element type")
UNLIKE_VALUES = (torch.jit.Error, "Unable to infer type of dictionary: .* must have consistent type")
NO_SOURCE = (OSError, "Can't get source for")


def built_in(kind):
    return (TypeError, f"<class '{kind}'> is a built-in class")


# Every value, and what comes of it: the name of a type, or what is raised.
LISTED = [(NO_LISTS, NO_NAME), (LISTS, "ScriptList")]
OUTCOMES = {
    "list of tensors": (lambda: [torch.zeros(2), torch.ones(2)], LISTED),
    "list of ints": (lambda: [8, 16], LISTED),
    "list of lists": (lambda: [[torch.zeros(2)], [torch.ones(2)]], LISTED),
    "list with a None": (lambda: [torch.zeros(2), None], LISTED),
    "empty list": (list, LISTED),
    "dict": (lambda: {"raw": torch.zeros(2)}, [(NO_LISTS, NO_NAME), (LISTS, "ScriptDict")]),
    # The official heads keep such a list: a decoded tensor beside the list of raw ones.
    "tensor and list": (lambda: [torch.zeros(2), [torch.zeros(2)]], [(NO_LISTS, NO_NAME), (LISTS, UNLIKE)]),
    "tensor and number": (lambda: [torch.zeros(2), 1], [(NO_LISTS, NO_NAME), (LISTS, UNLIKE)]),
    "int and float": (lambda: [8, 16.0], [(NO_LISTS, NO_NAME), (LISTS, UNLIKE)]),
    "dict of unlike values": (lambda: {"raw": torch.zeros(2), "n": 1}, [(NO_LISTS, NO_NAME), (LISTS, UNLIKE_VALUES)]),
    "tensor": (
        lambda: torch.zeros(2),
        [
            (NO_LISTS, NO_NAME),
            ({"torch": ">=1.10,<2.1"}, AS_FUNCTION),
            (
                {"torch": ">=2.1"},
                (TypeError, "module, class, method, function, .* was expected, got method_descriptor"),
            ),
        ],
    ),
    **{
        name: (
            make,
            [
                (NO_LISTS, NO_NAME),
                ({"torch": ">=1.10,<2.1"}, AS_FUNCTION),
                ({"torch": ">=2.1"}, built_in(type(make()).__name__)),
            ],
        )
        for name, make in {
            "tuple of tensors": lambda: (torch.zeros(2), torch.ones(2)),
            "int": lambda: 8,
            "str": lambda: "raw",
            "None": lambda: None,
        }.items()
    },
}


def _scripted(values):
    """The ScriptList of `values`, or None where this version makes none: then that it refuses is what is asserted."""
    if environment.holds(LISTS, HERE):
        return torch.jit.script(values)
    with pytest.raises(NO_NAME[0], match=NO_NAME[1]):
        torch.jit.script(values)
    return None


@pytest.mark.parametrize("name", OUTCOMES)
def test_what_is_scripted(name):
    make, by_version = OUTCOMES[name]
    outcome = environment.settled(by_version, HERE)

    if isinstance(outcome, str):
        assert type(torch.jit.script(make())).__name__ == outcome
    else:
        with pytest.raises(outcome[0], match=outcome[1]):
            torch.jit.script(make())


def test_a_script_list_is_no_list_and_no_module():
    scripted = _scripted([torch.zeros(2)])
    if scripted is None:
        return

    assert not isinstance(scripted, (list, torch.nn.Module, torch.jit.ScriptModule))
    assert type(scripted).__module__ == environment.settled(
        [({"torch": "<1.12"}, "torch._C"), ({"torch": ">=1.12"}, "torch")], HERE
    )
    for name in ("forward", "eval", "state_dict", "save", "graph", "sort"):
        assert not hasattr(scripted, name), name
    with pytest.raises(TypeError, match=r"'torch._C.ScriptList' object is not callable"):
        scripted(torch.zeros(2))
    with pytest.raises(AttributeError, match=r"'torch._C.ScriptList' object has no attribute 'save_to_buffer'"):
        jit.reloaded(scripted)


def test_a_script_list_is_a_copy_of_the_list_and_shares_its_tensors():
    first, second = torch.zeros(2), torch.ones(2)
    values = [first, second]
    scripted = _scripted(values)
    if scripted is None:
        return

    scripted.append(first)
    assert (len(scripted), len(values)) == (3, 2)
    values.clear()
    assert (len(scripted), len(values)) == (3, 0)
    assert scripted[0] is first and scripted[1] is second
    scripted[0].add_(7)
    assert first.tolist() == [7, 7]


def test_compiled_code_sees_and_changes_the_script_list_itself():
    """What is meant by reference semantics: a Python list is copied on the way in, and what happens to the copy is lost."""

    def grow(xs: List[Tensor]) -> int:
        xs.append(xs[0])
        return len(xs)

    compiled, plain = torch.jit.script(grow), [torch.zeros(2)]
    assert (compiled(plain), len(plain)) == (2, 1)
    scripted = _scripted(plain)
    if scripted is None:
        return

    assert (compiled(scripted), len(scripted)) == (2, 2)
    assert (compiled(scripted), len(scripted)) == (3, 3)
    assert scripted[2] is plain[0]


def test_indexing_slicing_length_and_iteration():
    values = [torch.full((1,), float(k)) for k in range(3)]
    scripted = _scripted(values)
    if scripted is None:
        return

    assert len(scripted) == 3 and [item.item() for item in scripted] == [0, 1, 2]
    assert scripted[-1] is values[2]
    for index in (3, -4):
        with pytest.raises(IndexError):
            scripted[index]
    part = scripted[0:2]
    assert type(part) is type(scripted) and len(part) == 2 and part[1] is values[1]
    assert part.pop() is values[1] and (len(part), len(scripted)) == (1, 3), "a slice is another list"
    part.append([values[0]])
    assert len(part) == 2, "a slice of tensors takes lists of them, and refuses a tensor"
    with pytest.raises(TypeError):
        part.append(values[0])
    assert torch.equal(torch.cat(list(scripted)), torch.tensor([0.0, 1.0, 2.0]))
    with pytest.raises(TypeError, match=r"must be tuple of Tensors, not torch._C.ScriptList"):
        torch.cat(scripted)


def test_changing_in_place():
    scripted = _scripted([8, 16])
    if scripted is None:
        return

    scripted.extend([32, 64])
    scripted.insert(0, 4)
    assert scripted.pop() == 64
    scripted.remove(4)
    scripted[0] = 9
    del scripted[1]
    assert list(scripted) == [9, 32] and 32 in scripted and scripted.count(9) == 1
    with pytest.raises(RuntimeError, match="slice assignment have different sizes"):
        scripted[0:1] = [1, 2]
    copied = copy.deepcopy(scripted)
    copied.clear()
    assert (len(copied), len(scripted)) == (0, 2)


def test_equality_is_identity():
    scripted = _scripted([8, 16])
    if scripted is None:
        return

    assert scripted == scripted
    assert scripted != [8, 16] and scripted != torch.jit.script([8, 16])


def test_the_type_of_the_elements_is_fixed():
    """torch 1.12 takes a number into a list of tensors."""
    scripted = _scripted([torch.zeros(2)])
    if scripted is None:
        return

    with pytest.raises(TypeError):
        scripted.append("8")
    if environment.holds({"torch": "==1.12.*"}, HERE):
        scripted.append(8)
        assert scripted[1] == 8 and isinstance(scripted[1], int)
    else:
        with pytest.raises(TypeError):
            scripted.append(8)
        assert len(scripted) == 1


def test_a_script_list_is_not_scripted_again():
    scripted = _scripted([torch.zeros(2)])
    if scripted is None:
        return
    error, text = environment.settled([({"torch": "<2.1"}, AS_FUNCTION), ({"torch": ">=2.1"}, NO_SOURCE)], HERE)

    with pytest.raises(error, match=text):
        torch.jit.script(scripted)


# --- a detector -----------------------------------------------------------------------------------------------------


def test_scripting_the_raw_result_gives_a_list_and_not_a_model(network):
    raw = network(torch.zeros(1, 3, 64, 64))
    assert type(raw) is list and len(raw) == 3
    scripted = _scripted(raw)
    if scripted is None:
        return

    assert type(scripted).__name__ == "ScriptList" and not hasattr(scripted, "forward")
    assert all(ours is theirs for ours, theirs in zip(scripted, raw))


@pytest.mark.parametrize("form, name", [(RawTuple, "tuple of tensors"), (Predictions, "tensor")])
def test_scripting_any_other_result_is_refused(form, name, network):
    result = form(network).eval()(torch.zeros(1, 3, 64, 64))
    error, text = environment.settled(OUTCOMES[name][1], HERE)

    with pytest.raises(error, match=text):
        torch.jit.script(result)


def test_scripting_the_model_gives_a_model_that_returns_a_plain_list(network, scripted_network):
    images = torch.rand(1, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected, got = network(images), scripted_network(images)

    assert isinstance(scripted_network, torch.jit.ScriptModule)
    assert type(got) is list, "lists leave compiled code as Python lists"
    assert [torch.equal(one, other) for one, other in zip(got, expected)] == [True] * 3
