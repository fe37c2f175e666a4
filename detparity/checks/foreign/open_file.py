"""From a path and a reference to a context: what the file takes, at which size, and what was asked of its exporter."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Sequence, Tuple

from detparity.artifacts import onnx_graph, onnx_nms
from detparity.artifacts.input_form import in_order, input_form
from detparity.artifacts.metadata import image_size, parse
from detparity.artifacts.precision import of_graph, of_runtime, of_script
from detparity.artifacts.runtime_file import RuntimeFile
from detparity.artifacts.script_config import config
from detparity.artifacts.torchscript_facts import ScriptFile
from detparity.checks import by_default, on_engines
from detparity.checks.foreign import registry, runtime_contract
from detparity.checks.foreign.context import ForeignContext
from detparity.checks.foreign.contract import ForeignContract, fixed_size, of_onnx
from detparity.checks.foreign.truth import ForeignOracle
from detparity.core import environment, file_kind
from detparity.core.clock import Clock
from detparity.core.contract import MUST
from detparity.core.errors import EngineError, InputError
from detparity.core.files import require_file
from detparity.core.findings import Finding
from detparity.core.layout import Layout
from detparity.core.precision import FLOAT32, HALVES, floor_of
from detparity.core.promises import Promises
from detparity.core.runtimes import RUNTIMES, digest, runtime_files
from detparity.core.vocabulary import Artifact, Size
from detparity.engines.remote import client
from detparity.models.low_precision import HalfReference
from detparity.models.reference import Reference

DEFAULT_SIDE = 320  # of a file that fixes no size, where nothing else states one
LARGEST_SIDE = 8192
LARGEST_BATCH = 1024  # that a file may say it was traced with
MEMORY_SHARE = 0.25  # of the machine's, that the images of one batch may take


def nothing_asked(_: Path) -> Promises:
    return Promises()


def nothing_stated(_: Path) -> str:
    return ""


@dataclass
class ForeignSource:
    """What the files of a run are judged against. reference: for a file; promises: of its exporter; layout: where the user gives
    one; stated: the form of the model that a file says it is of, for people."""

    reference: Callable[[Path], Reference]
    promises: Callable[[Path], Promises] = nothing_asked
    layout: Optional[Layout] = None
    stated: Callable[[Path], str] = nothing_stated
    oracles: Dict[str, ForeignOracle] = field(default_factory=dict)

    def oracle(self, path: Path, precision: str = FLOAT32) -> ForeignOracle:
        """The oracle of a file's reference; files of one reference share it. precision: whose noise it measures."""
        reference = self.reference(path)
        half = precision in HALVES
        about = reference.facts  # a model of the home family gives its logits or its predictions, by the layout
        key = f"{about.title} {about.digest} {about.layout} {self.stated(path)}" + f" {precision}" * half
        if key not in self.oracles:
            made = HalfReference(reference, precision) if half else reference
            self.oracles[key] = ForeignOracle(made, precision if half else FLOAT32)
        return self.oracles[key]

    @property
    def asked(self) -> int:
        return sum(oracle.asked for oracle in self.oracles.values())

    @property
    def worked_out(self) -> int:
        return sum(oracle.worked_out for oracle in self.oracles.values())

    def subject(self) -> Dict[str, Any]:
        """What the model is, for a report; of several references the first that was used."""
        facts = next((oracle.reference.facts for oracle in self.oracles.values()), None)
        if facts is None:
            return {"name": "none", "digest": "", "classes": 0, "strides": [], "weights": None}
        return {
            "name": facts.title,
            "digest": facts.digest,
            "classes": len(facts.names),
            "strides": [],
            "weights": None,
            "code": facts.code,
            "notes": list(facts.notes),
        }


