"""What each of torch's FunctionModifiers does to a method: is it compiled, what does a call do, what is left after saving.

The probe's body asks `torch.jit.is_scripting()`, so its result tells compiled code from Python. A body with `finally`, which no
TorchScript compiles, tells whether the compiler looked at it at all. No `from __future__ import annotations` here: see
`test_postponed_annotations`.
"""

import itertools
import json
import subprocess
import sys
from dataclasses import dataclass
from typing import Callable, Dict, List, Mapping, Optional

import pytest
import torch
from torch import Tensor, nn
from torch._jit_internal import FunctionModifiers, _copy_to_script_wrapper, get_torchscript_modifier
from torch.jit.frontend import FrontendError, NotSupportedError

from detparity.core import environment
from detparity.models.compat import jit

pytestmark = [pytest.mark.lanes, pytest.mark.more]

HERE = environment.environment()
ZERO = torch.zeros(1)
ASIDE, PYTHON, COMPILED = 0.0, 1.0, 2.0  # what the probe returns: not called, run by Python, run by compiled code
NEVER_RUN = r"(?s)This Python function is annotated to be ignored and cannot be run"


@dataclass(frozen=True)
class Effect:
    """when: the versions that have the modifier; compiled: when its body is compiled ("always", "called" from forward, "never");
    call: what a call from forward returns, None where it raises; stays: whether the wrapper has the Python method in any case;
    saves: whether a module that calls it can be saved."""

    when: Mapping[str, str]
    compiled: str
    call: Optional[float]
    stays: bool
    saves: bool


EVERY = {"torch": ">=1.7"}
EFFECTS = {
    "DEFAULT": Effect(EVERY, "called", COMPILED, stays=False, saves=True),
    "EXPORT": Effect(EVERY, "always", COMPILED, stays=False, saves=True),
    "COPY_TO_SCRIPT_WRAPPER": Effect(EVERY, "called", COMPILED, stays=False, saves=True),
    "UNUSED": Effect(EVERY, "never", None, stays=True, saves=True),
    "IGNORE": Effect(EVERY, "never", PYTHON, stays=True, saves=False),
    "_DROP": Effect({"torch": ">=2.0"}, "never", None, stays=True, saves=True),
}
MEMBERS = {
    name: value for name, value in vars(FunctionModifiers).items() if isinstance(value, str) and name[:2] != "__"
}
NAMES = [name for name in EFFECTS if name in MEMBERS]
CALLED = {"called": True, "aside": False}


def _body(kind):
    """A fresh method: each carries its own modifier."""
    if kind == "uncompilable":

        def helper(self, x: Tensor) -> Tensor:
            try:
                return x + 1
            finally:
                x.numel()

    elif kind == "open":

        def helper(self, x: Tensor) -> Callable[[], int]:
            return x.numel

    else:

        def helper(self, x: Tensor) -> Tensor:
            if torch.jit.is_scripting():
                return x + 2
            return x + 1

    return helper


