"""Which model is chosen: checkpoints of packages, and options that choose more than one."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from detparity.core.errors import InputError
from detparity.models.choice import ModelChoice, of_a_package, require_named, require_one_model


def checkpoint(path, content):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("best/data.pkl", content)
    return path


def test_a_checkpoint_of_a_package_takes_trust(tmp_path):
    path = checkpoint(tmp_path / "best.pt", b"cultralytics.nn.tasks\nDetectionModel\n")

    with pytest.raises(InputError, match=r"is a checkpoint of ultralytics, .*--trust"):
        of_a_package(ModelChoice((path,)))
    assert of_a_package(ModelChoice((path,), trust=True)).model == f"ultralytics:{path}"


@pytest.mark.parametrize("content", [b"cmodels.yolo\nModel\n", b"", b"ultralytics"])
def test_other_checkpoints_are_left_to_the_safe_loader(content, tmp_path):
    choice = ModelChoice((checkpoint(tmp_path / "best.pt", content),))

    assert of_a_package(choice) == choice


def test_what_is_no_archive_is_left_to_the_safe_loader(tmp_path):
    (tmp_path / "x.pt").write_bytes(b"PK\x03\x04 cut")
    for choice in (ModelChoice((tmp_path / "x.pt",)), ModelChoice((tmp_path / "missing.pt",)), ModelChoice()):
        assert of_a_package(choice) == choice


@pytest.mark.parametrize(
    "choice",
    [
        ModelChoice((Path("a.pt"),), against="self"),
        ModelChoice(model="bundled", against="b.onnx"),
        ModelChoice(arch="yolov7", model="x:y"),
        ModelChoice(against="self", capture=Path("kept")),
    ],
)
def test_one_thing_is_compared_with(choice):
    with pytest.raises(InputError, match="both choose"):
        require_one_model(choice)


def test_a_file_alone_is_refused_with_what_would_do():
    with pytest.raises(InputError, match="nothing states which model") as caught:
        require_named(ModelChoice(), [Path("best.onnx")])
    assert 3 < len(caught.value.more) < 20
    require_named(ModelChoice(), [])
    require_named(ModelChoice(model="bundled"), [Path("best.onnx")])
