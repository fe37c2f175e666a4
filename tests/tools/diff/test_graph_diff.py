"""Facts of ONNX files: what they hold, what they are independent of, and the differences of two of them."""

from __future__ import annotations

import copy
import json

import numpy as np
import onnx
import pytest
from detparity.kit.tests.tools.diff import small_graphs as small
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from detparity.artifacts import onnx_graph
from detparity.core.errors import InputError, NotMade
from detparity.core.vocabulary import parse_variant
from detparity.engines.remote import client
from detparity.models.yolov7.seeded import seeded
from detparity.tools.diff import weight_diff
from detparity.tools.diff.canonical_text import array_text, attribute_text
from detparity.tools.diff.graph_diff import differences, portable, signature
from detparity.tools.diff.graph_summary import graph_facts, official_name
from detparity.tools.diff.tensor_sketch import change, packed, sketch, unpacked
from detparity.tools.export_cache import export_bytes

DRAWN = settings(max_examples=25, derandomize=True, database=None, deadline=None)
SEEDS = st.integers(0, 2**31)


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    """Call with a model or its bytes for its facts, as JSON gives them back."""
    path = tmp_path_factory.mktemp("reading") / "model.onnx"

    def facts(model):
        path.write_bytes(model if isinstance(model, bytes) else model.SerializeToString())
        return json.loads(json.dumps(graph_facts(onnx_graph.read(path, client()))))

    return facts


@pytest.fixture(scope="module")
def network(read):
    return read(small.network())


@pytest.fixture(scope="module")
def exports_of(made):
    """Call with an exporter's name for what it makes of the bundled detector."""

    def export(name):
        found = made(name)
        if isinstance(found, NotMade):
            pytest.skip(f"{name}: {found}")
        return onnx.load(str(found))

    return export


def words(found):
    return [item.words for item in found]


def changed(read, old, edit):
    """The differences reported for a copy of the model that `edit` has changed."""
    model = small.copied(old)
    edit(model)
    return differences(read(old), read(model))


def node(model, kind, index=0):
    return [item for item in model.graph.node if item.op_type == kind][index]


def stored(model, name):
    """The initializer whose official name this is."""
    return next(item for item in model.graph.initializer if official_name(item.name) == name)


def rewrite(model, name, function):
    item = stored(model, name)
    item.CopyFrom(small.tensor(item.name, function(np.array(numpy_helper.to_array(item)))))


# --- laws ------------------------------------------------------------------------------------------------------------


@DRAWN
@given(seed=SEEDS, spelling=SEEDS)
def test_no_spelling_of_a_graph_is_another_graph(read, seed, spelling):
    model = small.drawn(seed)

    found = read(small.respelled(model, spelling))

    assert found["digests"]["content"] == read(model)["digests"]["content"]
    assert differences(read(model), found) == ()


@DRAWN
@given(seed=SEEDS, kind=st.sampled_from(small.CHANGES), spelling=st.one_of(st.none(), SEEDS))
def test_every_single_change_is_seen_in_both_directions_and_through_any_spelling(read, seed, kind, spelling):
    model = small.drawn(seed)
    other = kind(model, np.random.default_rng(seed))
    if other is None:
        return
    old, new = read(model), read(other if spelling is None else small.respelled(other, spelling))

    there, back = differences(old, new), differences(new, old)

    assert there and [item.kind for item in there] == [item.kind for item in back]
    assert signature(there) and signature(there) == signature(differences(old, new))


@DRAWN
@given(seed=SEEDS)
def test_two_different_changes_have_two_signatures(read, seed):
    model = small.drawn(seed)
    old = read(model)
    files = [kind(model, np.random.default_rng([seed, k])) for kind in small.CHANGES for k in range(2)]
    facts = {new["digests"]["content"]: new for new in map(read, filter(None, files))}

    signatures = [signature(differences(old, new)) for new in facts.values()]

    assert len(set(signatures)) == len(signatures)


def test_a_file_does_not_differ_from_itself(read, network):
    assert differences(network, network) == ()
    assert signature(()) == ""


@pytest.mark.parametrize("make", [small.network, small.conditional])
def test_subgraphs_and_operators_of_a_detector_may_be_spelled_otherwise(read, make):
    old = read(make())

    for spelling in range(10):
        assert differences(old, read(small.respelled(make(), spelling))) == ()