def _module(name, called, kind="plain"):
    """A module with a method `helper` of this modifier, called by forward or left aside."""
    if called:

        class Probe(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return self.helper(x)

    else:

        class Probe(nn.Module):
            def forward(self, x: Tensor) -> Tensor:
                return x

    Probe.helper = _body(kind)
    Probe.helper._torchscript_modifier = MEMBERS[name]
    return Probe().eval()


def test_every_modifier_has_its_facts():
    """Red where torch has one that this page does not know, or no longer has one."""
    assert set(MEMBERS) == {name for name, effect in EFFECTS.items() if environment.holds(effect.when, HERE)}


def test_the_decorators_set_the_modifiers():
    decorators = {"UNUSED": torch.jit.unused, "IGNORE": torch.jit.ignore, "EXPORT": torch.jit.export}
    decorators["COPY_TO_SCRIPT_WRAPPER"] = _copy_to_script_wrapper
    if "_DROP" in MEMBERS:
        decorators["_DROP"] = torch._jit_internal._drop

    assert {name: get_torchscript_modifier(mark(_body("plain"))) for name, mark in decorators.items()} == {
        name: value for name, value in MEMBERS.items() if name != "DEFAULT"
    }
    assert get_torchscript_modifier(_body("plain")) == MEMBERS["DEFAULT"]


# --- compiling ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("called", CALLED)
@pytest.mark.parametrize("name", NAMES)
def test_when_the_body_is_compiled(name, called):
    effect, module = EFFECTS[name], _module(name, CALLED[called], "uncompilable")

    if effect.compiled == "always" or (effect.compiled == "called" and CALLED[called]):
        with pytest.raises(NotSupportedError, match="try blocks aren't supported"):
            jit.script(module)
    else:
        assert jit.script(module)._c._method_names() == ["forward"]


@pytest.mark.parametrize("name", NAMES)
def test_a_signature_that_cannot_be_said(name):
    """No modifier makes another type possible in the signature of what forward calls."""
    with pytest.raises((RuntimeError, ValueError), match=r"Unknown type (annotation|constructor).*Callable"):
        jit.script(_module(name, True, "open"))


@pytest.mark.parametrize("kind", ["uncompilable", "open"])
@pytest.mark.parametrize("name", NAMES)
def test_methods_of_a_compiled_class(name, kind):
    """All of them are compiled, called or not, ignored ones too. UNUSED spares the body, _DROP the whole method."""

    class Holder:
        def __init__(self, stride: int):
            self.stride = stride

    Holder.__name__ = f"Holder_{name}_{kind}"
    Holder.helper = _body(kind)
    Holder.helper._torchscript_modifier = MEMBERS[name]

    if name == "_DROP" or (name == "UNUSED" and kind == "uncompilable"):
        assert torch.jit.script(Holder) is Holder
    else:
        with pytest.raises(
            (RuntimeError, ValueError, FrontendError), match=r"try blocks aren't|Unknown type .*Callable"
        ):
            torch.jit.script(Holder)


def test_an_ignored_method_without_annotations():
    """It is taken to return a tensor where its result is used, and None where it is not: a result nobody asked for raises."""

    class Used(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return self.helper(x)

        @torch.jit.ignore
        def helper(self, x):
            return x + 1

    class Unused(Used):
        def forward(self, x: Tensor) -> Tensor:
            self.helper(x)
            return x

    assert jit.script(Used().eval())(ZERO).item() == PYTHON
    with pytest.raises(RuntimeError, match=r"Cannot cast tensor.* to None"):
        jit.script(Unused().eval())(ZERO)


@pytest.mark.parametrize("name", NAMES)
def test_postponed_annotations(name):
    """Under `from __future__ import annotations` annotations are text. What is compiled is read from source and does not mind; of
    what is not compiled the signature is taken from Python, and text is no type there."""
    module = _module(name, True)
    type(module).helper.__annotations__ = {"x": "Tensor", "return": "Tensor"}

    if EFFECTS[name].compiled == "never":
        with pytest.raises(ValueError, match="Unknown type annotation: 'Tensor'"):
            jit.script(module)
    else:
        assert jit.script(module)(ZERO).item() == COMPILED


# --- calling --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_what_a_call_from_forward_does(name):
    module = _module(name, True)
    scripted, expected = jit.script(module), EFFECTS[name].call

    assert module(ZERO).item() == PYTHON, "no modifier changes the module that was scripted"
    if expected is None:
        with pytest.raises(torch.jit.Error, match=NEVER_RUN):
            scripted(ZERO)
    else:
        assert scripted(ZERO).item() == expected


@pytest.mark.parametrize("called", CALLED)
@pytest.mark.parametrize("name", NAMES)
def test_what_the_wrapper_has(name, called):
    """A compiled method, the Python method, or nothing."""
    effect, scripted = EFFECTS[name], jit.script(_module(name, CALLED[called]))

    if effect.compiled == "always" or (effect.compiled == "called" and CALLED[called]):
        assert isinstance(scripted.helper, torch._C.ScriptMethod) and scripted.helper(ZERO).item() == COMPILED
    elif effect.stays:
        assert scripted.helper.__self__ is scripted and scripted.helper(ZERO).item() == PYTHON
    else:
        with pytest.raises(AttributeError, match="'RecursiveScriptModule' object has no attribute 'helper'"):
            scripted.helper  # noqa: B018 - reading it is the test


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_every_wrapper_has(name):
    """What is copied for COPY_TO_SCRIPT_WRAPPER are names the wrapper's class has a default for, such as `__len__`. The copy belongs
    to the original module: it does not see what is set on the wrapper. UNUSED, IGNORE and _DROP bind theirs to the wrapper."""

    class Counted(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.count = 3

        def __len__(self) -> int:
            return self.count

        def forward(self, x: Tensor) -> Tensor:
            return x

    Counted.__len__._torchscript_modifier = MEMBERS[name]
    scripted = jit.script(Counted().eval())
    scripted.count = 5

    if name == "DEFAULT":
        with pytest.raises(NotImplementedError):
            len(scripted)
    else:
        assert len(scripted) == (3 if name == "COPY_TO_SCRIPT_WRAPPER" else 5)
    loaded = jit.reloaded(scripted)
    assert ("__len__" in loaded._c._method_names()) == (name == "EXPORT")
    with pytest.raises(
        NotImplementedError
    ):  # an exported one is in the file, and the loaded wrapper does not look there
        len(loaded)


def test_what_torch_copies_itself():
    """The containers. A scripted one has a length and an order, and hands out the layers it was made of, which are not compiled; a
    loaded one has neither. By their names both give compiled layers."""
    layers = nn.ModuleList([nn.Identity(), nn.ReLU()])
    marked = [layers.__len__, layers.__iter__, layers.__getitem__, layers.__dir__]

    class Holder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = layers

        def forward(self, x: Tensor) -> Tensor:
            for layer in self.layers:
                x = layer(x)
            return x

    scripted = jit.script(Holder().eval())
    loaded = jit.reloaded(scripted)

    assert {get_torchscript_modifier(method) for method in marked} == {MEMBERS["COPY_TO_SCRIPT_WRAPPER"]}
    assert len(scripted.layers) == 2 and list(scripted.layers) == list(layers)
    assert scripted.layers[1] is layers[1] and not isinstance(scripted.layers[1], torch.jit.ScriptModule)
    for container in (scripted.layers, loaded.layers):
        assert getattr(container, "1").original_name == "ReLU"
        assert [layer.original_name for layer in container.children()] == ["Identity", "ReLU"]
    for read in (len, iter, lambda container: container[1]):
        with pytest.raises(NotImplementedError):
            read(loaded.layers)


@pytest.mark.parametrize("name", NAMES)
def test_functions(name):
    """A free function is what a called method is; there is nothing to export or to copy."""

    def helper(x: Tensor) -> Tensor:
        if torch.jit.is_scripting():
            return x + 2
        return x + 1

    helper._torchscript_modifier = MEMBERS[name]

    class Probe(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return helper(x)

    effect, scripted = EFFECTS[name], jit.script(Probe().eval())

    if effect.call is None:
        with pytest.raises(torch.jit.Error, match=NEVER_RUN):
            scripted(ZERO)
    else:
        assert scripted(ZERO).item() == effect.call
    if effect.saves:
        jit.reloaded(scripted)
    else:
        with pytest.raises(RuntimeError, match="Could not export Python function call 'helper'"):
            jit.reloaded(scripted)


# --- saving, and loading where none of this code is -----------------------------------------------------------------

LOADED = """
import json, sys, warnings
import torch
warnings.simplefilter("ignore")
found = {}
for path in sys.argv[1:]:
    module, found[path] = torch.jit.load(path), {}
    for name in ("forward", "helper"):
        try:
            found[path][name] = getattr(module, name)(torch.zeros(1)).item()
        except Exception as error:
            found[path][name] = str(error)
assert not {"detparity", "suites"} & {name.split(".")[0] for name in sys.modules}
print("FOUND", json.dumps(found))
"""


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory) -> Dict[str, Dict[str, object]]:
    """What every module that can be saved does in another process, by `NAME-called` and `NAME-aside`."""
    folder = tmp_path_factory.mktemp("modifiers")
    paths: List[str] = []
    for name, called in itertools.product(NAMES, CALLED):
        if EFFECTS[name].saves or not CALLED[called]:
            paths.append(f"{name}-{called}.pt")
            jit.save(jit.script(_module(name, CALLED[called])), str(folder / paths[-1]), {})
    command = [sys.executable, "-c", LOADED, *paths]
    result = subprocess.run(command, capture_output=True, text=True, cwd=str(folder))
    assert result.returncode == 0, result.stderr[-2000:]
    return {path[:-3]: found for path, found in json.loads(result.stdout.rpartition("FOUND")[2]).items()}


@pytest.mark.parametrize("called", CALLED)
@pytest.mark.parametrize("name", NAMES)
def test_what_is_left_after_saving_and_loading(name, called, elsewhere):
    """Compiled methods only. A call that raises still raises; a call into Python keeps the file from being written."""
    effect = EFFECTS[name]
    if CALLED[called] and not effect.saves:
        assert f"{name}-{called}" not in elsewhere
        with pytest.raises(RuntimeError, match="Could not export Python function call 'helper'"):
            jit.reloaded(jit.script(_module(name, True)))
        return
    found = elsewhere[f"{name}-{called}"]

    if not CALLED[called]:
        assert found["forward"] == ASIDE
    elif effect.call is None:
        assert "annotated to be ignored and cannot be run" in found["forward"]
    else:
        assert found["forward"] == COMPILED
    if effect.compiled == "always" or (effect.compiled == "called" and CALLED[called]):
        assert found["helper"] == COMPILED
    else:
        assert "'RecursiveScriptModule' object has no attribute 'helper'" in found["helper"]
