"""Copies of modules: nothing that the original has is shared, however the empty dictionaries of its parts are copied."""

from __future__ import annotations

from collections import OrderedDict

import pytest
import torch

from detparity.models.module_copy import copied


@pytest.mark.smoke
def test_a_copy_has_dictionaries_of_its_own_and_gives_the_same():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU()).eval()
    model.notes, model[0].notes = {}, OrderedDict()
    model[1].same = model.notes  # one dictionary in two places stays one
    copy, shared = copied(model)

    for part, other in zip(model.modules(), copy.modules()):
        assert list(vars(part)) == list(vars(other))
        for name, value in vars(part).items():
            assert type(value) is type(vars(other)[name])
            assert not isinstance(value, dict) or value is not vars(other)[name]
    assert copy[1].same is copy.notes and not shared
    copy[0].register_forward_hook(lambda module, inputs, output: output + 1)
    x = torch.ones(1, 3, 5, 5)
    with torch.no_grad():
        assert torch.equal(copy(x), (model[0](x) + 1).relu()) and not model[0]._forward_hooks