def test_a_node_that_is_stored_before_what_it_reads_is_read_the_same(read):
    model = small.network()
    nodes = list(model.graph.node)[::-1]
    del model.graph.node[:]
    model.graph.node.extend(nodes)

    assert differences(read(small.network()), read(model)) == ()


def test_defaults_may_be_written_or_left_out(read):
    plain = small.network()
    bare = small.copied(plain)
    for item in bare.graph.node:
        if item.op_type == "Conv":
            remaining = [a for a in item.attribute if (a.name == "pads" and any(a.ints)) or list(a.ints) == [2, 2]]
        else:
            remaining = [a for a in item.attribute if a.name not in ("mode", "strides")]
        del item.attribute[:]
        item.attribute.extend(remaining)
    node(bare, "MaxPool").attribute.append(helper.make_attribute("ceil_mode", 0))

    assert differences(read(plain), read(bare)) == ()


@pytest.mark.parametrize("kind, key", [("Unsqueeze", "axes"), ("ReduceSum", "axes"), ("Split", "split")])
def test_an_attribute_that_became_an_input_is_the_same_constant(read, kind, key):
    number = [2, 2] if kind == "Split" else [1]
    outputs = ["y", "z"] if kind == "Split" else ["y"]
    options = {"axis": 1} if kind == "Split" else {}
    old = small.model([helper.make_node(kind, ["images"], outputs, **options, **{key: number})], outputs, {}, opset=12)
    new = small.model(
        [helper.make_node(kind, ["images", "n"], outputs, **options)], outputs, {"n": np.array(number)}, opset=13
    )

    assert words(differences(read(old), read(new))) == ["opset 12 -> 13"]
    assert read(old)["constants"] == {f"{kind}.{key}": {array_text(np.array(number)): 1}}


def test_how_many_outputs_an_operator_is_asked_for_counts(read):
    def split(*outputs):
        return small.model([helper.make_node("Split", ["images"], outputs, axis=1)], ["a"], {})

    assert words(differences(read(split("a", "b")), read(split("a", "b", "c", "d")))) == [
        "the same operators, wired differently"
    ]
    assert differences(read(split("a", "b")), read(split("a", "z"))) == ()


# --- what the facts hold ---------------------------------------------------------------------------------------------


def test_the_facts_of_a_small_network(network):
    assert network["opsets"] == {"ai.onnx": 12} and network["ir_version"] == 8
    assert network["inputs"] == [{"name": "images", "dtype": "float32", "axes": [1, 3, 32, 32]}]
    assert [item["name"] for item in network["outputs"]] == ["output"]
    assert network["outputs"][0]["axes"] == [1, 256, 6]
    assert network["operators"]["main"]["Conv"] == 5
    assert network["attributes"]["LeakyRelu.alpha"] == {"0.1": 5}
    assert network["attributes"]["Conv.strides"] == {"[1, 1]": 3, "[2, 2]": 2}
    assert network["constants"]["Reshape.shape"] == {"[1, 6, -1]": 1}
    assert network["constants"]["Sub.B"] == {"[0.45]": 1}
    assert network["constants"]["Mul.constant"] == {"8.0": 1}
    names = [tensor.name for tensor in weight_diff.tensors(network)]
    assert names[:2] == ["model.0.conv.weight", "model.0.conv.bias"] and len(names) == 10


def test_operators_of_subgraphs_are_counted_by_depth(read):
    counts = read(small.conditional())["operators"]

    assert counts == {
        "main": {"Conv": 2, "Neg": 2, "ReduceMax": 1, "Greater": 1, "If": 1, "Loop": 1},
        "depth 1": {"LeakyRelu": 1, "Add": 2, "Sub": 1},
    }


def test_metadata_about_the_making_of_a_file_is_left_out(read):
    model = small.network()
    for key, text in (("names", "cat"), ("date", "2026-01-01"), ("build.version", "8"), ("export_time", "1")):
        model.metadata_props.add(key=key, value=text)

    assert read(model)["metadata"] == {"names": "cat"}


@pytest.mark.parametrize("name", ["raw", "grid", "grid-dynamic", "end2end-ort-dynamic-batch", "end2end-trt-nms"])
def test_facts_of_the_bundled_detector_are_small(name, read, exports_of):
    assert len(json.dumps(read(exports_of(name)), indent=1, sort_keys=True)) < 20_000


