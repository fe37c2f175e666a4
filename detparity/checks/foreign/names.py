"""The names of a file's classes."""

from __future__ import annotations

from typing import Sequence

from detparity.artifacts.metadata import class_names, parse
from detparity.checks.foreign.context import ForeignContext


def names_of(context: ForeignContext) -> Sequence[str]:
    """Names of the classes by the model, else by the file; empty where neither states any."""
    stored = context.contract.metadata.get("names")
    try:
        return context.oracle.reference.facts.names or (tuple(class_names(parse(stored))) if stored else ())
    except ValueError:
        return ()
