"""Decisions inside a network: a file's legal choice is given to the model, an illegal one is a finding, and what follows is judged."""

from __future__ import annotations

import copy
from dataclasses import replace

import numpy as np
import onnx
import onnxruntime
import pytest

pytest.importorskip("torch", minversion="1.13")  # float64 of any module

import torch
from detparity.kit.tests.checks.foreign.stand_ins import OPSET
from detparity.kit.tests.defects import edits
from detparity.kit.tests.examples import examples
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import helper

from detparity.checks.foreign.measured import low_power
from detparity.checks.foreign.open_file import ForeignSource, open_context
from detparity.checks.foreign.parity import DECLARED
from detparity.checks.judging import undecided
from detparity.checks.power import of_foreign
from detparity.core.clock import Clock
from detparity.core.decisions import Choice, Forced, breach
from detparity.core.errors import EngineDied
from detparity.core.promises import Promises
from detparity.engines.graph_reference import GraphReference
from detparity.inputs.images import batch_of
from detparity.models.compat.onnx_export import export_onnx
from detparity.models.module_reference import Made, ModuleReference
from detparity.models.reference import ReferenceFacts
from detparity.models.scaled import scaled
from detparity.oracle.noise_floor import SIGMOID, SIGMOID_MOST

SIZE = (64, 96)
CANDIDATES, CHOSEN = 96, 12


class TwoStage(torch.nn.Module):
    """The best cells of a map by their score, then attention among them, then classes and boxes. steps: scores are rounded to as many
    to the unit, so that ties abound; 0: not rounded."""

    def __init__(self, steps: int = 0, seed: int = 0) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.steps = steps
        self.backbone = torch.nn.Sequential(
            torch.nn.Conv2d(3, 16, 8, 8), torch.nn.SiLU(), torch.nn.Conv2d(16, 16, 3, 1, 1), torch.nn.Tanh()
        )
        self.score = torch.nn.Linear(16, 1)
        self.decode = torch.nn.Linear(16, 9)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.backbone(images).flatten(2).transpose(1, 2)
        scores = self.score(features).squeeze(2)
        if self.steps:
            scores = torch.round(scores * self.steps) / self.steps
        chosen = scores.topk(CHOSEN, dim=1).indices
        queries = features.gather(1, chosen.unsqueeze(2).expand(-1, -1, 16))
        mixed = queries + torch.softmax(4 * queries @ queries.transpose(1, 2), 2) @ queries
        found = self.decode(mixed)
        return found[:, :, 4:], torch.sigmoid(found[:, :, :4])


def file_of(module: torch.nn.Module) -> onnx.ModelProto:
    made = export_onnx(module.eval(), torch.zeros(1, 3, *SIZE), ["images"], ["logits", "pred_boxes"], {}, OPSET)
    return onnx.load_from_string(made)


@pytest.fixture
def verdict(tmp_path):
    """Call with a module and its file for the findings of a check, parity.declared where none is named."""

    def judge(module, model, check="parity.declared", layout="detr"):
        path = tmp_path / "file.onnx"
        onnx.save(model, str(path))
        reference = ModuleReference(Made(module, ReferenceFacts("two stages", "", (1, 3, *SIZE), (), layout)))
        context = open_context(path, ForeignSource(lambda _: reference), None, Clock(), True)
        outcome = context.outcome(check)
        assert outcome.outcome in ("passed", "failed"), outcome.reason
        return [finding.message for finding in outcome.findings]

    return judge


def topk(model):
    return next(node for node in model.graph.node if node.op_type == "TopK")


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("steps", [0, 8])
def test_a_correct_file_conforms_however_many_ties_there_are(steps, seed, verdict):
    module = TwoStage(steps, seed)
    model = file_of(module)

    assert verdict(module, model) == []
    assert verdict(module, model, "parity.values") == []


@pytest.mark.parametrize("steps", [0, 8])
def test_a_picture_costs_one_run_in_float64_and_one_in_float32(steps, tmp_path):
    """None is repeated where the file chose as the model; one is where it chose otherwise on the declared picture, whose first run
    found the outputs' layout."""
    path, runs = tmp_path / "file.onnx", []
    onnx.save(file_of(TwoStage(steps)), str(path))

    class Counted(TwoStage):
        def forward(self, images):
            runs.append(images.dtype)
            return super().forward(images)

    module = Counted(steps).eval()
    reference = ModuleReference(Made(module, ReferenceFacts("two stages", "", (1, 3, *SIZE), (), "detr")))
    context = open_context(path, ForeignSource(lambda _: reference), None, Clock(), True)
    outcomes = [context.outcome(check).outcome for check in ("parity.declared", "parity.values")]

    forced = context.chosen_truth(context.declared).forced
    pictures = len(DECLARED) + 1
    assert outcomes == ["passed", "passed"]
    assert [one.same for one in forced] == [steps == 0]
    assert runs.count(torch.float32) == pictures
    assert runs.count(torch.float64) == pictures + (steps > 0)


