"""Other people's exporters judged: runs each package's own export under `detparity capture` and writes docs/foreign.md.

    python scripts/foreign_table.py run RESULTS [--packages ultralytics ...] [--only PATTERN] [--minutes 90]   # resumable
    python scripts/foreign_table.py page RESULTS > docs/foreign.md
    python scripts/foreign_table.py export PACKAGE NAME KEY=VALUE ...                                          # what `run` captures

To be run in the environment of the lane `foreign` (tox.ini). Weights are random, by seed, batch-norm set on pictures: otherwise a
deep network of random weights detects nothing, and a verdict on it has no power. Nothing is downloaded.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import re
import subprocess
import sys
import time
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

from foreign_page import DEFECTS, planted

SIZE = 256
SEEDS = (0, 1, 2)
FIXED = ("efficientdet",)  # families that take no other size than their own
SECONDS = 900  # for one export with its verdict
SHOWN = 90  # letters of a finding in the table
RANGED = ("picodet-*", "rtmdet-*", "yolo7-*")  # of libreyolo: count cells in the type of the image
# Defects of exporters themselves, confirmed without detparity (foreign_page.py): package, patterns of family and options, of check.
CONFIRMED = (
    ("libreyolo", "yolonas-*", "*", "structure.contradicting"),
    ("libreyolo", "dfine-*", "*dynamic=True*", "parity.batches"),
    ("libreyolo", "deim-*", "*dynamic=True*", "parity.batches"),
    *(("libreyolo", name, "*half=True*", f"structure.{check}") for name in RANGED for check in ("checker", "load")),
    ("libreyolo", "yolox-*", "*half=True*", "parity.*"),
    ("ultralytics", "*", "*half=True*", "structure.checker"),
    ("ultralytics", "rtdetr-*", "*dynamic=True*", "structure.axes"),
    ("ultralytics", "yolo*", "*dynamic=True nms=False*", "parity.sizes"),
    ("ultralytics", "yolo*", "*dynamic=True nms=False*", "structure.axes"),
)

ULTRALYTICS = (
    "yolov5nu", "yolov8n", "yolov9t", "yolov10n", "yolo11n", "yolo12n", "yolo26n", "yolov8n-seg", "yolo11n-pose", "yolo11n-obb",
    "rtdetr-l",
)  # fmt: skip
LIBREYOLO = (
    "yolo9-t", "yolo9_e2e-t", "yolo7-b", "yolox-n", "picodet-s", "rtmdet-t", "ppyoloe-s", "yolonas-s", "dfine-n", "deim-n",
    "rtdetr-r18", "efficientdet-d0",
)  # fmt: skip
TORCHVISION = (
    "ssdlite320_mobilenet_v3_large",
    "ssd300_vgg16",
    "fcos_resnet50_fpn",
    "retinanet_resnet50_fpn",
    "fasterrcnn_resnet50_fpn",
)
TRANSFORMERS = ("rt_detr", "rt_detr_v2", "d_fine", "detr", "yolos")
KINDS: Mapping[str, Sequence[str]] = {
    "ultralytics": (
        "format=onnx",
        "format=onnx dynamic=True",
        "format=torchscript",
        "format=onnx simplify=False",
        "format=onnx nms=True",
        "format=onnx half=True",
    ),
    "libreyolo": (
        "format=onnx dynamic=False",
        "format=onnx dynamic=True",
        "format=torchscript",
        "format=onnx nms=True",
        "format=onnx half=True",
    ),
    "torchvision": ("format=onnx",),
    "transformers": ("format=onnx", "format=torchscript"),
}
# Of ultralytics: rows are selected in the file by nms=False alone, which is not their default.
END2END = ("yolov10n", "yolo26n")
END2END_KINDS = 3  # static, dynamic and TorchScript
WITHOUT_NMS = ("yolov10n", "yolo26n", "rtdetr-l")  # of ultralytics; of libreyolo all but yolo9-t
FAMILIES: Mapping[str, Sequence[str]] = {
    "ultralytics": ULTRALYTICS,
    "libreyolo": LIBREYOLO,
    "torchvision": TORCHVISION,
    "transformers": TRANSFORMERS,
}


@dataclass(frozen=True)
class Job:
    """One export: words are the exporter's options, as text."""

    package: str
    name: str
    words: str
    seed: int
    size: int = SIZE

    @property
    def key(self) -> str:
        size = f"-{self.size}" if self.size != SIZE else ""
        return f"{self.package}-{self.name}-{self.words.replace('=', '-').replace(' ', '-')}-{self.seed}{size}"


