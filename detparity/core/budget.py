"""What a quantised file may lose against its model: no floor holds for eight bits, so a budget decides (docs/precision.md)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Dict, Mapping

from detparity.core.errors import InputError

# Reasons in docs/precision.md. Losses of mean average precision; shares of the model's detections; a median of scores; pixels.
DEFAULTS: Mapping[str, float] = {
    "map50": 0.02,
    "map": 0.03,
    "lost": 0.05,
    "added": 0.05,
    "score": 0.05,
    "moved": 2.0,
}
ABOUT: Mapping[str, str] = {
    "map50": "loss of mAP50",
    "map": "loss of mAP50-95",
    "lost": "share of the model's boxes that have no partner",
    "added": "boxes without a partner in the model, in parts of the model's",
    "score": "median change of a score",
    "moved": "median distance of a box's sides in pixels",
}


@dataclass(frozen=True)
class Budget:
    """limits: by the names of DEFAULTS; asked: those that the user stated."""

    limits: Mapping[str, float]
    asked: Mapping[str, float]

    @property
    def text(self) -> str:
        return ",".join(f"{name}={value:g}" for name, value in self.asked.items())


def budget_of(text: str = "") -> Budget:
    """`map50=0.01,lost=0.02` over the defaults. Raises InputError."""
    asked: Dict[str, float] = {}
    for part in filter(None, (one.strip() for one in text.split(","))):
        name, _, value = part.partition("=")
        try:
            number = float(value)
        except ValueError:
            number = -1.0
        if name not in DEFAULTS or not 0 <= number < float("inf"):
            known = ", ".join(f"{one}={limit:g}" for one, limit in DEFAULTS.items())
            raise InputError(f"--budget {part!r} is not one of its limits as NAME=NUMBER: {known}")
        asked[name] = number
    return Budget({**DEFAULTS, **asked}, asked)


USUAL = Budget(DEFAULTS, {})
