"""What earlier runs found on the user's pictures, in a folder of theirs: a run that was ended goes on with the pictures that are left.

An entry holds for one file, model, contract, picture and environment; anything else has another key.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, List, Optional, Sequence, Set, Tuple

import numpy as np

from detparity.artifacts.external_data import beside
from detparity.core.array_cache import ArrayCache
from detparity.core.case import Case
from detparity.core.environment import environment
from detparity.core.errors import InputError
from detparity.core.files import sha256
from detparity.core.version import __version__
from detparity.engines import ENGINES
from detparity.inputs import images
from detparity.oracle.average_precision import Detected

Both = Tuple[Detected, Detected]  # of the model and of the file, on one picture
PARTS = ("boxes", "scores", "classes")


@dataclass(frozen=True)
class Earlier:
    """store: None where nothing is stored; key: of `key_of`; used: pictures of which an earlier run's result was taken."""

    store: Optional[ArrayCache] = None
    key: str = ""
    used: Set[str] = field(default_factory=set)

    def passed(self, check: str, case: Case) -> bool:
        """Whether the check passed on this case before."""
        found = self.store is not None and self.store.find(self._key(check, case)) is not None
        if found:
            self.used.update(name for name, _ in case.pictures)
        return found

    def passes(self, check: str, case: Case) -> None:
        if self.store is not None:
            self.store.leave(self._key(check, case), {"passed": np.ones(1, bool)})

    def detections(self, case: Case) -> Optional[List[Both]]:
        """What was detected on the pictures of a case before; None where that is not stored."""
        stored = self.store.find(self._key("detections", case)) if self.store is not None else None
        if stored is None or set(stored) != {
            f"{number}-{part}" for number in range(len(stored) // 3) for part in PARTS
        }:
            return None
        sides = [
            Detected(*(stored[f"{number}-{part}"] for part in PARTS)) for number in range(len(stored) // len(PARTS))
        ]
        self.used.update(name for name, _ in case.pictures)
        return list(zip(sides[::2], sides[1::2]))

    def add(self, case: Case, found: Sequence[Both]) -> None:
        if self.store is not None:
            sides = [side for both in found for side in both]
            arrays = {f"{number}-{part}": getattr(side, part) for number, side in enumerate(sides) for part in PARTS}
            self.store.leave(self._key("detections", case), arrays)

    def _key(self, what: str, case: Case) -> str:
        pixels = [
            hashlib.sha256(images.make(kind, case.size, seed).tobytes()).hexdigest() for kind, seed in case.pictures
        ]
        return json.dumps([self.key, what, list(case.size), pixels])


def outside(path: Path, engine: str) -> List[str]:
    """What decides beside a file's own bytes: digests of the tensors it keeps in other files, and the version of an extra's engine."""
    found = [sha256(one) for one in beside(path) if one.is_file()]
    package = ENGINES[engine].package if engine in ENGINES else ""
    try:
        return [*found, metadata.version(package)] if package else found
    except metadata.PackageNotFoundError:
        return found


def key_of(model: str, *facts: Any) -> str:
    """The key of a run. model: digest of its weights; facts: of the file and what it promises. Raises InputError without a digest."""
    if not model:
        raise InputError(
            "--resume: the model states no digest, so that what an earlier run found may not hold; run without it"
        )
    return hashlib.sha256(repr([__version__, sorted(environment().items()), model, *facts]).encode()).hexdigest()