@pytest.mark.slow
def test_facts_of_the_largest_architecture_stay_under_the_limit_of_goldens(read):
    detector = seeded("yolov7-e6e", 0.125, 0)
    facts = read(export_bytes(detector, parse_variant("end2end-ort-dynamic"), (256, 320)))

    assert len(weight_diff.tensors(facts)) == 488
    assert len(json.dumps(facts, indent=1, sort_keys=True)) < 50_000


def test_a_chain_of_five_thousand_nodes_takes_no_stack_and_no_time(read):
    nodes = [helper.make_node("Relu", [f"t{k}"], [f"t{k + 1}"]) for k in range(5000)]
    nodes[0].input[0] = "images"
    model = small.model(nodes, ["t5000"], {})
    longer = small.model([*nodes, helper.make_node("Relu", ["t5000"], ["t5001"])], ["t5001"], {})

    assert words(differences(read(model), read(longer))) == [
        "output 't5000' is now called 't5001'",
        "Relu 5000 -> 5001",
    ]


def test_functions_of_the_file_are_read(read):
    def calling(slope, opset=13):
        body = [
            helper.make_node("LeakyRelu", ["x"], ["y"], alpha=slope),
            helper.make_node("Relu", ["y"], ["z"]),
        ]
        function = helper.make_function("mine", "Act", ["x"], ["z"], body, [helper.make_opsetid("", opset)])
        nodes = [helper.make_node("Act", [a], [b], domain="mine") for a, b in (("images", "p"), ("p", "q"))]
        return small.model(nodes, ["q"], {}, functions=[function], domains=["mine"])

    old = read(calling(0.1))

    assert old["operators"] == {"main": {"mine:Act": 2}, "function mine:Act": {"LeakyRelu": 1, "Relu": 1}}
    assert words(differences(old, read(calling(0.2)))) == ["LeakyRelu alpha 0.1 -> 0.2"]
    assert differences(old, read(calling(0.1, 14))) != ()


# --- what is reported of a change ------------------------------------------------------------------------------------


def _fed(model):
    model.graph.input.append(small.value("model.0.conv.bias", [8]))


