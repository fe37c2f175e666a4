"""What was done to a picture: the combination that was used is named, alone where the picture tells it from others."""

from __future__ import annotations

import numpy as np
import pytest
from detparity.kit.tests.tools.preprocess.drawn import drawn, picture

from detparity.core.errors import InputError
from detparity.inputs.framing import STRETCH, frame, letterbox
from detparity.tools.preprocess.identify import AS_IT_IS, BGR, RGB, against_reference, identify
from detparity.tools.preprocess.values import conventions

VALUES = conventions()


def _names(one):
    grey = None if one.padding is None else one.padding[0]
    return (one.axes, one.order, one.values.name, one.framing, one.resamplings), grey


def _held(seed):
    """Whether the combination that was used is the only one named. Fails where it is not named at all."""
    source, tensor, (*names, padding) = drawn(seed)
    fitting, _ = identify(source, tensor, VALUES)
    found = dict(map(_names, fitting))
    framing = names[3]
    same = [other for other in found if other[:3] == tuple(names[:3])]
    size = (tensor.shape[-2], tensor.shape[-1]) if names[0].endswith("CHW") else tensor.shape[-3:-1]
    if frame(source.shape[:2], size, framing).size == source.shape[:2]:
        names[4] = AS_IT_IS
    equal = {
        other[3] for other in same if frame(source.shape[:2], size, other[3]) == frame(source.shape[:2], size, framing)
    }
    assert any(names[4] in other[4] and other[3] in equal for other in same), (seed, names, found)
    if padding is not None:
        assert all(abs(grey - padding) < 0.1 for grey in found.values() if grey is not None), (seed, names, found)
    return len(found) == 1


@pytest.mark.parametrize("seed", range(8))
def test_what_was_done_is_named(seed):
    _held(seed)


@pytest.mark.slow
def test_two_hundred_are_named_and_most_of_them_alone():
    alone = [_held(seed) for seed in range(100, 300)]
    print(f"\nnamed in {len(alone)} of 200, alone in {sum(alone)}")
    assert sum(alone) >= 180


def test_the_reference_is_its_own_letterbox_to_the_pixel():
    source = picture(np.random.default_rng(1), 90, 120)
    tensor = letterbox(source, (128, 160)).transpose(2, 0, 1)[None].astype(np.float32) / 255

    off = against_reference(source, tensor, VALUES[0], "letterbox")

    assert off.share == 0 and off.largest < 1e-3
    assert frame((427, 640), (640, 640)).top == 106  # of 213 rows left over 106 are above


def test_a_square_picture_cannot_tell_stretching_from_letterbox():
    source = picture(np.random.default_rng(2), 64, 64)
    fitting, _ = identify(source, letterbox(source, (96, 96)), VALUES)

    assert {one.framing for one in fitting} == {"letterbox"}
    assert frame((64, 64), (96, 96), STRETCH) == frame((64, 64), (96, 96))


@pytest.mark.parametrize(
    "change",
    [
        lambda image: image[:, ::-1],  # mirrored
        lambda image: np.roll(image, 1, 1),  # one pixel off
        lambda image: np.clip(image.astype(int) + 3, 0, 255).astype(np.uint8),  # brighter
        lambda image: image[:, :, [1, 0, 2]],
    ],
)
def test_anything_else_fits_nothing(change):
    source = picture(np.random.default_rng(3), 90, 120)

    fitting, nearest = identify(source, change(letterbox(source, (128, 160))), VALUES)

    assert not fitting and nearest is not None and nearest.typical > 0


def test_uint8_without_batch_is_read():
    source = picture(np.random.default_rng(4), 50, 80)
    (one, *_), _ = identify(source, letterbox(source, (50, 80))[:, :, ::-1], VALUES)

    assert _names(one) == (("HWC", BGR, "0..255 (not divided)", "letterbox", (AS_IT_IS,)), None)
    assert RGB not in [one.order for one in identify(source, letterbox(source, (50, 80))[:, :, ::-1], VALUES)[0]]


@pytest.mark.parametrize(
    ("tensor", "words"),
    [
        (np.zeros((2, 5)), "is no image"),
        (np.zeros((1, 4, 8, 8)), "no axis of 3 channels"),
        (np.full((3, 8, 8), np.nan), "192 values that are not finite"),
        (np.zeros((3, 8, 8), complex), "is no image"),
    ],
)
def test_what_is_no_image_is_one_line(tensor, words):
    with pytest.raises(InputError, match=words):
        identify(np.zeros((8, 8, 3), np.uint8), tensor, VALUES)
