"""Where a file goes wrong: the module, the node and the cause, on a small network of every kind of connection."""

from __future__ import annotations

import inspect
import io
import json
import subprocess
import sys
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, Tuple

import numpy as np
import pytest

pytest.importorskip("torch", minversion="1.13")

import onnx
import torch
from detparity.kit.tests.defects import edits
from torch import nn

from detparity.artifacts import onnx_graph
from detparity.checks.locating.causes import cause_of
from detparity.checks.locating.program import OnnxProgram
from detparity.checks.locating.search import Search
from detparity.cli import main
from detparity.core.case import Case
from detparity.core.errors import EngineDied
from detparity.core.findings import Finding, Outcome
from detparity.core.trace import Trace
from detparity.engines.remote import client
from detparity.inputs import images
from detparity.models.module_reference import Made, ModuleReference
from detparity.models.reference import ReferenceFacts

SIZE = (32, 48)
BARE = """
import importlib.abc, runpy, sys

class Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "onnx", "detparity"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
runpy.run_path(sys.argv[1], run_name="__main__")
"""  # an environment with numpy and onnxruntime alone
ACTIVATION = nn.SiLU()  # one module that several hold, as packages have it


class Block(nn.Module):
    def __init__(self, given: int, made: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(given, made, 3, stride, 1, bias=False)
        self.bn = nn.BatchNorm2d(made)
        self.act = ACTIVATION

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.act(self.bn(self.conv(x)))


class Network(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = Block(3, 8, 2)
        self.one = Block(8, 8)
        self.two = Block(8, 8, 2)
        self.leaky = nn.LeakyReLU(0.1)
        self.up = nn.Upsample(scale_factor=2)
        self.pool = nn.MaxPool2d(3, 1, 1)
        self.head = nn.Conv2d(16, 6, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        x = x + self.one(x)
        y = self.leaky(self.pool(self.two(x)))
        y = self.head(torch.cat([x, self.up(y)], 1))
        return y.flatten(2).transpose(1, 2).sigmoid()


def network() -> Tuple[Network, np.ndarray]:
    """The network with its batch-norm set, and a picture."""
    torch.manual_seed(3)
    module = Network().train()
    pictures = images.batch_of([("natural", 0)], SIZE)
    with torch.no_grad():
        for _ in range(60):
            module(torch.from_numpy(np.concatenate([pictures, 1 - pictures])))
    return module.eval(), pictures


@pytest.fixture(scope="module")
def given() -> Tuple[onnx.ModelProto, Trace, np.ndarray]:
    module, pictures = network()
    buffer = io.BytesIO()
    keywords: Dict[str, Any] = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            module,
            (torch.from_numpy(pictures),),
            buffer,
            input_names=["images"],
            output_names=["out"],
            opset_version=13,
            **keywords,
        )
    reference = ModuleReference(Made(module, ReferenceFacts("network", "", (1, 3, *SIZE), ())))
    return onnx.load_from_string(buffer.getvalue()), reference.trace(pictures), pictures


def searched(given: Any, model: onnx.ModelProto, folder: Path) -> Search:
    path = folder / "file.onnx"
    path.write_bytes(model.SerializeToString())
    graph = onnx_graph.read(path, client()).graph
    return Search(given[1], OnnxProgram(path, graph, "images", {"images": given[2]}))


def copied(model: onnx.ModelProto) -> onnx.ModelProto:
    return onnx.load_from_string(model.SerializeToString())


def test_a_good_file_is_its_model_all_through(given: Any, tmp_path: Path) -> None:
    search = searched(given, copied(given[0]), tmp_path)
    found = search.located()
    assert found.ends and not found.faults and found.same == found.of


def resized(model: onnx.ModelProto) -> onnx.NodeProto:
    edits.set_attribute(edits.nodes(model, "Resize")[0], "nearest_mode", "ceil")
    return edits.nodes(model, "Resize")[0]


def slope(model: onnx.ModelProto) -> onnx.NodeProto:
    edits.set_attribute(edits.nodes(model, "LeakyRelu")[0], "alpha", 0.2)
    return edits.nodes(model, "LeakyRelu")[0]


def padded(model: onnx.ModelProto) -> onnx.NodeProto:
    edits.set_attribute(edits.nodes(model, "Conv")[2], "pads", [0, 1, 2, 1])
    return edits.nodes(model, "Conv")[2]


def scaled(model: onnx.ModelProto) -> onnx.NodeProto:
    weight = edits.value_of(model, edits.weight(model, 1))
    weight[3] *= 1.5
    edits.set_value(model, edits.weight(model, 1), weight)
    return edits.nodes(model, "Conv")[1]


def reordered(model: onnx.ModelProto) -> onnx.NodeProto:
    node = next(node for node in edits.nodes(model, "Concat") if len(node.input) == 2 and "up" in node.input[1])
    node.input[:] = list(node.input)[::-1]
    return node


def unsummed(model: onnx.ModelProto) -> onnx.NodeProto:
    node = edits.nodes(model, "Add")[0]
    node.op_type = "Identity"
    del node.input[1]
    return node


def averaged(model: onnx.ModelProto) -> onnx.NodeProto:
    node = edits.nodes(model, "MaxPool")[0]
    left = [one for one in node.attribute if one.name in ("kernel_shape", "pads", "strides")]
    del node.attribute[:]
    node.attribute.extend(left)
    node.op_type = "AveragePool"
    return node


def doubled(model: onnx.ModelProto) -> onnx.NodeProto:
    edits.splice(model, "out", lambda x, op: op("Sigmoid", x))
    return edits.nodes(model, "Sigmoid")[-1]


def reversed_image(model: onnx.ModelProto) -> onnx.NodeProto:
    weight = edits.value_of(model, edits.weight(model, 0))
    edits.set_value(model, edits.weight(model, 0), weight[:, ::-1])
    return edits.nodes(model, "Conv")[0]


PLANTED: Dict[str, Tuple[Callable[[onnx.ModelProto], onnx.NodeProto], str, str]] = {
    "resize": (resized, "up", "resize rounding"),
    "slope": (slope, "leaky", "activation slope"),
    "padding": (padded, "two", "convolution padding"),
    "channel": (scaled, "one", "weights of channels scaled"),
    "concatenation": (reordered, "", "order of a concatenation"),
    "image": (reversed_image, "stem", "input channels of weights"),
    "sum": (unsummed, "", "term lost"),
    "pool": (averaged, "pool", "pool kind"),
    "sigmoid": (doubled, "", "function doubled"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_a_fault_is_found_where_it_is_with_its_cause(given: Any, tmp_path: Path, name: str) -> None:
    plant, module, kind = PLANTED[name]
    model = copied(given[0])
    node = plant(model)
    search = searched(given, model, tmp_path)
    found = search.located()
    assert [fault.tensor for fault in found.faults] == [node.output[0]] and found.ends
    fault = found.faults[0]
    assert (fault.module, fault.part.makes) == (module, (node.output[0],))
    cause = cause_of(search, fault)
    assert cause is not None and cause.kind == kind


def test_several_places_are_all_named_and_names_are_not_needed(given: Any, tmp_path: Path) -> None:
    model = copied(given[0])
    nodes = [slope(model), scaled(model)]
    for node in model.graph.node:
        node.name = ""
    found = searched(given, model, tmp_path).located()
    assert {fault.tensor for fault in found.faults} == {node.output[0] for node in nodes}
    assert {fault.module for fault in found.faults} == {"leaky", "one"}


def test_an_output_that_is_another_tensor_of_the_model_is_a_fault(given: Any, tmp_path: Path) -> None:
    """The file's last sigmoid is left out: its output is what the model computes before that."""
    model = copied(given[0])
    node = next(node for node in model.graph.node if "out" in node.output)
    assert node.op_type == "Sigmoid"
    node.op_type = "Identity"
    search = searched(given, model, tmp_path)
    (fault,) = search.located().faults
    cause = cause_of(search, fault)
    assert fault.tensor == "out" and cause is not None and cause.kind == "other activation"


def test_of_a_tensor_and_its_copy_the_one_that_breaks_nothing_is_wrong(given: Any, tmp_path: Path) -> None:
    """A sigmoid that is left out of a SiLU: its output equals its input, and the product of both is the model's with either."""
    model = copied(given[0])
    node = edits.nodes(model, "Sigmoid")[0]
    node.op_type = "Identity"
    search = searched(given, model, tmp_path)
    (fault,) = search.located().faults
    cause = cause_of(search, fault)
    assert fault.tensor == node.output[0] and cause is not None and cause.kind == "other activation"


def inserted(model: onnx.ModelProto, kind: str) -> onnx.NodeProto:
    """An operator behind the pool that the model does not have."""
    (pool,) = edits.nodes(model, "MaxPool")
    tensor = pool.output[0]
    for node in model.graph.node:
        node.input[:] = ["planted" if name == tensor else name for name in node.input]
    node = onnx.helper.make_node(kind, [tensor], ["planted"])
    model.graph.node.insert(list(model.graph.node).index(pool) + 1, node)
    return node


@pytest.mark.parametrize("kind, cause", [("Round", "rounded to integers"), ("Tanh", "function doubled")])
def test_an_operator_too_many_is_no_slope(given: Any, tmp_path: Path, kind: str, cause: str) -> None:
    model = copied(given[0])
    inserted(model, kind)
    search = searched(given, model, tmp_path)
    (fault,) = search.located().faults
    found = cause_of(search, fault)
    assert fault.tensor == "planted" and found is not None and found.kind == cause


def noisy(model: onnx.ModelProto) -> onnx.NodeProto:
    weight = edits.value_of(model, edits.weight(model, 1))
    weight += np.random.default_rng(0).normal(size=weight.shape).astype(np.float32) * 0.02
    edits.set_value(model, edits.weight(model, 1), weight)
    return edits.nodes(model, "Conv")[1]


def rounded(model: onnx.ModelProto) -> onnx.NodeProto:
    weight = edits.value_of(model, edits.weight(model, 1))
    edits.set_value(model, edits.weight(model, 1), weight.astype(np.float16).astype(np.float32))
    return edits.nodes(model, "Conv")[1]


@pytest.mark.parametrize("plant, kind", [(noisy, "other weights"), (rounded, "weights rounded to float16")])
def test_weights_are_compared_with_the_models(given: Any, tmp_path: Path, plant: Any, kind: str) -> None:
    model = copied(given[0])
    plant(model)
    search = searched(given, model, tmp_path)
    (fault,) = search.located().faults
    cause = cause_of(search, fault)
    assert fault.module == "one" and cause is not None and cause.kind == kind


def test_a_cause_that_does_not_explain_everything_is_not_named(given: Any, tmp_path: Path) -> None:
    model = copied(given[0])
    edits.set_attribute(noisy(model), "pads", [0, 1, 2, 1])
    search = searched(given, model, tmp_path)
    (fault,) = search.located().faults
    assert fault.module == "one" and cause_of(search, fault) is None


def test_the_command_writes_a_bundle_that_repeats_without_torch(
    given: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = tmp_path / "good.onnx", tmp_path / "bad.onnx"
    good.write_bytes(given[0].SerializeToString())
    model = copied(given[0])
    node = scaled(model)
    bad.write_bytes(model.SerializeToString())
    folder, report = tmp_path / "bundle", tmp_path / "report.json"
    arguments = ["locate", str(bad), "--against", str(good), "--bundle", str(folder), "--json", str(report)]
    assert main.main(arguments) == 1
    assert json.loads(report.read_text())["first"]["tensor"] == node.output[0]
    assert sum(one.stat().st_size for one in folder.iterdir()) < 200_000
    script = (folder / "replay.py").read_text()
    assert len(script.splitlines()) <= 40 and "detparity" not in script and "torch" not in script
    ran = subprocess.run(
        [sys.executable, "-c", BARE, str(folder / "replay.py")], capture_output=True, text=True, timeout=100
    )
    assert ran.returncode == 1 and "it still differs" in ran.stdout, ran.stderr
    assert main.main(["replay", str(folder)]) == 1
    assert main.main(["locate", str(good), "--against", str(good)]) == 0
    assert main.main(["replay", str(tmp_path / "missing")]) == 2
    with np.load(folder / "arrays.npz") as stored:
        arrays = dict(stored)
    for name in set(arrays) - {"found"}:
        np.savez(folder / "arrays.npz", **{other: one for other, one in arrays.items() if other != name})
        assert main.main(["replay", str(folder)]) == 2, name
    np.savez(folder / "arrays.npz", **{**arrays, "expected": np.full_like(arrays["expected"], np.nan)})
    assert main.main(["replay", str(folder)]) == 1  # what is no number is no agreement
    ran = subprocess.run([sys.executable, str(folder / "replay.py")], capture_output=True, text=True, timeout=100)
    assert ran.returncode == 1, ran.stderr
    facts = json.loads((folder / "facts.json").read_text())
    for damaged in ({}, [], {**facts, "allowed": "x"}, {**facts, "case": 1, "file": None, "error": None}):
        (folder / "facts.json").write_text(json.dumps(damaged))
        assert main.main(["replay", str(folder)]) == 2
        assert "damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error", [EngineDied("memory", "takes more memory than it may"), MemoryError(), ValueError("x")]
)
@pytest.mark.parametrize("step", ["locate", "cause_of"])
def test_a_search_that_ends_leaves_the_finding(step: str, error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    from detparity.checks.locating import note

    def ends(*_: Any) -> None:
        raise error

    located: Any = SimpleNamespace(located=SimpleNamespace(faults=(None,)), trace=None, search=None)
    monkeypatch.setattr(note, "locate", lambda *_: located)
    monkeypatch.setattr(note, "where", lambda *_: "")
    monkeypatch.setattr(note, "record", lambda *_: {})
    monkeypatch.setattr(note, step, ends)
    found = Finding("differs.", evidence={"case": Case(SIZE, (("noise", 0),))})
    outcome = Outcome("parity.declared", "MUST", "failed", (found,))
    context: Any = SimpleNamespace(notes={})
    (left,) = note.with_fault(None, context, outcome).findings  # type: ignore[arg-type]
    assert left.message == "differs." and type(error).__name__ in left.notes[0]


def test_a_recording_holds_each_value_once_and_as_it_was():
    """An operator that writes to its input, an activation with parts, a constant, and a convolution run by strips elsewhere."""
    from torch import nn

    from detparity.models.exact_conv import run_at_once, use_strips
    from detparity.models.recording import recorded

    class Net(nn.Module):
        def __init__(self):
            super().__init__()
            self.conv, self.act, self.late = nn.Conv2d(3, 4, 3, padding=1), nn.SiLU(), nn.ReLU(inplace=True)

        def forward(self, x):
            x = self.act(self.conv(x))
            grid = torch.arange(6.0).reshape(1, 1, 1, 6)
            return self.late(x - 0.1) + grid

    for inplace in (True, False):
        net = Net().double().eval()
        net.late.inplace = inplace
        use_strips(net)
        images = np.random.default_rng(0).random((1, 3, 5, 6))
        with run_at_once(net):
            trace = recorded(net, net, images)
        by_operator = {step.operator: value for step, value in zip(trace.steps, trace.values)}
        with torch.no_grad():
            x = net.conv(torch.from_numpy(images))
        np.testing.assert_allclose(by_operator["convolution"], x.numpy())
        np.testing.assert_allclose(
            by_operator["sub"], torch.nn.functional.silu(x).numpy() - 0.1
        )  # before it is written to
        fixed = {step.operator for step in trace.steps if step.fixed}
        assert "arange" in fixed or "view" in fixed or "reshape" in fixed
        assert not fixed & {"convolution", "silu", "sub", "add"}
        assert trace.kinds["conv"] == "Conv2d" and any(step.module == "conv" for step in trace.steps)
