"""The KServe v2 protocol over HTTP: JSON, and the binary tensor extension where the server has it.

Whatever answers is read within a time and a size, and becomes numbers or one line that says why not.
"""

from __future__ import annotations

import http.client
import json
import math
import socket
import threading
from contextlib import contextmanager, suppress
from typing import Any, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np

from detparity.core.endpoint import DATATYPES, Endpoint, Served, Tensor, datatype
from detparity.core.errors import EngineDied, EngineError, clipped
from detparity.core.vocabulary import Arrays
from detparity.engines.kserve import CONNECT_SECONDS, NotServed

LARGEST = 512 << 20  # bytes of an answer
BINARY = "binary_tensor_data"  # the extension
LENGTH = "Inference-Header-Content-Length"
CHUNK = 1 << 20


class Wire:
    """One endpoint. Each request has a connection of its own, so that threads may ask at once."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        version = f"/versions/{endpoint.version}" if endpoint.version else ""
        self._model = f"/v2/models/{endpoint.model}{version}"
        self._binary = False

    @property
    def protocol(self) -> str:
        return f"KServe v2 over {self._endpoint.scheme.upper()}, {'binary' if self._binary else 'JSON'} tensors"

    def served(self) -> Served:
        """What the server states. Raises NotServed."""
        server, model = self._facts("/v2"), self._facts(self._model)
        status, _, _ = self._asked(f"{self._model}/ready")
        if status != 200:
            raise NotServed(f"its model {self._endpoint.model!r} is not ready (HTTP {status})")
        try:
            extensions = tuple(map(str, server.get("extensions") or ()))
            found = Served(
                clipped(f"{server.get('name', 'a server')} {server.get('version', '')}".strip(), 80),
                extensions,
                clipped(model.get("platform") or "", 80),
                tuple(clipped(one, 40) for one in model.get("versions") or ()),
                _tensors(model.get("inputs")),
                _tensors(model.get("outputs")),
            )
        except (TypeError, ValueError, KeyError, AttributeError, OverflowError):
            raise NotServed("states its model in another form than the KServe v2 protocol has") from None
        self._binary = BINARY in extensions
        return found

    def infer(self, feed: Arrays, outputs: Sequence[str], seconds: float) -> Dict[str, np.ndarray]:
        """Run the model. Raises EngineError for an answer that cannot be used, EngineDied where none comes."""
        body, headers = _request(feed, outputs, self._binary)
        status, answered, answer = self._ask("POST", f"{self._model}/infer", body, headers, seconds)
        if status != 200:
            raise EngineError(f"the server refuses it: {_reason(status, answer)}")
        return _arrays(answer, answered.get(LENGTH))

    def _facts(self, path: str) -> Dict[str, Any]:
        status, _, answer = self._asked(path)
        if status != 200:
            what = (
                "does not speak the KServe v2 protocol" if path == "/v2" else f"has no model {self._endpoint.model!r}"
            )
            raise NotServed(f"{what}: {_reason(status, answer)}")
        try:
            found = json.loads(answer)
        except (ValueError, RecursionError):
            found = None
        if not isinstance(found, dict):
            raise NotServed(f"does not speak the KServe v2 protocol: its answer to {path} is no JSON object")
        return found

    def _asked(self, path: str) -> Tuple[int, Any, bytes]:
        try:
            return self._ask("GET", path, b"", {}, CONNECT_SECONDS)
        except (EngineError, EngineDied) as error:
            raise NotServed(str(error)) from None

    def _ask(
        self, method: str, path: str, body: bytes, headers: Mapping[str, str], seconds: float
    ) -> Tuple[int, Any, bytes]:
        """Status, headers and body of an answer."""
        secure = self._endpoint.scheme == "https"
        kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
        connection = kind(self._endpoint.host.strip("[]"), self._endpoint.port, timeout=min(seconds, CONNECT_SECONDS))
        try:
            connection.connect()
            connection.sock.settimeout(None)
            with _ended_after(connection.sock, seconds):
                connection.request(method, path, body, dict(headers))
                response = connection.getresponse()
                return response.status, response.headers, _read(response)
        except ConnectionRefusedError:
            raise EngineDied("crash", "does not answer: the connection is refused") from None
        except socket.timeout:
            raise EngineDied("time", f"gives no complete answer within {seconds:g} s", seconds) from None
        except UnicodeError:
            raise EngineError(f"has a name that no host has: {clipped(self._endpoint.host, 80)}") from None
        except (OSError, http.client.HTTPException) as error:
            why = clipped(getattr(error, "strerror", None) or error or type(error).__name__, 120)
            raise EngineDied("crash", f"ends the connection before its answer is complete ({why})") from None
        finally:
            connection.close()


@contextmanager
def _ended_after(sock: Any, seconds: float) -> Iterator[None]:
    """End a connection after a time, however slowly the other side goes on; that raises socket.timeout here."""
    late = threading.Event()

    def end() -> None:
        late.set()
        with suppress(OSError):  # it may be closed already
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(seconds, end)
    timer.daemon = True
    timer.start()
    try:
        yield
    except (OSError, http.client.HTTPException):
        if late.is_set():
            raise socket.timeout from None
        raise
    finally:
        timer.cancel()


def _read(response: http.client.HTTPResponse) -> bytes:
    """The body, of a bounded size."""
    parts: List[bytes] = []
    size = 0
    while True:
        part = response.read(CHUNK)
        if not part:
            if response.length:  # read(n) does not raise for a body that ends early
                raise http.client.IncompleteRead(b"", response.length)
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if size > LARGEST:
            raise EngineError(f"its answer has more than {LARGEST >> 20} MB")


def _request(feed: Arrays, outputs: Sequence[str], binary: bool) -> Tuple[bytes, Dict[str, str]]:
    inputs: List[Dict[str, Any]] = []
    tail: List[bytes] = []
    for name, array in feed.items():
        kind = datatype(array.dtype)
        if kind is None:
            raise EngineError(f"the protocol has no datatype for {array.dtype}, which input {name!r} takes")
        entry: Dict[str, Any] = {"name": name, "shape": list(array.shape), "datatype": kind}
        if binary:
            tail.append(np.ascontiguousarray(array).tobytes())
            entry["parameters"] = {"binary_data_size": len(tail[-1])}
        else:
            entry["data"] = array.ravel().tolist()
        inputs.append(entry)
    asked: Dict[str, Any] = {"inputs": inputs}
    if outputs:
        parameters = {"parameters": {"binary_data": True}} if binary else {}
        asked["outputs"] = [{"name": name, **parameters} for name in outputs]
    head = json.dumps(asked).encode()
    if not binary:
        return head, {"Content-Type": "application/json"}
    return b"".join([head, *tail]), {"Content-Type": "application/octet-stream", LENGTH: str(len(head))}


def _arrays(answer: bytes, length: Any) -> Dict[str, np.ndarray]:
    """The outputs of an answer. Raises EngineError for one that is not in the protocol's form."""
    try:
        head = int(length) if length is not None else len(answer)
        found = json.loads(answer[:head])
        entries = [(str(one["name"]), one) for one in found["outputs"]]
        rest, arrays = memoryview(answer)[head:], {}
        for name, one in entries:
            size = (one.get("parameters") or {}).get("binary_data_size")
            arrays[name] = _array(name, one, None if size is None else rest[: int(size)])
            rest = rest[int(size or 0) :]
    except EngineError:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise EngineError(f"its answer is not in the form of the KServe v2 protocol ({clipped(error, 120)})") from None
    return arrays


