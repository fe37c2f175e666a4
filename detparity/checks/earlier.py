"""What earlier runs found on the user's pictures, in a folder of theirs: a run that was ended goes on with the pictures that are left.

An entry holds for one file, model, contract, picture and environment; anything else has another key.
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Optional, Sequence, Set, Tuple

import numpy as np

from detparity.core.case import Case
from detparity.core.environment import environment
from detparity.core.errors import InputError
from detparity.core.files import write_bytes
from detparity.core.version import __version__
from detparity.inputs import images
from detparity.oracle.average_precision import Detected

Both = Tuple[Detected, Detected]  # of the model and of the file, on one picture
PARTS = ("boxes", "scores", "classes")


@dataclass(frozen=True)
class Earlier:
    """folder: None where nothing is stored; key: of `key_of`; used: pictures of which an earlier run's result was taken."""

    folder: Optional[Path] = None
    key: str = ""
    used: Set[str] = field(default_factory=set)

    def passed(self, check: str, case: Case) -> bool:
        """Whether the check passed on this case before."""
        found = self.folder is not None and self._path(check, case).is_file()
        if found:
            self.used.update(name for name, _ in case.pictures)
        return found

    def passes(self, check: str, case: Case) -> None:
        if self.folder is not None:
            self._write(self._path(check, case), b"passed\n")

    def detections(self, case: Case) -> Optional[List[Both]]:
        """What was detected on the pictures of a case before; None where that is not stored, or not as it was written."""
        if self.folder is None:
            return None
        try:
            with np.load(io.BytesIO(self._path("detections", case).read_bytes()), allow_pickle=False) as stored:
                sides = [
                    Detected(*(stored[f"{number}-{part}"] for part in PARTS)) for number in range(len(stored) // 3)
                ]
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
            return None
        self.used.update(name for name, _ in case.pictures)
        return list(zip(sides[::2], sides[1::2]))

    def add(self, case: Case, found: Sequence[Both]) -> None:
        if self.folder is not None:
            sides = [side for both in found for side in both]
            arrays = {f"{number}-{part}": getattr(side, part) for number, side in enumerate(sides) for part in PARTS}
            written = io.BytesIO()
            np.savez(written, **arrays)
            self._write(self._path("detections", case), written.getvalue())

    def _path(self, what: str, case: Case) -> Path:
        assert self.folder is not None
        pixels = [images.make(kind, case.size, seed).tobytes() for kind, seed in case.pictures]
        words = json.dumps([self.key, what, list(case.size)])
        digest = hashlib.sha256(words.encode() + b"".join(hashlib.sha256(one).digest() for one in pixels)).hexdigest()
        return self.folder / digest[:2] / digest[2:40]

    @staticmethod
    def _write(path: Path, content: bytes) -> None:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"--resume: cannot write {path.parent}: {error.strerror}") from None
        write_bytes(path, content)


def key_of(model: str, *facts: Any) -> str:
    """The key of a run. model: digest of its weights; facts: of the file and what it promises. Raises InputError without a digest."""
    if not model:
        raise InputError(
            "--resume: the model states no digest, so that what an earlier run found may not hold; run without it"
        )
    return hashlib.sha256(repr([__version__, sorted(environment().items()), model, *facts]).encode()).hexdigest()
