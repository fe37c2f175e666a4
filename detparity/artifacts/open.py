"""From a path to an artifact with its contract: what kind of file it is, which variant it claims, at which size."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, List, Mapping, Optional, Tuple, Union

import numpy as np

from detparity.artifacts import onnx_nms
from detparity.artifacts.grid_constants import grid_constants, script_grids, stuck_size
from detparity.artifacts.input_form import image_shape
from detparity.artifacts.metadata import LARGEST_SIDE, image_size, parse, script_metadata
from detparity.artifacts.precision import of_graph, of_script
from detparity.core import file_kind
from detparity.core.contract import Contract, NmsPromise, TensorPromise, contract_for, default_opset
from detparity.core.errors import EngineError, InputError
from detparity.core.files import require_file, sha256
from detparity.core.precision import HALVES, PLAIN, Precision, floor_of
from detparity.core.vocabulary import DYNAMO, ONNX, Artifact, ModelFacts, Size, Variant, parse_variant, variant_names

if TYPE_CHECKING:
    from detparity.artifacts.onnx_graph import OnnxFile
    from detparity.artifacts.torchscript_facts import ScriptFile

DEFAULT_STRIDES = 10  # a file that fixes no size is tried at ten of its largest strides
NMS_OPS = {"NonMaxSuppression": "end2end-ort", "EfficientNMS_TRT": "end2end-trt"}


@dataclass(frozen=True)
class Asked:
    """What the user promised of the file besides its variant: numbers of the suppression, the opset, its precision; None: read from
    the file."""

    iou_thres: Optional[float] = None
    conf_thres: Optional[float] = None
    topk_all: Optional[int] = None
    max_wh: Optional[float] = None
    opset: Optional[int] = None
    precision: Optional[str] = None

    @property
    def arguments(self) -> List[str]:
        """The options that promise the same again, for a `Repeat:` line."""
        given = [(f"--{name.replace('_', '-')}", value) for name, value in vars(self).items() if value is not None]
        return [word for option, value in given for word in (option, value if isinstance(value, str) else f"{value:g}")]


@dataclass(frozen=True)
class Intake:
    """An artifact that was read. how: how the variant and the size were found, for the report; precision: what the file is."""

    artifact: Artifact
    file: Union[OnnxFile, ScriptFile]
    contract: Contract
    how: str
    precision: Precision = PLAIN


Opened = Tuple[Union["OnnxFile", "ScriptFile"], Contract, str]


def open_artifact(
    path: Path,
    facts: ModelFacts,
    variant: Optional[str],
    img_size: Optional[Size],
    name: Optional[str] = None,
    asked: Asked = Asked(),
    *,
    engines: Any,
) -> Intake:
    """Read `path` and work out its contract for this model.

    variant: the promise, else it is read from the file; img_size: (height, width), where the file declares none;
    name: what to call it in reports, else the file's name; asked: promises the file's metadata or operators give otherwise;
    engines: `engines.remote.Engines`, in whose process onnx and torch read the file.
    Raises InputError, in one line, for a file or an option that cannot be used.
    """
    if variant is not None and variant not in variant_names():
        raise InputError(f"unknown variant {variant!r}: known are {', '.join(variant_names())}")
    require_file(path, "an exported model")
    kind = _kind(path)
    if kind != "onnx":
        file, contract, how = _open_script(path, kind, engines, facts, variant, img_size)
    else:
        file, contract, how = _open_onnx(path, engines, facts, variant, img_size, asked)
    precision = of_graph(file.graph) if kind == "onnx" else of_script(file)  # type: ignore[union-attr,arg-type]
    contract = _of_precision(contract, precision, asked.precision)
    return Intake(Artifact(path, kind, sha256(path), name), file, contract, how + _clause(precision), precision)


def _of_precision(contract: Contract, found: Precision, promised: Optional[str]) -> Contract:
    """The contract with what a file of lower precision may declare: inputs and outputs of its own type."""
    judged = floor_of(found, promised)
    contract = replace(contract, precision=judged, promised_precision=promised)
    if judged not in HALVES:
        return contract
    declared = {**dict(found.inputs), **dict(found.outputs)}

    def own(promise: TensorPromise) -> TensorPromise:
        kind = declared.get(promise.name, "")
        return replace(promise, dtype=kind) if promise.dtype == "float32" and kind == judged else promise

    inputs, outputs = tuple(map(own, contract.inputs)), tuple(map(own, contract.outputs))
    return replace(contract, inputs=inputs, outputs=outputs)


def _clause(precision: Precision) -> str:
    return f", {precision.text}" if precision.text else ""


def _kind(path: Path) -> str:
    """What reads the file, by its content: "torchscript", "lite" or, whatever else it is, "onnx"."""
    file_kind.require_exported(path)
    found = file_kind.kind(path)
    return found if found in file_kind.SCRIPTS else "onnx"


def _open_onnx(
    path: Path, engines: Any, facts: ModelFacts, variant: Optional[str], img_size: Optional[Size], asked: Asked
) -> Opened:
    from detparity.artifacts import onnx_graph

    file = onnx_graph.read(path, engines)
    if not file.graph.inputs:
        raise InputError(f"{path} has no input, so it is no exported detector")
    shape = image_shape(file.graph)
    found = parse_variant(variant) if variant else _read_variant(file, shape)
    if not found.onnx:
        raise InputError(f"{path} is an ONNX file, which cannot be {found.name!r}")
    size = _declared_size(shape)
    if img_size and size and not found.dynamic_size and img_size != size:
        given, own = ("x".join(map(str, one)) for one in (img_size, size))
        raise InputError(f"--img-size {given}: {path.name} takes {own} alone")
    if found.dynamic_size or size is None:
        size = (
            img_size or image_size(file.metadata) or _grid_size(file.graph.constants, facts) or size or _default(facts)
        )
    batch = shape[0] if len(shape) == 4 and isinstance(shape[0], int) else 1
    size = _usable(path, size, facts)
    source = "as given" if variant else "read from the file"
    promised, origin = opset_promise(file, found, asked.opset)
    nms = nms_promise(file, found, asked) if found.end2end else None
    contract = contract_for(found, facts, size, max(1, int(batch)), promised, nms)
    return file, contract, f"{found.name}, {source}, at {size[0]}x{size[1]}, opset {promised} {origin}"


def opset_promise(file: OnnxFile, variant: Variant, asked: Optional[int]) -> Tuple[int, str]:
    """The promised opset and where it comes from: the command line, else the file's metadata, else the variant's default;
    through torch.export whatever the file has from the default on."""
    stored = file.metadata.get("detparity.opset", "")
    if asked is not None:
        return asked, "as given"
    if re.fullmatch(r"[1-9]\d?", stored):
        return int(stored), "from the metadata"
    least, own = default_opset(variant), file.opsets.get("", 0)
    if variant.dynamo and own >= least:
        return own, "read from the file"
    return least, "by default"


def nms_promise(file: OnnxFile, variant: Variant, asked: Asked) -> NmsPromise:
    """The promise of a suppression: the command line, else the file's metadata, else the operator's own numbers."""
    stored = parse(file.metadata.get("detparity.nms", "{}"))
    stored = stored if isinstance(stored, dict) else {}
    found = onnx_nms.find(file.graph)
    read: Tuple[Optional[float], ...] = (None, None, None, None)
    if found:
        read = (found.iou_threshold, found.score_threshold, found.cap, found.max_wh)
    numbers: Dict[str, Tuple[float, str]] = {}
    default = NmsPromise()
    for key, field, own, fallback in (
        ("iou-thres", asked.iou_thres, read[0], default.iou_threshold),
        ("conf-thres", asked.conf_thres, read[1], default.score_threshold),
        ("topk-all", asked.topk_all, read[2], default.cap),
        ("max-wh", asked.max_wh, read[3], 0.0),
    ):
        recorded = stored.get(key)
        if field is not None:
            numbers[key] = (float(field), "as given")
        elif isinstance(recorded, (int, float)) and not isinstance(recorded, bool):
            numbers[key] = (float(recorded), "from the metadata")
        elif own is not None:
            numbers[key] = (float(own), "read from the file")
        else:
            numbers[key] = (float(fallback), "the official default")
    offset = numbers["max-wh"][0] if variant.head == "end2end-ort" else None
    if found and found.max_wh is None and asked.max_wh is None and "max-wh" not in stored:
        offset = None  # classes are separated by something that is no constant: nothing is promised of its size
    sources = {key: source for key, (_, source) in numbers.items() if key != "max-wh" or offset is not None}
    return NmsPromise(numbers["iou-thres"][0], numbers["conf-thres"][0], int(numbers["topk-all"][0]), offset, sources)


def _read_variant(file: OnnxFile, shape: Tuple[object, ...]) -> Variant:
    """The head from NMS nodes and output ranks, the axes from the input's symbols; never from names."""
    ops = {node.op for node in file.graph.walk()}
    ranks = [len(value.shape) for value in file.graph.outputs if value.shape is not None]
    heads = [head for op, head in NMS_OPS.items() if op in ops]
    if heads[:1] == ["end2end-ort"] and len(file.graph.outputs) == 4:
        heads = ["end2end-trt-nms"]  # the four outputs of the plugin, made by the standard operator
    head = heads[0] if heads else "raw" if ranks and ranks[0] == 5 else "grid"
    varies = [not isinstance(dim, int) for dim in shape] + [False] * 4
    axes = "dynamic" if varies[2] or varies[3] else "dynamic-batch" if varies[0] else "static"
    return Variant(head, axes, DYNAMO if _by_dynamo(file) else ONNX)


