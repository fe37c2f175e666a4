"""A file of half precision is judged by the noise of float16: a good one passes, a defect that float16 does not explain violates."""

from __future__ import annotations

import copy
import io

import pytest

pytest.importorskip("torch", minversion="1.13")

import numpy as np
import onnx
import torch
from detparity.kit.tests.checks.foreign import stand_ins
from detparity.kit.tests.checks.foreign.stand_ins import STATIC, TRACED
from detparity.kit.tests.defects import edits

from detparity.checks.foreign.measured import islands, low_power
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


def _twice(model):
    """The weights of one layer to bfloat16 and back."""
    name = edits.weight(model, 2)
    values = torch.from_numpy(edits.value_of(model, name).astype("float32")).bfloat16()
    edits.set_value(model, name, values.half().numpy())
    return model


def _exchanged(model):
    """The scales of two channels of one layer."""
    constants = {one.name for one in model.graph.initializer}
    node = next(one for one in edits.nodes(model, "DequantizeLinear")[8:] if one.input[0] in constants)
    values = edits.value_of(model, node.input[1])
    values[[values.argmin(), values.argmax()]] = values[[values.argmax(), values.argmin()]]
    edits.set_value(model, node.input[1], values)
    return model


def _int8():
    pytest.importorskip("onnxruntime.quantization")
    from detparity.kit.exporters.low_precision import to_int8

    from detparity.inputs import images

    pictures = [images.make("scene", stand_ins.SIZE, seed) for seed in range(2)]
    return onnx.load_from_string(to_int8(stand_ins.onnx_of("maps").SerializeToString(), pictures))


@pytest.mark.parametrize(
    "make, spoil", [(lambda: half("maps"), _twice), (_int8, _exchanged)], ids=["rounded twice", "channels exchanged"]
)
def test_weights_of_lower_precision_are_the_models_rounded_once(make, spoil, judged):
    model = make()
    good = judged("maps", STATIC, model).outcome("precision.weights")
    assert good.outcome == "passed", good.findings

    (finding,) = judged("maps", STATIC, spoil(model)).outcome("precision.weights").findings
    assert (
        finding.message.startswith("stores 1 of ")
        and " convolutions with other numbers than the model's" in finding.message
    )


def test_a_file_of_8_bits_without_its_rounding_is_its_model(judged):
    model = _int8()
    good = judged("maps", STATIC, model).outcome("precision.unrounded")
    assert good.outcome == "passed", (good.reason, good.findings)

    edits.splice(model, model.graph.input[0].name, lambda x, op: op("Gather", x, np.array([2, 1, 0]), axis=1))
    (finding,) = judged("maps", STATIC, model).outcome("precision.unrounded").findings
    assert finding.message.startswith("without its rounding to 8 bits ")


def test_views_are_written_through_and_types_as_stated():
    x = torch.arange(6.0).half()
    with Rounded():
        x[2:4] = x[2:4] * 1.0001 + 0.1  # each operator rounds
        stated = x.to(torch.float32) * x.float()
        mean = x.sum(dtype=torch.float32)
    assert x.tolist() == [0.0, 1.0, 2.099609375, 3.099609375, 4.0, 5.0]
    assert stated.dtype == mean.dtype == torch.float32


def _overflowing():
    """A stage whose features are beyond float16, which the next convolution scales back."""
    module = copy.deepcopy(stand_ins.made("maps"))
    with torch.no_grad():
        for value in (module.stages[0][1].weight, module.stages[0][1].bias):
            value.mul_(1e6)
        module.stages[1][0].weight.div_(1e6)
    return module


def _in_half(module):
    half = copy.deepcopy(module).half()
    try:
        traced = torch.jit.trace(half, torch.zeros(1, 3, *stand_ins.SIZE).half())
    except RuntimeError as error:
        pytest.skip(f"this torch has no half kernels: {error}")
    buffer = io.BytesIO()
    torch.jit.save(traced, buffer)
    return buffer.getvalue()


def test_what_float16_cannot_hold_stays_in_float32_in_the_noise(judged):
    module = _overflowing()
    context = judged("maps", TRACED, _in_half(module), module, quick=False)

    assert context.outcome("parity.declared").outcome == "failed"
    assert not [one for one in low_power(context) if "overflows" in one]
    assert [
        one for one in context.oracle.reference.facts.notes if "float16 cannot hold the numbers of stages.0.1" in one
    ]
    first, *others = islands(context)
    assert first["left"] == "stages.0.1, stages.0.2"
    assert {one["left"] for one in others} <= {"stem", "stages", "heads"} and len(others) == 3


def test_parts_in_float32_gain_what_their_rounding_costs(judged):
    context = judged("maps", STATIC, half("maps"))
    first, *others = islands(context)
    errors = {one["left"]: one["errors"] for one in others}

    assert first["left"] == "nothing" and len(others) == 3
    assert sum(errors["stages"].values()) < sum(first["errors"].values())


def test_a_bias_of_one_number_is_one_of_the_model_s_tensors_and_a_scalar_is_none():
    from detparity.models.module_reference import Made, ModuleReference
    from detparity.models.reference import ReferenceFacts

    module = torch.nn.Conv2d(3, 1, 2).eval()
    module.register_buffer("factor", torch.tensor(2.0))
    found = ModuleReference(Made(module, ReferenceFacts("one channel", "", (1, 3, 32, 32), ()))).weights()

    assert np.array_equal(found["bias"], module.bias.detach().numpy()) and "factor" not in found
