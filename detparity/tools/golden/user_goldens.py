"""Goldens of a user's own exports: `detparity golden record`, `check` and `remove`."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, List, Optional, Sequence, Tuple

from detparity.artifacts import open
from detparity.checks.context import Context
from detparity.checks.session import Options, Session
from detparity.core import resources
from detparity.core.array_cache import default_cache
from detparity.core.errors import EngineDied, EngineError, InputError, clipped
from detparity.core.precision import INT8
from detparity.core.vocabulary import Size
from detparity.models.choice import ModelChoice
from detparity.tools.golden.content import kinds_of
from detparity.tools.golden.evaluate import Folders, judge, parity_of, pending_text, record
from detparity.tools.golden.index import INDEX, read_index, store

Say = Callable[[str], None]


@dataclass(frozen=True)
class Asked:
    """One file, its model, and the name of its goldens. variant, img_size, promise: as for `check`."""

    path: Path
    choice: ModelChoice
    name: str
    variant: Optional[str] = None
    img_size: Optional[Size] = None
    promise: open.Asked = field(default_factory=open.Asked)

    @property
    def command(self) -> str:
        """The command that compares this file with its goldens."""
        return f"{self.of('golden check')} --name {self.name}"

    def of(self, verb: str) -> str:
        """A command on this file and its model."""
        return " ".join(["detparity", verb, *map(shlex.quote, (str(self.path), *self.choice.arguments))])


def _context(asked: Asked) -> Context:
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}", asked.name):
        raise InputError(
            f"--name {clipped(asked.name, 60)}: letters, digits, dots, hyphens and underscores make a name"
        )
    files, cache = (asked.path,), default_cache()
    session = Session(Options(asked.choice, files, asked.variant, asked.img_size, asked.promise, cache=cache))
    context = session.context(asked.path)
    if context.contract.precision == INT8:
        raise InputError(
            f"{asked.path} computes in 8 bits, whose numbers are those of the processor, so that a golden of it holds on no other: "
            f"`{asked.of('check')}` judges each release by a budget"
        )
    return context


def record_all(asked: Asked, folders: Folders, why: str, parity_lost: bool, say: Say) -> int:
    """Record every kind of golden of a file for the first time. Returns the exit code.

    Raises InputError, before anything is written, where one exists already, or the file does not do what the model does and
    `parity_lost` is not given.
    """
    try:
        return _record_all(asked, folders, why, parity_lost, say)
    except EngineDied as died:
        raise InputError(f"{asked.path} {died}: nothing is recorded of it") from None


def _record_all(asked: Asked, folders: Folders, why: str, parity_lost: bool, say: Say) -> int:
    context = _context(asked)
    kinds = kinds_of(context.contract.variant)
    there = {entry.asked for entry in read_index(folders.golden)} & {f"{kind}/{asked.name}" for kind in kinds}
    if there:
        raise InputError(f"{folders.golden} holds {sorted(there)[0]} already: `{asked.command}` compares with it")
    _, lost = parity_of(context)
    if lost and not parity_lost:
        raise InputError(
            f"{asked.path} does not do what the model does ({clipped(lost)}); if that is to be recorded, give --parity-lost"
        )
    try:
        made = [record(context, asked.name, kind, folders, asked.command, why) for kind in kinds]
    except EngineError as error:
        raise InputError(f"{asked.path} does not run: {clipped(error)}") from None
    try:
        folders.golden.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot write {folders.golden}: {error.strerror}") from None
    for entry, content in made:
        store(folders.golden, entry, content)
        say(f"recorded {folders.golden / entry.file}")
    say(f"compare the next release:  {asked.command}")
    return 0


def check_all(asked: Asked, folders: Folders, say: Say) -> int:
    """Compare a file with its goldens. Returns 0 where it is the same, 1 where something waits for review or the file ends
    its process.

    Raises InputError where no golden has this name.
    """
    names = {entry.asked for entry in read_index(folders.golden)}
    known = sorted(name for name in names if name.split("/")[1] == asked.name)
    if not known:
        raise InputError(f"{folders.golden} holds no golden of {asked.name}: `detparity golden record` makes them")
    try:
        same, red = _compared(asked, folders, known)
    except EngineDied as died:
        same, red = (
            [],
            ["\n".join([f"golden: {asked.path} {died}.", *_printed(died), "", f"  Repeat:  {asked.command}"])],
        )
    if same:
        say(f"{asked.path}: the same as {', '.join(same)}.")
    if red:
        say("\n\n".join(red))
    return 1 if red else 0


def _printed(died: EngineDied) -> List[str]:
    return ["", "  It printed last:", *(f"    {line}" for line in died.printed)] if died.printed else []


def _compared(asked: Asked, folders: Folders, known: Sequence[str]) -> Tuple[List[str], List[str]]:
    """The goldens of these names that the file is the same as, and a text for each that it is not."""
    context = _context(asked)
    has = kinds_of(context.contract.variant)
    kinds = dict.fromkeys(
        (*has, *(name.split("/")[0] for name in known))
    )  # the graph first: it is read where nothing runs
    same: List[str] = []
    red: List[str] = []
    for kind in kinds:
        if kind not in has:
            red.append(
                f"golden: {asked.path} has no {kind} as {context.contract.variant.name}, and {kind}/{asked.name} says it had"
            )
            continue
        try:
            waiting = judge(context, asked.name, kind, folders, asked.command, asked.command)
        except EngineError as error:
            red.append(f"golden: {asked.path} does not run: {clipped(error)}")
            break
        if waiting is None:
            same.append(f"{kind}/{asked.name}")
        else:
            red.append(pending_text(waiting, folders.pending))
    return same, red


def default_folders(golden: Optional[Path], pending: Optional[Path]) -> Tuple[Path, List[str]]:
    """The golden folder, and the options that name both folders: as given, else `golden/` of the current folder where it has an
    index, else the one of the clone. Raises InputError where there is none: nothing writes into an installed kit."""
    options = ["--golden", str(golden)] if golden else []
    options += ["--from", str(pending)] if pending else []
    if golden is None:
        golden = Path("golden") if (Path("golden") / INDEX).is_file() else resources.root() / "golden"
        if resources.installed() and golden.parent == resources.root():
            raise InputError("there is no golden folder here: name it with --golden DIR")
    return golden, options
