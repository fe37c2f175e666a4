"""Writes the fixtures of the torch it runs in, and the table of all that are there.

Run by hand inside a lane: `python tests/models/yolov7/make_fixtures.py`.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Tuple

import numpy as np
import torch
from standins import LEAKY, MIXED, Model, build, installed, run, small_plan, stripped

from detparity.core import environment
from detparity.inputs import images
from detparity.models.compat.pickler import save

FOLDER = Path(__file__).with_name("fixtures")
SIZE = (64, 32)
CLASSES = 3
README = """# Checkpoints pickled by the oldest and the newest torch

Each `.pt` is a checkpoint in the official format, made of the stand-in classes of `../standins.py` with seeded random weights in
float16. The `.npz` beside it holds `pixels` (an image in bytes), `predictions` (what the stand-ins make of `pixels / 255` in
float64, unfused: what the reader of checkpoints must arrive at by its own way) and `versions` (where both were made).

| kind | what it is |
|---|---|
| small-detect | released: the model alone, LeakyReLU, Detect |
| small-idetect | in training: `ema` unlike `model`, numpy in `best_fitness`, an optimizer that has moved the biases; IDetect |
| small-mixed | released: Hardswish and SiLU by turns, Detect |

Made by `python tests/models/yolov7/make_fixtures.py` in the lanes `py39-torch1.7` and `py313-torch2.15`. A second run gives the same
numbers; torch 1.7 names storages by their addresses, so its files differ in their names for them.

| file | bytes | python | torch | numpy |
|---|---|---|---|---|
"""


def released(activations: Tuple[str, ...], seed: int) -> Dict[str, Any]:
    return stripped(build(small_plan("Detect", *activations), CLASSES, seed))


def in_training(seed: int) -> Dict[str, Any]:
    """What a run leaves behind each epoch. Only the biases have momentum, so that the file stays small."""
    model = build(small_plan("IDetect", LEAKY), CLASSES, seed)
    model.nc, model.gr, model.hyp, model.class_weights = CLASSES, 1.0, {"lr0": 0.01}, torch.ones(CLASSES)
    average = copy.deepcopy(model)
    weights = [parameter for name, parameter in model.named_parameters() if not name.endswith("bias")]
    biases = [parameter for name, parameter in model.named_parameters() if name.endswith("bias")]
    optimizer = torch.optim.SGD([{"params": biases}, {"params": weights}], lr=0.01, momentum=0.937, nesterov=True)
    for bias in biases:
        bias.grad = torch.ones_like(bias)
    optimizer.step()
    return {
        **stripped(model),
        "epoch": 3,
        "best_fitness": np.float64(0.25),
        "training_results": "3/299",
        "ema": average.half(),
        "updates": 17,
        "optimizer": optimizer.state_dict(),
        "wandb_id": "none",
    }


KINDS: Mapping[str, Callable[[], Dict[str, Any]]] = {
    "small-detect": lambda: released((LEAKY,), 1),
    "small-idetect": lambda: in_training(2),
    "small-mixed": lambda: released(MIXED, 3),
}


def write(path: Path, content: Dict[str, Any]) -> None:
    """The checkpoint, and beside it what its model makes of an image."""
    with installed():
        save(content, path)
    model: Model = content["ema"] or content["model"]
    pixels = np.round(images.natural(SIZE, 5)[None] * 255).astype(np.uint8)
    predictions = run(model, pixels.astype(np.float32) / 255)
    known = environment.environment()
    versions = np.array([known["python"], known["torch"], known["numpy"]])
    np.savez_compressed(path.with_suffix(".npz"), pixels=pixels, predictions=predictions, versions=versions)


def row(path: Path) -> str:
    versions = np.load(path.with_suffix(".npz"))["versions"]
    return "| " + " | ".join([path.name, str(path.stat().st_size), *versions]) + " |\n"


def main() -> None:
    FOLDER.mkdir(exist_ok=True)
    version = ".".join(torch.__version__.split(".")[:2])
    for kind, make in KINDS.items():
        write(FOLDER / f"{kind}-torch{version}.pt", make())
    rows = [row(path) for path in sorted(FOLDER.glob("*.pt"))]
    (FOLDER / "README.md").write_text(README + "".join(rows), encoding="utf-8")


if __name__ == "__main__":
    main()
