"""Drawn two-stage models: every correct float32 evaluation conforms, however its near ties fall, and every single change is found."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", minversion="1.13")  # float64 of any module

from detparity.kit.tests.checks.foreign.two_stages import CHANGES, Drawn, evaluated, finding, reference

from detparity.checks.foreign.decided import MARGIN
from detparity.core.decisions import Choice, Forced, breach, exchanged

FEW, MANY, RUNS = 6, 700, 5  # models by default and in the nightly run; evaluations of each


def _images(module, seed, batch=2):
    return np.random.default_rng([seed, 5]).random((batch, 3, 4, module.candidates), dtype=np.float32)


def _false_alarms(models, steps):
    """(findings about correct evaluations, evaluations, those that chose otherwise than float64)."""
    found, runs, otherwise = [], 0, 0
    for seed in models:
        module = Drawn(seed, steps)
        oracle, images = reference(module), _images(module, seed)
        for run in range(RUNS):
            outputs, choice = evaluated(module, images, np.random.default_rng([seed, run]))
            result, truth = finding(oracle, images, outputs, choice)
            found += [f"{seed} {run}: {result.message}"] if result is not None else []
            runs += 1
            otherwise += any(not one.same for one in truth.forced)
    return found, runs, otherwise


@pytest.mark.parametrize("steps", [0, 4])
def test_every_correct_evaluation_conforms(steps):
    found, runs, otherwise = _false_alarms(range(FEW), steps)

    assert found == []
    assert otherwise > runs / 4  # nearly tied candidates were chosen otherwise, and the test has power


@pytest.mark.slow
@pytest.mark.parametrize("steps", [0, 4])
def test_thousands_of_correct_evaluations_conform(steps):
    found, runs, otherwise = _false_alarms(range(MANY), steps)

    print(f"{runs} evaluations, {otherwise} of which chose otherwise than float64, {len(found)} false alarms")
    assert found == []


EXPECTED = {
    "another query": "chooses wrongly inside the network",
    "smallest": "chooses wrongly inside the network",
    "not sorted": "chooses wrongly inside the network",
    "one less": "gives other shapes than the model",
    "one more": "gives other shapes than the model",
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_single_change_is_found(change):
    for seed in range(4):
        module = Drawn(seed)
        oracle, images = reference(module), _images(module, seed)
        outputs, choice = evaluated(module, images, np.random.default_rng([seed, 0]), change)
        result, _ = finding(oracle, images, outputs, choice)

        assert result is not None, (change, seed)
        assert result.message.startswith(EXPECTED.get(change, "differs from the model")), (change, seed, result.message)
        if change in ("one less", "one more"):
            assert any(f"the model {module.count}." in note for note in result.notes), result.notes


def test_twenty_exchanges_at_ten_floors_are_refused():
    """A margin is at most twice the floor of the scores."""
    rng, noise, refused = np.random.default_rng(0), 1e-7, 0
    for _ in range(20):
        scores = np.sort(rng.random((1, 40)))[:, ::-1].copy()
        count = int(rng.integers(1, 39))
        scores[0, count] = scores[0, count - 1] - 10 * noise
        chosen = np.array([[*range(count - 1), count]])
        forced = Forced("/TopK", "aten::topk", scores, taken=count)
        wrong = breach(Choice("/TopK", scores, chosen, 1), forced, MARGIN * noise)
        refused += wrong is not None and wrong.by == pytest.approx(10 * noise, rel=1e-6)
    assert MARGIN == 2.0 and refused == 20


def test_a_choice_is_run_once():
    module = Drawn(1)
    oracle, images = reference(module), _images(module, 1)
    outputs, choice = evaluated(module, images, np.random.default_rng(0))
    finding(oracle, images, outputs, choice)
    before = oracle.worked_out
    finding(oracle, images, outputs, choice)

    assert oracle.worked_out == before <= 1 + len(oracle.reference.facts.ways)


def test_folding_does_not_use_up_the_choices():
    module = Drawn(0)
    oracle, images = reference(module), _images(module, 0)
    _, choice = evaluated(module, images, np.random.default_rng([0, 0]))
    every = [oracle.run_forced(how, images, (choice,)) for how in ("exact", *oracle.reference.facts.ways)]

    assert [len(forced) for _, forced in every] == [1] * len(every)
    assert max(np.abs(one["logits"] - every[0][0]["logits"]).max() for one, _ in every) < 1e-4


def test_exchanged_candidates_are_counted():
    scores = np.array([[3.0, 2.0, 2.0 - 1e-9, 1.0]])
    forced = Forced("x", "aten::topk", scores, taken=2)

    assert exchanged(Choice("x", scores, np.array([[0, 2]]), 1), forced) == 1
    assert exchanged(Choice("x", scores, np.array([[1, 0]]), 1), forced) == 0
