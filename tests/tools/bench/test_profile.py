"""Where the time goes: every kernel is attributed to the layer and the stage it computes for, independent of the names of nodes.

The attribution is asserted, times are not.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from detparity.checks.opening import make_context, open_file
from detparity.core import environment
from detparity.core.clock import Clock
from detparity.core.errors import EngineError, InputError
from detparity.core.vocabulary import parse_variant
from detparity.engines import onnxruntime
from detparity.engines.reference_runs import make_oracle
from detparity.inputs.explore import explore
from detparity.models.choice import BUNDLED_SIZE, ModelChoice, load_detector
from detparity.models.yolov7.architectures import ARCHITECTURES, build
from detparity.models.yolov7.seeded import seeded
from detparity.models.yolov7.stages import layers_of
from detparity.tools.bench import profile as profiles
from detparity.tools.bench.attribution import (
    Suppressed,
    attribute_executed,
    attribute_file,
    module_of,
    modules_of,
    owners,
)
from detparity.tools.export_cache import export_bytes, exported

MODEL_STAGES = ["backbone", "neck", "head"]
# By variant: the stages a profile of it must show, of those after the head.
VARIANTS = {
    "raw": ["decode"],  # a reshape
    "grid": ["decode"],
    "end2end-ort": ["decode", "NMS"],
    "end2end-trt": ["decode"],  # up to the plugin
    "end2end-trt-nms": ["decode", "NMS"],
    "grid-dynamic": ["decode"],
}


def _context(detector, path):
    clock = Clock()
    found = open_file(path, detector.facts)
    return make_context(detector, found, make_oracle(detector, clock, ("grid",)), clock, explore)


def _profile(detector, path, rounds=2):
    context = _context(detector, path)
    size, batch = context.contract.size, context.contract.batch
    found = profiles.profile(context, [np.full((batch, 3, *size), 0.5, np.float32)], rounds, 1)
    _holds_together(context, found)
    return found


def _holds_together(context, found):
    """What is true of every profile: nothing is lost, nothing counted twice, and modules come in the model's order."""
    stages = sum(part.seconds for part in found.stages) + found.overhead
    modules = sum(part.seconds for part in found.modules) + found.overhead
    assert stages == pytest.approx(found.total, abs=1e-9)
    assert modules == pytest.approx(found.total, abs=1e-9)
    assert (
        sum(part.kernels for part in found.stages) == sum(part.kernels for part in found.modules) == len(found.kernels)
    )
    order = list(modules_of(context.facts.layers))
    shown = [part.title.split(" ")[0] for part in found.modules]
    assert shown == sorted(shown, key=order.index)
    convs = Counter(kernel.module for kernel in found.kernels if "Conv" in kernel.op)
    assert convs == Counter(module_of(conv.key) for conv in context.weights)


def _stages(found):
    return [part.title for part in found.stages]


def _attribution(found):
    return Counter((kernel.op, kernel.module, kernel.stage) for kernel in found.kernels)


def _disagreeing(found):
    """Kernels whose names carry the path of another layer than they were attributed to: an independent witness."""
    matches = [(kernel, re.search(r"(?<![.\w])model\.(\d+)(?!\d)", kernel.name)) for kernel in found.kernels]
    # Up to torch 1.12 no name carries a path, and there is no witness.
    assert any(match for _, match in matches) or not environment.holds({"torch": ">=1.13"}, environment.environment())
    return [
        kernel
        for kernel, match in matches
        if match and kernel.stage in MODEL_STAGES and kernel.module != f"model.{match[1]}"
    ]


def _rewritten(path, folder, name_of):
    """The file as an exporter without paths writes it: nodes called by `name_of`, inner tensors and weights by numbers."""
    model = onnx.load(str(path))
    outer = {value.name for value in [*model.graph.input, *model.graph.output]}
    numbers = {}
    for index, node in enumerate(model.graph.node):
        node.name = name_of(node, index)
        for names in (node.input, node.output):
            for index, name in enumerate(names):
                if name and name not in outer:
                    names[index] = numbers.setdefault(name, str(1000 + len(numbers)))
    for tensor in model.graph.initializer:
        tensor.name = numbers.get(tensor.name, tensor.name)
    del model.graph.value_info[:]
    made = folder / "rewritten.onnx"
    onnx.save(model, str(made))
    return made


@pytest.fixture(scope="module")
def detector():
    return load_detector(ModelChoice())


