"""Two ONNX files run on the same pictures, and what they return compared number by number."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import List, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.artifacts.metadata import LARGEST_SIDE, image_size
from detparity.artifacts.onnx_graph import OnnxFile, Value
from detparity.core.errors import EngineDied, EngineError
from detparity.core.vocabulary import Arrays, Load, Runner, Size
from detparity.engines.remote import client
from detparity.inputs import images
from detparity.tools.diff.tensor_diff import Apart, apart

SAME = "same bytes"
PICTURES = (("noise", 0), ("natural", 0))
SIDES = (320, 640, 256, 64)  # tried in this order where neither file nor its metadata states a size
SECONDS = 300.0  # that one run may take: the loops of a file need have no end
LARGEST = 2**28  # numbers in one input


@dataclass(frozen=True)
class Output:
    """One output on one picture. name: its name in either file; what: the difference as text; apart: where shapes are the same and
    numbers differ, how."""

    name: Tuple[str, str]
    picture: str
    what: str
    apart: Optional[Apart] = None

    @property
    def same(self) -> bool:
        return self.what == SAME


@dataclass(frozen=True)
class Numbers:
    """at: the shapes of what both were fed; engines: what ran either."""

    at: str
    engines: Tuple[str, str]
    outputs: Tuple[Output, ...]


class NotCompared(Exception):
    """The numbers of two files cannot be compared; the text says why."""


def compare(paths: Tuple[Path, Path], files: Tuple[OnnxFile, OnnxFile], pairs: Sequence[Tuple[int, int]]) -> Numbers:
    """Run both on two pictures and compare their outputs. pairs: which output of either belongs to which.

    Raises NotCompared where the files take different inputs, or one does not load or run.
    """
    inputs = _inputs(files)
    for side, file in zip("AB", files):
        for value in file.graph.outputs:
            if value.dtype.endswith("_type"):
                raise NotCompared(f"output {value.name!r} of {side} is no tensor")
    runners = _prepared("A", paths[0], files[0]), _prepared("B", paths[1], files[1])
    tried: List[Mapping[str, Tuple[int, ...]]] = []
    reason, started = "", time.monotonic()
    for size in _sizes(files):
        shapes = {pair[0].name: _shape(pair, size) for pair in inputs}
        if shapes in tried or time.monotonic() - started > SECONDS:
            continue
        tried.append(shapes)
        try:
            results = [_run(runners, inputs, shapes, picture) for picture in PICTURES]
        except EngineError as error:
            reason = reason or str(error)
            continue
        found = [_output(files, pair, kind, both) for (kind, _), both in zip(PICTURES, results) for pair in pairs]
        at = ", ".join("x".join(map(str, shape)) or "a scalar" for shape in shapes.values())
        return Numbers(at, (runners[0].engine, runners[1].engine), tuple(found))
    raise NotCompared(reason)


def _prepared(side: str, path: Path, file: OnnxFile) -> Runner:
    plugin = any(node.op == "EfficientNMS_TRT" for node in file.graph.nodes)
    engine = "efficient_nms" if plugin else "onnxruntime"
    try:
        return client().prepare(engine, path, Load(seconds=SECONDS), lambda _: SECONDS + 10)
    except EngineError as error:
        raise NotCompared(f"{side} does not load: {error}") from None
    except EngineDied as died:
        raise NotCompared(f"{side} {died}") from None


Pair = Tuple[Value, Value]


def _inputs(files: Tuple[OnnxFile, OnnxFile]) -> List[Pair]:
    """The inputs of both, by position. Raises NotCompared where one array cannot serve both."""
    given = [[value for value in file.graph.inputs if value.name not in file.graph.initializers] for file in files]
    if len(given[0]) != len(given[1]):
        raise NotCompared(f"A takes {len(given[0])} inputs, B {len(given[1])}")
    for was, now in zip(*given):
        if was.dtype != now.dtype:
            raise NotCompared(f"input {was.name!r} is {was.dtype} in A, {now.dtype} in B")
        if was.dtype not in ("float32", "float16", "float64", "uint8"):
            raise NotCompared(f"input {was.name!r} takes {was.dtype}, which no picture is")
        if was.shape is not None and now.shape is not None:
            fixed = [(a, b) for a, b in zip(was.shape, now.shape) if isinstance(a, int) and isinstance(b, int)]
            if len(was.shape) != len(now.shape) or any(a != b for a, b in fixed):
                raise NotCompared(f"A takes {_shape_words(was)}, B takes {_shape_words(now)}")
    return list(zip(*given))


def _shape_words(value: Value) -> str:
    return "x".join("?" if axis is None else str(axis) for axis in value.shape or ())


def _sizes(files: Tuple[OnnxFile, OnnxFile]) -> List[Size]:
    """Sizes to try for axes that neither file fixes."""
    stated = [size for size in (image_size(file.metadata) for file in files) if size and max(size) <= LARGEST_SIDE]
    return list(dict.fromkeys([*stated, *((side, side) for side in SIDES)]))


def _shape(pair: Pair, size: Size) -> Tuple[int, ...]:
    """What fits both: the axes that one of them fixes; else one image, three channels, this size."""
    free = (1, 3, *size)
    known = next((value.shape for value in pair if value.shape is not None), free)
    axes = [value.shape or known for value in pair]
    fill = free if len(known) == 4 else (1,) * len(known)
    shape = tuple(next((a for a in both if isinstance(a, int)), fill[k]) for k, both in enumerate(zip(*axes)))
    if int(np.prod(shape, dtype=np.float64)) > LARGEST or any(axis < 0 for axis in shape):
        raise NotCompared(f"input {pair[0].name!r} is too large to be made: {'x'.join(map(str, shape))}")
    return shape


def _made(shape: Tuple[int, ...], dtype: str, kind: str, seed: int) -> np.ndarray:
    """Pictures where the shape is one of pictures, else uniform numbers."""
    if len(shape) == 4 and shape[1] == 3 and min(shape) > 0:
        value = np.stack([images.make(kind, (shape[2], shape[3]), seed + index) for index in range(shape[0])])
    else:
        value = np.random.default_rng([seed, len(kind)]).random(shape, dtype=np.float32)
    return np.rint(value * 255).astype(np.uint8) if dtype == "uint8" else value.astype(dtype)


def _run(
    runners: Tuple[Runner, Runner],
    inputs: Sequence[Pair],
    shapes: Mapping[str, Tuple[int, ...]],
    picture: Tuple[str, int],
) -> Tuple[Arrays, Arrays]:
    made = [_made(shapes[was.name], was.dtype, *picture) for was, _ in inputs]
    found: List[Arrays] = []
    for side, runner in enumerate(runners):
        try:
            found.append(runner.call({pair[side].name: value for pair, value in zip(inputs, made)}))
        except EngineError as error:
            at = ", ".join("x".join(map(str, value.shape)) for value in made)
            raise EngineError(f"{'AB'[side]} does not run at {at}: {error}") from None
        except EngineDied as died:
            raise NotCompared(f"{'AB'[side]} {died}") from None
    return found[0], found[1]


def _output(
    files: Tuple[OnnxFile, OnnxFile], pair: Tuple[int, int], picture: str, results: Tuple[Arrays, Arrays]
) -> Output:
    names = files[0].graph.outputs[pair[0]].name, files[1].graph.outputs[pair[1]].name
    was, now = results[0][names[0]], results[1][names[1]]
    if was.shape != now.shape:
        return Output(names, picture, _count_words(was.shape, now.shape))
    if was.dtype == now.dtype and was.tobytes() == now.tobytes():
        return Output(names, picture, SAME)
    if was.dtype.kind not in "fiub" or now.dtype.kind not in "fiub":
        return Output(names, picture, f"{was.dtype} and {now.dtype}, which are not compared")
    found = apart(was, now)
    if found is None:
        kinds = "" if was.dtype == now.dtype else f" as {was.dtype} and {now.dtype}"
        return Output(names, picture, f"same numbers{kinds}")
    return Output(names, picture, f"{found.count} of {was.size} differ", found)


def _count_words(was: Tuple[int, ...], now: Tuple[int, ...]) -> str:
    """Where one axis alone differs, the outputs hold different counts of the same thing."""
    apart = [axis for axis, (a, b) in enumerate(zip(was, now)) if a != b] if len(was) == len(now) else []
    if len(apart) == 1:
        return f"{was[apart[0]]} -> {now[apart[0]]} along axis {apart[0]}"
    return " -> ".join("x".join(map(str, shape)) or "a scalar" for shape in (was, now))