def open_context(
    path: Path,
    source: ForeignSource,
    img_size: Optional[Size],
    clock: Clock,
    quick: bool,
    on: str = "",
    promised: Optional[str] = None,
) -> ForeignContext:
    """Read a file and make its context; on: the engine that was asked for; promised: its precision. Raises InputError, in one line,
    for what cannot be used."""
    kind = kind_of(path)
    reference, promises = source.reference(path), source.promises(path)
    if kind in RUNTIMES:
        file: Any = runtime_contract.read(path, kind)
        contract, how = runtime_contract.runtime_contract(path, kind, file, reference.facts.shape, img_size)
    elif kind == "onnx":
        file = onnx_graph.read(path, client())
        contract, how = _onnx_contract(path, file, reference, promises, img_size)
    else:
        file = read_script(path, kind)
        contract, how = _script_contract(path, kind, reference, promises, img_size)
    _require_memory(path, contract)
    artifact = Artifact(path, kind, digest(path))
    known = registry() if kind in RUNTIMES else on_engines(registry()) if on else by_default(registry())
    precision = of_runtime(file) if kind in RUNTIMES else of_graph(file.graph) if kind == "onnx" else of_script(file)
    _require_its_noise(path, reference, floor_of(precision, promised))
    # A file that stands in for its own model has no other noise than that of what it computes in.
    judged = floor_of(precision, promised) if reference.facts.model else FLOAT32
    contract = replace(contract, precision=judged, promised_precision=promised)
    how += f", {precision.text}" if precision.text and kind not in RUNTIMES else ""
    how += f", {source.stated(path)}" if source.stated(path) else ""
    how += f", on {on}" if on else ""
    oracle = source.oracle(path, judged)
    context = ForeignContext(
        artifact, file, contract, oracle, clock, known, how, fold, quick, given_layout=source.layout, on=on
    )
    context.precision = precision
    return context


def read_script(path: Path, kind: str) -> ScriptFile:
    """The facts of an archive. Raises InputError where torch cannot load it."""
    try:
        return client().read_script(kind, path)
    except EngineError as error:
        what = "a lite archive" if kind == "lite" else "a TorchScript archive"
        raise InputError(f"{path} is not {what} torch can load: {error}") from None


def _require_its_noise(path: Path, reference: Reference, kind: str) -> None:
    """Raise InputError for a file of lower precision than the other file that is compared: what its precision does there is not known,
    and by the noise of float32 each such file would violate."""
    other: Optional[Path] = None if reference.facts.model else getattr(reference, "path", None)
    if kind == FLOAT32 or other is None or other.resolve() == path.resolve() or _stored_in(other) == kind:
        return
    raise InputError(
        f"{path} is of {kind}, and what that does to {other.name} is not known: judge it against its model (--weights, --model, "
        f"--capture), or against another file of {kind}"
    )


def _stored_in(path: Path) -> str:
    """The precision of an ONNX or TorchScript file."""
    kind = kind_of(path)
    script = kind in file_kind.SCRIPTS
    return (
        of_script(client().read_script(kind, path)) if script else of_graph(onnx_graph.read(path, client()).graph)
    ).floor


def kind_of(path: Path) -> str:
    """The kind of an exported file. Raises InputError where it is none."""
    runtime = runtime_files(path)
    if runtime is not None:
        return runtime.runtime
    require_file(path, "an exported model")
    file_kind.require_exported(path)
    kind = file_kind.kind(path)
    return kind if kind in file_kind.SCRIPTS else "onnx"


def _onnx_contract(
    path: Path, file: onnx_graph.OnnxFile, reference: Reference, promises: Promises, img_size: Optional[Size]
) -> Tuple[ForeignContract, str]:
    form = input_form(file.graph)
    image = next((value for value in file.graph.inputs if value.name == form.image), None)
    if image is None:
        raise InputError(f"{path} has no input, so it is no exported detector")
    if len(form.others) != len(promises.others):
        others = ", ".join(repr(value.name) for value in form.others) or "nothing"
        beside = f"{len(promises.others)} more" if promises.others else "nothing"
        raise InputError(
            f"{path} takes {others} beside an image, where {beside} is known to be given: `detparity capture -- COMMAND` "
            "reads it from the export, and files with several inputs are judged by it alone"
        )
    shape = in_order(image.shape) if image.shape is not None and len(image.shape) == 4 else (image.shape or ())
    if len(shape) not in (3, 4) or not _channels(shape):
        raise InputError(f"{path}: its input {image.name!r} is no image of three channels but {_text(image.shape)}")
    fixed = fixed_size(shape)
    if fixed and img_size and fixed != img_size:
        raise InputError(f"--img-size {_by(img_size)}: {path.name} takes {_by(fixed)} alone")
    size = (
        fixed
        or img_size
        or _stated(file.metadata)
        or _example(in_order(reference.facts.shape))
        or (DEFAULT_SIDE, DEFAULT_SIDE)
    )
    contract = of_onnx(file, image, shape, size, promises)
    suppression = onnx_nms.find(file.graph) if reference.facts.anchors else None
    if (suppression is not None and suppression.max_wh) or onnx_nms.half_offset(file.graph) is not None:
        contract = replace(contract, class_offset=True)
    return contract, f"at {_by(size)}, opset {file.opsets.get('', 0)}{_asked(promises)}"


