"""Every opset a version of torch can write conforms, whichever of its two exporters writes it; what it cannot is refused in a line."""

from __future__ import annotations

import functools
import importlib

import detparity.kit.exporters as exporters
import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from detparity.artifacts.open import Asked
from detparity.checks.context import applicable
from detparity.checks.opening import make_context, open_file
from detparity.cli import main
from detparity.core import resources
from detparity.core.contract import DYNAMO_OPSET, IR_FOR_OPSET, OPSET, OPSETS, contract_for
from detparity.core.errors import InputError
from detparity.core.findings import fails
from detparity.core.vocabulary import parse_variant
from detparity.engines import onnxruntime
from detparity.models.compat import dynamo_export
from detparity.tools.export_cache import export_bytes, promised

SIZE = (64, 96)
VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])
# The newest opset up to 17 that the TorchScript-based exporter of a version writes; 17 from torch 1.13 on.
NEWEST = {(1, 7): 12, (1, 8): 13, (1, 10): 14, (1, 11): 15, (1, 12): 16}.get(VERSION, 17)
MADE = {name: parse_variant(promised(name)) for name in exporters.registry()}
ONNX = [name for name, variant in MADE.items() if variant.onnx and not variant.dynamo and name == variant.name]
DYNAMO = [name for name, variant in MADE.items() if variant.dynamo]
TYPICAL = [
    pytest.param("raw", 11, marks=pytest.mark.lanes),
    pytest.param("grid", 17, marks=pytest.mark.more),
    pytest.param("end2end-ort-dynamic-batch", 13, marks=pytest.mark.lanes),
    pytest.param("end2end-trt-nms-dynamic-batch", 11, marks=pytest.mark.more),
    pytest.param("end2end-trt-nms", 17, marks=pytest.mark.more),
]
MISSING = dynamo_export.unavailable()
needs_dynamo = pytest.mark.skipif(MISSING is not None, reason=MISSING or "")


def _opened(session, path, name=None, opset=None):
    return open_file(path, session.detector.facts, name, None, asked=Asked(opset=opset))


def _wrong(session, path, name=None, opset=None, only=""):
    """What is not as promised, SHOULD included, by check. name: the variant, else read from the file; only: checks of this group."""
    found = _opened(session, path, name, opset)
    context = make_context(session.detector, found, session.oracle, session.clock)
    outcomes = [
        context.outcome(check)
        for check in applicable(context)
        if check.startswith(only) and check != "parity.evaluator"
    ]
    return {
        outcome.check: [finding.message for finding in outcome.findings] or outcome.reason
        for outcome in outcomes
        if fails(outcome, True)
    }


def _export(session, name, opset=None):
    return export_bytes(session.detector, parse_variant(name), SIZE, opset=opset)


