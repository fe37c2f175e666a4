"""Models of the package ultralytics, as its own exporter prepares them: it is run up to the call that would write the file."""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any, Dict, Iterator, Tuple

from torch import nn

from detparity.core.errors import InputError
from detparity.core.files import require_file
from detparity.models.adapters import common
from detparity.models.module_reference import Made
from detparity.models.reference import ModelRequest, Preprocessing, ReferenceFacts

LAYOUTS = {"detect": "ultralytics", "segment": "ultralytics-seg", "pose": "ultralytics-pose", "obb": "ultralytics-obb"}
OPTIONS = ("agnostic_nms", "batch", "conf", "dynamic", "end2end", "imgsz", "iou", "max_det", "nms", "opset", "simplify")


class _Prepared(Exception):
    """The exporter has prepared its model."""


def make(name: str, request: ModelRequest) -> Made:
    options = common.keywords(request)
    strange = sorted(set(options) - set(OPTIONS))
    if strange:
        raise InputError(f"--model-args for ultralytics has {', '.join(strange)}; known are {', '.join(OPTIONS)}")
    found = _Source(name, request).load()
    height, width = request.size or common.pair(options.pop("imgsz", None) or _trained_size(found))
    facts = ReferenceFacts(f"ultralytics:{Path(name).name}", "", (1, 3, height, width), (), code=True)
    found.model.eval()
    if request.condition:
        common.conditioned(Made(found.model, facts), request.seed)
    exporter = common.called(f"the exporter of {name}", lambda: _exporter(found, {**options, "imgsz": [height, width]}))
    module = _wrapped(exporter)
    shape = tuple(exporter.im.shape)
    names = tuple(str(value) for value in dict(exporter.metadata["names"]).values())
    layout, resize = _layout(exporter)
    return Made(
        module, ReferenceFacts(facts.title, "", shape, (), layout, names, Preprocessing(resize=resize), code=True)
    )


class _Source:
    """A configuration of the package, or a checkpoint."""

    def __init__(self, name: str, request: ModelRequest) -> None:
        self._name, self._request = name, request

    def load(self) -> Any:
        checkpoint = Path(self._name).suffix in (".pt", ".pth")
        if checkpoint:
            require_file(Path(self._name), "a checkpoint")
            common.require_trust(self._request, "a checkpoint of ultralytics")
        package = common.package("ultralytics")
        if not checkpoint and not Path(self._name).is_file():
            known = set(_configurations(Path(package.__file__).parent / "cfg" / "models"))
            if self._name not in known:
                raise common.unknown("ultralytics", self._name, known)
        kind = package.RTDETR if "rtdetr" in Path(self._name).name else package.YOLO
        return common.called(f"ultralytics, for {self._name},", lambda: kind(self._name))


def _configurations(folder: Path) -> Iterator[str]:
    """The names of configurations, each with the letters of its sizes."""
    for path in folder.rglob("*.yaml"):
        yield path.name
        text = path.read_text(encoding="utf-8", errors="replace")
        if "\nscales:" in text:
            family, dash, task = path.stem.partition("-")
            yield from (f"{family}{size}{dash}{task}.yaml" for size in "nsmblxtce")


def _trained_size(found: Any) -> Any:
    given = getattr(found.model, "args", None)
    return given.get("imgsz") if isinstance(given, dict) else getattr(given, "imgsz", None)


def _exporter(found: Any, options: Dict[str, Any]) -> Any:
    """The exporter at the moment at which it would write an ONNX file."""
    engine = common.package("ultralytics.engine.exporter", "ultralytics")

    class Preparing(engine.Exporter):  # type: ignore[name-defined]
        def export_onnx(self, *args: Any, **kwargs: Any) -> None:
            raise _Prepared

    if "end2end" in options and "end2end" not in inspect.getsource(engine.validate_args):
        options = _without_end2end(found.model, options)
    given = {**found.overrides, "batch": 1, "device": "cpu", "verbose": False, "format": "onnx", "mode": "export"}
    exporter = Preparing(overrides={**given, **options})
    try:
        exporter(model=found.model)
    except _Prepared:
        return exporter
    raise InputError("the exporter of this version of ultralytics does not call its export_onnx")


def _without_end2end(model: nn.Module, options: Dict[str, Any]) -> Dict[str, Any]:
    """Since 8.4 `nms=False` selects the head that needs no suppression, and None the other one."""
    found = dict(options)
    if found.pop("end2end"):
        found["nms"] = False
    return found


def _wrapped(exporter: Any) -> nn.Module:
    module: nn.Module = exporter.model
    if exporter.args.nms:
        engine = common.package("ultralytics.engine.exporter", "ultralytics")
        module = engine.NMSModel(module, exporter.args)
    return module.eval()


def _layout(exporter: Any) -> Tuple[str, str]:
    """The name of the layout, and how images are resized."""
    layers = getattr(exporter.model, "model", None)
    head = type(layers[-1]).__name__ if layers is not None else ""
    if head == "RTDETRDecoder":
        return "ultralytics-rtdetr", "stretch"
    task = str(exporter.metadata["task"])
    if exporter.args.nms:
        return ("ultralytics-nms" if task == "detect" else ""), "letterbox"
    if exporter.metadata.get("end2end"):
        return ("ultralytics-end2end" if task == "detect" else ""), "letterbox"
    return LAYOUTS.get(task, ""), "letterbox"
