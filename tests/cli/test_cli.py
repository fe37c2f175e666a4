"""The command as its users meet it: what it writes, what it says, how it ends."""

from __future__ import annotations

import io
import json
import pickle
import shutil
import zipfile
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import pytest

from detparity.checks import NOT_QUICK
from detparity.cli import main
from detparity.core.errors import InputError
from detparity.core.vocabulary import parse_variant
from detparity.inputs.scenes import CLASSES
from detparity.models.choice import ModelChoice, bundled_weights, load_detector
from detparity.models.compat.pickler import save
from detparity.tools.export_cache import export_bytes, exported

SIZE = (64, 96)
SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "report.schema.json"


@pytest.fixture(scope="module")
def files(session, tmp_path_factory, shared_folder):
    """Good files of the bundled detector at a small size, by variant."""
    folder = tmp_path_factory.mktemp("files")
    for name, suffix in (("grid", "onnx"), ("raw", "onnx"), ("grid-dynamic", "onnx"), ("traced", "pt")):
        (folder / f"{name}.{suffix}").write_bytes(exported(session.detector, name, SIZE, shared_folder).read_bytes())
    return folder


@pytest.fixture
def command(tmp_path, monkeypatch, capsys):
    """Run the command in an empty folder; returns (exit code, stdout, stderr)."""
    place = tmp_path / "cwd"
    place.mkdir()
    monkeypatch.chdir(place)

    def run(*arguments):
        words = [str(argument) for argument in arguments]
        chosen = {"--weights", "--arch", "--cfg", "--model", "--against", "--exporter"} & set(words)
        if words[:1] == ["check"] and len(words) > 1 and not chosen:
            words += ["--model", "bundled"]
        code = main.main(words)
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    run.place = place
    return run


def _refused(result, *words):
    code, out, err = result
    assert code == 2, out + err
    lines = [line for line in (err or out).splitlines() if line.strip()]
    text = err or out
    for word in words:
        assert word in text
    assert "Traceback" not in out + err
    return lines


# --- check ----------------------------------------------------------------------------------------------------------


def test_a_good_file_conforms_and_nothing_is_left_behind(command, files, tmp_path):
    report = tmp_path / "report.json"

    code, out, err = command(
        "check", files / "grid.onnx", "--json", report, "--html", tmp_path / "r.html", "--junit", tmp_path / "r.xml"
    )

    assert (code, err) == (0, "")
    assert "grid.onnx: conforms" in out and "Verdict: conforms" in out
    assert list(command.place.iterdir()) == []
    found = json.loads(report.read_text())
    jsonschema.validate(found, json.loads(SCHEMA.read_text()))
    entry = found["artifacts"][0]
    assert found["verdict"] == entry["verdict"] == "conforms"
    assert set(entry["noise"]) == {"xy", "wh", "objectness", "class"}
    assert all(row["floors"] < 4 for row in entry["noise"].values())
    assert all(0 < value < 1e-3 for value in entry["power"].values())
    assert entry["engine"]["provider"] == "CPUExecutionProvider"
    assert {check["outcome"] for check in entry["checks"]} <= {"passed", "skipped"}
    assert 0 < found["timings"]["engine_seconds"] < found["timings"]["total_seconds"]
    assert "conforms" in (tmp_path / "r.html").read_text()
    assert "<testsuite" in (tmp_path / "r.xml").read_text()


def test_a_quick_look_says_that_it_is_one(command, files, tmp_path):
    code, out, err = command(
        "check", files / "grid.onnx", files / "grid-dynamic.onnx", "--quick", "--json", tmp_path / "r.json"
    )

    assert (code, err) == (0, "")
    assert "quick: fewer pictures, sizes and draws" in out.splitlines()[-1]
    found = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(found, json.loads(SCHEMA.read_text()))
    assert found["quick"] is True and [entry["verdict"] for entry in found["artifacts"]] == ["conforms", "conforms"]
    ran = {check["id"] for entry in found["artifacts"] for check in entry["checks"]}
    assert ran and not ran & set(NOT_QUICK)


def test_a_quick_look_makes_a_check_that_is_asked_for_by_name(command, files):
    code, out, _ = command("check", files / "grid.onnx", "--quick", "--checks", "parity.threads, structure.opset")

    assert code == 0 and "2: opset" not in out
    assert "parity.threads" in out or "1: threads" in out


