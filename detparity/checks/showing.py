"""What a report shows of images beside its findings: pictures and, on the user's own, what is detected and how well."""

from __future__ import annotations

import hashlib
from typing import Any, Dict, List, Sequence

from detparity.checks.foreign.context import ForeignContext, OutputsDiffer
from detparity.checks.foreign.heat import heat_of as foreign_heat
from detparity.checks.foreign.names import names_of
from detparity.checks.foreign.pictures import seen_by as foreign_seen
from detparity.checks.foreign.truth import Refuses
from detparity.checks.heat import heat_of
from detparity.checks.pictures import SHOWN, NotShown, Seen, counts_of, seen_by, shown
from detparity.checks.session import AnyContext, Session
from detparity.core.errors import EngineDied, EngineError
from detparity.core.findings import CannotRun
from detparity.core.vocabulary import Picture
from detparity.inputs import images
from detparity.inputs.labels import read
from detparity.inputs.photos import placed
from detparity.oracle.average_precision import Objects
from detparity.oracle.precision_difference import compared

# The checks whose passing shows that what differs on pictures is noise: of the user's, and of the suite's.
ON_OWN = ("parity.images", "nms.images")
ON_OTHERS = ("parity.declared", "parity.values", "nms.detections")
UNSHOWN = (EngineError, EngineDied, CannotRun, Refuses, OutputsDiffer, NotShown)  # why nothing is shown


def shown_of(session: Session, context: AnyContext) -> Dict[str, Any]:
    """Entries of an artifact's report: `pictures`, or `no_pictures` with the reason, and `images` of the user's own."""
    count = session.options.pictures
    least = SHOWN
    try:
        if isinstance(context, ForeignContext):
            seen, names = list(foreign_seen(context, count)), names_of(context)
        else:
            seen, names = list(seen_by(context, count)), context.contract.facts.names
            least = 0.0 if context.contract.variant.end2end else SHOWN
    except UNSHOWN as error:
        first = context.photos[0] if context.photos else ("scene", 0)
        return {"no_pictures": str(error)[:300], **(_heat(context, first) if count else {})}
    found: Dict[str, Any] = {"pictures": shown(seen, count, names, least)} if count else {}
    if count and seen:
        picture = max(seen, key=lambda one: (one.picture[0] != "noise", one.pairs().changed)).picture
        found.update(_heat(context, picture))
    if context.photos:
        found["images"] = _on_photos(session, context, seen, names, least)
    if any(one.over(least).pairs().changed for one in seen) and _within_noise(context):
        found["near_ties"] = True
    return found


def _within_noise(context: AnyContext) -> bool:
    """Whether the checks of these pictures found the file within the noise, so that what it detects otherwise are near-ties."""
    names = ON_OWN if context.photos else ON_OTHERS
    outcomes = [context.outcomes[name].outcome for name in (*names, *ON_OTHERS) if name in context.outcomes]
    judged = any(context.outcomes[name].outcome == "passed" for name in names if name in context.outcomes)
    return judged and not {"failed", "error"} & set(outcomes)


def _heat(context: AnyContext, picture: Picture) -> Dict[str, Any]:
    """The entry `heat`, where there is one."""
    try:
        heat = foreign_heat(context, picture) if isinstance(context, ForeignContext) else heat_of(context, picture)
    except UNSHOWN:
        return {}
    return {"heat": heat} if heat else {}


def _on_photos(
    session: Session, context: AnyContext, seen: Sequence[Seen], names: Sequence[str], least: float
) -> Dict[str, Any]:
    rows: List[Dict[str, Any]] = []
    for one in seen:
        pixels = images.make(one.picture[0], one.size, one.picture[1])
        drawn = one.over(least)
        digest = hashlib.sha256(pixels.tobytes()).hexdigest()
        rows.append({"name": one.name, "pixels": digest, **counts_of(drawn, drawn.pairs())})
    keys = ("model", "file", "same", "moved", "lost", "added")
    total = {key: sum(row[key] for row in rows) for key in keys}
    earlier = {"resumed": len(context.earlier.used)} if context.earlier.store is not None else {}
    found = {
        **earlier,
        "preprocess": session.fit(context).text,
        "size": list(context.contract.size),
        "total": total,
        "each": rows,
    }
    return {**found, **_precision(session, context, seen, names)}


def _precision(session: Session, context: AnyContext, seen: Sequence[Seen], names: Sequence[str]) -> Dict[str, Any]:
    """mAP of both sides, where the pictures have labels."""
    asked = session.options.images
    if asked is None or asked.labels is None:
        return {}
    photos, fit, size = session.photos[0], session.fit(context), context.contract.size
    labels, notes = read(asked.labels, photos, names)
    pairs = [
        (one, placed(found[0], photo.size, size, fit), found[1])
        for one, photo, found in zip(seen, photos, labels)
        if found
    ]
    truths = [Objects(boxes, classes) for _, boxes, classes in pairs]
    both = compared([one.model for one, _, _ in pairs], [one.file for one, _, _ in pairs], truths)
    numbers = {
        name: {"model": one.model, "file": one.file, **({"low": one.low, "high": one.high} if one.known else {})}
        for name, one in both.items()
    }
    return {"precision": {"pictures": len(pairs), "notes": notes, "numbers": numbers}}