def _by_dynamo(file: OnnxFile) -> bool:
    """By the exporter's marks; ours are taken off with the IR version that carries them, but our metadata remains."""
    stored = file.metadata.get("detparity.variant", "")
    return file.torch_export or (stored in variant_names() and parse_variant(stored).dynamo)


def _declared_size(shape: Tuple[object, ...]) -> Optional[Size]:
    if len(shape) == 4 and isinstance(shape[2], int) and isinstance(shape[3], int):
        return shape[2], shape[3]
    return None


def _grid_size(constants: Mapping[str, np.ndarray], facts: ModelFacts) -> Optional[Size]:
    return stuck_size([cells for _, cells in grid_constants(constants, facts)], facts)


def _default(facts: ModelFacts) -> Size:
    side = DEFAULT_STRIDES * facts.max_stride
    return side, side


def _usable(path: Path, size: Size, facts: ModelFacts) -> Size:
    if min(size) < 1 or max(size) > LARGEST_SIDE:
        raise InputError(f"{path}: an image size of {size[0]}x{size[1]} cannot be run")
    if any(side % facts.max_stride for side in size):
        raise InputError(
            f"{path}: its image size {size[0]}x{size[1]} is not a multiple of the model's largest stride, {facts.max_stride}"
        )
    return size


def _open_script(
    path: Path, kind: str, engines: Any, facts: ModelFacts, variant: Optional[str], img_size: Optional[Size]
) -> Opened:
    what = "a lite archive" if kind == "lite" else "a TorchScript archive"
    if variant is not None and (
        parse_variant(variant).onnx or (parse_variant(variant).form == "lite") != (kind == "lite")
    ):
        raise InputError(f"{path} is {what}, which cannot be {variant!r}")
    try:
        file: ScriptFile = engines.read_script(kind, path)
    except EngineError as error:
        raise InputError(f"{path} is not {what} torch can load: {error}") from None
    metadata = script_metadata(file.metadata)
    grids = stuck_size([cells for _, cells in script_grids(file.constants, facts)], facts)
    size = img_size or image_size(metadata) or grids
    size, head = _try_sizes(path, kind, engines, [_usable(path, size, facts)] if size else _sizes_to_try(facts))
    stored = metadata.get("detparity.variant", "")
    own = ("lite",) if kind == "lite" else ("traced", "traced-dynamic", "scripted")
    found = parse_variant(variant or (stored if stored in own else own[0]), head)
    batch = int(metadata["batch"]) if re.fullmatch(r"[1-9]\d{0,3}", metadata.get("batch", "")) else 1
    source = "as given" if variant else "read from the file" if stored or kind == "lite" else "taken as static"
    contract = contract_for(found, facts, size, batch if found.axes == "static" else 1)
    return file, contract, f"{found.name} ({head}), {source}, at {size[0]}x{size[1]}"


def _sizes_to_try(facts: ModelFacts) -> List[Size]:
    return [
        (count * facts.max_stride, count * facts.max_stride) for count in (10, 20, 5, 4, 13, 8, 40, 2, 1, 3, 6, 7, 9)
    ]


def _try_sizes(path: Path, kind: str, engines: Any, sizes: List[Size]) -> Tuple[Size, str]:
    """The first size the module runs at, and the head its output shows. Where it runs at none, the first size and `grid`:
    the checks then report that it does not run."""
    try:
        runner = engines.prepare(kind, path)
    except EngineError as error:
        raise InputError(f"{path} does not load: {error}") from None
    for size in sizes:
        try:
            arrays = list(runner.call({"images": np.zeros((1, 3, *size), np.float32)}).values())
        except EngineError:
            continue
        return size, "raw" if arrays and arrays[0].ndim == 5 else "grid"
    return sizes[0], "grid"