class Deciding(torch.nn.Module):
    """One operator of each kind of choice."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0

    def forward(self, images):
        self.runs += 1
        x = images.mean(1).flatten(1)
        best, order = x.topk(4, 1).indices, (3 * x).sort(1, descending=True).indices
        first, held = (5 * x).argmax(1), torch.where(x > 0.5, x, torch.zeros_like(x))
        return x.gather(1, best), x.gather(1, order), first, held


def test_a_run_under_the_models_own_choices_is_not_made_again():
    """What it would have been given is what a run of the model is given."""
    images = np.random.default_rng(0).random((2, 3, 4, 5), dtype=np.float32)
    facts = ReferenceFacts("deciding", "", (1, 3, 4, 5), (), "")
    one, other = (ModuleReference(Made(Deciding().eval(), facts)) for _ in range(2))

    alone = one.run("exact", images)
    own = one.decisions(images)
    outputs, forced = one.run_forced("exact", images, own)
    again, run = other.run_forced("exact", images, own)

    assert [one._exact_module().runs, other._exact_module().runs] == [1, 1]
    assert len(own) == 4 and all(choice.same for choice in forced)
    assert list(map(str, forced)) == list(map(str, run))
    assert all(
        np.array_equal(alone[name], outputs[name]) and np.array_equal(again[name], outputs[name]) for name in alone
    )

    changed = [replace(own[0], indices=own[0].indices[:, ::-1].copy()), *own[1:]]
    assert [choice.same for choice in one.run_forced("exact", images, changed)[1]] == [False, True, True, True]
    assert one._exact_module().runs == 2


def test_ties_do_part_file_and_model(tmp_path):
    """The test above would prove nothing if ONNX Runtime and torch chose the same."""
    module = TwoStage(4, 0).eval()
    path = tmp_path / "file.onnx"
    onnx.save(file_of(module), str(path))
    runtime = pytest.importorskip("onnxruntime").InferenceSession(str(path), providers=["CPUExecutionProvider"])
    images = np.random.default_rng(0).random((1, 3, *SIZE), dtype=np.float32)
    with torch.no_grad():
        own = module(torch.from_numpy(images))[0].numpy()

    assert np.abs(runtime.run(None, {"images": images})[0] - own).max() > 0.01


@pytest.mark.parametrize("steps", [0, 100])
def test_another_candidate_than_the_best_is_a_finding(steps, verdict):
    module = TwoStage(steps)
    model = file_of(module)
    with torch.no_grad():
        features = module.backbone(torch.from_numpy(batch_of([("noise", 0)], SIZE))).flatten(2).transpose(1, 2)
        worst = int(module.score(features)[0, :, 0].argmin())
    bias = np.zeros((1, CANDIDATES), np.float32)
    bias[0, worst] = 10.0  # it comes first, and is worth least
    edits.splice(model, topk(model).input[0], lambda x, op: op("Add", x, bias))

    (message,) = verdict(module, model)
    assert message.startswith("chooses wrongly inside the network") and f"candidate {worst} in place of" in message


def test_the_worst_in_place_of_the_best_is_a_finding(verdict):
    module = TwoStage()
    model = file_of(module)
    node = topk(model)
    del node.attribute[:]
    node.attribute.extend([onnx.helper.make_attribute("axis", 1), onnx.helper.make_attribute("largest", 0)])

    (message,) = verdict(module, model)
    assert message.startswith("chooses wrongly inside the network")


@pytest.mark.parametrize("steps", [0, 8])
def test_what_follows_a_legal_choice_is_judged(steps, verdict):
    module = TwoStage(steps)
    model = file_of(module)
    weight = next(one for one in model.graph.initializer if tuple(one.dims) in ((9, 16), (16, 9)))
    values = onnx.numpy_helper.to_array(weight) * np.float32(1.001)
    weight.CopyFrom(onnx.numpy_helper.from_array(values, weight.name))

    (message,) = verdict(module, model)
    assert message.startswith("differs from the model at")


def test_boxes_of_another_query_are_a_finding(verdict):
    module = TwoStage(8)
    model = file_of(module)
    order = np.roll(np.arange(CHOSEN), 1)
    edits.splice(model, "pred_boxes", lambda x, op: op("Gather", x, order.astype(np.int64), axis=1))

    (message,) = verdict(module, model)
    assert message.startswith("differs from the model at") and "pred_boxes" in message


@settings(max_examples=examples(200), deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(1, 8), st.floats(0.0, 0.1))
def test_a_choice_by_noisy_scores_is_legal_and_a_worse_one_is_not(seed, count, noise):
    rng = np.random.default_rng(seed)
    scores = rng.random((2, 20))
    seen = scores + rng.uniform(-noise, noise, scores.shape)
    indices = np.argsort(-seen, axis=1)[:, :count]

    def found(chosen, margin):
        forced = Forced("x", "aten::topk", scores, taken=count)
        return breach(Choice("x", seen, chosen, 1), forced, margin)

    assert found(indices, 2 * noise + 1e-12) is None

    worst, best = int(np.argmin(scores[0])), int(np.argmax(scores[0]))
    wrong = indices.copy()
    wrong[0] = [index for index in np.argsort(-scores[0]) if index != best][: count - 1] + [worst]
    illegal = found(wrong, 0.0)
    assert illegal.what == "left out" and illegal.by == pytest.approx(scores[0, best] - scores[0, worst])
    assert count < 2 or found(np.zeros_like(indices), 9.0).what == "repeated"
    assert count < 2 or found(np.argsort(-scores, axis=1)[:, :count][:, ::-1], 0.0).what == "order"


class Farthest(TwoStage):
    """The same with the smallest scores."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.backbone(images).flatten(2).transpose(1, 2)
        scores = torch.round(self.score(features).squeeze(2) * 8) / 8
        chosen = scores.topk(CHOSEN, dim=1, largest=False).indices
        queries = features.gather(1, chosen.unsqueeze(2).expand(-1, -1, 16))
        found = self.decode(queries + torch.softmax(4 * queries @ queries.transpose(1, 2), 2) @ queries)
        return found[:, :, 4:], torch.sigmoid(found[:, :, :4])


