"""The user's pictures as a subject: a good file passes on them, a defect shows on them, and the report has both sides' detections."""

from __future__ import annotations

import warnings

import detparity.kit.exporters as exporters
import numpy as np
import pytest
from detparity.kit.tests.defects.registry import registry as planted_files

from detparity.checks.run import judge_all
from detparity.checks.session import Options, Session
from detparity.core.case import Case
from detparity.engines.reference_runs import make_oracle
from detparity.inputs.photos import Fit, PhotosAsked
from detparity.inputs.scenes import scene
from detparity.models.choice import ModelChoice
from detparity.tools.export_cache import exported

Image = pytest.importorskip("PIL.Image")
SIZE = (256, 320)
PLANTED = planted_files()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Five scenes of the bundled detector as pictures of other sizes, with labels."""
    made = tmp_path_factory.mktemp("own")
    for seed, size in enumerate(((256, 320), (300, 400), (200, 320), (256, 320), (128, 160))):
        drawn = scene(size, 70 + seed)
        pixels = np.rint(drawn.image.transpose(1, 2, 0) * 255).astype(np.uint8)
        Image.fromarray(pixels).save(made / f"own {seed}.png")
        centre, sides = (drawn.boxes[:, :2] + drawn.boxes[:, 2:]) / 2, drawn.boxes[:, 2:] - drawn.boxes[:, :2]
        rows = np.concatenate([centre, sides], axis=1) / ([size[1], size[0]] * 2)
        lines = [f"{label} {' '.join(map(str, row))}" for label, row in zip(drawn.classes, rows.tolist())]
        (made / f"own {seed}.txt").write_text("\n".join(lines))
    return made


@pytest.fixture
def judged(session, folder, shared_folder, tmp_path):
    """Call with a planted file's name (or a variant) and the checks to run for the artifact's entry."""
    if session.choice != ModelChoice():
        pytest.skip("the planted files are exports of the bundled detector")

    def judge(name, checks, **more):
        planted = PLANTED.get(name)
        variant, head = (planted.variant.name, planted.variant.head) if planted else (name, None)
        good = exported(session.detector, variant, SIZE, shared_folder, **({"head": head} if head else {}))
        path = tmp_path / f"{name}.onnx"
        options = exporters.ExportOptions(SIZE)
        path.write_bytes(planted.make(session.detector, options, good.read_bytes()) if planted else good.read_bytes())
        asked = PhotosAsked(folder, folder)
        run = Session(Options(artifacts=(path,), checks=checks, images=asked, **more))
        run.detector, run.oracle = session.detector, session.oracle
        records = [one.record for one in judge_all(run, run.subjects())]
        outcomes = {one["check"]["id"]: one["check"] for one in records}
        return outcomes, records[-1].get("measured", {})

    return judge


def test_a_good_file_passes_and_both_sides_detect_the_same(judged):
    outcomes, measured = judged("grid", "parity.images", pictures=2)
    found = measured["images"]

    assert outcomes["parity.images"]["outcome"] == "passed"
    assert found["total"]["model"] == found["total"]["same"] > 20
    assert [row["name"] for row in found["each"]] == [f"own_{number}.png" for number in range(5)]
    assert len({row["pixels"] for row in found["each"]}) == 5 and found["size"] == [256, 320]
    numbers = found["precision"]["numbers"]["mAP50"]
    assert numbers["model"] == numbers["file"] > 0.4 and numbers["low"] == numbers["high"] == 0.0
    assert len(measured["pictures"]) == 2 and measured["pictures"][0]["image"].startswith("data:image/jpeg;base64,")


@pytest.mark.parametrize("name, check", [("classes_permuted", "parity.images"), ("nms_centre_size", "nms.images")])
def test_a_defect_shows_on_the_pictures(judged, name, check):
    outcomes, measured = judged(name, check, pictures=1)
    (finding,) = outcomes[check]["findings"]

    assert outcomes[check]["outcome"] == "failed" and "own_0.png" in finding["message"]
    assert "--images" in finding["repeat"] and "--labels" in finding["repeat"]
    assert measured["images"]["total"]["same"] < measured["images"]["total"]["model"]
    numbers = measured["images"]["precision"]["numbers"]["mAP50"]
    assert numbers["high"] < 0.0
    if name == "classes_permuted":
        over = {(row["stride"], row["group"]) for row in measured["heat"]["rows"] if max(row["anchors"]) > 8}
        assert over == {(8, "class")} and (measured["heat"]["stride"], measured["heat"]["group"]) == (8, "class")
    else:
        assert "heat" not in measured


def test_a_run_goes_on_where_an_earlier_one_ended(session, folder, exports, tmp_path, monkeypatch):
    if session.choice != ModelChoice():
        pytest.skip("the labels are of the bundled detector")

    def judged(path, seen):
        asked = PhotosAsked(folder, folder, 3, resume=tmp_path / "found")
        run = Session(Options(artifacts=(path,), checks="parity.images", images=asked))
        run.detector, run.oracle = session.detector, make_oracle(session.detector, run.clock, ("grid",))
        run.progress = lambda number, count: seen.append((number, count))
        (one,) = judge_all(run, run.subjects())
        return one, run.oracle.asked

    seen = []
    (first, asked), (second, again) = judged(exports("grid"), []), judged(exports("grid"), seen)
    other, third = judged(exports("grid-dynamic"), [])

    assert seen == [(1, 3), (2, 3), (3, 3)] * 2
    assert (first.outcome.outcome, second.outcome.outcome, asked > 0, again) == ("passed", "passed", True, 0)
    images, repeated = (one.record["measured"]["images"] for one in (first, second))
    assert (images.pop("resumed"), repeated.pop("resumed")) == (0, 3) and images == repeated
    assert third > 0 and other.record["measured"]["images"]["resumed"] == 0  # of another file nothing is taken
    for path in (tmp_path / "found").iterdir():
        path.write_bytes(path.read_bytes()[:40])  # what was cut short is worked out again
    once_more = judged(exports("grid"), [])[0].record["measured"]["images"]
    assert (once_more["resumed"], once_more["total"]) == (0, images["total"])


def test_a_file_with_a_batch_of_its_own_takes_them_in_its_batches(session, exports):
    from detparity.checks.inputs import photo_cases

    cases = photo_cases([("a#1", 0), ("b#2", 0), ("c#3", 0)], SIZE, 2)

    assert cases == [Case(SIZE, (("a#1", 0), ("b#2", 0))), Case(SIZE, (("c#3", 0), ("a#1", 0)))]
    assert str(cases[1]) == "(2, 3, 256, 320) of c, a"


def test_without_pictures_there_is_no_such_check(session, exports):
    run = Session(Options(artifacts=(exports("grid"),)))
    run.detector = session.detector

    assert "parity.images" not in run.subjects()[0].checks and run.photos == ([], [])


def test_errors_of_another_model_are_shown_by_output_and_rows(session, folder, exports, tmp_path):
    pytest.importorskip("torch", minversion="1.13")
    from detparity.checks.foreign.sources import source_of

    good, planted = exports("grid"), PLANTED["classes_permuted"]
    path = tmp_path / "permuted.onnx"
    path.write_bytes(planted.make(session.detector, exporters.ExportOptions(SIZE), good.read_bytes()))
    choice = ModelChoice(against=str(good), layout="yolov5")
    options = Options(choice, (path,), checks="parity.images", images=PhotosAsked(folder, None, 1), pictures=1)
    run = Session(options, foreign=source_of(choice))
    (judged,) = judge_all(run, run.subjects())
    heat = judged.record["measured"]["heat"]

    over = {(row["stride"], row["group"]) for row in heat["rows"] if row["floors"] > heat["limit"]}
    assert over == {(8, "output class")} and (heat["stride"], heat["group"]) == (8, "output class")
    assert "cells" not in heat  # a cell of this head has three rows
    assert all(row["strip"].startswith("data:image/png;base64,") for row in heat["rows"])


def test_another_model_is_judged_on_them_with_its_layouts_own_resize(folder, exports):
    pytest.importorskip("torch", minversion="1.13")
    from detparity.checks.foreign.sources import source_of

    path = exports("grid")
    choice = ModelChoice(against=str(path), layout="yolov5")
    options = Options(choice, (path,), checks="parity.images", images=PhotosAsked(folder, None, 2, Fit("stretch")))
    run = Session(options, foreign=source_of(choice))
    (judged,) = judge_all(run, run.subjects())
    found = judged.record["measured"]["images"]

    assert judged.outcome.outcome == "passed", judged.texts
    assert found["total"]["model"] == found["total"]["same"] > 5 and len(found["each"]) == 2
    assert found["preprocess"].startswith("resize=stretch") and "precision" not in found


def test_earlier_results_are_not_of_other_tensors_beside_the_file(session, folder, exports, tmp_path):
    import onnx

    path, asked = tmp_path / "outside.onnx", PhotosAsked(folder, None, 1, resume=tmp_path / "found")
    model = onnx.load(str(exports("grid")))
    onnx.save(model, str(path), save_as_external_data=True, location="outside.data", size_threshold=1024)

    def judged():
        run = Session(Options(artifacts=(path,), checks="parity.images", images=asked))
        run.detector, run.oracle = session.detector, make_oracle(session.detector, run.clock, ("grid",))
        (one,) = judge_all(run, run.subjects())
        return one.outcome.outcome

    assert (judged(), judged()) == ("passed", "passed")
    values = np.fromfile(str(tmp_path / "outside.data"), np.float32)
    (values * np.float32(1.1)).tofile(str(tmp_path / "outside.data"))  # the graph stays as it is, to the byte
    assert judged() == "failed"


NET = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv2d(3, 6, 8, 8)

    def forward(self, x):
        return nn.functional.{}(self.conv(x)).flatten(2).transpose(1, 2)
"""


def test_earlier_results_are_not_of_a_model_whose_code_changed(folder, tmp_path, monkeypatch):
    torch = pytest.importorskip("torch", minversion="1.13")
    import inspect

    from detparity.checks.foreign.sources import source_of

    spec, path = tmp_path / "net.py", tmp_path / "net.onnx"
    spec.write_text(NET.format("silu"))
    names = {}
    exec(spec.read_text(), names)  # as its user's exporter has it
    old = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(names["Net"]().eval(), torch.zeros(1, 3, 64, 96), str(path), opset_version=12, **old)
    asked = PhotosAsked(folder, None, 1, resume=tmp_path / "found")

    def judged():
        choice = ModelChoice(model=f"{spec}:Net")
        options = Options(choice, (path,), checks="parity.images", images=asked, img_size=(64, 96))
        run = Session(options, foreign=source_of(choice, (64, 96)))
        (one,) = judge_all(run, run.subjects())
        return one.outcome.outcome

    assert (judged(), judged()) == ("passed", "passed")
    spec.write_text(NET.format("relu"))
    assert judged() == "failed"
