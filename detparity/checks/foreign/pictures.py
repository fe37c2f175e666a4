"""Pictures for a report of a file of any detector: see `checks/pictures.py`."""

from __future__ import annotations

from typing import Any, Iterator, List, Optional

from detparity.checks.earlier import Both
from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.detections import detected, unreadable
from detparity.checks.inputs import photo_cases
from detparity.checks.mean_ap import RULE
from detparity.checks.pictures import NotShown, Seen, at_size
from detparity.core.case import Case
from detparity.core.vocabulary import Size
from detparity.oracle.output_floor import tables_of


def seen_by(context: ForeignContext, count: int, size: Optional[Size] = None, **engine: Any) -> Iterator[Seen]:
    """All of the user's pictures; without any, `count` scenes; with a size, as many at that one. engine: of `Load`; then nothing is
    stored. Raises NotShown, and what the engine and the model raise."""
    why = unreadable(context.layout)
    if why:
        raise NotShown(why)
    batch, photos = context.contract.batch, context.photos or tuple(("scene", seed) for seed in range(count))
    left = len(photos) if size is None else count
    cases = photo_cases(photos, context.contract.size, batch) if size is None else at_size(photos, count, size, batch)
    for number, case in enumerate(cases, 1):
        context.progress(number, len(cases))
        both = context.earlier.detections(case) if not engine else None
        if both is None:
            both = _detected(context, case, left, **engine)
            if not engine:
                context.earlier.add(case, both)
        for picture, (model, file) in list(zip(case.pictures, both))[:left]:
            yield Seen(picture, case.size, model, file)
            left -= 1


def _detected(context: ForeignContext, case: Case, most: int, **engine: Any) -> List[Both]:
    """What model and file detect on the first pictures of a case."""
    layout, size = context.layout, case.size
    truth, outputs = context.truth(case), context.predict(case, **engine)
    outputs = {name: outputs[name] for name in truth.outputs}
    found = []
    for slot in range(min(most, len(case.pictures))):
        file = detected(layout, tables_of(layout, outputs, slot), size, RULE)
        found.append((detected(layout, truth.images[slot].tables, size, RULE), file))
    return found
