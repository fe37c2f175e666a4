"""The oracle's own laws: decode, statistics, floors and limits."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from detparity.engines.reference_cache import floors_of
from detparity.inputs import images
from detparity.models.yolov7.network import Predictions
from detparity.oracle import noise_floor
from detparity.oracle.decode import decode, sigmoid

quick = settings(max_examples=40, derandomize=True, database=None, deadline=None)


@pytest.mark.smoke
def test_numpy_decode_equals_the_torch_head(session):
    """Two implementations of the published formula, written apart, agree in float64 to rounding, on a size that is not square."""
    network = session.detector.exact
    x = torch.from_numpy(images.make("natural", (64, 160), 3)[None].copy()).double()
    with torch.no_grad():
        raw = [level[0].numpy() for level in network(x)]
        theirs = Predictions(network)(x)[0].numpy()

    levels, _, _ = decode(session.detector.facts, raw)

    assert np.abs(np.concatenate(levels) - theirs).max() < 1e-10


def test_sensitivity_is_the_derivative_of_decode(session):
    facts = session.detector.facts
    rng = np.random.default_rng(0)
    raw = [rng.normal(0, 2, (3, ny, nx, facts.fields)) for ny, nx in facts.cells((64, 96))]
    step = 1e-6

    values, slopes, gains = decode(facts, raw)
    moved, _, _ = decode(facts, [logits + step for logits in raw])

    for before, after, slope, gain, logits in zip(values, moved, slopes, gains, raw):
        assert np.allclose((after - before) / step, slope, rtol=1e-3, atol=1e-5)
        s = sigmoid(logits).reshape(gain.shape)
        assert np.allclose(gain * s * (1 - s), slope, rtol=1e-9, atol=0)


@pytest.mark.smoke
def test_the_error_of_a_float32_sigmoid_alone_is_within_the_floor(session):
    """Where the logits of all ways agree, as on a black image, a runtime's own sigmoid is all that is left."""
    facts = session.detector.facts
    raw = [np.full((3, ny, nx, facts.fields), -4.5) for ny, nx in facts.cells((64, 96))]
    levels, slopes, gains = decode(facts, raw)
    exact = [level.astype(np.float32).astype(np.float64) for level in levels]
    rng = np.random.default_rng(0)

    floor = noise_floor.floor_of(levels, slopes, gains, [exact])
    truth = noise_floor.Truth(tuple(levels), floor, "grid", (64, 96))

    def over(size):
        found = [level + gain * rng.normal(0, size, level.shape) for level, gain in zip(exact, gains)]
        return noise_floor.excesses(truth, noise_floor.measure(levels, found))

    assert over(4e-8) == []  # ONNX Runtime's, as measured
    assert over(1e-6) != []


@quick
@given(scale=st.floats(1e-9, 1e3), seed=st.integers(0, 99))
def test_statistics_scale_with_the_error(scale, seed):
    rng = np.random.default_rng(seed)
    truth, error = rng.normal(0, 5, (40, 8)), rng.normal(0, 1, (40, 8))

    one = noise_floor.measure([truth], [truth + error])
    many = noise_floor.measure([truth], [truth + scale * error])

    for key in one:
        for name in noise_floor.STATISTICS:
            assert getattr(many[key], name) == pytest.approx(scale * getattr(one[key], name), rel=1e-4, abs=1e-9)


