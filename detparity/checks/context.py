"""One artifact against one model: everything a check may ask, worked out once. Checks receive a Context and nothing else.

Engines are loaded when first asked for, so that a check of structure alone starts no runtime.
"""

from __future__ import annotations

import functools
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

from detparity import engines
from detparity.artifacts.input_form import FILLED, InputForm, input_form, transposed
from detparity.checks.other_inputs import settle
from detparity.core.case import BoxExplorer, Case, Explorer
from detparity.core.clock import Clock
from detparity.core.contract import Contract, expected_shapes
from detparity.core.environment import peak_bytes
from detparity.core.findings import CannotRun, Finding, Outcome, of_the_end
from detparity.core.vocabulary import (
    Arrays,
    Artifact,
    ConvWeights,
    EngineDied,
    EngineError,
    Load,
    ModelFacts,
    Picture,
    Runner,
    Size,
    Variant,
)
from detparity.engines.reference_runs import Oracle
from detparity.engines.remote import LEAST_SECONDS, client
from detparity.inputs.images import batch_of, rounded

if TYPE_CHECKING:
    from detparity.artifacts.onnx_graph import OnnxFile
    from detparity.artifacts.torchscript_facts import ScriptFile
    from detparity.core.findings import Check


def _as_found(_: Context, check_id: str, findings: Tuple[Finding, ...]) -> Tuple[Finding, ...]:
    return findings


SECONDS_PER_REFERENCE = 20.0  # how many times as long as the reference an engine may take


