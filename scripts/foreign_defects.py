"""Defects planted into other people's exports: each file is judged against the module that its own exporter was given.

    python scripts/foreign_defects.py RESULTS [--only PATTERN]      # resumable; `foreign_table.py page` shows what it found

One export of each layout, by `foreign_table.py`, under capture in this process; then one edit of the file at a time.
"""

from __future__ import annotations

import argparse
import fnmatch
import hashlib
import json
import os
import pickle
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence, Tuple

import foreign_table
import numpy as np
import onnx
from detparity.kit.tests.defects import edits
from onnx import numpy_helper

from detparity.checks.foreign.open_file import ForeignSource
from detparity.checks.run import Options, Session, judge_all
from detparity.models.capture import CapturedCall, capturing
from detparity.models.captured_reference import promises_of, reference_of
from detparity.reports.recorder import Recorder

Model = onnx.ModelProto
Edit = Callable[[Model, "Columns"], None]
SIZE = foreign_table.SIZE
CHECKS = "structure,parity.declared,parity.batches,parity.sizes"


@dataclass(frozen=True)
class Columns:
    """Where a layout has what: names of the outputs of boxes, scores and class numbers (by position), the axis of the columns, the
    first score column, and the form of the boxes. any_size: the file takes other sizes than it declares, and gives what the model
    does."""

    boxes: int
    scores: int
    axis: int
    first: int
    form: str
    labels: int = -1
    any_size: bool = False


# Layout: package, family, exporter's options, at.
EXPORTS: Mapping[str, Tuple[str, str, str, Columns]] = {
    "ultralytics": ("ultralytics", "yolov8n", "format=onnx", Columns(0, 0, 1, 4, "centre px")),
    "yolox": ("libreyolo", "yolox-n", "format=onnx dynamic=False", Columns(0, 0, 2, 5, "centre px")),
    "rtdetr": ("libreyolo", "rtdetr-r18", "format=onnx dynamic=False", Columns(1, 0, 2, 0, "centre fraction")),
    "torchvision": (
        "torchvision",
        "fasterrcnn_resnet50_fpn",
        "format=onnx",
        Columns(0, 2, 1, 0, "corners px", 1, any_size=True),
    ),
    "ssdlite": (
        "torchvision",
        "ssdlite320_mobilenet_v3_large",
        "format=onnx",
        Columns(0, 1, 1, 0, "corners px", 2),
    ),
    "detr": ("transformers", "detr", "format=onnx", Columns(1, 0, 2, 0, "centre fraction")),
    "yolos": ("transformers", "yolos", "format=onnx", Columns(1, 0, 2, 0, "centre fraction")),
}


def _name(model: Model, index: int) -> str:
    return str(model.graph.output[index].name)


def _on(model: Model, output: int, axis: int, start: int, stop: int, edit: Any) -> None:
    """Edit columns start to stop of an output; the others pass."""

    def build(x: str, op: edits.Op) -> str:
        parts = [edits.cut(op, x, 0, start, axis)] if start else []
        parts += [edit(edits.cut(op, x, start, stop, axis), op), edits.cut(op, x, stop, edits.END, axis)]
        return op("Concat", *parts, axis=axis)

    edits.splice(model, _name(model, output), build)


def fields_swapped(model: Model, at: Columns) -> None:
    """x and y are exchanged"""
    order = np.array([1, 0, 2, 3], np.int64)
    _on(model, at.boxes, at.axis, 0, 4, lambda x, op: op("Gather", x, order, axis=at.axis))


def box_format(model: Model, at: Columns) -> None:
    """corners instead of centre and size, or the reverse"""

    def other(x: str, op: edits.Op) -> str:
        one, two = (edits.cut(op, x, start, start + 2, at.axis) for start in (0, 2))
        if at.form.startswith("corners"):
            return op("Concat", op("Mul", op("Add", one, two), 0.5), op("Sub", two, one), axis=at.axis)
        half = op("Mul", two, 0.5)
        return op("Concat", op("Sub", one, half), op("Add", one, half), axis=at.axis)

    _on(model, at.boxes, at.axis, 0, 4, other)


def boxes_of_another_unit(model: Model, at: Columns) -> None:
    """fractions instead of pixels, or the reverse"""
    factor = 1 / SIZE if at.form.endswith("px") else float(SIZE)
    _on(model, at.boxes, at.axis, 0, 4, lambda x, op: op("Mul", x, factor))


