"""What a reference says of a case: exact tables of every image, and a noise floor that grows with each float32 way that is run."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.artifacts.input_form import channels_last
from detparity.core.case import Case
from detparity.core.decisions import LARGE, SUPPRESSION, Choice, Forced
from detparity.core.findings import CannotRun
from detparity.core.layout import NUMBER, Field, Layout, fields_of
from detparity.core.precision import FLOAT32, LEAST_ERROR
from detparity.core.vocabulary import Arrays
from detparity.models.reference import EXACT, CannotRunReference, Reference
from detparity.oracle.noise_floor import EPS32, SIGMOID_MOST, Stats, limit
from detparity.oracle.output_floor import Group, floor_of, groups_of, in_order_of, measure, tables_of
from detparity.oracle.suppressed import overlap_move

BUDGET_BYTES = 400_000_000
BOXES = " boxes"
WIDER = 4  # times that the rows of a float32 way are matched again, within what those that matched differ by


class Refuses(Exception):
    """The model refuses an input that the file may take or not; the text is its reason."""


Named = Callable[[Arrays], Arrays]


@dataclass
class ImageTruth:
    """One image: exact tables by the file's output names, its groups, the statistics of each float32 way that was run, and of a
    selection the rows each of them lost and gained against the exact one; least: see `LEAST_ERROR`."""

    tables: Mapping[str, np.ndarray]
    groups: List[Group]
    ways: List[Mapping[Group, Stats]] = field(default_factory=list)
    apart: List[int] = field(default_factory=list)
    least: float = EPS32

    def floor(self) -> Dict[Group, Stats]:
        return floor_of(self.tables, self.ways, self.groups, self.least)


@dataclass
class CaseTruth:
    """One case: the model's outputs by the file's names, its images, how many float32 ways were run, and the choices of the file that
    all of them were given. forced: those that the model could be given, in float64; decided: the numbers they were made from, by
    node, judged as outputs are; moves: how far corners move in float32, by what their overlaps differ."""

    outputs: Arrays
    images: List[ImageTruth]
    ran: int = 0
    choices: Tuple[Choice, ...] = ()
    forced: Tuple[Forced, ...] = ()
    decided: Dict[str, ImageTruth] = field(default_factory=dict)
    moves: Dict[str, float] = field(default_factory=dict)

    def noise(self, key: str) -> float:
        """The largest error of float32 in the numbers of a choice, by `Forced.key`; of its boxes by `KEY boxes`."""
        one = self.decided[key[: -len(BOXES)] if key.endswith(BOXES) else key]
        values = np.abs(one.tables[key])
        usual = float(np.median(values[values < LARGE])) if bool((values < LARGE).any()) else 0.0
        least = max(one.least * usual, SIGMOID_MOST if bool((values <= 1).all()) else 0.0)
        found = (stats.max for run in one.ways for group, stats in run.items() if group.output == key)
        return max([least, *(value for value in found if np.isfinite(value))])

    def move(self, key: str) -> float:
        """How far a corner of a suppression's boxes moves in float32, by `Forced.key`: at the least by a rounding."""
        boxes = np.abs(self.decided[key].tables[key + BOXES])
        least = self.decided[key].least * float(np.median(boxes)) if boxes.size else 0.0
        return max(least, self.moves[key] if key in self.moves else self.noise(key + BOXES))

    def unfollowed(self) -> List[str]:
        """Nodes whose choice was certified, and is not the one that the outputs were computed from."""
        return [one.node for one in self.forced if not one.followed]

    def unmatched(self) -> List[Choice]:
        """Choices that the model could not be given."""
        known = {one.node for one in self.forced if one.followed}
        return [one for one in self.choices if one.node not in known]


Run = Tuple[Arrays, Tuple[Forced, ...]]


