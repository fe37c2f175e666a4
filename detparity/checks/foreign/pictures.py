"""Pictures for a report of a file of any detector: see `checks/pictures.py`."""

from __future__ import annotations

from typing import Iterator

from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.detections import detected, unreadable
from detparity.checks.inputs import photo_cases
from detparity.checks.mean_ap import RULE
from detparity.checks.pictures import NotShown, Seen
from detparity.oracle.output_floor import tables_of


def seen_by(context: ForeignContext, count: int) -> Iterator[Seen]:
    """All of the user's pictures; without any, `count` scenes. Raises NotShown, and what the engine and the model raise."""
    why = unreadable(context.layout)
    if why:
        raise NotShown(why)
    size, layout = context.contract.size, context.layout
    photos = context.photos or tuple(("scene", seed) for seed in range(count))
    left = len(photos)
    for case in photo_cases(photos, size, context.contract.batch):
        truth, outputs = context.truth(case), context.predict(case)
        outputs = {name: outputs[name] for name in truth.outputs}
        for slot, picture in list(enumerate(case.pictures))[:left]:
            model = detected(layout, truth.images[slot].tables, size, RULE)
            yield Seen(picture, size, model, detected(layout, tables_of(layout, outputs, slot), size, RULE))
            left -= 1
