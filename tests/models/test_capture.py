"""Captures of stand-in modules: what a call states, which files it leads to, and that the block sees no difference."""

import contextlib
import dataclasses
import inspect
import io
import os
import shutil
import sys
import threading
import warnings

import pytest
import torch
from torch import nn

import detparity
from detparity.checks import captured
from detparity.core.errors import InputError
from detparity.models import capture_store
from detparity.models.capture import capturing

NEW = tuple(map(int, torch.__version__.split(".")[:2]))
LEGACY = {"dynamo": False} if NEW >= (2, 5) else {}
pytestmark = [
    pytest.mark.skipif(NEW < (1, 13), reason="capture is for torch 1.13 and newer"),
    pytest.mark.filterwarnings("ignore"),
]


class Head(nn.Module):
    def __init__(self):
        super().__init__()
        self.names = ["one", "two"]
        self.conv = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1), nn.BatchNorm2d(8), nn.Conv2d(8, 7, 1))

    def forward(self, images):
        return self.conv(images).flatten(2).sigmoid()


@pytest.fixture
def module():
    torch.manual_seed(0)
    return Head().eval()


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


IMAGES = torch.zeros(1, 3, 16, 16)


def to_onnx(module, f="model.onnx", images=IMAGES, **options):
    names = {"input_names": ["images"], "output_names": ["output"]}
    return torch.onnx.export(module, images, f, **{**names, **LEGACY, **options})


def names(call):
    return [path.name for path in call.files]


def test_a_call_states_its_contract(module, here):
    dynamic = {"images": {0: "batch"}, "output": [0, 2]}
    with capturing() as calls:
        to_onnx(module, dynamic_axes=dynamic, opset_version=13)

    (call,) = calls
    assert call.exporter == "torch.onnx.export"
    assert (call.input_names, call.output_names, call.opset) == (("images",), ("output",), 13)
    assert call.dynamic_axes["images"] == {0: "batch"}
    assert call.dynamic_axes["output"] == {0: "output_dynamic_axes_1", 2: "output_dynamic_axes_2"}
    assert [tuple(value.shape) for value in call.arguments] == [(1, 3, 16, 16)]
    assert names(call) == ["model.onnx"] and not call.problem
    assert call.first.read_bytes() == call.files[0].read_bytes()


def test_the_copy_is_the_module_at_the_call(module, here):
    before = module(IMAGES)
    with capturing() as calls:
        to_onnx(module)
        with torch.no_grad():
            module.conv[0].weight.zero_()

    assert calls[0].module is not module
    assert torch.equal(calls[0].module(IMAGES), before)


def test_the_copy_runs_in_the_mode_that_is_exported(module, here):
    wrapped = nn.Sequential(module)
    module.train()
    assert wrapped.training
    with capturing() as calls:
        to_onnx(wrapped)
        torch.jit.trace(module, IMAGES, check_trace=False).save("model.pt")

    assert not any(part.training for part in calls[0].module.modules())
    assert calls[1].module.training


def test_functions_bound_earlier_under_any_name_are_seen(module, here):
    from torch.onnx import export

    holders = {"export": torch.onnx.utils.export, "trace": torch.jit.trace}
    before = (torch.onnx.export, torch.jit.trace, inspect.signature(torch.onnx.export))
    codes = (torch.onnx.export.__code__, torch.jit.trace.__code__)
    plain = {"input_names": ["images"], "output_names": ["output"]}
    with capturing() as calls:
        assert (torch.onnx.export, torch.jit.trace, inspect.signature(torch.onnx.export)) == before
        export(module, IMAGES, "one.onnx", **LEGACY)
        holders["export"](module, IMAGES, "two.onnx", **plain)
        holders["trace"](module, IMAGES).save("three.pt")

    assert [names(call) for call in calls] == [["one.onnx"], ["two.onnx"], ["three.pt"]]
    assert (torch.onnx.export.__code__, torch.jit.trace.__code__) == codes
    assert "__signature__" not in vars(torch.onnx.export)


def test_nothing_is_seen_after_the_block(module, here):
    with capturing() as calls:
        pass
    to_onnx(module)

    assert list(calls) == []
    assert captured.missing(calls) == [captured.NOTHING]


