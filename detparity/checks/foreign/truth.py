"""What a reference says of a case: exact tables of every image, and a noise floor that grows with each float32 way that is run."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, List, Mapping, Tuple

import numpy as np

from detparity.artifacts.input_form import channels_last
from detparity.core.case import Case
from detparity.core.decisions import Choice, Forced
from detparity.core.findings import CannotRun
from detparity.core.layout import Layout, fields_of
from detparity.core.vocabulary import Arrays
from detparity.models.reference import EXACT, CannotRunReference, Reference
from detparity.oracle.noise_floor import Stats
from detparity.oracle.output_floor import Group, floor_of, groups_of, in_order_of, measure, tables_of

BUDGET_BYTES = 400_000_000


class Refuses(Exception):
    """The model refuses an input that the file may take or not; the text is its reason."""


Named = Callable[[Arrays], Arrays]


@dataclass
class ImageTruth:
    """One image: exact tables by the file's output names, its groups, the statistics of each float32 way that was run, and of a
    selection the rows each of them lost and gained against the exact one."""

    tables: Mapping[str, np.ndarray]
    groups: List[Group]
    ways: List[Mapping[Group, Stats]] = field(default_factory=list)
    apart: List[int] = field(default_factory=list)

    def floor(self) -> Dict[Group, Stats]:
        return floor_of(self.tables, self.ways, self.groups)


@dataclass
class CaseTruth:
    """One case: the model's outputs by the file's names, its images, and how many float32 ways were run."""

    outputs: Arrays
    images: List[ImageTruth]
    ran: int = 0


class ForeignOracle:
    """The reference of a run, asked by case. slowest: seconds of its slowest run."""

    def __init__(self, reference: Reference) -> None:
        self.reference = reference
        self.slowest = 0.0
        self.asked = self.worked_out = 0
        self._runs: OrderedDict[Tuple[str, bytes], Arrays] = OrderedDict()

    def taken(self, images: np.ndarray) -> np.ndarray:
        """(B, 3, H, W) or (3, H, W) in the order of axes that the model takes."""
        last = images.ndim == 4 and channels_last(self.reference.facts.shape)
        return images.transpose(0, 2, 3, 1) if last else images

    def run(self, how: str, images: np.ndarray) -> Arrays:
        """One run of the reference, remembered within a budget. Raises Refuses where the model refuses the input."""
        images = self.taken(images)
        key = (f"{how} {images.shape} {images.dtype}", _digest(images))
        self.asked += 1
        if key not in self._runs:
            start = time.perf_counter()
            try:
                self._runs[key] = self.reference.run(how, images)
            except CannotRunReference as error:
                raise Refuses(str(error)) from None
            self.slowest = max(self.slowest, time.perf_counter() - start)
            self.worked_out += 1
            self._trim()
        self._runs.move_to_end(key)
        return self._runs[key]

    def _trim(self) -> None:
        held = sum(array.nbytes for run in self._runs.values() for array in run.values())
        while held > BUDGET_BYTES and len(self._runs) > 1:
            _, run = self._runs.popitem(last=False)
            held -= sum(array.nbytes for array in run.values())


@dataclass(frozen=True)
class Decided:
    """What a file chose inside, forced upon the model. choices: of the file; forced: those that the model could be given; noise: by
    node, the largest error of float32 in the numbers that were chosen from; truth: of the case, under these choices."""

    choices: Tuple[Choice, ...]
    forced: Tuple[Forced, ...]
    noise: Mapping[str, float]
    truth: CaseTruth


def decided_truth(
    oracle: ForeignOracle, images: np.ndarray, layout: Layout, case: Case, named: Named, choices: Tuple[Choice, ...]
) -> Decided:
    """The truth of a case where the model is given the file's choices, in float64 and in each float32 way. Raises Refuses."""
    reference: Any = oracle.reference
    images = oracle.taken(images)
    try:
        outputs, forced = reference.run_forced(EXACT, images, choices)
        runs = [reference.run_forced(how, images, choices) for how in reference.facts.ways]
    except CannotRunReference as error:
        raise Refuses(str(error)) from None
    exact = {one.node: one.scores for one in forced}
    noise = {node: 0.0 for node in exact}
    for _, others in runs:
        for one in others:
            if one.node in exact and one.scores.shape == exact[one.node].shape:
                apart = float(np.abs(one.scores - exact[one.node]).max(initial=0.0))
                noise[one.node] = max(noise[one.node], apart)
    images_truth = []
    for image in range(len(case.pictures)):
        tables = tables_of(layout, named(outputs), image)
        truth = ImageTruth(tables, groups_of(layout, tables, case.size))
        for run, _ in runs:
            mine, yours, lost = paired(tables, tables_of(layout, named(run), image), layout)
            truth.ways.append(measure(mine, yours, truth.groups))
            truth.apart.append(lost)
        images_truth.append(truth)
    found = CaseTruth(named(outputs), images_truth, len(runs))
    return Decided(choices, tuple(forced), noise, found)


def _digest(images: np.ndarray) -> bytes:
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).digest()


def exact_truth(oracle: ForeignOracle, images: np.ndarray, layout: Layout, case: Case, named: Named) -> CaseTruth:
    """The exact part, with the first float32 way. named: gives the reference's outputs the names of the file's."""
    outputs = named(oracle.run(EXACT, images))
    truths = []
    for image in range(len(case.pictures)):
        tables = tables_of(layout, outputs, image)
        truths.append(ImageTruth(tables, groups_of(layout, tables, case.size)))
    found = CaseTruth(outputs, truths)
    grow(oracle, found, images, layout, named)
    return found


def grow(oracle: ForeignOracle, truth: CaseTruth, images: np.ndarray, layout: Layout, named: Named) -> bool:
    """Run the next float32 way; False where all have been."""
    ways = oracle.reference.facts.ways
    if truth.ran >= len(ways):
        return False
    try:
        outputs = named(oracle.run(ways[truth.ran], images))
    except Refuses as error:
        if not truth.ran:
            raise CannotRun(f"the model does not run in float32: {error}") from None
        outputs = {}
    truth.ran += 1
    for image, one in enumerate(truth.images):
        if outputs:
            found = tables_of(layout, outputs, image)
            mine, yours, lost = paired(one.tables, found, layout)
            one.ways.append(measure(mine, yours, one.groups))
            one.apart.append(lost)
    return True


def paired(
    truth: Mapping[str, np.ndarray], found: Mapping[str, np.ndarray], layout: Layout
) -> Tuple[Mapping[str, np.ndarray], Mapping[str, np.ndarray], int]:
    """Tables whose rows correspond: as they are or, of a selection, matched; with the number of rows left over on either side."""
    if not layout.selected:
        return truth, found, 0
    mine, yours, measured = in_order_of(truth, found, layout, slack_of(truth, layout))
    return mine, yours, sum(map(len, measured.unmatched))


def slack_of(tables: Mapping[str, np.ndarray], layout: Layout) -> Dict[str, float]:
    """How far columns of one row may be apart to be taken for the same row, by field: what two rows of a detector hardly share by
    chance (a hundredth of the spread of a box column, a thousandth of a score). Whether the pair is right is judged in floors."""
    found: Dict[str, float] = {}
    for one, values in zip(layout.outputs, tables.values()):
        for part in fields_of(one, values.shape[1]):
            columns = values[:, part.start : part.stop]
            spread = float(np.ptp(columns)) if columns.size else 0.0
            found[part.name] = max(1e-3 if part.role == "score" else 0.01 * spread, 1e-9)
    return found
