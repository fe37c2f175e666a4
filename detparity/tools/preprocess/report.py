"""What was found, for a reader: each property of the preprocessing beside what the model takes."""

from __future__ import annotations

import dataclasses
import textwrap
from dataclasses import dataclass
from typing import Any, Dict, List, Optional, Tuple

from detparity.core.text import WIDTH, columns
from detparity.inputs.framing import LETTERBOX, PADDING, STRETCH
from detparity.tools.preprocess.identify import AS_IT_IS, BILINEAR, RGB, UNEVEN, Nearest, Off, Recipe
from detparity.tools.preprocess.values import Values

CONFORMS, DIFFERS, UNKNOWN = "conforms", "differs", "unknown"
FAR = 25.0  # levels, typically: then no combination is near
MOST = 12  # recipes shown where a picture cannot tell them apart
HINTS = {
    "channels": "convert with picture[..., ::-1] (OpenCV reads BGR, most models take RGB)",
    "values": "divide by 255 once, as float32",
    "framing": "scale both sides by the smaller of the two ratios, and pad what is left over",
    "padding": f"pad with grey {PADDING} before dividing",
    "resampling": "resize with cv2.INTER_LINEAR, or F.interpolate(mode='bilinear', align_corners=False, antialias=False)",
    "axes": "transpose to (N, 3, H, W)",
}


@dataclass(frozen=True)
class Expected:
    """What the model takes. name: of that model, for a reader."""

    name: str
    values: Values
    framing: str = LETTERBOX


@dataclass(frozen=True)
class Found:
    """A tensor beside a picture. subject: for a reader; fitting: every recipe within rounding; nearest: where there is none."""

    subject: str
    picture: str
    expected: Expected
    fitting: Tuple[Recipe, ...]
    nearest: Optional[Nearest] = None
    off: Optional[Off] = None

    @property
    def verdict(self) -> str:
        if not self.fitting:
            return UNKNOWN
        return CONFORMS if any(not differences(one, self.expected) for one in self.fitting) else DIFFERS


def properties(recipe: Recipe, expected: Expected) -> List[Tuple[str, str, str]]:
    """Name, what it is, and what the model takes."""
    padding = "none" if recipe.padding is None else recipe.grey
    takes = padding if recipe.padding is None or expected.framing == STRETCH else str(PADDING)
    resampling = " or ".join(recipe.resamplings)
    right = AS_IT_IS in recipe.resamplings or BILINEAR in recipe.resamplings
    return [
        ("axes", recipe.axes, "CHW" if recipe.axes in ("CHW", "HWC") else "NCHW"),
        ("channels", recipe.order, RGB),
        ("values", recipe.values.name, expected.values.name),
        ("framing", recipe.framing, expected.framing),
        ("padding", padding, takes),
        ("resampling", resampling, resampling if right else BILINEAR),
    ]


def differences(recipe: Recipe, expected: Expected) -> List[Tuple[str, str, str]]:
    """The properties that are not what the model takes."""
    return [one for one in properties(recipe, expected) if one[1] != one[2]]


def closest(found: Found) -> Recipe:
    """Of the fitting recipes the one with the fewest differences from what the model takes."""
    return min(found.fitting, key=lambda one: (len(differences(one, found.expected)), one.error))


def text(found: Found) -> str:
    """The report."""
    if not found.fitting:
        return _unknown(found)
    best = closest(found)
    wrong = differences(best, found.expected)
    name = found.expected.name
    sentence = f"preprocess: {found.subject} is {found.picture} as {name} takes it."
    if wrong:
        pairs = ", ".join(f"{value} instead of {takes}" for _, value, takes in wrong)
        sentence = f"preprocess: {found.subject} is {found.picture}, but not as {name} takes it: {pairs}."
    rows = [
        (what, value, "" if value == takes else f"{name} takes {takes}")
        for what, value, takes in properties(best, found.expected)
    ]
    lines = [*textwrap.wrap(sentence, WIDTH), "", *columns(rows), ""]
    lines += [f"  These make it to within {best.error:.2f} of 255 levels."]
    others = [one for one in found.fitting if one is not best]
    if others:
        lines += ["  This picture cannot tell them from:", ""]
        lines += [f"    {_short(one, best)}" for one in others[:MOST]]
        lines += [f"    and {len(others) - MOST} more"] if len(others) > MOST else []
    if wrong:
        lines += ["", *_pixels(found), "", *(f"  Fix:     {HINTS[what]}" for what, *_ in wrong)]
    return "\n".join(lines)


def _pixels(found: Found) -> List[str]:
    off = found.off
    if off is None:
        return []
    return [
        f"  Pixel by pixel beside the reference {100 * off.share:.3g} % differ by more than one level: {off.mean:.3g} on average,",
        f"  {off.largest:.4g} at row {off.row}, column {off.column}.",
    ]


def _short(one: Recipe, best: Recipe) -> str:
    """How a recipe differs from the one that is shown in full."""
    pairs = (
        (one.axes, best.axes),
        (one.order, best.order),
        (one.values.name, best.values.name),
        (one.framing, best.framing),
        (" or ".join(one.resamplings), " or ".join(best.resamplings)),
        (f"padding {one.grey}", f"padding {best.grey}"),
    )
    return ", ".join(mine for mine, other in pairs if mine != other) or "the same"


def _unknown(found: Found) -> str:
    sentence = f"preprocess: {found.subject} is made of {found.picture} by nothing that is tried here."
    lines = [*textwrap.wrap(sentence, WIDTH), ""]
    near = found.nearest
    if near is not None and near.typical < FAR:
        rows = [(name, value) for name, value, _ in properties(near.recipe, found.expected)]
        at = f"row {near.row}, column {near.column}"
        lines += ["  The nearest combination:", "", *columns(rows, "    "), ""]
        lines += [f"  It differs from that by {near.typical:.3g} of 255 levels on average, most at {at}.", ""]
    elif near is not None and near.typical >= UNEVEN:
        lines += ["  What the picture does not cover is not of one grey level.", ""]
    lines += ["  Is it the same picture, one image, not augmented? A crop, a flip or another picture fits nothing."]
    return "\n".join(lines)


def as_json(found: Found) -> Dict[str, Any]:
    """The same as data."""
    return {
        "subject": found.subject,
        "picture": found.picture,
        "model": found.expected.name,
        "verdict": found.verdict,
        "fitting": [_data(one) for one in found.fitting],
        "pixels": dataclasses.asdict(found.off) if found.off is not None else None,
        "differences": [list(one) for one in differences(closest(found), found.expected)] if found.fitting else [],
    }


def _data(one: Recipe) -> Dict[str, Any]:
    return {
        "axes": one.axes,
        "channels": one.order,
        "values": one.values.name,
        "framing": one.framing,
        "padding": list(one.padding) if one.padding is not None else None,
        "resamplings": list(one.resamplings),
        "error": one.error,
    }
