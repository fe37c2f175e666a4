"""Where the time goes: ONNX Runtime's kernels, summed by layer of the model and by stage.

A profile is taken apart from the times that are compared: the runtime's profiler slows a run down a little.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Dict, List, Sequence, Tuple, Union

import numpy as np

from detparity.artifacts import onnx_nms
from detparity.checks.context import Context
from detparity.checks.nms_tail import find_cut
from detparity.core.errors import InputError
from detparity.core.findings import Row
from detparity.tools.bench.attribution import (
    ALL_STAGES,
    UNATTRIBUTED,
    Suppressed,
    attribute_executed,
    attribute_file,
    modules_of,
)
from detparity.tools.bench.candidates import plugin_inputs

OVERHEAD = "overhead"


@dataclass(frozen=True)
class Kernel:
    """A node of the optimised graph. seconds: median of the runs; module, stage: as in `attribution.Attribution`."""

    name: str
    op: str
    module: str
    stage: str
    seconds: float


@dataclass(frozen=True)
class Part:
    """Kernels summed: of a stage, or of a module (title: with the kind of its layer)."""

    title: str
    stage: str
    seconds: float
    kernels: int


@dataclass(frozen=True)
class Profile:
    """kernels: in the order they ran; stages: those there are, in the order they run; modules: in the order of the model; overhead:
    seconds of a run in no kernel; note: what of the file was not run, if anything.

    Every kernel is in one stage and one module, those that could not be attributed in `other`.
    """

    kernels: Tuple[Kernel, ...]
    stages: Tuple[Part, ...]
    modules: Tuple[Part, ...]
    overhead: float
    rounds: int
    note: str = ""

    @property
    def total(self) -> float:
        """Seconds of a run: the sum of all stages and of the overhead."""
        return math.fsum([part.seconds for part in self.stages] + [self.overhead])


def profile(context: Context, feeds: Sequence[np.ndarray], rounds: int = 30, threads: int = 0) -> Profile:
    """Profile an ONNX file on (B, 3, H, W) images used in rotation. threads: 0 leaves the choice to the runtime.

    A file with the TensorRT plugin is run up to the plugin. Raises InputError for a file of another kind, EngineError where it
    does not load or run.
    """
    if context.artifact.kind != "onnx":
        raise InputError(f"{context.artifact.title} is no ONNX file; a profile is ONNX Runtime's")
    layers = context.facts.layers
    from detparity.engines import onnxruntime

    measured = onnxruntime.profiled(_source(context), feeds, rounds, threads)
    in_file = attribute_file(context.onnx.graph, layers, context.weights, _suppressed(context))
    executed = attribute_executed(measured.executed, in_file)
    kernels = []
    for one in measured.kernels:
        owner = executed.get(one.name, UNATTRIBUTED)
        kernels.append(Kernel(one.name, one.op, owner.module, owner.stage, one.seconds))
    kinds = {layer.name: layer.kind for layer in layers}
    titles = {name: f"{name} {kinds[name]}" if name in kinds else name for name in modules_of(layers)}
    return Profile(
        tuple(kernels),
        _sums([(kernel.stage, kernel) for kernel in kernels], {stage: stage for stage in ALL_STAGES}),
        _sums([(kernel.module, kernel) for kernel in kernels], titles),
        measured.overhead,
        rounds,
        "up to the plugin, which TensorRT alone runs" if plugin_inputs(context) else "",
    )


def rows(found: Profile, most: int = 10) -> List[Row]:
    """Table rows under a heading: stage, share of a run, milliseconds; then the `most` modules that take longest."""
    shown = [("stage", "share", "ms")]
    shown += [_row(part.title, part.seconds, found.total) for part in found.stages]
    shown += [_row(OVERHEAD, found.overhead, found.total), _row("total", found.total, found.total)]
    top = sorted(found.modules, key=lambda part: -part.seconds)[:most]
    shown += [("module", "share", "ms")] + [
        _row(part.title if part.title == part.stage else f"{part.title} ({part.stage})", part.seconds, found.total)
        for part in top
    ]
    return list(shown)


def _row(title: str, seconds: float, total: float) -> Tuple[str, str, str]:
    return title, f"{seconds / total:.1%}" if total else "", f"{1e3 * seconds:.3f}"


def _sums(keyed: Sequence[Tuple[str, Kernel]], titles: Dict[str, str]) -> Tuple[Part, ...]:
    """Parts in the order of `titles`, those with kernels alone."""
    groups: Dict[str, List[Kernel]] = {}
    for key, kernel in keyed:
        groups.setdefault(key, []).append(kernel)
    return tuple(
        Part(title, groups[key][0].stage, math.fsum(kernel.seconds for kernel in groups[key]), len(groups[key]))
        for key, title in titles.items()
        if key in groups
    )


def _source(context: Context) -> Union[str, bytes]:
    """What the runtime is given: the file, or the part of it up to the plugin. Its profile has nodes by name, so each gets one."""
    from detparity.artifacts import onnx_edit

    names = [node.name for node in context.onnx.graph.walk()]
    boxes_and_scores = plugin_inputs(context)
    source: Union[str, bytes] = str(context.artifact.path)
    if boxes_and_scores:
        source = onnx_edit.expose(context.artifact.path, boxes_and_scores)
    if not all(names) or len(set(names)) < len(names):
        source = onnx_edit.named_by_outputs(source if isinstance(source, bytes) else context.artifact.path)
    return source


def _suppressed(context: Context) -> Suppressed:
    """Suppression is everything after the last rows of predictions or logits; where there are none, its operator and what follows."""
    found = onnx_nms.find(context.onnx.graph)
    if found is None:
        return Suppressed()
    cut = find_cut(context)
    if cut is not None and not cut.planes:  # all that planes hold is decoded first
        return Suppressed(after=tuple(cut.names))
    return Suppressed(nodes=tuple(node.index for node in (*found.nodes, *found.tail)))
