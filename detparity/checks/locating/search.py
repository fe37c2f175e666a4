"""Where a file stops being its model: which of its tensors are the model's, and which, given the model's numbers, do not give them.

A tensor of the file is the model's where their values agree within the noise of the file's own precision. Behind a fault nothing
agrees any more, until the tensor that it spoils is given the model's numbers: the pair of tensors for which most then agrees is the
fault. At the end each tensor is worked out from the model's numbers alone, so that no error is followed downstream.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Iterator, List, Mapping, Sequence, Set, Tuple

import numpy as np

from detparity.checks.locating.flow import Flow, flow
from detparity.checks.locating.matching import Index, Match, Noise, noise_of
from detparity.checks.locating.program import Part, Program
from detparity.core.trace import IMAGE, Step, Trace

MOST_FAULTS = 8  # independent faults that are looked for
NEXT = 6  # tensors of the file, in order, that are tried for one of them
LIKELY = 3  # of the model's tensors, by each rule


@dataclass(frozen=True)
class Fault:
    """Something that gives other numbers than the model, from the model's own numbers.

    tensor: of the file; parts: of the file that make it; steps: of the model that make what it should be, and their numbers; made: the
    number of that value;
    error and noise: root mean square, of this part alone; largest: of the noise; scale: of the model's numbers; proved: whether all
    or part of what follows is the model's once the tensor is.
    """

    tensor: str
    parts: Tuple[Part, ...]
    steps: Tuple[Step, ...]
    made: int
    error: float
    noise: float
    largest: float
    scale: float
    proved: bool
    numbers: Tuple[int, ...] = ()

    @property
    def module(self) -> str:
        """Path of the innermost module that holds everything that may be wrong."""
        return common([step.module for step in self.steps])

    @property
    def part(self) -> Part:
        """The first operator that may be wrong."""
        return self.parts[0]


@dataclass(frozen=True)
class Located:
    """faults: in the order of the file; same: how many tensors of the file are the model's; of: how many it has; ends: whether every
    output of the file was reached."""

    faults: Tuple[Fault, ...]
    same: int
    of: int
    ends: bool


def common(paths: Sequence[str]) -> str:
    """The deepest module that holds all of these."""
    parts = [path.split(".") if path else [] for path in paths]
    found: List[str] = []
    for level in zip(*parts):
        if len(set(level)) > 1:
            break
        found.append(level[0])
    return ".".join(found)


class Search:
    """One search. pairs: tensors of the file that are given the model's numbers, each with what it should be."""

    def __init__(self, trace: Trace, program: Program) -> None:
        self.trace, self.program = trace, program
        self.index = Index(trace)
        self.tensors = [name for part in program.parts for name in part.makes]
        self.makers: Dict[str, Part] = {name: part for part in program.parts for name in part.makes}
        fixed = {number for number, step in enumerate(trace.steps) if step.fixed}
        self.file: Flow[str] = flow({name: self.makers[name].reads for name in self.tensors}, program.fixed)
        self.model: Flow[int] = flow({number: step.reads for number, step in enumerate(trace.steps)}, fixed)
        self.exact = dict(program.exact({}, self.tensors))
        self.noise = noise_of(self.exact, program.rounded({}, self.tensors))
        self.shapes = {name: value.shape for name, value in self.exact.items()}
        self.known: Dict[str, Match] = {program.image: Match(IMAGE, None, trace.values[IMAGE].shape)}
        self.values: Set[int] = {IMAGE}
        self.first: Dict[int, int] = {IMAGE: IMAGE}  # of values that are equal, the first
        self.pairs: Dict[str, Match] = {}
        self._take(self._matched(self.exact))

    def located(self) -> Located:
        while len(self.pairs) < MOST_FAULTS and self._lost() and self.model.lost(self.values) and self._next():
            pass
        self._pair_outputs()
        return Located(tuple(self._faults()), len(self.known) - 1, len(self.tensors), not self._lost())

    def _pair_outputs(self) -> None:
        """An output of the file that is none of the model's outputs, where the model has one of as many numbers that no other output
        of the file is: what a file does to it is more, or less, than the model does."""
        made = {self._class(number) for number in self.trace.outputs}
        mine = {name: self._class(self.known[name].value) for name in self.program.outputs if name in self.known}
        for name in self.program.outputs:
            if mine.get(name) in made or name not in self.exact or name == self.program.image:
                continue
            size = self.exact[name].size
            same = {number for number in made - set(mine.values()) if self.trace.values[number].size == size}
            if len(same) == 1:
                match = Match(next(iter(same)), None, self.shapes[name])
                self.pairs[name] = match
                self._take({name: [match]})

    def _lost(self) -> List[str]:
        return [
            name for name in self.file.lost(set(self.known)) if self.shapes[name] and np.prod(self.shapes[name]) > 1
        ]

    def _matched(self, found: Mapping[str, np.ndarray]) -> Dict[str, List[Match]]:
        silent = Noise(0.0, 0.0)
        every = {name: self.index.matches(value, self.noise.get(name, silent)) for name, value in found.items()}
        return {name: matches for name, matches in every.items() if matches}

    def _take(self, matched: Mapping[str, List[Match]]) -> None:
        for name, matches in matched.items():
            self.known[name] = matches[0]
            lowest = min(self.first.get(one.value, one.value) for one in matches)
            for one in matches:
                self.first[one.value] = lowest
                self.values.add(one.value)

    def given(self, name: str) -> np.ndarray:
        """The model's numbers for a tensor of the file."""
        return self.index.laid(self.known[name])

    def _given(self) -> Dict[str, np.ndarray]:
        known = {name: match for name, match in self.known.items() if name != self.program.image}
        return {name: self.index.laid(match) for name, match in known.items()}

    def _next(self) -> bool:
        """Find the next pair; whether there is one."""
        best: Dict[str, List[Match]] = {}
        pair, most = None, 0
        missing = [name for name in self.tensors if name not in self.known]
        ends = len(self._lost())
        for name, match in self._candidates():
            matched, broken = self._tried(name, match, [one for one in missing if one != name])
            if len(matched) - broken > most or (
                pair is None and name in self.program.outputs and match.value in self.trace.outputs
            ):
                best, pair, most = matched, (name, match), len(matched) - broken
            if pair == (name, match) and not broken and self._left({*self.known, *best, name}) == 0:
                break
        if pair is None or ends == 0:
            return False
        self.pairs[pair[0]] = pair[1]
        self._take({pair[0]: [pair[1]], **best})
        return True

    def _tried(self, name: str, match: Match, missing: Sequence[str]) -> Tuple[Dict[str, List[Match]], int]:
        """What is the model's once a tensor is given its numbers, and how many of its readers, which were the model's, then are not:
        of a tensor and its copy, one of which should be another, the copy is what breaks nothing."""
        right = [one for one in self.file.readers.get(name, ()) if one in self.known and one not in self.pairs]
        given = {**self._given(), name: self.index.laid(match)}
        shown = [*missing, *right]
        values = self.program.exact(given, shown) if shown else {}
        found = {one: values.pop(one) for one in right}
        return self._matched(values), sum(not self._is(one, value, given[one]) for one, value in found.items())

    def _is(self, name: str, found: np.ndarray, expected: np.ndarray) -> bool:
        """How many numbers there are follows from what is chosen, and says nothing."""
        return found.shape != expected.shape or self.noise.get(name, Noise(0.0, 0.0)).allows(found, expected)

    def _left(self, known: Set[str]) -> int:
        return sum(int(np.prod(self.shapes[name])) > 1 for name in self.file.lost(known))

    def _candidates(self) -> Iterator[Tuple[str, Match]]:
        """Pairs to try, tensors of the file in order; for each what is made of the same tensors, what is similar, what comes first.

        Before a tensor that is not the model's comes one that it reads and that another tensor equals: it may be all that is left of
        an operator, or be made of something else."""
        lost = [number for number in self.model.lost(self.values) if number not in self.values]
        seen: Set[str] = set()
        for name in self._lost()[:NEXT]:
            ends, _ = self.file.before(name, set(self.known))
            for one in (*filter(self._doubled, ends), name):
                if one not in seen:
                    seen.add(one)
                    yield from ((one, Match(number, None, self.shapes[one])) for number in self._ranked(one, lost))

    def _ranked(self, name: str, lost: Sequence[int]) -> List[int]:
        ends, _ = self.file.before(name, set(self.known) - {name})
        mine = {self._class(self.known[end].value) for end in ends}
        size = self.exact[name].size
        there = [number for number in lost if self.trace.values[number].size == size]
        shared = {number: self._shared(mine, number) for number in there}
        likeness = {number: self._likeness(name, number) for number in there}
        best = sorted(there, key=lambda number: (-shared[number], -likeness[number]))[:LIKELY]
        first = sorted(there, key=lambda number: (-shared[number], number))[:LIKELY]
        passed = [number for number in mine if self.trace.values[number].size == size and name not in self.known]
        return list(dict.fromkeys((*best, *first, *passed)))

    def _shared(self, mine: Set[int], number: int) -> float:
        theirs = {self._class(one) for one in self.model.before(number, self.values)[0]}
        return round(len(mine & theirs) / max(len(mine | theirs), 1), 3)

    def _doubled(self, name: str) -> bool:
        """Whether another tensor that is known, perhaps one that its own node reads, is the same one of the model."""
        mine = self._class(self.known[name].value)
        return name in self.makers and any(
            one != name and self._class(match.value) == mine for one, match in self.known.items()
        )

    def _class(self, number: int) -> int:
        return self.first.get(number, number)

    def _likeness(self, name: str, number: int) -> float:
        one, other = self.exact[name].reshape(-1), self.trace.values[number].reshape(-1)
        if not np.isfinite(one).all():
            return 0.0
        one, other = one - one.mean(), other - other.mean()
        scale = float(np.sqrt((one**2).sum() * (other**2).sum()))
        return abs(float((one * other).sum())) / scale if scale else 0.0

    def _faults(self) -> Iterator[Fault]:
        """What is wrong where every tensor that is known is worked out from the others alone."""
        given = self._given()
        names = list(given)
        local = self.program.exact(given, names)
        noise = noise_of(local, self.program.rounded(given, names))
        for name in self.tensors:
            if name in given and local[name].shape != given[name].shape:
                continue  # how many numbers there are follows from what is chosen
            if name in given and not noise.get(name, Noise(0.0, 0.0)).allows(local[name], given[name]):
                yield self._fault(name, local[name], given[name], noise.get(name, Noise(0.0, 0.0)))

    def _fault(self, name: str, found: np.ndarray, expected: np.ndarray, noise: Noise) -> Fault:
        others = set(self.known) - {name}
        parts = {id(self.makers[one]): self.makers[one] for one in self.file.before(name, others)[1]}
        made = self.known[name].value
        inserted = name in self.pairs and self.first.get(made, made) != made
        same = {number for number in self.values if self._class(number) == self._class(made)}
        between = [made] if inserted else self.model.before(made, self.values - same)[1]
        with np.errstate(invalid="ignore"):
            error = float(np.sqrt(np.mean((found - expected) ** 2)))
        steps = tuple(self.trace.steps[number] for number in between)
        scale = float(np.sqrt(np.mean(expected**2)))
        file = tuple(parts.values())
        proved = name in self.pairs
        return Fault(name, file, steps, made, error, noise.rms, noise.largest, scale, proved, tuple(between))
