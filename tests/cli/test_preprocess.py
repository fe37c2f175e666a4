"""`detparity preprocess`: what it prints, its exit codes, and input it cannot use."""

from __future__ import annotations

import json

import numpy as np
import PIL.Image
import pytest
from detparity.kit.tests.tools.preprocess.drawn import picture

from detparity.cli.main import main
from detparity.inputs.framing import letterbox

FUNCTIONS = """
import os, signal
import numpy as np, torch
from PIL import Image
def stretched(path):
    return torch.from_numpy(np.asarray(Image.open(path).resize((96, 96)), np.float32) / 255).permute(2, 0, 1)[None]
def of_picture(picture):
    return picture.transpose(2, 0, 1)[None] / 255
def crashing(path): os.kill(os.getpid(), signal.SIGSEGV)
def raising(path): return path.shape
def text(path): return path
number = 3
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    found = tmp_path_factory.mktemp("preprocess")
    source = picture(np.random.default_rng(5), 72, 128)
    PIL.Image.fromarray(source).save(found / "x.png")
    image = letterbox(source, (96, 96))
    np.save(found / "right.npy", image.transpose(2, 0, 1)[None].astype(np.float32) / 255)
    np.save(found / "bgr.npy", image[:, :, ::-1].transpose(2, 0, 1)[None].astype(np.float32))
    PIL.Image.new("RGB", (64, 64), (0, 0, 0)).save(found / "black.png")
    np.save(found / "black.npy", np.zeros((1, 3, 96, 96), np.float32))
    np.save(found / "two.npy", np.repeat(image.transpose(2, 0, 1)[None], 2, 0).astype(np.float32) / 255)
    np.save(found / "other.npy", image[:, ::-1].transpose(2, 0, 1)[None].astype(np.float32) / 255)
    (found / "broken.npy").write_bytes((found / "right.npy").read_bytes()[:200])
    (found / "text.npy").write_text("no numbers")
    (found / "mine.py").write_text(FUNCTIONS)
    (found / "plain.py").write_text(FUNCTIONS.replace(", torch", ""))
    (found / "broken.png").write_bytes((found / "x.png").read_bytes()[:500])
    return found


def _run(capsys, *words):
    code = main(["preprocess", *map(str, words)])
    out, err = capsys.readouterr()
    return code, out, err


def test_what_the_model_takes_conforms(folder, capsys, tmp_path):
    report = tmp_path / "found.json"
    code, out, _ = _run(capsys, "--image", folder / "x.png", "--tensor", folder / "right.npy", "--json", report)

    assert code == 0 and "as a YOLO model takes it." in out and "Fix:" not in out
    content = json.loads(report.read_text())
    assert (content["verdict"], content["differences"], content["pixels"]["share"]) == ("conforms", [], 0.0)


def test_of_a_batch_the_first_image_is_judged_and_stated(folder, capsys):
    code, out, _ = _run(capsys, "--image", folder / "x.png", "--tensor", folder / "two.npy")

    assert code == 0 and "two.npy (the first of its 2 images) is" in " ".join(out.split())


def test_every_difference_is_named_with_its_remedy(folder, capsys):
    code, out, _ = _run(capsys, "--image", folder / "x.png", "--tensor", folder / "bgr.npy")

    assert code == 1 and out.count("Fix:") == 2
    sentence = " ".join(out.split("\n\n")[0].split())
    assert sentence.endswith("BGR instead of RGB, 0..255 (not divided) instead of 0..1 (divided by 255).")
    assert "% differ by more than one level" in out


def test_what_fits_nothing_is_said(folder, capsys):
    code, out, _ = _run(capsys, "--image", folder / "x.png", "--tensor", folder / "other.npy")

    assert code == 1 and "by nothing that is tried here" in out and "A crop, a flip" in out


def test_a_function_is_called_apart_and_compared(folder, capsys):
    image, mine = folder / "x.png", folder / "mine.py"

    code, out, _ = _run(capsys, "--image", image, "--with", f"{mine}:stretched")
    assert code == 1 and "framing     stretch " in out

    code, out, _ = _run(capsys, "--image", image, "--with", f"{folder}/plain.py:of_picture", "--takes", "bgr")
    assert code == 1 and "channels    BGR" in out and "framing     letterbox" in out


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("--image", "no.png", "--tensor", "right.npy"), "no.png does not exist"),
        (("--image", "broken.png", "--tensor", "right.npy"), "broken.png is a damaged picture"),
        (("--image", "mine.py", "--tensor", "right.npy"), "mine.py is no picture"),
        (("--image", "x.png", "--tensor", "no.npy"), "no.npy"),
        (("--image", "x.png", "--tensor", "broken.npy"), "broken.npy is no .npy file of numbers"),
        (("--image", "x.png", "--tensor", "text.npy"), "text.npy is no .npy file of numbers"),
        (("--image", "x.png", "--with", "plain.py:crashing"), "it ended its process (SIGSEGV)"),
        (("--image", "x.png", "--with", "plain.py:raising"), "has no attribute 'shape' (line 10)"),
        (("--image", "x.png", "--with", "plain.py:text"), "it returned str, not a tensor"),
        (("--image", "x.png", "--with", "plain.py:number"), "it has no function number"),
        (("--image", "x.png", "--with", "mine.py"), "neither FILE.py:FUNC"),
        (("--image", "black.png", "--tensor", "black.npy"), "the picture is of one colour"),
        (("--image", "x.png"), "one of the arguments --tensor --with"),
        (("--image", "x.png", "--tensor", "right.npy", "--json", "x.png"), "x.png"),
    ],
)
def test_unusable_input_is_one_line(folder, capsys, monkeypatch, words, line):
    monkeypatch.chdir(folder)
    code, out, err = _run(capsys, *words)

    assert (code, out, err.count("\n")) == (2, "", 1) and line in err
