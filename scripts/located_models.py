"""What `located.py` plants faults into: six models, exported in each of `FORMS`, and what they compute in float64.

Files are stored beside the results, since an export by torch.export takes a minute.
"""

from __future__ import annotations

import functools
import io
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Sequence

import numpy as np
import onnx
import torch
from torch import nn

from detparity.core.trace import Trace
from detparity.inputs import images

SIZE = (128, 160)
SCRIPT = "TorchScript"
FORMS = ("ONNX", "ONNX, simplified", "dynamo", "dynamo, simplified", SCRIPT)


@dataclass(frozen=True)
class Model:
    """module: in float32; example: what it takes; given: the same as an array; trace: its float64 run, made when asked for."""

    module: nn.Module
    example: Any
    given: np.ndarray
    trace: Callable[[], Trace]


def home(name: str) -> Model:
    """A model of the home family, at a quarter of its width, with its decode."""
    from detparity.models.choice import ModelChoice, load_detector
    from detparity.models.yolov7.network import Predictions
    from detparity.models.yolov7.recorded import trace

    detector = load_detector(ModelChoice(arch=name, width=0.25))
    pictures = images.batch_of([("natural", 0)], SIZE)
    module = Predictions(detector.network).eval()
    return Model(module, torch.from_numpy(pictures), pictures, lambda: trace(detector, pictures))


def foreign(spec: str) -> Model:
    """A model of a package or of a file, in the form that its own exporter exports."""
    from detparity.models.adapters import make
    from detparity.models.module_reference import ModuleReference
    from detparity.models.reference import ModelRequest

    made = make(ModelRequest(spec, None, 0, SIZE, True))
    one = len(made.facts.shape) == 3
    height, width = made.facts.shape[-2:]
    pictures = images.batch_of([("natural", 0)], (height, width))
    given = made.facts.preprocessing.apply(pictures)
    given = given[0] if one else given
    example = torch.from_numpy(given.copy())
    return Model(made.module, [example] if one else example, given, lambda: ModuleReference(made).trace(given))


GENERIC = Path(__file__).with_name("located_generic.py")
MODELS: Mapping[str, Callable[[], Model]] = {
    "yolov7-tiny": lambda: home("yolov7-tiny"),
    "yolov7": lambda: home("yolov7"),
    "ultralytics yolov8n": lambda: foreign("ultralytics:yolov8n.yaml"),
    "libreyolo rtdetr-r18": lambda: foreign("libreyolo:rtdetr-r18"),
    "torchvision ssdlite320": lambda: foreign("torchvision:ssdlite320_mobilenet_v3_large"),
    "generic": lambda: foreign(f"{GENERIC}:make"),
}


@functools.lru_cache(maxsize=1)
def model(name: str) -> Model:
    return MODELS[name]()


@functools.lru_cache(maxsize=1)
def trace(name: str) -> Trace:
    return model(name).trace()


def exported(name: str, how: str, folder: Path) -> onnx.ModelProto:
    """A model as an ONNX file with inferred shapes, which some changes need."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name} {how}.onnx".replace(" ", "-").replace(",", "")
    if not path.exists():
        path.write_bytes(_made(name, how, folder).SerializeToString())
    return onnx.load(str(path))


def _made(name: str, how: str, folder: Path) -> onnx.ModelProto:
    form, _, simplified = how.partition(", ")
    if simplified:
        return _simplified(exported(name, form, folder))
    of = model(name)
    buffer: Any = io.BytesIO()
    options: Dict[str, Any] = {"dynamo": True, "verbose": False} if form == "dynamo" else {"dynamo": False}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        opset = 18 if form == "dynamo" else 17
        torch.onnx.export(of.module, (of.example,), buffer, opset_version=opset, **options)
    return onnx.shape_inference.infer_shapes(onnx.load_from_string(buffer.getvalue()))


def _simplified(before: onnx.ModelProto) -> onnx.ModelProto:
    """By onnxslim, which drops the notes of a node: those that it has left in the file get theirs back."""
    import onnxslim

    scopes = {name: node.metadata_props for node in before.graph.node for name in (node.name, *node.output)}
    made = onnxslim.slim(before)
    for node in made.graph.node:
        found = next((scopes[name] for name in (node.name, *node.output) if name in scopes), ())
        del node.metadata_props[:]
        node.metadata_props.extend(found)
    return onnx.shape_inference.infer_shapes(made)


def traced(name: str, folder: Path) -> Any:
    """A model as a TorchScript program, loaded from its archive."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.torchscript.pt".replace(" ", "-")
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        if not path.exists():
            of = model(name)
            torch.jit.save(torch.jit.trace(of.module, (of.example,), check_trace=False, strict=False), str(path))
        return torch.jit.load(str(path))


def module_of(node: onnx.NodeProto) -> str:
    """The module that an exporter recorded a node for: torch.export's in its metadata, the older one's in its name."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            return _joined([part.strip().strip("'\"") for part in entry.value.strip("[]").split(",")][:-1])
    return _joined(node.name.strip("/").split("/")[:-1])


def _joined(scopes: Sequence[str]) -> str:
    """One path of the paths of modules, each inside the one before: of the model, of what holds it, or of a list that holds it."""
    found: List[str] = []
    for scope in scopes:
        if found and scope.startswith(f"{found[-1]}."):
            found.pop()
        found.append(scope)
    return ".".join(filter(None, found))