def test_one_report_covers_several_files_and_the_worst_decides(command, files, tmp_path):
    model = onnx.load(files / "grid.onnx")
    model.opset_import[0].version = 13
    onnx.save(model, tmp_path / "wrong.onnx")

    code, out, _ = command(
        "check", files / "grid.onnx", tmp_path / "wrong.onnx", "--checks", "structure", "--json", tmp_path / "r.json"
    )

    found = json.loads((tmp_path / "r.json").read_text())
    assert code == 1
    assert [entry["verdict"] for entry in found["artifacts"]] == ["conforms", "violates"]
    assert "structure.opset: wrong.onnx imports other operator sets than promised." in out
    assert "Repeat:  detparity check" in out


def test_an_unusable_file_does_not_hide_the_others(command, files, tmp_path):
    (tmp_path / "empty.onnx").touch()

    code, out, _ = command(
        "check",
        tmp_path / "empty.onnx",
        files / "raw.onnx",
        "--checks",
        "structure.opset",
        "--json",
        tmp_path / "r.json",
    )

    found = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(found, json.loads(SCHEMA.read_text()))
    assert code == 2
    assert [entry["verdict"] for entry in found["artifacts"]] == ["conforms", "unusable"]
    assert "is empty" in out


def test_another_promise_than_the_files_is_a_violation(command, files):
    code, out, _ = command(
        "check", files / "grid.onnx", "--variant", "grid-dynamic-batch", "--checks", "structure.axes"
    )

    assert code == 1
    assert "declares axis 0 of 'images' as 1: fixed where the contract says it varies" in out


