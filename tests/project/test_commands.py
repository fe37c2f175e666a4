"""Every command of README and docs: all are understood by the command line as it is now, and those of detparity run on real files.

The files lie in a folder under the names that the pages use. What needs a server, a foreign package, a person or an hour is not run
here; each such command is named with the reason.
"""

from __future__ import annotations

import re
import shlex
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Iterator, List

import pytest

from detparity.cli import main
from detparity.core import resources
from detparity.models.choice import ModelChoice, bundled_weights
from detparity.tools.export_cache import exported

ROOT = resources.root()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "CONTRIBUTING.md"]
OPTIONAL = re.compile(r"\[(--[^\]]*)\]")  # what a synopsis leaves open
PLACEHOLDERS = {"DIR": "photos", "DIR|FILE.json": "photos", "FILE": "out.json", "N": "2", "HOW": "resize=stretch"}
FIRST = re.compile(r"(detparity|pytest|tox|python) [\w-]")

NOT_RUN = {
    "yolo export": "needs ultralytics; the foreign lane captures it",
    "ultralytics:best.pt": "needs ultralytics; the foreign lane",
    "kserve+": "needs a server; tests/engines/test_kserve.py",
    "detparity check --": "every exporter: tox -e demo",
    "detparity review": "needs goldens that wait; tests/tools/golden",
    "detparity mutate": "minutes of judging; tests/tools/mutate",
    "detparity bench": "minutes of timing; tests/tools/bench",
    "--mobile": "needs XNNPACK, which builds from 2.13 on lack",
    "--dynamo": "needs onnxscript; tests/exporters",
    "my-model.yaml": "a layer table; tests/models",
    "state.pt": "a state dict; tests/models",
    "--cfg yolov7-w6": "the state dict here is of another architecture; tests/models",
    "--opset 17": "of files at opset 17; tests/exporters",
    "--weights a.pt --weights b.pt": "an ensemble's export; tests/models",
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
    begun, fenced = "", False
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
                words = shlex.split(OPTIONAL.sub(r"\1", found), comments=True)
                name = str(page.relative_to(ROOT))
                yield Command(name, number, [PLACEHOLDERS.get(word, word) for word in words])


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
        "grid": ("best.onnx", "old.onnx", "new.onnx", "best_before_simplify.onnx", "best_sim.onnx"),
        "traced": ("best.torchscript.pt",),
        "lite": ("yolov7-tiny.ptl",),
    }.items():
        path = exported(session.detector, variant, (256, 320), shared_folder)
        for name in names:
            shutil.copy(path, made / name)
    for name in ("best.pt", "yolov7-tiny.pt"):
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
    (made / "known.toml").write_text("")
    return made


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
SOONER = {"check": ("--quick",), "capture": ("--quick",), "export": ("--force",)}


@pytest.mark.lanes
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
        RAN.add(key)
        shell = next((k for k, word in enumerate(command.words) if word == ">"), len(command.words))
        words = command.words[1:shell]
        code = main.main([*words[:1], *SOONER.get(words[0], ()), *words[1:]])
        printed = capsys.readouterr()
        if code not in (0, 1, 3):
            wrong[f"{command.page}:{command.number}: {command.text}"] = (code, printed.err[-300:])

    assert "\n".join(f"{where}: {how}" for where, how in wrong.items()) == ""