def test_a_failed_call_raises_what_it_raises_and_is_reported(module, here):
    with capturing() as calls, pytest.raises(Exception) as error:
        to_onnx(module, images=torch.zeros(1, 2))

    (call,) = calls
    assert call.failed and not call.files
    assert call.problem.startswith(f"{type(error.value).__name__}: ")
    (finding,) = captured.findings(calls)
    assert "the script went on and no file was written" in finding.message and finding.level == "MUST"


def test_a_failed_call_after_which_another_wrote_the_file_is_information(module, here):
    with capturing() as calls:
        with contextlib.suppress(Exception):
            to_onnx(module, images=torch.zeros(1, 2))
        to_onnx(module)

    (finding,) = captured.findings(calls)
    assert finding.level == "INFO" and "then wrote model.onnx" in finding.message


def test_wrong_arguments_raise_as_they_did(module):
    with capturing() as calls, pytest.raises(TypeError, match="nonsense"):
        torch.jit.trace(module, IMAGES, nonsense=1)

    assert list(calls) == []


def test_a_warning_names_the_line_of_the_script(here):
    class Odd(nn.Module):
        def forward(self, images):
            return images

    def trace():
        with warnings.catch_warnings(record=True) as found:
            warnings.simplefilter("always")
            torch.jit.trace(Odd(), IMAGES, optimize=True)
        return [(str(one.message), one.filename) for one in found if "optimize" in str(one.message)]

    bare = trace()
    with capturing():
        watched = trace()

    assert watched == bare and bare


def test_a_file_is_followed_through_its_later_versions(module, here):
    onnx = pytest.importorskip("onnx")
    with capturing() as calls:
        to_onnx(module)
        loaded = onnx.load("model.onnx")
        loaded.producer_name = "changed"
        onnx.save(loaded, "model.onnx")
        onnx.save(loaded, "model_sim.onnx")
        os.makedirs("out")
        os.replace("model.onnx", "out/final.onnx")
        shutil.copyfile("out/final.onnx", "out/again.onnx")

    assert names(calls[0]) == ["final.onnx", "again.onnx", "model_sim.onnx"]
    assert onnx.load(str(calls[0].files[0])).producer_name == "changed"
    assert onnx.load(str(calls[0].first)).producer_name != "changed"


def test_a_derived_file_belongs_to_the_call_it_shares_numbers_with(module, here):
    onnx = pytest.importorskip("onnx")
    torch.manual_seed(1)
    other = Head().eval()
    with capturing() as calls:
        to_onnx(module, "one.onnx")
        to_onnx(other, "two.onnx")
        onnx.save(onnx.load("one.onnx"), "derived.onnx")

    assert [names(call) for call in calls] == [["one.onnx", "derived.onnx"], ["two.onnx"]]


def test_a_file_of_no_call_is_unclaimed(module, here):
    onnx = pytest.importorskip("onnx")
    identity = onnx.helper.make_graph(
        [onnx.helper.make_node("Identity", ["x"], ["y"])],
        "g",
        [onnx.helper.make_tensor_value_info("x", 1, [1])],
        [onnx.helper.make_tensor_value_info("y", 1, [1])],
    )
    with capturing() as calls:
        to_onnx(module)
        onnx.save(onnx.helper.make_model(identity), "stranger.onnx")

    assert names(calls[0]) == ["model.onnx"]
    assert [path.name for path in calls.unclaimed] == ["stranger.onnx"]
    assert "comes from none of the calls" in captured.missing(calls)[0]


def test_a_file_that_another_call_overwrites_is_that_call_s(module, here):
    with capturing() as calls:
        to_onnx(module)
        to_onnx(module, opset_version=14)

    assert [names(call) for call in calls] == [[], ["model.onnx"]]


@pytest.mark.skipif(NEW >= (2, 9), reason="file objects are for the exporters before 2.9")
def test_an_open_file(module, here):
    with capturing() as calls, open("model.onnx", "wb") as stream:
        to_onnx(module, stream)

    assert names(calls[0]) == ["model.onnx"]


def test_a_stream_that_is_written_later(module, here):
    pytest.importorskip("onnx")
    with capturing() as calls:
        stream = io.BytesIO()
        to_onnx(module, stream)
        (here / "late.onnx").write_bytes(stream.getvalue())

    assert names(calls[0]) == ["late.onnx"]
    assert calls[0].first.read_bytes() == calls[0].files[0].read_bytes()


def test_a_program_in_a_stream_that_is_written_later(module, here):
    with capturing() as calls:
        stream = io.BytesIO()
        torch.jit.save(torch.jit.trace(module, IMAGES), stream)
        (here / "late.pt").write_bytes(stream.getvalue())

    assert [names(call) for call in calls] == [["late.pt"]] and not calls.unclaimed


