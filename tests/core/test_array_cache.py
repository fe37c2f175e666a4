"""Entries of a cache: found as they were left, never wrong, never over the limit, and nothing else in the folder is touched."""

import os
import shutil

import numpy as np
import pytest

from detparity.core.array_cache import SUFFIX, ArrayCache, default_folder
from detparity.core.errors import InputError

ARRAYS = {"a": np.arange(1000, dtype=np.float64), "b": np.array(True)}


def test_an_entry_is_found_as_it_was_left(tmp_path):
    cache = ArrayCache(tmp_path / "new" / "folder")
    assert cache.find("key") is None and cache.entries() == []
    cache.leave("key", ARRAYS)
    found = cache.find("key")
    assert found is not None and found["b"] and found["a"].tobytes() == ARRAYS["a"].tobytes()
    assert cache.find("another") is None


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "text", "pickle"])
def test_a_damaged_entry_is_missing_and_removed(tmp_path, damage):
    cache = ArrayCache(tmp_path)
    cache.leave("key", ARRAYS)
    path = cache.path("key")
    content = bytearray(path.read_bytes())
    if damage == "cut":
        content = content[:500]
    elif damage == "flipped":
        content[len(content) // 2] ^= 1
    elif damage == "pickle":
        np.savez(str(path), a=np.array([{"never": "loaded"}], dtype=object))
        content = bytearray(path.read_bytes())
    else:
        content = bytearray(b"" if damage == "empty" else b"no arrays")
    path.write_bytes(content)
    assert cache.find("key") is None
    assert not path.exists()


def test_an_entry_under_the_name_of_another_is_missing_and_removed(tmp_path):
    """Checksums say that it is whole, not whose it is."""
    cache = ArrayCache(tmp_path)
    cache.leave("key", ARRAYS)
    shutil.copy(str(cache.path("key")), str(cache.path("another")))

    assert cache.find("another") is None and not cache.path("another").exists()
    assert cache.find("key") is not None


def test_what_is_no_file_is_no_entry_and_stops_nothing(tmp_path):
    cache = ArrayCache(tmp_path)
    path = cache.path("key")
    os.mkfifo(str(path))
    assert cache.find("key") is None  # opening it would wait
    cache.leave("key", ARRAYS)
    assert cache.find("key") is not None
    path.unlink()
    path.symlink_to(path.name)  # to itself
    assert cache.find("key") is None
    (tmp_path / f"folder{SUFFIX}").mkdir()
    assert cache.entries() == [path] and cache.clear() == 1 and cache.entries() == []


def test_what_a_killed_writer_left_is_counted_and_removed(tmp_path):
    cache = ArrayCache(tmp_path)
    left, fresh = (tmp_path / f".{name}{SUFFIX}.x1" for name in ("old", "new"))
    for path in (left, fresh):
        path.write_bytes(bytes(100))
    os.utime(str(left), (1e9, 1e9))

    assert cache.nbytes() == 100
    cache.leave("key", ARRAYS)
    assert not left.exists() and fresh.exists()
    os.utime(str(fresh), (1e9, 1e9))
    assert cache.clear() == 1 and list(tmp_path.iterdir()) == []


def test_an_entry_that_cannot_be_removed_is_said(tmp_path, monkeypatch):
    cache = ArrayCache(tmp_path)
    cache.leave("key", ARRAYS)

    def refuse(path):
        raise PermissionError(30, "Read-only file system")

    monkeypatch.setattr(type(tmp_path), "unlink", refuse)
    with pytest.raises(InputError, match=r"cannot remove .*: Read-only file system"):
        cache.clear()


def test_no_flipped_bit_is_an_error(tmp_path):
    cache = ArrayCache(tmp_path)
    cache.leave("key", {"a": np.arange(5.0)})
    written = cache.path("key").read_bytes()
    for bit in range(0, 8 * len(written), 3):
        content = bytearray(written)
        content[bit // 8] ^= 1 << bit % 8
        cache.path("key").write_bytes(bytes(content))
        found = cache.find("key")
        assert found is None or list(found) != ["a"] or found["a"].tolist() == [0, 1, 2, 3, 4], bit


def test_a_user_whose_home_is_missing_or_cannot_be_read_has_no_cache(monkeypatch):
    from argparse import Namespace
    from pathlib import Path

    from detparity.cli.options import cache_of

    def none(_):
        raise RuntimeError("Could not determine home directory.")

    def refused(_):
        raise PermissionError(13, "Permission denied")

    asked = Namespace(no_cache=False, cache=None)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "home", classmethod(none))
        assert cache_of(asked) is None
    with monkeypatch.context() as patch:
        patch.setattr(Path, "exists", refused)
        assert cache_of(asked) is None
        with pytest.raises(InputError, match=r"--cache .*Permission denied"):
            cache_of(Namespace(no_cache=False, cache=Path("there")))


def test_the_longest_unused_is_removed_first(tmp_path):
    cache = ArrayCache(tmp_path, limit=28_000)
    for number, key in enumerate("abc"):
        cache.leave(key, ARRAYS)
        os.utime(str(cache.path(key)), (number, number))
    assert cache.find("a") is not None  # used now
    cache.leave("d", ARRAYS)
    assert [key for key in "abcd" if cache.find(key) is not None] == ["a", "c", "d"]
    assert cache.nbytes() <= 28_000
    cache.leave("huge", {"a": np.zeros(10_000)})  # more than all of it: it is not stored, and nothing is removed for it
    assert [key for key in ("a", "c", "d", "huge") if cache.find(key) is not None] == ["a", "c", "d"]


def test_clear_leaves_what_is_not_its_own(tmp_path):
    (tmp_path / "mine.npz").write_bytes(b"a user's")
    cache = ArrayCache(tmp_path)
    cache.leave("key", ARRAYS)
    assert cache.clear() == 1 and [path.name for path in tmp_path.iterdir()] == ["mine.npz"]


def test_a_folder_that_cannot_be_written_to_is_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match="cannot write"):
        ArrayCache(tmp_path / "file" / "below").leave("key", ARRAYS)


def test_the_default_is_in_the_users_caches(monkeypatch, tmp_path):
    monkeypatch.setattr("sys.platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "detparity"
