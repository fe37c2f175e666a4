"""Defects of selection planted into real exports: each file is judged against the module that its exporter was given.

    python scripts/decision_defects.py RESULTS [--only PATTERN]      # resumable: one file a family
    python scripts/decision_defects.py RESULTS --page                # the table of docs/selections.md

RT-DETR and D-FINE (transformers, two decoder layers, 50 queries) and YOLOv10 end to end (ultralytics, nms=False) in batches of two;
Faster R-CNN and ssdlite (torchvision, one picture a call). Random weights, seed 0; in the environment of tox.ini's lane foreign.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import foreign_table
import numpy as np
import onnx
from detparity.kit.tests.defects import edits
from foreign_defects import alone, judged

from detparity.checks.foreign.open_file import ForeignSource
from detparity.core.decisions import Choice
from detparity.models.capture import capturing
from detparity.models.captured_reference import promises_of, reference_of

Model = onnx.ModelProto
CHECKS = "structure.load,parity.declared"
SMALL = {
    "num_queries": 50, "decoder_layers": 2, "encoder_layers": 1, "num_labels": 20, "d_model": 64, "encoder_hidden_dim": 64,
    "decoder_ffn_dim": 128, "encoder_ffn_dim": 128, "decoder_attention_heads": 4, "encoder_attention_heads": 4,
    "decoder_in_channels": [64, 64, 64],
}  # fmt: skip


@dataclass(frozen=True)
class Family:
    """An export: how it is made; rows: the axis of its outputs' rows; boxes: which output; joined: whether boxes are its first four
    columns; cap: whether rows are cut after a last suppression; batched: whether it takes several pictures."""

    made: Callable[[], None]
    title: str
    rows: int
    boxes: int = 0
    joined: bool = False
    cap: bool = False
    batched: bool = True


def _query(kind: str) -> None:
    import torch
    import transformers

    config = getattr(transformers, f"{kind}Config")(**SMALL)
    for key in ("use_pretrained_backbone", "use_timm_backbone"):
        if hasattr(config, key):
            setattr(config, key, False)
    model = getattr(transformers, f"{kind}ForObjectDetection")(config).eval()

    class Exported(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, pixel_values: Any) -> Tuple[Any, Any]:
            found = self.model(pixel_values=pixel_values)
            return found.logits, found.pred_boxes

    wrapped = Exported().eval()
    foreign_table.conditioned(wrapped, foreign_table.pictures(128), lambda module, images: module(images))
    names: Dict[str, Any] = {"input_names": ["pixel_values"], "output_names": ["logits", "pred_boxes"]}
    torch.onnx.export(wrapped, (torch.rand(2, 3, 128, 128),), "file.onnx", opset_version=17, dynamo=False, **names)


def _torchvision(name: str, side: int, **given: Any) -> None:
    import torch
    from torchvision.models import get_model

    model = get_model(name, weights=None, weights_backbone=None, **given).eval()
    foreign_table.conditioned(model, list(foreign_table.pictures(side)), lambda module, images: module(images))
    example = ([torch.rand(3, side, side)],)
    names = ["boxes", "labels", "scores"] if name.startswith("faster") else ["boxes", "scores", "labels"]
    torch.onnx.export(
        model, example, "file.onnx", opset_version=17, input_names=["image"], output_names=names, dynamo=False
    )


def _yolov10() -> None:
    from ultralytics import YOLO

    model = YOLO("yolov10n.yaml")
    foreign_table.conditioned(model.model.eval(), foreign_table.pictures(160), lambda module, images: module(images))
    model.export(imgsz=160, format="onnx", batch=2, nms=False)


FASTER = {"min_size": 192, "max_size": 384, "box_score_thresh": 0.02}
FAMILIES: Mapping[str, Family] = {
    "rt_detr": Family(lambda: _query("RTDetr"), "RT-DETR", 1, 1),
    "d_fine": Family(lambda: _query("DFine"), "D-FINE", 1, 1),
    "yolov10": Family(_yolov10, "YOLOv10", 1, 0, True),
    "faster_rcnn": Family(
        lambda: _torchvision("fasterrcnn_mobilenet_v3_large_320_fpn", 192, **FASTER),
        "Faster R-CNN", 0, cap=True, batched=False,
    ),
    "ssdlite": Family(
        lambda: _torchvision("ssdlite320_mobilenet_v3_large", 320), "ssdlite", 0, cap=True, batched=False
    ),
}  # fmt: skip


class DoesNotApply(Exception):
    """The file has no such thing; the text says which."""


def another_query(model: Model, at: Family) -> None:
    """the best candidate is left out for another"""
    for node in edits.nodes(model, "TopK"):
        axis = int(edits.attribute(node, "axis").i)

        def build(x: str, op: edits.Op, axis: int = axis) -> str:
            best, least = (_extreme(model, op, kind, x, axis) for kind in ("ReduceMax", "ReduceMin"))
            return op("Where", op("Equal", x, best), least, x)

        _read_anew(model, node, 0, build)


def _extreme(model: Model, op: edits.Op, kind: str, x: str, axis: int) -> str:
    if model.opset_import[0].version < 18:
        return op(kind, x, axes=[axis], keepdims=1)
    return op(kind, x, np.array([axis], np.int64), keepdims=1)


def _read_anew(model: Model, node: onnx.NodeProto, position: int, build: edits.Build) -> None:
    """Put new nodes before one input of one node, which alone reads them."""
    index = list(model.graph.node).index(node)
    made, result = edits._build(model, node.input[position], build)
    node.input[position] = result
    edits._insert(model, index, made)


def rows_swapped(model: Model, at: Family) -> None:
    """the first row and the last are exchanged in every output"""

    def build(x: str, op: edits.Op) -> str:
        parts = [edits.cut(op, x, *part, at.rows) for part in ((-1, edits.END), (1, -1), (0, 1))]
        return op("Concat", *parts, axis=at.rows)

    for output in [value.name for value in model.graph.output]:
        edits.splice(model, output, build)


def box_of_another_query(model: Model, at: Family) -> None:
    """the first row has the box of the second"""

    def moved(x: str, op: edits.Op) -> str:
        rest = edits.cut(op, x, 1, edits.END, at.rows)
        return op("Concat", edits.cut(op, x, 1, 2, at.rows), rest, axis=at.rows)

    def build(x: str, op: edits.Op) -> str:
        if not at.joined:
            return moved(x, op)
        boxes, others = edits.cut(op, x, 0, 4, 2), edits.cut(op, x, 4, edits.END, 2)
        return op("Concat", moved(boxes, op), others, axis=2)

    edits.splice(model, model.graph.output[at.boxes].name, build)


def scores_not_gathered(model: Model, at: Family) -> None:
    """one of what is gathered by the choice is taken from the first candidates"""
    node = _gather(model, at)
    axis = 0 if at.cap else 1

    def build(x: str, op: edits.Op) -> str:
        one = op("Add", op("Mul", x, np.array(0, np.int64)), np.array(1, np.int64))
        return op("Sub", op("CumSum", one, np.array(axis, np.int64)), np.array(1, np.int64))

    _read_anew(model, node, 1, build)


def _gather(model: Model, at: Family) -> onnx.NodeProto:
    """The last node that gathers by a choice: of features by queries, or of scores by what a suppression retained."""
    if at.cap:
        cut = edits.nodes(model, "If")[-1].output[0]
        used = next(node.output[0] for node in edits.nodes(model, "Slice") if node.input[0] == cut)
        return [node for node in edits.nodes(model, "Gather") if node.input[1] == used][1]
    node = edits.nodes(model, "TopK")[0]
    reached = set(node.output)
    found = []
    for one in model.graph.node:
        if one.op_type == "GatherElements" and one.input[1] in reached:
            found.append(one)
        elif one.op_type in ("Unsqueeze", "Expand", "Tile") and one.input[0] in reached:
            reached.update(one.output)
    return found[-1]


def _count_moved(model: Model, at: Family, by: int) -> None:
    if at.cap:
        cut = edits.nodes(model, "If")[-1].output[0]
        nodes = [(next(node for node in edits.nodes(model, "Slice") if node.input[0] == cut), 2)]
    else:
        nodes = [(node, 1) for node in edits.nodes(model, "TopK")[:1]]
    for node, position in nodes:
        _read_anew(model, node, position, lambda x, op: op("Add", x, np.array([by], np.int64)))


def one_less(model: Model, at: Family) -> None:
    """one candidate less is taken"""
    _count_moved(model, at, -1)


def one_more(model: Model, at: Family) -> None:
    """one candidate more is taken"""
    _count_moved(model, at, 1)


def wrong_axis(model: Model, at: Family) -> None:
    """the last softmax runs along another axis"""
    every = edits.nodes(model, "Softmax")
    attending = [one for one in every if "attn" in one.name]
    node = (attending or every)[-1]  # D-FINE's last one feeds weights that start as zeros
    axis = int(edits.attribute(node, "axis").i)
    edits.set_attribute(node, "axis", axis - 1 if axis != 1 else 2)


def smallest(model: Model, at: Family) -> None:
    """the smallest are taken"""
    for node in edits.nodes(model, "TopK"):
        edits.set_attribute(node, "largest", 0)


def not_sorted(model: Model, at: Family) -> None:
    """what is promised in order comes in the reverse order"""
    if at.cap or at.joined:
        names = [value.name for value in model.graph.output]
    else:
        names = [name for name in edits.nodes(model, "TopK")[0].output if _is_read(model, name)]
    for name in names:
        edits.splice(
            model, name, lambda x, op: op("Slice", x, *(np.array([n], np.int64) for n in (-1, -edits.END, at.rows, -1)))
        )


def _is_read(model: Model, name: str) -> bool:
    return any(name in node.input for node in model.graph.node)


def batch_offset_forgotten(model: Model, at: Family) -> None:
    """every picture gathers from the first one's candidates"""
    if not at.batched:
        raise DoesNotApply("it takes one picture a call")

    def build(x: str, op: edits.Op) -> str:
        first = edits.cut(op, x, 0, 1, 0)
        return op("Concat", first, first, axis=0)

    _read_anew(model, _gather(model, at), 0, build)


