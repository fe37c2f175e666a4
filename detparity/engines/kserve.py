"""A model that a server runs, over the KServe v2 protocol: HTTP by the standard library, gRPC where tritonclient is installed.

It runs in this process and not in the child, which has no network: what a server answers is read by Python alone (gRPC: by the
libraries of the extra), within limits of time and size.
"""

from __future__ import annotations

from typing import Any, Callable, Dict, Optional, Sequence

from detparity.core.endpoint import Endpoint, Served, parse
from detparity.core.errors import EngineError
from detparity.core.vocabulary import Arrays, Load, Runner

CONNECT_SECONDS = 10.0  # for an answer about the server or the model
LEAST_SECONDS = 60.0  # for an answer to an image, where nothing states how long a run takes


class NotServed(EngineError):
    """There is no such server, it speaks another protocol, or it has no such model."""


def wire(endpoint: Endpoint) -> Any:
    """What speaks to this endpoint: `served()` and `infer(feed, outputs, seconds)`. Raises NotServed without its extra."""
    if endpoint.scheme == "grpc":
        try:
            from detparity.engines import kserve_grpc
        except ImportError as error:
            raise NotServed(
                f"kserve+grpc needs tritonclient, which is not installed ({error.name}): pip install 'detparity[kserve]'"
            ) from None
        return kserve_grpc.Wire(endpoint)
    from detparity.engines.kserve_http import Wire

    return Wire(endpoint)


def served(endpoint: Endpoint) -> Served:
    """What the server states of the model. Raises NotServed."""
    found: Served = wire(endpoint).served()
    return found


def prepare(
    source: str,
    how: Load = Load(),
    seconds: Callable[[int], float] = lambda images: LEAST_SECONDS * images,
    outputs: Optional[Sequence[str]] = None,
) -> Runner:
    """source: the endpoint as text; outputs: those asked for, in their order, None for those that the server states.

    The runner may be called from several threads: each call is a request of its own. Raises NotServed; a call raises EngineError
    where the server refuses it or its answer cannot be read, EngineDied where it gives none.
    """
    endpoint = parse(source)
    connected = wire(endpoint)
    facts = connected.served()
    names = tuple(outputs or (tensor.name for tensor in facts.outputs))

    def call(feed: Arrays) -> Arrays:
        images = max((len(array) for array in feed.values() if array.ndim), default=1)
        found: Dict[str, Any] = connected.infer(feed, names, seconds(images))
        missing = next((name for name in names if name not in found), None)
        if missing is not None:
            raise EngineError(f"its answer lacks the output {missing!r}")
        return {name: found[name] for name in names or found}

    stated = {
        "server": facts.server,
        "protocol": connected.protocol,
        "model": " ".join((endpoint.model, *facts.versions[-1:])),
        "platform": facts.platform,
    }
    return Runner("kserve", call, stated, tuple(tensor.name for tensor in facts.inputs))