CASES = {
    "an axis": (
        lambda m: m.graph.output[0].type.tensor_type.shape.dim[1].__setattr__("dim_param", "rows"),
        ["output axis 1: 256 -> rows"],
    ),
    "a numeral": (
        lambda m: m.graph.output[0].type.tensor_type.shape.dim[1].__setattr__("dim_param", "256"),
        ["output axis 1: 256 -> '256'"],
    ),
    "a free axis": (
        lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].Clear(),
        ["input axis 0: 1 -> free"],
    ),
    "a type": (
        lambda m: m.graph.input[0].type.tensor_type.__setattr__("elem_type", TensorProto.FLOAT16),
        ["input type: float32 -> float16"],
    ),
    "a rank": (
        lambda m: m.graph.output[0].type.tensor_type.shape.dim.add(dim_value=1),
        ["output shape: (1, 256, 6) -> (1, 256, 6, 1)"],
    ),
    "an output more": (
        lambda m: m.graph.output.append(small.value("rows", [1, 256, 6])),
        ["output 'rows' is new: float32 (1, 256, 6)"],
    ),
    "outputs that are exchanged": (
        lambda m: (
            m.graph.output.append(small.value("rows", [1, 256, 6])),
            m.graph.output.extend([m.graph.output.pop(0)]),
        ),
        ["output 'rows' is new: float32 (1, 256, 6)"],
    ),
    "an output from elsewhere": (
        lambda m: (
            m.graph.node[-1].output.__setitem__(0, "late")
            or m.graph.node[-2].output.__setitem__(0, "output")
            or m.graph.node[-1].input.__setitem__(0, "output")
        ),
        ["output 'output' is what another operator makes"],
    ),
    "an input more": (
        lambda m: m.graph.input.append(small.value("mask", [1])),
        ["input 'mask' is new: float32 (1)"],
    ),
    "versions": (
        lambda m: (m.opset_import[0].__setattr__("version", 13), m.__setattr__("ir_version", 7)),
        ["opset 12 -> 13", "IR version 8 -> 7"],
    ),
    "a domain": (
        lambda m: m.opset_import.append(helper.make_opsetid("TRT", 1)),
        ["opset of TRT none -> 1"],
    ),
    "one slope": (
        lambda m: node(m, "LeakyRelu", 2).attribute[0].__setattr__("f", 0.2),
        ["LeakyRelu alpha: 0.1 in 5 nodes -> 0.1 in 4, 0.2 in 1"],
    ),
    "a default left": (
        lambda m: node(m, "MaxPool").attribute.append(helper.make_attribute("ceil_mode", 1)),
        ["MaxPool ceil_mode default -> 1"],
    ),
    "a constant": (
        lambda m: rewrite(m, "limit", lambda value: value + np.float32(0.05)),
        ["Sub B [0.45] -> [0.5]"],
    ),
    "a shape": (
        lambda m: rewrite(m, "shape", lambda value: np.array([1, 12, -1])),
        ["Reshape shape [1, 6, -1] -> [1, 12, -1]"],
    ),
    "an operator": (
        lambda m: node(m, "LeakyRelu", 1).__setattr__("op_type", "Elu"),
        ["Elu 0 -> 1", "LeakyRelu 5 -> 4"],
    ),
    "an order": (
        lambda m: node(m, "Concat").input.extend([node(m, "Concat").input.pop(0)]),
        ["the same operators, wired differently"],
    ),
    "a branch read twice": (
        lambda m: node(m, "Concat").input.__setitem__(0, node(m, "Concat").input[1]),
        ["the same operators, wired differently"],
    ),
    "two slopes exchanged for one another": (
        lambda m: (
            node(m, "LeakyRelu", 1).attribute[0].__setattr__("f", 0.2),
            node(m, "LeakyRelu", 4).attribute[0].__setattr__("f", 0.3),
        ),
        ["LeakyRelu alpha: 0.1 in 5 nodes -> 0.1 in 3, 0.2 in 1, 0.3 in 1"],
    ),
    "two tensors exchanged": (
        lambda m: (
            node(m, "Conv", 1).input.__setitem__(1, "model.2.conv.weight"),
            node(m, "Conv", 2).input.__setitem__(1, "model.1.conv.weight"),
        ),
        ["the same operators, reading other tensors than before"],
    ),
    "a bias lost": (
        lambda m: (node(m, "Conv", 3).input.pop(), m.graph.initializer.remove(stored(m, "model.3.conv.bias"))),
        ["model.3.conv.bias is removed", "the same operators, wired differently"],
    ),
    "a tensor of another shape": (
        lambda m: rewrite(m, "model.4.conv.weight", lambda value: value[:5]),
        ["model.4.conv.weight: shape 6x16x1x1 -> 5x16x1x1"],
    ),
    "a tensor scaled": (
        lambda m: rewrite(m, "model.3.conv.weight", lambda value: value * np.float32(1.0001)),
        ["model.3.conv.weight changed by 0.0001 of its rms: multiplied by 1.0001"],
    ),
    "a tensor negated": (
        lambda m: rewrite(m, "model.3.conv.weight", lambda value: -value),
        ["model.3.conv.weight changed by 2 of its rms: multiplied by -1"],
    ),
    "two tensors scaled": (
        lambda m: [rewrite(m, f"model.{k}.conv.weight", lambda value: value * np.float32(2)) for k in (1, 2)],
        [
            "2 tensors (model.1.conv.weight, model.2.conv.weight) changed by 1 of their rms: multiplied by 2",
        ],
    ),
    "zeros": (
        lambda m: rewrite(m, "model.3.conv.bias", lambda value: value * 0),
        ["model.3.conv.bias is all zeros now"],
    ),
    "a NaN": (
        lambda m: rewrite(
            m, "model.3.conv.bias", lambda value: np.where(value == value.max(), np.float32("nan"), value)
        ),
        ["model.3.conv.bias holds values that are not finite"],
    ),
    "a dead node": (
        lambda m: m.graph.node.append(helper.make_node("Relu", ["up"], ["unread"])),
        ["Relu 0 -> 1"],
    ),
    "a dead tensor": (
        lambda m: m.graph.initializer.append(small.tensor("model.9.conv.weight", np.ones((8, 8, 1, 1), np.float32))),
        ["model.9.conv.weight is new"],
    ),
    "a dead number": (
        lambda m: m.graph.initializer.append(small.tensor("spare", np.array(7))),
        ["an unused constant: none -> 7 in 1"],
    ),
    "an initializer that can be fed": (
        _fed,
        ["initializers that can be fed as inputs: 0 -> 1", "the same operators, wired differently"],
    ),
    "metadata": (lambda m: m.metadata_props.add(key="stride", value="32"), ["metadata 'stride' is new: 32"]),
}


