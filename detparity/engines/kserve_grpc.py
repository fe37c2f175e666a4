"""The KServe v2 protocol over gRPC, by tritonclient, which has the messages of the protocol and their tensors."""

from __future__ import annotations

from typing import Any, Dict, Sequence

import numpy as np
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from detparity.core.endpoint import Endpoint, Served, Tensor, datatype
from detparity.core.errors import EngineDied, EngineError, clipped
from detparity.core.vocabulary import Arrays
from detparity.engines.kserve import CONNECT_SECONDS, NotServed

LARGEST = 512 << 20  # bytes of an answer


class Wire:
    """One endpoint; its channel may be used by several threads."""

    protocol = "KServe v2 over gRPC"

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        limits = [("grpc.max_receive_message_length", LARGEST), ("grpc.max_send_message_length", LARGEST)]
        self._client = triton.InferenceServerClient(f"{endpoint.host}:{endpoint.port}", channel_args=limits)

    def served(self) -> Served:
        """What the server states. Raises NotServed."""
        model, version = self._endpoint.model, self._endpoint.version
        try:
            server = self._client.get_server_metadata(client_timeout=CONNECT_SECONDS)
            found = self._client.get_model_metadata(model, version, client_timeout=CONNECT_SECONDS)
            ready = self._client.is_model_ready(model, version, client_timeout=CONNECT_SECONDS)
        except InferenceServerException as error:
            raise NotServed(_reason(error)) from None
        if not ready:
            raise NotServed(f"its model {model!r} is not ready")
        return Served(
            clipped(f"{server.name} {server.version}".strip(), 80),
            tuple(server.extensions),
            clipped(found.platform, 80),
            tuple(clipped(one, 40) for one in found.versions),
            _tensors(found.inputs),
            _tensors(found.outputs),
        )

    def infer(self, feed: Arrays, outputs: Sequence[str], seconds: float) -> Dict[str, np.ndarray]:
        """Run the model. Raises EngineError for an answer that cannot be used, EngineDied where none comes."""
        asked = [triton.InferRequestedOutput(name) for name in outputs] or None
        try:
            answer = self._client.infer(
                self._endpoint.model,
                [_input(name, array) for name, array in feed.items()],
                self._endpoint.version,
                asked,
                client_timeout=seconds,
            )
            names = [one.name for one in answer.get_response().outputs]
            found = {name: answer.as_numpy(name) for name in names}
        except InferenceServerException as error:
            raise _problem(error, seconds) from None
        except (ValueError, TypeError, KeyError) as error:
            raise EngineError(
                f"its answer is not in the form of the KServe v2 protocol ({clipped(error, 120)})"
            ) from None
        for name, array in found.items():
            if array is None or array.dtype.hasobject:
                raise EngineError(f"output {name!r} holds no numbers")
        return {name: np.array(array) for name, array in found.items()}


def _input(name: str, array: np.ndarray) -> Any:
    kind = datatype(array.dtype)
    if kind is None:
        raise EngineError(f"the protocol has no datatype for {array.dtype}, which input {name!r} takes")
    found = triton.InferInput(name, list(array.shape), kind)
    found.set_data_from_numpy(np.ascontiguousarray(array))
    return found


def _tensors(entries: Any) -> Any:
    return tuple(Tensor(one.name, clipped(one.datatype, 20), tuple(one.shape)) for one in entries)


def _problem(error: InferenceServerException, seconds: float) -> Exception:
    status = str(error.status())
    if "DEADLINE_EXCEEDED" in status:
        return EngineDied("time", f"gives no complete answer within {seconds:g} s", seconds)
    if "UNAVAILABLE" in status:
        return EngineDied("crash", f"does not answer ({_reason(error)})")
    if "RESOURCE_EXHAUSTED" in status:
        return EngineError(f"its answer has more than {LARGEST >> 20} MB ({_reason(error)})")
    return EngineError(f"the server refuses it: {_reason(error)}")


def _reason(error: InferenceServerException) -> str:
    return clipped(error.message() or error)