def test_torchscript_and_what_is_made_of_it(module, here):
    with capturing() as calls:
        traced = torch.jit.trace(module, IMAGES)
        traced.save("traced.pt")
        torch.jit.save(traced, "again.pt")
        to_onnx(traced)
        torch.jit.freeze(torch.jit.script(module)).save("frozen.pt")
        torch.jit.trace(module, IMAGES)._save_for_lite_interpreter("lite.ptl")

    found = {name: call for call in calls for name in names(call)}
    assert set(found) == {"traced.pt", "again.pt", "model.onnx", "frozen.pt", "lite.ptl"}
    assert {type(call.module) for call in found.values()} == {Head}
    assert found["model.onnx"].module is found["traced.pt"].module
    assert found["frozen.pt"].exporter == "torch.jit.script"
    assert found["lite.ptl"].exporter == "torch.jit.trace"
    assert captured.missing(calls) == []


def test_a_program_that_is_optimised_comes_from_the_same_call(module, here):
    from torch.utils.mobile_optimizer import optimize_for_mobile

    with capturing() as calls:
        traced = torch.jit.trace(module, IMAGES)
        try:
            optimised = optimize_for_mobile(traced)
        except RuntimeError as error:
            pytest.skip(str(error).splitlines()[0][-80:])
        optimised._save_for_lite_interpreter("lite.ptl")

    assert [(call.exporter, names(call)) for call in calls] == [("torch.jit.trace", ["lite.ptl"])]


def test_a_program_that_was_loaded_has_its_own_code_as_reference(module, here):
    torch.jit.trace(module, IMAGES).save("before.pt")
    with capturing() as calls:
        torch.jit.load("before.pt").save("after.pt")

    assert names(calls[0]) == ["after.pt"] and isinstance(calls[0].module, torch.jit.ScriptModule)


@pytest.mark.skipif(NEW < (2, 6), reason="the exporter by torch.export is new in 2.5 and complete in 2.6")
def test_the_exporter_by_torch_export(module, here):
    pytest.importorskip("onnxscript")
    with capturing() as calls:
        shapes = ({0: torch.export.Dim("batch"), 2: None},)
        program = torch.onnx.export(module, (torch.zeros(2, 3, 16, 16),), dynamo=True, dynamic_shapes=shapes)
        program.save("model.onnx")
        torch.export.save(torch.export.export(module, (IMAGES,)), "program.pt2")

    assert [call.exporter for call in calls] == ["torch.onnx.export (dynamo)", "torch.export"]
    assert [names(call) for call in calls] == [["model.onnx"], ["program.pt2"]]
    assert calls[0].dynamic_axes == {"images": {0: "batch"}}


def test_a_module_that_cannot_be_copied_has_a_problem_and_the_export_goes_on(here):
    class Stubborn(Head):
        def __deepcopy__(self, memo):
            raise RuntimeError("not me")

    with capturing() as calls:
        to_onnx(Stubborn().eval())

    assert calls[0].module is None and "not me" in calls[0].problem
    assert "has no reference" in captured.missing(calls)[0]


def test_what_cannot_be_copied_is_shared_and_named(module, here):
    module.lock = threading.Lock()
    with capturing() as calls:
        to_onnx(module)

    assert calls[0].shared == ("lock",)


def test_the_list_is_filled_where_the_block_raises(module, here):
    with pytest.raises(KeyError), capturing() as calls:
        to_onnx(module)
        raise KeyError

    assert names(calls[0]) == ["model.onnx"]


def test_a_command_that_starts_python_is_noted(here):
    import subprocess

    with capturing() as calls:
        subprocess.run([sys.executable, "-c", "pass"], check=True)

    assert "started Python itself" in captured.missing(calls)[-1]


def test_captures_are_stored_and_read(module, here):
    with capturing() as calls:
        to_onnx(module, dynamic_axes={"images": {0: "batch"}})
    capture_store.write(calls, here / "kept")

    (plain,) = capture_store.read(here / "kept")
    (trusted,) = capture_store.read(here / "kept", trust=True)

    assert plain.module is None and "--trust" in plain.problem
    assert plain.dynamic_axes == calls[0].dynamic_axes and plain.first.read_bytes() == calls[0].first.read_bytes()
    assert torch.equal(trusted.module(IMAGES), module(IMAGES)) and not trusted.problem
    assert torch.equal(trusted.arguments[0], IMAGES)