@pytest.mark.parametrize("title", CASES)
def test_a_change_in_words(title, read):
    edit, expected = CASES[title]

    found = changed(read, small.network(), edit)

    assert words(found) == expected
    assert all(item.kind in weight_diff.KINDS for item in found)


def test_two_nodes_that_exchange_an_attribute(read):
    old = small.network()
    node(old, "LeakyRelu", 1).attribute[0].f = 0.2

    def exchange(model):
        node(model, "LeakyRelu", 1).attribute[0].f = 0.1
        node(model, "LeakyRelu", 3).attribute[0].f = 0.2

    assert words(changed(read, old, exchange)) == [
        "the same operators, attributes, constants and weights, in other positions"
    ]


def test_tensors_exchanged_in_a_file_without_names(read):
    old = read(small.respelled(small.conditional(), 1))
    new = read(small.respelled(small.conditional(swap=True), 2))

    assert words(differences(old, new)) == ["the same operators and the same tensors, but in other positions"]


def test_subgraphs_are_reported(read):
    old = read(small.conditional())

    assert words(differences(old, read(small.conditional(slope=0.2)))) == ["LeakyRelu alpha 0.1 -> 0.2"]
    assert words(differences(old, read(small.conditional(shift=0.75)))) == ["Add constant 0.5 -> 0.75"]
    assert [item.kind for item in differences(old, read(small.conditional(swap=True)))] == ["wiring"]


def test_an_unnamed_weight_that_changed_is_found_by_its_role(read):
    model = small.network()
    other = small.copied(model)
    rewrite(other, "model.2.conv.weight", lambda value: value * np.float32(3))

    renamed = differences(read(model), read(small.respelled(other, 5)))
    nameless = differences(read(small.respelled(model, 6)), read(small.respelled(other, 5)))

    assert words(renamed) == ["model.2.conv.weight changed by 2 of its rms: multiplied by 3"]
    assert len(nameless) == 1 and words(nameless)[0].endswith("changed by 2 of its rms: multiplied by 3")


def test_unnamed_weights_around_a_new_layer_are_matched(read):
    """The topology differs and nothing has a name: digests and the order of shapes are left."""
    old, new = small.network(), small.network()
    rewrite(new, "model.3.conv.weight", lambda value: value * np.float32(3))
    index = next(k for k, item in enumerate(new.graph.node) if "images" in item.input)
    new.graph.node[index].input[0] = "clean"
    new.graph.node.insert(0, helper.make_node("Relu", ["images"], ["clean"]))

    found = differences(read(small.respelled(old, 3)), read(small.respelled(new, 4)))

    assert words(found)[0] == "Relu 0 -> 1"
    assert words(found)[1].endswith("changed by 2 of its rms: multiplied by 3") and len(found) == 2


def test_a_change_is_estimated_from_the_sketches(read):
    def perturb(model):
        rng = np.random.default_rng(3)
        rewrite(
            model,
            "model.3.conv.weight",
            lambda value: (value + 0.03 * value.std() * rng.normal(size=value.shape)).astype(np.float32),
        )

    found = words(changed(read, small.network(), perturb))

    assert len(found) == 1
    assert found[0].startswith("model.3.conv.weight changed by about 0.0")
    assert found[0].endswith(" (relative, estimated from a sketch)")


def test_facts_of_another_format_are_refused(network):
    with pytest.raises(InputError, match="format 99"):
        differences({**network, "format": 99}, network)


# --- signatures ------------------------------------------------------------------------------------------------------


def _slope(model):
    node(model, "LeakyRelu", 20).attribute[0].f = 0.2


def _exchanged(model):
    read = node(model, "Concat", 2).input
    read.extend([read.pop(0)])


def _doubled(model):
    read = node(model, "Concat", 2).input
    read[0] = read[1]


def _scaled(model):
    rewrite(model, "model.37.conv.weight", lambda value: value * np.float32(1.0001))


def _shifted(model):
    rewrite(model, "model.37.conv.bias", lambda value: value + np.float32(0.5))


def _activation(model):
    node(model, "LeakyRelu", 7).op_type = "Elu"


SAME_CHANGES = (_slope, _exchanged, _doubled, _scaled, _shifted, _activation)


