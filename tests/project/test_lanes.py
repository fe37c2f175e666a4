"""Lanes are consistent: tox.ini, constraints, what CI services are given, and the workflows that use it."""

from __future__ import annotations

import configparser
import json
import re
import subprocess
import sys

import pytest

from detparity.core import environment, resources

KIT = resources.root()


@pytest.fixture(scope="module")
def tox(lanes):
    """tox.ini; skipped with the lanes in an installed kit, which has none."""
    config = configparser.ConfigParser(interpolation=None)
    config.read(str(KIT / "tox.ini"), encoding="utf-8")
    return config


def _handed(form, lanes):
    """What `.ci/lanes FORM` prints for these lanes."""
    result = subprocess.run(
        [sys.executable, str(KIT / ".ci" / "lanes"), form],
        input="\n".join([*lanes, "lint", "tests"]),
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_every_lane_has_its_reason(tox, lanes):
    lines = dict(line.strip().split(": ", 1) for line in tox["testenv"]["description"].strip().splitlines())

    assert {f"torch{name.partition('-torch')[2]}" for name in lanes} == set(lines)
    assert all(len(reason) > 20 for reason in lines.values())


def test_every_lane_is_pinned_to_its_name(lanes):
    assert len(lanes) >= 15
    for name, pins in lanes.items():
        assert environment.lane(pins) == name
        assert {"numpy", "onnx", "onnxruntime", "pytest", "hypothesis", "pytest-benchmark"} <= set(pins), name
    stray = {path.stem for path in (KIT / "constraints").glob("*.txt")} - set(lanes)
    assert stray == set(), "constraints of no lane"


def test_the_exporter_that_needs_onnxscript_has_it_in_its_lanes(tox, lanes):
    factors = re.search(r"^\s*(torch[\d.]+(?:, torch[\d.]+)*): dynamo$", tox["testenv"]["extras"], re.MULTILINE)
    chosen = {name for name in lanes if name.partition("-")[2] in factors.group(1).split(", ")}

    assert chosen == {name for name, pins in lanes.items() if environment.holds({"torch": ">=2.5"}, pins)}
    assert all("onnxscript" in lanes[name] for name in chosen)


def test_ci_runs_what_a_lane_runs(tox, lanes):
    """Every lane and every part of it once, with the arguments tox gives a lane itself, but for the tests: all there are."""
    jobs = json.loads(_handed("github", lanes))["include"]
    own = re.search(r"\{posargs:(.*) --detparity-json", tox["testenv"]["commands"]).group(1)
    assert "(smoke or lanes) and " in own
    selected = own.split('"')[1]
    importing = (KIT / "conftest.py").read_text(encoding="utf-8")
    assert f'"{selected}": ("smoke", "lanes")' in importing
    own = own.replace("(smoke or lanes) and ", "").replace("{env:DETPARITY_WORKERS:2}", "2")

    assert sorted({job["lane"] for job in jobs}) == sorted(lanes)
    for name in lanes:
        mine = [job for job in jobs if job["lane"] == name]
        assert [job["part"] for job in mine] == list(range(1, len(mine) + 1)) and len(mine) > 1
        assert {job["python"] for job in mine} == {".".join(lanes[name]["python"].split(".")[:2])}
        for job in mine:
            split = f"--splits {len(mine)} --group {job['part']}"
            assert job["run"] == f"tox -e {name} -- {own} {split} --detparity-json reports/{name}-{job['part']}.json"


def test_both_services_run_the_same(lanes):
    jobs = json.loads(_handed("github", lanes))["include"]
    pipeline = json.loads(_handed("gitlab", lanes))
    table = pipeline.pop("table")

    assert pipeline.pop("stages") == ["test", "deploy"]
    assert [job["run"] for job in jobs] == [job["script"][-1] for job in pipeline.values()]
    assert f"--expect {_handed('names', lanes).strip()} " in table["script"][-1]


@pytest.mark.parametrize("form, text", [("names", ""), ("yaml", "py39-torch1.7")])
def test_nothing_to_hand_over_is_an_error(form, text):
    if not (KIT / ".ci" / "lanes").is_file():
        pytest.skip("an installed kit has no .ci folder")
    result = subprocess.run(
        [sys.executable, str(KIT / ".ci" / "lanes"), form], input=text, capture_output=True, text=True
    )

    assert result.returncode != 0 and result.stdout == ""
