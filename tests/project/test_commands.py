"""Every command of README and docs: all are understood by the command line as it is now, and those of detparity run on real files.

The files lie in a folder under the names that the pages use, at a smaller size than the pages name. A server is one of our own on
loopback. What needs a package is run where that is installed (lanes `foreign`, `engines`); what needs a person or an hour is not run
here: each such command is named with the reason.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List

import pytest

from detparity.cli import main
from detparity.core import resources
from detparity.models.choice import ModelChoice, bundled_weights
from detparity.tools.conversion import PACKAGES
from detparity.tools.export_cache import exported

ROOT = resources.root()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
OPTIONAL = re.compile(r"\[(--[^\]]*)\]")  # what a synopsis leaves open
PLACEHOLDERS = {"DIR": "photos", "DIR|FILE.json": "photos", "N": "2", "HOW": "resize=stretch"}
SMALLER = ("--img-size 640 640", "--img-size 256 320")
FIRST = re.compile(r"(detparity|pytest|tox|python) [\w-]")

NOT_RUN = {
    "yolo export": "best.pt would be a checkpoint of ultralytics; the foreign lane captures that exporter",
    "ultralytics:best.pt": "a trained checkpoint of ultralytics; the foreign lane",
    "kserve+grpc": "a server that speaks gRPC: tox -e kserve",
    "state.pt": "a state dict; tests/models",
    "my-model.yaml": "a layer table; tests/models",
    "detparity check --": "every exporter: tox -e demo",
    "detparity review": "needs goldens that wait; tests/tools/golden",
    "detparity mutate": "minutes of judging; tests/tools/mutate",
    "detparity bench": "minutes of timing; tests/tools/bench",
    "shard": "several machines; tests/cli/test_cli.py",
    "--mobile": "needs XNNPACK, which builds from 2.13 on lack",
    "--cfg yolov7-w6": "the state dict here is of another architecture; tests/models",
    "--opset 17": "of files at opset 17; tests/exporters",
}
# Part of a command: packages without which it is not run.
NEEDS = {
    "ultralytics:": ("ultralytics",),
    "libreyolo:": ("libreyolo",),
    "torchvision:": ("torchvision",),
    "transformers:": ("transformers",),
    "openvino": ("openvino",),
    "openvino ncnn": ("openvino", "pnnx"),
    "--include litert": ("onnx2tf",),
    "best_openvino_model": ("openvino", "pnnx", "ncnn"),
    "best.tflite": ("onnx2tf", "ai_edge_litert"),
    "--dynamo": ("onnxscript",),
    "completion": ("shtab",),
}


@dataclass(frozen=True)
class Command:
    """page and number of its line; words: as a shell reads them."""

    page: str
    number: int
    words: List[str]

    @property
    def text(self) -> str:
        return shlex.join(self.words)


def commands(page: Path) -> Iterator[Command]:
    """The commands in a page's code: lines that go on are joined, comments and what is optional left out."""
    begun, fenced, files = "", False, 0
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        elif fenced or line.startswith("    "):
            begun += line.strip()
            if begun.endswith("\\"):
                begun = begun[:-1]
                continue
            found, begun = begun, ""
            if FIRST.match(found) and not found.startswith("python 3."):
                words = shlex.split(OPTIONAL.sub(r"\1", found).replace(*SMALLER), comments=True)
                for at, word in enumerate(words):
                    files += word == "FILE"
                    words[at] = f"out{files}.json" if word == "FILE" else PLACEHOLDERS.get(word, word)
                yield Command(str(page.relative_to(ROOT)), number, words)


EVERY = [command for page in PAGES for command in commands(page)]
OURS = [command for command in EVERY if command.words[0] == "detparity"]


def test_every_command_is_understood(lanes):
    tox = (ROOT / "tox.ini").read_text(encoding="utf-8")
    wrong = []
    for command in EVERY:
        if command.words[0] == "detparity":
            wrong += [] if _parses(command.words[1:]) else [command]
        elif command.words[:2] == ["tox", "-e"]:
            known = command.words[2] in lanes or f"[testenv:{command.words[2]}]" in tox
            wrong += [] if known else [command]
    assert [f"{one.page}:{one.number}: {one.text}" for one in wrong] == []
    assert len(OURS) > 60 and {command.words[0] for command in EVERY} == {"detparity", "pytest", "tox", "python"}


def _parses(words: List[str]) -> bool:
    shell = next((k for k, word in enumerate(words) if word in (">", "&&", ";")), len(words))
    try:
        main._parsed(words[:shell])
    except Exception:
        return False
    return True


