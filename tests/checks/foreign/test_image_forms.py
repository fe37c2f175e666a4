"""Images as modules take them: integers, channels last, pixels to 255, with the preprocessing inside the module or the file alone."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

torch = pytest.importorskip("torch", minversion="1.13")

from torch import nn  # noqa: E402

import detparity  # noqa: E402
from detparity.checks.foreign.open_file import ForeignSource, open_context  # noqa: E402
from detparity.core.clock import Clock  # noqa: E402
from detparity.core.errors import InputError  # noqa: E402
from detparity.models.captured_reference import promises_of, reference_of  # noqa: E402
from detparity.models.module_reference import Made, ModuleReference  # noqa: E402
from detparity.models.reference import ReferenceFacts  # noqa: E402

SIDES = (16, 24)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


class Detector(nn.Module):
    """divides: by what pixels are divided; last: whether channels are the last axis; integral: whether pixels are integers."""

    def __init__(self, divides: float = 1.0, last: bool = False, integral: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 4, 4)
        self.divides, self.last, self.integral = divides, last, integral

    def example(self):
        shape = (1, *SIDES, 3) if self.last else (1, 3, *SIDES)
        found = torch.rand(shape) * self.divides
        return found.byte() if self.integral else found

    def forward(self, images):
        images = images.permute(0, 3, 1, 2) if self.last else images
        return self.conv(images.float() / self.divides).flatten(2).transpose(1, 2)


FORMS = {
    "integers": {"divides": 255.0, "integral": True},
    "channels last": {"last": True},
    "integers, channels last": {"divides": 255.0, "last": True, "integral": True},
    "pixels to 255": {"divides": 255.0},
}


@pytest.fixture
def captured(tmp_path, monkeypatch):
    """Call with a form and what happens to the module before it is traced: the context of the file, against the module of its call."""
    monkeypatch.chdir(tmp_path)

    def judge(form, change=lambda module: None):
        module = Detector(**FORMS[form]).eval()
        with detparity.capture() as exports:
            torch.jit.trace(module, module.example())
        call = exports.captures[0]
        change(module)
        torch.jit.trace(module, module.example()).save("best.pt")
        reference = reference_of(call)
        return open_context(
            tmp_path / "best.pt", ForeignSource(lambda _: reference, lambda _: promises_of(call)), None, Clock(), True
        )

    return judge


def _scale(module):
    with torch.no_grad():
        module.conv.weight.mul_(1 + 1e-4)


@pytest.mark.parametrize("form", FORMS)
def test_the_file_is_given_what_the_captured_module_takes(form, captured):
    right = captured(form)
    assert right.outcome("parity.declared").outcome == "passed"
    assert right.outcome("parity.values").outcome == "passed"
    assert captured(form, _scale).outcome("parity.declared").outcome == "failed"


def test_pixels_are_as_large_as_those_of_the_example(captured):
    assert captured("pixels to 255").given(captured("pixels to 255").declared).max() > 250
    taken = captured("integers").given(captured("integers").declared)
    assert taken.dtype == np.uint8 and taken.max() > 250


def _file(module: Detector, divides: float) -> onnx.ModelProto:
    """An ONNX file that takes 8-bit pixels and prepares them itself."""
    numbers = {
        "by": np.float32(divides),
        "mean": np.array(MEAN, np.float32).reshape(3, 1, 1),
        "std": np.array(STD, np.float32).reshape(3, 1, 1),
        "weight": module.conv.weight.detach().numpy(),
        "bias": module.conv.bias.detach().numpy(),
        "shape": np.array([1, 6, -1]),
    }
    nodes = [
        helper.make_node("Cast", ["images"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["pixels", "by"], ["parts"]),
        helper.make_node("Sub", ["parts", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["prepared"]),
        helper.make_node("Conv", ["prepared", "weight", "bias"], ["features"], strides=[4, 4]),
        helper.make_node("Reshape", ["features", "shape"], ["flat"]),
        helper.make_node("Transpose", ["flat"], ["output"], perm=[0, 2, 1]),
    ]
    given = helper.make_tensor_value_info("images", TensorProto.UINT8, (1, 3, *SIDES))
    rows = SIDES[0] * SIDES[1] // 16
    gives = helper.make_tensor_value_info("output", TensorProto.FLOAT, (1, rows, 6))
    stored = [numpy_helper.from_array(np.asarray(value), name) for name, value in numbers.items()]
    graph = helper.make_graph(nodes, "g", [given], [gives], stored)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@pytest.mark.parametrize(("divides", "outcome"), [(255.0, "passed"), (256.0, "failed")])
def test_preprocessing_that_the_file_alone_has(divides, outcome, tmp_path):
    from detparity.core.layout import Preprocessing

    module = Detector().eval()
    onnx.save(_file(module, divides), str(tmp_path / "best.onnx"))
    facts = ReferenceFacts("detector", "", (1, 3, *SIDES), (), preprocessing=Preprocessing(1.0, MEAN, STD))
    reference = ModuleReference(Made(module, facts))
    context = open_context(tmp_path / "best.onnx", ForeignSource(lambda _: reference), None, Clock(), True)
    assert context.outcome("parity.declared").outcome == outcome


@pytest.mark.parametrize("shape", [(1, 1, *SIDES), (1, 2)])
def test_what_is_no_colour_image_is_one_line(shape, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with detparity.capture() as exports:
        torch.jit.trace(nn.Identity(), torch.zeros(shape))
    with pytest.raises(InputError, match="one image of three channels can be judged, and no others yet"):
        reference_of(exports.captures[0])


class Scaled(nn.Module):
    """Boxes in pixels of the original image, whose height and width are another input; wrong: in the other order."""

    def __init__(self, wrong: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 4, 4, 4)
        self.wrong = wrong

    def forward(self, images, sizes):
        rows = self.conv(images).sigmoid().flatten(2).transpose(1, 2)
        sizes = sizes.flip(1) if self.wrong else sizes
        return rows * torch.cat([sizes, sizes], 1)[:, None].float()


@pytest.mark.parametrize(("wrong", "outcome"), [(False, "passed"), (True, "failed")])
def test_other_inputs_are_given_as_in_the_captured_call(wrong, outcome, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    example = (torch.rand(2, 3, *SIDES), torch.tensor([[480, 640], [480, 640]]))
    with detparity.capture() as exports:
        torch.jit.trace(Scaled().eval(), example)
    torch.jit.trace(Scaled(wrong).eval(), example).save("best.pt")
    reference, promises = reference_of(exports.captures[0]), promises_of(exports.captures[0])
    context = open_context(
        tmp_path / "best.pt", ForeignSource(lambda _: reference, lambda _: promises), None, Clock(), True
    )
    assert context.outcome("parity.declared").outcome == outcome
    assert [len(one) for count in (1, 2, 3) for one in promises.beside(count)] == [1, 2, 3]


def test_a_file_with_another_input_of_unknown_numbers_is_one_line(tmp_path):
    module = Detector().eval()
    file = _file(module, 255.0)
    file.graph.input.append(helper.make_tensor_value_info("sizes", TensorProto.INT64, (1, 2)))
    onnx.save(file, str(tmp_path / "best.onnx"))
    reference = ModuleReference(Made(module, ReferenceFacts("detector", "", (1, 3, *SIDES), ())))
    with pytest.raises(
        InputError, match="'sizes' beside an image, where nothing is known to be given: `detparity capture"
    ):
        open_context(tmp_path / "best.onnx", ForeignSource(lambda _: reference), None, Clock(), True)


def test_a_flag_that_changes_no_number_decides_nothing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = Detector()  # in training mode, and no part of it computes otherwise there
    with detparity.capture() as exports:
        torch.jit.trace(module, module.example()).save("best.pt")
    reference = reference_of(exports.captures[0])
    context = open_context(tmp_path / "best.pt", ForeignSource(lambda _: reference), None, Clock(), True)
    assert [finding.level for finding in context.outcome("script.training").findings] == ["SHOULD"]
