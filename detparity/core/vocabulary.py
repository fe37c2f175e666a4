"""The types that all of the package uses: variants, facts about a model, and the protocol of a runnable artifact.

Only the standard library and numpy are used here, so that contracts and oracles can be read without any framework.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Mapping, Optional, Sequence, Tuple

from detparity.core.errors import InputError

if TYPE_CHECKING:  # its import is most of the time that --help takes
    import numpy as np

Arrays = Mapping[str, "np.ndarray"]
Size = Tuple[int, int]  # height, width in pixels
Picture = Tuple[str, int]  # kind, seed: detparity/inputs/images.py makes it

HEADS = ("raw", "grid", "end2end-ort", "end2end-trt", "end2end-trt-nms")
SCRIPTED = ("traced", "scripted", "lite")
FREE = ("scripted", "lite")  # a scripted file holds the program itself, so no size is fixed
ONNX, DYNAMO = "onnx", "onnx-dynamo"
AXES = ("", "-dynamic-batch", "-dynamic")


@dataclass(frozen=True)
class Variant:
    """What kind of file is promised: a head, how its axes vary, and which runtime reads it.

    head: one of `HEADS`; axes: "static", "dynamic-batch" or "dynamic"; form: "onnx", "onnx-dynamo" (ONNX through torch.export)
    or one of `SCRIPTED`.
    """

    head: str
    axes: str = "static"
    form: str = "onnx"

    @property
    def name(self) -> str:
        """The public name: `grid-dynamic-batch`, `grid-dynamo-dynamic-batch` for ONNX; `traced`, `traced-dynamic` for TorchScript."""
        stem = {ONNX: self.head, DYNAMO: f"{self.head}-dynamo"}.get(self.form, self.form)
        return stem if self.axes == "static" or stem in FREE else f"{stem}-{self.axes}"

    @property
    def onnx(self) -> bool:
        """Whether the file is ONNX, whichever of torch's exporters wrote it."""
        return self.form in (ONNX, DYNAMO)

    @property
    def graph(self) -> bool:
        """Whether the file holds a graph, with constants and source lines: a lite file has a program alone."""
        return self.form != "lite"

    @property
    def dynamo(self) -> bool:
        return self.form == DYNAMO

    @property
    def end2end(self) -> bool:
        """Whether suppression is in the graph."""
        return self.head.startswith("end2end")

    @property
    def dynamic_batch(self) -> bool:
        return self.axes != "static"

    @property
    def dynamic_size(self) -> bool:
        return self.axes == "dynamic"


def variant_names() -> Tuple[str, ...]:
    """Every name `--variant` accepts, in a fixed order."""
    onnx = [f"{head}{by}{axes}" for by in ("", "-dynamo") for head in HEADS for axes in AXES]
    return tuple(onnx + ["traced", "traced-dynamic", "scripted", "lite"])


def parse_variant(name: str, head: str = "grid") -> Variant:
    """Return the variant called `name`; TorchScript names take their head from `head`.

    Raises InputError for a name that is not in `variant_names()`.
    """
    if name not in variant_names():
        raise InputError(f"unknown variant {name!r}: known are {', '.join(variant_names())}")
    for axes in ("dynamic-batch", "dynamic", "static"):
        stem = name[: -len(axes) - 1] if name.endswith("-" + axes) else name if axes == "static" else ""
        if stem in HEADS:
            return Variant(stem, axes)
        if stem.endswith("-dynamo"):
            return Variant(stem[: -len("-dynamo")], axes, DYNAMO)
        if stem in SCRIPTED:
            return Variant(head, "dynamic" if stem in FREE else axes, stem)
    raise AssertionError(name)


STAGES = ("backbone", "neck", "head")


@dataclass(frozen=True)
class Layer:
    """One layer of a network. name: its official path (`model.51`); kind: the class of its block; reads: 0 is the image, k the output
    of the layer k - 1; stage: one of `STAGES` (`detectors/stages.py` says where each begins)."""

    name: str
    kind: str
    reads: Tuple[int, ...]
    stage: str


