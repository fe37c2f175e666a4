"""The contract of a file of another runtime: what it declares of its image; one that fixes no size is run as the model's example."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, Mapping, Optional, Tuple

from detparity.artifacts.input_form import CHANNELS, in_order
from detparity.artifacts.metadata import image_size
from detparity.artifacts.runtime_file import RuntimeFile
from detparity.checks.foreign.contract import ForeignContract, fixed_size
from detparity.core.errors import EngineError, InputError
from detparity.core.promises import Promises
from detparity.core.runtimes import CALLED, runtime_files
from detparity.core.vocabulary import Size
from detparity.engines import require_runtime
from detparity.engines.remote import client

DEFAULT_SIDE = 320  # of a file that fixes no size, where nothing else states one
BESIDE = "metadata.yaml"  # which ultralytics writes into the folder of a converted model
MOST_BYTES = 1 << 20
IMGSZ = re.compile(r"^imgsz:\s*(?:\[\s*(\d+)\s*,\s*(\d+)\s*\]|\n?\s*-\s*(\d+)\s*\n\s*-\s*(\d+))", re.MULTILINE)


def read(path: Path, kind: str) -> RuntimeFile:
    """What a runtime's own file declares. Raises InputError where its engine is missing, or does not load it."""
    require_runtime(path)
    try:
        return client().read_runtime(kind, path)
    except EngineError as error:
        raise InputError(f"{path} is no file that {kind} can load: {error}") from None
    except ImportError as error:
        raise InputError(f"{path} is {CALLED[kind]}, whose engine does not start here: {error}") from None


def runtime_contract(
    path: Path, kind: str, file: RuntimeFile, example: Tuple[object, ...], img_size: Optional[Size]
) -> Tuple[ForeignContract, str]:
    """The contract, and how it was found. example: the shape of the model's example input.

    Raises InputError for a file that takes something else than one image, or another size than the one asked for."""
    if len(file.inputs) != 1:
        raise InputError(f"{path} takes {len(file.inputs)} inputs; files that take one image are supported")
    image = file.inputs[0]
    shape = in_order(tuple(side if side > 0 else "varies" for side in image.shape))
    if shape and (len(shape) != 4 or shape[1] not in (CHANNELS, "varies")):
        raise InputError(f"{path}: its input {image.name!r} is no image of three channels but {image.shape}")
    fixed = fixed_size(shape) if shape else None
    if fixed and img_size and fixed != img_size:
        raise InputError(f"--img-size {_by(img_size)}: {path.name} takes {_by(fixed)} alone")
    metadata = stated(path)
    size = fixed or img_size or image_size(metadata)
    if size is None and not shape:
        raise InputError(
            f"{path} states no image size, and {kind} computes nonsense at another one: --img-size states it"
        )
    known = in_order(example)[-2:] if len(example) in (3, 4) else (DEFAULT_SIDE, DEFAULT_SIDE)
    batch = shape[0] if shape and isinstance(shape[0], int) else 1
    contract = ForeignContract(
        kind,
        Promises(),
        size or (int(str(known[0])), int(str(known[1]))),
        batch,
        True,
        bool(shape) and not isinstance(shape[0], int),
        bool(shape) and fixed is None,
        metadata,
    )
    stored = f", {file.weights} weights" if file.weights != "float32" else ""
    return contract, f"at {_by(contract.size)}{stored}"


def stated(path: Path) -> Mapping[str, str]:
    """The image size that a file beside the model states."""
    found = runtime_files(path)
    beside = found.files[0].parent / BESIDE if found else Path(BESIDE)
    metadata: Dict[str, str] = {}
    if path.is_dir() and beside.is_file() and beside.stat().st_size < MOST_BYTES:
        sides = IMGSZ.search(beside.read_text(encoding="utf-8", errors="replace"))
        if sides:
            metadata["imgsz"] = f"[{sides[1] or sides[3]}, {sides[2] or sides[4]}]"
    return metadata


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"
