"""What exporters of packages record in a file about the model that they exported: whether it suppresses, and by which numbers."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional

import numpy as np

from detparity.artifacts import onnx_graph, onnx_nms, script_config
from detparity.artifacts.metadata import parse
from detparity.checks.foreign.open_file import kind_of, read_script
from detparity.core.errors import InputError
from detparity.core.runtimes import RUNTIMES

NUMBERS = ("conf", "iou", "max_det")
BESIDE, LONGEST = "metadata.yaml", 1 << 20  # bytes of it that are read
PLAIN = re.compile(r"^[ \t]*(\w+):[ \t]*(\w+)[ \t]*$", re.MULTILINE)


@dataclass(frozen=True)
class Recorded:
    """options: of the package's exporter, as `--model-args` takes them; text: of those that decide numbers, for people."""

    options: Mapping[str, Any]
    text: str = ""


NOTHING = Recorded({})


def records(spec: str) -> bool:
    """Whether files of such a model may say which form of it they are of."""
    return spec.partition(":")[0] in READERS


def recorded(path: Path, spec: str, given: Mapping[str, Any]) -> Recorded:
    """What a file says of the model that `spec` names, beside the options that are given, which stand.

    Raises InputError where a file says that it suppresses, and its numbers cannot be read and are not given.
    """
    reader = READERS.get(spec.partition(":")[0])
    if reader is None:
        return NOTHING
    kind = kind_of(path)
    found = {key: value for key, value in reader(path, kind).items() if key not in given}
    if "nms" in given:  # which decides the head as well
        found.pop("end2end", None)
    if not found.get("nms"):
        return Recorded(found)
    missing = [name for name in NUMBERS if found.get(name) is None and name not in given]
    if missing:
        raise InputError(
            f"{path} records that it suppresses boxes, and its {', '.join(missing)} cannot be read: state them, such as "
            '--model-args \'{"nms": true, "conf": 0.25, "iou": 0.45, "max_det": 300}\''
        )
    numbers = ", ".join(f"{name} {found[name]:g}" for name in NUMBERS if name in found)
    agnostic = ", one for all classes" if found.get("agnostic_nms") else ""
    return Recorded(found, f"with suppression as it records it{agnostic}" + (f" ({numbers})" if numbers else ""))


def _ultralytics(path: Path, kind: str) -> Dict[str, Any]:
    """The metadata says whether; the numbers are in the graph alone, which of other runtimes' files is not read."""
    found: Dict[str, Any] = {}
    if kind in RUNTIMES:
        stated = _beside(path)
        found = {"end2end": stated["end2end"] == "true"} if "end2end" in stated else {}
        return {"nms": True} if stated.get("nms") == "true" else found
    file = onnx_graph.read(path) if kind == "onnx" else None
    metadata = script_config.config(path) if file is None else file.metadata
    asked = parse(metadata.get("args", ""))
    if "end2end" in metadata:
        found["end2end"] = str(metadata["end2end"]).lower() == "true"
    if isinstance(asked, dict) and asked.get("nms") is True:
        found = {"nms": True, **(_script_numbers(path) if file is None else _graph_numbers(file.graph))}
    return found


def _beside(path: Path) -> Dict[str, str]:
    """Plain values of the metadata that lies beside a file of another runtime, by their last name; empty where there is none."""
    source = (path if path.is_dir() else path.parent) / BESIDE
    try:
        with source.open("rb") as stream:
            text = stream.read(LONGEST).decode(errors="replace")
    except OSError:
        return {}
    return {name: value.lower() for name, value in PLAIN.findall(text)}


def _graph_numbers(graph: onnx_graph.Graph) -> Dict[str, Any]:
    """Boxes of a rotated head are compared by their own IoU, which the second comparison limits; others by NonMaxSuppression. Results
    fill up to the largest number of detections, the second axis of the output where it is fixed."""
    suppression = onnx_nms.find(graph)
    over = [node for node in graph.walk() if node.op == "Greater"]
    constants = (_short(onnx_nms.scalar(onnx_nms.constant(graph, node.inputs[1]))) for node in over)
    limits = [value for value in constants if value is not None]
    first = graph.outputs[0].shape if graph.outputs else ()
    most = first[1] if first is not None and len(first) == 3 else None
    if suppression is None:
        iou = limits[1] if len(limits) > 1 else None
        return {"conf": limits[0] if limits else None, "iou": iou, "max_det": most if isinstance(most, int) else None}
    ends = (
        onnx_nms.scalar(onnx_nms.constant(graph, node.inputs[2]))
        for node in suppression.tail
        if node.op == "Slice" and len(node.inputs) > 2
    )
    cut = next((int(end) for end in ends if end is not None and 0 < end < 1 << 31), None)
    return {
        "conf": limits[0] if limits else None,
        "iou": _short(suppression.iou_threshold),
        "max_det": most if isinstance(most, int) else cut,
        **({"agnostic_nms": True} if suppression.max_wh == 0 else {}),
    }


def _script_numbers(path: Path) -> Dict[str, Any]:
    found = read_script(path, "torchscript").suppression
    most = found.get("most")
    return {
        "conf": _short(found.get("score")),
        "iou": _short(found.get("iou")),
        "max_det": None if most is None else int(most),
        **({"agnostic_nms": True} if found.get("apart") == 0 else {}),
    }


def _short(value: Optional[float]) -> Optional[float]:
    """As it was typed: a file holds the nearest float32."""
    return None if value is None else float(str(np.float32(value)))


def _libreyolo(path: Path, kind: str) -> Dict[str, Any]:
    metadata = onnx_graph.read(path).metadata if kind == "onnx" else {}
    if str(metadata.get("nms", "")).lower() != "true":
        return {}
    numbers = {"conf": parse(metadata.get("nms_conf", "")), "iou": parse(metadata.get("nms_iou", ""))}
    found = {key: value if isinstance(value, (int, float)) else None for key, value in numbers.items()}
    most = parse(metadata.get("max_det", ""))
    return {"nms": True, **found, "max_det": most if isinstance(most, int) else None}


READERS: Mapping[str, Callable[[Path, str], Dict[str, Any]]] = {"ultralytics": _ultralytics, "libreyolo": _libreyolo}
