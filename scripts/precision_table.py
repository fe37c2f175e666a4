"""Files of half precision and of 8 bits of several models, by several makers, and defects planted into them: judged, and as tables.

    python scripts/precision_table.py run RESULTS [--models bundled yolov8n ...] [--checkpoint yolov7-tiny.pt] [--minutes 60]
    python scripts/precision_table.py page RESULTS [--write docs/precision.md]

`run` goes on where it ended, `page --write` replaces what is between the marks. It needs the environment of `tox -e precision`.
Nothing is downloaded: weights of other packages are random (precision_models.py).
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

import precision_models
import torch
from precision_files import DEFECTS, EIGHT_BITS, MAKERS, DoesNotApply, Source, exported, planted
from precision_files import _First as First

from detparity.inputs import images
from detparity.inputs.scenes import scene

SIZE = (128, 160)
PACKAGES = {"yolov8n": "ultralytics", "yolo11n": "ultralytics", "yolox-n": "libreyolo", "yolo9-t": "libreyolo"}
MODELS = ("bundled", "yolov7-tiny", *PACKAGES)
SCORES: Mapping[str, Tuple[int, int]] = {"bundled": (2, 4), "yolov7-tiny": (2, 4), "yolox-n": (2, 4)}
PICTURES = 72  # on which budgets are measured
LARGE = (
    640,
    640,
)  # of files that suppress: the offsets of five classes reach beyond 2048 px, where float16 has no odd pixels
CALIBRATION = 8
FEW = 3  # of them, for files that a floor judges
SECONDS = 1500
CHECKS = "structure,precision,parity.declared,parity.images,nms.class-offset"
ENGINES = "engine,structure.load,parity.declared,parity.images"
GROUPS = ("half", "planted", "engines", "8 bits")
TITLES = ("ONNX Runtime", "OpenVINO", "ncnn")
BEGIN, END = "<!-- precision_table.py -->", "<!-- /precision_table.py -->"


def groups(name: str) -> Iterator[Tuple[str, str, Callable[[Source], bytes]]]:
    """(group, title, maker) of every file of a model."""
    for title, make in MAKERS.items():
        for keep in (True, False):
            yield "half", f"{title}, float{32 if keep else 16} in and out", lambda s, m=make, k=keep: m(s, k)  # type: ignore[misc]
    for title, (base, _, _) in DEFECTS.items():
        yield "planted", title, lambda s, t=title, b=base: planted(t, _base(b, s), s)  # type: ignore[misc]
    for title, (_, eight) in EIGHT_BITS.items():
        yield "8 bits", title, eight


BASES: Mapping[str, Callable[[Source], bytes]] = {
    "half": lambda source: MAKERS["torch half export"](source, True),
    "8 bits": lambda source: EIGHT_BITS["QDQ, a scale a channel, heads in float"][1](source),
    "suppressing": lambda source: source.suppressing(),
}


def _base(which: str, source: Source) -> bytes:
    """The good file that a defect is planted into, made once."""
    if which not in source.made:
        source.made[which] = BASES[which](source)
    return source.made[which]


def prepared(name: str, folder: Path, checkpoint: str, steps: int) -> Tuple[Source, List[str]]:
    """A model's source, and what `detparity check` is given of it."""
    if name in PACKAGES:
        return _of_package(name, folder / "models" / f"{name}.pt", steps)
    from detparity.core.vocabulary import parse_variant
    from detparity.models.choice import ModelChoice, load_detector
    from detparity.models.yolov7.network import FixedPredictions, Predictions
    from detparity.tools.export_cache import export_bytes

    chosen = ModelChoice(weights=(Path(checkpoint),)) if name == "yolov7-tiny" else ModelChoice(model="bundled")
    words = ["--weights", checkpoint] if name == "yolov7-tiny" else ["--model", "bundled"]
    detector = load_detector(chosen)

    def of(variant: str, opset: int) -> bytes:
        return export_bytes(detector, parse_variant(variant), SIZE, opset=opset)

    made = of("grid", 13)
    pictures = [images.make("scene", SIZE, 9000 + k) for k in range(CALIBRATION)]
    network = detector.network

    def half() -> torch.nn.Module:  # the grid as a constant, as the official code exports it
        return First(FixedPredictions(copy.deepcopy(network).half(), SIZE))

    return Source(
        First(Predictions(network)).eval(),
        half,
        (1, 3, *SIZE),
        made,
        (2, 4),
        pictures,
        lambda: of("end2end-ort", 12),
        own=True,
    ), words