def test_a_module_that_cannot_be_pickled_is_stored_without(module, here):
    module.function = lambda images: images
    with capturing() as calls:
        to_onnx(module)
    capture_store.write(calls, here / "kept")

    (found,) = capture_store.read(here / "kept", trust=True)
    assert found.module is None and "cannot be pickled" in found.problem


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"format": "other"}', '{"format": "detparity-captures-1", "calls": [{"first": "../x"}]}']
)
def test_damaged_captures_are_refused(here, text):
    (here / "captures.json").write_text(text)

    with pytest.raises(InputError):
        capture_store.read(here)


def test_a_folder_with_other_files_is_not_written_to(here):
    (here / "notes.txt").write_text("mine")

    with capturing() as calls:
        pass
    with pytest.raises(InputError, match="holds other files"):
        capture_store.write(calls, here)


def test_the_fixture_for_a_test_of_your_own(module, here):
    with detparity.capture() as exports:
        to_onnx(module)

    assert names(exports.captures[0]) == ["model.onnx"]
    assert exports.verify(quick=True, precision="float32")["verdict"] == "conforms"
    with pytest.raises(AssertionError, match="is float32 by its weights where float16 is promised"):
        exports.verify(checks="precision.promised", precision="float16")
    with pytest.raises(InputError, match="is not one of its limits"):
        exports.verify(budget="speed=1")


def test_the_fixture_finds_what_a_later_step_breaks(module, here):
    onnx = pytest.importorskip("onnx")
    with detparity.capture() as exports:
        to_onnx(module)
        loaded = onnx.load("model.onnx")
        weight = next(one for one in loaded.graph.initializer if one.name.endswith("2.weight"))
        weight.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(weight) * 1.01, weight.name))
        onnx.save(loaded, "model.onnx")

    with pytest.raises(AssertionError, match="parity"):
        exports.verify(quick=True)


@pytest.mark.skipif(NEW < (2, 5), reason="Dim.AUTO is of torch 2.5")
def test_hints_of_axes_are_no_promises():
    from detparity.core.promises import OPEN
    from detparity.models.capture_contract import _axes

    dim = torch.export.Dim
    found = _axes({0: "batch", 1: None, 2: dim.AUTO, 3: getattr(dim, "STATIC", None), 4: dim("side") * 32})
    assert found == {0: "batch", 2: OPEN, 4: ""}


def test_arguments_by_name_are_in_the_order_of_the_parameters(here):
    from detparity.models.captured_reference import promises_of, reference_of

    class Sized(Head):
        def forward(self, images, height, width):
            return super().forward(images) * height / width

    sides = {"width": torch.tensor(2.0), "images": IMAGES, "height": torch.tensor(1.0)}
    with capturing() as calls:
        torch.jit.trace(Sized(), (IMAGES, sides["height"], sides["width"]))
    call = dataclasses.replace(calls[0], arguments=(), kwargs=sides)
    assert [float(value) for value in promises_of(call).others] == [1.0, 2.0]
    assert reference_of(call).run("exact", IMAGES.numpy())


@pytest.mark.parametrize(
    ("inputs", "outputs", "wrong"),
    [
        (["images", "weight", "bias"], ["output"], []),
        (["images"], ["first"], []),
        (["images", "other"], ["output"], ["inputs"]),
        (["images"], ["output", "other"], ["outputs"]),
    ],
)
def test_names_are_taken_in_order(inputs, outputs, wrong):
    from types import SimpleNamespace

    from detparity.checks.foreign.structure import names as check
    from detparity.core.promises import Promises

    value = lambda name: SimpleNamespace(name=name)  # noqa: E731
    own = ["output", "2"] if outputs == ["output", "other"] else [outputs[0], "2"]
    graph = SimpleNamespace(
        inputs=[value("images")], outputs=list(map(value, own)), initializers={"weight": 0, "bias": 0}
    )
    promises = Promises("a call", tuple(inputs), tuple(outputs), written=2)
    context = SimpleNamespace(onnx=SimpleNamespace(graph=graph), contract=SimpleNamespace(promises=promises))
    assert [what for finding in check(context) for what in finding.evidence] == wrong
    promises = Promises("a call", tuple(inputs), tuple(outputs), written=1)
    context.contract.promises = promises
    assert "outputs" in [what for finding in check(context) for what in finding.evidence]