def test_one_change_in_two_variants_has_one_signature_and_two_changes_have_two(read, exports_of):
    found = {}
    for name in ("grid", "grid-dynamic-batch", "end2end-ort"):
        model = exports_of(name)
        found[name] = [signature(changed(read, model, edit)) for edit in SAME_CHANGES]

    assert found["grid"] == found["grid-dynamic-batch"] == found["end2end-ort"]
    assert len(set(found["grid"])) == len(SAME_CHANGES)


def test_one_change_at_two_positions_has_two_signatures(read, exports_of):
    def at(index):
        def edit(model):
            node(model, "LeakyRelu", index).attribute[0].f = 0.2

        return edit

    found = [changed(read, exports_of("grid"), at(index)) for index in range(0, 24, 4)]

    assert len({tuple(words(item)) for item in found}) == 1
    assert len(set(map(signature, found))) == 6


# --- between versions of an exporter ---------------------------------------------------------------------------------


def test_what_is_portable_is_reported_and_the_rest_is_not(read, network):
    other = small.network(opset=12)
    node(other, "LeakyRelu").op_type = "Elu"
    rewrite(other, "model.1.conv.weight", lambda value: value * np.float32(1 + 1e-6))

    assert differences(network, read(other)) != ()
    assert portable(network, read(other)) == ()

    rewrite(other, "model.1.conv.weight", lambda value: value * np.float32(1.001))
    other.graph.output[0].type.tensor_type.shape.dim[1].dim_param = "rows"
    assert words(portable(network, read(other))) == [
        "output axis 1: 256 -> rows",
        "model.1.conv.weight changed by 0.001001 of its rms: multiplied by 1.001",
    ]


def test_a_threshold_is_portable(read, exports_of):
    def loosen(model):
        limit = node(model, "NonMaxSuppression").input[3]
        for item in model.graph.initializer:
            if item.name == limit:
                item.CopyFrom(small.tensor(limit, np.array([0.5], np.float32)))

    model = exports_of("end2end-ort")
    other = small.copied(model)
    loosen(other)

    assert words(portable(read(model), read(other))) == ["NonMaxSuppression iou_threshold [0.45] -> [0.5]"]


# --- sketches and spelling -------------------------------------------------------------------------------------------


def test_a_sketch_never_changes():
    """Recorded facts hold sketches: another numpy, another platform must make the same."""
    assert packed(sketch(np.arange(24, dtype=np.float32).reshape(2, 3, 4) - 7).shares) == SKETCH


SKETCH = "sBRzDYqoFviVP5juMgPeC6HWGeWKqBb40tn38MNloP0"


@DRAWN
@given(seed=SEEDS, size=st.sampled_from([1e-6, 1e-4, 0.01, 0.3]))
def test_sketches_tell_how_far_two_tensors_are_apart(seed, size):
    rng = np.random.default_rng(seed)
    old = rng.normal(size=(16, 8, 3, 3))
    step = rng.normal(size=old.shape)
    new = old + size * step / np.linalg.norm(step) * np.linalg.norm(old)

    found = change(*(sketch(array) for array in (old, new)), precision=1e-9)

    assert found.factor is None and found.relative is not None
    assert size / 3 < found.relative < size * 3


@DRAWN
@given(seed=SEEDS, factor=st.sampled_from([1.0001, 0.5, -1.0, -2.5, 1000.0, 1 + 1e-5]))
def test_sketches_tell_a_factor(seed, factor):
    old = np.random.default_rng(seed).normal(size=(16, 8, 3, 3)).astype(np.float32)

    found = change(sketch(old), sketch(old * np.float32(factor)))

    assert found.factor == pytest.approx(factor, rel=1e-7)


def test_sketches_survive_packing_and_odd_tensors():
    made = sketch(np.random.default_rng(0).normal(size=(5, 5)))

    assert np.allclose(unpacked(packed(made.shares)), made.shares, atol=4e-9)
    assert sketch(np.zeros((3, 3))).shares == () and packed(()) == "-" and unpacked("-") == ()
    assert sketch(np.array([1.0, np.nan])).shares == () and sketch(np.zeros((0, 3))).rms == 0
    assert change(sketch(np.zeros(4)), sketch(np.ones(4))).relative is None
    assert change(sketch(np.ones(4)), sketch(np.zeros(4))).relative == pytest.approx(1, abs=1e-8)