def jobs(packages: Sequence[str]) -> Iterator[Job]:
    """First each family once, then its other kinds, then its other seeds: a run that is cut short has seen every family."""
    chosen = [(package, name) for package in packages for name in FAMILIES[package]]
    for package, name in chosen:
        yield Job(package, name, kinds(package, name)[0], SEEDS[0])
    for package, name in chosen:
        for words in kinds(package, name)[1:]:
            yield Job(package, name, words, SEEDS[0])
    for seed in SEEDS[1:]:
        for package, name in chosen:
            yield Job(package, name, kinds(package, name)[0], seed)


def kinds(package: str, name: str) -> List[str]:
    """The options a family is exported with, the one for all seeds first."""
    plain = [words for words in KINDS[package] if "nms=True" not in words or _suppresses(package, name)]
    return [f"{words} nms=False" for words in plain[:END2END_KINDS]] + plain if name in END2END else plain


def _suppresses(package: str, name: str) -> bool:
    """Whether the package can put suppression into the file of this family."""
    return name == "yolo9-t" if package == "libreyolo" else name not in WITHOUT_NMS


# --- the exports themselves


def pictures(side: int) -> Any:
    """(6, 3, side, side): noise, a ramp, black, white, dark, and smooth patches: no kind of picture leaves batch-norm's range."""
    import torch

    ramp = torch.linspace(0, 1, side).expand(3, side, side)
    smooth = torch.nn.functional.interpolate(torch.rand(1, 3, 8, 8), size=(side, side), mode="bilinear")[0]
    flat = [torch.zeros(3, side, side), torch.ones(3, side, side), 0.06 * smooth]
    return torch.stack([torch.rand(3, side, side), ramp, *flat, smooth])


def conditioned(module: Any, images: Any, call: Callable[[Any, Any], Any]) -> None:
    """Set the statistics of every batch-norm on these images."""
    import torch

    norms = [part for part in module.modules() if "BatchNorm" in type(part).__name__ and hasattr(part, "momentum")]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0
    with torch.no_grad():
        call(module, images)
    for norm in norms:
        norm.eval()


def export(package: str, name: str, options: Dict[str, Any]) -> None:
    import torch

    torch.manual_seed(options.pop("seed", 0))
    torch.set_num_threads(1)
    EXPORTS[package](name, options, options.pop("size", SIZE))


def spread(model: Any, images: Any, heads: str, bias: Optional[float] = None) -> None:
    """Scores that differ: packages draw the weights of their class heads so small that all scores are under the threshold, and nothing
    would be detected. images: what `model` is called with, once; heads: pattern of their names; bias: theirs, None to leave it."""
    import torch

    seen: Dict[Any, float] = {}

    def note(module: Any, _: Any, given: Any) -> None:
        seen[module] = max(seen.get(module, 0.0), float(given.std()))

    layers = [module for name, module in model.named_modules() if re.search(heads, name)]
    hooks = [one.register_forward_hook(note) for one in layers]
    with torch.no_grad():
        model(images)
        for layer, deviation in seen.items():
            layer.weight.mul_(1.5 / deviation)
            if bias is not None:
                layer.bias.fill_(bias)
    for hook in hooks:
        hook.remove()