Edit = Callable[[Model, Family], None]
DEFECTS: Tuple[Edit, ...] = (
    another_query, rows_swapped, box_of_another_query, scores_not_gathered, one_less, one_more, wrong_axis, smallest, not_sorted,
    batch_offset_forgotten,
)  # fmt: skip


class Remembered:
    """A reference whose runs are remembered from one file to the next: most defects leave its choices as they are."""

    def __init__(self, reference: Any) -> None:
        self._reference = reference
        self._runs: Dict[bytes, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reference, name)

    def run(self, how: str, images: np.ndarray) -> Any:
        return self.run_forced(how, images, ())[0]

    def run_forced(self, how: str, images: np.ndarray, choices: Sequence[Choice]) -> Any:
        key = hashlib.sha256(f"{how} {images.shape}".encode() + images.tobytes())
        for one in choices:
            key.update(one.node.encode() + one.indices.tobytes() + one.scores.tobytes())
        if key.digest() not in self._runs:
            self._runs[key.digest()] = self._reference.run_forced(how, images, choices)
        return self._runs[key.digest()]


def plant(family: str, result: Path) -> None:
    """Export, then judge the file as it is and with each defect; the result is written after each."""
    import torch

    at = FAMILIES[family]
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with capturing() as captures:
        at.made()
    call = next(one for one in captures if one.files)
    reference = Remembered(reference_of(call))
    source = ForeignSource(lambda _: reference, lambda _: promises_of(call))
    part = result.with_suffix(".part")
    found: Dict[str, Any] = json.loads(part.read_text(encoding="utf-8")) if part.exists() else {}
    for defect in (None, *DEFECTS):
        name = defect.__name__ if defect is not None else ""
        if name in found:
            continue
        model = onnx.load(str(call.files[0]))
        path = Path("planted.onnx").absolute()
        try:
            if defect is not None:
                defect(model, at)
        except DoesNotApply as error:
            found[name] = {"verdict": "does not apply", "checks": [], "message": str(error)}
            part.write_text(json.dumps(found, indent=1), encoding="utf-8")
            continue
        onnx.save(model, str(path))
        found[name] = judged(call, source, path, CHECKS)
        print(f"{family} {name or 'as exported'}: {found[name]}", flush=True)
        part.write_text(json.dumps(found, indent=1), encoding="utf-8")
    part.rename(result)


