"""Which files of a folder are judged, and by which of several machines."""

import io
import itertools
import zipfile
from pathlib import Path

import pytest

from detparity.core.errors import InputError
from detparity.core.exported_files import exported_files, shard, share_record


def _zip(path, *members):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name in members:
            archive.writestr(f"top/{name}", b"x")
    path.write_bytes(content.getvalue())


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "runs" / "b").mkdir(parents=True)
    (tmp_path / ".hidden").mkdir()
    for name in (
        "runs/b/two.onnx",
        "one.onnx",
        "runs/lite.ptl",
        ".hidden/no.onnx",
        "one.onnx.data",
        "readme.md",
        "lost.pt",
    ):
        (tmp_path / name).write_bytes(b"something")
    _zip(tmp_path / "best.pt", "data.pkl")
    _zip(tmp_path / "runs" / "script.pt", "constants.pkl", "data.pkl")
    model = tmp_path / "runs" / "best_openvino_model"
    model.mkdir()
    (model / "best.xml").write_bytes(b'<?xml version="1.0"?><net name="x" ></net>')
    (model / "best.bin").write_bytes(b"0")
    return tmp_path


def test_a_folder_is_its_exported_files_in_order(folder):
    names = [path.relative_to(folder).as_posix() for path in exported_files([folder])]
    runs = ["runs/b/two.onnx", "runs/best_openvino_model", "runs/lite.ptl", "runs/script.pt"]
    assert names == ["lost.pt", "one.onnx", *runs]
    model = folder / "runs" / "best_openvino_model"
    assert exported_files([model, Path("missing.onnx"), model]) == [model, Path("missing.onnx")]


def test_links_are_followed_to_each_folder_once_and_one_to_nothing_is_an_entry(folder, tmp_path_factory):
    """One that leads nowhere is what is left of a file that was not fetched: left out, it would count as judged."""
    other = tmp_path_factory.mktemp("other")
    (other / "three.onnx").write_bytes(b"something")
    (other / "back").symlink_to(folder)
    (folder / "runs" / "linked").symlink_to(other)
    (folder / "gone.onnx").symlink_to(folder / "never" / "there.onnx")

    names = [path.relative_to(folder).as_posix() for path in exported_files([folder])]

    assert "gone.onnx" in names and "runs/linked/three.onnx" in names
    assert len(names) == len(set(names)) == 8


def test_a_folder_without_one_remains(tmp_path):
    assert exported_files([tmp_path]) == [tmp_path]


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_shards_are_all_files_once(folder, count):
    files = exported_files([folder])
    found = [shard(files, f"{number}/{count}") for number in range(1, count + 1)]
    shares = [share for share, _ in found]
    assert [share_record(one) for _, one in found] == [
        {"shard": {"number": number, "of": count, "files": len(files)}} for number in range(1, count + 1)
    ]
    assert shard(files, None) == (files, None) and share_record(None) == {}
    assert sorted(itertools.chain(*shares)) == files
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


@pytest.mark.parametrize("text", ["", "0/2", "3/2", "1", "a/b", "1/7", "1/0", "-1/2"])
def test_a_shard_that_is_none_or_has_no_file_is_refused(folder, text):
    with pytest.raises(InputError, match="--shard"):
        shard(exported_files([folder]), text)
