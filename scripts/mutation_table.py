"""How many mutants of good files the checks kill: docs/mutate.md has the figures.

    python scripts/mutation_table.py FOLDER [--limit 90] [--only PATTERN] [--jobs 1]      # resumable
    python scripts/mutation_table.py FOLDER --table

Every file is exported into FOLDER once, and its mutants are judged by `detparity mutate`. Models of packages that are not
installed are left out.
"""

from __future__ import annotations

import argparse
import fnmatch
import importlib.util
import inspect
import json
import sys
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

HOME_SIZE = ("128", "160")
SEED = "1"  # of the mutants


@dataclass(frozen=True)
class File:
    """model: options of the reference; export: of `detparity export`; else the side of a package's model; layout: for the table;
    kinds: groups of mutants, where not all."""

    model: Tuple[str, ...]
    layout: str
    export: Tuple[str, ...] = ()
    side: int = 0
    share: float = 1.0  # of the mutants asked for
    kinds: str = ""


GENERIC = """import torch
from torch import nn


class Tokens(nn.Module):
    \"\"\"Patches, one layer of attention, and three outputs that mean nothing in particular.\"\"\"

    def __init__(self):
        super().__init__()
        self.patches = nn.Sequential(nn.Conv2d(3, 24, 8, 8), nn.BatchNorm2d(24), nn.GELU(), nn.Conv2d(24, 32, 3, padding=1))
        self.norm, self.other = nn.LayerNorm(32), nn.LayerNorm(32)
        self.attention = nn.MultiheadAttention(32, 4, batch_first=True)
        self.last = nn.Sequential(nn.Linear(32, 64), nn.SiLU(), nn.Linear(64, 9))

    def forward(self, images):
        maps = self.patches(images)
        tokens = self.norm(maps.flatten(2).transpose(1, 2))
        tokens = self.other(tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0])
        return self.last(tokens), torch.sigmoid(maps), tokens.mean(1)


def build():
    torch.manual_seed(0)
    return Tokens().eval()
"""
BUNDLED = ("--model", "bundled")
YOLOV7 = ("--arch", "yolov7", "--width", "0.25")
INT8 = ("--grid", "--int8", "--images", "scenes")
FILES: Mapping[str, File] = {
    "bundled grid": File(BUNDLED, "grid-dynamic", ("--grid", "--dynamic")),
    "bundled end2end-ort": File(
        BUNDLED, "end2end-ort-dynamic-batch", ("--end2end", "--max-wh", "4096", "--dynamic-batch")
    ),
    "bundled end2end-trt": File(BUNDLED, "end2end-trt", ("--end2end",), share=0.5),
    "bundled float16": File(BUNDLED, "grid, float16", ("--grid", "--half"), share=0.5),
    "bundled 8 bits": File(BUNDLED, "grid, int8", INT8, share=0.5),
    "bundled 8 bits, their scales": File(BUNDLED, "grid, int8", INT8, share=0.5, kinds="quantisation"),
    "yolov7 raw": File(YOLOV7, "raw", ()),
    "generic module": File(("--model", "generic.py:build"), "generic", side=96),
    "yolov8n": File(("--model", "ultralytics:yolov8n.yaml", "--condition"), "ultralytics", side=160),
    "yolo26n": File(("--model", "ultralytics:yolo26n.yaml", "--condition"), "rows selected inside", side=160),
    "rtdetr-r18": File(("--model", "libreyolo:rtdetr-r18", "--condition"), "queries, top-k inside", side=160),
    "ssdlite320": File(
        ("--model", "torchvision:ssdlite320_mobilenet_v3_large", "--condition"), "torchvision, NMS inside", side=320
    ),
}


def exported(file: File, path: Path) -> None:
    from detparity.cli import main

    if not file.export and file.model[0] != "--arch":
        of_a_package(file, path)
        return
    folder = path.parent
    if "--int8" in file.export:
        scenes(folder / "scenes")
    made = ["--include", "onnx", "--output-dir", str(folder), "--img-size", *HOME_SIZE]
    how = [str(folder / word) if word == "scenes" else word for word in file.export]
    before = set(folder.glob("*.onnx"))
    if main.main(["export", *(file.model if file.model != BUNDLED else ()), *made, *how]):
        raise SystemExit(f"{path.name} was not exported")
    (found,) = set(folder.glob("*.onnx")) - before
    found.rename(path)


