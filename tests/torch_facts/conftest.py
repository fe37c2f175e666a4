"""One small detector for the facts that are about detectors. Nobody changes it."""

from __future__ import annotations

import pytest

from detparity.models.compat import jit
from detparity.models.yolov7.seeded import seeded


@pytest.fixture(scope="session")
def network():
    """The network of yolov7-tiny at a quarter of its width: from images to a list of three raw tensors."""
    return seeded("yolov7-tiny", width=0.25).network


@pytest.fixture(scope="session")
def scripted_network(network):
    return jit.script(network)
