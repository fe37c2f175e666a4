"""One artifact against one model: everything a check may ask, worked out once. Checks receive a Trial and nothing else.

Engines are loaded when first asked for, so that a check of structure alone starts no runtime.
"""

from __future__ import annotations

import importlib
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Sequence,
    Tuple,
    Union,
)

import numpy as np

from detparity.contract import Contract, expected_shapes
from detparity.findings import CannotRun, Finding, Outcome
from detparity.oracle.truths import Oracle, Picture, batch_of
from detparity.subject import Arrays, Artifact, ConvWeights, EngineError, ModelFacts, Runner, Size, Variant

if TYPE_CHECKING:
    from detparity.engines.torchscript import ScriptFile
    from detparity.findings import Check
    from detparity.graph import OnnxFile


@dataclass(frozen=True)
class Case:
    """One run: an image size (height, width) and the pictures (kind, seed) in the slots of the batch."""

    size: Size
    pictures: Tuple[Picture, ...]

    def __str__(self) -> str:
        inside = ", ".join(f"{kind} {seed}" for kind, seed in self.pictures)
        return f"({len(self.pictures)}, 3, {self.size[0]}, {self.size[1]}) of {inside}"


@dataclass(frozen=True)
class Space:
    """Cases to try: `always` in order, then `draws` drawn from these sizes (multiples of `stride` from `least` to `most`, each
    side on its own, or `only` one size), batch sizes and picture kinds. A quick run tries the first of `always` alone."""

    always: Tuple[Case, ...]
    draws: int = 0
    stride: int = 32
    least: int = 32
    most: int = 320
    only: Optional[Size] = None
    batches: Tuple[int, int] = (1, 1)
    kinds: Tuple[str, ...] = ("noise", "natural", "scene")


Judge = Callable[[Case], Sequence[Finding]]
Explorer = Callable[[Space, Judge], Sequence[Finding]]
# (images, classes, side in pixels, score threshold, draws, judge of (B, rows, 5 + classes) predictions) -> findings
BoxExplorer = Callable[
    [Tuple[int, int], int, int, float, int, Callable[[np.ndarray], Sequence[Finding]]], Sequence[Finding]
]


@dataclass
class Clock:
    """Seconds spent inside engines, loading and running. What runs inside what is counted already, is not counted twice."""

    engine: float = 0.0
    _depth: int = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        start = time.perf_counter()
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1
            if not self._depth:
                self.engine += time.perf_counter() - start


