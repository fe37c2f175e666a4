"""From levels of a picture (0 to 255) to the numbers of a tensor: every convention in use, as a * level + b for each channel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List, Sequence, Tuple

import numpy as np

from detparity.core.layout import Preprocessing

Triple = Tuple[float, float, float]
MEAN: Triple = (0.485, 0.456, 0.406)  # of ImageNet, red, green, blue, in units of 0..1
STD: Triple = (0.229, 0.224, 0.225)
CAFFE_MEAN: Triple = (123.68, 116.779, 103.939)  # red, green, blue, in levels


@dataclass(frozen=True)
class Values:
    """A convention. a, b: of each channel in the order of the tensor."""

    name: str
    a: Triple
    b: Triple


def conventions() -> List[Values]:
    """All that are tried."""
    imagenet, turned = Preprocessing(mean=MEAN, std=STD), Preprocessing(mean=MEAN[::-1], std=STD[::-1])
    return [
        _even("0..1 (divided by 255)", 1 / 255),
        _even("0..255 (not divided)", 1.0),
        _even("0..1/255 (divided by 255 twice)", 1 / 255**2),
        _even("0..0.996 (divided by 256)", 1 / 256),
        _even("-1..1", 2 / 255, -1.0),
        _even("-0.5..0.5", 1 / 255, -0.5),
        _even("-128..127", 1.0, -128.0),
        normalised("ImageNet's mean and deviation", imagenet),
        normalised("ImageNet's mean and deviation, those of blue for red", turned),
        Values("Caffe's mean taken off", (1.0, 1.0, 1.0), _negative(CAFFE_MEAN)),
        Values("Caffe's mean taken off, that of blue for red", (1.0, 1.0, 1.0), _negative(CAFFE_MEAN[::-1])),
    ]


def of_a_model(preprocessing: Preprocessing, known: Sequence[Values]) -> Values:
    """The convention of a model: one of the known ones where it is."""
    stated = normalised("the model's own mean, deviation and scale", preprocessing)
    return next((one for one in known if np.allclose(one.a + one.b, stated.a + stated.b, rtol=1e-6)), stated)


def normalised(name: str, preprocessing: Preprocessing) -> Values:
    """The line of a model's own preprocessing, for channels in its order."""
    mean, std = preprocessing.mean or (0.0,) * 3, preprocessing.std or (1.0,) * 3
    a = [preprocessing.scale / 255 / std[k] for k in range(3)]
    b = [-preprocessing.scale * mean[k] / std[k] for k in range(3)]
    return Values(name, (a[0], a[1], a[2]), (b[0], b[1], b[2]))


def _even(name: str, a: float, b: float = 0.0) -> Values:
    return Values(name, (a, a, a), (b, b, b))


def _negative(values: Sequence[float]) -> Triple:
    return (-values[0], -values[1], -values[2])
