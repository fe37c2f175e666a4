"""A file of half precision is judged by the noise of float16: a good one passes, a defect that float16 does not explain violates."""

from __future__ import annotations

import pytest

pytest.importorskip("torch", minversion="1.13")

import torch
from detparity.kit.tests.checks.foreign import stand_ins
from detparity.kit.tests.checks.foreign.stand_ins import STATIC
from detparity.kit.tests.defects import edits

from detparity.models.rounded import Rounded

pytestmark = pytest.mark.filterwarnings("ignore")


def half(name, edit=lambda model: model):
    float16 = pytest.importorskip("onnxruntime.transformers.float16")
    return float16.convert_float_to_float16(edit(stand_ins.onnx_of(name)), keep_io_types=False)


@pytest.mark.parametrize("name", ["maps", "detr"])
def test_a_good_half_file_passes(name, judged):
    context = judged(name, STATIC, half(name))

    assert context.contract.precision == "float16" and "float16 by its weights" in context.how
    for check in ("parity.declared", "parity.values"):
        assert context.outcome(check).outcome == "passed"


def test_a_defect_beyond_half_precision_is_found(judged):
    def scaled(model):
        edits.splice(model, "logits", lambda x, op: op("Mul", x, 1.02))
        return model

    outcome = judged("detr", STATIC, half("detr", scaled)).outcome("parity.declared")
    assert outcome.outcome == "failed"


def test_views_are_written_through_and_types_as_stated():
    x = torch.arange(6.0).half()
    with Rounded():
        x[2:4] = x[2:4] * 1.0001 + 0.1  # each operator rounds
        stated = x.to(torch.float32) * x.float()
        mean = x.sum(dtype=torch.float32)
    assert x.tolist() == [0.0, 1.0, 2.099609375, 3.099609375, 4.0, 5.0]
    assert stated.dtype == mean.dtype == torch.float32
