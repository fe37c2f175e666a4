"""References that are stored: the same numbers with and without, found by what decides them, and a wrong one is reported."""

import numpy as np
import pytest

from detparity.checks.context import to_blame
from detparity.core.array_cache import ArrayCache
from detparity.core.clock import Clock
from detparity.core.errors import EngineDied
from detparity.engines import reference_cache, reference_runs
from detparity.engines.reference_cache import floors_of
from detparity.engines.reference_runs import make_oracle

SIZE = (64, 96)
PICTURE = ("noise", 3)
HEADS = ("grid", "raw")


@pytest.fixture
def oracle(session, tmp_path, monkeypatch):
    """Call for a new oracle of the bundled detector, as another process would make it. never: audits no entry; always: each."""

    def make(folder="cache", audit=False):
        monkeypatch.setattr(reference_runs, "AUDITED", 1 if audit else 10**9)
        return make_oracle(session.detector, Clock(), HEADS, ArrayCache(tmp_path / folder))

    return make


def _differing(one, other):
    return [head for head in HEADS if not _same(one.truth(PICTURE, SIZE, head), other.truth(PICTURE, SIZE, head))]


def _same(one, other):
    levels = all(np.array_equal(mine, theirs) for mine, theirs in zip(one.levels, other.levels))
    return (
        levels and len(one.levels) == len(other.levels) and np.array_equal(floors_of(one.floor), floors_of(other.floor))
    )


def test_a_stored_reference_is_the_same_numbers(oracle):
    first = oracle()
    plain = oracle("another")
    assert _differing(first, plain) == [] and first.worked_out == plain.worked_out == 1
    again = oracle()
    assert _differing(first, again) == [] and again.worked_out == 0 and not again.notes


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("exact-0", np.zeros((3, 8, 12))),
        ("exact-1", np.array(["text"])),
        ("exact-2", None),
        ("grid-floor", np.full((3, 3, 4), np.nan)),
        ("seconds", np.array(np.inf)),
        ("seconds", np.array("soon")),
    ],
)
def test_an_entry_that_no_reference_can_be_is_worked_out_again(oracle, tmp_path, part, value):
    first = oracle()
    assert first.truth(PICTURE, SIZE, "grid")
    (path,) = ArrayCache(tmp_path / "cache").entries()
    with np.load(str(path)) as stored:
        arrays = {name: stored[name] for name in stored.files}
    assert arrays[part].shape is not None
    arrays.pop(part)
    np.savez(str(path)[: -len(".npz")], **arrays, **({} if value is None else {part: value}))

    again = oracle()
    assert _differing(again, first) == [] and again.worked_out == 1


def test_the_floor_of_one_way_is_completed_later(oracle):
    next(oracle().growing(PICTURE, SIZE, "grid"))
    later = oracle()
    *_, complete = later.growing(PICTURE, SIZE, "grid")
    assert later.worked_out == 0
    assert _same(complete, oracle("another").truth(PICTURE, SIZE, "grid"))
    assert len(list(oracle().growing(PICTURE, SIZE, "grid"))) == 1  # all ways are there


def test_runs_of_another_process_do_not_take_the_place_of_those_that_were_made(oracle):
    first, other = oracle(), oracle("another")
    growing = first.growing(PICTURE, SIZE, "grid")
    next(growing), next(growing)
    key, third = (PICTURE, SIZE), other.ways[2]
    first._cache.leave(reference_runs._image(key), other._grown(key, other._found(key), (third,)))
    *_, complete = growing

    assert set(first._stored[key].ways) == set(first.ways)
    assert _same(complete, oracle("a third").truth(PICTURE, SIZE, "grid"))


@pytest.mark.parametrize("change", ["picture", "size", "code", "computing"])
def test_what_decides_a_reference_is_in_its_key(oracle, monkeypatch, change):
    oracle().truth(PICTURE, SIZE, "grid")
    picture, size = PICTURE, SIZE
    if change == "picture":
        picture = ("noise", 4)
    elif change == "size":
        size = (96, 64)
    elif change == "code":
        monkeypatch.setattr(reference_cache, "code_digest", lambda: "another version")
    else:
        monkeypatch.setattr("detparity.engines.eager.computing", lambda: "another processor")
    other = oracle()
    other.truth(picture, size, "grid")
    assert other.worked_out == 1


