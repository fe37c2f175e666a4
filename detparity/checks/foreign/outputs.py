"""Whether a file has every output of its model: what an export may leave out, and what it may not."""

from __future__ import annotations

from typing import Iterator, List, Sequence

import numpy as np

from detparity.checks.foreign.context import ForeignContext
from detparity.core.findings import Finding
from detparity.core.layout import PRESETS, fits
from detparity.core.text import listed
from detparity.core.vocabulary import Arrays


def outputs(context: ForeignContext) -> Iterator[Finding]:
    """Fewer outputs than the model gives, where neither the exporter's call nor the layout explains it."""
    own, given = context.output_names, context.exact_outputs
    left = len(given) - len(own)
    if left <= 0 or not (_lost(context) or _unexplained(context, given)):
        return
    absent = _absent(own, given)
    yield Finding(
        f"has {len(own)} output{'s' * (len(own) != 1)} where the model gives {len(given)}: {listed(absent, 4)} "
        f"{'is' if left == 1 else 'are'} absent.",
        (("model", ", ".join(given)), ("file", ", ".join(own))),
        notes=(
            "What is absent is compared with nothing. Where it is left out on purpose, state the outputs by --layout.",
        ),
        evidence={"absent": absent},
    )


def _lost(context: ForeignContext) -> bool:
    """Whether the exporter wrote more outputs than are there. Where it was asked for names, `structure.names` finds that."""
    promises = context.contract.promises
    return not promises.outputs and len(context.output_names) < promises.written


def _unexplained(context: ForeignContext, given: Arrays) -> bool:
    """Whether nothing states that these are all. What a module leaves out while it is exported belongs to its export."""
    if context.contract.promises.source or context.given_layout is not None:
        return False
    if _has_layout(context, given):
        return True
    some = set(context.output_names) <= set(given)
    return context.layout.name == "generic" and not some


def _has_layout(context: ForeignContext, given: Arrays) -> bool:
    """Whether a layout is known of which all of the model's outputs are a part."""
    arrays: List[np.ndarray] = list(given.values())
    stated = PRESETS.get(context.oracle.reference.facts.layout)
    return fits(stated, arrays) if stated is not None else context.recognised(given).name != "generic"


def _absent(own: Sequence[str], given: Arrays) -> List[str]:
    """By name where the file's are the model's, else the last ones."""
    names = list(given)
    return [name for name in names if name not in own] if set(own) <= set(names) else names[len(own) :]