@dataclass(eq=False)
class Context:
    """artifact and its facts, the contract, the model's facts and weights, its oracle, and the explorer of cases;
    how: how the variant and the size were found; quick: whether less is tried, to know sooner; fold: marks findings that follow from
    those of other checks; notes: what checks work out of the file once; form and filled: how the file takes its image, and what its
    other inputs are given."""

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
    died: Optional[EngineDied] = None
    fold: Callable[[Context, str, Tuple[Finding, ...]], Tuple[Finding, ...]] = _as_found
    notes: Dict[str, Any] = field(default_factory=dict)
    _reported_by: Optional[str] = None
    _runners: Dict[Tuple[str, str, int, Tuple[str, ...]], Union[Runner, EngineError]] = field(default_factory=dict)

    @property
    def onnx(self) -> OnnxFile:
        return self.file  # type: ignore[return-value]

    @property
    def script(self) -> ScriptFile:
        return self.file  # type: ignore[return-value]

    @functools.cached_property
    def form(self) -> InputForm:
        """How the file takes its image; (B, 3, H, W) float32 unless an ONNX file declares something else."""
        return input_form(self.onnx.graph) if self.artifact.kind == "onnx" else InputForm()

    @functools.cached_property
    def filled(self) -> str:
        """What the inputs beside the image are given: what makes the numbers right, where anything does."""
        return settle(self) if self.form.others else FILLED[0]

    def runner(self, engine: str = "", **how: Any) -> Runner:
        """The artifact in its engine, or in the one called `engine`, prepared once; how: of `Load`. Raises EngineError where it does
        not load."""
        return self._prepared(engine or self._engine(), Load(**how))

    def forget(self, **how: Any) -> None:
        """Let go of the file as one check alone had it loaded; how: of `Load`."""
        load = Load(**how)
        self._runners.pop((self._engine(), load.optimisation, load.threads, tuple(load.cut)), None)

    def _engine(self) -> str:
        plugin = self.contract.variant.head == "end2end-trt"
        return engines.judging(engines.PLUGIN if plugin else self.artifact.kind).name

    def _prepared(self, name: str, how: Load) -> Runner:
        key = (name, how.optimisation, how.threads, tuple(how.cut))
        if key not in self._runners:
            self._runners[key] = self._prepare(name, how)
        found = self._runners[key]
        if isinstance(found, EngineError):
            raise found
        return found

    def _prepare(self, name: str, how: Load) -> Union[Runner, EngineError]:
        try:
            with self._engine_runs(name):
                return client().prepare(name, self.artifact.path, how, self._seconds)
        except ImportError as error:
            raise CannotRun(f"the engine {name} is not installed ({error.name or error})") from None
        except EngineError as error:
            return error

    @contextmanager
    def _engine_runs(self, name: str) -> Iterator[None]:
        """Time an engine, and remember where the one that judges this file ended over it: it is not asked again."""
        judging = name == self._engine()
        if judging and self.died is not None:
            raise self.died
        try:
            with self.clock.running():
                yield
        except EngineDied as error:
            if judging:
                self.died = error
            raise

    def _seconds(self, images: int) -> float:
        """What an engine may take: a multiple of what the slowest run of the reference took, for each image."""
        return max(LEAST_SECONDS, SECONDS_PER_REFERENCE * self.oracle.slowest * images)

    def run(self, images: np.ndarray, **engine: Any) -> Arrays:
        """Run the artifact on (B, 3, H, W) images; outputs in the file's order. Raises EngineError."""
        return self.run_filled(images, self.filled, **engine)

    def run_filled(self, images: np.ndarray, filled: str, **engine: Any) -> Arrays:
        """The same, with the inputs beside the image given otherwise."""
        runner = self.runner(**engine)
        feed = self.form.feed(self.form.image or runner.input_names[0], images, filled)
        with self._engine_runs(str(engine.get("engine", "")) or self._engine()):
            return runner.call(feed)

    def predict(self, case: Case, **engine: Any) -> Arrays:
        """What the file gives for a case; predictions that have fields before rows are put in the promised order."""
        return self.read(self.run(self.batch(case), **engine), case.size)

    def read(self, outputs: Arrays, size: Size) -> Arrays:
        """Outputs in the promised order of axes."""
        if self.contract.variant.head == "grid" and transposed(outputs, self.facts.rows(size), self.facts.fields):
            return {name: array.transpose(0, 2, 1) for name, array in outputs.items()}
        return outputs

    def tail_runner(self, cut: Mapping[str, int]) -> Runner:
        """The part of an ONNX file after the tensors of `cut` (name to rank), in its engine. Raises EngineError."""
        return self._prepared(self._engine(), Load(cut=cut))

    def shapes_of(self, names: Sequence[str], images: np.ndarray) -> Dict[str, np.ndarray]:
        """Run an ONNX file up to inner tensors and return them by name. Raises EngineError."""
        from detparity.artifacts.onnx_edit import expose

        with self._engine_runs(self._engine()):
            runner = client().prepare("onnxruntime", expose(self.artifact.path, names), Load("disabled"), self._seconds)
            return dict(runner.call(self.form.feed(self.form.image, images, self.filled)))

    def truth(self, picture: Picture, size: Size) -> Any:
        """The oracle's truth for the head this artifact promises; suppression is judged against the decoded predictions."""
        return self.oracle.truth(self.taken(picture), size, truth_head(self.contract.variant))

    def taken(self, picture: Picture) -> Picture:
        """A picture as the type of the file's input holds it."""
        return rounded(picture, self.form.rounding)

    def growing(self, picture: Picture, size: Size) -> Iterator[Any]:
        """The same truth with a floor that grows: what is within an earlier one is within the last."""
        return self.oracle.growing(self.taken(picture), size, truth_head(self.contract.variant))

    def shapes(self, batch: int, size: Size) -> List[Tuple[int, ...]]:
        return list(expected_shapes(self.contract, batch, size).values())

    def batch(self, case: Case) -> np.ndarray:
        return batch_of([self.taken(picture) for picture in case.pictures], case.size)

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
            findings = self.fold(self, check.id, tuple(check.run(self)))
            result = "failed" if findings else "passed"
        except CannotRun as error:
            reason, result, incomplete = str(error), "skipped", error.hides and check.level == "MUST"
        except EngineDied as error:
            if self._reported_by is not None:
                return Outcome(check.id, check.level, "skipped", reason=f"blocked by {self._reported_by}")
            self._reported_by = check.id
            if self._to_blame(error):
                findings, result = (of_the_end(error),), "failed"
            else:
                reason, result, incomplete = f"{error}; {UNDECIDED}", "skipped", True
        except EngineError as error:
            refused = Finding("does not run.", notes=(str(error)[:600],), evidence={"refused": str(error)[:600]})
            findings, result = self.fold(self, check.id, (refused,)), "failed"
        except Exception as error:  # a check that breaks is reported as broken, never as passed
            reason, result, incomplete = f"{type(error).__name__}: {error}", "error", True
        seconds = time.perf_counter() - start
        return Outcome(check.id, check.level, result, findings, reason, incomplete, seconds, self.clock.engine - before)

    def _to_blame(self, error: EngineDied) -> bool:
        """Whether a file that reached a limit is at fault."""
        return to_blame(error, self.oracle, self.contract.size)


UNDECIDED = "the reference needs more than a quarter of that"


def to_blame(error: EngineDied, oracle: Oracle, size: Size) -> bool:
    """Whether a file that ended its process is at fault: always by a crash; at a limit of time or memory where the reference needs
    under a quarter of it at this size."""
    if error.how == "crash":
        return True
    oracle.truth(("noise", 0), size, "grid")
    if error.how == "time":
        return 4 * oracle.slowest < error.seconds
    limit = client().child.limits.memory
    return limit is None or 4 * peak_bytes() < limit


def truth_head(variant: Variant) -> str:
    """The head whose numbers decide on this variant."""
    return "raw" if variant.head == "raw" else "grid"


def _only_soft(outcome: Outcome) -> bool:
    return outcome.outcome == "failed" and all(finding.level != "MUST" for finding in outcome.findings)


def applicable(context: Context) -> Iterable[str]:
    """The ids of the checks this contract asks for, in the registry's order."""
    return [check.id for check in context.checks.values() if check.applies(context.contract)]