def test_strict_makes_soft_findings_count(command, files, tmp_path):
    model = onnx.load(files / "grid.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "bare.onnx")

    soft, _, _ = command("check", tmp_path / "bare.onnx", "--checks", "structure.metadata")
    hard, out, _ = command("check", tmp_path / "bare.onnx", "--checks", "structure.metadata", "--strict")

    assert (soft, hard) == (0, 1)
    assert "carries no metadata names, stride, imgsz. (SHOULD)" in out


def test_another_models_file_is_a_clear_violation_not_a_crash(command, session, tmp_path):
    from detparity.models.yolov7.seeded import seeded

    other = seeded("yolov7-tiny", 0.25, 0, classes=3)
    (tmp_path / "three.onnx").write_bytes(export_bytes(other, parse_variant("grid"), SIZE))

    code, out, err = command("check", tmp_path / "three.onnx", "--quick")

    assert (code, err) == (1, "")
    assert "axis 2 of 'output' as 8: 8 where 10 is promised" in out
    assert "could not be judged" not in out


def test_other_anchors_are_named(command, session, tmp_path):
    import copy

    import detparity.models.yolov7.network as network

    module = network.FixedPredictions(copy.deepcopy(session.detector.network), SIZE)
    module.network.levels[1].anchors[0, 1] *= 1.25
    from detparity.kit.exporters.options import ExportOptions, to_onnx

    path = tmp_path / "anchors.onnx"
    path.write_bytes(to_onnx(session.detector, parse_variant("grid"), ExportOptions(SIZE), module.eval()))

    code, out, _ = command("check", path, "--checks", "parity.declared")

    assert code == 1
    w, h = session.detector.facts.anchors[1][1]
    named = f"stride 16 anchor 1 is {w:g}x{h:g} in the model, {1.25 * w:.4g}x{1.25 * h:.4g} in the file"
    assert named in " ".join(out.split())


def test_unusable_artifacts_are_one_line_each(command, files, tmp_path):
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "text.onnx").write_text("this is no protobuf at all")
    (tmp_path / "cut.onnx").write_bytes((files / "grid.onnx").read_bytes()[:50_000])
    (tmp_path / "cut.pt").write_bytes((files / "traced.pt").read_bytes()[:50_000])
    model = onnx.load(files / "grid.onnx")
    onnx.save(model, tmp_path / "split.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    (tmp_path / "weights.bin").unlink()
    (tmp_path / "folder").mkdir()
    names = ("none.onnx", "empty.onnx", "text.onnx", "cut.onnx", "cut.pt", "split.onnx", "folder")
    paths = [tmp_path / name for name in names]

    code, out, err = command("check", *paths)

    assert (code, err) == (2, "")
    assert f"({len(paths)} unusable of {len(paths)} files" in out
    for path, words in zip(
        paths, ("no such file", "is empty", "not an ONNX", "truncated", "", "external data", "is a directory")
    ):
        assert f"{path}: unusable\n" in out
        assert words in out
    assert "Traceback" not in out
    assert len([line for line in out.splitlines() if line.startswith("  ")]) == len(paths)


@pytest.mark.parametrize(
    "options, words",
    [
        (["--variant", "grid-square"], ["unknown variant 'grid-square'", "grid-dynamic-batch"]),
        (["--variant", "traced"], ["ONNX file, which cannot be 'traced'"]),
        (["--img-size", "0"], ["--img-size 0 is not positive"]),
        (["--img-size", "64", "-32"], ["is not positive"]),
        (["--img-size", "64", "64", "64"], ["one or two numbers"]),
        (["--checks", "structure.axis"], ["unknown check 'structure.axis'"]),
        (["--json", "no/such/folder/r.json"], ["its folder does not exist"]),
        (["--weights", "no-such.pt"], ["no-such.pt: no such file"]),
        (["--arch", "yolov99"], ["unknown architecture 'yolov99'"]),
        (["--weights", "a.pt", "--arch", "yolov7-tiny"], ["give one of them"]),
        (["--no-such-option"], ["--no-such-option"]),
    ],
)
def test_unusable_options_are_one_line(options, words, command, files):
    lines = _refused(command("check", files / "grid.onnx", *options), *words)

    assert len(lines) <= 4  # the file's own heading and the verdict line stand around it where the file is at fault
    assert list(command.place.iterdir()) == []


# --- weights --------------------------------------------------------------------------------------------------------


class _Attack:
    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        import os

        return os.system, (f"touch {self.target}",)


def _checkpoint_of(payload, path):
    """A zip laid out as torch.save lays it out, around a pickle of ours."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", payload)
        archive.writestr("archive/version", "3\n")


def test_weights_that_cannot_be_used_are_one_line(command, files, tmp_path, session):
    bad = {}
    (tmp_path / "empty.pt").touch()
    bad["empty.pt"] = "is empty"
    save(session.detector.network.state_dict(), tmp_path / "state.pt")
    bad["state.pt"] = "a state dict of 119 tensors, which does not say its architecture; name it with --cfg"
    save({"model": None, "epoch": 3}, tmp_path / "none.pt")
    bad["none.pt"] = "neither a 'model' nor an 'ema'"
    (tmp_path / "cut.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:-4000])
    bad["cut.pt"] = "cut.pt"
    shutil.copy(files / "traced.pt", tmp_path / "script.pt")
    bad["script.pt"] = "TorchScript"
    shutil.copy(files / "grid.onnx", tmp_path / "model.pt")
    bad["model.pt"] = "model.pt"
    _checkpoint_of(pickle.dumps({"model": _Attack(tmp_path / "owned")}, 2), tmp_path / "attack.pt")
    bad["attack.pt"] = "system"
    _checkpoint_of(b"\x80\x02cmodels.common\nMystery\n)R.", tmp_path / "unknown.pt")
    bad["unknown.pt"] = "models.common.Mystery"

    for name, words in bad.items():
        lines = _refused(command("check", files / "grid.onnx", "--weights", tmp_path / name, "--json", "r.json"), words)
        assert len(lines) == 1, name
        lines = _refused(command("export", "--weights", tmp_path / name), words)
        assert len(lines) == 1, name
    assert not (tmp_path / "owned").exists()
    assert list(command.place.iterdir()) == []


def test_a_checkpoint_is_no_artifact_and_the_reverse(command, files, tmp_path):
    save({"model": None}, tmp_path / "weights.pt")

    _refused(command("check", tmp_path / "weights.pt"), "is a checkpoint, not an exported model")
    _refused(command("check", files / "grid.onnx", "--weights", files / "traced.pt"), "TorchScript")


def test_nan_weights_are_refused_by_name(command, shared_data, tmp_path):
    """One half-precision number of the first convolution is overwritten with NaN in a real checkpoint."""
    source = shared_data / "checkpoints" / "yolov7-tiny-torch1.13.pt"
    content = bytearray(source.read_bytes())
    with zipfile.ZipFile(source) as archive:
        info = archive.getinfo("deploy-yolov7-tiny/data/0")
        data = archive.read(info)
    place = bytes(content).index(data)
    content[place : place + 2] = np.float16("nan").tobytes()
    fixed = zipfile.ZipFile(io.BytesIO(bytes(content)))
    with zipfile.ZipFile(tmp_path / "nan.pt", "w") as archive:
        for item in fixed.infolist():
            raw = bytes(content)
            name_length = int.from_bytes(raw[item.header_offset + 26 : item.header_offset + 28], "little")
            extra = int.from_bytes(raw[item.header_offset + 28 : item.header_offset + 30], "little")
            start = item.header_offset + 30 + name_length + extra
            archive.writestr(item.filename, raw[start : start + item.file_size])

    lines = _refused(
        command("export", "--weights", tmp_path / "nan.pt", "--output-dir", command.place), "model.0.conv.weight", "NaN"
    )

    assert len(lines) == 1
    assert list(command.place.iterdir()) == []


# --- export ---------------------------------------------------------------------------------------------------------


def test_export_writes_both_files_and_says_one_line_each(command, shared_data, tmp_path):
    shutil.copy(shared_data / "checkpoints" / "yolov7-tiny-torch1.13.pt", tmp_path / "best.pt")

    code, out, err = command(
        "export", "--weights", tmp_path / "best.pt", "--grid", "--img-size", 100, 64, "--dynamic-batch"
    )

    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0] == "warning: image size 100x64 is not a multiple of the largest stride 32; using 128x64"
    assert [line.split(":")[0] for line in lines[1:]] == [
        str(tmp_path / "best.torchscript.pt"),
        str(tmp_path / "best.onnx"),
        "check them",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best.onnx", "best.pt", "best.torchscript.pt", "cwd"]
    code, out, _ = command(
        *("check", tmp_path / "best.onnx", tmp_path / "best.torchscript.pt"),
        *("--weights", tmp_path / "best.pt", "--strict", "--quick"),
    )
    assert code == 0, out
    assert "grid-dynamic-batch, read from the file, at 128x64" in out


@pytest.mark.smoke
def test_img_size_once_means_both_sides(command):
    code, out, _ = command("export", "--img-size", 64, "--include", "onnx", "--output-dir", command.place)

    assert code == 0
    assert "raw, 64x64" in out


@pytest.mark.parametrize(
    "options, words",
    [
        (["--img-size", "-1"], "is not positive"),
        (["--img-size", "100000"], "is larger than"),
        (["--batch-size", "0"], "is not positive"),
        (["--device", "cuda:0"], "only cpu"),
        (["--fp16"], "--fp16 is not supported"),
        (["--int8"], "--int8 makes ONNX files alone: give --include onnx"),
        (["--include-nms"], "--include-nms is not supported"),
        (["--output-dir", "nowhere"], "is not a directory"),
        (["--include", "coreml"], "coreml"),
    ],
)
def test_exports_that_cannot_be_made_are_refused_in_one_line(options, words, command):
    lines = _refused(command("export", *options), words)

    assert len(lines) == 1
    assert list(command.place.iterdir()) == []


def test_a_failing_export_leaves_no_file(command, monkeypatch):
    from detparity.kit.exporters import onnx_raw

    def broken(*_arguments):
        raise RuntimeError("the exporter\nfell over")

    monkeypatch.setattr(onnx_raw, "export", broken)

    lines = _refused(
        command("export", "--include", "onnx", "--output-dir", command.place),
        "exporting raw failed: RuntimeError: the exporter fell over",
    )

    assert len(lines) == 1
    assert list(command.place.iterdir()) == []


# --- the rest -------------------------------------------------------------------------------------------------------


def test_checks_are_listed(command):
    code, out, _ = command("checks")

    assert code == 0
    assert "structure.axes" in out and "parity.isolation" in out


def test_verify_judges_inside_someone_elses_test(files, session, tmp_path):
    import detparity

    found = detparity.verify(files / "raw.onnx", session.detector)
    assert isinstance(found, detparity.Result)
    assert (found.verdict, found.conforms, found.text) == ("conforms", True, "")
    assert set(found.floors) == {"xy", "wh", "objectness", "class"} and found.entry["variant"] == "raw"

    model = onnx.load(files / "raw.onnx")
    model.graph.output[0].type.tensor_type.shape.dim[4].dim_param = "85"
    onnx.save(model, tmp_path / "renamed.onnx")
    with pytest.raises(AssertionError, match="a numeral used as a symbol"):
        detparity.verify(tmp_path / "renamed.onnx", session.detector)
    with pytest.raises(InputError, match="precision='half' is none of float32, float16"):
        detparity.verify(files / "raw.onnx", session.detector, precision="half")
    with pytest.raises(InputError, match="is not one of its limits"):
        detparity.verify(files / "raw.onnx", session.detector, budget="speed=1")


@pytest.mark.parametrize(
    "model", [bundled_weights(), str(bundled_weights()), "bundled"], ids=["path", "text", "bundled"]
)
def test_verify_takes_a_model_by_words(model, files):
    import detparity

    assert detparity.verify(files / "raw.onnx", model).verdict == "conforms"


def test_the_bundled_detector_is_what_no_choice_means():
    chosen, same = (load_detector(choice).facts for choice in (ModelChoice(), ModelChoice((bundled_weights(),))))
    built = load_detector(ModelChoice(arch="yolov7-tiny", width=0.25)).facts

    assert (chosen.name, chosen.names, chosen.digest) == ("bundled", CLASSES, same.digest)
    assert (built.name, built.classes) == ("deploy-yolov7-tiny-w0.25-s0", 80)


@pytest.mark.parametrize("options", [["--width", "0.5"], ["--seed", "3"]])
def test_a_width_or_a_seed_without_an_architecture_is_refused(options, command):
    lines = _refused(command("export", "--output-dir", command.place, *options), "--width and --seed are for a model")

    assert len(lines) == 1 and list(command.place.iterdir()) == []


def test_the_reference_page_is_what_the_command_prints(command):
    _, out, _ = command("checks", "--markdown")

    assert out == (SCHEMA.parent / "checks.md").read_text()


@pytest.mark.parametrize(
    "options, words",
    [
        (["--iou-thres", "1.5"], "--iou-thres 1.5 is outside 0 to 1"),
        (["--conf-thres", "nan"], "--conf-thres nan is outside 0 to 1"),
        (["--topk-all", "0"], "--topk-all 0 is outside 1 to"),
        (["--max-wh", "-1"], "--max-wh -1 is outside 0 to"),
        (["--dynamic"], "end2end-trt-dynamic cannot be made"),
    ],
)
def test_suppressions_that_cannot_be_are_refused_in_one_line(options, words, command):
    lines = _refused(
        command("export", "--end2end", "--grid", "--include", "onnx", "--output-dir", command.place, *options), words
    )

    assert len(lines) == 1
    assert list(command.place.iterdir()) == []


def test_the_tutorials_command_works_and_says_what_it_raises(command, session):
    options = ["--grid", "--end2end", "--topk-all", 50, "--iou-thres", 0.65, "--conf-thres", 0.35, "--max-wh", 64]

    code, out, err = command("export", *options, "--img-size", 64, 96, "--output-dir", command.place)

    assert (code, err) == (0, "")
    assert "warning: at --max-wh 64 classes can meet in the suppression; using " in out
    assert "end2end-ort, 64x96" in out and "traced (grid)" in out
    path = next(command.place.glob("*.onnx"))
    promised = ("--iou-thres", 0.65, "--conf-thres", 0.35, "--topk-all", 50)
    code, out, _ = command("check", path, "--strict", "--quick", *promised)
    assert code == 0, out
    code, out, _ = command("check", path, "--iou-thres", 0.5, "--checks", "nms.thresholds")
    assert code == 1
    assert "iou threshold 0.65 where 0.5 (as given) is promised" in " ".join(out.split())


def test_the_last_line_of_an_export_is_a_command_that_works(command):
    code, out, _ = command(
        "export", "--grid", "--include", "onnx", "--img-size", "64", "96", "--output-dir", command.place
    )
    words = out.splitlines()[-1].split()

    assert code == 0 and words[:4] == ["check", "them:", "detparity", "check"] and words[-2:] == ["--model", "bundled"]
    code, out, _ = command(*words[3:], "--checks", "structure.axes")
    assert code == 0 and "Verdict: conforms against bundled, 1 of" in out


def test_shards_of_a_folder_are_merged_into_one_report(command, files, tmp_path):
    for name in ("grid.onnx", "traced.pt"):
        (tmp_path / name).write_bytes((files / name).read_bytes())
    reports = [tmp_path / f"shard{number}.json" for number in (1, 2)]
    shared = ("--model", "bundled", "--checks", "parity.declared", "--quick")
    for number, report in enumerate(reports, 1):
        code, _, err = command("check", tmp_path, *shared, "--shard", f"{number}/2", "--json", report)
        assert (code, err) == (0, "")
    found = [[Path(one["path"]).name for one in json.loads(report.read_text())["artifacts"]] for report in reports]
    assert found == [["grid.onnx"], ["traced.pt"]]
    assert command("matrix", *reports, "--json", tmp_path / "all.json")[0] == 0
    merged = json.loads((tmp_path / "all.json").read_text())
    assert merged["verdict"] == "conforms"
    assert {Path(one["path"]).name for one in merged["artifacts"]} == {"grid.onnx", "traced.pt"}