def _ultralytics(name: str, options: Dict[str, Any], size: int) -> None:
    from ultralytics import RTDETR, YOLO

    model = (RTDETR if name.startswith("rtdetr") else YOLO)(f"{name}.yaml")
    conditioned(model.model.eval(), pictures(size), lambda module, images: module(images))
    if options.get("nms"):  # YOLOv10 and YOLO26 select without it
        spread(model.model, pictures(size)[:1], r"\.cv3\.\d+\.2$", -3.0)
    model.export(imgsz=size, **options)


def _libreyolo(name: str, options: Dict[str, Any], side: int) -> None:
    import torch
    from libreyolo.models.base.model import BaseModel

    family, _, size = name.rpartition("-")
    kind = next(one for one in BaseModel._registry if family == one.FAMILY)
    model = kind._from_scratch(size=size, device="cpu", seed=torch.initial_seed(), nb_classes=80)
    side = kind.INPUT_SIZES[size] if family in FIXED else side
    conditioned(model.model.eval(), pictures(side), lambda module, images: module(images))
    suffix = "torchscript" if options["format"] == "torchscript" else "onnx"
    model.export(output_path=f"{name}.{suffix}", imgsz=side, **options)


def _torchvision(name: str, options: Dict[str, Any], side: int) -> None:
    import torch
    from torchvision.models import get_model

    given = {} if name.startswith("ssd") else {"min_size": side, "max_size": 2 * side}
    model = get_model(name, weights=None, weights_backbone=None, **given).eval()
    image = torch.rand(3, side, side)
    conditioned(model, list(pictures(side)), lambda module, images: module(images))
    spread(model, [image], r"cls_logits$")
    names = ["boxes", "scores", "labels"] if not name.startswith("faster") else ["boxes", "labels", "scores"]
    torch.onnx.export(
        model, ([image],), f"{name}.onnx", opset_version=17, input_names=["image"], output_names=names, dynamo=False
    )


def _transformers(name: str, options: Dict[str, Any], side: int) -> None:
    import torch
    import transformers

    kinds = {"rt_detr": "RTDetr", "rt_detr_v2": "RTDetrV2", "d_fine": "DFine", "detr": "Detr", "yolos": "Yolos"}
    given = {"backbone_config": transformers.ResNetConfig(out_features=["stage4"])} if name == "detr" else {}
    config = getattr(transformers, f"{kinds[name]}Config")(**given)
    for key in ("use_pretrained_backbone", "use_timm_backbone"):
        if hasattr(config, key):
            setattr(config, key, False)
    if name == "yolos":
        config.image_size, config.num_hidden_layers = [side, side], 4
    model = getattr(transformers, f"{kinds[name]}ForObjectDetection")(config).eval()
    image = torch.rand(1, 3, side, side)

    class Exported(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: Any) -> Tuple[Any, Any]:
            found = self.model(pixel_values=pixel_values)
            return found.logits, found.pred_boxes

    wrapped = Exported(model).eval()
    conditioned(wrapped, pictures(side), lambda module, images: module(images))
    if options["format"] == "torchscript":
        torch.jit.trace(wrapped, image, check_trace=False).save(f"{name}.torchscript.pt")
        return
    names: Dict[str, Any] = {"input_names": ["pixel_values"], "output_names": ["logits", "pred_boxes"]}
    torch.onnx.export(wrapped, (image,), f"{name}.onnx", opset_version=17, dynamo=False, **names)


EXPORTS: Mapping[str, Callable[[str, Dict[str, Any], int], None]] = {
    "ultralytics": _ultralytics,
    "libreyolo": _libreyolo,
    "torchvision": _torchvision,
    "transformers": _transformers,
}


def options_of(words: Sequence[str]) -> Dict[str, Any]:
    """KEY=VALUE words; True, False and numbers as such."""
    found: Dict[str, Any] = {}
    for word in words:
        key, _, value = word.partition("=")
        found[key] = {"True": True, "False": False}.get(value, int(value) if value.isdigit() else value)
    return found