class ForeignOracle:
    """The reference of a run, asked by case. slowest: seconds of its slowest run."""

    def __init__(self, reference: Reference, precision: str = FLOAT32) -> None:
        self.reference, self.precision = reference, precision
        self.slowest = 0.0
        self.asked = self.worked_out = 0
        self._runs: OrderedDict[Tuple[str, bytes], Run] = OrderedDict()

    @property
    def least(self) -> float:
        return LEAST_ERROR[self.precision]

    @property
    def ways(self) -> Tuple[str, ...]:
        """Names of the runs that the noise is measured by."""
        return self.reference.facts.ways

    @property
    def forces(self) -> bool:
        """Whether the reference can be given a file's choices."""
        return hasattr(self.reference, "run_forced")

    def taken(self, images: np.ndarray) -> np.ndarray:
        """(B, 3, H, W) or (3, H, W) in the order of axes that the model takes."""
        last = images.ndim == 4 and channels_last(self.reference.facts.shape)
        return images.transpose(0, 2, 3, 1) if last else images

    def run(self, how: str, images: np.ndarray) -> Arrays:
        """One run of the reference, remembered within a budget. Raises Refuses where the model refuses the input."""
        return self.run_forced(how, images, ())[0]

    def run_forced(self, how: str, images: np.ndarray, choices: Sequence[Choice]) -> Run:
        """The same under a file's choices, with those that the model could be given."""
        images = self.taken(images)
        chosen = b"".join(_digest(one.indices) for one in choices)
        key = (f"{how} {images.shape} {images.dtype}", _digest(images) + chosen)
        self.asked += 1
        if key not in self._runs:
            start = time.perf_counter()
            reference: Any = self.reference
            try:
                if choices:
                    outputs, forced = reference.run_forced(how, images, choices)
                    self._runs[key] = outputs, tuple(forced)
                else:
                    self._runs[key] = reference.run(how, images), ()
            except CannotRunReference as error:
                raise Refuses(str(error)) from None
            self.slowest = max(self.slowest, time.perf_counter() - start)
            self.worked_out += 1
            self._trim()
        self._runs.move_to_end(key)
        return self._runs[key]

    def decisions(self, images: np.ndarray) -> Tuple[Choice, ...]:
        """What the reference chooses by itself in float64; nothing where it cannot be asked."""
        reference: Any = self.reference
        try:
            return tuple(reference.decisions(self.taken(images))) if hasattr(reference, "decisions") else ()
        except CannotRunReference:
            return ()

    def suppresses(self, images: np.ndarray) -> Optional[bool]:
        """Whether the reference suppresses boxes; None where it cannot be asked."""
        reference: Any = self.reference
        if not hasattr(reference, "decisions"):
            return None
        try:
            return any(one.kind == SUPPRESSION for one in reference.decisions(self.taken(images)))
        except CannotRunReference:
            return None

    def _trim(self) -> None:
        held = sum(_bytes(run) for run in self._runs.values())
        while held > BUDGET_BYTES and len(self._runs) > 1:
            _, run = self._runs.popitem(last=False)
            held -= _bytes(run)


def _bytes(run: Run) -> int:
    return sum(array.nbytes for array in run[0].values()) + sum(one.scores.nbytes for one in run[1])


def _digest(images: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).digest()


@dataclass(frozen=True)
class Asked:
    """What the reference is asked: images as they are fed, their case, the layout of its outputs, how they get the names of the
    file's, and the choices of the file that it is given."""

    images: np.ndarray
    case: Case
    layout: Layout
    named: Named
    choices: Tuple[Choice, ...] = ()


def exact_truth(oracle: ForeignOracle, asked: Asked) -> CaseTruth:
    """The exact part, with the first float32 way."""
    outputs, forced = oracle.run_forced(EXACT, asked.images, asked.choices)
    outputs = asked.named(outputs)
    truths = []
    for image in range(len(asked.case.pictures)):
        tables = tables_of(asked.layout, outputs, image)
        truths.append(ImageTruth(tables, groups_of(asked.layout, tables, asked.case.size), least=oracle.least))
    found = CaseTruth(outputs, truths, choices=asked.choices, forced=forced)
    found.decided = {one.key: _numbers_of(one, oracle.least) for one in forced}
    grow(oracle, found, asked)
    return found


