"""What is timed: the model itself, each file in its engine, and where a file suppresses also the same file up to there."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Optional, Sequence, Tuple

import numpy as np

from detparity import engines
from detparity.artifacts import onnx_nms
from detparity.checks.context import Context
from detparity.checks.nms_tail import Cut, find_cut
from detparity.core.vocabulary import Load, Picture, Runner, Size
from detparity.inputs.images import batch_of
from detparity.models.choice import ModelChoice, load_detector
from detparity.tools.bench.interleave import Call

EAGER, FROZEN = "eager", "frozen"
FEEDS = 6  # pictures in rotation, so that no result depends on one of them
KINDS = ("natural", "scene", "noise")
WITH, WITHOUT = "with NMS", "without NMS"


@dataclass(frozen=True)
class Recipe:
    """How a contender is prepared, here or in a new process.

    engine: "eager", "onnxruntime", "torchscript", "frozen" (TorchScript optimised for inference) or "lite"; threads: inside one
    operator; path: the file; upto: tensors of an ONNX file to stop at instead of its outputs; choice, head: the model and its head,
    for eager.
    """

    engine: str
    threads: int
    path: str = ""
    upto: Tuple[str, ...] = ()
    choice: ModelChoice = field(default_factory=ModelChoice)
    head: str = "grid"


@dataclass(frozen=True)
class Contender:
    """title: as the tables call it; nms: whether suppression is in what is timed; note: what a reader must know of it; context: the
    file it comes from, None for the model itself; cut: where the file is cut off, if it is."""

    title: str
    recipe: Recipe
    nms: str
    note: str = ""
    context: Optional[Context] = None
    cut: Optional[Cut] = None


def prepare(recipe: Recipe, detector: Any = None) -> Runner:
    """Prepare a contender for running. detector: the model, where it is loaded already.

    Raises EngineError where it does not load.
    """
    if recipe.engine == EAGER:
        from detparity.engines import eager

        found = load_detector(recipe.choice) if detector is None else detector
        return eager.prepare_head(found, recipe.head, recipe.threads)
    if recipe.engine == "onnxruntime":
        from detparity.engines import onnxruntime

        return onnxruntime.prepare(source(recipe), Load(threads=recipe.threads))
    module = engines.module("lite" if recipe.engine == "lite" else "torchscript")
    if recipe.engine == FROZEN:
        return module.prepare_frozen(recipe.path, Load(threads=recipe.threads))
    return module.prepare(recipe.path, Load(threads=recipe.threads))


def source(recipe: Recipe) -> Any:
    """What ONNX Runtime is given: the path, or the bytes of the part that is timed."""
    if not recipe.upto:
        return recipe.path
    from detparity.artifacts import onnx_edit

    return onnx_edit.expose(Path(recipe.path), recipe.upto)


def of_model(choice: ModelChoice, head: str, threads: int) -> Contender:
    """The model itself, run by PyTorch."""
    return Contender(EAGER, Recipe(EAGER, threads, choice=choice, head=head), WITHOUT)


def of_file(context: Context, threads: int) -> List[Contender]:
    """The contenders one file gives."""
    title, path, variant = context.artifact.title, str(context.artifact.path), context.contract.variant
    if context.artifact.kind != "onnx":
        engines = ("torchscript", FROZEN) if context.artifact.kind == "torchscript" else ("lite",)
        return [
            Contender(
                f"{title}, {FROZEN}" if engine == FROZEN else title,
                Recipe(engine, threads, path),
                WITHOUT,
                context=context,
            )
            for engine in engines
        ]
    if plugin_inputs(context):
        upto = plugin_inputs(context)
        note = "up to the plugin: TensorRT alone runs it"
        return [Contender(title, Recipe("onnxruntime", threads, path, upto), WITHOUT, note, context)]
    complete = Contender(
        title, Recipe("onnxruntime", threads, path), WITH if variant.end2end else WITHOUT, context=context
    )
    cut = find_cut(context) if variant.end2end else None
    if cut is None:
        return [complete]
    note = f"the same file up to its {'logits' if cut.logits else 'predictions'}"
    before = Recipe("onnxruntime", threads, path, tuple(cut.names))
    return [complete, Contender(f"{title}, cut", before, WITHOUT, note, context, cut)]


def plugin_inputs(context: Context) -> Tuple[str, ...]:
    """The boxes and scores that the TensorRT plugin reads, where a file has it."""
    found = onnx_nms.find(context.onnx.graph) if context.artifact.kind == "onnx" else None
    return tuple(found.node.inputs[:2]) if found and found.plugin else ()


def pictures_of(number: int, batch: int) -> Tuple[Picture, ...]:
    """The pictures of feed `number`: the kinds rotate, another in each slot of the batch."""
    return tuple((KINDS[(number + slot) % len(KINDS)], 10 * number + slot) for slot in range(batch))


def make_feeds(batch: int, size: Size) -> List[np.ndarray]:
    """(B, 3, H, W) float32 batches to rotate among."""
    return [batch_of(pictures_of(number, batch), size) for number in range(FEEDS)]


def numbered_call(runner: Runner, feeds: Sequence[np.ndarray]) -> Call:
    """The runner as `take_turns` calls it: on the feed of a number."""
    name = runner.input_names[0]

    def call(number: int) -> None:
        runner.call({name: feeds[number]})

    return call