def _of_package(name: str, path: Path, steps: int) -> Tuple[Source, List[str]]:
    from detparity.models import adapters
    from detparity.models.reference import ModelRequest

    package = PACKAGES[name]
    if not path.exists():
        precision_models.make(f"{package}:{name}", SIZE, path, steps)
    request = ModelRequest(f"{package}:{path}", size=SIZE, trust=True)
    made = adapters.make(request)
    plain = exported(First(made.module), torch.zeros(made.facts.shape))
    drawn = [images.make("scene", SIZE, 9000 + k) for k in range(CALIBRATION)]
    pictures = [made.facts.preprocessing.apply(one[None])[0] for one in drawn]

    def suppressing() -> bytes:
        if package != "ultralytics":
            raise DoesNotApply("no suppression in its files")
        request = ModelRequest(f"{package}:{path}", size=LARGE, trust=True, arguments='{"nms": true}')
        return exported(First(adapters.make(request).module), torch.zeros(1, 3, *LARGE), 17)

    words = ["--model", f"{package}:{path.absolute()}", "--trust", "--img-size", *map(str, SIZE)]
    checkpoint = str(path) if package == "ultralytics" else ""
    scores = SCORES.get(name, (1, 4))
    return Source(
        made.module,
        lambda: copy.deepcopy(made.module).half(),
        made.facts.shape,
        plain,
        scores,
        pictures,
        suppressing,
        checkpoint,
    ), words


