"""A file of the home family, read, and the context that its checks have."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional

from detparity import checks
from detparity.artifacts.open import Asked, Intake, open_artifact
from detparity.checks.context import Context
from detparity.checks.follows import fold
from detparity.core.case import Explorer
from detparity.core.clock import Clock
from detparity.core.vocabulary import Size
from detparity.engines.reference_runs import Oracle
from detparity.engines.remote import client
from detparity.inputs.explore import explore as explore_cases
from detparity.inputs.explore import explore_predictions, glance


def open_file(
    path: Path,
    facts: Any,
    variant: Optional[str] = None,
    img_size: Optional[Size] = None,
    name: Optional[str] = None,
    asked: Asked = Asked(),
) -> Intake:
    """`artifacts.open.open_artifact`, with the engines of this process."""
    return open_artifact(path, facts, variant, img_size, name, asked, engines=client())


def make_context(
    detector: Any,
    found: Intake,
    oracle: Oracle,
    clock: Clock,
    explore: Explorer = explore_cases,
    quick: bool = False,
) -> Context:
    """The context of an opened artifact. quick: try less of everything (docs/performance.md: what that misses)."""
    return Context(
        found.artifact,
        found.file,
        found.contract,
        detector.facts,
        detector.weights,
        detector.slopes,
        oracle,
        glance if quick else explore,
        clock,
        checks.by_default(checks.registry()),
        found.how,
        explore_predictions,
        quick,
        fold=fold,
        precision=found.precision,
    )
