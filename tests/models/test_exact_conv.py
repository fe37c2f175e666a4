"""A convolution by strips is the convolution, whatever its geometry, in our modules and under dispatch."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from detparity.models import exact_conv
from detparity.models.exact_conv import ByStrips, use_strips

PAIR = st.tuples(st.integers(1, 3), st.integers(1, 3))


@pytest.fixture
def small(monkeypatch):
    """Strips of a few rows for any convolution, and how many were run."""
    strips = []
    plain = torch.nn.functional.conv2d
    monkeypatch.setattr(exact_conv, "LARGE_BYTES", 0)
    monkeypatch.setattr(exact_conv, "STRIP_BYTES", 3000)
    monkeypatch.setattr(
        torch.nn.functional, "conv2d", lambda *args, **kwargs: strips.append(1) or plain(*args, **kwargs)
    )
    return strips


@settings(max_examples=25, deadline=None)
@given(
    st.integers(1, 2), st.integers(1, 4), st.integers(1, 3), PAIR, PAIR, PAIR, st.tuples(st.integers(0, 3), st.integers(0, 3)),
    st.tuples(st.integers(7, 24), st.integers(7, 24)), st.integers(1, 2), st.booleans(),
    st.integers(1, 20000), st.sampled_from([1, 99]),
)  # fmt: skip
def test_strips_are_the_convolution(
    batch, channels, out, kernel, stride, dilation, padding, size, groups, bias, strip, fewest
):
    conv = nn.Conv2d(channels * groups, out * groups, kernel, stride, padding, dilation, groups, bias).double()
    x = torch.randn(batch, channels * groups, *size, dtype=torch.float64)
    with pytest.MonkeyPatch.context() as patch, torch.no_grad():
        patch.setattr(exact_conv, "LARGE_BYTES", 0)
        patch.setattr(exact_conv, "STRIP_BYTES", strip)
        patch.setattr(exact_conv, "FEWEST_CHANNELS", fewest)
        found = ByStrips(conv)(x)
    assert torch.allclose(found, conv(x), rtol=1e-12, atol=1e-12) and found.shape == conv(x).shape


def test_every_convolution_of_a_model_is_replaced_but_those_with_other_padding(small):
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 1), nn.Conv2d(4, 2, 3, padding_mode="reflect", padding=1))
    )
    x = torch.randn(1, 3, 40, 40, dtype=torch.float64)
    before = model.double()(x)
    use_strips(model)
    assert isinstance(model[0], ByStrips) and isinstance(model[1][0], ByStrips) and type(model[1][1]) is nn.Conv2d
    del small[:]
    assert torch.allclose(model(x), before, rtol=1e-12, atol=1e-12)
    assert len(small) > 10


@pytest.mark.parametrize("fewest", [1, 16])
def test_the_dispatch_mode_runs_strips(fewest, monkeypatch):
    pytest.importorskip("torch", minversion="1.13")
    from detparity.models.float64 import exactly

    conv = nn.Conv2d(3, 4, 3, padding=1)
    x = torch.randn(2, 3, 30, 20)
    expected = nn.functional.conv2d(x.double(), conv.weight.double(), conv.bias.double(), padding=1)
    monkeypatch.setattr(exact_conv, "FEWEST_CHANNELS", fewest)
    monkeypatch.setattr(exact_conv, "LARGE_BYTES", 0)
    monkeypatch.setattr(exact_conv, "STRIP_BYTES", 3000)
    calls: list = []
    plain = exact_conv.by_strips
    monkeypatch.setattr(exact_conv, "by_strips", lambda *args: calls.append(1) or plain(*args))
    with torch.no_grad(), exactly():
        found = conv.double()(x.double())
    assert calls and torch.allclose(found, expected, rtol=1e-12, atol=1e-12)


def test_a_model_in_evaluation_stays_in_it():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Sequential(nn.Conv2d(4, 4, 1))).eval()
    use_strips(model)

    assert not any(part.training for part in model.modules())