@pytest.fixture(scope="module")
def made(detector, shared_folder):
    """Call with a variant for the path of the bundled detector's export, made once for all workers."""
    return lambda variant, simplify=None: exported(detector, variant, BUNDLED_SIZE, shared_folder, simplify=simplify)


# --- stages of a model


@pytest.mark.parametrize(
    "name, neck",
    [
        ("deploy-yolov7-tiny", 29),  # the first of the layers that make up its pyramid
        ("deploy-yolov7", 51),
        ("deploy-yolov7x", 59),
        ("deploy-yolov7-w6", 47),
        ("training-yolov7-e6e", 112),
        ("baseline-yolor-p6", 12),
        ("baseline-r50-csp", 8),
        ("baseline-yolov3", 11),
        ("baseline-yolov3-spp", 11),
    ],
)
def test_the_neck_begins_after_the_coarsest_stage(name, neck):
    layers = layers_of(build(name, 0.0625))

    stages = [layer.stage for layer in layers]
    assert stages.index("neck") == neck
    assert stages == sorted(stages, key=MODEL_STAGES.index)
    assert stages.count("head") == 1


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=() if name in ("deploy-yolov7", "baseline-yolor-p6") else pytest.mark.more)
        for name in sorted(ARCHITECTURES)
        if "yolov3" not in name and "tiny" not in name
    ],
)
def test_the_pyramid_is_the_first_block_of_the_neck(name):
    layers = layers_of(build(name, 0.5 if "x50" in name else 0.0625))

    assert next(layer.kind for layer in layers if layer.stage == "neck") == "SPPCSPC"


def test_each_network_of_an_ensemble_has_its_stages():
    from detparity.models.yolov7.network import joined

    one = build("yolov7-tiny", 0.0625)
    layers = layers_of(joined([one, one]))

    assert [layer.name for layer in layers[-2:]] == ["0.model.77", "1.model.77"]
    assert [layer.stage for layer in layers[:77]] == [layer.stage for layer in layers[77:154]]
    assert layers[77].name == "1.model.0" and layers[78].reads == (78,)


# --- our exports


@pytest.mark.parametrize("variant", sorted(VARIANTS))
def test_exports_are_attributed_completely(detector, made, variant):
    found = _profile(detector, made(variant))

    assert _stages(found) == MODEL_STAGES + VARIANTS[variant]
    assert _disagreeing(found) == []


def test_a_file_with_the_plugin_is_run_up_to_it(detector, made):
    found = _profile(detector, made("end2end-trt"))

    assert "plugin" in found.note
    assert not any("NonMax" in kernel.op or "NMS" in kernel.op for kernel in found.kernels)


def test_suppression_begins_where_rows_are_filtered(detector, made):
    found = _profile(detector, made("end2end-ort"))
    stage = {kernel.op: kernel.stage for kernel in found.kernels if kernel.op in ("NonZero", "GatherND", "Sigmoid")}

    assert stage == {"NonZero": "NMS", "GatherND": "NMS", "Sigmoid": "NMS"}  # only what is left is decoded
    assert {kernel.stage for kernel in found.kernels if kernel.op == "NonMaxSuppression"} == {"NMS"}


@pytest.mark.proof  # of attribution alone: old onnxsim breaks on what old torch exports
@pytest.mark.parametrize(
    "variant, simplify",
    [
        ("grid", "onnxsim"),
        ("end2end-ort", "onnxslim"),
        pytest.param("grid", "onnxslim", marks=pytest.mark.slow),
        pytest.param("end2end-ort", "onnxsim", marks=pytest.mark.slow),
    ],
)
def test_simplified_files(detector, made, variant, simplify):
    pytest.importorskip(simplify)
    torch = pytest.importorskip("torch")
    if simplify == "onnxsim" and torch.__version__.startswith("1.7."):
        pytest.skip("onnxsim ends on a static graph of this torch (eraseOutput of its optimiser)")
    found = _profile(detector, made(variant, simplify))

    assert _stages(found) == MODEL_STAGES + VARIANTS[variant]
    assert _disagreeing(found) == []


@pytest.mark.more  # names decide nothing, as below; an export takes ten seconds
def test_an_export_through_torch_export(detector, made):
    pytest.importorskip("onnxscript")
    torch = pytest.importorskip("torch")
    if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 5):
        pytest.skip("this torch writes functions, or has no such exporter")
    by_path, by_export = _profile(detector, made("raw")), _profile(detector, made("raw-dynamo"))

    assert _attribution(by_export) == _attribution(by_path)


