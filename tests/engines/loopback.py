"""A server of the KServe v2 protocol in a thread, on loopback, that runs an ONNX file rightly or in one of many wrong ways."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import numpy as np
import onnxruntime as ort

from detparity.core.endpoint import DATATYPES, Endpoint, datatype

LENGTH = "Inference-Header-Content-Length"
TOGETHER = 0.1  # seconds in which requests of two clients meet
TYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64", "tensor(int32)": "INT32", "tensor(float16)": "FP16"}


class Handler(BaseHTTPRequestHandler):
    """One request. `server.how` says what is wrong with the server, empty where nothing is."""

    protocol_version = "HTTP/1.1"
    server: Server  # type: ignore[assignment]

    def log_message(self, *_: Any) -> None:
        return

    def do_GET(self) -> None:
        model = f"/v2/models/{self.server.model}"
        if self.server.how == "another protocol":
            return self._reply(b"<html>It works!</html>")
        if self.path == "/v2":
            extensions = ["binary_tensor_data"] if self.server.binary else []
            return self._json({"name": "loopback", "version": "1", "extensions": extensions})
        if self.path == model:
            return self._json(self.server.stated)
        if self.path == f"{model}/ready":
            return self._json({}, 503 if self.server.how == "not ready" else 200)
        self._json({"error": f"Model '{self.path.split('/')[3]}' not found"}, 404)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests += 1
        how = self.server.how
        if how == "dies":
            self.connection.shutdown(socket.SHUT_RDWR)
            self.close_connection = True
            return
        if how == "stops early":
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b'{"outputs": [')
            self.close_connection = True
            return
        if how == "slow":
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            while not self.server.stopped.wait(0.05):
                self.wfile.write(b" ")
            return
        if how == "wrong JSON":
            return self._reply(b'{"outputs": [{"name"')
        if how == "huge":
            return self._reply(b" " * (3 << 20))
        try:
            self._answer(*self.server.run(*_feed(body, self.headers.get(LENGTH))))
        except (ValueError, RuntimeError) as error:
            self._json({"error": str(error)}, 400)

    def _answer(self, outputs: Dict[str, np.ndarray], binary: bool) -> None:
        entries: List[Dict[str, Any]] = []
        tail: List[bytes] = []
        for name, array in outputs.items():
            shape = [2, *array.shape[1:]] if self.server.how == "wrong shape" else list(array.shape)
            entry: Dict[str, Any] = {"name": name, "datatype": datatype(array.dtype), "shape": shape}
            if binary:
                tail.append(array.tobytes())
                entry["parameters"] = {"binary_data_size": len(tail[-1])}
            else:
                entry["data"] = array.ravel().tolist()
            entries.append(entry)
        head = json.dumps({"model_name": self.server.model, "outputs": entries}).encode()
        self._reply(b"".join([head, *tail]), headers={LENGTH: str(len(head))} if binary else {})

    def _json(self, content: Any, status: int = 200) -> None:
        self._reply(json.dumps(content).encode(), status)

    def _reply(self, body: bytes, status: int = 200, headers: Any = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _feed(body: bytes, length: Any) -> Tuple[Dict[str, np.ndarray], bool]:
    head = int(length) if length is not None else len(body)
    asked, rest = json.loads(body[:head]), body[head:]
    feed = {}
    for one in asked["inputs"]:
        dtype = DATATYPES[one["datatype"]]
        if length is None:
            array = np.asarray(one["data"], dtype)
        else:
            size = one["parameters"]["binary_data_size"]
            array, rest = np.frombuffer(rest[:size], dtype), rest[size:]
        feed[one["name"]] = array.reshape(one["shape"])
    return feed, length is not None


class Server(ThreadingHTTPServer):
    """how: what is wrong with it; renamed: names of tensors that its statement gives others to; open_axes: stated as -1."""

    daemon_threads = True

    def __init__(self, path: Path, how: str, binary: bool) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.model, self.how, self.binary = "detector", how, binary
        options = ort.SessionOptions()
        options.log_severity_level = 4
        self._session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.requests, self.stopped = 0, threading.Event()
        self._meeting = threading.Barrier(2)
        self._last: Dict[str, np.ndarray] = {}
        self.stated = {
            "name": self.model,
            "versions": ["1"],
            "platform": "onnxruntime_onnx",
            "inputs": [_stated(one) for one in self._session.get_inputs()],
            "outputs": [_stated(one) for one in self._session.get_outputs()],
        }
        if how == "renamed":
            self.stated["outputs"][0]["name"] = "boxes"
        if how == "other types":
            self.stated["outputs"][0]["datatype"] = "FP16"
        if how == "other shapes":
            self.stated["inputs"][0]["shape"][2] = 64

    def handle_error(self, *_: Any) -> None:
        """A client that ended the connection is no news."""

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint("http", "127.0.0.1", self.server_address[1], self.model)

    def run(self, feed: Dict[str, np.ndarray], binary: bool) -> Tuple[Dict[str, np.ndarray], bool]:
        names = [one.name for one in self._session.get_outputs()]
        found = dict(zip(names, self._session.run(names, feed)))
        if self.how == "mixes clients":
            found = self._mixed(found)
        if self.how == "NaN":
            found[names[0]] = np.where(found[names[0]] == found[names[0]].max(), np.nan, found[names[0]])
        if self.how == "half":
            found = {name: array.astype(np.float16).astype(array.dtype) for name, array in found.items()}
        return found, binary

    def _mixed(self, found: Dict[str, np.ndarray]) -> Dict[str, np.ndarray]:
        """A buffer that all requests share: who is still answered when another one comes gets what was written last."""
        self._last = found
        with contextlib.suppress(threading.BrokenBarrierError):
            self._meeting.wait(TOGETHER)
        self._meeting.reset()
        return self._last


def _stated(one: Any) -> Dict[str, Any]:
    shape = [dim if isinstance(dim, int) else -1 for dim in one.shape]
    return {"name": one.name, "datatype": TYPES[one.type], "shape": shape}


@contextmanager
def serving(path: Path, how: str = "", binary: bool = True) -> Iterator[Server]:
    """A server while the block runs."""
    server = Server(path, how, binary)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