def _script_contract(
    path: Path, kind: str, reference: Reference, promises: Promises, img_size: Optional[Size]
) -> Tuple[ForeignContract, str]:
    stored = config(path)
    shape = in_order(promises.shape or reference.facts.shape)
    size = img_size or _stated(stored) or _example(shape)
    if size is None:
        raise InputError(f"{path}: a TorchScript file declares no size; --img-size states it")
    batch = _images(stored) or (int(str(shape[0])) if len(shape) == 4 else 1)
    if promises.others and kind != "torchscript":
        raise InputError(f"{path} takes more than an image: of lite archives such ones are not supported")
    contract = ForeignContract(kind, promises, size, batch, len(shape) != 3)
    return contract, f"at {_by(size)}{_asked(promises)}"


def _channels(shape: Sequence[object]) -> bool:
    channels = shape[-3]
    return not isinstance(channels, int) or channels == 3


def _stated(metadata: Mapping[str, str]) -> Optional[Size]:
    try:
        return image_size(metadata)
    except (ValueError, TypeError):
        return None


def _images(metadata: Mapping[str, str]) -> Optional[int]:
    """The batch that a file was traced with, where it says so and it varies in no other way."""
    batch, asked = parse(metadata.get("batch", "")), parse(metadata.get("args", ""))
    fixed = (
        isinstance(batch, int) and 0 < batch <= LARGEST_BATCH and isinstance(asked, dict) and not asked.get("dynamic")
    )
    return batch if fixed else None


def _example(shape: Sequence[object]) -> Optional[Size]:
    return (int(str(shape[-2])), int(str(shape[-1]))) if len(shape) in (3, 4) else None


def _asked(promises: Promises) -> str:
    return f", as asked by {promises.source}" if promises.source else ""


def _by(size: Size) -> str:
    return f"{size[0]}x{size[1]}"


def _text(shape: Optional[Sequence[object]]) -> str:
    return "of unknown rank" if shape is None else f"({', '.join(map(str, shape))})"


def _require_memory(path: Path, contract: ForeignContract) -> None:
    height, width = contract.size
    if min(height, width) < 1 or max(height, width) > LARGEST_SIDE:
        raise InputError(f"{path}: an image size of {height}x{width} cannot be run")
    total = environment.memory_bytes()
    needed = 12 * height * width * contract.batch * 8
    if total and needed > MEMORY_SHARE * total:
        raise InputError(
            f"{path}: a batch of {contract.batch} at {height}x{width} needs {needed / 1e9:.0f} GB for its images alone, "
            f"and this machine has {total / 1e9:.0f} GB"
        )


def fold(context: ForeignContext, check_id: str, findings: Tuple[Finding, ...]) -> Tuple[Finding, ...]:
    """Numbers that are wrong at the declared size and batch are one cause: other checks of numbers follow from it."""
    first = "parity.declared"
    if not check_id.startswith("parity.") or check_id in (first, "parity.repeat"):
        return findings
    if any(finding.level == MUST for finding in context.outcome(first).findings):
        return tuple(replace(finding, follows=first) for finding in findings)
    return findings


def record(context: ForeignContext) -> Dict[str, Any]:
    """The artifact's entry of a report, without its checks."""
    found: Dict[str, Any] = {
        "path": str(context.artifact.path),
        "sha256": context.artifact.sha256,
        "variant": context.contract.name,
        "how": f"{context.contract.name}, {context.how}",
        "against": context.oracle.reference.facts.title,
        "model": context.oracle.reference.facts.model,
    }
    found["precision"] = precision_record(context)
    if isinstance(context.file, RuntimeFile):
        found["weights_stored"] = context.file.weights
    if context.artifact.kind == "onnx":
        opset, producer = context.onnx.opsets.get("", 0), context.onnx.producer
        found["file"] = {"opset": opset, "ir_version": context.onnx.ir_version, "producer": producer}
    return found


def precision_record(context: Any) -> Dict[str, Any]:
    """What a report states of a file's precision: what it is, what it is judged in, and the runs that gave the noise."""
    judged = {"promised": context.contract.promised_precision, "judged": context.contract.precision}
    return {**context.precision.record(), **judged, "floors": list(context.oracle.ways)}