def scenes(folder: Path, count: int = 16) -> None:
    """Pictures that ranges of 8 bits are taken of."""
    import numpy as np

    from detparity.inputs.encoded import png
    from detparity.inputs.scenes import scene

    folder.mkdir(exist_ok=True)
    for seed in range(count):
        pixels = np.rint(255 * scene((int(HOME_SIZE[0]), int(HOME_SIZE[1])), seed).image).astype(np.uint8)
        (folder / f"{seed}.png").write_bytes(png(pixels.transpose(1, 2, 0)))


def of_a_package(file: File, path: Path) -> None:
    import torch

    from detparity.inputs import images
    from detparity.models.adapters import make
    from detparity.models.reference import ModelRequest

    size = (file.side, file.side)
    made = make(ModelRequest(file.model[1], None, 0, size, "--condition" in file.model))
    given = made.facts.preprocessing.apply(images.batch_of([("natural", 0)], size))
    single = len(made.facts.shape) == 3
    example: Any = torch.from_numpy((given[0] if single else given).copy())
    keywords: Dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    torch.onnx.export(made.module, ([example] if single else example,), str(path), opset_version=17, **keywords)


def written(folder: Path, file: File) -> File:
    """With the module that a file is of, where that is our own."""
    if not file.model[1].startswith("generic.py"):
        return file
    (folder / "generic.py").write_text(GENERIC, encoding="utf-8")
    return replace(file, model=("--model", f"{folder}/generic.py:build"))


def there(file: File) -> bool:
    package = file.model[1].partition(":")[0]
    return package in ("bundled", "yolov7", "generic.py") or importlib.util.find_spec(package) is not None


def records(folder: Path, name: str) -> List[Mapping[str, Any]]:
    path = results(folder, name)
    lines = path.read_text(encoding="utf-8").splitlines()[1:] if path.exists() else []
    return [json.loads(line) for line in lines]


def slug(name: str) -> str:
    return name.replace(",", "").replace(" ", "-")


def results(folder: Path, name: str) -> Path:
    return folder / f"{slug(name)}.jsonl"


def table(folder: Path) -> Iterator[str]:
    yield "| file | layout | mutants | killed | by the quick checks | equivalent | survived or undecided | seconds a mutant |"
    yield "|---|---|---|---|---|---|---|---|"
    every: List[Mapping[str, Any]] = []
    for name, file in FILES.items():
        some = records(folder, name)
        every += some
        if some:
            yield row(name, file.layout, some)
    yield row("all", "", every)
    yield ""
    yield "| group | mutants | killed | equivalent | survived or undecided |"
    yield "|---|---|---|---|---|"
    for group in dict.fromkeys(str(one["group"]) for one in every):
        some = [one for one in every if one["group"] == group]
        count = Counter(one["outcome"] for one in some)
        left = len(some) - count["killed"] - count["equivalent"]
        yield f"| {group} | {len(some)} | {count['killed']} | {count['equivalent']} | {left} |"


def row(name: str, layout: str, some: Sequence[Mapping[str, Any]]) -> str:
    count = Counter(one["outcome"] for one in some)
    quick = sum(bool(one.get("quick")) for one in some if one["outcome"] == "killed")
    left = len(some) - count["killed"] - count["equivalent"]
    seconds = sorted(one["seconds"] for one in some)[len(some) // 2] if some else 0.0
    return f"| {name} | {layout} | {len(some)} | {count['killed']} | {quick} | {count['equivalent']} | {left} | {seconds:.1f} |"


def main(arguments: Optional[Sequence[str]] = None) -> int:
    from detparity.cli import main as command

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--limit", type=int, default=90, help="mutants of each file")
    parser.add_argument("--only", default="*")
    parser.add_argument("--jobs", default="1")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args(arguments)
    worst = 0
    for name in [] if options.table else fnmatch.filter(FILES, options.only):
        file = FILES[name]
        folder = options.folder / slug(name)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "model.onnx"
        if not there(file):
            print(f"{name}: its package is not installed", file=sys.stderr)
            continue
        file = written(folder, file)
        if not path.exists():
            exported(file, path)
        words = [
            "mutate",
            str(path),
            *file.model,
            "--limit",
            str(round(options.limit * file.share)),
            "--mutant-seed",
            SEED,
        ]
        words += ["--img-size", str(file.side)] if file.side else []  # its norms are set at that size
        words += ["--kinds", file.kinds] if file.kinds else []
        words += ["--jobs", options.jobs, "--results", str(results(options.folder, name))]
        worst = max(worst, command.main(words))
    print("\n".join(table(options.folder)))
    return worst


if __name__ == "__main__":
    sys.exit(main())