def _must_conform(session, path, name, opset):
    content = _export(session, name, opset)
    path.write_bytes(content)
    model = onnx.load_from_string(content)

    assert _wrong(session, path, name) == {}
    assert _opened(session, path, name).contract.opsets[""] == opset
    assert [entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")] == [opset]
    assert model.ir_version <= IR_FOR_OPSET[opset]


# --- by TorchScript -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name, opset", TYPICAL)
def test_another_opset_conforms_strictly(name, opset, session, tmp_path):
    _must_conform(session, tmp_path / "f.onnx", name, min(opset, NEWEST))


@pytest.mark.slow
@pytest.mark.parametrize("opset", [opset for opset in OPSETS if opset <= NEWEST])
@pytest.mark.parametrize("name", ONNX)
def test_every_opset_conforms_strictly(name, opset, session, tmp_path):
    _must_conform(session, tmp_path / "f.onnx", name, opset)


@pytest.mark.lanes
def test_what_a_version_cannot_write_is_refused_with_what_it_can(session):
    written = importlib.import_module("detparity.kit.exporters.options").writable(OPSETS)
    assert written == list(range(11, NEWEST + 1))

    with pytest.raises(InputError) as refused:
        _export(session, "grid", NEWEST + 1)

    if NEWEST < 17:
        listed = ", ".join(map(str, written))
        assert str(refused.value) == f"torch {torch.__version__} cannot write opset {NEWEST + 1}; it can write {listed}"
    else:
        assert str(refused.value) == "opset 18 is none of 11 to 17, which the TorchScript-based exporter writes"


def test_the_ir_versions_are_those_of_the_standard():
    first = {}
    for row in helper.VERSION_TABLE:
        first.setdefault(row[2], row[1])

    assert {opset: ir for opset, ir in IR_FOR_OPSET.items() if opset in first and first[opset] != ir} == {}


# --- what is promised -----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def good(session):
    """Call with an exporter's name for the bytes of its good file at its own opset, made once."""
    return functools.cache(functools.partial(_export, session))


def _stamped(content, path, opset=None, recorded=None):
    """A good file at opset 12 whose header says another opset, or whose metadata records another."""
    model = onnx.load_from_string(content)
    model.opset_import[0].version = opset or OPSET
    model.ir_version = min(model.ir_version, 7)
    for entry in list(model.metadata_props):
        if entry.key == "detparity.opset":
            model.metadata_props.remove(entry)
    if recorded:
        model.metadata_props.add(key="detparity.opset", value=recorded)
    onnx.save(model, str(path))
    return path


@pytest.mark.parametrize(
    "opset, recorded, given, promised, source",
    [
        (12, "12", None, 12, "from the metadata"),
        (13, "12", None, 12, "from the metadata"),
        (13, "13", None, 13, "from the metadata"),
        (13, "12", 13, 13, "as given"),
        (13, "13", 12, 12, "as given"),
        (13, None, None, 12, "by default"),
        (13, None, 13, 13, "as given"),
        (13, "thirteen", None, 12, "by default"),
        (13, "-13", None, 12, "by default"),
    ],
)
def test_the_promise_is_the_command_line_else_the_metadata_else_12(
    opset, recorded, given, promised, source, good, session, tmp_path
):
    path = _stamped(good("grid"), tmp_path / "f.onnx", opset, recorded)

    found = _opened(session, path, opset=given)
    wrong = _wrong(session, path, opset=given, only="structure.opset")

    assert found.contract.opsets == {"": promised}
    assert found.contract.ir_version == IR_FOR_OPSET[promised]
    assert f"opset {promised} {source}" in found.how
    assert bool(wrong) == (opset != promised)


def test_the_command_takes_the_opset_for_both_export_and_check(session, tmp_path, capsys):
    export = ["export", "--grid", "--include", "onnx", "--img-size", "64", "96", "--output-dir", str(tmp_path)]
    assert main.main([*export, "--opset", "11"]) == 0
    made = next(tmp_path.glob("*.onnx"))
    check = ["check", str(made), "--model", "bundled", "--checks", "structure.opset"]

    assert main.main(check) == 0
    assert main.main([*check, "--opset", "12"]) == 1
    shown = capsys.readouterr().out
    assert "promised 12" in shown and "file 11" in shown and "--opset 12" in shown.partition("Repeat:")[2]


@pytest.mark.parametrize("opset", ["10", "18", "100"])
def test_an_opset_out_of_range_is_refused_in_one_line(opset, tmp_path, capsys):
    arguments = ["export", "--include", "onnx", "--img-size", "64", "--output-dir", str(tmp_path), "--opset", opset]

    assert main.main(arguments) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and f"opset {opset} is" in err
    assert list(tmp_path.iterdir()) == []


# --- by torch.export ------------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_a_version_without_the_exporter_says_so(session):
    exporter = exporters.registry()["grid-dynamo"]

    assert (exporter.unavailable() is None) == (
        VERSION >= (2, 5) and importlib.util.find_spec("onnxscript") is not None
    )
    if MISSING:
        assert "\n" not in MISSING
        with pytest.raises(InputError, match="grid-dynamo cannot be made: "):
            _export(session, "grid-dynamo")


@pytest.mark.smoke
def test_without_onnxscript_the_reason_names_it(monkeypatch):
    if VERSION < (2, 5):
        pytest.skip("torch itself is the reason here")
    monkeypatch.setattr(dynamo_export.importlib.util, "find_spec", lambda name: None)

    assert "needs onnxscript: pip install" in dynamo_export.unavailable()


@pytest.mark.lanes
@needs_dynamo
def test_by_torch_export_nothing_is_printed_and_the_file_holds_no_path_of_this_machine(good, capfd):
    good.cache_clear()
    content = good("raw-dynamo")

    assert capfd.readouterr() == ("", "")
    assert str(resources.root()).encode() not in content


@needs_dynamo
@pytest.mark.lanes
@pytest.mark.more
def test_a_newer_opset_conforms_or_is_refused(session, tmp_path, opset=19):
    if VERSION < (2, 6):
        with pytest.raises(
            InputError, match=r"^torch 2\.5\S+ writes opset 18 through torch.export where 19 is requested$"
        ):
            _export(session, "raw-dynamo", opset)
    else:
        _must_conform(session, tmp_path / "f.onnx", "raw-dynamo", opset)


@needs_dynamo
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("grid-dynamo", marks=pytest.mark.lanes),
        pytest.param("grid-dynamo-dynamic-batch", marks=pytest.mark.more),
    ],
)
def test_converted_down_it_conforms_strictly(name, session, tmp_path):
    _must_conform(session, tmp_path / "f.onnx", name, 12)


