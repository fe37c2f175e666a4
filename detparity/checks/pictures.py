"""Pictures for a report: what the model and what the file detect on the same images. They judge nothing; the checks do."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Dict, Iterator, List, Optional, Sequence

import numpy as np

from detparity.checks.context import Context
from detparity.checks.earlier import Both
from detparity.checks.inputs import failing_cases, photo_cases
from detparity.checks.mean_ap import RULE, detections, outputs_problem, suppressed
from detparity.checks.nms import rule_of
from detparity.core.case import Case, called
from detparity.core.vocabulary import Picture, Size
from detparity.inputs import images
from detparity.inputs.encoded import data_uri
from detparity.oracle.average_precision import Detected
from detparity.oracle.detection_pairs import Paired, paired
from detparity.oracle.nms import NmsRule

MOST = 60  # detections of a side that are recorded, those with the best scores and those that changed
SHOWN = 0.25  # the least score of a detection that is drawn, where the file suppresses nothing


class NotShown(Exception):
    """Nothing can be shown; the text is the reason, a clause."""


@dataclass(frozen=True)
class Seen:
    """One picture with the detections of both sides."""

    picture: Picture
    size: Size
    model: Detected
    file: Detected

    @property
    def name(self) -> str:
        return called(self.picture)

    def over(self, score: float) -> Seen:
        """The same without detections under a score."""
        return replace(self, model=_over(self.model, score), file=_over(self.file, score))

    def pairs(self) -> Paired:
        return paired(self.model, self.file)


def _over(found: Detected, score: float) -> Detected:
    fine = found.scores > score
    return Detected(found.boxes[fine], found.scores[fine], found.classes[fine])


def seen_by(context: Context, count: int, size: Optional[Size] = None, **engine: Any) -> Iterator[Seen]:
    """All of the user's pictures; without any, `count` of the suite's, the first on which the file failed among them; with a size, as
    many at that one. engine: of `Load`; then nothing is stored. Raises NotShown, and EngineError where the file does not run."""
    contract = context.contract
    rule = rule_of(contract) if contract.variant.end2end else RULE
    cases = cases_of(context, count) if size is None else at_size(context.photos, count, size, context.fixed_batch)
    left = count if size is not None else len(context.photos) or count
    for number, case in enumerate(cases, 1):
        context.progress(number, len(cases))
        both = context.earlier.detections(case) if not engine else None
        if both is None:
            both = _detected(context, case, rule, left, **engine)
            if not engine:
                context.earlier.add(case, both)
        for picture, (model, file) in list(zip(case.pictures, both))[:left]:
            yield Seen(picture, case.size, model, file)
            left -= 1


def _detected(context: Context, case: Case, rule: NmsRule, most: int, **engine: Any) -> List[Both]:
    """What model and file detect on the first pictures of a case."""
    outputs = context.predict(case, **engine)
    wrong = outputs_problem(context, case, outputs)
    if wrong:
        raise NotShown(f"the file {wrong.message}")
    found = []
    for picture, file in list(zip(case.pictures, detections(context, case, outputs, rule)))[:most]:
        truth = next(context.growing(picture, case.size))
        found.append((suppressed(np.concatenate(truth.levels), rule), file))
    return found


def cases_of(context: Context, count: int) -> List[Case]:
    """Pictures in batches as the contract has them."""
    size, batch = context.contract.size, context.fixed_batch
    if context.photos:
        return photo_cases(context.photos, size, batch)
    return [*_failed(context), *photo_cases([("scene", seed) for seed in range(count)], size, batch)]


def at_size(photos: Sequence[Picture], count: int, size: Size, batch: Optional[int]) -> List[Case]:
    """The first of the user's pictures, or scenes, at another size than the declared one."""
    chosen = tuple(photos[:count]) or tuple(("scene", seed) for seed in range(count))
    return photo_cases(chosen, size, batch)


def _failed(context: Context) -> List[Case]:
    """The first case of the declared size on which a check that has run found a difference."""
    judged = [check for check in ("nms.detections", "parity.declared") if check in context.outcomes]
    cases = [case for check in judged for case in failing_cases(context, check) if case.size == context.contract.size]
    return cases[:1]


# --- records


def shown(seen: Sequence[Seen], count: int, names: Sequence[str], least: float = SHOWN) -> List[Dict[str, Any]]:
    """The pictures of a report, those that changed most, then those with detections. names: of the classes, as far as they are known;
    least: score drawn."""
    drawn = [one.over(least) for one in seen]
    pairs = [one.pairs() for one in drawn]
    order = sorted(range(len(drawn)), key=lambda k: (-pairs[k].changed, not len(drawn[k].model.scores)))[:count]
    return [_record(drawn[index], pairs[index], names) for index in sorted(order)]


def counts_of(seen: Seen, pairs: Paired) -> Dict[str, int]:
    return {
        "model": len(seen.model.scores),
        "file": len(seen.file.scores),
        "same": len(pairs.pairs) - len(pairs.moved),
        "moved": len(pairs.moved),
        "lost": len(pairs.lost),
        "added": len(pairs.added),
    }


def _record(seen: Seen, pairs: Paired, names: Sequence[str]) -> Dict[str, Any]:
    image = images.make(seen.picture[0], seen.size, seen.picture[1])
    changed_model = {**dict.fromkeys(pairs.lost, "lost"), **dict.fromkeys((one for one, _ in pairs.moved), "moved")}
    changed_file = {**dict.fromkeys(pairs.added, "added"), **dict.fromkeys((one for _, one in pairs.moved), "moved")}
    return {
        "name": seen.name,
        "height": int(image.shape[1]),
        "width": int(image.shape[2]),
        "image": data_uri(image),
        "counts": counts_of(seen, pairs),
        "model": _side(seen.model, changed_model, names),
        "file": _side(seen.file, changed_file, names),
        "moved": _moved(seen, pairs, names),
    }


def _moved(seen: Seen, pairs: Paired, names: Sequence[str]) -> List[Dict[str, Any]]:
    """How far the boxes and the scores of pairs are apart, the furthest first."""
    model, file = seen.model, seen.file
    rows: List[Dict[str, Any]] = [
        {
            "class": _class(int(model.classes[one]), names),
            "pixels": round(float(np.abs(model.boxes[one] - file.boxes[other]).max()), 3),
            "score": [round(float(side.scores[index]), 4) for side, index in ((model, one), (file, other))],
        }
        for one, other in pairs.moved
    ]
    return sorted(rows, key=lambda row: -float(row["pixels"]))[:MOST]


def _side(found: Detected, changed: Dict[int, str], names: Sequence[str]) -> List[Dict[str, Any]]:
    order = sorted(range(len(found.scores)), key=lambda index: (index not in changed, -found.scores[index]))
    return [
        {
            "box": [round(float(value), 2) for value in found.boxes[index]],
            "score": round(float(found.scores[index]), 4),
            "class": _class(int(found.classes[index]), names),
            "change": changed.get(index, ""),
        }
        for index in order[:MOST]
    ]


def _class(index: int, names: Sequence[str]) -> str:
    return names[index] if 0 <= index < len(names) else f"class {index}"
