"""A model of the user's own code: made and run in a child process, whatever that code does."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from detparity.kit.tests.models.adapters.user_code import CODE

from detparity.core import environment, landlock
from detparity.core.errors import InputError
from detparity.models.reference import EXACT, CannotRunReference, ModelRequest, ReferenceFacts
from detparity.models.remote_reference import RemoteReference, absolute, unpacked

pytestmark = pytest.mark.skipif(
    not environment.holds({"torch": ">=1.13"}, environment.environment()),
    reason="float64 of any module needs torch 1.13",
)
SMALL = (32, 32)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    path = tmp_path_factory.mktemp("user") / "mine.py"
    path.write_text(CODE)
    return path


def _reference(file, name, **given):
    given.setdefault("size", SMALL)
    return RemoteReference(ModelRequest(f"{file}:{name}", **given), seconds=given.pop("seconds", 60))


def _problem(file, name, **given):
    seconds = given.pop("seconds", 60)
    given.setdefault("size", SMALL)
    with pytest.raises(InputError) as caught:
        RemoteReference(ModelRequest(f"{file}:{name}", **given), seconds=seconds)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_a_class_of_a_file_runs_exactly_and_in_every_float32_way(file):
    reference = _reference(file, "Small", arguments='{"width": 5}', condition=True)
    facts = reference.facts
    images = np.random.default_rng(3).random((2, 3, 40, 48)).astype(np.float32)

    exact = reference.run(EXACT, images)
    rounded = {way: reference.run(way, images) for way in facts.ways}
    reference.close()

    assert (facts.title, facts.shape, facts.names, facts.code) == (
        "Small of mine.py",
        (1, 3, 32, 32),
        ("cat", "dog"),
        True,
    )
    assert len(facts.digest) == 64 and set(rounded) == {"eager", "plain", "channels-last", "folded"}
    assert list(exact) == ["boxes", "scores"] and exact["boxes"].dtype == np.float64
    assert exact["boxes"].shape == (2, 5, 20, 24)
    assert 0.5 < exact["boxes"].std() < 2  # conditioned
    for found in rounded.values():
        assert found["boxes"].dtype == np.float32
        assert 0 < np.abs(found["boxes"] - exact["boxes"]).max() < 1e-4


def test_code_that_ends_its_process_is_one_line(file):
    words = "the model's own code ended its process (SIGSEGV) while making it; it printed last: about to end"
    assert _problem(file, "crashing").endswith(words)


def test_what_the_code_printed_is_shown(file):
    assert _problem(file, "printing").endswith("; it printed last: and a warning")


def test_code_that_does_not_end_is_ended(file):
    _reference(file, "Small").close()  # its server serves the next one

    assert "making it is not done after 2 s" in _problem(file, "hanging", seconds=2)


def test_a_crash_while_running_is_one_line_and_the_next_run_meets_the_model_again(file):
    reference = _reference(file, "Crashing")
    small, large = np.zeros((1, 3, 32, 32), np.float32), np.zeros((1, 3, 64, 64), np.float32)

    with pytest.raises(InputError, match=r"ended its process \(SIGSEGV\) while running it"):
        reference.run("eager", large)

    assert reference.run("eager", small)["boxes"].shape == (1, 4, 16, 16)
    reference.close()


def test_a_refused_input_is_not_an_unusable_model(file):
    reference = _reference(file, "Refusing")

    with pytest.raises(CannotRunReference, match=r"^ValueError: only small images$"):
        reference.run(EXACT, np.zeros((1, 3, 64, 64), np.float32))

    reference.close()


@pytest.mark.skipif(not landlock.abi(), reason="this kernel offers no Landlock")
def test_it_writes_in_its_own_folder_alone(file, tmp_path):
    outside = tmp_path / "outside.txt"

    assert "raised PermissionError" in _problem(file, "writing", arguments=json.dumps([str(outside)]))
    assert not outside.exists()
    reference = _reference(file, "scratch")
    assert "no writing" in reference.confinement
    reference.close()
    assert not Path("beside.txt").exists()


def test_a_model_of_a_package_is_found_from_the_folder_of_the_command(file, monkeypatch):
    monkeypatch.chdir(file.parent)
    reference = RemoteReference(ModelRequest("mine:Small", size=SMALL), seconds=60)

    assert reference.facts.title == "Small of mine"
    reference.close()


def test_facts_come_back_as_they_were():
    import dataclasses

    facts = ReferenceFacts("t", "d", (1, 3, 8, 8), ("eager",), "yolox", ("a", "b"), notes=("n",), code=True)
    again = unpacked(json.loads(json.dumps(dataclasses.asdict(facts))))

    assert again == facts


def test_files_are_named_from_the_root(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("config").mkdir()

    assert absolute("m.py:Net") == f"{tmp_path}/m.py:Net"
    assert absolute("transformers:config") == f"transformers:{tmp_path}/config"
    assert absolute("ultralytics:yolo11n.yaml") == "ultralytics:yolo11n.yaml"
    assert absolute("package.module:Net") == "package.module:Net"
