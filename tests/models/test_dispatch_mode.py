"""Modes of ours cost no compiler, and what a model compiles runs uncompiled inside them."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import nn

pytest.importorskip("torch.utils._python_dispatch", reason="torch 1.13 has dispatch modes")


def _wraps() -> bool:
    from torch.utils._python_dispatch import TorchDispatchMode

    return hasattr(TorchDispatchMode, "_should_skip_dynamo")


def test_an_operator_under_a_mode_does_not_load_the_compiler():
    if not _wraps():
        pytest.skip("this torch does not wrap modes")
    code = (
        "import sys, torch; from detparity.models.float64 import exactly\n"
        "with exactly(): assert (torch.zeros(1) + 1).dtype is torch.float64\n"
        "assert 'torch._dynamo' not in sys.modules"
    )

    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)


def test_what_a_model_compiles_runs_uncompiled_inside_a_mode():
    if not _wraps():
        pytest.skip("this torch compiles nothing inside a mode")
    from detparity.models.float64 import exactly

    compiled = []

    def backend(graph, _):
        compiled.append(graph)
        return graph.forward

    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU()).eval()
    module = torch.compile(plain, backend=backend)
    image = torch.rand(1, 3, 8, 8)
    with torch.no_grad():
        with exactly():
            found, expected = module(image), plain(image)
        assert not compiled
        module(image)

    assert compiled, "outside the mode it is compiled as before"
    assert found.dtype is torch.float64 and torch.equal(found, expected)