# --- running and the table


def run(folder: Path, packages: Sequence[str], only: str, minutes: float, size: int) -> int:
    """Every job that has no result yet, until the time is over. Returns how many were found wrong in a check that is not confirmed."""
    folder.mkdir(parents=True, exist_ok=True)
    end = time.monotonic() + 60 * minutes
    for job in (replace(one, size=size) for one in jobs(packages)):
        result = folder / f"{job.key}.json"
        if result.exists() or not fnmatch.fnmatch(job.key, only):
            continue
        if time.monotonic() > end:
            print("the time is over; the same command goes on where this one ended", file=sys.stderr)
            break
        found = judged(job, folder / "work" / job.key)
        result.write_text(json.dumps(found, indent=1), encoding="utf-8")
        print(f"{job.key}: {found['verdict']} ({found['seconds']:.0f} s)", flush=True)
    results = [json.loads(path.read_text(encoding="utf-8")) for path in folder.glob("*.json")]
    return sum(bool(unconfirmed(one)) for one in results)


def unconfirmed(result: Mapping[str, Any]) -> List[str]:
    """Checks that found something that is no confirmed defect of the exporter."""
    known = [
        check
        for package, name, words, check in CONFIRMED
        if package == result["package"]
        and fnmatch.fnmatch(result["name"], name)
        and fnmatch.fnmatch(result["words"], words)
    ]
    red = {
        check["id"]
        for one in result["artifacts"]
        for check in one["checks"]
        for f in check["findings"]
        if f["level"] == "MUST"
    }
    return sorted(check for check in red if not any(fnmatch.fnmatch(check, one) for one in known))


def judged(job: Job, work: Path) -> Dict[str, Any]:
    """Export and judge one job in a folder of its own, whose files are removed afterwards."""
    work.mkdir(parents=True, exist_ok=True)
    script = [
        sys.executable,
        str(Path(__file__).resolve()),
        "export",
        job.package,
        job.name,
        *job.words.split(),
        f"seed={job.seed}",
        f"size={job.size}",
    ]
    command = [sys.executable, "-m", "detparity.cli.main", "capture", "--json", "report.json", "--", *script]
    variables = {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).resolve().parents[1]), "HF_HUB_OFFLINE": "1"}
    start = time.monotonic()
    try:
        done = subprocess.run(
            command,
            cwd=work,
            env={**os.environ, **variables},
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )
        code, tail = done.returncode, (done.stdout + done.stderr)[-3000:]
    except subprocess.TimeoutExpired:
        code, tail = -1, f"no verdict after {SECONDS} s"
    report = work / "report.json"
    content = (
        json.loads(report.read_text(encoding="utf-8")) if report.is_file() else {"verdict": "none", "artifacts": []}
    )
    for path in sorted(work.rglob("*"), reverse=True):
        path.unlink() if path.is_file() or path.is_symlink() else path.rmdir()
    return {
        **vars(job),
        "verdict": content["verdict"],
        "code": code,
        "tail": tail,
        "seconds": time.monotonic() - start,
        "version": metadata.version(job.package),
        "revision": _revision(),
        "artifacts": content["artifacts"],
    }


def _revision() -> str:
    """Of the checks that judged, where this is a clone."""
    words = ["git", "-C", str(Path(__file__).resolve().parents[1]), "rev-parse", "--short", "HEAD"]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip() or "unknown"


