"""One file of any detector against its reference: everything its checks may ask, worked out once."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple, Union

import numpy as np

from detparity import engines
from detparity.artifacts import onnx_nms, torchscript_facts
from detparity.artifacts.converted import converted
from detparity.artifacts.input_form import InputForm, channels_last, input_form, integers, pixels
from detparity.artifacts.metadata import class_names, parse
from detparity.artifacts.onnx_decisions import Selection, exposed, plainly, selections
from detparity.artifacts.onnx_graph import OnnxFile
from detparity.artifacts.runtime_file import RuntimeFile
from detparity.artifacts.torchscript_facts import ScriptFile
from detparity.checks.foreign.contract import ForeignContract
from detparity.checks.foreign.truth import Asked, CaseTruth, ForeignOracle, Refuses, exact_truth, grow
from detparity.checks.judging import Fold, Judging, Key
from detparity.core.budget import USUAL, Budget
from detparity.core.case import Case
from detparity.core.clock import Clock
from detparity.core.decisions import BEST, Choice
from detparity.core.endpoint import Endpoint
from detparity.core.environment import peak_bytes
from detparity.core.errors import EngineDied, EngineError
from detparity.core.findings import CannotRun, Check, Outcome
from detparity.core.layout import PRESETS, Layout, fits, generic, in_order, recognise, with_levels
from detparity.core.precision import HALVES, PLAIN, Precision
from detparity.core.vocabulary import Arrays, Artifact, Load, Picture, Runner, Size
from detparity.engines.graph_reference import has_plugin
from detparity.engines.remote import LEAST_SECONDS, client
from detparity.inputs.images import EIGHT_BITS, ROUNDED, batch_of, untied
from detparity.models.reference import EXACT
from detparity.oracle.average_precision import Objects

DECISIONS = frozenset(("TopK", "NonMaxSuppression", "ArgMax", "NonZero", "EfficientNMS_TRT"))
PLUGINS = ("NonMaxSuppression", "EfficientNMS_TRT")
SMALL = (64, 96)  # a size at which few candidates are left, for files that take a fixed number of them
SECONDS_PER_REFERENCE = 20.0  # how many times as long as the reference an engine may take


class OutputsDiffer(Exception):
    """The file has other outputs than the model: nothing can be compared. The text is a clause about the file."""


@dataclass(eq=False)
class ForeignContext(Judging):
    """artifact and its facts, the contract, the oracle of its reference; how: how the contract was found; quick: whether less is
    tried; given_layout: the user's, None where it is to be found; photos: the user's own pictures; on: the engine that was asked
    for; target: of --for."""

    artifact: Artifact
    file: Union[OnnxFile, ScriptFile, RuntimeFile]
    contract: ForeignContract
    oracle: ForeignOracle
    clock: Clock
    checks: Dict[str, Check]
    how: str
    fold: Fold
    quick: bool = False
    given_layout: Optional[Layout] = None
    outcomes: Dict[str, Outcome] = field(default_factory=dict)
    died: Optional[EngineDied] = None
    notes: Dict[str, Any] = field(default_factory=dict)
    photos: Tuple[Picture, ...] = ()
    on: str = ""
    target: str = ""
    endpoint: Optional[Endpoint] = None
    _reported_by: Optional[str] = None
    _runners: Dict[Key, Union[Runner, EngineError]] = field(default_factory=dict)
    _truths: Dict[Tuple[Case, Tuple[bytes, ...]], CaseTruth] = field(default_factory=dict)
    _choices: Dict[Any, Tuple[Choice, ...]] = field(default_factory=dict)
    _exposed: Dict[Any, Runner] = field(default_factory=dict)
    _last: Tuple[Any, Arrays] = field(default_factory=lambda: (None, {}))  # what was predicted last, and for what
    precision: Precision = PLAIN
    budget: Budget = USUAL
    objects: Mapping[Picture, Objects] = field(default_factory=dict)
    hidden: str = ""  # why the file's choices inside the network cannot be shown

    @property
    def onnx(self) -> OnnxFile:
        return self.file  # type: ignore[return-value]

    @property
    def script(self) -> ScriptFile:
        return self.file  # type: ignore[return-value]

    @functools.cached_property
    def form(self) -> InputForm:
        if self.artifact.kind == "onnx":
            return input_form(self.onnx.graph)
        if isinstance(self.file, RuntimeFile):
            image = self.file.inputs[0]
            return InputForm(image.name, "float32" if image.scale else image.dtype, channels_last(image.shape))
        last = channels_last(self.contract.promises.shape or self.oracle.reference.facts.shape)
        taken = self.oracle.reference.facts.image
        return InputForm(dtype=taken if integers(taken) else self.script.image, last=last)

    @functools.cached_property
    def decisions(self) -> str:
        """Operators that decide inside an ONNX file, as text."""
        if self.artifact.kind != "onnx":
            return ""
        return ", ".join(sorted({node.op for node in self.onnx.graph.walk()} & DECISIONS))

    @functools.cached_property
    def suppression(self) -> str:
        """The operator that suppresses boxes in the file; empty where there is none, or it is not known."""
        if self.artifact.kind == "onnx":
            found = onnx_nms.find(self.onnx.graph)
            return "" if found is None else found.node.op
        ops = self.script.ops if isinstance(self.file, ScriptFile) else {}
        return torchscript_facts.SUPPRESSION if torchscript_facts.SUPPRESSION in ops else ""

    def own_engine(self) -> str:
        """The engine for files of its kind; where TensorRT's plugin suppresses in it, the one that has that operator."""
        plugin = self.artifact.kind == "onnx" and has_plugin(self.onnx)
        return self.on or engines.judging(engines.PLUGIN if plugin else self.artifact.kind).name

    def load(self, **how: Any) -> Load:
        return super().load(every=True, **how)

    def seconds(self, images: int) -> float:
        return max(LEAST_SECONDS, SECONDS_PER_REFERENCE * self.oracle.slowest * images)

    def to_blame(self, error: EngineDied) -> bool:
        """A file is at fault where the reference needs under a quarter of the limit on the same input."""
        if error.how in ("crash", "killed"):
            return error.how == "crash"
        try:
            self.oracle.run(EXACT, self.given(self.declared))
        except Refuses:  # what the model needs is not known
            return False
        if error.how == "time":
            return 4 * self.oracle.slowest < error.seconds
        limit = client().child.limits.memory
        return limit is None or 4 * peak_bytes() < limit

    @functools.cached_property
    def declared(self) -> Case:
        """Noise at the declared size and batch."""
        return Case(self.contract.size, tuple(("noise", slot) for slot in range(self.contract.batch)))

    def given(self, case: Case) -> np.ndarray:
        """What the model takes of a case: preprocessed, with a batch axis where it has one, and without ties where it decides."""
        return self._prepared(case, self.oracle.reference.facts.image)

    def fed(self, case: Case) -> np.ndarray:
        """The same as the file takes it, but for the order of its axes."""
        return self._prepared(case, self.form.dtype)

    def _prepared(self, case: Case, dtype: str) -> np.ndarray:
        """The images of a case for who takes this type. What the file is given is what the model is asked about: numbers that one of
        the two cannot hold are given to neither."""
        images = batch_of(case.pictures, case.size)
        if case != self.declared and (self.decisions or self.layout.selected):
            images = untied(images)
        if integers(self.form.dtype) or integers(self.oracle.reference.facts.image):
            images = ROUNDED[EIGHT_BITS](images)
        images = pixels(images, dtype) if integers(dtype) else self.preprocessing.apply(images)
        if self.form.dtype in HALVES and not integers(dtype):
            images = ROUNDED[self.form.dtype](images)
        return images if self.contract.batched else images[0]

    @property
    def preprocessing(self) -> Any:
        stated = self.oracle.reference.facts.preprocessing
        return self.given_layout.preprocessing if self.given_layout is not None else stated

    def predict(self, case: Case, **engine: Any) -> Arrays:
        """What the file gives for a case. Raises EngineError."""
        runner = self.runner(**engine)
        feed = self.feed(case, runner.input_names)
        with self.engine_runs(str(engine.get("engine", "")) or self.engine()):
            found = runner.call(feed)
        if isinstance(self.file, RuntimeFile):
            outputs = converted(found, list(self._exact(case).values()))
        else:
            outputs = {
                name.strip("[]"): array for name, array in found.items()
            }  # keys of a dictionary, as the model's own
        self._last = ((case, tuple(sorted(engine.items()))), outputs)
        return outputs

    def feed(self, case: Case, names: Sequence[str] = ()) -> Arrays:
        """What the file is given of a case, by name; names: of the inputs of its runner, for a runtime whose files name none."""
        images, name = self.fed(case), self.form.image or names[0]
        others = self.contract.promises.beside(len(case.pictures))
        known = [value.name for value in self.form.others] or [f"input {k}" for k, _ in enumerate(others, 1)]
        fed = (
            self.form.feed(name, images, "ones")
            if self.contract.batched
            else {name: images.astype(_dtype(self.form.dtype))}
        )
        return {**fed, **dict(zip(known, others))}

    @functools.cached_property
    def layout(self) -> Layout:
        """What the outputs mean: as given, else by the reference, by the file's metadata, by what the model gives; else generic."""
        outputs = self.named(self.exact_outputs)
        arrays = list(outputs.values())
        if self.given_layout is not None:
            given = with_levels(self.given_layout, arrays)
            if not fits(given, arrays):
                raise OutputsDiffer(f"has outputs that the layout {self.given_layout.name!r} does not fit")
            return given
        stated = PRESETS.get(self.oracle.reference.facts.layout)
        stated = with_levels(in_order(stated, tuple(outputs)), arrays) if stated is not None else None
        if stated is not None and fits(stated, arrays):
            return stated
        return self.recognised(outputs)

    def recognised(self, outputs: Arrays) -> Layout:
        """The layout of outputs by their names and numbers and by the file's metadata."""
        batch = self.contract.batch if self.contract.batched else None
        try:
            return recognise(outputs, self.contract.metadata, batch, self._classes())
        except (ValueError, IndexError):  # metadata that contradicts itself
            return generic([array.shape for array in outputs.values()], batch)

    def _classes(self) -> int:
        """How many classes there are, by the model's names or by the file's; 0 where neither states any."""
        stored = self.contract.metadata.get("names")
        try:
            return len(self.oracle.reference.facts.names) or len(class_names(parse(stored)) if stored else ())
        except ValueError:
            return 0

    def _exact(self, case: Case) -> Arrays:
        try:
            return self.oracle.run(EXACT, self.given(case))
        except Refuses as error:
            raise CannotRun(f"the model does not run at {case}: {error}") from None

    @property
    def exact_outputs(self) -> Arrays:
        """All that the model gives in float64 at the declared size and batch, by its own names and its own choices."""
        return self._exact(self.declared)

    @property
    def uncompared(self) -> int:
        """How many outputs the model gives that the file has not."""
        return len(self.exact_outputs) - len(self.output_names)

    @functools.cached_property
    def output_names(self) -> Tuple[str, ...]:
        """Names of the file's outputs, in order; of TorchScript those that its engine gives."""
        if self.artifact.kind == "onnx":
            return tuple(value.name for value in self.onnx.graph.outputs)
        return tuple(self.predict(self.declared))

    def named(self, outputs: Arrays) -> Dict[str, np.ndarray]:
        """The reference's outputs under the file's names, in the file's order: by name where all are there, else by position.

        Raises OutputsDiffer where there are fewer of them than the file has.
        """
        names = self.output_names
        if set(names) <= set(outputs):
            return {name: outputs[name] for name in names}
        if len(names) > len(outputs):
            raise OutputsDiffer(f"has {len(names)} outputs where the model gives {len(outputs)}")
        values = list(outputs.values())
        return dict(zip(names, values))

    def truth(self, case: Case, choices: Tuple[Choice, ...] = ()) -> CaseTruth:
        """What the reference says of a case, under these choices of the file. Raises Refuses where the model does not take it."""
        key = (case, tuple(one.indices.tobytes() for one in choices))
        if key not in self._truths:
            with self.clock.running():
                self._truths[key] = exact_truth(self.oracle, self._asked(case, choices))
        return self._truths[key]

    def chosen_truth(self, case: Case) -> CaseTruth:
        """The same under the choices that the file makes as it is loaded first."""
        return self.truth(case, self.choices(case))

    def grow(self, case: Case, truth: CaseTruth) -> bool:
        """Let the floors of a case grow by one float32 way; False where there is none left."""
        with self.clock.running():
            return grow(self.oracle, truth, self._asked(case, truth.choices))

    def _asked(self, case: Case, choices: Tuple[Choice, ...]) -> Asked:
        return Asked(self.given(case), case, self.layout, self.named, choices)

    @functools.cached_property
    def _selections(self) -> Tuple[Selection, ...]:
        """Where an ONNX file decides, and the model can be given what it chose."""
        return selections(self.onnx.graph) if self.artifact.kind == "onnx" and self.oracle.forces else ()

    @property
    def takes_best_last(self) -> bool:
        """Whether rows of a selection follow from a TopK, and no learned layer in between."""
        return self.layout.selected and any(one.kind == BEST and not one.learned for one in self._selections)

    @functools.cached_property
    def uncovered(self) -> Tuple[str, ...]:
        """Nodes that decide and whose choices the model cannot be given."""
        if self.artifact.kind != "onnx":
            return ()
        graph = self.onnx.graph
        known = {one.node for one in self._selections}
        deciding = [node for node in graph.walk() if node.op in DECISIONS and node.title not in known]
        inner = [node.title for node in deciding if node not in graph.nodes or node.op in PLUGINS or not known]
        return tuple(inner)

    def choices(self, case: Case, every: bool = False, **engine: Any) -> Tuple[Choice, ...]:
        """What the file chooses inside, if the model can be given it. Of a selection of rows only what learned layers follow, unless
        `every` is asked for: the rest is one region with the rows, which are judged as a set whatever algorithm either side has.

        Raises EngineError; nothing is found where showing the choices changes what the file computes, which `hidden` then says.
        """
        which = [one for one in self._selections if every or one.learned or not self.layout.selected]
        key = (case, every, tuple(sorted(engine.items())))
        if which and not self.hidden and key not in self._choices:
            shown = self._shown(which, case, engine)
            found = [one.choice(shown, self.onnx.graph.constants) for one in which]
            self._choices[key] = tuple(one for one in found if one is not None)
        return () if self.hidden else self._choices.get(key, ())

    def _shown(self, which: Sequence[Selection], case: Case, how: Mapping[str, Any]) -> Arrays:
        """What the file selects from, and what it chose; nothing where the copy that shows it does not load or gives other outputs.
        Where bodies cannot be shown, the rest is."""
        try:
            return self._copied(tuple(which), case, how)
        except EngineError as error:
            outer = tuple(one for one in which if not one.inside)
            if outer and len(outer) < len(which):
                self._selections = tuple(one for one in self._selections if not one.inside)
                return self._shown(outer, case, how)
            self.hidden = str(error)[:200]
        return {}

    def _copied(self, which: Tuple[Selection, ...], case: Case, how: Mapping[str, Any]) -> Arrays:
        """The same of a copy. Raises EngineError where it cannot be used."""
        key = (self.own_engine(), which, tuple(sorted(how.items())))
        feed = self.feed(case)
        with self.engine_runs(self.own_engine()):
            if key not in self._exposed:
                content = exposed(self.artifact.path, which, self.onnx.graph.constants)
                self._exposed[key] = client().prepare(self.own_engine(), content, self.load(**how), self.seconds)
            shown = plainly(self._exposed[key].call(feed))
        same = self._last[0] == (case, tuple(sorted(how.items())))
        for name, array in (self._last[1] if same else self.predict(case, **how)).items():
            if not np.array_equal(shown[name], array, equal_nan=array.dtype.kind == "f"):
                raise EngineError(f"the copy that shows them gives another {name!r}")
        return shown

    def sizes(self) -> List[Size]:
        """Sizes to try beside the declared one, where sizes vary; none of them square, so that exchanged axes show."""
        if not self.contract.varies_size:
            return []
        near = tuple(max(64, side // 64 * 64) for side in self.contract.size)
        found = [(128, 192), (near[0] + 64, near[1])]
        tried = [size for size in found if size != self.contract.size][: 1 if self.quick else 2]
        return [*tried, SMALL] if self.best_of else tried

    @functools.cached_property
    def best_of(self) -> Mapping[str, int]:
        """How many candidates each TopK takes, of those whose number is a constant, by the node's title."""
        if self.artifact.kind != "onnx":
            return {}
        graph = self.onnx.graph
        counts = {
            node.title: graph.constants.get(node.inputs[1])
            for node in graph.nodes
            if node.op == "TopK" and len(node.inputs) > 1
        }
        return {
            title: int(np.ravel(count)[0]) for title, count in counts.items() if count is not None and np.size(count)
        }


def _dtype(name: str) -> np.dtype:
    return np.dtype(name if name in ("float16", "float64", "uint8") else "float32")
