"""Files that take their image or give their predictions in another form: read as what they are, with no false cause."""

from __future__ import annotations

import numpy as np
import pytest
from detparity.kit.exporters.options import ExportOptions
from detparity.kit.tests.defects import edits, modules
from onnx import TensorProto, helper

from detparity.core.text import render
from detparity.core.vocabulary import parse_variant


def _text(outcome):
    return " ".join(
        " ".join(render("f", outcome.check, finding).split()) for finding in outcome.findings if not finding.follows
    )


def _declared_input(model, kind, dims):
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("images", kind, dims))
    return model


def _before(model, build, kind=TensorProto.FLOAT, dims=(1, 3, 64, 96)):
    edits.splice(model, "images", build)
    return _declared_input(model, kind, dims)


def _uint8(model):
    return _before(
        model, lambda x, op: op("Div", op("Cast", x, to=TensorProto.FLOAT), 255.0), TensorProto.UINT8, (1, 3, 64, 96)
    )


def _float16(model):
    return _before(model, lambda x, op: op("Cast", x, to=TensorProto.FLOAT), TensorProto.FLOAT16)


def _nhwc(model):
    return _before(model, lambda x, op: op("Transpose", x, perm=[0, 3, 1, 2]), dims=(1, 64, 96, 3))


def _nhwc_uint8(model):
    def build(x, op):
        return op("Div", op("Cast", op("Transpose", x, perm=[0, 3, 1, 2]), to=TensorProto.FLOAT), 255.0)

    return _before(model, build, TensorProto.UINT8, (1, 64, 96, 3))


def _transposed(model):
    edits.splice(model, "output", lambda x, op: op("Transpose", x, perm=[0, 2, 1]))
    rows, fields = (dim.dim_value for dim in model.graph.output[0].type.tensor_type.shape.dim[1:])
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, fields, rows]))
    return model


def _second_input(model, order="width, height", kind=TensorProto.INT64):
    pair = (96, 64) if order == "width, height" else (64, 96)
    model.graph.input.append(helper.make_tensor_value_info("sizes", kind, [1, 2]))

    def build(x, op):
        scale = op("Div", op("Cast", "sizes", to=TensorProto.FLOAT), np.array([pair], np.float32))
        boxes = op("Mul", edits.cut(op, x, 0, 4, -1), op("Concat", scale, scale, axis=1))
        return op("Concat", boxes, edits.cut(op, x, 4, edits.END, -1), axis=-1)

    edits.splice(model, "output", build)
    return model


def _with_scale(model):
    model.graph.input.append(helper.make_tensor_value_info("scale", TensorProto.FLOAT, [1]))
    edits.splice(model, "output", lambda x, op: op("Mul", x, "scale"))
    return model


@pytest.mark.parametrize(
    "change, check, says",
    [
        (_uint8, "structure.inputs", "'images' is uint8 where float32 is promised"),
        (_float16, "structure.inputs", "'images' is float16 where float32 is promised"),
        (_nhwc, "structure.axes", "(1, 64, 96, 3): channels are the last axis (NHWC)"),
        (_transposed, "structure.axes", "fields come before rows, the output is transposed"),
        (_second_input, "structure.inputs", "the checks give the image's width and height, (96, 64)"),
        (
            lambda model: _second_input(model, "height, width", TensorProto.FLOAT),
            "structure.inputs",
            "the checks give the image's height and width, (64, 96)",
        ),
        (_with_scale, "structure.inputs", "'scale' (float32 (1)): the checks give ones"),
    ],
)
def test_another_form_is_one_finding_and_the_numbers_are_judged(change, check, says, clean, judged, outcomes, red):
    context = judged(change(clean()))
    found = outcomes(context)

    assert red(found) == {check}
    assert says in _text(found[check])
    assert found["parity.declared"].outcome == found["parity.values"].outcome == "passed"
    assert [outcome.check for outcome in found.values() if outcome.reason and "blocked" in outcome.reason] == []


def test_two_other_forms_are_two_findings(clean, judged, outcomes, red):
    assert red(outcomes(judged(_nhwc_uint8(clean())))) == {"structure.inputs", "structure.axes"}


def test_what_is_wrong_besides_the_form_is_found(clean, judged, outcomes, red):
    model = _uint8(clean())
    name = edits.weight(model, 12)
    edits.set_value(model, name, edits.value_of(model, name) * np.float32(1.001))

    assert {"structure.inputs", "structure.weights", "parity.declared"} <= red(outcomes(judged(model)))


def _corners(model, factor=1.0):
    def corners(x, op):
        centre, half = edits.cut(op, x, 0, 2, -1), op("Mul", edits.cut(op, x, 2, 4, -1), 0.5)
        return op("Mul", op("Concat", op("Sub", centre, half), op("Add", centre, half), axis=-1), factor)

    edits.on_columns(model, "output", 0, 4, corners)
    return model


PARTS = np.array([1 / 96, 1 / 64, 1 / 96, 1 / 64], np.float32)


def _normalised(model):
    edits.on_columns(model, "output", 0, 4, lambda x, op: op("Mul", x, PARTS))
    return model


def _from_the_corner(model):
    def moved(x, op):
        size = edits.cut(op, x, 2, 4, -1)
        return op("Concat", op("Sub", edits.cut(op, x, 0, 2, -1), op("Mul", size, 0.5)), size, axis=-1)

    edits.on_columns(model, "output", 0, 4, moved)
    return model


