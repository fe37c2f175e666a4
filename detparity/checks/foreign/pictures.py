"""Pictures for a report of a file of any detector: see `checks/pictures.py`."""

from __future__ import annotations

from typing import Any, Dict, List, Sequence

from detparity.artifacts.metadata import class_names, parse
from detparity.checks.foreign.context import ForeignContext, OutputsDiffer
from detparity.checks.foreign.detections import detected, unreadable
from detparity.checks.foreign.truth import Refuses
from detparity.checks.pictures import SHOWN_RULE, record
from detparity.core.case import Case
from detparity.core.findings import CannotRun
from detparity.core.vocabulary import EngineError
from detparity.inputs import images
from detparity.oracle.output_floor import tables_of


def pictures_of(context: ForeignContext, count: int) -> Dict[str, Any]:
    """Entries of a report: `pictures`, or `no_pictures` with the reason."""
    try:
        why = unreadable(context.layout)
        return {"no_pictures": why} if why else {"pictures": _pictures(context, count)}
    except (EngineError, CannotRun, Refuses, OutputsDiffer) as error:
        return {"no_pictures": str(error)[:300]}


def _pictures(context: ForeignContext, count: int) -> List[Dict[str, Any]]:
    size, batch, layout = context.contract.size, context.contract.batch, context.layout
    found: List[Dict[str, Any]] = []
    for first in range(0, count, batch):
        case = Case(size, tuple(("scene", first + slot % count) for slot in range(batch)))
        truth, outputs = context.truth(case), context.predict(case)
        outputs = {name: outputs[name] for name in truth.outputs}
        for slot, picture in list(enumerate(case.pictures))[: count - len(found)]:
            model = detected(layout, truth.images[slot].tables, size, SHOWN_RULE)
            file = detected(layout, tables_of(layout, outputs, slot), size, SHOWN_RULE)
            image = images.make(picture[0], size, picture[1])
            found.append(record(" ".join(map(str, picture)), image, model, file, names_of(context)))
    return found


def names_of(context: ForeignContext) -> Sequence[str]:
    """Names of the classes by the model, else by the file; empty where neither states any."""
    stored = context.contract.metadata.get("names")
    try:
        return context.oracle.reference.facts.names or (tuple(class_names(parse(stored))) if stored else ())
    except ValueError:
        return ()
