"""One artifact against one model: everything a check may ask, worked out once. Checks receive a Context and nothing else.

Engines are loaded when first asked for, so that a check of structure alone starts no runtime.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
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
from detparity.checks import ON_ENDPOINT, ON_IMAGES, ON_TARGET
from detparity.checks.judging import Judging, Key
from detparity.checks.other_inputs import settle
from detparity.core.budget import USUAL, Budget
from detparity.core.case import BoxExplorer, Case, Explorer
from detparity.core.clock import Clock
from detparity.core.contract import Contract, expected_shapes
from detparity.core.endpoint import Endpoint
from detparity.core.environment import peak_bytes
from detparity.core.errors import EngineDied, EngineError
from detparity.core.findings import Finding, Outcome
from detparity.core.precision import PLAIN, Precision
from detparity.core.vocabulary import Arrays, Artifact, ConvWeights, Load, ModelFacts, Picture, Runner, Size, Variant
from detparity.engines.reference_runs import Oracle
from detparity.engines.remote import LEAST_SECONDS, client
from detparity.inputs.images import batch_of, rounded
from detparity.oracle.average_precision import Objects

if TYPE_CHECKING:
    from detparity.artifacts.onnx_graph import OnnxFile
    from detparity.artifacts.torchscript_facts import ScriptFile
    from detparity.core.findings import Check


def _as_found(_: Context, check_id: str, findings: Tuple[Finding, ...]) -> Tuple[Finding, ...]:
    return findings


REMEMBERED = 5  # cases whose outputs are known: as many as are run at the declared size of a file that does not vary
SECONDS_PER_REFERENCE = 20.0  # how many times as long as the reference an engine may take


@dataclass(eq=False)
class Context(Judging):
    """artifact and its facts, the contract, the model's facts and weights, its oracle, and the explorer of cases;
    how: how the variant and the size were found; quick: whether less is tried, to know sooner; fold: marks findings that follow from
    those of other checks; notes: what checks work out of the file once; photos: the user's own
    pictures; precision: what the file is, and `contract.precision` what it is judged in;
    form and filled: how the file takes its image, and what its other inputs are given;
    on: the engine that was asked for; target: of --for."""

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
    photos: Tuple[Picture, ...] = ()
    precision: Precision = PLAIN
    budget: Budget = USUAL
    objects: Mapping[Picture, Objects] = field(default_factory=dict)
    on: str = ""
    target: str = ""
    endpoint: Optional[Endpoint] = None
    _reported_by: Optional[str] = None
    _runners: Dict[Key, Union[Runner, EngineError]] = field(default_factory=dict)
    _latest: OrderedDict[Case, Arrays] = field(default_factory=OrderedDict)

    @property
    def fixed_batch(self) -> Optional[int]:
        """Images of every run, None where that varies."""
        return None if self.contract.variant.dynamic_batch else self.contract.batch

    @property
    def onnx(self) -> OnnxFile:
        return self.file  # type: ignore[return-value]

    @property
    def script(self) -> ScriptFile:
        return self.file  # type: ignore[return-value]

    @functools.cached_property
    def form(self) -> InputForm:
        """How the file takes its image; (B, 3, H, W) float32 unless an ONNX file declares something else."""
        return input_form(self.onnx.graph) if self.artifact.kind == "onnx" else InputForm(dtype=self.script.image)

    @functools.cached_property
    def filled(self) -> str:
        """What the inputs beside the image are given: what makes the numbers right, where anything does."""
        return settle(self) if self.form.others else FILLED[0]

    def own_engine(self) -> str:
        plugin = self.contract.variant.head == "end2end-trt"
        return self.on or engines.judging(engines.PLUGIN if plugin else self.artifact.kind).name

    def seconds(self, images: int) -> float:
        """What an engine may take: a multiple of what the slowest run of the reference took, for each image."""
        return max(LEAST_SECONDS, SECONDS_PER_REFERENCE * self.oracle.slowest * images)

    def run(self, images: np.ndarray, **engine: Any) -> Arrays:
        """Run the artifact on (B, 3, H, W) images; outputs in the file's order. Raises EngineError."""
        return self.run_filled(images, self.filled, **engine)

    def run_filled(self, images: np.ndarray, filled: str, **engine: Any) -> Arrays:
        """The same, with the inputs beside the image given otherwise."""
        runner = self.runner(**engine)
        feed = self.feed(images, filled, runner)
        with self.engine_runs(str(engine.get("engine", "")) or self.engine()):
            found = runner.call(feed)
        if any(name.startswith("[") for name in found):
            raise EngineError("it returns a dict where tensors are expected")
        return found

    def feed(self, images: np.ndarray, filled: str, runner: Runner) -> Arrays:
        """What the inputs are given, by name."""
        return self.form.feed(self.form.image or runner.input_names[0], images, filled)

    def outputs(self, case: Case, **engine: Any) -> Arrays:
        """What the file gives for a case, in the file's order. Of its own engine the latest cases are not run again. Raises
        EngineError."""
        if engine:
            return self.run(self.batch(case), **engine)
        if case not in self._latest:
            self._latest[case] = self.run(self.batch(case))
        self._latest.move_to_end(case)
        if len(self._latest) > REMEMBERED:
            self._latest.popitem(last=False)
        return self._latest[case]

    def predict(self, case: Case, **engine: Any) -> Arrays:
        """The same; predictions that have fields before rows are put in the promised order."""
        return self.read(self.outputs(case, **engine), case.size)

    def read(self, outputs: Arrays, size: Size) -> Arrays:
        """Outputs in the promised order of axes."""
        if self.contract.variant.head == "grid" and transposed(outputs, self.facts.rows(size), self.facts.fields):
            return {name: array.transpose(0, 2, 1) for name, array in outputs.items()}
        return outputs

    def tail_runner(self, cut: Mapping[str, int]) -> Runner:
        """The part of an ONNX file after the tensors of `cut` (name to rank), in its engine. Raises EngineError."""
        return self.prepared(self.own_engine(), self.load(cut=cut))

    def shapes_of(self, names: Sequence[str], images: np.ndarray) -> Dict[str, np.ndarray]:
        """Run an ONNX file up to inner tensors and return them by name. Raises EngineError."""
        from detparity.artifacts.onnx_edit import expose

        with self.engine_runs(self.engine()):
            runner = client().prepare("onnxruntime", expose(self.artifact.path, names), Load("disabled"), self.seconds)
            return dict(runner.call(self.form.feed(self.form.image, images, self.filled)))

    def truth(self, picture: Picture, size: Size) -> Any:
        """The oracle's truth for the head this artifact promises; suppression is judged against the decoded predictions."""
        return self.oracle.truth(self.taken(picture), size, truth_head(self.contract.variant))

    def reported(self, picture: Picture, size: Size) -> Any:
        """The same, with the floor that a report shows."""
        return self.oracle.reported(self.taken(picture), size, truth_head(self.contract.variant))

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

    def to_blame(self, error: EngineDied) -> bool:
        """Whether a file that reached a limit is at fault."""
        return to_blame(error, self.oracle, self.contract.size)


def to_blame(error: EngineDied, oracle: Oracle, size: Size) -> bool:
    """Whether a file that ended its process is at fault: always by a crash; at a limit of time or memory where the reference needs
    under a quarter of it at this size; not where another process ended it."""
    if error.how in ("crash", "killed"):
        return error.how == "crash"
    seconds = oracle.run_again(("noise", 0), size)
    if error.how == "time":
        return 4 * seconds < error.seconds
    limit = client().child.limits.memory
    return limit is None or 4 * peak_bytes() < limit


def truth_head(variant: Variant) -> str:
    """The head whose numbers decide on this variant."""
    return "raw" if variant.head == "raw" else "grid"


def applicable(context: Context) -> Iterable[str]:
    """The ids of the checks this contract asks for, in the registry's order; those of the user's pictures where there are any."""
    left = (*(() if context.photos else ON_IMAGES), *(() if context.target else ON_TARGET))
    left += () if context.endpoint else ON_ENDPOINT
    return [one.id for one in context.checks.values() if one.applies(context.contract) and one.id not in left]
