"""What a deployment target is known not to take, as data with sources (targets.toml beside this module)."""

from __future__ import annotations

import functools
import importlib
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple


@dataclass(frozen=True)
class Rule:
    """What of a file a target does not take, and what follows; targets.toml says what each field is."""

    level: str
    effect: str
    advice: str
    source: str
    operators: Tuple[str, ...] = ()
    opset_over: int = 0
    varies: Tuple[str, ...] = ()
    rank_from: int = 0
    dtypes: Tuple[str, ...] = ()


@dataclass(frozen=True)
class Target:
    """about: which product and versions its rules are of."""

    about: str
    rules: Tuple[Rule, ...]


@functools.cache
def targets() -> Mapping[str, Target]:
    """All targets by name."""
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    read = toml.loads(Path(__file__).with_name("targets.toml").read_text(encoding="utf-8"))
    found: Dict[str, Target] = {}
    for name, entry in read.items():
        others = read[entry["same_as"]]["rules"] if "same_as" in entry else []
        found[name] = Target(entry["about"], tuple(_rule(one) for one in [*entry.get("rules", []), *others]))
    return found


def _rule(entry: Mapping[str, Any]) -> Rule:
    fields: Dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return Rule(**fields)