def _y_first(model):
    edits.on_columns(model, "output", 0, 4, lambda x, op: op("Gather", x, np.array([1, 0, 3, 2], np.int64), axis=2))
    return model


def _reversed_levels(model):
    last = edits.nodes(model, "Concat")[-1]
    last.input[:] = list(reversed(last.input))
    return model


def _cells_first(model):
    for name in edits.nodes(model, "Concat")[-1].input:
        edits.splice(
            model, edits.producer(model, name).input[0], lambda x, op: op("Transpose", x, perm=[0, 2, 3, 1, 4])
        )
    return model


def _multiplied(model):
    def scores(x, op):
        each = op("Mul", edits.cut(op, x, 5, edits.END, -1), edits.cut(op, x, 4, 5, -1))
        return op("Concat", edits.cut(op, x, 0, 5, -1), each, axis=-1)

    edits.splice(model, "output", scores)
    return model


@pytest.mark.parametrize(
    "change, says",
    [
        (_corners, "its boxes are corners instead of centre and size"),
        (
            lambda model: _corners(model, PARTS),
            "its boxes are corners instead of centre and size, its boxes are divided",
        ),
        (_normalised, "its boxes are divided by width and height"),
        (_from_the_corner, "its boxes are corner and size instead of centre and size"),
        (_y_first, "its boxes have y before x"),
        (_reversed_levels, "its levels are in the order 32, 16, 8"),
        (_cells_first, "its rows run cell by cell, anchors inside"),
        (_multiplied, "its class scores are already multiplied by objectness"),
        (
            lambda model: _normalised(_reversed_levels(model)),
            "its levels are in the order 32, 16, 8, its boxes are divided",
        ),
        (
            lambda model: _before(model, lambda x, op: op("Gather", x, np.array([2, 1, 0], np.int64), axis=1)),
            "the channels of its image are reversed (BGR for RGB)",
        ),
        (lambda model: _before(model, lambda x, op: op("Div", x, 255.0)), "it divides its image by 255."),
        (
            lambda model: _before(model, lambda x, op: op("Mul", op("Add", x, 1.0), 0.5)),
            "it takes its image from -1 to 1",
        ),
    ],
)
def test_a_layout_is_named_where_it_explains_every_number(change, says, clean, judged, outcomes, red):
    found = outcomes(judged(change(clean())))

    assert red(found) == {"parity.declared"}
    assert says in _text(found["parity.declared"])
    assert "Anchors differ" not in _text(found["parity.declared"])
    assert found["parity.values"].outcome == "failed"  # folded, not hidden


@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: edits.on_columns(model, "output", 4, 5, lambda x, op: op("Mul", x, 0.99)),
        lambda model: edits.on_columns(model, "output", 0, 1, lambda x, op: op("Add", x, 0.01)),
    ],
)
def test_a_layout_that_leaves_something_is_not_named(spoil, clean, judged):
    model = _normalised(clean())
    spoil(model)
    (finding,) = judged(model).outcome("parity.declared").findings

    assert "cause" not in finding.evidence
    assert not any(note.startswith(("Anchors differ", "Every width", "Tried")) for note in finding.notes)


def test_widths_multiplied_at_every_anchor_are_no_other_anchors(clean, judged):
    model = clean()
    edits.on_columns(model, "output", 2, 4, lambda x, op: op("Mul", x, np.array([0.5, 2.0], np.float32)))
    (finding,) = judged(model).outcome("parity.declared").findings

    assert "Every width is multiplied by 0.5 and every height by 2." in finding.notes


def test_predictions_apart_are_one_finding(clean, judged, outcomes, red):
    model = clean()
    rows = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    edits.rename(model, {"output": "decoded"})
    del model.graph.output[:]
    ends = {"boxes": (0, 4), "scores": (4, 5), "classes": (5, 6)}
    for name, (first, last) in ends.items():
        cut = [np.array([end], np.int64) for end in (first, last, 2)]
        names = [edits.add_constant(model, value) for value in cut]
        model.graph.node.append(helper.make_node("Slice", ["decoded", *names], [name]))
        model.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, rows, last - first]))
    found = outcomes(judged(model))

    assert red(found) == {"structure.outputs"}
    assert "Boxes, scores and classes are apart, one output each, as DeepStream reads them" in _text(
        found["structure.outputs"]
    )


def test_a_graph_without_inferred_shapes_does_not_pass(clean, judged):
    context = judged(clean())
    object.__setattr__(context.onnx.graph, "inferred", {})
    outcome = context.outcome("structure.inferred")

    assert (outcome.outcome, outcome.incomplete) == ("skipped", True)
    assert "nothing was compared" in outcome.reason


def test_a_transposed_module_is_judged_on(session, judged, outcomes, red):
    options, variant = ExportOptions((64, 96)), parse_variant("traced")
    module = modules.Wrapped(modules.shortcut(session.detector, options.size), after=lambda x: x.transpose(1, 2))
    content = modules.archive(modules.trace(module.eval(), options), session.detector, variant, options)
    found = outcomes(judged(content, name="edited.pt"))

    assert red(found) == {"script.structure"}
    assert found["parity.declared"].outcome == "passed"