@needs_dynamo
@pytest.mark.slow
@pytest.mark.parametrize("opset", [*OPSETS, DYNAMO_OPSET])
@pytest.mark.parametrize("name", DYNAMO)
def test_every_opset_by_torch_export_conforms_strictly(name, opset, session, tmp_path):
    _must_conform(session, tmp_path / "f.onnx", name, opset)


@needs_dynamo
def test_what_cannot_be_converted_down_is_refused_in_one_line_and_writes_nothing(good, monkeypatch, tmp_path, capsys):
    content = good("raw-dynamo")

    def with_antialias(*_):
        model = onnx.load_from_string(content)
        next(node for node in model.graph.node if node.op_type == "Resize").attribute.append(
            helper.make_attribute("antialias", 1)
        )
        return model.SerializeToString()

    monkeypatch.setattr(dynamo_export, "export_dynamo", with_antialias)
    arguments = [
        "export",
        "--dynamo",
        "--opset",
        "12",
        "--include",
        "onnx",
        "--img-size",
        "64",
        "--output-dir",
        str(tmp_path),
    ]

    assert main.main(arguments) == 2
    err = capsys.readouterr().err
    assert (
        err.count("\n") == 1 and "cannot be converted down to opset 12: onnx" in err and "no adapter for Resize" in err
    )
    assert list(tmp_path.iterdir()) == []


@needs_dynamo
@pytest.mark.more  # its marks one by one below; an export takes ten seconds
def test_a_file_of_someone_else_is_recognised_by_its_marks(session, tmp_path):
    """As torch.onnx.export leaves it: axes under the exporter's names, the newest IR version, notes on every node."""
    network = importlib.import_module("detparity.models.yolov7.network")
    module = network.FixedPredictions(session.detector.network, SIZE).eval()
    content = dynamo_export.export_dynamo(module, torch.zeros(1, 3, *SIZE), "images", ["output"], {}, DYNAMO_OPSET)
    (tmp_path / "f.onnx").write_bytes(content)

    found = _opened(session, tmp_path / "f.onnx")

    assert found.contract.variant == parse_variant("grid-dynamo")
    assert found.contract.opsets == {"": DYNAMO_OPSET}
    assert set(_wrong(session, tmp_path / "f.onnx")) == {"structure.ir-version", "structure.metadata"}


def _marked(model, mark):
    if mark == "node":
        model.graph.node[3].metadata_props.add(key="pkg.torch.onnx.fx_node", value="%conv2d")
    elif mark == "graph":
        model.graph.metadata_props.add(key="pkg.torch.export.ExportedProgram.graph_signature", value="")
    elif mark == "domain":
        model.opset_import.add(domain="pkg.onnxscript.torch_lib.common", version=1)
    return model