def page(folder: Path) -> str:
    """docs/foreign.md from the results."""
    results = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))]
    order = {job.key: number for number, job in enumerate(jobs(list(FAMILIES)))}
    results.sort(key=lambda one: (list(FAMILIES).index(one["package"]), order.get(_key(one), 0)))
    verdicts: Dict[str, int] = {}
    revisions: Dict[str, int] = {}
    for one in results:
        revision = one.get("revision", "earlier")
        revisions[revision] = revisions.get(revision, 0) + 1
        one["verdict"] = "no file" if one["verdict"] == "none" else one["verdict"]
        verdicts[one["verdict"]] = verdicts.get(one["verdict"], 0) + 1
    named = [one for one in results if one.get("size", SIZE) == SIZE and _key(one) in order]
    lines = [
        "# Other people's exporters, judged",
        "",
        "Each row is one export as its package makes it, run unmodified under `detparity capture` and judged against the module",
        f"exported, at {SIZE} pixels, with random weights whose batch-norm was set on drawn pictures. Floors: the largest error of",
        "any group of outputs, in noise floors ([tolerance.md](tolerance.md)); 4 is the limit for root mean squares. It is made",
        "by",
        "",
        "    python scripts/foreign_table.py run RESULTS && python scripts/foreign_table.py page RESULTS > docs/foreign.md",
        "",
        f"{len(results)} exports, {len(named)} of the {len(order)} that the script names and {len(results) - len(named)} others: "
        + f"{', '.join(f'{count} {verdict}' for verdict, count in sorted(verdicts.items()))}. "
        + f"Judged at revisions: {', '.join(f'{name} ({count})' for name, count in sorted(revisions.items()))}.",
        "",
        "| package | family | exporter's options | seed | verdict | floors | what was found |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in results:
        artifacts = one["artifacts"]
        words = one["words"] + (f" at {one['size']} px" if one.get("size", SIZE) != SIZE else "")
        lines.append(
            f"| {one['package']} {one['version']} | {one['name']} | {words} | {one['seed']} | {one['verdict']} | "
            f"{_floors(artifacts)} | {_found(one)} |"
        )
    return "\n".join([*lines, DEFECTS, *planted(folder)]) + "\n"


def _key(result: Mapping[str, Any]) -> str:
    """Of its job at the usual size."""
    return Job(result["package"], result["name"], result["words"], result["seed"]).key


def _floors(artifacts: Sequence[Mapping[str, Any]]) -> str:
    values = [row["floors"] for one in artifacts for row in one.get("noise", {}).values()]
    return f"{max(values):.2f}" if values else ""


def _found(one: Mapping[str, Any]) -> str:
    """Findings that decide, why something is incomplete, low power."""
    texts: List[str] = []
    for artifact in one["artifacts"]:
        for check in artifact["checks"]:
            texts += [
                f"{check['id']}: {f['message']}"
                for f in check["findings"]
                if f["level"] == "MUST" and not f.get("follows")
            ]
            if check["incomplete"]:
                texts.append(f"{check['id']}: {check['reason']}")
        texts += [f"low power: {text}" for text in artifact.get("low_power", ())]
        texts += [artifact["reason"]] if artifact.get("reason") else []
    if not one["artifacts"]:
        texts.append(one["tail"].strip().splitlines()[-1] if one["tail"].strip() else "no verdict")
    shown = [text.replace("|", "/").replace("\n", " ") for text in dict.fromkeys(texts)]
    return "; ".join(text if len(text) <= SHOWN else text[: SHOWN - 3] + "..." for text in shown[:3])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run")
    running.add_argument("results", type=Path)
    running.add_argument("--packages", nargs="+", default=list(FAMILIES), choices=list(FAMILIES))
    running.add_argument("--only", default="*")
    running.add_argument("--minutes", type=float, default=90)
    running.add_argument("--size", type=int, default=SIZE)
    making = verbs.add_parser("page")
    making.add_argument("results", type=Path)
    one = verbs.add_parser("export")
    one.add_argument("package", choices=list(FAMILIES))
    one.add_argument("name")
    one.add_argument("words", nargs="*")
    options = parser.parse_args()
    if options.verb == "export":
        export(options.package, options.name, options_of(options.words))
    elif options.verb == "run":
        wrong = run(options.results, options.packages, options.only, options.minutes, options.size)
        raise SystemExit(1 if wrong else 0)
    else:
        print(page(options.results), end="")


if __name__ == "__main__":
    main()