def test_an_audit_that_agrees_says_nothing(oracle):
    for complete in (False, True):
        first = oracle(f"{complete}")
        next(first.growing(PICTURE, SIZE, "grid"))
        if complete:
            first.truth(PICTURE, SIZE, "grid")
        audited = oracle(f"{complete}", audit=True)
        assert _differing(first, audited) == [] and audited.worked_out == 1 and not audited.notes


@pytest.mark.parametrize("what", ["exact-1", "grid-floor"])
def test_an_audit_names_and_replaces_a_wrong_entry(oracle, tmp_path, what):
    right = oracle()
    right.truth(PICTURE, SIZE, "grid")
    cache = ArrayCache(tmp_path / "cache")
    (path,) = cache.entries()
    arrays = dict(np.load(str(path)))
    arrays[what] = arrays[what] * 1.5
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    audited = oracle(audit=True)
    assert _differing(right, audited) == []
    assert len(audited.notes) == 1 and "bug of detparity" in audited.notes[0]
    assert _differing(right, oracle()) == []  # replaced


def test_a_foreign_file_of_that_name_is_worked_out_again(oracle, tmp_path):
    right = oracle()
    right.truth(PICTURE, SIZE, "grid")
    (path,) = ArrayCache(tmp_path / "cache").entries()
    with path.open("wb") as stream:
        np.savez(stream, something=np.zeros(3))
    again = oracle()
    assert _differing(right, again) == [] and again.worked_out == 1


def test_where_nothing_can_be_stored_the_answer_is_the_same_and_it_is_said(oracle, tmp_path):
    (tmp_path / "file").write_text("in the way")
    found = oracle("file")
    assert _differing(found, oracle()) == []
    assert len(found.notes) == 1 and found.notes[0].startswith("no references are stored: cannot write")


def test_a_file_is_blamed_for_time_by_what_the_model_takes_now(oracle, monkeypatch):
    """A stored reference took no time in this run, which says nothing of what the model needs."""
    oracle().truth(("noise", 0), SIZE, "grid")
    later = oracle()
    later.truth(("noise", 0), SIZE, "grid")
    assert later.worked_out == 0 and later.slowest > 0
    slow = later._ways.exact
    monkeypatch.setattr(later, "_timed", lambda run, feed: setattr(later, "slowest", 100.0) or slow(feed))
    died = EngineDied("time", "is not done after 110 s", 110.0)
    assert not to_blame(died, later, SIZE)
    assert to_blame(EngineDied("time", "is not done after 500 s", 500.0), later, SIZE)


def test_a_stored_pair_is_the_same_numbers_and_gives_way_to_a_truth(oracle):
    first = oracle()
    pair = first.pair(PICTURE, SIZE, "grid")
    again = oracle()
    stored = again.pair(PICTURE, SIZE, "grid")
    assert again.worked_out == 0 and first.worked_out == 1
    assert stored.apart == pair.apart and all(map(np.array_equal, stored.levels, pair.levels))
    plain = oracle("another")
    assert plain.pair(PICTURE, SIZE, "raw").apart == first.pair(PICTURE, SIZE, "raw").apart
    assert _differing(again, plain) == [] and again.worked_out == 1
    assert oracle().pair(PICTURE, SIZE, "grid") is None  # the truth is stored


def test_an_audit_names_and_replaces_a_wrong_pair(oracle, tmp_path):
    right = oracle().pair(PICTURE, SIZE, "grid")
    audited = oracle(audit=True)
    assert audited.pair(PICTURE, SIZE, "grid").apart == right.apart and not audited.notes
    (path,) = ArrayCache(tmp_path / "cache").entries()
    arrays = dict(np.load(str(path)))
    arrays["grid-1"] = arrays["grid-1"] * np.float32(1.001)
    with path.open("wb") as stream:
        np.savez(stream, **arrays)
    audited = oracle(audit=True)
    assert all(map(np.array_equal, audited.pair(PICTURE, SIZE, "grid").levels, right.levels))
    assert len(audited.notes) == 1 and "bug of detparity" in audited.notes[0]