@pytest.fixture(scope="module")
def folder(session, shared_folder, tmp_path_factory):
    """What the pages name: files of the bundled detector, pictures, a script that exports it, and code of its model."""
    if session.choice != ModelChoice():
        pytest.skip("the files are exports of the bundled detector")
    pytest.importorskip("torch", minversion="1.13")
    Image = pytest.importorskip("PIL.Image")
    pytest.importorskip("jinja2")
    import numpy as np

    from detparity.inputs.scenes import scene

    made = tmp_path_factory.mktemp("user")
    for variant, names in {
        "grid": ("best.onnx", "old.onnx", "new.onnx", "best_before_simplify.onnx", "best_sim.onnx", "best-slim.onnx"),
        "traced": ("best.torchscript.pt",),
        "lite": ("yolov7-tiny.ptl",),
    }.items():
        path = exported(session.detector, variant, (256, 320), shared_folder)
        for name in names:
            shutil.copy(path, made / name)
    for name in ("best.pt", "yolov7-tiny.pt", "a.pt", "b.pt"):
        shutil.copy(bundled_weights(), made / name)
    (made / "detparity" / "models" / "data").mkdir(parents=True)
    shutil.copy(bundled_weights(), made / "detparity" / "models" / "data" / "bundled.pt")
    (made / "out").mkdir()
    shutil.copy(made / "best.onnx", made / "out" / "best.onnx")
    (made / "photos").mkdir()
    pixels = np.rint(scene((256, 320), 7).image.transpose(1, 2, 0) * 255).astype(np.uint8)
    for name in ("photos/one.png", "street.jpg"):
        Image.fromarray(pixels).save(made / name)
    (made / "photos" / "one.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    np.save(made / "input.npy", pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    (made / "model.py").write_text(MODEL)
    (made / "export.py").write_text(EXPORT)
    (made / "train.py").write_text("import torch\nscripted = torch.jit.script(torch.nn.ReLU())\n")
    (made / "net.py").write_text(NET)
    (made / "known.toml").write_text("format = 2\n")
    shutil.copytree(made / "photos", made / "labels", ignore=shutil.ignore_patterns("*.png"))
    _runtimes_files(made)
    return made


def _runtimes_files(folder):
    """best_openvino_model/, best_ncnn_model/ and best.tflite, where what makes them is installed."""
    found = [name for name, package in PACKAGES.items() if not _missing([package])]
    if found:
        small = ["export", "--weights", str(folder / "best.pt"), "--grid", "--img-size", "256", "320"]
        assert main.main([*small, "--include", *found, "--output-dir", str(folder)]) == 0


MODEL = """
from detparity.models.choice import bundled
from detparity.models.yolov7.network import Predictions

def build():
    return Predictions(bundled().network)
"""
EXPORT = """
import torch, model
if __name__ == "__main__":
    torch.onnx.export(model.build(), torch.zeros(1, 3, 256, 320), "best.onnx", opset_version=12,
                      **({"dynamo": False} if tuple(map(int, torch.__version__.split(".")[:2])) > (2, 4) else {}),
                      input_names=["images"], output_names=["output"])
"""
NET = """
import torch

class Net(torch.nn.Module):
    def __init__(self, classes=80, width=1.0):
        super().__init__()
        self.head = torch.nn.Conv2d(3, int(classes * width), 1)

    def forward(self, x):
        return self.head(x)
"""


RAN = set()  # by an earlier page
SOONER = {"check": ("--quick",), "capture": ("--quick",), "export": ("--force",), "init": ("--force",)}


def _missing(packages):
    return [name for name in packages if importlib.util.find_spec(name) is None]


@contextlib.contextmanager
def _reached(words):
    """The words of a command with the address of a server on loopback that runs the file, where they name one."""
    named = [at for at, word in enumerate(words) if word.startswith("kserve+http://")]
    if not named:
        yield words
        return
    from detparity.kit.tests.engines.loopback import serving

    with serving(Path("best.onnx")) as server:
        yield [str(server.endpoint) if at in named else word for at, word in enumerate(words)]


@pytest.mark.more
@pytest.mark.parametrize("page", sorted({command.page for command in OURS}))
def test_the_commands_of_a_page_run(page, folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    wrong = {}
    for command in (one for one in OURS if one.page == page):
        key = f"{command.text} --"
        if key in RAN or any(part in key for part in NOT_RUN):
            continue
        if any(_missing(packages) for part, packages in NEEDS.items() if part in key):
            continue
        if command.words[1:3] == ["golden", "record"]:
            shutil.rmtree(folder / "golden", ignore_errors=True)
        RAN.add(key)
        shell = next((k for k, word in enumerate(command.words) if word == ">"), len(command.words))
        words = command.words[1:shell]
        with _reached(words) as reached:
            code = main.main([*words[:1], *SOONER.get(words[0], ()), *reached[1:]])
        printed = capsys.readouterr()
        if code not in (0, 1, 3):
            wrong[f"{command.page}:{command.number}: {command.text}"] = (code, printed.err[-300:])

    assert "\n".join(f"{where}: {how}" for where, how in wrong.items()) == ""


PYTEST = sorted({(tuple(command.words[1:]), command.page) for command in EVERY if command.words[0] == "pytest"})


def test_what_other_commands_name_is_there():
    """Files of pytest and python commands; what takes an hour is run by hand or nightly, as its page says."""
    named = {word.partition("::")[0] for command in EVERY for word in command.words if command.words[0] != "detparity"}
    files = {word for word in named if re.match(r"(tests|suites|benchmarks|scripts)/", word)}

    assert len(files) > 10 and [word for word in sorted(files) if not (ROOT / word).exists()] == []


@pytest.mark.more
@pytest.mark.parametrize("words, page", PYTEST, ids=[" ".join(words) for words, _ in PYTEST])
def test_a_pytest_command_runs_in_a_users_folder_or_finds_its_tests_here(words, page, folder):
    of_user = any(word.startswith("--detparity-") for word in words)
    more = ["--detparity-quick", "-p", "detparity.cli.pytest_plugin"] if of_user else ["--collect-only", "-q"]
    asked = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *more, *words]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    environment["PYTHONPATH"] = str(ROOT)
    done = subprocess.run(
        asked, cwd=folder if of_user else ROOT, env=environment, capture_output=True, text=True, timeout=600
    )

    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-500:]
