"""A file as a server runs it: a good server passes over both forms of the protocol, and whatever a bad one does is one clear line."""

from __future__ import annotations

import json

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", minversion="1.13")  # a graph in float64

from detparity.kit.tests.engines.loopback import serving
from onnx import TensorProto, helper, numpy_helper

import detparity
from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.sources import source_of
from detparity.checks.run import judge_all
from detparity.checks.session import Options, Session
from detparity.cli import main
from detparity.core.endpoint import parse
from detparity.core.errors import EngineError, InputError
from detparity.engines import kserve_http
from detparity.models.choice import ModelChoice
from detparity.tools.export_cache import exported

CHECKS = "endpoint,parity.declared,parity.batches,parity.repeat"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A file of one convolution, whose rows are the cells of a picture: (batch, 3, 32, 32) to (batch, 16, 10)."""
    drawn = np.random.default_rng(0)
    weights = [("w", drawn.normal(0, 0.1, (10, 3, 8, 8))), ("b", drawn.normal(0, 1, 10))]
    tensors = [numpy_helper.from_array(array.astype(np.float32), name) for name, array in weights]
    tensors.append(numpy_helper.from_array(np.array([0, 10, 16], np.int64), "shape"))
    nodes = [
        helper.make_node("Conv", ["images", "w", "b"], ["cells"], kernel_shape=[8, 8], strides=[8, 8]),
        helper.make_node("Reshape", ["cells", "shape"], ["columns"]),
        helper.make_node("Transpose", ["columns"], ["output"], perm=[0, 2, 1]),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 32, 32])
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 16, 10])
    graph = helper.make_graph(nodes, "small", [images], [output], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 12)])
    model.ir_version = 7
    made = tmp_path_factory.mktemp("served") / "small.onnx"
    onnx.save(model, str(made))
    return made


def judged(server, path, checks=CHECKS):
    """The records of a quick run against the file's own graph, by check."""
    choice = ModelChoice(against="self")
    run = Session(
        Options(choice, (path,), checks=checks, quick=True, endpoint=server.endpoint), None, source_of(choice)
    )
    return {one.record["check"]["id"]: one.record["check"] for one in judge_all(run, run.subjects())}


def findings(records):
    return {
        name: [one["message"] for one in record["findings"]] for name, record in records.items() if record["findings"]
    }


@pytest.mark.parametrize("binary", [True, False])
def test_a_good_server_passes_over_both_forms_of_the_protocol(path, binary):
    with serving(path, binary=binary) as server:
        records = judged(server, path)

    assert {name: record["outcome"] for name, record in records.items()} == dict.fromkeys(records, "passed")
    assert {"endpoint.names", "endpoint.tensors", "endpoint.concurrency", "endpoint.batching"} <= set(records)
    assert server.requests > 30


@pytest.mark.parametrize(
    "how, check, says",
    [
        ("renamed", "endpoint.names", "is served with other outputs than it has: boxes."),
        ("other types", "endpoint.tensors", "'output' as FP16 where it is float32"),
        ("other shapes", "endpoint.tensors", "'images' with 64 on axis 2 where it has 32"),
        ("mixes clients", "endpoint.concurrency", "gives a client the answer to another one's picture when 4 clients"),
        ("half", "parity.declared", "floors where"),
        ("NaN", "parity.declared", "differs from"),
        ("wrong shape", "parity.declared", "output 'output' states the shape (2, 16, 10) and holds 160 numbers"),
        ("wrong JSON", "parity.declared", "its answer is not in the form of the KServe v2 protocol"),
        ("huge", "parity.declared", "its answer has more than 1 MB"),
        ("dies", "parity.declared", "ends the connection before its answer is complete"),
        ("stops early", "parity.declared", "ends the connection before its answer is complete"),
        ("slow", "parity.declared", "gives no complete answer within 0.5 s"),
    ],
)
def test_what_a_bad_server_does_is_one_clear_finding(path, how, check, says, monkeypatch):
    monkeypatch.setattr(kserve_http, "LARGEST", 1 << 20)
    if how == "slow":
        monkeypatch.setattr(ForeignContext, "seconds", lambda self, images: 0.5)
        monkeypatch.setattr(ForeignContext, "to_blame", lambda self, error: True)
    with serving(path, how) as server:
        records = judged(server, path, f"{check},endpoint.names")
    found = records[check]

    assert found["outcome"] == "failed" and len(found["findings"]) == 1
    assert says in " ".join(found["findings"][0]["text"].split())
    assert f"--engine {server.endpoint}" in found["findings"][0]["repeat"]