def _array(name: str, one: Mapping[str, Any], content: Any) -> np.ndarray:
    dtype = DATATYPES.get(one["datatype"])
    if dtype is None:
        raise EngineError(f"output {name!r} has the datatype {clipped(one['datatype'], 20)}, which holds no numbers")
    shape = tuple(map(int, one["shape"]))
    if content is None:
        kinds = "biufO" if dtype.kind == "f" else "biu"  # null is how some servers write NaN
        if not isinstance(one["data"], list) or (one["data"] and np.asarray(one["data"]).dtype.kind not in kinds):
            raise EngineError(f"output {name!r} holds what is no {clipped(one['datatype'], 20)}")
        values = np.asarray(one["data"], dtype).ravel()
    else:
        values = np.frombuffer(content, dtype) if len(content) % dtype.itemsize == 0 else np.empty(0, dtype)
    if min(shape, default=0) < 0 or math.prod(shape) != values.size:
        raise EngineError(f"output {name!r} states the shape {shape} and holds {values.size} numbers")
    return values.reshape(shape).copy()


def _tensors(entries: Any) -> Tuple[Tensor, ...]:
    return tuple(
        Tensor(str(one["name"]), clipped(one["datatype"], 20), tuple(map(int, one["shape"]))) for one in entries or ()
    )


def _reason(status: int, answer: bytes) -> str:
    """What a server says of a request it refuses, in one line."""
    try:
        found = json.loads(answer[:CHUNK])
        text = found.get("error", found) if isinstance(found, dict) else found
    except (ValueError, RecursionError):
        text = answer[:300].decode("utf-8", "replace")
    return f"HTTP {status}: {clipped(text)}" if text else f"HTTP {status}"