def _numbered(node, index):
    return f"{node.op_type}_{index}"


def _nameless(node, index):
    return ""


@pytest.mark.parametrize(
    "variant, name_of",
    [
        ("end2end-ort", _nameless),
        ("grid-dynamic", _numbered),
        *(
            pytest.param(*case, marks=pytest.mark.more)
            for case in (
                *(("raw", _nameless), ("raw", _numbered)),
                *(("end2end-ort", _numbered), ("grid-dynamic", _nameless)),
            )
        ),
    ],
)
def test_names_decide_nothing(detector, made, tmp_path, variant, name_of):
    file = made(variant)

    rewritten = _profile(detector, _rewritten(file, tmp_path, name_of))

    assert _attribution(rewritten) == _attribution(_profile(detector, file))


def test_two_nodes_of_one_name(detector, made, tmp_path):
    file = made("raw")

    rewritten = _profile(detector, _rewritten(file, tmp_path, lambda node, index: "node"))

    assert _attribution(rewritten) == _attribution(_profile(detector, file))


@pytest.mark.parametrize(
    "name, width",
    [
        ("yolov7-w6", 0.0625),
        ("yolor-csp", 0.0625),
        pytest.param("training-yolov7", 0.0625, marks=pytest.mark.more),
        pytest.param("yolov7-e6e", 0.1, marks=pytest.mark.more),
    ],
)
def test_architectures(tmp_path, name, width):
    """Space to depth, SiLU as a fused operator, blocks that pool inside, two chains added."""
    other = seeded(name, width, 0)
    path = tmp_path / "raw.onnx"
    path.write_bytes(export_bytes(other, parse_variant("raw"), (128, 128)))

    found = _profile(other, path, 1)

    assert _stages(found) == [*MODEL_STAGES, "decode"]
    assert _disagreeing(found) == []


@pytest.mark.parametrize(
    "name",
    [
        *("raw", "grid-dynamic", "end2end-ort", "end2end-trt"),
        *(pytest.param(n, marks=pytest.mark.more) for n in ("grid", "grid-dynamic-batch", "end2end-ort-dynamic-batch")),
    ],
)
def test_files_of_the_official_script(shared_data, name):
    official = load_detector(ModelChoice(weights=(shared_data / "checkpoints" / "yolov7-tiny-torch1.13.pt",)))

    found = _profile(official, shared_data / "artifacts" / "yolov7-tiny" / f"{name}.onnx")

    assert _stages(found) == MODEL_STAGES + (["decode", "NMS"] if "end2end" in name else ["decode"])
    assert _disagreeing(found) == []


# --- what cannot be attributed, or run


def test_a_file_whose_weights_are_not_the_models_is_shown_as_other(detector, made, tmp_path):
    context = _context(detector, _rewritten(made("raw"), tmp_path, lambda node, index: str(index)))
    others = [replace(conv, weight=-conv.weight) for conv in context.weights[:-1]]

    in_file = attribute_file(context.onnx.graph, context.facts.layers, others, Suppressed())
    found = attribute_executed(context.onnx.graph.nodes, in_file)

    assert {one.stage for one in found.values()} == {"other"}
    assert len(found) == len(context.onnx.graph.nodes)


def test_convolutions_are_found_whatever_their_order(detector, made, tmp_path):
    """Branches may be in any order, and many have weights of one shape."""
    context = _context(detector, _rewritten(made("raw"), tmp_path, lambda node, index: str(index)))
    graph = context.onnx.graph

    found = owners(context.weights[::-1], graph)

    assert found == owners(context.weights, graph)
    assert Counter(found.values()) == Counter(module_of(conv.key) for conv in context.weights)


def test_torchscript_has_no_profile(detector, exports):
    context = _context(detector, exports("traced"))

    with pytest.raises(InputError, match="no ONNX file"):
        profiles.profile(context, [np.zeros((1, 3, *BUNDLED_SIZE), np.float32)])


def test_a_wrong_feed_is_the_engines_error_and_leaves_nothing(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scratch = tmp_path / "scratch"  # of this test alone: another worker profiles too
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))

    with pytest.raises(EngineError):
        onnxruntime.profiled(str(made("raw")), [np.zeros((1, 3, 64, 64), np.float32)], 2)

    assert list(scratch.iterdir()) == [] and list(tmp_path.iterdir()) == [scratch]