def test_the_smallest_may_be_what_the_model_takes(verdict):
    module = Farthest()

    for check in ("parity.declared", "parity.values", "parity.optimisation"):
        assert verdict(module, file_of(module), check) == []


@pytest.mark.parametrize(
    ("promised", "outcome"),
    [
        (Promises(), "failed"),
        (Promises("torch.onnx.export", written=1), "passed"),
        (Promises("torch.jit.trace"), "passed"),
    ],
)
def test_an_output_that_the_file_has_not_is_found_or_stated(promised, outcome, tmp_path):
    """What a module leaves out while it is exported belongs to its export: that is low power, and no finding."""
    module, path = TwoStage().eval(), tmp_path / "file.onnx"
    model = file_of(module)
    del model.graph.output[1]
    onnx.save(model, str(path))
    reference = ModuleReference(Made(module, ReferenceFacts("two stages", "", (1, 3, *SIZE), ())))
    context = open_context(path, ForeignSource(lambda _: reference, lambda _: promised), None, Clock(), True)

    assert context.outcome("structure.outputs").outcome == outcome
    assert context.outcome("parity.declared").outcome == "passed"
    assert "1 output of the model, beside those shown, was not compared" in low_power(context)


def test_a_limit_is_not_blamed_on_a_file_whose_model_refuses(tmp_path):
    path = tmp_path / "file.onnx"
    onnx.save(file_of(TwoStage()), str(path))
    reference = ModuleReference(Made(torch.nn.Linear(5, 5), ReferenceFacts("another", "", (1, 3, *SIZE), ())))
    context = open_context(path, ForeignSource(lambda _: reference), None, Clock(), True)

    assert not context.to_blame(EngineDied("time", "is still running", 60.0))
    assert context.to_blame(EngineDied("crash", "crashes"))
    assert not context.to_blame(EngineDied("killed", "was killed"))
    assert undecided(EngineDied("killed", "was killed")) == "was killed; run it again"