@pytest.mark.parametrize("poison", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_infinitely_wrong(poison):
    truth = np.ones((10, 8))
    values = truth.copy()
    values[3, 6] = poison

    found = noise_floor.measure([truth], [values])

    assert found[0, "class"].rms == found[0, "class"].max == float("inf")
    assert found[0, "xy"].rms == 0


def test_an_offset_and_a_gain_are_distinguished(session):
    """A shift shows as bias, a factor as gain, both below the size at which the root mean square would show them."""
    truth = session.oracle.truth(("natural", 0), (128, 160), "grid")
    floor = truth.floor[0, "xy"].rms
    shift = [level.copy() for level in truth.levels]
    shift[0][:, 0:2] += 3 * floor
    gain = [level.copy() for level in truth.levels]
    spread = truth.levels[0][:, 0:2].std(0)
    gain[0][:, 0:2] += 3 * floor * (truth.levels[0][:, 0:2] - truth.levels[0][:, 0:2].mean(0)) / spread

    by_shift = noise_floor.excesses(truth, noise_floor.measure(truth.levels, shift))
    by_gain = noise_floor.excesses(truth, noise_floor.measure(truth.levels, gain))

    assert {(excess.group, excess.statistic) for excess in by_shift} == {("xy", "bias")}
    assert {(excess.group, excess.statistic) for excess in by_gain} == {("xy", "gain")}


def test_constant_images_have_a_floor_that_is_not_nothing(session):
    truth = session.oracle.truth(("black", 0), (32, 32), "grid")

    for (level, group), stats in truth.floor.items():
        values = truth.levels[level][:, noise_floor.GROUPS[group]]
        assert stats.rms >= noise_floor.EPS32 * np.sqrt((values**2).mean())
        assert stats.max >= stats.rms


def test_limits_widen_only_for_small_samples():
    counts = [3, 48, 300, 10_000, 2_000_000]
    limits = [noise_floor.limit("rms", count) for count in counts]

    assert limits == sorted(limits, reverse=True)
    assert limits[-1] < 1.01 * noise_floor.LIMITS["rms"]


def test_the_oracle_keeps_within_its_budget(session, monkeypatch):
    from detparity.engines import reference_runs as reference

    monkeypatch.setattr(reference, "BUDGET_BYTES", 4_000_000)
    oracle = reference.Oracle(session.detector.facts, session.oracle._ways)
    first = oracle.truth(("noise", 0), (96, 96), "grid")
    for seed in range(1, 8):
        oracle.truth(("noise", seed), (96, 96), "grid")

    assert sum(kept.nbytes for kept in oracle._stored.values()) <= 4_000_000
    assert len(oracle._stored) >= 2
    again = oracle.truth(("noise", 0), (96, 96), "grid")
    assert all(np.array_equal(a, b) for a, b in zip(first.levels, again.levels))


def test_what_a_report_shows_is_let_go_of_last(session, monkeypatch):
    from detparity.engines import reference_runs as reference

    oracle = reference.Oracle(session.detector.facts, session.oracle._ways)
    oracle.reported(("noise", 0), (96, 96), "grid")
    oracle.truth(("noise", 1), (96, 96), "grid")
    monkeypatch.setattr(reference, "BUDGET_BYTES", 1)
    oracle.truth(("noise", 1), (64, 96), "grid")
    assert list(oracle._stored) == [(("noise", 1), (64, 96))]  # there is room for what was asked for alone

    monkeypatch.setattr(reference, "BUDGET_BYTES", 2 * sum(left.nbytes for left in oracle._stored.values()))
    one = oracle.reported(("noise", 0), (32, 64), "grid")
    for seed in range(6):
        oracle.truth(("noise", seed), (64, 64), "grid")
    assert oracle.reported(("noise", 0), (32, 64), "grid") is one and (("noise", 0), (64, 64)) not in oracle._stored


def test_an_image_whose_pair_did_not_suffice_is_stored_although_it_is_over_the_budget(session, monkeypatch):
    from detparity.engines import reference_runs as reference

    oracle = reference.Oracle(session.detector.facts, session.oracle._ways)
    for seed in range(2):
        oracle.pair(("noise", seed), (64, 96), "grid")
    monkeypatch.setattr(reference, "BUDGET_BYTES", 1)
    assert oracle.truth(("noise", 0), (64, 96), "grid").size == (64, 96)


@pytest.mark.parametrize("head", ["grid", "raw"])
@pytest.mark.parametrize("kind", ["noise", "scene", "black"])
def test_a_floor_that_grows_ends_as_the_floor_of_all_ways_at_once(session, kind, head):
    from detparity.engines import reference_runs as reference

    picture, size = (kind, 3), (64, 96)
    oracle = reference.Oracle(session.detector.facts, session.oracle._ways, ("raw", "grid"))
    first, *_, full = oracle.growing(picture, size, head)
    feed = {"images": images.make(kind, size, 3)[None]}
    exact = [value[0] for name, value in session.oracle._ways.exact(feed).items() if name.startswith("logits")]
    runs = [reference._of_head(head, run(feed)) for run in session.oracle._ways.ways.values()]
    at_once = noise_floor.make_truth(head, session.detector.facts, size, exact, runs)

    assert full.floor == at_once.floor
    assert len(list(oracle.growing(picture, size, head))) == 1  # nothing is left to run
    grown = [
        getattr(full.floor[key], name) - getattr(stats, name)
        for key, stats in first.floor.items()
        for name in noise_floor.STATISTICS
    ]
    assert min(grown) >= 0 and max(grown) > 0


@pytest.mark.parametrize("head", ["grid", "raw"])
@pytest.mark.parametrize("kind", ["noise", "scene", "black"])
def test_what_is_surely_within_by_two_runs_is_within_by_the_truth(session, kind, head):
    """Files made by moving a run in one group, column or number, by every size around the limits: none is accepted by two runs
    that float64 refuses, and many are accepted."""
    from detparity.engines import reference_runs as reference

    picture, size, facts = (kind, 5), (96, 128), session.detector.facts
    oracle = reference.Oracle(facts, session.oracle._ways, ("raw", "grid"))
    pair = oracle.pair(picture, size, head)
    truth = oracle.truth(picture, size, head)
    assert oracle.pair(picture, size, head) is None  # the truth says more
    feed = {"images": images.make(kind, size, 5)[None]}
    runs = [
        noise_floor.split_levels(head, facts, size, reference._of_head(head, run(feed)), 0)
        for run in session.oracle._ways.ways.values()
    ]
    assert noise_floor.surely_within(pair, runs[0])  # a run of the pair; of another one it need not be known
    rng = np.random.default_rng(7)
    counts = {True: 0, False: 0}
    for key, stats in pair.apart.items():
        columns = range(facts.fields)[noise_floor.GROUPS[key[1]]]
        for times in (0.5, 1.0, 2.0, 4.0, 8.0, 16.0):
            for how in ("everywhere", "a column", "a number", "with the value"):
                moved = [values.astype(np.float64) for values in runs[rng.integers(len(runs))]]
                part = moved[key[0]][:, columns[0] : columns[-1] + 1]
                if how == "everywhere":
                    part += rng.normal(0, times * stats.rms, part.shape)
                elif how == "a column":
                    part[:, rng.integers(part.shape[1])] += times * stats.rms
                elif how == "a number":
                    part[rng.integers(len(part)), rng.integers(part.shape[1])] += times * stats.max
                else:
                    spread = part - part.mean(0)
                    part += spread * (times * stats.rms / np.sqrt((spread**2).mean()))
                surely = noise_floor.surely_within(pair, moved)
                within = not noise_floor.excesses(truth, noise_floor.measure(truth.levels, moved))
                assert within or not surely, (key, times, how)
                counts[surely] += 1
    assert min(counts.values()) > 20


@pytest.mark.parametrize("spread", [0.0, 1.0, 3.0, 1e4])
def test_no_truth_refuses_what_is_surely_within(session, monkeypatch, spread):
    """Runs, files and truths that are made up: values as narrow as their noise, truths near and far, in any direction and along the
    values; files that move where the truth does."""
    monkeypatch.setattr(noise_floor, "SMALL_SAMPLE", 0.0)
    facts, size, counts = session.detector.facts, (32, 64), {True: 0, False: 0}
    rows, rng = sum(facts.level_rows(size)), np.random.default_rng(3)
    along, apart, across = (rng.normal(0, 1, (1, rows, facts.fields)) for _ in range(3))
    values = 0.5 + spread * along
    ways = [{"output": values + apart}, {"output": values - apart}]
    pair = noise_floor.make_pair("grid", facts, size, *ways)
    for truth_away, file_away in itertools.product((along, across), repeat=2):
        for far, off in itertools.product((-100, -3, -0.65, -0.3, 0.3, 0.65, 3, 100), (0.5, 1.4, 1.7, 2.5, 3.5)):
            truth = noise_floor.split_levels("grid", facts, size, {"output": values - far * truth_away}, 0)
            levels = noise_floor.split_levels("grid", facts, size, {"output": values + off * file_away}, 0)
            cut = [noise_floor.split_levels("grid", facts, size, way, 0) for way in ways]
            one, other = (noise_floor.measure(truth, way) for way in cut)
            floor = {key: _least_floor(stats, other[key]) for key, stats in one.items()}
            known = noise_floor.Truth(truth, floor, "grid", size)
            surely = noise_floor.surely_within(pair, levels)
            assert not surely or not noise_floor.excesses(known, noise_floor.measure(truth, levels)), (far, off)
            counts[surely] += 1
    assert min(counts.values()) > 20, counts


def _least_floor(one, other):
    """The floor of two runs, without what the values themselves add to it."""
    rms, most, bias, gain = (max(getattr(one, name), getattr(other, name)) for name in noise_floor.STATISTICS)
    share = noise_floor.SYSTEMATIC * rms
    return noise_floor.Stats(rms, most, max(bias, share), max(gain, share))


def test_two_runs_in_vain_are_not_tried_on_other_pictures_of_that_size(session):
    from detparity.engines import reference_runs as reference

    oracle = reference.Oracle(session.detector.facts, session.oracle._ways)
    size = (96, 128)
    for seed in range(reference.IN_VAIN):
        assert oracle.pair(("scene", seed), size, "grid") is not None
        oracle.truth(("scene", seed), size, "grid")  # the two were not enough
    assert oracle.pair(("black", 0), size, "grid") is None
    assert oracle.pair(("black", 0), (64, 96), "grid") is not None


def test_two_runs_that_are_known_are_given_again(session):
    from detparity.engines import reference_runs as reference

    oracle = reference.Oracle(session.detector.facts, session.oracle._ways)
    first = oracle.pair(("noise", 5), (96, 128), "grid")
    oracle._in_vain[96, 128] = reference.IN_VAIN
    assert oracle.pair(("noise", 5), (96, 128), "grid") is first is not None


def test_two_runs_of_one_kernel_are_no_pair(session):
    from detparity.engines import reference_runs as reference

    own = session.oracle._ways
    first, *rest = own.ways.items()
    ways = reference.Ways(own.exact, {"one": first[1], "the same": first[1], **dict(rest)})
    pair = reference.Oracle(session.detector.facts, ways).pair(("noise", 5), (96, 128), "grid")
    assert max(stats.rms for stats in pair.apart.values()) > 0


def _counted(own, **more):
    """The ways of an oracle, and the names of those that have run."""
    from detparity.engines import reference_runs as reference

    made = []

    def counting(name, run):
        return lambda feed: (made.append(name), run(feed))[1]

    ways = {name: counting(name, run) for name, run in own.ways.items()}
    return reference.Ways(counting("exact", own.exact), ways, **more), made


def test_a_floor_grows_by_a_run_at_a_time_and_no_run_is_made_twice(session):
    from detparity.engines import reference_runs as reference

    ways, made = _counted(session.oracle._ways)
    oracle = reference.Oracle(session.detector.facts, ways)
    oracle.pair(("noise", 6), (96, 128), "grid")
    two = len(made)
    truths = list(oracle.growing(("noise", 6), (96, 128), "grid"))

    assert sorted(made) == sorted(["exact", *ways.ways])
    assert len(truths) == 1 + len(ways.ways) - two
    for before, after in zip(truths, truths[1:]):
        assert all(stats.rms <= after.floor[key].rms for key, stats in before.floor.items())
    complete = session.oracle.truth(("noise", 6), (96, 128), "grid")
    assert np.allclose(floors_of(truths[-1].floor), floors_of(complete.floor))


def test_what_a_report_shows_of_a_large_image_takes_two_float32_runs(session):
    from detparity.engines import reference_runs as reference

    for large, few in ((True, 2), (False, None)):
        ways, made = _counted(session.oracle._ways, large=lambda size, large=large: large, doubled="batch")
        reference.Oracle(session.detector.facts, ways).reported(("noise", 6), (64, 96), "grid")
        assert made == ["exact", *list(ways.ways)[:few]]


def test_two_large_images_are_never_run_at_once(session):
    from detparity.engines import reference_runs as reference

    ways, made = _counted(session.oracle._ways, large=lambda size: size[0] > 96, doubled="batch")
    oracle = reference.Oracle(session.detector.facts, ways)
    for size, runs in (((96, 64), [*ways.ways]), ((128, 64), [name for name in ways.ways if name != "batch"])):
        made.clear()
        oracle.truth(("noise", 6), size, "grid")
        assert made == ["exact", *runs] and oracle.is_large(size) == (size[0] > 96)
        assert len(list(oracle.growing(("noise", 6), size, "grid"))) == 1


def test_nothing_is_surely_within_beside_values_that_are_alike_or_no_numbers(session):
    facts, size = session.detector.facts, (64, 96)
    rows = sum(facts.level_rows(size))
    run = {"output": np.zeros((1, rows, facts.fields), np.float32)}
    constant = noise_floor.make_pair("grid", facts, size, run, {"output": run["output"] + np.float32(1e-6)})
    assert noise_floor.surely_within(constant, noise_floor.split_levels("grid", facts, size, run, 0))
    off = run["output"] + np.float32(2e-6)  # as far as rms and bias allow, but the values have no direction for gain
    assert not noise_floor.surely_within(constant, noise_floor.split_levels("grid", facts, size, {"output": off}, 0))
    drawn = {"output": np.random.default_rng(0).normal(0, 1, (1, rows, facts.fields)).astype(np.float32)}
    pair = noise_floor.make_pair("grid", facts, size, drawn, {"output": drawn["output"] + np.float32(1e-6)})
    levels = [level.copy() for level in noise_floor.split_levels("grid", facts, size, drawn, 0)]
    assert noise_floor.surely_within(pair, levels)
    levels[1][3, 2] = np.nan
    assert not noise_floor.surely_within(pair, levels)


@pytest.mark.smoke
@pytest.mark.parametrize("kind", sorted(images.KINDS))
def test_pictures_are_what_they_promise(kind):
    image = images.make(kind, (64, 96), 3)

    assert image.shape == (3, 64, 96)
    assert image.dtype == np.float32
    assert 0.0 <= image.min() <= image.max() <= 1.0
    assert np.array_equal(image, images.make(kind, (64, 96), 3))
    if kind not in ("black", "white", "gradient"):
        assert not np.array_equal(image, images.make(kind, (64, 96), 4))