@dataclass(frozen=True)
class ModelFacts:
    """What a detector is, as plain data.

    names: class names; strides: pixels per cell, level by level; anchors: (levels, anchors, 2) width and height in pixels;
    layers: in the order they run, after all others the layer of each head.
    """

    name: str
    names: Tuple[str, ...]
    strides: Tuple[int, ...]
    anchors: Tuple[Tuple[Tuple[float, float], ...], ...]
    digest: str
    layers: Tuple[Layer, ...] = ()

    @property
    def classes(self) -> int:
        return len(self.names)

    @property
    def fields(self) -> int:
        """Numbers per prediction: centre x, centre y, width, height, objectness, one score per class."""
        return 5 + self.classes

    @property
    def anchors_per_level(self) -> int:
        return len(self.anchors[0])

    @property
    def max_stride(self) -> int:
        return max(self.strides)

    def cells(self, size: Size) -> Tuple[Size, ...]:
        """Rows and columns of each level's grid for an image of `size` pixels."""
        return tuple((size[0] // stride, size[1] // stride) for stride in self.strides)

    def level_rows(self, size: Size) -> Tuple[int, ...]:
        """Predictions each level makes for an image of `size` pixels."""
        return tuple(self.anchors_per_level * ny * nx for ny, nx in self.cells(size))

    def rows(self, size: Size) -> int:
        """Predictions all levels make together."""
        return sum(self.level_rows(size))


@dataclass(frozen=True)
class BatchNorm:
    """What was folded into a convolution: running variance and added term (out,), and epsilon."""

    variance: np.ndarray
    added: np.ndarray
    epsilon: float


@dataclass(frozen=True)
class ConvWeights:
    """One convolution of the fused detector, in the order of execution.

    key: the official parameter path without its last part (`model.0.conv`); weight (out, in/groups, kh, kw) and bias (out,) float32;
    unfused: gives the weight before batch-norm and implicit layers were folded in; norm: of the one batch-norm that was, where
    there is one.
    """

    key: str
    weight: np.ndarray
    bias: np.ndarray
    unfused: Callable[[], np.ndarray]
    stride: Tuple[int, int]
    padding: Tuple[int, int]
    groups: int
    norm: Optional[BatchNorm] = None

    @property
    def plain(self) -> np.ndarray:
        """The weight before anything was folded in, float32, as `weight`."""
        return self.unfused()


@dataclass(frozen=True)
class Runner:
    """A prepared artifact: `call` takes arrays by input name and returns new arrays by output name.

    facts: what really ran (provider, threads, optimisation level, precision), for the report; took: seconds of the last call, without
    what carries it to another process and back.
    """

    engine: str
    call: Callable[[Arrays], Arrays]
    facts: Mapping[str, str] = field(default_factory=dict)
    input_names: Sequence[str] = ("images",)
    took: Callable[[], float] = lambda: 0.0


@dataclass(frozen=True)
class Load:
    """How an engine loads a file. optimisation: of the graph, "all" or "disabled"; `onnx_exact` has "exact" (also for "all") and
    "float32"; threads: 0 leaves the choice to the engine; cut: inner tensors, name to rank, to start from in place of the inputs;
    seconds: after which a call is ended; precision: "float32" asks for that and for plain arithmetic, where an engine has a choice; ""
    leaves it to the engine; every: of TorchScript, also the logits that are returned beside decoded predictions; compiled: of
    TorchScript, for how many shapes of input its interpreter may compile, None for all."""

    optimisation: str = "all"
    threads: int = 0
    cut: Mapping[str, int] = field(default_factory=dict)
    seconds: Optional[float] = None
    precision: str = ""
    every: bool = False
    compiled: Optional[int] = None


@dataclass(frozen=True)
class Artifact:
    """A file under test. kind: "onnx", "torchscript", "lite" or a runtime of `core.runtimes`; sha256 of the bytes on disk."""

    path: Path
    kind: str
    sha256: str
    name: Optional[str] = None

    @property
    def title(self) -> str:
        return self.name or self.path.name
