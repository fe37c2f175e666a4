"""The reference of a model that is made by the user's own code or by a foreign package, in a child process.

That process may not write outside its scratch folder, start programs or open connections; it has limits of memory and time. Its end,
and its errors, are input that the user can correct.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import numpy as np

from detparity.core import environment
from detparity.core.decisions import Choice, Forced, from_message, to_message
from detparity.core.errors import InputError
from detparity.core.isolate import Child, Died, Limits, Refused
from detparity.core.text import printable
from detparity.core.trace import Trace
from detparity.core.trace import from_message as trace_from
from detparity.models.reference import CannotRunReference, ModelRequest, Preprocessing, ReferenceFacts

MEMORY_SHARE = 0.5  # of the machine's memory, that the model may take
_IDLE: List[Child] = []  # servers whose model is closed: they have imported torch
SECONDS = 300.0  # for making it, the imports of its package included, and for any run


class RemoteReference:
    """See `models.reference.Reference`. Made at once. Raises InputError where no model comes of the request."""

    def __init__(self, request: ModelRequest, seconds: float = SECONDS) -> None:
        _require_torch()
        self._child = _IDLE.pop() if _IDLE else _child()
        self._seconds = seconds
        self._request = replace(request, spec=absolute(request.spec))
        self._generation, self._closed = 0, False
        self._facts: Optional[ReferenceFacts] = None
        try:
            self._make()
        except BaseException:
            self.close()
            raise

    @property
    def facts(self) -> ReferenceFacts:
        assert self._facts is not None
        return self._facts

    @property
    def confinement(self) -> str:
        """What holds for the process, in one line."""
        return self._child.confinement

    def run(self, how: str, images: np.ndarray) -> Dict[str, np.ndarray]:
        return self.run_forced(how, images, ())[0]

    def run_forced(
        self, how: str, images: np.ndarray, choices: Sequence[Choice]
    ) -> Tuple[Dict[str, np.ndarray], List[Forced]]:
        """See `ModuleReference.run_forced`."""
        if self._generation != self._child.generation:
            self._make()
        described, arrays = to_message(choices, "choice")
        content, found = self._ask("run", {"way": how, "choices": described}, {"images": images, **arrays})
        self._facts = unpacked(content["facts"])
        forced: List[Forced] = from_message(Forced, content["forced"], found, "forced")
        return {name: found[name] for name in content["order"]}, forced

    def decisions(self, images: np.ndarray) -> List[Choice]:
        """See `ModuleReference.decisions`."""
        if self._generation != self._child.generation:
            self._make()
        content, found = self._ask("decisions", {}, {"images": images})
        choices: List[Choice] = from_message(Choice, content["choices"], found, "choice")
        return choices

    def trace(self, images: np.ndarray) -> Trace:
        """See `ModuleReference.trace`."""
        if self._generation != self._child.generation:
            self._make()
        return trace_from(*self._ask("trace", {}, {"images": images}))

    def weights(self) -> Dict[str, np.ndarray]:
        """See `ModuleReference.weights`."""
        if self._generation != self._child.generation:
            self._make()
        content, found = self._ask("weights", {}, {})
        return {name: found[f"weight {index}"] for index, name in enumerate(content["order"])}

    def islands(self, precision: str, images: np.ndarray) -> List[Tuple[str, Dict[str, np.ndarray]]]:
        """See `ModuleReference.islands`."""
        if self._generation != self._child.generation:
            self._make()
        content, found = self._ask("islands", {"precision": precision}, {"images": images})
        return [
            (title, {name: found[f"{index} {name}"] for name in names})
            for index, (title, names) in enumerate(content["parts"])
        ]

    def weights_read(self, images: np.ndarray) -> List[str]:
        """See `ModuleReference.weights_read`."""
        if self._generation != self._child.generation:
            self._make()
        return list(self._ask("weights_read", {}, {"images": images})[0]["names"])

    def run_scaled(
        self, how: str, weight: Tuple[str, float], images: np.ndarray, choices: Sequence[Choice] = ()
    ) -> Dict[str, np.ndarray]:
        """See `ModuleReference.run_scaled`."""
        if self._generation != self._child.generation:
            self._make()
        described, arrays = to_message(choices, "choice")
        asked = {"way": how, "weight": weight[0], "factor": weight[1], "choices": described}
        content, found = self._ask("run_scaled", asked, {"images": images, **arrays})
        return {name: found[name] for name in content["order"]}

    def close(self) -> None:
        """End the worker that holds the model; its server serves the next one."""
        if not self._closed:
            self._closed = True
            self._child.renew()
            _IDLE.append(self._child)

    def _make(self) -> None:
        content = {"request": self._request.as_json(), "path": [os.getcwd()]}
        self._facts = unpacked(self._ask("make", content, {})[0])
        self._generation = self._child.generation

    def _ask(
        self, name: str, content: Mapping[str, Any], arrays: Mapping[str, np.ndarray]
    ) -> Tuple[Any, Dict[str, np.ndarray]]:
        doing = "making it" if name == "make" else "running it"
        try:
            return self._child.request(name, content, arrays, self._seconds)
        except Died as died:
            self._generation = 0
            raise InputError(f"{self._request.spec}: {_ended(died, doing)}{_last(died.output)}") from None
        except Refused as refused:
            if refused.kind == "CannotRunReference":
                raise CannotRunReference(str(refused)) from None
            if refused.kind == "MemoryError":
                raise InputError(f"{self._request.spec}: {doing} takes more memory than it may") from None
            text = (
                str(refused)
                if refused.kind == "InputError"
                else f"{self._request.spec}: {doing} raised {refused.kind}: {refused}"
            )
            raise InputError(text + _last(self._child.printed())) from None


def _require_torch() -> None:
    found = environment.environment()
    if not environment.holds({"torch": ">=1.13"}, found):
        raise InputError(f"--model needs torch 1.13 or newer, for any model in float64; this is {found.get('torch')}")


def _child() -> Child:
    return Child("detparity.models.reference_child", Limits(environment.memory_share(MEMORY_SHARE)))


def _ended(died: Died, doing: str) -> str:
    if died.how == "crash":
        return f"the model's own code ended its process ({died.what}) while {doing}"
    return f"{doing} {died.what}"


def _last(output: str) -> str:
    """The last line that the code printed, as a clause."""
    lines = [line for line in output.splitlines() if line.strip()]
    return f"; it printed last: {printable(lines[-1].strip(), 160)}" if lines else ""


def absolute(spec: str) -> str:
    """A spec whose file or folder is named from the root: the child works in another folder."""
    first, separator, rest = spec.partition(":")
    if first.endswith(".py"):
        return f"{Path(first).absolute()}{separator}{rest}"
    if separator and Path(rest).exists():
        return f"{first}:{Path(rest).absolute()}"
    return spec


def unpacked(content: Mapping[str, Any]) -> ReferenceFacts:
    """Facts out of JSON, where tuples are lists."""
    return ReferenceFacts(**{**_tuples(content), "preprocessing": Preprocessing(**_tuples(content["preprocessing"]))})


def _tuples(content: Mapping[str, Any]) -> Dict[str, Any]:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}
