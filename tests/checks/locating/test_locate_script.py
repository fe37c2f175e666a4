"""Where a TorchScript file goes wrong: the module, the operator with its source line, and the cause."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any, Tuple

import numpy as np
import pytest

pytest.importorskip("torch", minversion="1.13")

import torch
from detparity.kit.tests.checks.locating.test_locate import BARE, SIZE, network
from torch import nn

from detparity.checks.locating.bundle import LARGEST, part_of
from detparity.checks.locating.causes import cause_of
from detparity.checks.locating.script_program import ScriptProgram
from detparity.checks.locating.search import Search
from detparity.cli import main
from detparity.core.errors import EngineError
from detparity.core.trace import Trace
from detparity.engines.torchscript_steps import common, operators
from detparity.inputs import images
from detparity.models.module_reference import Made, ModuleReference
from detparity.models.reference import ReferenceFacts

MODEL = """
import torch
from torch import nn

class Small(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(2)
        self.one, self.two = nn.Conv2d(3, 6, 3, 2, 1), nn.Conv2d(6, 5, 1)
        self.act = nn.LeakyReLU(0.1)

    def forward(self, x):
        return self.two(self.act(self.one(x))).flatten(2)

def make():
    return Small(), (1, 3, 32, 48)
"""


class Writing(nn.Module):
    """Writes to slices of what it computes, as decoders do."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.act = nn.Conv2d(3, 8, 3, 2, 1), nn.ReLU(inplace=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.act(self.conv(x)).permute(0, 2, 3, 1).contiguous()
        y[..., 0:2] = y[..., 0:2] * 2 - 0.5
        y[..., 2:4] *= 3.0
        return y.reshape(1, -1, 8).sigmoid()


class Converting(nn.Module):
    """Converts to float32, which in its own run is no operator; expands, and copies what is no dense tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.more, self.head = nn.Conv2d(3, 8, 3, 2, 1), nn.Parameter(torch.rand(1, 1, 4)), nn.Linear(8, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        rows = self.conv(x).flatten(2).transpose(1, 2).to(torch.float32)
        part = rows[..., 2:6].contiguous() + self.more.expand(1, rows.shape[1], 4).contiguous()
        return torch.cat([self.head(rows).to(torch.float32), part[:, ::2].reshape(1, -1, 4)], 1)


def traced(module: nn.Module, pictures: np.ndarray) -> Any:
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        return torch.jit.trace(module, torch.from_numpy(pictures), check_trace=False)


def reference(module: nn.Module, pictures: np.ndarray) -> Trace:
    return ModuleReference(Made(module, ReferenceFacts("network", "", (1, 3, *SIZE), ()))).trace(pictures)


@pytest.fixture(scope="module")
def given() -> Tuple[nn.Module, Trace, np.ndarray]:
    module, pictures = network()
    return module, reference(module, pictures), pictures


def searched(script: Any, trace: Trace, pictures: np.ndarray, folder: Path) -> Search:
    script.save(str(folder / "file.torchscript.pt"))
    return Search(trace, ScriptProgram(folder / "file.torchscript.pt", pictures))


@pytest.mark.parametrize("form", ["traced", "scripted"])
def test_a_good_program_is_its_model_all_through(given: Any, tmp_path: Path, form: str) -> None:
    module, trace, pictures = given
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        script = traced(module, pictures) if form == "traced" else torch.jit.script(module)
    search = searched(script, trace, pictures, tmp_path)
    found = search.located()
    assert found.ends and not found.faults
    titles = [part.title for part in search.program.parts]
    first = next(title for title in titles if "conv" in title)
    assert " of stem.conv, test_locate.py line " in first


def test_a_program_that_writes_to_slices_is_followed(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module, pictures = Writing().eval(), images.batch_of([("natural", 0)], SIZE)
    trace = reference(module, pictures)
    good = searched(traced(module, pictures), trace, pictures, tmp_path).located()
    assert good.ends and not good.faults
    script = traced(module, pictures)
    with torch.no_grad():
        script.conv.weight[3] *= 1.5
    (fault,) = searched(script, trace, pictures, tmp_path).located().faults
    assert fault.module == "conv"


def test_results_have_the_same_numbers_in_float64_and_with_any_of_them_given(tmp_path: Path) -> None:
    """They did not, by one for each conversion, and by a copy where a slice was given: a query detector's faults ended in an error."""
    torch.manual_seed(1)
    module, pictures = Converting().eval(), images.batch_of([("natural", 0)], SIZE)
    script, trace = traced(module, pictures), reference(module, pictures)
    program = searched(script, trace, pictures, tmp_path).program
    names = [part.makes[0] for part in program.parts]
    own, exact = program.rounded({}, names), program.exact({}, names)
    assert set(own) == set(exact) == set(names) and len(names) > 10
    assert all(np.allclose(own[name], exact[name], atol=1e-5) for name in names)
    for name in names:
        again = program.exact({name: exact[name]}, names)
        assert all(np.array_equal(again[one], exact[one]) for one in names), name

    with torch.no_grad():
        script.head.weight[1] *= 1.5
    (fault,) = searched(script, trace, pictures, tmp_path).located().faults
    assert fault.module == "head"


def test_a_weight_and_a_number_are_found_with_their_causes(given: Any, tmp_path: Path) -> None:
    module, trace, pictures = given
    script = traced(module, pictures)
    before = script.one.conv.weight[3].clone()
    with torch.no_grad():
        script.one.conv.weight[3] *= 1.5
    search = searched(script, trace, pictures, tmp_path)
    (fault,) = search.located().faults
    assert fault.module == "one.conv" and " of one.conv, " in fault.part.title
    cause = cause_of(search, fault)
    assert cause is not None and cause.kind in ("channels scaled", "weights of channels scaled")

    with torch.no_grad():
        script.one.conv.weight[3] = before
    slope = next(node for (name, _, _), node in operators(script) if name == "leaky_relu")
    number = slope.owningBlock().addNode("prim::Constant", [])
    number.moveBefore(slope)
    number.f_("value", 0.3)
    number.output().setType(torch._C.FloatType.get())
    slope.replaceInput(1, number.output())
    search = searched(script, trace, pictures, tmp_path)
    (fault,) = search.located().faults
    assert fault.module == "leaky"
    cause = cause_of(search, fault)
    assert cause is not None and cause.kind == "activation slope"
    part = part_of(search, fault)
    assert part.shows and len(part.inputs) == 1


def test_a_part_that_writes_to_what_it_reads_has_no_bundle(tmp_path: Path) -> None:
    torch.manual_seed(1)
    module, pictures = Writing().eval(), images.batch_of([("natural", 0)], SIZE)
    program = searched(traced(module, pictures), reference(module, pictures), pictures, tmp_path).program
    with pytest.raises(EngineError, match="writes to what it reads"):
        program.content({}, [program.outputs[0]])


def test_the_commands_name_the_operator(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "small.py").write_text(MODEL)
    namespace: Any = {}
    exec(MODEL, namespace)
    module = namespace["make"]()[0].eval()
    script = traced(module, images.batch_of([("natural", 0)], SIZE))
    file, report = tmp_path / "small.torchscript.pt", tmp_path / "report.json"
    script.save(str(file))
    model = ["--model", f"{tmp_path / 'small.py'}:make"]
    with torch.no_grad():
        script.two.bias[1] += 0.25
    script.save(str(file))
    bundle = tmp_path / "bundle"
    assert main.main(["locate", str(file), *model, "--json", str(report), "--bundle", str(bundle)]) == 1
    assert sum(one.stat().st_size for one in bundle.iterdir()) < LARGEST
    ran = subprocess.run(
        [sys.executable, "-c", BARE, str(bundle / "replay.py")], capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 1 and "it still differs" in ran.stdout, ran.stderr
    first = json.loads(report.read_text())["first"]
    assert (first["module"], first["kind"]) == ("two", "Conv2d") and "of two" in first["node"]
    assert first["kind_of_cause"] == "bias"
    capsys.readouterr()
    assert main.main(["check", str(file), *model, "--checks", "parity"]) == 1
    assert "It begins in two (Conv2d), at node" in capsys.readouterr().out


def test_the_longest_common_order() -> None:
    assert common(list("abcbd"), list("xabxbdd")) == [(0, 1), (1, 2), (3, 4), (4, 5)]
    assert common([], list("a")) == []