def test_a_profile_leaves_nothing(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    found = onnxruntime.profiled(str(made("raw")), [np.zeros((1, 3, *BUNDLED_SIZE), np.float32)], 2, 1)

    assert list(tmp_path.iterdir()) == []
    assert found.kernels and found.overhead >= 0


# --- the runtime's profile


def _event(name, op, start, duration):
    return {"cat": "Node", "name": f"{name}_kernel_time", "ts": start, "dur": duration, "args": {"op_name": op}}


def _run(start, duration):
    return {"cat": "Session", "name": "model_run", "ts": start, "dur": duration, "args": {}}


def test_kernels_of_a_loop_are_summed_and_taken_out_of_it():
    events = []
    for start, factor in ((0, 9), (1000, 1), (2000, 2), (3000, 3)):  # the first is the warm-up
        events += [_run(start, 100 * factor), _event("a", "Conv", start + 1, 10 * factor)]
        events += [_event("loop", "Loop", start + 20 * factor, 50 * factor)]
        events += [_event("inner", "Add", start + (21 + 10 * step) * factor, 4 * factor) for step in range(3)]
        events += [{"cat": "Node", "name": "a_fence_before", "ts": start, "dur": 5, "args": {"op_name": "Conv"}}]

    kernels, overhead = onnxruntime._medians(events, 1, 3)

    seconds = {kernel.name: kernel.seconds for kernel in kernels}
    assert seconds == pytest.approx({"a": 20e-6, "loop": (100 - 24) * 1e-6, "inner": 24e-6})
    assert overhead == pytest.approx(80e-6)


def test_a_profile_that_lost_runs_is_refused():
    with pytest.raises(EngineError, match="1 of 3 runs"):
        onnxruntime._medians([_run(0, 10)], 1, 2)


@pytest.mark.smoke
def test_a_real_loop(tmp_path):
    """One kernel of a body that runs five times, under its own name."""
    scalar = {"dtype": TensorProto.INT64, "shape": []}
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["still"], name="keep"),
            helper.make_node("Exp", ["x_in"], ["x_out"], name="inside"),
        ],
        "body",
        [
            helper.make_tensor_value_info("iteration", scalar["dtype"], scalar["shape"]),
            helper.make_tensor_value_info("go", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_in", TensorProto.FLOAT, [1, 3, 64, 64]),
        ],
        [
            helper.make_tensor_value_info("still", TensorProto.BOOL, []),
            helper.make_tensor_value_info("x_out", TensorProto.FLOAT, [1, 3, 64, 64]),
        ],
    )
    value = helper.make_tensor_value_info
    graph = helper.make_graph(
        [helper.make_node("Loop", ["times", "", "images"], ["y"], name="outside", body=body)],
        "looping",
        [value("images", TensorProto.FLOAT, [1, 3, 64, 64])],
        [value("y", TensorProto.FLOAT, [1, 3, 64, 64])],
        [helper.make_tensor("times", TensorProto.INT64, [], [5])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)], ir_version=7)

    found = onnxruntime.profiled(model.SerializeToString(), [np.zeros((1, 3, 64, 64), np.float32)], 2, 1)

    assert {"outside", "inside"} <= {kernel.name for kernel in found.kernels}
    assert [
        inner.name for node in found.executed for sub in node.subgraphs for inner in sub.walk() if inner.op == "Exp"
    ] == ["inside"]


# --- the table


def test_rows_show_every_stage_then_the_longest_modules():
    kernels = (
        profiles.Kernel("a", "Conv", "model.0", "backbone", 0.003),
        profiles.Kernel("b", "Conv", "model.1", "backbone", 0.004),
        profiles.Kernel("c", "Foo", "other", "other", 0.002),
    )
    stages = (profiles.Part("backbone", "backbone", 0.007, 2), profiles.Part("other", "other", 0.002, 1))
    modules = (
        profiles.Part("model.0 Conv", "backbone", 0.003, 1),
        profiles.Part("model.1 Conv", "backbone", 0.004, 1),
        profiles.Part("other", "other", 0.002, 1),
    )
    found = profiles.Profile(kernels, stages, modules, 0.001, 5)

    assert profiles.rows(found, 2) == [
        ("stage", "share", "ms"),
        ("backbone", "70.0%", "7.000"),
        ("other", "20.0%", "2.000"),
        ("overhead", "10.0%", "1.000"),
        ("total", "100.0%", "10.000"),
        ("module", "share", "ms"),
        ("model.1 Conv (backbone)", "40.0%", "4.000"),
        ("model.0 Conv (backbone)", "30.0%", "3.000"),
    ]
