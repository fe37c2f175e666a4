"""A file as real servers run it: MLServer, and Triton by nvidia-pytriton. `tox -e kserve`; docs/kserve.md says what each needs.

DETPARITY_MLSERVER and DETPARITY_TRITON name the interpreters that have the servers; without the first, this one, if it has MLServer.
Servers listen on loopback alone.
"""

from __future__ import annotations

import importlib.util
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from detparity.checks.run import judge_all
from detparity.checks.session import Options, Session
from detparity.core.endpoint import Endpoint
from detparity.core.errors import EngineError
from detparity.engines import kserve
from detparity.models.choice import ModelChoice
from detparity.tools.export_cache import exported

pytestmark = pytest.mark.more

SIZE = (256, 320)
SERVERS = Path(__file__).with_name("servers")
START_SECONDS = 60
TYPES = {"float32": "FP32", "int64": "INT64", "int32": "INT32"}


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def interpreter(name, package):
    named = os.environ.get(name)
    if named or (package == "mlserver" and importlib.util.find_spec(package)):
        return named or sys.executable
    pytest.skip(f"{name} names no interpreter with {package}")


@pytest.fixture(scope="module")
def file(session, shared_folder):
    if session.choice != ModelChoice():
        pytest.skip("the file is an export of the bundled detector")
    return exported(session.detector, "grid-dynamic-batch", SIZE, shared_folder)


@pytest.fixture(scope="module", params=["mlserver", "triton"])
def server(request, file, tmp_path_factory):
    """Ports for HTTP and gRPC of a server that runs the file, and the file in which it notes the sizes of the batches it ran."""
    folder, ports = tmp_path_factory.mktemp(request.param), {"http": free_port(), "grpc": free_port()}
    python = interpreter(f"DETPARITY_{request.param.upper()}", request.param)
    noted = folder / "batches.txt"
    make = {"mlserver": mlserver, "triton": triton}[request.param]
    command = make(python, folder, file, ports)
    environment = {**os.environ, "PYTHONPATH": str(folder), "DETPARITY_BATCHES": str(noted), "OMP_NUM_THREADS": "1"}
    with (folder / "log.txt").open("wb") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            ready(Endpoint("http", "127.0.0.1", ports["http"], "detector"), process, folder / "log.txt")
            yield ports, noted
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def mlserver(python, folder, file, ports):
    (folder / "detector").mkdir()
    (folder / "mlserver_onnx.py").write_bytes((SERVERS / "mlserver_onnx.py").read_bytes())
    own = {"host": "127.0.0.1", "http_port": ports["http"], "grpc_port": ports["grpc"], "metrics_port": free_port()}
    (folder / "settings.json").write_text(json.dumps({**own, "parallel_workers": 0, "debug": False}))
    model = {
        "name": "detector",
        "implementation": "mlserver_onnx.OnnxModel",
        "parameters": {"uri": str(file), "version": "1"},
        "inputs": [{"name": "images", "datatype": "FP32", "shape": [-1, 3, *SIZE]}],
        "outputs": [{"name": "output", "datatype": "FP32", "shape": [-1, 5040, 10]}],
        "max_batch_size": 8,
        "max_batch_time": 0.1,
    }
    (folder / "detector" / "model-settings.json").write_text(json.dumps(model))
    return [python, "-m", "mlserver.cli.main", "start", str(folder)]


def triton(python, folder, file, ports):
    return [python, str(SERVERS / "triton_onnx.py"), str(file), str(ports["http"]), str(ports["grpc"]), "8"]


def ready(endpoint, process, log):
    end = time.monotonic() + START_SECONDS
    while True:
        try:
            return kserve.served(endpoint)
        except EngineError as error:
            ended = process.poll() is not None
            if ended or time.monotonic() > end:
                pytest.fail(f"the server {'ended' if ended else error}:\n{log.read_text()[-2000:]}")
            time.sleep(0.2)


def judged(session, file, scheme, port, checks):
    run = Session(
        Options(artifacts=(file,), checks=checks, quick=True, endpoint=Endpoint(scheme, "127.0.0.1", port, "detector"))
    )
    run.detector, run.oracle = session.detector, session.oracle
    return [one.record["check"] for one in judge_all(run, run.subjects())]


@pytest.mark.parametrize("scheme", ["grpc", "http"])
def test_a_good_file_conforms_and_the_server_joins_requests(session, file, server, scheme):
    if scheme == "grpc":
        pytest.importorskip("tritonclient.grpc")
    ports, noted = server
    noted.write_text("")
    records = judged(session, file, scheme, ports[scheme], "endpoint,parity.declared,parity.batches,parity.repeat")

    assert {
        one["id"]: [found["text"] for found in one["findings"]] for one in records if one["outcome"] != "passed"
    } == {}
    assert len(records) == 7
    sizes = np.array(noted.read_text().split(), int)
    assert sizes.max() > 3, "no batch was larger than the largest request: nothing was joined"


def test_another_file_on_the_server_violates(session, file, server, tmp_path):
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(file))
    tensor = max(model.graph.initializer, key=lambda one: np.prod(one.dims))
    array = numpy_helper.to_array(tensor) * np.float32(1.001)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    other = tmp_path / "other.onnx"
    onnx.save(model, str(other))
    run = Session(
        Options(
            ModelChoice(against=str(other)),
            (file,),
            checks="parity.declared",
            quick=True,
            endpoint=Endpoint("http", "127.0.0.1", server[0]["http"], "detector"),
        ),
        None,
        source(other),
    )
    (record,) = [one.record["check"] for one in judge_all(run, run.subjects())]

    assert record["outcome"] == "failed" and "floors where" in record["findings"][0]["message"]


def source(other):
    from detparity.checks.foreign.sources import source_of

    return source_of(ModelChoice(against=str(other)))
