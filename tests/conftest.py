"""The lanes of tox.ini as facts, for tests of what spans them."""

from __future__ import annotations

import configparser
import re
from typing import Dict, List

import pytest

from detparity.core import resources

KIT = resources.root()


def _expand(text: str) -> List[str]:
    """`a{1,2}` to a1 and a2."""
    braces = re.search(r"\{([^{}]*)\}", text)
    if not braces:
        return [text]
    return [one for part in braces.group(1).split(",") for one in _expand(text.replace(braces.group(0), part, 1))]


@pytest.fixture(scope="session")
def lanes() -> Dict[str, Dict[str, str]]:
    """Versions by package, python included, of every lane, as its constraints pin them."""
    tox = KIT / "tox.ini"
    if not tox.is_file():
        pytest.skip("an installed kit has no tox.ini")
    config = configparser.ConfigParser(interpolation=None)
    config.read(str(tox), encoding="utf-8")
    names = [name for line in config["tox"]["env_list"].split() for name in _expand(line.strip(",")) if "torch" in name]
    return {name: _pins(name) for name in names}


def _pins(lane: str) -> Dict[str, str]:
    text = (KIT / "constraints" / f"{lane}.txt").read_text(encoding="utf-8")
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE))
    python = re.search(r"^# .*Python (\d+\.\d+\.\d+)", text, re.MULTILINE)
    assert python and "torch" in pins, f"{lane}: its constraints name no Python or no torch"
    return {**pins, "python": python.group(1)}
