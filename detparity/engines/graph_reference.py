"""An ONNX graph in float64 as the reference where there is no model: of the file itself, or of another one."""

from __future__ import annotations

import copy
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity import engines
from detparity.artifacts import onnx_edit, onnx_graph
from detparity.artifacts.input_form import image_shape, input_form
from detparity.artifacts.metadata import class_names, parse
from detparity.artifacts.onnx_decisions import Selection, forced, selections
from detparity.core.decisions import BEST, SUPPRESSION, Choice, Forced, fitted, followed, nearest
from detparity.core.errors import EngineError, InputError
from detparity.core.files import sha256
from detparity.core.vocabulary import Load, Runner
from detparity.engines.remote import client
from detparity.models.reference import EXACT, CannotRunReference, ReferenceFacts

# Float32 ways: the interpreter in float32, and a runtime without and with its optimisations.
WAYS = ("interpreter", "onnxruntime", "onnxruntime optimised")
RUNTIME = "onnxruntime"  # or the engine that has TensorRT's plugin, for a file that needs it
LEARNED = frozenset(
    ("Conv", "ConvTranspose", "FusedConv", "DeformConv", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization")
    + ("InstanceNormalization", "GroupNormalization")
)  # operators with weights among their first two inputs
LOADS = {
    EXACT: ("onnx_exact", Load("exact")),
    "interpreter": ("onnx_exact", Load("float32")),
    "onnxruntime": (RUNTIME, Load("disabled")),
    "onnxruntime optimised": (RUNTIME, Load("all")),
}


class GraphReference:
    """The reference of a file by its graph. Raises InputError where it is no ONNX file or takes no image."""

    def __init__(self, path: Path, title: str) -> None:
        self.path = path
        self._runners: Dict[Tuple[str, Optional[Tuple[str, ...]]], Runner] = {}
        file = onnx_graph.read(path, client())
        self._form = input_form(file.graph)
        self.runtime = engines.judging(engines.PLUGIN if has_plugin(file) else "onnx").name
        shape = image_shape(file.graph)
        if not self._form.image or len(shape) not in (3, 4):
            raise InputError(f"{path} takes no image, so it is no exported detector")
        self._selections = tuple(one for one in selections(file.graph) if not one.inside)
        self._constants = file.graph.constants
        read = [name for node in file.graph.nodes if node.op in LEARNED for name in node.inputs[:2]]
        self._weights = [name for name in dict.fromkeys(read) if _is_weight(self._constants.get(name))]
        self._outputs = tuple(value.name for value in file.graph.outputs)
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

    def run_forced(
        self, how: str, images: np.ndarray, choices: Sequence[Choice]
    ) -> Tuple[Dict[str, np.ndarray], List[Forced]]:
        """The same with the choices of another file forced, where a node of this graph reads the same numbers, and which of them
        were. A node whose own choice is the same is left as it is."""
        if not choices or not self._selections:
            return self.run(how, images), []
        given: Dict[str, np.ndarray] = {}
        own: Dict[str, Choice] = {}
        for _ in range(len(self._selections) + 1):
            shown = self._shown(how, images, given)
            made = [(one, one.choice(shown, self._constants)) for one in self._selections]
            own.update({one.chosen: choice for one, choice in made if choice is not None and one.chosen not in given})
            read = [(one, choice, own[one.chosen]) for one, choice in made if choice is not None and one.chosen in own]
            matched = _matched(read, choices)
            more = {
                name: indices
                for name, indices, every in matched
                if not all(one.same for one in every) and name not in given
            }
            if not more:
                break
            given.update(more)
        return {name: shown[name] for name in self._outputs}, [one for _, _, every in matched for one in every]

    def decisions(self, images: np.ndarray) -> List[Choice]:
        """What the graph chooses by itself in float64, in the order of its nodes. Raises CannotRunReference."""
        if not self._selections:
            return []
        shown = self._shown(EXACT, images, {})
        made = [one.choice(shown, self._constants) for one in self._selections]
        return [one for one in made if one is not None]

    def weights_read(self, images: np.ndarray) -> List[str]:
        """See `ModuleReference.weights_read`; in the order of the nodes."""
        return list(self._weights)

    def run_scaled(
        self, how: str, weight: Tuple[str, float], images: np.ndarray, choices: Sequence[Choice] = ()
    ) -> Dict[str, np.ndarray]:
        """See `ModuleReference.run_scaled`."""
        with tempfile.TemporaryDirectory() as folder:
            changed = copy.copy(self)
            changed.path, changed._runners = Path(folder) / "scaled.onnx", {}
            try:
                changed.path.write_bytes(onnx_edit.scaled(self.path, *weight))
            except ValueError as error:  # protobuf's limit of 2 GB, which external tensors are beyond
                raise CannotRunReference(f"its weights cannot be changed: {error}") from None
            found, given = changed.run_forced(how if how == EXACT else WAYS[1], images, choices)
            return found if followed(given, choices) else {}

    def _shown(self, how: str, images: np.ndarray, given: Mapping[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """Outputs, and what every node that decides reads and chooses, where those of `given` are given what they choose."""
        chosen = [one for one in self._selections if one.chosen in given]
        names = [name for one in self._selections for name in one.tensors(self._constants) if name not in given]
        feed = self._form.feed(self._form.image, images, "ones") if images.ndim == 4 else {self._form.image: images}
        try:
            runner = self._runner(how, tuple(sorted(given)), lambda: forced(self.path, chosen, names))
            return {**given, **runner.call({**feed, **given})}
        except EngineError as error:
            raise CannotRunReference(str(error)) from None

    def _runner(
        self, how: str, given: Optional[Tuple[str, ...]] = None, made: Optional[Callable[[], bytes]] = None
    ) -> Runner:
        if (how, given) not in self._runners:
            engine, load = LOADS[how]
            engine = self.runtime if engine == RUNTIME else engine
            self._runners[how, given] = client().prepare(engine, made() if made else self.path, load)
        return self._runners[how, given]


Read = Tuple[Selection, Choice, Choice]  # a node; what it reads, under what was forced so far; what it chose by itself


def _forced(node: Selection, now: Choice, own: Choice, choice: Choice, indices: np.ndarray) -> List[Forced]:
    """What a node was given; of a suppression, one for each image and class."""
    if now.kind != SUPPRESSION:
        taken = own.rows.shape[1] if now.kind == BEST else 0
        same = bool(np.array_equal(indices, own.indices))
        return [Forced(choice.node, node.operator, now.scores, node.largest, node.ordered, taken, same, now.kind)]
    assert now.boxes is not None
    iou, least, most = now.limits
    found = []
    for call, (image, kind) in enumerate(np.ndindex(now.scores.shape[:2]), 1):
        held, mine = (one[(one[:, 0] == image) & (one[:, 1] == kind), 2] for one in (indices, own.indices))
        same = set(held.tolist()) == set(mine.tolist())
        found.append(
            Forced(
                choice.node, node.operator, now.scores[image, kind], True, False, most, same, SUPPRESSION, call, now.boxes[image],
                held, iou, least,
            )
        )  # fmt: skip
    return found


def _matched(read: Sequence[Read], choices: Sequence[Choice]) -> List[Tuple[str, np.ndarray, List[Forced]]]:
    """For each node that one of the choices was made from the numbers of: the tensor of what it chooses, the choice in its shape, and
    what was forced."""
    left = list(choices)
    found = []
    for node, now, own in read:
        choice = nearest(left, now.kind, now.scores, now.candidates)
        if choice is None:
            continue
        left = [one for one in left if one is not choice]
        indices = fitted(own, choice)
        found.append((node.chosen, indices.astype(own.indices.dtype), _forced(node, now, own, choice, indices)))
    return found


def _is_weight(value: Optional[np.ndarray]) -> bool:
    return value is not None and value.dtype.kind == "f" and value.size > 1


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