def page(results: Path) -> List[str]:
    """The table: a row for each defect, a column for each family."""
    paths = {key: [results / f"{key}.{end}" for end in ("json", "part")] for key in FAMILIES}
    read = {key: next((path for path in found if path.exists()), None) for key, found in paths.items()}
    found = {key: json.loads(path.read_text(encoding="utf-8")) for key, path in read.items() if path is not None}
    lines = [
        f"| planted | {' | '.join(FAMILIES[key].title for key in found)} |",
        f"|---|{'---|' * len(found)}",
    ]
    for defect in (None, *DEFECTS):
        name = defect.__name__ if defect is not None else ""
        cells = [_cell(one.get(name)) for one in found.values()]
        lines.append(f"| {(defect.__doc__ if defect is not None else 'nothing')} | {' | '.join(cells)} |")
    return lines


def _cell(one: Optional[Mapping[str, Any]]) -> str:
    if one is None or one["verdict"] == "does not apply":
        return "-" if one is not None else "not run"
    if one["verdict"] != "violates":
        return str(one["verdict"])
    text = str(one["message"])
    kinds = {
        "chooses wrongly": "choice", "differs from the model": "numbers", "other rows": "rows", "another order": "order",
        "other shapes": "shapes", "does not run": "does not run", "by other numbers": "numbers read", "not load": "does not load",
    }  # fmt: skip
    kind = next((kind for words, kind in kinds.items() if words in text), "")
    return f"{one['checks'][0]}{f' ({kind})' if kind else ''}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--only", default="*")
    parser.add_argument("--page", action="store_true")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    options = parser.parse_args()
    results = options.results.absolute()
    if options.here:
        plant(options.here, results / f"{options.here}.json")
        return
    results.mkdir(parents=True, exist_ok=True)
    if options.page:
        print("\n".join(page(results)))
        return
    for family in FAMILIES:
        if (results / f"{family}.json").exists() or not fnmatch.fnmatch(family, options.only):
            continue
        alone(__file__, results, family)
    missed = [
        f"{key} {name}: {one['verdict']}"
        for key in FAMILIES
        if (results / f"{key}.json").exists()
        for name, one in json.loads((results / f"{key}.json").read_text(encoding="utf-8")).items()
        if one["verdict"] not in (("violates", "does not apply") if name else ("conforms",))
    ]
    print("\n".join(missed or ["every defect violates, every export as it is conforms"]))
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