def _numbers_of(forced: Forced, least: float = EPS32) -> ImageTruth:
    """The numbers a choice was made from, as an output of one column."""
    tables = {forced.key: forced.scores.reshape(-1, 1)}
    if forced.boxes is not None:
        tables[forced.key + BOXES] = forced.boxes
    groups = [Group(name, 0, 0, len(values), Field("numbers", 0, None, NUMBER)) for name, values in tables.items()]
    return ImageTruth(tables, groups, least=least)


def grow(oracle: ForeignOracle, truth: CaseTruth, asked: Asked) -> bool:
    """Run the next float32 way; False where all have been."""
    ways = oracle.reference.facts.ways
    if truth.ran >= len(ways):
        return False
    forced: Tuple[Forced, ...] = ()
    try:
        outputs, forced = oracle.run_forced(ways[truth.ran], asked.images, truth.choices)
        outputs = asked.named(outputs)
    except Refuses as error:
        if not truth.ran:
            raise CannotRun(f"the model does not run in {oracle.precision}: {error}") from None
        outputs = {}
    truth.ran += 1
    for image, one in enumerate(truth.images):
        if outputs:
            found = tables_of(asked.layout, outputs, image)
            mine, yours, lost = paired_wider(one.tables, found, asked.layout)
            one.ways.append(measure(mine, yours, one.groups))
            one.apart.append(lost)
    for choice in forced:
        exact = truth.decided.get(choice.key)
        if exact is not None and exact.tables[choice.key].size == choice.scores.size:
            exact.ways.append(measure(exact.tables, _numbers_of(choice).tables, exact.groups))
            if choice.boxes is not None:
                own = next(one for one in truth.forced if one.key == choice.key)
                truth.moves[choice.key] = max(truth.moves.get(choice.key, 0.0), overlap_move(own, choice))
    return True


Tables = Mapping[str, np.ndarray]


def paired(truth: Tables, found: Tables, layout: Layout, floor: Mapping[Group, Stats]) -> Tuple[Tables, Tables, int]:
    """Tables whose rows correspond: as they are or, of a selection, matched by `slack_for`; with the number of rows left over on
    either side."""
    if not layout.selected:
        return truth, found, 0
    mine, yours, measured = in_order_of(truth, found, layout, slack_for(truth, layout, floor))
    return mine, yours, sum(map(len, measured.unmatched))


def paired_wider(truth: Tables, found: Tables, layout: Layout) -> Tuple[Tables, Tables, int]:
    """The same for a float32 way, whose floor is not known before: what those that match differ by, where some match none."""
    mine, yours, lost = paired(truth, found, layout, {})
    for _ in range(WIDER):
        if not lost:
            break
        groups = groups_of(layout, mine, (0, 0))
        mine, yours, still = paired(truth, found, layout, floor_of(mine, [measure(mine, yours, groups)], groups))
        if still == lost:
            break
        lost = still
    return mine, yours, lost


def slack_for(tables: Tables, layout: Layout, floor: Mapping[Group, Stats], closely: bool = False) -> Dict[str, float]:
    """How far columns of one row may be apart by `slack_of`, and by what the limits allow of this floor; closely: by that alone."""
    slack = {name: 1e-9 if closely else value for name, value in slack_of(tables, layout).items()}
    for group, stats in floor.items():
        allowed = stats.max * limit("max", max(group.of(tables).size, 1))
        slack[group.field.name] = max(slack[group.field.name], allowed if np.isfinite(allowed) else 0.0)
    return slack


def slack_of(tables: Tables, layout: Layout) -> Dict[str, float]:
    """How far columns of one row may be apart, at the least, to be taken for the same row, by field: what two rows of a detector
    hardly share by chance (a hundredth of the spread of a box column, a thousandth of a score). Whether the pair is right is judged
    in floors."""
    found: Dict[str, float] = {}
    for one, values in zip(layout.outputs, tables.values()):
        for part in fields_of(one, values.shape[1]):
            columns = values[:, part.start : part.stop]
            spread = float(np.ptp(columns)) if columns.size else 0.0
            found[part.name] = max(1e-3 if part.role == "score" else 0.01 * spread, 1e-9)
    return found
