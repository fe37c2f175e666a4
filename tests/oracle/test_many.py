"""No false alarm from our own end2end variants: hundreds of drawn tails, and hundreds of images with crowded candidates.

pytest tests/oracle/test_many.py -m slow -s
"""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from detparity.kit.tests.defects import edits

from detparity.artifacts import onnx_nms
from detparity.checks import nms
from detparity.checks.nms_tail import dense, find_cut
from detparity.core.case import Case

VARIANTS = (
    "end2end-ort",
    "end2end-ort-dynamic-batch",
    "end2end-ort-dynamic",
    "end2end-trt-dynamic-batch",
    "end2end-trt-nms",
)


@pytest.fixture(params=VARIANTS)
def context(request, session, exports):
    return session.context(exports(request.param), request.param)


@pytest.mark.slow
def test_three_hundred_drawn_tails_pass(context):
    cut = find_cut(context)
    batches = (1, 3) if context.contract.variant.dynamic_batch else (1, 1)
    judged = []

    def judge(made):
        judged.append(made.shape)
        return nms.tail_findings(context, cut, made, "drawn predictions")

    found = context.explore_boxes(batches, context.facts.classes, max(context.contract.size), 0.25, 300, judge)

    assert [finding.notes for finding in found] == []
    assert len(judged) >= 300


@pytest.mark.slow
def test_two_hundred_crowded_images_pass(context):
    for seed in range(200):
        case = Case(context.contract.size, (("noise", seed),))
        truth = context.truth(case.pictures[0], case.size)
        candidates = sum(int((level[:, 4] * level[:, 5:].max(1) > 0.25).sum()) for level in truth.levels)
        assert candidates > 100
        found = nms.compare(context, case)
        assert [finding.notes for finding in found] == [], case


@pytest.mark.parametrize("name", ["end2end-ort", "end2end-trt", "end2end-trt-nms"])
def test_the_cut_is_found_and_crowded(name, session, exports):
    """The tail check does press on the numbers: more candidates than the cap, and fewer."""
    context = session.context(exports(name), name)
    cut = find_cut(context)

    assert cut is not None
    assert cut.logits and set(cut.names.values()) == {5 if name == "end2end-ort" else 4}
    many = dense(context.facts, context.contract.size, 0.45, 0.25, 100, 1, 0)
    few = dense(context.facts, context.contract.size, 0.45, 0.25, 100, 1, 1)
    assert int((many[..., 4] > 0).sum()) > 200 and 10 < int((few[..., 4] > 0).sum()) < 100


@pytest.mark.parametrize("moved", [False, True], ids=["at once", "moved first"])
@pytest.mark.parametrize("op", ["Mul", "Add"])
def test_convolutions_are_no_logits_before_what_is_still_to_be_done(op, moved, session, exports, tmp_path):
    """As where an implicit vector is not folded: logits fed there would be multiplied once more."""
    model = onnx.load(str(exports("end2end-trt-nms")))
    (sigmoid, *_) = (node for node in model.graph.node if node.op_type == "Sigmoid")
    edits.splice(model, sigmoid.input[0], lambda x, add: add(op, add("Identity", x) if moved else x, 1.0))
    onnx.save(model, str(tmp_path / "made.onnx"))

    assert find_cut(session.context(tmp_path / "made.onnx", "end2end-trt-nms")) is None


def test_logits_in_float16_are_not_fed(session, exports, tmp_path):
    model = onnx.load(str(exports("end2end-trt-nms")))
    for sigmoid in edits.nodes(model, "Sigmoid"):
        edits.splice(model, sigmoid.input[0], lambda x, op: op("Cast", op("Cast", x, to=10), to=1))
    for node in edits.nodes(model, "Sigmoid"):
        conv = edits.producer(model, edits.producer(model, edits.producer(model, node.input[0]).input[0]).input[0])
        edits.splice(model, conv.input[0], lambda x, op: op("Cast", x, to=10))
        for name in conv.input[1:]:
            edits.set_value(model, name, edits.value_of(model, name).astype(np.float16))
        cast = edits.producer(model, node.input[0])
        cast.input[0] = conv.output[0]
    onnx.save(edits.prune(model), str(tmp_path / "made.onnx"))

    assert find_cut(session.context(tmp_path / "made.onnx", "end2end-trt-nms")) is None


def test_suppression_is_read_from_the_file(session, exports):
    context = session.context(exports("end2end-ort"), "end2end-ort")
    found = onnx_nms.find(context.onnx.graph)

    assert (round(found.iou_threshold, 6), found.score_threshold, found.cap) == (0.45, 0.25, 100)
    assert found.max_wh == context.contract.nms.max_wh > 320