@dataclass(eq=False)
class Trial:
    """artifact and its facts, the contract, the model's facts and weights, its oracle, and the explorer of cases;
    how: how the variant and the size were found; quick: whether less is tried, to know sooner."""

    artifact: Artifact
    file: Union[OnnxFile, ScriptFile]
    contract: Contract
    facts: ModelFacts
    weights: Tuple[ConvWeights, ...]
    slopes: Tuple[float, ...]
    oracle: Oracle
    explore: Explorer
    clock: Clock
    checks: Dict[str, Check]
    how: str
    explore_boxes: BoxExplorer
    quick: bool = False
    outcomes: Dict[str, Outcome] = field(default_factory=dict)
    _runners: Dict[Tuple[str, str, int], Union[Runner, EngineError]] = field(default_factory=dict)

    @property
    def onnx(self) -> OnnxFile:
        return self.file  # type: ignore[return-value]

    @property
    def script(self) -> ScriptFile:
        return self.file  # type: ignore[return-value]

    def runner(self, optimisation: str = "all", threads: int = 0, engine: str = "") -> Runner:
        """The artifact in its engine, prepared once. Raises EngineError where it does not load."""
        name = engine or self._engine()
        key = (name, optimisation, threads)
        if key not in self._runners:
            self._runners[key] = self._prepare(*key)
        found = self._runners[key]
        if isinstance(found, EngineError):
            raise found
        return found

    def _engine(self) -> str:
        if self.artifact.kind != "onnx":
            return self.artifact.kind
        return "efficientnms" if self.contract.variant.head == "end2end-trt" else "ort"

    def _prepare(self, name: str, optimisation: str, threads: int) -> Union[Runner, EngineError]:
        path = str(self.artifact.path)
        try:
            module: Any = importlib.import_module(f"detparity.engines.{name}")
        except ImportError as error:
            raise CannotRun(f"the engine {name} is not installed ({error.name})") from None
        try:
            with self.clock.running():
                if name in ("ort", "efficientnms"):
                    return module.prepare(path, optimisation, threads)
                return module.prepare(path, threads) if name in ("torchscript", "lite") else module.prepare(path)
        except EngineError as error:
            return error

    def run(self, images: np.ndarray, **engine: Any) -> Arrays:
        """Run the artifact on (B, 3, H, W) images; outputs in the file's order. Raises EngineError."""
        runner = self.runner(**engine)
        with self.clock.running():
            return runner.call({runner.input_names[0]: images})

    def tail_runner(self, cut: Mapping[str, int]) -> Runner:
        """The part of an ONNX file after the tensors of `cut` (name to rank), in its engine. Raises EngineError."""
        key = ("tail", ",".join(cut), 0)
        if key not in self._runners:
            name = self._engine()
            module: Any = importlib.import_module(f"detparity.engines.{name}")
            try:
                with self.clock.running():
                    if name == "efficientnms":
                        self._runners[key] = module.prepare(str(self.artifact.path), cut=cut)
                    else:
                        tail_of = importlib.import_module("detparity.graph").tail_of
                        self._runners[key] = module.prepare(tail_of(self.artifact.path, cut))
            except EngineError as error:
                self._runners[key] = error
        found = self._runners[key]
        if isinstance(found, EngineError):
            raise found
        return found

    def shapes_of(self, names: Sequence[str], images: np.ndarray) -> Dict[str, np.ndarray]:
        """Run an ONNX file up to inner tensors and return them by name. Raises EngineError."""
        module: Any = importlib.import_module("detparity.engines.ort")
        expose = importlib.import_module("detparity.graph").expose
        with self.clock.running():
            runner = module.prepare(expose(self.artifact.path, names), "disabled")
            return dict(runner.call({runner.input_names[0]: images}))

    def truth(self, picture: Picture, size: Size) -> Any:
        """The oracle's truth for the head this artifact promises; suppression is judged against the decoded predictions."""
        return self.oracle.truth(picture, size, truth_head(self.contract.variant))

    def growing(self, picture: Picture, size: Size) -> Iterator[Any]:
        """The same truth with a floor that grows: what is within an earlier one is within the last."""
        return self.oracle.growing(picture, size, truth_head(self.contract.variant))

    def shapes(self, batch: int, size: Size) -> List[Tuple[int, ...]]:
        return list(expected_shapes(self.contract, batch, size).values())

    def batch(self, case: Case) -> np.ndarray:
        return batch_of(case.pictures, case.size)

    def outcome(self, check_id: str) -> Outcome:
        """Run a check once, after those it needs; a check whose need failed is skipped without making the verdict incomplete."""
        if check_id not in self.outcomes:
            self.outcomes[check_id] = self._judge(self.checks[check_id])
        return self.outcomes[check_id]

    def _judge(self, check: Check) -> Outcome:
        for need in check.needs:
            if need in self.checks and self.checks[need].applies(self.contract):
                first = self.outcome(need)
                if first.outcome != "passed" and not _only_soft(first):
                    return Outcome(check.id, check.level, "skipped", reason=f"blocked by {need}")
        start, before = time.perf_counter(), self.clock.engine
        findings: Tuple[Finding, ...] = ()
        reason, result, incomplete = None, "passed", False
        try:
            findings = tuple(check.run(self))
            result = "failed" if findings else "passed"
        except CannotRun as error:
            reason, result, incomplete = str(error), "skipped", check.level == "MUST"
        except EngineError as error:
            findings, result = (Finding("does not run.", notes=(str(error)[:600],)),), "failed"
        except Exception as error:  # a check that breaks is reported as broken, never as passed
            reason, result, incomplete = f"{type(error).__name__}: {error}", "error", True
        seconds = time.perf_counter() - start
        return Outcome(check.id, check.level, result, findings, reason, incomplete, seconds, self.clock.engine - before)


def truth_head(variant: Variant) -> str:
    """The head whose numbers decide on this variant."""
    return "raw" if variant.head == "raw" else "grid"


def _only_soft(outcome: Outcome) -> bool:
    return outcome.outcome == "failed" and all(finding.level != "MUST" for finding in outcome.findings)


def applicable(trial: Trial) -> Iterable[str]:
    """The ids of the checks this contract asks for, in the registry's order."""
    return [check.id for check in trial.checks.values() if check.applies(trial.contract)]