def transposed(model: Model, at: Columns) -> None:
    """rows and columns of the boxes' output are exchanged"""
    value = model.graph.output[at.boxes]
    axes = list(range(len(value.type.tensor_type.shape.dim)))
    axes[-2:] = axes[:-3:-1]
    edits.splice(model, value.name, lambda x, op: op("Transpose", x, perm=axes))
    dims = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    for axis, origin in enumerate(axes):
        edits.set_axis(value, axis, dims[origin] or None)


def _scores(model: Model, at: Columns, edit: Any) -> None:
    if at.first:
        _on(model, at.scores, at.axis, at.first, edits.END, edit)
    else:
        edits.splice(model, _name(model, at.scores), lambda x, op: edit(x, op))


def sigmoid_left_out(model: Model, at: Columns) -> None:
    """scores are logits"""
    if at.form == "centre fraction":
        raise NotImplementedError("the layout has logits")

    def logit(x: str, op: edits.Op) -> str:
        near = op("Clip", x, 1e-7, 1 - 1e-7)
        return op("Log", op("Div", near, op("Sub", np.float32(1.0).reshape(1), near)))

    _scores(model, at, logit)


def sigmoid_doubled(model: Model, at: Columns) -> None:
    """a sigmoid more than there is"""
    _scores(model, at, lambda x, op: op("Sigmoid", x))


def classes_shifted(model: Model, at: Columns) -> None:
    """each class has the scores, or the number, of the next one"""
    if at.labels >= 0:
        edits.splice(model, _name(model, at.labels), lambda x, op: op("Add", x, np.array([1], np.int64)))
        return

    def shift(x: str, op: edits.Op) -> str:
        return op("Concat", edits.cut(op, x, 1, edits.END, at.axis), edits.cut(op, x, 0, 1, at.axis), axis=at.axis)

    _scores(model, at, shift)


def names_stale(model: Model, at: Columns) -> None:
    """the metadata holds the names of another data set"""
    if "names" not in edits.metadata(model):
        raise NotImplementedError("the exporter writes no class names")
    edits.set_metadata(model, names=str({0: "plate", 1: "face", 2: "helmet"}))


def another_opset(model: Model, at: Columns) -> None:
    """the file states another opset than was asked for"""
    model.opset_import[0].version += 1


def batch_baked(model: Model, at: Columns) -> None:
    """the batch is declared to vary, and is one inside; of an image without a batch, the size"""
    value = model.graph.input[0]
    batched = len(value.type.tensor_type.shape.dim) == 4
    if at.any_size and not batched:
        raise NotImplementedError("it takes images of any size")
    for axis in (0,) if batched else (1, 2):
        edits.set_axis(value, axis, f"axis_{axis}")


def size_baked(model: Model, at: Columns) -> None:
    """height and width are declared to vary, and are fixed inside"""
    if at.any_size:
        raise NotImplementedError("it takes images of any size")
    value = model.graph.input[0]
    for axis in (-2, -1):
        edits.set_axis(value, len(value.type.tensor_type.shape.dim) + axis, f"side_{axis}")


def _weights(model: Model) -> List[onnx.TensorProto]:
    return [one for one in model.graph.initializer if one.data_type == onnx.TensorProto.FLOAT and len(one.dims) > 1]


def one_layer_scaled(model: Model, at: Columns) -> None:
    """the weights of one layer are those of an earlier epoch: 2 % off"""
    weight = max(_weights(model), key=lambda one: int(np.prod(one.dims)))
    values = numpy_helper.to_array(weight)
    noise = np.random.default_rng(0).standard_normal(values.shape).astype(np.float32)
    weight.CopyFrom(numpy_helper.from_array(values + np.float32(0.02) * values.std() * noise, weight.name))


def other_weights(model: Model, at: Columns) -> None:
    """every layer has the weights of another training: drawn anew, of the same spread"""
    generator = np.random.default_rng(1)
    for weight in _weights(model):
        values = numpy_helper.to_array(weight).ravel()
        weight.CopyFrom(numpy_helper.from_array(generator.permutation(values).reshape(tuple(weight.dims)), weight.name))


def another_models_file(model: Model, at: Columns) -> None:
    """a small file of another network, with the same names"""
    edits.another_network(model)


