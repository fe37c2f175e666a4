"""What a verdict on a file of any detector states that it would have seen: an error twice as large is found."""

from __future__ import annotations

import copy
import json
import math

import numpy as np
import pytest

pytest.importorskip("torch", minversion="1.13")  # float64 of any module

from detparity.kit.tests.checks.foreign import stand_ins
from detparity.kit.tests.checks.foreign.stand_ins import STATIC

from detparity.checks import power
from detparity.checks.foreign import layers
from detparity.checks.foreign.parity import judged_of
from detparity.cli import main
from detparity.engines.graph_reference import GraphReference
from detparity.models.reference import EXACT, CannotRunReference
from detparity.models.scaled import scaled


@pytest.mark.parametrize("name", ["ultralytics", "ultralytics-end2end", "several"])
def test_numbers_off_by_twice_what_is_stated_are_found(name, judged):
    context = judged(name, STATIC, stand_ins.onnx_of(name, STATIC))
    found = power.of_foreign(context)
    case = context.declared
    truth, outputs = context.chosen_truth(case), context.predict(case)

    assert judged_of(context, case, truth, outputs) is None and found["sees"]
    groups = {f"{one.output} {one.field.name}": one for one in truth.images[0].groups}
    for key, row in found["sees"].items():
        field, output = groups[key].field, groups[key].output
        moved = {one: array.astype(np.float64) for one, array in outputs.items()}
        values = np.moveaxis(moved[output], context.layout.outputs[list(outputs).index(output)].axis, -1)
        values[..., field.start : field.stop] += 2 * row["smallest"]
        assert judged_of(context, case, truth, moved) is not None, key


def test_blind_spots_name_what_a_selection_does_not_show(judged):
    name = "ultralytics-end2end"
    found = power.of_foreign(judged(name, STATIC, stand_ins.onnx_of(name, STATIC)))["blind_spots"]

    assert any("not selected" in one for one in found) and any("quick run" in one for one in found)


def _file(name, weight, factor):
    """The export of a stand-in with one of its weights scaled."""
    module = copy.deepcopy(stand_ins.made(name))
    with scaled(module, weight, factor):
        return stand_ins.onnx_of(name, STATIC, module)


@pytest.mark.parametrize("name", ["several", "ultralytics-end2end"])
def test_twice_the_error_stated_of_a_weight_is_found_and_a_tenth_is_not(name, judged):
    context = judged(name, STATIC, stand_ins.onnx_of(name, STATIC))
    calls = []
    found = power.of_foreign(context, 3, lambda number, count: calls.append((number, count)))
    first, weight, _ = found["power"]

    assert first == "stem.0.weight" and weight.startswith("stages.")
    assert calls == [(1, 3), (2, 3), (3, 3)] and found["power_of"] == (11 if name == "several" else 13)
    assert all(0 < one < 1e-4 for one in found["power"].values())
    for share, outcome in ((2.0, "failed"), (0.1, "passed")):
        other = judged(name, STATIC, _file(name, weight, 1 + share * found["power"][weight]))
        assert other.outcome("parity.declared").outcome == outcome, share


def test_weights_that_nothing_is_seen_of_are_listed(judged):
    found = power.of_foreign(judged("detr", STATIC, stand_ins.onnx_of("detr", STATIC)), 100)

    text = "an error of up to 100% in 2 of 11 weights that were scaled (stages.3.0.weight, stages.3.1.weight)"
    assert len(found["power"]) == 9 and text in found["blind_spots"]


def test_what_is_not_known_of_weights_is_stated_with_the_reason(judged, monkeypatch):
    context = judged("several", STATIC, stand_ins.onnx_of("several", STATIC))

    def refuse(images):
        raise CannotRunReference("it does not take them")

    monkeypatch.setattr(context.oracle.reference, "weights_read", refuse, raising=False)
    assert power.of_foreign(context, 3)["blind_spots"][0].endswith("is seen: it does not take them")
    monkeypatch.setattr(context.oracle.reference, "weights_read", lambda images: [])
    found = power.of_foreign(context, 3)
    assert "power" not in found and found["blind_spots"][0].endswith("it holds none that can be changed")


def test_half_precision_is_measured_beside_its_own_noise(judged):
    context = judged("several", STATIC, stand_ins.onnx_of("several", STATIC))
    single = layers.smallest_by_weight(context, 1, lambda number, count: None)
    context.contract = type(context.contract)(**{**vars(context.contract), "precision": "float16"})
    exact = layers.smallest_by_weight(context, 1, lambda number, count: None)  # in float64, by the same floors
    assert list(single.seen) == list(exact.seen) == ["stem.0.weight"]
    assert 0.5 < single.seen["stem.0.weight"] / exact.seen["stem.0.weight"] < 2


@pytest.mark.parametrize("slope, noise, start", [(1e6, 0.25, 1e-3), (3.0, 0.25, 1e-3), (1e3, 0.0, 1.0)])
def test_an_error_is_the_smallest_that_is_seen(slope, noise, start):
    runs = []

    def share(error):
        runs.append(error)
        return math.hypot(noise, slope * error)

    found = layers.smallest(share, start, noise)
    assert found in runs and len(runs) <= 4 and 1.0 <= share(found) <= layers.NEAR


def test_errors_that_exchange_rows_are_tried_smaller_and_no_error_may_be_seen():
    found = layers.smallest(lambda error: math.inf if error > 1e-5 else 3e5 * error, 1e-3)
    assert found is not None and 1.0 <= 3e5 * found <= layers.NEAR
    assert layers.smallest(lambda error: 0.3, 1e-6, 0.3) is None
    assert layers.smallest(lambda error: math.inf, 1e-3) is None


def test_a_weight_of_a_graph_is_scaled_where_its_node_reads_it(tmp_path):
    path = tmp_path / "m.onnx"
    path.write_bytes(stand_ins.onnx_of("maps", STATIC).SerializeToString())
    reference = GraphReference(path, "itself")
    images = np.random.default_rng(0).random((1, 3, *stand_ins.SIZE)).astype(np.float32)
    before, names = reference.run(EXACT, images), reference.weights_read(images)
    found = reference.run_scaled(EXACT, (names[-1], 1.5), images)
    after = reference.run(EXACT, images)

    assert len(names) == 8 and all(np.array_equal(before[name], after[name]) for name in before)
    assert [name for name in before if not np.array_equal(before[name], found[name])] == ["p5"]


CODE = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Conv2d(4, 5, 1), nn.Conv2d(3, 4, 3, 2, 1)

    def forward(self, images):
        return self.last(torch.relu(self.first(images)))
"""


def test_the_command_has_weights_of_a_model_in_its_own_process_in_the_order_they_are_read(tmp_path, capsys):
    import torch

    (tmp_path / "mine.py").write_text(CODE)
    defined = {}
    exec(CODE, defined)
    torch.manual_seed(0)
    from detparity.models.compat.onnx_export import export_onnx

    module, images = defined["Small"]().eval(), torch.rand(1, 3, 32, 48)
    (tmp_path / "m.onnx").write_bytes(export_onnx(module, images, ["images"], ["output"], {}, stand_ins.OPSET))
    words = ["power", str(tmp_path / "m.onnx"), "--model", f"{tmp_path}/mine.py:Small", "--img-size", "32", "48"]
    assert main.main([*words, "--json", str(tmp_path / "r.json")]) == 0
    found = json.loads((tmp_path / "r.json").read_text())
    out = capsys.readouterr().out
    assert list(found["power"]) == ["first.weight", "last.weight"] and found["power_of"] == 2
    assert "weights, in the order they run  smallest relative error" in out and "evenly spread" not in out
