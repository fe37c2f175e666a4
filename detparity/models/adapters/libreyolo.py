"""Models of the package libreyolo, in the form that its own exporter exports: `FAMILY-SIZE`, such as dfine-n, or a checkpoint."""

from __future__ import annotations

import atexit
import contextlib
from pathlib import Path
from typing import Any, Dict, Tuple

import numpy as np
from torch import nn

from detparity.core.errors import InputError
from detparity.core.files import require_file
from detparity.models.adapters import common
from detparity.models.module_reference import Made
from detparity.models.reference import ModelRequest, Preprocessing, ReferenceFacts

QUERIES = ("dfine", "deim", "deimv2", "rtdetr", "rtdetrv2", "rtdetrv4", "detr", "deformable_detr", "dinodetr", "lwdetr")
LAYOUTS = {"yolox": "yolox", "yolo9": "yolo9", **dict.fromkeys(QUERIES, "detr")}
DEFAULTS = {"conf": 0.25, "iou": 0.45, "max_det": 300}  # of its exporter, where it puts suppression into a file
_OPEN = contextlib.ExitStack()  # the exporter's settings hold as long as the model runs
atexit.register(_OPEN.close)


def make(name: str, request: ModelRequest) -> Made:
    given = common.keywords(request)
    suppression = {option: given.pop(option) for option in ("nms", *DEFAULTS) if option in given}
    if Path(name).suffix in (".pt", ".pth"):
        require_file(Path(name), "a checkpoint")
        common.require_trust(request, "a checkpoint of libreyolo")
        package = common.package("libreyolo")
        model = common.called(f"libreyolo, for {name},", lambda: package.LibreYOLO(name, device="cpu"))
    else:
        common.package("libreyolo")
        model = _random(name, request.seed, given)
    model.model.eval()
    height, width = request.size or common.pair(model._get_input_size())
    preprocessing, resize_known = _preprocessing(model, (height, width))
    facts = ReferenceFacts(
        f"libreyolo:{Path(name).name}",
        "",
        (1, 3, height, width),
        (),
        LAYOUTS.get(str(model.FAMILY), "") if str(model.task) == "detect" and not suppression.get("nms") else "",
        tuple(str(model.names[key]) for key in sorted(model.names)),
        preprocessing,
        code=True,
        notes=() if resize_known else ("its preprocessing could not be read; images from 0 to 1 are given to it",),
    )
    if request.condition:
        common.conditioned(Made(model.model, facts), request.seed)
    exporters = common.package("libreyolo.export.exporter", "libreyolo")
    exporter = exporters.BaseExporter.create("onnx", model)
    if not hasattr(exporter, "_model_context"):
        raise InputError("the exporter of this version of libreyolo is not known: it prepares its model otherwise")
    module, _ = common.called(
        f"the exporter of {name}",
        lambda: _OPEN.enter_context(exporter._model_context("cpu", False, False, 1, (height, width))),
    )
    return Made(_suppressing(module, suppression) if suppression.get("nms") else module, facts)


def _suppressing(module: nn.Module, asked: Dict[str, Any]) -> nn.Module:
    """A module with the suppression of the package's exporter, whose own defaults hold for what is not asked for."""
    exporters = common.package("libreyolo.export.nms", "libreyolo")
    numbers = {**DEFAULTS, **{name: asked[name] for name in DEFAULTS if name in asked}}
    made: nn.Module = common.called(
        "the suppression of libreyolo", lambda: exporters.EmbeddedNMSDetector(module, **numbers)
    )
    return made.eval()


def _random(name: str, seed: int, given: Dict[str, Any]) -> Any:
    classes = _classes()
    family, _, size = name.replace("_", "-").rpartition("-")
    kind = classes.get(family)
    if kind is None or size not in kind.INPUT_SIZES:
        known = (f"{one}-{side}" for one, cls in classes.items() for side in cls.INPUT_SIZES)
        raise common.unknown("libreyolo", name, known)
    return common.called(
        f"libreyolo, for {name},",
        lambda: kind._from_scratch(size=size, device="cpu", seed=seed, **{"nb_classes": 80, **given}),
    )


def _classes() -> Dict[str, Any]:
    """Detectors by family."""
    base = common.package("libreyolo.models.base.model", "libreyolo").BaseModel
    common.package("libreyolo.models", "libreyolo")
    return {
        str(cls.FAMILY).replace("_", "-"): cls
        for cls in base._registry
        if "detect" in cls.SUPPORTED_TASKS and cls.INPUT_SIZES
    }


def _preprocessing(model: Any, size: Tuple[int, int]) -> Tuple[Preprocessing, bool]:
    """What its own preprocessing makes of a black and of a white picture: it is affine in each channel. Whether it could be asked."""
    try:
        process = model._get_preprocess_numpy()
        side = size[0] if size[0] == size[1] else size
        low, high = (
            np.asarray(process(np.full((64, 64, 3), value, np.uint8), side)[0], np.float64).reshape(3, -1)
            for value in (0, 255)
        )
        wide = np.asarray(process(np.full((32, 64, 3), 255, np.uint8), side)[0], np.float64).reshape(3, -1)
    except Exception:  # the package's own code raises what it likes
        return Preprocessing(), False
    black, span = np.median(low, 1), np.median(high, 1) - np.median(low, 1)
    resize = "letterbox" if np.ptp(wide, 1).max() > 0.01 * abs(span).max() else "stretch"
    if not black.any() and np.ptp(span) == 0:
        return Preprocessing(float(span[0]), resize=resize), True
    mean, std = -black / span, 1 / span
    return Preprocessing(mean=_rounded(mean), std=_rounded(std), resize=resize), True


def _rounded(values: np.ndarray) -> Tuple[float, ...]:
    """As they are stated: what was read from float32 pixels has seven digits."""
    return tuple(round(float(value), 6) for value in values)