@pytest.fixture
def against(tmp_path):
    """Call with two files, the second the reference, for the findings of parity.declared and how often the reference was run."""

    def judge(model, other):
        paths = [tmp_path / name for name in ("file.onnx", "other.onnx")]
        for path, content in zip(paths, (model, other)):
            onnx.save(content, str(path))
        reference = GraphReference(paths[1], "another file")
        context = open_context(paths[0], ForeignSource(lambda _: reference), None, Clock(), True)
        outcome = context.outcome("parity.declared")
        assert outcome.outcome in ("passed", "failed"), outcome.reason
        return [finding.message for finding in outcome.findings], context.chosen_truth(context.declared)

    return judge


def other_ties(model, seed=0):
    """The same file where scores are off by up to one rounding, so that ties are broken otherwise."""
    last = np.random.default_rng(seed).integers(0, 2, (1, CANDIDATES)).astype(np.float32) * np.float32(2.0**-23)
    edits.splice(model, topk(model).input[0], lambda x, op: op("Mul", x, 1 + last))
    return model


def test_another_file_is_given_the_choices_of_the_first(against):
    module = TwoStage(8)
    messages, truth = against(other_ties(file_of(module)), file_of(module))

    assert messages == []
    assert [one.same for one in truth.forced] == [False]  # the test would prove nothing if both chose the same
    assert max(stats.max for stats in truth.images[0].floor().values()) < 1e-4


def test_what_follows_is_judged_against_another_file(against):
    module = TwoStage(8)
    model = other_ties(file_of(module))
    edits.splice(model, "logits", lambda x, op: op("Mul", x, 1.0001))

    (message,), _ = against(model, file_of(module))
    assert message.startswith("differs from the model at") and "logits" in message


def test_an_illegal_choice_is_found_against_another_file(against):
    module = TwoStage(0)
    model = file_of(module)
    node = topk(model)
    del node.attribute[:]
    node.attribute.extend([onnx.helper.make_attribute("axis", 1), onnx.helper.make_attribute("largest", 0)])

    (message,), _ = against(model, file_of(module))
    assert message.startswith("chooses wrongly inside the network")


class Constant(TwoStage):
    """Every candidate has the same score, whatever the picture."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.backbone(images).flatten(2).transpose(1, 2)
        scores = (features @ torch.zeros(16, 1)).squeeze(2) + self.score.bias
        chosen = scores.topk(CHOSEN, dim=1).indices
        queries = features.gather(1, chosen.unsqueeze(2).expand(-1, -1, 16))
        found = self.decode(queries)
        return found[:, :, 4:], torch.sigmoid(found[:, :, :4])


def test_nothing_decides_is_a_verdict(tmp_path):
    module, path = Constant(), tmp_path / "file.onnx"
    onnx.save(file_of(module), str(path))
    reference = ModuleReference(Made(module, ReferenceFacts("two stages", "", (1, 3, *SIZE), (), "detr")))
    context = open_context(path, ForeignSource(lambda _: reference), None, Clock(), True)
    outcome = context.outcome("parity.declared")

    assert outcome.outcome == "skipped" and not outcome.findings
    assert outcome.reason.startswith("nothing decides: the 96 candidates at /TopK lie within 0 of one another")


class InTheDark(TwoStage):
    """Every candidate has the same score, unless the picture is dark."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.backbone(images).flatten(2).transpose(1, 2)
        dark = (images.mean() < 0.1).to(images.dtype)
        chosen = (self.score(features).squeeze(2) * dark).topk(CHOSEN, dim=1).indices
        found = self.decode(features.gather(1, chosen.unsqueeze(2).expand(-1, -1, 16)))
        return found[:, :, 4:], torch.sigmoid(found[:, :, :4])


@pytest.mark.parametrize("defect", [False, True])
def test_pictures_on_which_nothing_decides_are_replaced_by_one_that_does(defect, tmp_path):
    module, path = InTheDark(), tmp_path / "file.onnx"
    model = file_of(module)
    if defect:
        edits.set_attribute(topk(model), "largest", 0)
    onnx.save(model, str(path))
    reference = ModuleReference(Made(module, ReferenceFacts("two stages", "", (1, 3, *SIZE), (), "detr")))
    context = open_context(path, ForeignSource(lambda _: reference), None, Clock(), True)
    outcome = context.outcome("parity.declared")

    assert outcome.outcome == ("failed" if defect else "passed"), outcome.reason
    assert not defect or "of dark 0: at /TopK" in outcome.findings[0].message


