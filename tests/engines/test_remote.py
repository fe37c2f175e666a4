"""The engines in a child process give what they give in ours, and a file that ends the child is named."""

from __future__ import annotations

import contextlib
import os
import sys

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from detparity import engines
from detparity.artifacts import onnx_native
from detparity.core.errors import EngineDied, EngineError, NotMade
from detparity.core.vocabulary import Load
from detparity.engines import torchscript
from detparity.engines.remote import client
from detparity.inputs.images import make
from detparity.models.compat import jit

SIZE = (256, 320)
SHOWN = {"grid": "onnxruntime", "end2end-trt": "efficient_nms", "traced": "torchscript", "lite": "lite"}


@pytest.mark.smoke
@pytest.mark.parametrize("name", sorted(SHOWN))
def test_the_same_bits(name, made):
    path = made(name)
    if isinstance(path, NotMade):
        pytest.skip(str(path))
    feed = {"images": make("noise", SIZE, 3)[None].copy()}

    here = engines.module(SHOWN[name]).prepare(path, Load(threads=1))
    there = client().prepare(SHOWN[name], path, Load(threads=1))

    assert (there.engine, dict(there.facts), there.input_names) == (
        here.engine,
        dict(here.facts),
        tuple(here.input_names),
    )
    ours, theirs = here.call(feed), there.call(feed)
    assert list(ours) == list(theirs)
    for output, values in ours.items():
        assert np.array_equal(values, theirs[output]) and values.dtype == theirs[output].dtype


@pytest.mark.smoke
def test_a_script_reads_as_the_same_facts(made):
    path = made("traced")

    ours, theirs = torchscript.read(str(path)), client().read_script("torchscript", path)

    assert theirs.state.keys() == ours.state.keys()
    assert all(np.array_equal(theirs.state[key], ours.state[key]) for key in ours.state)
    assert [constant.source for constant in theirs.constants] == [constant.source for constant in ours.constants]
    assert all(np.array_equal(a.value, b.value) for a, b in zip(theirs.constants, ours.constants))
    assert (theirs.ops, theirs.written, theirs.metadata) == (dict(ours.ops), ours.written, ours.metadata)


class Counting(torch.nn.Module):
    """Gives how often it was run, besides a constant."""

    def __init__(self, constant: float) -> None:
        super().__init__()
        self.register_buffer("runs", torch.zeros(1))
        self.constant = constant

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.runs += 1.0
        return self.runs + self.constant + 0.0 * images.sum()


@pytest.mark.smoke
def test_what_was_read_is_run_without_loading_it_again_and_by_one_runner_alone(tmp_path, monkeypatch):
    path, feed = str(tmp_path / "counting.pt"), {"images": np.zeros((1, 3, 4, 4), np.float32)}
    jit.save(jit.script(Counting(0.0)), path, {})
    loaded, load = [], torchscript.jit.load
    monkeypatch.setattr(torchscript.jit, "load", lambda *args: loaded.append(1) or load(*args))

    torchscript.read(path)
    runners = [torchscript.prepare(path), torchscript.prepare(path)]
    assert len(loaded) == 2  # once to be read and run, once for the second runner
    assert [float(one.call(feed)["output"][0]) for one in (*runners, *runners)] == [1.0, 1.0, 2.0, 2.0]

    torchscript.read(path)
    jit.save(jit.script(Counting(0.5)), path, {})
    assert float(torchscript.prepare(path).call(feed)["output"][0]) == 1.5


@pytest.mark.smoke
def test_onnx_says_the_same(made):
    path = made("grid")

    assert client().problem(path) == onnx_native.problem(path) is None
    assert client().inferred(path) == onnx_native.inferred(path) != b""


@pytest.mark.smoke
def test_a_refusal_is_the_engines_own(tmp_path):
    (tmp_path / "cut.onnx").write_bytes(b"\x08\x07" + b"x" * 50)

    with pytest.raises(EngineError) as theirs:
        client().prepare("onnxruntime", tmp_path / "cut.onnx")
    with pytest.raises(EngineError) as ours:
        engines.module("onnxruntime").prepare(tmp_path / "cut.onnx")

    assert str(theirs.value) == str(ours.value)


def _model(nodes, initializers=()):
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 64, 64])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "g", [image], [output], list(initializers))
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def crashes_in_inference():
    """onnx's shape inference follows a batch_dims of -2^31 out of the shape."""
    indices = [
        numpy_helper.from_array(np.zeros((4, 2, 4), np.float32), "d"),
        numpy_helper.from_array(np.zeros(2, np.int64), "ix"),
    ]
    nodes = [
        helper.make_node("GatherND", ["d", "ix"], ["q"], batch_dims=-(2**31)),
        helper.make_node("Identity", ["images"], ["output"]),
    ]
    return _model(nodes, indices)


def aborts_when_run():
    """ONNX Runtime asserts low < high in the standard library."""
    nodes = [
        helper.make_node("RandomUniform", [], ["r"], low=1e30, shape=[1]),
        helper.make_node("Add", ["images", "r"], ["output"]),
    ]
    return _model(nodes)


def test_a_crash_is_named_and_the_next_file_runs(tmp_path, made):
    onnx.save(aborts_when_run(), tmp_path / "abort.onnx")
    onnx.save(crashes_in_inference(), tmp_path / "infer.onnx")
    good = client().prepare("onnxruntime", made("grid"))
    feed = {"images": make("noise", SIZE, 3)[None].copy()}
    before = good.call(feed)

    bad = client().prepare("onnxruntime", tmp_path / "abort.onnx")
    with pytest.raises(EngineDied, match=r"^crashes the process \(SIGABRT\) while onnxruntime runs it$"):
        bad.call({"images": np.zeros((1, 3, 64, 64), np.float32)})
    with pytest.raises(EngineDied, match=r"^crashes the process \(SIGSEGV\) while onnx infers shapes$"):
        client().inferred(tmp_path / "infer.onnx")

    after = good.call(feed)  # loaded again in the new worker
    assert all(np.array_equal(before[name], after[name]) for name in before)


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems take UTF-8 alone")
def test_a_path_that_is_not_utf8_is_loaded(made, tmp_path):
    path = tmp_path / os.fsdecode(b"\xff\xfe.onnx")
    path.write_bytes(made("grid").read_bytes())
    feed = {"images": make("noise", SIZE, 3)[None].copy()}

    assert client().prepare("onnxruntime", path).call(feed)["output"].shape[0] == 1


def test_torchscript_is_compiled_for_so_many_shapes(monkeypatch):
    asked = []

    @contextlib.contextmanager
    def compiling(allowed):
        asked.append(allowed)
        yield

    monkeypatch.setattr(torchscript.jit, "compiling", compiling)
    feeds = [{"images": np.zeros((1, 3, side, 8), np.float32)} for side in (8, 16, 8, 24, 16)]

    for how, expected in ((Load(compiled=2), [True, True, True, False, True]), (Load(), [True] * 5)):
        runner = torchscript.runner("torchscript", torch.nn.Identity(), how)
        asked.clear()
        for feed in feeds:
            runner.call(feed)
        assert asked == expected


@pytest.mark.lanes
def test_what_is_not_compiled_gives_the_same():
    module = torch.jit.trace(
        torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.LeakyReLU(0.1)), torch.zeros(1, 3, 8, 8)
    )
    x = torch.rand(2, 3, 16, 8)
    with torch.no_grad():
        plain = module(x)
        with jit.compiling(False):
            assert all(torch.allclose(module(x), plain, atol=1e-6) for _ in range(3))
        assert torch.allclose(module(x), plain, atol=1e-6)
