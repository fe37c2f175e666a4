"""Which runtime a path is a file of, by its content."""

from __future__ import annotations

import pytest

from detparity.core.runtimes import digest, runtime_files

TFLITE, PTE = b"\x1c\x00\x00\x00TFL3" + bytes(64), b"\x38\x00\x00\x00ET12" + bytes(64)
MNN = b"\x20\x00\x00\x00" + bytes(64)
XML, PARAM = b'<?xml version="1.0"?><net name="m" version="11"/>', b"7767517\n1 1\nInput in0 0 1 in0\n"
FOLDERS = {
    "openvino": {"best.xml": XML, "best.bin": b"1", "metadata.yaml": b"task: detect\n"},
    "ncnn": {"best.ncnn.param": PARAM, "best.ncnn.bin": b"1"},
}


@pytest.mark.parametrize("name", sorted(FOLDERS))
def test_a_folder_is_the_one_model_in_it(name, tmp_path):
    for file, content in FOLDERS[name].items():
        (tmp_path / file).write_bytes(content)

    found = runtime_files(tmp_path)

    assert found.runtime == name and found.files == tuple(tmp_path / file for file in list(FOLDERS[name])[:2])
    before = digest(tmp_path)
    found.files[1].write_bytes(b"2")
    assert digest(tmp_path) != before


def test_a_folder_that_export_converted_into_is_the_file_in_it(tmp_path):
    (tmp_path / "best.tflite").write_bytes(TFLITE)

    found = runtime_files(tmp_path)

    assert (found.runtime, found.files) == ("litert", (tmp_path / "best.tflite",))
    assert digest(tmp_path) == digest(tmp_path / "best.tflite")


def test_a_folder_of_two_models_is_none(tmp_path):
    for folder in FOLDERS.values():
        for file, content in folder.items():
            (tmp_path / file).write_bytes(content)

    assert runtime_files(tmp_path) is None


@pytest.mark.parametrize(
    ("file", "content", "runtime"),
    [
        *(("a.tflite", TFLITE, "litert"), ("a.pte", PTE, "executorch"), ("a.xml", XML, None), ("a.param", PARAM, None)),
        *(("a.mnn", MNN, "mnn"), ("a.bin", MNN, None), ("a.mnn", b"text of any kind", None)),
    ],
)
def test_a_file_is_known_by_its_content_and_with_its_weights(file, content, runtime, tmp_path):
    (tmp_path / file).write_bytes(content)

    found = runtime_files(tmp_path / file)

    assert (found and found.runtime) == runtime