def test_values_that_differ_are_spelled_differently():
    values = [
        np.array(1, np.int64),
        np.array(1, np.int32),
        np.array(1, np.float32),
        np.array(1, np.float64),
        np.array([1], np.int64),
        np.array([[1]], np.int64),
        np.array(True),
        np.array(-0.0, np.float32),
        np.array(0.0, np.float32),
        np.array(0.1, np.float32),
        np.nextafter(np.array(0.1, np.float32), np.float32(1)),
        np.zeros(0, np.float32),
        np.zeros(0, np.int64),
        np.arange(40),
        np.arange(40) + 1,
        np.array(["1"], object),
        np.array([b"1", b"2"], object),
    ]
    attributes = [
        ("INT", 1),
        ("FLOAT", 1.0),
        ("STRING", "1"),
        ("INTS", [1]),
        ("FLOATS", [1.0]),
        ("STRINGS", ["1"]),
        ("INTS", []),
        ("FLOATS", []),
        ("INTS", list(range(40))),
        ("INTS", list(range(41))),
        ("STRING", "inf"),
        ("FLOAT", float("inf")),
        ("STRING", "a" * 100),
        ("STRING", "a" * 101),
        ("REFERENCE", "alpha"),
        ("STRING", "alpha"),
    ]

    texts = [array_text(item) for item in values], [attribute_text(*item) for item in attributes]

    assert len(set(texts[0])) == len(values) and len(set(texts[1])) == len(attributes)
    assert max(map(len, texts[0] + texts[1])) < 100
    assert (
        array_text(np.array([0.45], np.float32)) == "[0.45]" and attribute_text("FLOAT", 0.10000000149011612) == "0.1"
    )


@pytest.mark.parametrize(
    "name, official",
    [
        ("network.model.0.block.conv.weight", "model.0.conv.weight"),
        ("model.model.77.m.0.bias", "model.77.m.0.bias"),
        ("backbone.layer1.0.conv1.weight", "backbone.layer1.0.conv1.weight"),
    ],
)
def test_official_names(name, official):
    assert official_name(name) == official


def test_two_parameters_that_would_get_one_name_keep_their_own(read):
    model = small.network()
    text = copy.deepcopy(model)
    for item in text.graph.node:
        for slot, name in enumerate(item.input):
            item.input[slot] = name.replace("model.1.", "a.model.0.").replace("model.0.", "b.model.0.", 1)
    for item in text.graph.initializer:
        item.name = item.name.replace("model.1.", "a.model.0.").replace("model.0.", "b.model.0.", 1)

    names = {tensor.name for tensor in weight_diff.tensors(read(text))}

    assert len(names) == 10 and None not in names
    assert differences(read(model), read(text)) == ()


# --- real files ------------------------------------------------------------------------------------------------------


def test_real_files_of_one_detector(read, shared_data):
    folder = shared_data / "artifacts" / "yolov7-tiny"
    facts = {path.stem: read(path.read_bytes()) for path in sorted(folder.glob("*.onnx"))}

    assert all(len(json.dumps(one, indent=1, sort_keys=True)) < 20_000 for one in facts.values())
    batch = words(differences(facts["grid"], facts["grid-dynamic-batch"]))
    assert batch[0] == "output axis 0: 1 -> batch" and "Concat 18 -> 24" in batch
    assert not any(item.kind == "weights" for item in differences(facts["grid"], facts["grid-dynamic-batch"]))
    assert words(differences(facts["grid-dynamic-batch"], facts["grid-dynamic"])) == [
        "output axis 2: Concatoutput_dim_2 -> y",
        "input axis 2: 320 -> height",
        "input axis 3: 320 -> width",
    ]
    trt = words(differences(facts["grid"], facts["end2end-trt"]))
    assert "output 'output' is removed" in trt and "TRT:EfficientNMS_TRT 0 -> 1" in trt
    for one in facts.values():
        assert [t.name for t in weight_diff.tensors(one)][:2] == ["model.0.conv.weight", "model.0.conv.bias"]


def test_grid_and_grid_dynamo_hold_the_same_weights(read, exports_of):
    old, new = read(exports_of("grid")), read(exports_of("grid-dynamo"))

    found = differences(old, new)

    assert "opset 12 -> 18" in words(found)
    assert not any(item.kind == "weights" for item in found)
