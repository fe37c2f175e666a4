"""A model that a server runs: its address on the command line, and what the server states of it, as plain data."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Mapping, Optional, Tuple

import numpy as np

from detparity.core.errors import InputError

# Datatypes of the KServe v2 protocol that hold numbers.
DATATYPES: Mapping[str, np.dtype] = {
    "BOOL": np.dtype(np.bool_),
    "FP16": np.dtype(np.float16),
    "FP32": np.dtype(np.float32),
    "FP64": np.dtype(np.float64),
    **{f"INT{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
}
_ADDRESS = re.compile(
    r"kserve\+(?P<scheme>http|https|grpc)://(?P<host>\[[0-9a-fA-F:]+\]|[\w.-]+):(?P<port>\d{1,5})"
    r"/(?P<model>[A-Za-z0-9_.-]+)(/(?P<version>[A-Za-z0-9_.-]+))?/?"
)


@dataclass(frozen=True)
class Endpoint:
    """Where a model is served. scheme: "http", "https" or "grpc"; version: empty leaves the choice to the server."""

    scheme: str
    host: str
    port: int
    model: str
    version: str = ""

    def __str__(self) -> str:
        version = f"/{self.version}" if self.version else ""
        return f"kserve+{self.scheme}://{self.host}:{self.port}/{self.model}{version}"


@dataclass(frozen=True)
class Tensor:
    """What a server states of an input or an output. shape: -1 for an axis that varies."""

    name: str
    datatype: str
    shape: Tuple[int, ...]


@dataclass(frozen=True)
class Served:
    """What a server states of itself and of a model. extensions: of the protocol, that it has."""

    server: str
    extensions: Tuple[str, ...]
    platform: str
    versions: Tuple[str, ...]
    inputs: Tuple[Tensor, ...]
    outputs: Tuple[Tensor, ...]


def parse(text: str) -> Endpoint:
    """The endpoint that `--engine` names. Raises InputError."""
    found = _ADDRESS.fullmatch(text)
    if found is None or not 0 < int(found["port"]) < 65536:
        raise InputError(f"--engine {text} is no kserve+http://HOST:PORT/MODEL (or +https, +grpc; /MODEL/VERSION)")
    return Endpoint(found["scheme"], found["host"], int(found["port"]), found["model"], found["version"] or "")


def datatype(dtype: np.dtype) -> Optional[str]:
    """The protocol's name of a numpy type, None where it has none."""
    return next((name for name, known in DATATYPES.items() if known == dtype), None)