@pytest.mark.smoke
@pytest.mark.parametrize(
    "mark, opset, promised", [("", 18, 12), ("node", 18, 18), ("graph", 20, 20), ("domain", 17, 18)]
)
def test_each_mark_is_known_in_every_version(mark, opset, promised, good, session, tmp_path):
    model = onnx.load(str(_stamped(good("grid"), tmp_path / "f.onnx", opset)))
    for entry in list(model.metadata_props):
        if entry.key == "detparity.variant":
            model.metadata_props.remove(entry)
    onnx.save(_marked(model, mark), str(tmp_path / "f.onnx"))

    contract = _opened(session, tmp_path / "f.onnx").contract

    assert contract.variant == parse_variant("grid-dynamo" if mark else "grid")
    assert contract.opsets == {"": promised}


# --- the conversion itself ------------------------------------------------------------------------------------------


def _model(nodes, shape, constants=(), opset=18):
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(value, name) for name, value in constants],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    return onnx.shape_inference.infer_shapes(model)


def _of_one_axis(start):
    return [
        helper.make_node("Shape", ["x"], ["one"], start=start, end=start + 1),
        helper.make_node("Cast", ["one"], ["y"], to=TensorProto.FLOAT),
    ]


SCALES = ("scales", np.array([1, 1, 2, 2], np.float32))
SAME = {
    "a Shape of one axis": (_of_one_axis(2), ()),
    "a Resize that says what it always was": (
        [helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="nearest", keep_aspect_ratio_policy="stretch")],
        (SCALES,),
    ),
    "a Reshape that allows zeros and has none": (
        [helper.make_node("Reshape", ["x", "target"], ["y"], allowzero=1)],
        (("target", np.array([-1, 4], np.int64)),),
    ),
    "axes as an input": (
        [helper.make_node("ReduceSum", ["x", "axes"], ["y"], keepdims=0)],
        (("axes", np.array([1], np.int64)),),
    ),
}


@pytest.mark.parametrize("opset", [17, 14, 12, 11])
@pytest.mark.parametrize("what", sorted(SAME))
def test_a_conversion_computes_the_same(what, opset):
    nodes, constants = SAME[what]
    before = _model(nodes, [2, 3, 4, 4], constants)
    image = np.random.default_rng(0).random((2, 3, 4, 4)).astype(np.float32)

    after = importlib.import_module("detparity.kit.exporters.opset_downgrade").converted(before, opset)

    assert [(entry.domain, entry.version) for entry in after.opset_import] == [("", opset)]
    results = [onnxruntime.prepare(model.SerializeToString()).call({"x": image})["y"] for model in (before, after)]
    np.testing.assert_allclose(*results, rtol=1e-6)


@pytest.mark.parametrize(
    "nodes, constants, says",
    [
        ([helper.make_node("Resize", ["x", "", "scales"], ["y"], mode="linear", antialias=1)], (SCALES,), "Resize"),
        ([helper.make_node("Mish", ["x"], ["y"])], (), "Mish"),
        ([helper.make_node("Softmax", ["x"], ["y"], axis=1)], (), "Softmax means something else before opset 13"),
        (
            [helper.make_node("Reshape", ["x", "target"], ["y"], allowzero=1)],
            (("target", np.array([0, 3, 4, 4], np.int64)),),
            "Reshape",
        ),
    ],
)
def test_an_operator_without_an_older_form_is_refused(nodes, constants, says):
    shape = [0, 3, 4, 4] if says == "Reshape" else [2, 3, 4, 4]

    with pytest.raises(InputError, match=rf"^cannot be converted down to opset 12: .*{says}") as refused:
        importlib.import_module("detparity.kit.exporters.opset_downgrade").converted(
            _model(nodes, shape, constants), 12
        )

    assert "\n" not in str(refused.value)


def test_a_conversion_that_computes_something_else_is_refused(good, session):
    downgrade = importlib.import_module("detparity.kit.exporters.opset_downgrade")
    content = good("grid")
    model = onnx.load_from_string(content)
    weight = next(tensor for tensor in model.graph.initializer if len(tensor.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.0001), weight.name))
    contract = contract_for(parse_variant("grid-dynamo"), session.detector.facts, SIZE, opset=12)

    downgrade.must_agree(session.detector, contract, content, content)
    with pytest.raises(InputError, match=r"^cannot be converted down to opset 12: the result computes other numbers$"):
        downgrade.must_agree(session.detector, contract, content, model.SerializeToString())