class TwoSteps(TwoStage):
    """The best cells by their best class, then the best four (cell, class) pairs of those, as YOLOv10 takes them."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        found = self.decode(self.backbone(images).flatten(2).transpose(1, 2))
        scores, boxes = found[..., 4:].sigmoid(), found[..., :4]
        cells = scores.amax(-1).topk(CHOSEN, dim=1).indices.unsqueeze(-1)
        scores, boxes = scores.gather(1, cells.expand(-1, -1, 5)), boxes.gather(1, cells.expand(-1, -1, 4))
        best, index = scores.flatten(1).topk(4, dim=1)
        boxes = boxes.gather(1, torch.div(index, 5, rounding_mode="floor").unsqueeze(-1).expand(-1, -1, 4))
        return torch.cat([boxes, best.unsqueeze(-1), (index % 5).to(boxes.dtype).unsqueeze(-1)], -1)


@pytest.mark.parametrize("by", [0, -1, 1])
def test_a_number_of_candidates_that_no_row_shows_is_found(by, verdict):
    """The four best pairs are of the four best cells, at the most."""
    module = TwoSteps().eval()
    made = export_onnx(module, torch.zeros(1, 3, *SIZE), ["images"], ["output0"], {}, OPSET)
    model = onnx.load_from_string(made)
    taken = edits.add_constant(model, np.array([CHOSEN + by], np.int64))
    topk(model).input[1] = taken
    messages = verdict(module, model, layout="ultralytics-end2end")

    assert len(messages) == (by != 0)
    assert not by or f"the best {CHOSEN + by} of 96, where the model takes {CHOSEN}." in messages[0]


class Fewer(TwoStage):
    """Takes the best 100, or as many as there are."""

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        features = self.backbone(images).flatten(2).transpose(1, 2)
        chosen = self.score(features).squeeze(2).topk(min(100, features.shape[1]), dim=1).indices
        found = self.decode(features.gather(1, chosen.unsqueeze(2).expand(-1, -1, 16)))
        return found[:, :, 4:], torch.sigmoid(found[:, :, :4])


def test_more_candidates_than_a_small_picture_has_are_found_and_named(tmp_path):
    module, path = Fewer().eval(), tmp_path / "file.onnx"
    axes = {"images": {2: "height", 3: "width"}}
    names = ["logits", "pred_boxes"]
    path.write_bytes(export_onnx(module, torch.zeros(1, 3, 128, 128), ["images"], names, axes, OPSET))
    reference = ModuleReference(Made(module, ReferenceFacts("two stages", "", (1, 3, 128, 128), (), "detr")))
    context = open_context(path, ForeignSource(lambda _: reference), None, Clock(), True)

    assert context.outcome("parity.declared").outcome == "passed"
    (finding,) = context.outcome("parity.sizes").findings
    assert finding.message.startswith("does not run at (1, 3, 64, 96)")
    assert "the best 100" in " ".join(finding.notes) and "there are fewer" in " ".join(finding.notes)


def test_a_sigmoid_is_as_far_off_as_is_allowed_for():
    """Of two scores as near as this either may be chosen (yolov8n-seg with nms=True, 1.2e-7 apart at its ArgMax)."""
    values = helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None])
    result = helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None])
    graph = helper.make_graph([helper.make_node("Sigmoid", ["x"], ["y"])], "sigmoid", [values], [result])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=8)
    x = np.linspace(-20, 20, 400_000, dtype=np.float32)
    (y,) = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    assert 2 * SIGMOID < np.abs(y - 1 / (1 + np.exp(-x.astype(np.float64)))).max() <= SIGMOID_MOST


def test_errors_in_weights_are_measured_under_the_choices_of_the_file(tmp_path):
    module, path = TwoStage(), tmp_path / "file.onnx"

    def opened(changed):
        onnx.save(file_of(changed), str(path))
        reference = ModuleReference(Made(module.eval(), ReferenceFacts("two stages", "", (1, 3, *SIZE), (), "detr")))
        return open_context(path, ForeignSource(lambda _: reference), None, Clock(), True)

    found = of_foreign(opened(module), 9)
    text = "which error is seen in 1 of 4 weights that were scaled (score.weight): what the model chooses from changes"
    assert list(found["power"]) == ["backbone.0.weight", "backbone.2.weight", "decode.weight"]
    assert any(one.startswith(text) for one in found["blind_spots"])
    for share, outcome in ((2.0, "failed"), (0.1, "passed")):
        other = copy.deepcopy(module)
        with scaled(other, "backbone.0.weight", 1 + share * found["power"]["backbone.0.weight"]):
            assert opened(other).outcome("parity.declared").outcome == outcome, share
