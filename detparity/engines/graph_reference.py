"""An ONNX graph in float64 as the reference where there is no model: of the file itself, or of another one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Optional, Tuple

import numpy as np

from detparity import engines
from detparity.artifacts import onnx_graph
from detparity.artifacts.input_form import image_shape, input_form
from detparity.artifacts.metadata import class_names, parse
from detparity.core.errors import InputError
from detparity.core.files import sha256
from detparity.core.vocabulary import EngineError, Load, Runner
from detparity.engines.remote import client
from detparity.models.reference import EXACT, CannotRunReference, ReferenceFacts

# Float32 ways: the interpreter in float32, and a runtime without and with its optimisations.
WAYS = ("interpreter", "onnxruntime", "onnxruntime optimised")
RUNTIME = "onnxruntime"  # or the engine that has TensorRT's plugin, for a file that needs it
LOADS = {
    EXACT: ("onnx_exact", Load("exact")),
    "interpreter": ("onnx_exact", Load("float32")),
    "onnxruntime": (RUNTIME, Load("disabled")),
    "onnxruntime optimised": (RUNTIME, Load("all")),
}


class GraphReference:
    """The reference of a file by its graph. Raises InputError where it is no ONNX file or takes no image."""

    def __init__(self, path: Path, title: str) -> None:
        self._path = path
        self._runners: Dict[str, Runner] = {}
        file = onnx_graph.read(path, client())
        self._form = input_form(file.graph)
        self._runtime = engines.judging(engines.PLUGIN if has_plugin(file) else "onnx").name
        shape = image_shape(file.graph)
        if not self._form.image or len(shape) not in (3, 4):
            raise InputError(f"{path} takes no image, so it is no exported detector")
        self._facts = ReferenceFacts(
            title, sha256(path), _numbers(shape), WAYS, names=_names(file.metadata), model=False
        )

    @property
    def facts(self) -> ReferenceFacts:
        return self._facts

    def run(self, how: str, images: np.ndarray) -> Dict[str, np.ndarray]:
        """See `models.reference.Reference`."""
        try:
            runner = self._runner(how)
            feed = self._form.feed(self._form.image, images, "ones") if images.ndim == 4 else {self._form.image: images}
            return dict(runner.call(feed))
        except EngineError as error:
            raise CannotRunReference(str(error)) from None

    def _runner(self, how: str) -> Runner:
        if how not in self._runners:
            engine, load = LOADS[how]
            engine = self._runtime if engine == RUNTIME else engine
            self._runners[how] = client().prepare(engine, self._path, load)
        return self._runners[how]


def has_plugin(file: onnx_graph.OnnxFile) -> bool:
    """Whether a file suppresses by TensorRT's plugin, which ONNX Runtime has not."""
    return any(node.op == "EfficientNMS_TRT" for node in file.graph.walk())


def _numbers(shape: Tuple[Any, ...]) -> Tuple[int, ...]:
    """A declared shape as numbers; empty where an axis of the image varies."""
    if not all(isinstance(dim, int) for dim in shape[-2:]):
        return ()
    return tuple(dim if isinstance(dim, int) and dim > 0 else 1 for dim in shape)


def _names(metadata: Any) -> Tuple[str, ...]:
    """The class names a file states; none where they are not names of classes."""
    stored: Optional[Any] = parse(metadata["names"]) if "names" in metadata else None
    try:
        return class_names(stored)
    except ValueError:
        return ()