def test_a_server_that_died_is_not_asked_again(path):
    with serving(path, "dies") as server:
        records = judged(server, path)

    assert list(findings(records)) == ["parity.declared"] and server.requests == 1
    assert records["endpoint.concurrency"]["reason"] == "blocked by parity.declared"


def test_a_server_that_is_not_there_or_has_no_such_model_is_unusable(path, capsys):
    def refused(address):
        code = main.main(["check", str(path), "--against", "self", "--engine", address])
        found = capsys.readouterr()
        assert code == 2 and found.err.count("\n") == 1 and found.out == ""
        return found.err

    with serving(path) as server:
        there = str(server.endpoint)
        assert "has no model 'other': HTTP 404: Model 'other' not found" in refused(there.replace("detector", "other"))
        server.how = "not ready"
        assert "its model 'detector' is not ready (HTTP 503)" in refused(there)
        server.how = "another protocol"
        assert "does not speak the KServe v2 protocol: its answer to /v2 is no JSON object" in refused(there)
    assert "the server does not answer: the connection is refused" in refused(there)
    assert "the server has a name that no host has: a..b" in refused("kserve+http://a..b:80/m")


@pytest.mark.parametrize(
    "text",
    [
        "kserve+ftp://a:1/m",
        "http://a:1/m",
        "kserve+http://a/m",
        "kserve+http://a:99999/m",
        "kserve+http://a:1/\u00fc",
        "onnxruntime",
    ],
)
def test_an_address_of_another_form_is_refused(text):
    with pytest.raises(InputError, match=r"is no kserve\+http://HOST:PORT/MODEL"):
        parse(text)


@pytest.mark.parametrize(
    "kind, data", [("INT64", [1.7]), ("INT64", ["1"]), ("FP32", ["1"]), ("INT64", [None]), ("FP32", None), ("FP32", {})]
)
def test_what_is_no_number_of_the_stated_type_is_refused(kind, data):
    answer = json.dumps({"outputs": [{"name": "o", "datatype": kind, "shape": [1], "data": data}]}).encode()
    with pytest.raises(EngineError, match="output 'o' holds what is no " + kind):
        kserve_http._arrays(answer, None)


def test_detections_of_a_server_are_certified(session, shared_folder):
    if session.choice != ModelChoice():
        pytest.skip("the file is an export of the bundled detector")
    path = exported(session.detector, "end2end-ort", (256, 320), shared_folder)
    with serving(path) as server:
        options = Options(artifacts=(path,), checks="nms.detections,endpoint", quick=True, endpoint=server.endpoint)
        run = Session(options)
        run.detector, run.oracle = session.detector, session.oracle
        records = {one.record["check"]["id"]: one.record["check"]["outcome"] for one in judge_all(run, run.subjects())}

    assert records == dict.fromkeys(
        ("endpoint.names", "endpoint.tensors", "endpoint.concurrency", "nms.detections"), "passed"
    )


def test_a_server_is_judged_in_a_users_own_test(path):
    with serving(path) as server:
        found = detparity.verify(path, against="self", engine=str(server.endpoint))

    assert found.conforms and server.requests > 10
    assert {check["id"] for check in found.entry["checks"]} > {"endpoint.names", "parity.declared"}
    with pytest.raises(InputError, match="verify judges on one engine, and onnxruntime,openvino are 2"):
        detparity.verify(path, against="self", engine="onnxruntime,openvino")


def test_a_server_is_judged_by_the_plugin(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("PYTEST_ADDOPTS", "PYTEST_XDIST_WORKER", "PYTEST_XDIST_WORKER_COUNT", "PYTEST_CURRENT_TEST"):
        monkeypatch.delenv(name, raising=False)
    plugin = ["-q", "-p", "no:cacheprovider", "-p", "detparity.cli.pytest_plugin", f"--rootdir={tmp_path}"]
    with serving(path) as server:
        asked = {
            "artifact": path,
            "against": "self",
            "engine": server.endpoint,
            "checks": "endpoint.names,parity.declared",
        }
        words = [f"--detparity-{name}={value}" for name, value in {**asked, "json": "report.json"}.items()]
        code = pytest.main([*plugin, "--import-mode=importlib", *words])
        assert code == 0 and server.requests > 0
    (entry,) = json.loads((tmp_path / "report.json").read_text())["artifacts"]
    assert "run by kserve+http://" in entry["how"] and {one["outcome"] for one in entry["checks"]} == {"passed"}
