"""The user's own code as a model: what is taken, and one line for what is not."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from detparity.kit.tests.models.adapters.user_code import CODE

from detparity.core import environment
from detparity.core.errors import InputError
from detparity.models.reference import ModelRequest

if not environment.holds({"torch": ">=1.13"}, environment.environment()):
    pytest.skip("float64 of any module needs torch 1.13", allow_module_level=True)
from detparity.models import adapters
from detparity.models.adapters import user
from detparity.models.module_reference import ModuleReference

SMALL = (32, 32)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("user") / "mine.py"
    path.write_text(CODE)
    return path


def _problem(file, name, **given):
    with pytest.raises(InputError) as caught:
        adapters.make(ModelRequest(f"{file}:{name}", size=SMALL, **given))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_the_seed_decides_the_weights(file):
    digests = [
        ModuleReference(adapters.make(ModelRequest(f"{file}:Small", size=SMALL, seed=seed))).facts.digest
        for seed in (1, 1, 2)
    ]

    assert digests[0] == digests[1] != digests[2]


def test_a_size_that_is_asked_for_replaces_the_examples(file):
    assert adapters.make(ModelRequest(f"{file}:with_example", size=(48, 64))).facts.shape == (1, 3, 48, 64)


def test_it_runs_in_evaluation_and_nothing_is_conditioned_unasked(file):
    made = adapters.make(ModelRequest(f"{file}:Small", size=SMALL))

    assert not made.module.training and torch.equal(made.module.bn.running_mean, torch.zeros(4))


def test_conditioning_sets_every_norm(file):
    made = adapters.make(ModelRequest(f"{file}:Small", size=SMALL, condition=True))
    again = adapters.make(ModelRequest(f"{file}:Small", size=SMALL, condition=True))

    assert made.module.bn.running_mean.abs().min() > 0 and made.module.bn.running_var.max() < 0.9
    assert torch.equal(made.module.bn.running_var, again.module.bn.running_var) and not made.module.bn.training


@pytest.mark.parametrize(("name", "shape"), [("with_example", (1, 3, 24, 32)), ("with_shape", (1, 3, 24, 32))])
def test_an_example_gives_the_shape(name, shape, file):
    reference = ModuleReference(adapters.make(ModelRequest(f"{file}:{name}")))

    assert reference.facts.shape == shape
    assert reference.run("eager", np.zeros(shape, np.float32))["boxes"].shape[-2:] == (12, 16)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("raising", "raising of mine.py raised RuntimeError: no such file of weights (mine.py, line 4"),
        ("leaving", "leaving of mine.py raised SystemExit: 3 (mine.py, line 5"),
        ("number", "number of mine.py gives a int, not a torch.nn.Module"),
        ("value", "value of mine.py gives a int, not a torch.nn.Module"),
        ("Smal", "has no Smal; it has "),
        ("Several", "Several of mine.py takes several inputs (images, mask)"),
        ("with_two", "gives an example that is a tuple (Tensor, Tensor), not one image"),
        ("of_text", "takes an input of shape (1, 77), which is no image"),
        ("nothing", "nothing of mine.py does not run an image of shape (1, 3, 32, 32): NotImplementedError"),
        ("printing", "raised KeyError: 'layer' (mine.py, line 5"),
    ],
)
def test_code_that_makes_no_model_is_one_line(name, words, file):
    assert words in _problem(file, name)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"spec": "nowhere.py:Small"}, "nowhere.py: no such file"),
        ({"spec": "no_such_package_at_all:Small"}, "there is no module no_such_package_at_all to import"),
        ({"spec": "Small"}, "--model Small is neither FILE.py:NAME, PKG.MOD:NAME nor"),
        ({"spec": "torchscript:nowhere.pt"}, "nowhere.pt: no such file"),
        ({"arguments": "80, width=0.5"}, "--model-args is no JSON"),
        ({"arguments": "3"}, "--model-args is a int"),
        ({"arguments": '{"wide": 3}'}, "Small of mine.py raised TypeError"),
    ],
)
def test_a_request_that_is_none_is_one_line(given, words, file):
    spec = given.pop("spec", f"{file}:Small")
    with pytest.raises(InputError) as caught:
        adapters.make(ModelRequest(spec, size=SMALL, **given))
    assert words in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("best.pt", "--model ultralytics:best.pt --trust"),
        ("best.onnx", "--against best.onnx"),
        ("best", "neither FILE"),
    ],
)
def test_what_names_no_code_is_refused_with_what_would_do(name, says):
    with pytest.raises(InputError, match=says):
        user.make(name, ModelRequest(name))
