"""From the options of a run to what its files are judged against."""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from pathlib import Path
from typing import Callable, Dict, List, Optional, Sequence, Tuple, Union

import numpy as np

from detparity.checks.foreign.layout_file import layout_of
from detparity.checks.foreign.open_file import ForeignSource
from detparity.checks.foreign.recorded import NOTHING, Recorded, recorded, records
from detparity.core import file_kind
from detparity.core.decisions import Choice, Forced
from detparity.core.errors import InputError
from detparity.core.files import require_file
from detparity.core.layout import Layout
from detparity.core.runtimes import runtime_files
from detparity.core.vocabulary import Size
from detparity.engines.graph_reference import GraphReference
from detparity.models.choice import ModelChoice
from detparity.models.reference import ModelRequest, Reference, ReferenceFacts, arguments

SELF = "self"


def source_of(choice: ModelChoice, size: Optional[Size] = None) -> ForeignSource:
    """What files are judged against. size: (height, width) of the model's example, where it is given.

    Raises InputError where it cannot be used.
    """
    layout = layout_of(choice.layout) if choice.layout is not None else None
    if choice.against is not None:
        return ForeignSource(_against(choice, size), layout=layout)
    if choice.capture is not None:
        return _captured(choice.capture, choice.trust, layout)
    assert choice.model is not None
    return _asked_for(
        ModelRequest(choice.model, choice.model_args, choice.seed, size, choice.condition, choice.trust), layout
    )


def _asked_for(request: ModelRequest, layout: Optional[Layout]) -> ForeignSource:
    """A model by words, for each file in the form that it records."""
    given = arguments(request)

    @functools.cache
    def about(path: Path) -> Recorded:
        return NOTHING if given.positional else recorded(path, request.spec, given.keywords)

    @functools.cache
    def tried(options: str) -> Union[Reference, InputError]:
        try:
            return _made(replace(request, arguments=options) if options else request)
        except InputError as error:  # for every file of that form, without trying again
            return error

    def made(options: str) -> Reference:
        found = tried(options)
        if isinstance(found, InputError):
            raise found
        return found

    def reference(path: Path) -> Reference:
        options = about(path).options
        return made(json.dumps({**options, **given.keywords}, sort_keys=True) if options else "")

    if not records(request.spec):
        made("")  # one for all files: what is wrong with it is known before the first
    return ForeignSource(reference, layout=layout, stated=lambda path: about(path).text)


def _captured(folder: Path, trust: bool, layout: Optional[Layout]) -> ForeignSource:
    """What `capture --keep` stored. A file is that of the call which wrote it, by path or by name, else of the only call."""
    from detparity.models import capture_store
    from detparity.models.captured_reference import promises_of, reference_of
    from detparity.models.stored_reference import StoredReference

    calls = {number: call for number, call in enumerate(capture_store.read(folder, trust)) if call.files}
    if not calls:
        raise InputError(f"{folder} holds no call that wrote a file")

    @functools.cache
    def number_of(path: Path) -> int:
        same = [number for number, call in calls.items() if path.resolve() in [one.resolve() for one in call.files]]
        named = [number for number, call in calls.items() if path.name in [one.name for one in call.files]]
        found = (same or named or (list(calls) if len(calls) == 1 else []))[:1]
        if not found:
            known = ", ".join(one.name for call in calls.values() for one in call.files)
            raise InputError(f"{path} is of none of the calls in {folder}, which wrote {known}")
        return found[0]

    @functools.cache
    def reference(path: Path) -> Reference:
        number = number_of(path)
        if calls[number].module is not None:
            return reference_of(calls[number])
        return StoredReference(capture_store.folder_of(folder, number), calls[number].problem)

    return ForeignSource(reference, lambda path: promises_of(calls[number_of(path)]), layout)


def _made(request: ModelRequest) -> Reference:
    """A model in a process of its own."""
    from detparity.models.remote_reference import RemoteReference

    return RemoteReference(request)


class _Program:
    """A TorchScript file's program in float64, where there is no model."""

    def __init__(self, path: Path, size: Optional[Size], title: str) -> None:
        self.path = path
        self._reference = _made(ModelRequest(f"torchscript:{path.resolve()}", size=size))
        self._title = title

    @property
    def facts(self) -> ReferenceFacts:
        return replace(self._reference.facts, title=self._title, model=False)

    def run(self, how: str, images: np.ndarray) -> Dict[str, np.ndarray]:
        return self._reference.run(how, images)

    def run_forced(
        self, how: str, images: np.ndarray, choices: Sequence[Choice]
    ) -> Tuple[Dict[str, np.ndarray], Sequence[Forced]]:
        return self._reference.run_forced(how, images, choices)  # type: ignore[attr-defined]

    def decisions(self, images: np.ndarray) -> List[Choice]:
        return self._reference.decisions(images)  # type: ignore[attr-defined]

    def weights_read(self, images: np.ndarray) -> List[str]:
        return self._reference.weights_read(images)  # type: ignore[attr-defined]

    def run_scaled(
        self, how: str, weight: Tuple[str, float], images: np.ndarray, choices: Sequence[Choice] = ()
    ) -> Dict[str, np.ndarray]:
        return self._reference.run_scaled(how, weight, images, choices)  # type: ignore[attr-defined]


def _against(choice: ModelChoice, size: Optional[Size]) -> Callable[[Path], Reference]:
    other: Optional[Path] = None if choice.against == SELF else Path(str(choice.against))
    if other is not None:
        require_file(other, "an exported model")
        file_kind.require_exported(other)

    @functools.cache
    def reference(path: Path) -> Reference:
        if runtime_files(path) is not None:
            raise InputError(f"{path} holds no graph that is run in float64 here: --against its ONNX file, or --model")
        if file_kind.kind(path) == "torchscript":
            return _Program(path, size, "its own program in float64" if other is None else f"{other}, in float64")
        if file_kind.kind(path) == "lite":
            raise InputError(f"{path} is a lite archive: its program cannot be run in float64")
        return GraphReference(path, "its own graph in float64" if other is None else f"{other}, in float64")

    return lambda path: reference(path if other is None else other)