DEFECTS: Tuple[Edit, ...] = (
    fields_swapped, box_format, boxes_of_another_unit, transposed, sigmoid_left_out, sigmoid_doubled, classes_shifted, names_stale,
    another_opset, batch_baked, size_baked, one_layer_scaled, other_weights, another_models_file,
)  # fmt: skip


def judged(call: CapturedCall, source: ForeignSource, path: Path, checks: str = CHECKS) -> Dict[str, Any]:
    session = Session(Options(artifacts=(path,), quick=True, checks=checks), None, foreign=source)
    recorder = Recorder(strict=False)
    entry: Mapping[str, Any] = {}
    for one in judge_all(session, [session.subject(path)]):
        entry = recorder.add(one.record)
    found = [
        (check["id"], finding["message"])
        for check in entry["checks"]
        for finding in check["findings"]
        if finding["level"] == "MUST" and not finding.get("follows")
    ]
    reasons = [check["reason"] for check in entry["checks"] if check.get("reason")]
    return {
        "verdict": entry["verdict"],
        "checks": list(dict.fromkeys(check for check, _ in found)),
        "message": found[0][1] if found else "; ".join(reasons),
    }


def remembering(reference: Any) -> Any:
    """The reference, whose runs are made once for all defects: those under the same choices of a file as well."""
    own = reference.run_forced
    known: Dict[str, Any] = {}

    def run_forced(how: str, images: np.ndarray, choices: Sequence[Any]) -> Any:
        key = hashlib.sha256(pickle.dumps((how, images, tuple(choices)))).hexdigest()
        if key not in known:
            known[key] = own(how, images, choices)
        outputs, forced = known[key]
        return dict(outputs), list(forced)

    reference.run_forced = run_forced
    return reference


def found_in(result: Path) -> Dict[str, Any]:
    """What an earlier run found."""
    return dict(json.loads(result.read_text(encoding="utf-8"))["found"]) if result.exists() else {}


def plant(layout: str, result: Path) -> None:
    """Export, then judge the file as it is and with each defect that has no result yet; the result is written after each."""
    package, name, words, at = EXPORTS[layout]
    with capturing() as captures:
        foreign_table.export(package, name, foreign_table.options_of(words.split()))
    call = next(one for one in captures if one.files)
    reference = remembering(reference_of(call))
    source = ForeignSource(lambda _: reference, lambda _: promises_of(call))
    found: Dict[str, Any] = found_in(result)
    content = {"layout": layout, "package": package, "name": name, "words": words, "found": found}
    if "" not in found:
        found[""] = judged(call, source, call.files[0])
    for defect in DEFECTS:
        if defect.__name__ in found:
            continue
        model = onnx.load(str(call.files[0]))
        try:
            defect(model, at)
        except NotImplementedError as error:
            found[defect.__name__] = {"verdict": "does not apply", "checks": [], "message": str(error)}
            result.write_text(json.dumps(content, indent=1), encoding="utf-8")
            continue
        path = Path("planted.onnx").absolute()
        onnx.save(model, str(path))
        found[defect.__name__] = judged(call, source, path)
        print(f"{layout} {defect.__name__}: {found[defect.__name__]}", flush=True)
        result.write_text(json.dumps(content, indent=1), encoding="utf-8")


def alone(script: str, results: Path, name: str) -> int:
    """A script with `--here NAME` in a process and a folder of its own, since packages patch torch; its exit code."""
    path = Path(script).resolve()
    variables = {**os.environ, "PYTHONPATH": str(path.parents[1]), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with tempfile.TemporaryDirectory() as work:
        words = [sys.executable, str(path), str(results), "--here", name]
        return subprocess.run(words, cwd=work, env=variables, check=False).returncode


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--only", default="*")
    parser.add_argument("--here", help=argparse.SUPPRESS)
    options = parser.parse_args()
    results = options.results.absolute()
    if options.here:
        plant(options.here, results / f"{options.here}.json")
        return
    results.mkdir(parents=True, exist_ok=True)
    missed = 0
    for layout in EXPORTS:
        if len(found_in(results / f"{layout}.json")) > len(DEFECTS) or not fnmatch.fnmatch(layout, options.only):
            continue
        missed += alone(__file__, results, layout) != 0
    for path in results.glob("*.json"):
        content = json.loads(path.read_text(encoding="utf-8"))["found"]
        missed += sum(one["verdict"] in ("conforms", "incomplete") for key, one in content.items() if key)
    raise SystemExit(1 if missed else 0)


if __name__ == "__main__":
    main()
