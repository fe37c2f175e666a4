"""Each shim is needed: switched off, it breaks in the versions it names, as it states, and nowhere else.

In a bare run (`tox -e LANE -- --bare tests/models/compat/test_shims.py`) every shim is off, one after the other, and `test_works` is
red exactly where one is needed.
"""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import warnings
from typing import Dict

import pytest
import torch
from torch import nn

from detparity.core import environment, resources
from detparity.models.compat import shims

pytestmark = pytest.mark.smoke

SHIMS = shims.registry()
KIT = resources.root()
FACTS = environment.environment()

# Every probe with its own shim off, in a process of its own: some of torch's warnings are given once per process.
ALL_BARE = f"""
import json, os, warnings
from detparity.models.compat import shims
os.environ.pop({shims.SWITCH!r}, None)
modules, found = shims.registry(), {{}}
for name, module in modules.items():
    os.environ[{shims.SWITCH!r}] = name
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            module.probe()
        except BaseException as error:
            found[name] = f"{{type(error).__name__}}: {{error}}"
print("FOUND", json.dumps(found))
"""


def _needed(name: str) -> list[shims.Need]:
    return [need for need in SHIMS[name].SHIM.needs if environment.holds(need.when, FACTS)]


@pytest.fixture(scope="module")
def without() -> Dict[str, str]:
    """What each probe says with its shim switched off; a probe that passes is left out."""
    result = subprocess.run([sys.executable, "-c", ALL_BARE], capture_output=True, text=True, cwd=str(KIT))
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.rpartition("FOUND")[2])


@pytest.mark.parametrize("name", sorted(SHIMS))
def test_works(name, monkeypatch):
    """With warnings as errors; in a bare lane without this one shim."""
    if os.environ.get(shims.SWITCH) == "all":
        monkeypatch.setenv(shims.SWITCH, name)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        SHIMS[name].probe()


@pytest.mark.parametrize("name", sorted(SHIMS))
def test_is_needed_where_it_says_and_nowhere_else(name, without):
    needs = _needed(name)

    if needs:
        assert name in without, f"{name} is stated to be needed here ({needs[0].when}), and nothing breaks without it"
        assert re.match(needs[0].breaks, without[name]), f"{name} breaks otherwise than it states: {without[name]}"
    else:
        assert name not in without, f"{name} is stated not to be needed here, yet without it: {without[name]}"


@pytest.mark.parametrize("name", sorted(SHIMS))
def test_some_lane_needs_it(name, lanes):
    """Every condition of every shim is met by a lane, so that none outlives its versions."""
    shim = SHIMS[name].SHIM
    idle = [
        need.when for need in shim.needs if not any(environment.holds(need.when, found) for found in lanes.values())
    ]

    assert shim.needs and idle == [], f"{name}: no lane of tox.ini needs it for {idle}"
    assert shim.without and shim.until and SHIMS[name].__doc__


def test_the_conditions_of_a_shim_do_not_overlap(lanes):
    for name, module in SHIMS.items():
        for lane, found in lanes.items():
            met = [need.when for need in module.SHIM.needs if environment.holds(need.when, found)]
            assert len(met) <= 1, f"{name} in {lane}: {met}"


@pytest.mark.parametrize(
    "make", [lambda: nn.Conv2d(3, 3, 1), lambda: nn.BatchNorm2d(3), lambda: nn.Sequential(nn.Conv2d(3, 3, 1))]
)
def test_no_version_needs_a_shim_for_missing_buffer_sets(make):
    """Modules pickled before torch 1.6 lack `_non_persistent_buffers_set`. Every torch from 1.7 on adds it as it unpickles, so
    there is no shim; where this turns red one is needed."""
    module = make()
    state = {key: value for key, value in module.__dict__.items() if key != "_non_persistent_buffers_set"}
    old = type(module).__new__(type(module))
    old.__setstate__(state)

    copied = copy.deepcopy(old).double()

    assert copied.state_dict().keys() == module.state_dict().keys()
    assert copied(torch.zeros(1, 3, 2, 2, dtype=torch.float64)).shape == (1, 3, 2, 2)


def test_the_reference_page_is_the_shims(capsys):
    from detparity.cli import main

    assert main.main(["shims", "--markdown"]) == 0
    assert capsys.readouterr().out == (KIT / "docs" / "shims.md").read_text(encoding="utf-8")