def draw(folder: Path) -> None:
    """Pictures with their labels."""
    from PIL import Image

    for part in ("images", "labels"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for k in range(PICTURES):
        one = scene(SIZE, 700 + k)
        pixels = (one.image.transpose(1, 2, 0) * 255).round().astype("uint8")
        Image.fromarray(pixels).save(folder / "images" / f"{k:02}.png")
        rows = []
        for box, kind in zip(one.boxes, one.classes):
            x1, y1, x2, y2 = (float(value) for value in box)
            row = ((x1 + x2) / 2 / SIZE[1], (y1 + y2) / 2 / SIZE[0], (x2 - x1) / SIZE[1], (y2 - y1) / SIZE[0])
            rows.append(" ".join([str(int(kind)), *(f"{value:.6f}" for value in row)]))
        (folder / "labels" / f"{k:02}.txt").write_text("\n".join(rows) + "\n", encoding="utf-8")


def run(folder: Path, names: Sequence[str], chosen: Sequence[str], options: argparse.Namespace) -> int:
    """Every file that has no result yet, until the time is over. Returns how many are not as they have to be."""
    end = time.monotonic() + 60 * options.minutes
    folder.mkdir(parents=True, exist_ok=True)
    draw(folder / "drawn")
    for name in names:
        results = folder / f"{name}.json"
        found: Dict[str, Any] = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
        asked = [one for one in chosen if one != "8 bits" or options.steps or name not in PACKAGES]
        left = [one for one in groups(name) if one[0] in asked and f"{one[0]}: {one[1]}" not in found]
        engines = "engines" in chosen and not any(key.startswith("engines") for key in found)
        if not (left or engines) or (name == "yolov7-tiny" and not options.checkpoint):
            continue
        source, words = prepared(name, folder, options.checkpoint, options.steps)
        while left and time.monotonic() < end:  # one group in each run, so that a run that is cut short has results
            some = [one for one in left if one[0] == left[0][0]]
            left = left[len(some) :]
            found.update(judged(some, source, words, folder))
            results.write_text(json.dumps(found, indent=1), encoding="utf-8")
            _say(name, found, len(some))
        if engines and time.monotonic() < end:
            found.update(on_engines(source, words, folder))
            results.write_text(json.dumps(found, indent=1), encoding="utf-8")
            _say(name, found, 3)
    return sum(not right(key, one) for name in names for key, one in _of(folder, name).items())


def _say(name: str, found: Mapping[str, Any], last: int) -> None:
    for key in list(found)[-last:]:
        print(f"{name}: {key}: {found[key]['verdict']} {found[key]['checks']}", flush=True)


def on_engines(source: Source, words: Sequence[str], folder: Path) -> Dict[str, Any]:
    """The float32 file on ONNX Runtime and OpenVINO, and as ncnn's own."""
    from detparity.tools.conversion import convert

    work = folder / "work"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    path, converted = work / "plain.onnx", work / "plain_ncnn_model"
    path.write_bytes(source.plain)
    shutil.copytree(convert("ncnn", source.plain, converted, SIZE, work / "scratch"), converted)
    files = [str(path), str(converted)]
    size = [] if "--img-size" in words else ["--img-size", *map(str, SIZE)]
    entries = _entries(files, [*words, *size, "--engine", "onnxruntime,openvino"], folder, ENGINES)
    return {
        f"engines: {title}": {**_shown(one), "engine": one.get("engine", {})} for title, one in zip(TITLES, entries)
    }


def judged(some: Sequence[Tuple[str, str, Any]], source: Source, words: Sequence[str], folder: Path) -> Dict[str, Any]:
    """Make these files and judge them in one run of the command, as a user would, those with suppression in one of their own."""
    work = folder / "work"
    work.mkdir(exist_ok=True)
    found: Dict[str, Any] = {}
    files: Dict[bool, Dict[str, str]] = {True: {}, False: {}}
    for number, (group, title, make) in enumerate(some):
        key, path = f"{group}: {title}", work / f"{number}.onnx"
        try:
            path.write_bytes(make(source))
            files[DEFECTS.get(title, ("",))[0] == "suppressing"][key] = str(path)
        except DoesNotApply as error:
            found[key] = {"verdict": "does not apply", "reason": str(error), "checks": []}
        except Exception as error:  # tools raise what they like
            found[key] = {"verdict": "not made", "reason": f"{type(error).__name__}: {str(error)[:200]}", "checks": []}
    for suppressing, group_files in files.items():
        if group_files:
            more = list(words)
            if suppressing and "--trust" in words:
                more = [
                    *words[: words.index("--img-size")],
                    "--img-size",
                    *map(str, LARGE),
                    "--model-args",
                    '{"nms": true}',
                ]
            found.update(_checked(group_files, more, folder))
    order = [f"{group}: {title}" for group, title, _ in some]
    return {key: found[key] for key in order}


def _checked(files: Mapping[str, str], words: Sequence[str], folder: Path) -> Dict[str, Any]:
    drawn = [] if any(key.startswith("8 bits") for key in files) else ["--max-images", str(FEW)]
    entries = _entries(list(files.values()), [*words, *drawn], folder, CHECKS)
    return {key: _shown(one) for key, one in zip(files, entries)}


def _entries(files: Sequence[str], words: Sequence[str], folder: Path, checks: str) -> List[Dict[str, Any]]:
    report, root = folder / "work" / "report.json", str(Path(__file__).resolve().parents[1])
    report.unlink(missing_ok=True)
    drawn = ["--images", str(folder / "drawn" / "images"), "--labels", str(folder / "drawn" / "labels")]
    command = [sys.executable, "-m", "detparity.cli.main", "check", *files, *words, *drawn]
    command += ["--quick", "--no-locate", "--checks", checks, "--json", str(report)]
    paths = os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH", ""))))
    variables = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": paths, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, timeout=SECONDS, check=False)
    if not report.exists():
        return [{"verdict": "no report", "reason": done.stderr[-400:], "checks": []}] * len(files)
    found: List[Dict[str, Any]] = json.loads(report.read_text(encoding="utf-8"))["artifacts"]
    return found


def _shown(entry: Mapping[str, Any]) -> Dict[str, Any]:
    findings = [
        (check["id"], finding["message"])
        for check in entry["checks"]
        for finding in check["findings"]
        if finding["level"] == "MUST" and not finding.get("follows")
    ]
    incomplete = [f"{check['id']}: {check['reason']}" for check in entry["checks"] if check["incomplete"]]
    floors = [row["floors"] for row in entry.get("noise", {}).values()]
    return {
        "verdict": entry["verdict"],
        "checks": list(dict.fromkeys(check for check, _ in findings)),
        "messages": [message for _, message in findings],
        "incomplete": incomplete,
        "reason": entry.get("reason", ""),
        "floors": max(floors) if floors else None,
        "budget": entry.get("budget"),
        "low_power": entry.get("low_power", []),
    }


def _of(folder: Path, name: str) -> Dict[str, Any]:
    path = folder / f"{name}.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def right(key: str, one: Mapping[str, Any]) -> bool:
    """Whether a file is judged as it has to be: half files and good 8-bit files conform, the others violate in the right check."""
    group, _, title = key.partition(": ")
    if one["verdict"] in ("does not apply", "not made"):
        return True
    if group == "planted":
        return one["verdict"] == "violates" and bool(set(one["checks"]) & set(DEFECTS[title][2]))
    good = group in ("half", "engines") or EIGHT_BITS[title][0]
    return bool(one["verdict"] == ("conforms" if good else "violates"))


# --- the tables


def page(folder: Path) -> str:
    found = {name: _of(folder, name) for name in MODELS}
    found = {name: rows for name, rows in found.items() if rows}
    lines: List[str] = []
    for group, heading in (
        ("half", "Half precision: the largest error in floors of float16, or what was found"),
        ("8 bits", "8 bits: boxes lost, and verdict"),
        ("planted", "Planted defects: the checks that found each"),
        ("engines", "The float32 files on other engines: the largest error in floors of float32"),
    ):
        keys = list(dict.fromkeys(key for rows in found.values() for key in rows if key.startswith(f"{group}: ")))
        keys = [key for key in keys if any(_cell(group, rows.get(key)) for rows in found.values())]
        lines += [f"{heading}:", "", f"| file | {' | '.join(found)} |", f"|---{'|---' * len(found)}|"]
        for key in keys:
            cells = [_cell(group, rows.get(key)) for rows in found.values()]
            lines.append(f"| {key.partition(': ')[2]} | {' | '.join(cells)} |")
        lines.append("")
    return "\n".join(lines)


def _cell(group: str, one: Any) -> str:
    if one is None or one["verdict"] == "does not apply":
        return ""
    if one["verdict"] == "not made":
        return "not made"
    found = ", ".join(f"`{check}`" for check in one["checks"])
    if group == "8 bits":
        rows = (one.get("budget") or {}).get("losses", {})
        lost = f"{rows['lost']['loss']:.3f}, " if "lost" in rows else ""
        return f"{lost}{one['verdict']}"
    if group == "planted":
        return found or f"**{one['verdict']}**"
    floors = f"{one['floors']:.2f}" if one.get("floors") is not None else ""
    return f"{found} {floors}".strip() if found else f"{floors}" if one["verdict"] == "conforms" else one["verdict"]


def written(path: Path, text: str) -> None:
    content = path.read_text(encoding="utf-8")
    before, rest = content.split(BEGIN, 1)
    path.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.split(END, 1)[1]}", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    running = verbs.add_parser("run")
    running.add_argument("results", type=Path)
    running.add_argument("--models", nargs="+", default=list(MODELS), choices=MODELS)
    running.add_argument("--groups", nargs="+", default=GROUPS, choices=GROUPS)
    running.add_argument("--checkpoint", default="")
    running.add_argument("--steps", type=int, default=0, help="of training models of other packages: 8 bits need it")
    running.add_argument("--minutes", type=float, default=60)
    making = verbs.add_parser("page")
    making.add_argument("results", type=Path)
    making.add_argument("--write", type=Path)
    options = parser.parse_args()
    if options.verb == "run":
        raise SystemExit(1 if run(options.results.absolute(), options.models, options.groups, options) else 0)
    text = page(options.results)
    if options.write:
        written(options.write, text)
    else:
        print(text)


if __name__ == "__main__":
    main()
