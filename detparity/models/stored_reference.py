"""What a reference gave, in a folder: its runs by the input they were given, so that a verdict repeats without the model's code.

    DIR/reference.json, DIR/run-N.npz

Each run holds the outputs of one input, float64 of the exact run and float32 of each other; of a run that was given what a file
chose, those choices by digest, and the numbers that the model read there. Reading executes nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any, Dict, List, Mapping, Sequence, Tuple

import numpy as np

from detparity.core.decisions import BEST, NEAR, SUPPRESSION, Choice, Forced, apart, from_message, to_message
from detparity.core.errors import InputError, clipped
from detparity.core.files import write_text
from detparity.core.findings import CannotRun
from detparity.models.reference import CannotRunReference, Reference, ReferenceFacts
from detparity.models.remote_reference import unpacked

INDEX = "reference.json"
FORMAT = "detparity-outputs-2"
Outputs = Dict[str, np.ndarray]


class RecordedReference:
    """A reference whose runs are stored in a folder as they are made; `save` writes what finds them again."""

    def __init__(self, reference: Reference, folder: Path) -> None:
        self._reference, self._folder = reference, folder
        self._runs: Dict[str, List[Dict[str, Any]]] = {}
        self._count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reference, name)

    @property
    def facts(self) -> ReferenceFacts:
        return self._reference.facts

    def run(self, how: str, images: np.ndarray) -> Outputs:
        return self.run_forced(how, images, ())[0]

    def run_forced(self, how: str, images: np.ndarray, choices: Sequence[Choice]) -> Tuple[Outputs, List[Forced]]:
        """See `ModuleReference.run_forced`."""
        runs = self._runs.setdefault(_key(how, images), [])
        made = _described(choices)
        reference: Any = self._reference
        try:
            outputs, forced = reference.run_forced(how, images, choices)
        except CannotRunReference as error:
            runs.append({"refused": str(error), "choices": made})
            raise
        if all(run.get("choices") != made for run in runs):
            described, arrays = to_message(forced, "forced")
            arrays.update({f"output {k}": one for k, one in enumerate(outputs.values())})
            stored: Dict[str, Any] = dict(arrays)
            np.savez_compressed(str(self._folder / f"run-{self._count}.npz"), **stored)
            runs.append({"number": self._count, "outputs": list(outputs), "choices": made, "forced": described})
            self._count += 1
        return outputs, forced

    def save(self) -> None:
        facts = {**dataclasses.asdict(self.facts), "code": False}
        content = {"format": FORMAT, "facts": facts, "runs": self._runs}
        write_text(self._folder / INDEX, json.dumps(content, indent=1) + "\n")


class StoredReference:
    """See `models.reference.Reference`. why: there is no module that could be run for anything else."""

    def __init__(self, folder: Path, why: str) -> None:
        self._folder, self._why = folder, why
        try:
            content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            if content.get("format") != FORMAT:
                raise InputError(f"{folder / INDEX} is of another version of detparity: capture again")
            self._facts, self._runs = unpacked(content["facts"]), dict(content["runs"])
        except OSError:
            raise InputError(f"{folder} holds no outputs of the model, and {why}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._damaged(INDEX, error) from None

    @property
    def facts(self) -> ReferenceFacts:
        return self._facts

    def run(self, how: str, images: np.ndarray) -> Outputs:
        return self.run_forced(how, images, ())[0]

    def run_forced(self, how: str, images: np.ndarray, choices: Sequence[Choice]) -> Tuple[Outputs, List[Forced]]:
        """The stored run whose choices are these, or agree with them the longest. Of such a one, the choices up to the first that
        differs: what follows was computed from another, as its `followed` says."""
        runs = self._runs.get(_key(how, images), [])
        try:
            fitting = [run for run in runs if "refused" not in run and (choices or not run["choices"])]
            for run in runs:
                if "refused" in run and (not fitting or _same(run["choices"], _described(choices))):
                    raise CannotRunReference(str(run["refused"]))
            if not fitting:
                raise CannotRun(f"the capture stored no run of the model on this input, and {self._why}")
            best = max(fitting, key=lambda run: _agreement(run, choices))
            outputs, forced = self._read(best)
            return outputs, _agreeing(forced, _partners(best, choices))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise self._damaged(INDEX, error) from None

    def _read(self, run: Mapping[str, Any]) -> Tuple[Outputs, List[Forced]]:
        name = f"run-{int(run['number'])}.npz"
        try:
            with np.load(self._folder / name, allow_pickle=False) as stored:
                arrays = dict(stored)
            outputs = {str(key): arrays[f"output {k}"] for k, key in enumerate(run["outputs"])}
            forced: List[Forced] = from_message(Forced, run["forced"], arrays, "forced")
        except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile) as error:
            raise self._damaged(name, error) from None
        return outputs, forced

    def _damaged(self, name: str, error: Exception) -> InputError:
        return InputError(f"{self._folder / name} is damaged ({clipped(error)}): capture again")


def _key(how: str, images: np.ndarray) -> str:
    return f"{how} {images.shape} {images.dtype} {_digest(images)}"


def _digest(values: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()


def _described(choices: Sequence[Choice]) -> List[Dict[str, Any]]:
    """What finds the choices of a run again, whatever the nodes are called."""
    return [
        {
            "node": one.node,
            "kind": one.kind,
            "shape": list(one.scores.shape),
            "axis": one.axis,
            "indices": _digest(one.rows if one.kind == BEST else one.indices.astype(np.int64)),
        }
        for one in choices
    ]


def _partners(run: Mapping[str, Any], choices: Sequence[Choice]) -> Dict[str, Tuple[Choice, bool]]:
    """For each node of a stored run the choice of another file that was made in its place, and whether it is the same."""
    left = list(zip(choices, _described(choices)))
    found: Dict[str, Tuple[Choice, bool]] = {}
    for stored in run["choices"]:
        at = next((k for k, (_, one) in enumerate(left) if _form(one) == _form(stored)), None)
        if at is not None:
            choice, own = left.pop(at)
            found[stored["node"]] = (choice, own["indices"] == stored["indices"])
    return found


def _same(one: Sequence[Mapping[str, Any]], other: Sequence[Mapping[str, Any]]) -> bool:
    """Whether these are the same choices, whatever their nodes are called."""
    return [{**choice, "node": ""} for choice in one] == [{**choice, "node": ""} for choice in other]


def _form(described: Mapping[str, Any]) -> Tuple[Any, ...]:
    return described["kind"], list(described["shape"]), described["axis"]


def _agreement(run: Mapping[str, Any], choices: Sequence[Choice]) -> int:
    """How many choices of a stored run, in the order they ran, are those of a file before one that is not."""
    partners = _partners(run, choices)
    same = [partners[one["node"]][1] if one["node"] in partners else False for one in run["forced"]]
    return [*same, False].index(False)


def _agreeing(forced: Sequence[Forced], partners: Mapping[str, Tuple[Choice, bool]]) -> List[Forced]:
    """What a stored run was given, under the nodes of another file, up to the first choice that differs. That one still shows the
    numbers it was made from; not so where the file chose from others, or suppressed."""
    found: List[Forced] = []
    for one in forced:
        if one.node not in partners:
            break
        choice, same = partners[one.node]
        if one.kind == SUPPRESSION and not same:
            break
        if one.kind != SUPPRESSION and apart(choice.scores.reshape(one.scores.shape), one.scores) > NEAR:
            break
        found.append(dataclasses.replace(one, node=choice.node, followed=same))
        if not same:
            break
    return found
