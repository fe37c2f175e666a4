"""Pictures for a report: what the model and what the file detect on the same images. They judge nothing; the checks do."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Dict, List, Sequence, Tuple

import numpy as np

from detparity.checks.context import Context
from detparity.checks.inputs import failing_cases
from detparity.checks.mean_ap import RULE, detections, outputs_problem, suppressed
from detparity.checks.nms import rule_of
from detparity.core.case import Case
from detparity.core.vocabulary import EngineError
from detparity.inputs import images
from detparity.inputs.encoded import data_uri
from detparity.oracle.average_precision import Detected
from detparity.oracle.detection_pairs import paired

MOST = 60  # detections of a side that are recorded, those with the best scores and those that changed
SHOWN_RULE = replace(RULE, score_threshold=0.25, cap=100)  # where no suppression is in the file


def pictures_of(context: Context, count: int) -> Dict[str, Any]:
    """Entries of a report: `pictures`, or `no_pictures` with the reason."""
    contract = context.contract
    rule = rule_of(contract) if contract.variant.end2end else SHOWN_RULE
    found: List[Dict[str, Any]] = []
    try:
        for case in [*_failed(context), *_cases(context, count)]:
            outputs = context.predict(case)
            wrong = outputs_problem(context, case, outputs)
            if wrong:
                return {"no_pictures": f"the file {wrong.message}"}
            sides = detections(context, case, outputs, rule)
            for picture, file in zip(case.pictures, sides):
                if len(found) == count:
                    break
                truth = next(context.growing(picture, case.size))
                model = suppressed(np.concatenate(truth.levels), rule)
                image = images.make(picture[0], case.size, picture[1])
                found.append(record(" ".join(map(str, picture)), image, model, file, contract.facts.names))
    except EngineError as error:
        return {"no_pictures": f"the file does not run: {str(error)[:300]}"}
    return {"pictures": found}


def _failed(context: Context) -> List[Case]:
    """The first case of the declared size on which a check that has run found a difference."""
    judged = [check for check in ("nms.detections", "parity.declared") if check in context.outcomes]
    cases = [case for check in judged for case in failing_cases(context, check) if case.size == context.contract.size]
    return cases[:1]


def _cases(context: Context, count: int) -> List[Case]:
    """Scenes in batches as the contract has them."""
    contract = context.contract
    if contract.variant.dynamic_batch:
        return [Case(contract.size, (("scene", seed),)) for seed in range(count)]
    return [
        Case(contract.size, tuple(("scene", first + slot % count) for slot in range(contract.batch)))
        for first in range(0, count, contract.batch)
    ]


def record(name: str, image: np.ndarray, model: Detected, file: Detected, names: Sequence[str]) -> Dict[str, Any]:
    """One picture of a report. image: (3, H, W) in 0..1; names: of the classes, as far as they are known."""
    found = paired(model, file)
    changed_model = {**dict.fromkeys(found.lost, "lost"), **dict.fromkeys((one for one, _ in found.moved), "moved")}
    changed_file = {**dict.fromkeys(found.added, "added"), **dict.fromkeys((one for _, one in found.moved), "moved")}
    return {
        "name": name,
        "height": int(image.shape[1]),
        "width": int(image.shape[2]),
        "image": data_uri(image),
        "counts": {
            "model": len(model.scores),
            "file": len(file.scores),
            "same": len(found.pairs) - len(found.moved),
            "moved": len(found.moved),
            "lost": len(found.lost),
            "added": len(found.added),
        },
        "model": _side(model, changed_model, names),
        "file": _side(file, changed_file, names),
        "moved": _moved(model, file, found.moved, names),
    }


def _moved(
    model: Detected, file: Detected, pairs: Sequence[Tuple[int, int]], names: Sequence[str]
) -> List[Dict[str, Any]]:
    """How far the boxes and the scores of pairs are apart, the furthest first."""
    rows = [
        {
            "class": _class(int(model.classes[one]), names),
            "pixels": round(float(np.abs(model.boxes[one] - file.boxes[other]).max()), 3),
            "score": [round(float(side.scores[index]), 4) for side, index in ((model, one), (file, other))],
        }
        for one, other in pairs
    ]
    return sorted(rows, key=lambda row: -row["pixels"])[:MOST]  # type: ignore[operator]


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
