"""Converted models are written when all of them are made, and over nothing but such a model."""

from __future__ import annotations

import types
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto

from detparity.cli import export, main
from detparity.core.errors import InputError, NotMade
from detparity.tools import conversion

FLOAT, FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16
XML = '<?xml version="1.0"?><net name="m" version="11"/>'


def _model(folder):
    folder.mkdir()
    (folder / "best.xml").write_text(XML)
    (folder / "best.bin").write_bytes(b"old")
    return folder


def _converter(name):
    def convert(onnx, folder, size, half):
        if name == "ncnn":
            raise NotMade("pnnx made no file", False)
        (folder / f"{onnx.stem}.xml").write_text(XML)
        (folder / f"{onnx.stem}.bin").write_bytes(b"new")

    return types.SimpleNamespace(FOLDER=f"_{name}_model", convert=convert)


def _installed(monkeypatch, *names):
    """Have these converters be there, and no others."""
    for user in (conversion, export):
        monkeypatch.setattr(user, "PACKAGES", dict.fromkeys(names, "json"))


def test_a_conversion_that_fails_leaves_nothing_of_the_others(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(conversion.exporters, "converter", _converter)
    _installed(monkeypatch, "openvino", "ncnn")
    there = _model(tmp_path / "bundled_openvino_model")

    words = ["export", "--include", "onnx", "openvino", "ncnn", "--img-size", "64", "--output-dir", str(tmp_path)]
    assert main.main([*words, "--force"]) == 2

    assert "converting for ncnn failed: pnnx made no file" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == [there.name] and (there / "best.bin").read_bytes() == b"old"


@pytest.mark.parametrize("half", [False, True])
def test_converters_are_given_the_float32_file_and_asked_for_half_weights(half, tmp_path, monkeypatch):
    given = []

    def convert(source, folder, size, in_half):
        model = onnx.load(str(source))
        given.append((in_half, {one.data_type for one in model.graph.initializer} & {FLOAT, FLOAT16}))
        (folder / "best.param").write_text("")
        (folder / "best.bin").write_bytes(b"")

    monkeypatch.setattr(
        conversion.exporters, "converter", lambda name: types.SimpleNamespace(FOLDER="_ncnn_model", convert=convert)
    )
    _installed(monkeypatch, "ncnn")
    words = ["export", "--grid", "--include", "onnx", "ncnn", "--img-size", "64", "--output-dir", str(tmp_path)]
    assert main.main([*words, *["--half"] * half]) == 0

    assert given == [(half, {FLOAT})]
    made = onnx.load(str(tmp_path / "bundled.onnx"))
    assert (FLOAT16 in {one.data_type for one in made.graph.initializer}) is half


def test_a_model_is_replaced_as_a_folder(tmp_path, monkeypatch):
    monkeypatch.setattr(conversion.exporters, "converter", _converter)
    there = _model(tmp_path / "other_openvino_model")
    made = conversion.convert("openvino", b"", there, (64, 64), tmp_path / "scratch")

    assert conversion.put(made, there) == len(XML) + 3
    assert sorted(one.name for one in there.iterdir()) == ["other.bin", "other.xml"]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["other_openvino_model", "scratch"]


def test_what_else_lies_in_its_folder_is_not_removed(tmp_path):
    there = _model(tmp_path / "m")
    conversion.require_folder(there, True)
    (there / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds 'notes\.txt' beside a converted model"):
        conversion.require_folder(there, True)

    Path(tmp_path, "link").symlink_to(there)
    with pytest.raises(InputError, match="is there already"):
        conversion.require_folder(tmp_path / "link", True)
