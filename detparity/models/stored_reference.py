"""What a reference gave, in a folder: its runs by the input they were given, so that a verdict repeats without the model's code.

    DIR/reference.json, DIR/run-N.npz

Each run holds the outputs of one input, float64 of the exact run and float32 of each other. Reading executes nothing.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import zipfile
from pathlib import Path
from typing import Any, Dict, Mapping

import numpy as np

from detparity.core.errors import InputError, clipped
from detparity.core.files import write_text
from detparity.core.findings import CannotRun
from detparity.models.reference import CannotRunReference, Reference, ReferenceFacts
from detparity.models.remote_reference import unpacked

INDEX = "reference.json"


class RecordedReference:
    """A reference whose runs are stored in a folder as they are made; `save` writes what finds them again."""

    def __init__(self, reference: Reference, folder: Path) -> None:
        self._reference, self._folder = reference, folder
        self._runs: Dict[str, Any] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._reference, name)

    @property
    def facts(self) -> ReferenceFacts:
        return self._reference.facts

    def run(self, how: str, images: np.ndarray) -> Dict[str, np.ndarray]:
        key = _key(how, images)
        try:
            found = self._reference.run(how, images)
        except CannotRunReference as error:
            self._runs[key] = {"refused": str(error)}
            raise
        if key in self._runs:
            return found
        number = len(self._runs)
        arrays: Dict[str, Any] = {str(k): one for k, one in enumerate(found.values())}
        np.savez_compressed(str(self._folder / f"run-{number}.npz"), **arrays)
        self._runs[key] = {"number": number, "outputs": list(found)}
        return found

    def save(self) -> None:
        facts = {**dataclasses.asdict(self.facts), "code": False}
        write_text(self._folder / INDEX, json.dumps({"facts": facts, "runs": self._runs}, indent=1) + "\n")


class StoredReference:
    """See `models.reference.Reference`. why: there is no module that could be run for anything else."""

    def __init__(self, folder: Path, why: str) -> None:
        self._folder, self._why = folder, why
        try:
            content = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            self._facts, self._runs = unpacked(content["facts"]), dict(content["runs"])
        except OSError:
            raise InputError(f"{folder} holds no outputs of the model, and {why}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{folder / INDEX} is damaged ({clipped(error)}): capture again") from None

    @property
    def facts(self) -> ReferenceFacts:
        return self._facts

    def run(self, how: str, images: np.ndarray) -> Dict[str, np.ndarray]:
        run: Mapping[str, Any] = self._runs.get(_key(how, images), {})
        if "refused" in run:
            raise CannotRunReference(str(run["refused"]))
        if not run:
            raise CannotRun(f"the capture stored no run of the model on this input, and {self._why}")
        path = self._folder / f"run-{int(run['number'])}.npz"
        try:
            with np.load(path, allow_pickle=False) as arrays:
                return {str(name): arrays[str(k)] for k, name in enumerate(run["outputs"])}
        except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is damaged ({clipped(error)}): capture again") from None


def _key(how: str, images: np.ndarray) -> str:
    return f"{how} {images.shape} {images.dtype} {hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()}"
