"""Structure of a file of any detector: what needs no contract of its family, and what its exporter was asked for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Callable, Container, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple

from detparity.artifacts.metadata import class_names, image_size, parse
from detparity.artifacts.onnx_graph import Dim, Value
from detparity.checks import structure
from detparity.checks.foreign.context import ForeignContext, OutputsDiffer
from detparity.checks.foreign.contract import ForeignContract
from detparity.checks.foreign.outputs import outputs
from detparity.checks.interface import shape_text
from detparity.core.contract import INFO, MUST, SHOULD
from detparity.core.errors import EngineError
from detparity.core.findings import CannotRun, Check, Finding, Row
from detparity.core.layout import SCORE
from detparity.core.text import listed

Run = Callable[[Any], Iterable[Finding]]
SCORES = ("logit", "score", "class", "cls")  # in the name of an output that has no boxes


def _softer(run: Run, level: str = SHOULD) -> Run:
    """The same check, where what it finds costs a deployment little: exporters of other projects leave such things."""

    def softer(context: Any) -> Iterator[Finding]:
        for finding in run(context):
            yield replace(finding, level=level)

    return softer


def inferred(context: ForeignContext) -> Iterator[Finding]:
    try:
        yield from structure.inferred(context)  # type: ignore[arg-type]  # reads the file alone
    except CannotRun as error:
        raise CannotRun(str(error), hides=False) from None


def opset(context: ForeignContext) -> Iterator[Finding]:
    asked, found = context.contract.promises.opset, context.onnx.opsets.get("", 0)
    if asked is not None and asked != found:
        yield Finding(
            f"is written in opset {found} where {asked} was asked for.",
            (("asked for", str(asked)), ("file", str(found))),
            notes=("A runtime that reads no newer opset than the one asked for refuses the file.",)
            if found > asked
            else (),
            evidence={"opset": found, "asked": asked},
        )


def names(context: ForeignContext) -> Iterator[Finding]:
    """Names and order of inputs and outputs, where the exporter was asked for names."""
    graph, promises = context.onnx.graph, context.contract.promises
    own = [value.name for value in graph.inputs if value.name not in graph.initializers]
    for what, asked, found in (
        ("inputs", promises.inputs, own),
        ("outputs", promises.outputs, [value.name for value in graph.outputs]),
    ):
        left = promises.written == len(found) if what == "outputs" else False
        if asked and _other_names(asked, found, graph.initializers, left):
            yield Finding(
                f"has other {what} than asked for: {listed(found, 4)}.",
                (("asked for", ", ".join(asked)), ("file", ", ".join(found))),
                evidence={what: found},
            )


def _other_names(asked: Sequence[str], found: Sequence[str], weights: Container[str], left: bool) -> bool:
    """Whether tensors have other names than asked for. Exporters take names in order: of more than there are, the others are those of
    weights. left: whether the exporter's own file has as many, so that those after the last name asked for have names of its own."""
    same = all(one == other for one, other in zip(asked, found)) and (left or len(found) <= len(asked))
    return not same or any(name not in weights for name in asked[len(found) :])


def axes(context: ForeignContext) -> Iterator[Finding]:
    """Axes asked to vary are symbols, all others numbers. A symbol that the exporter left on a fixed axis is SHOULD."""
    promises, graph = context.contract.promises, context.onnx.graph
    if promises.dynamic is None:
        raise CannotRun("it is not known which axes were asked to vary", hides=False)
    own = [value for value in graph.inputs if value.name not in graph.initializers]
    for value in (*own, *graph.outputs):
        asked = promises.varying(value.name)
        for axis, dim in enumerate(value.shape or ()):
            if isinstance(dim, int) and axis in asked:
                yield Finding(
                    f"fixes axis {axis} of {value.name!r} at {dim} where it was asked to vary as {asked[axis]!r}.",
                    (("asked for", asked[axis]), ("file", shape_text(value.shape))),
                    evidence={"tensor": value.name, "axis": axis},
                )
    loose = [
        value
        for value in own
        for axis, dim in enumerate(value.shape or ())
        if not isinstance(dim, int) and axis not in promises.dynamic.get(value.name, {})
    ]
    if loose:
        yield Finding(
            f"leaves axes of {loose[0].name!r} open that were not asked to vary: {shape_text(loose[0].shape)}.",
            evidence={"tensor": loose[0].name},
            level=SHOULD,
        )


def shapes(context: ForeignContext) -> Iterator[Finding]:
    """Produced shapes against those the file declares."""
    try:
        produced = context.predict(context.declared)
    except EngineError as error:
        text = str(error)[:600]
        yield Finding(
            f"does not run on what it declares, {context.declared}.", notes=(text,), evidence={"refused": text}
        )
        return
    rows: List[Row] = [("output", "declared", "produced")]
    wrong = False
    for value in context.onnx.graph.outputs:
        own = produced[value.name].shape
        fits = value.shape is None or (
            len(value.shape) == len(own)
            and all(not isinstance(dim, int) or dim == n for dim, n in zip(value.shape, own))
        )
        wrong = wrong or not fits
        rows.append((value.name, shape_text(value.shape), str(own), "" if fits else "<- differs"))
    if wrong:
        yield Finding(
            f"produces other shapes than it declares at {context.declared}.",
            tuple(rows),
            headed=True,
            evidence={"produced": {name: list(array.shape) for name, array in produced.items()}},
        )


def operators(context: ForeignContext) -> Iterator[Finding]:
    """Training-mode and random operators; operators of a domain that only one runtime has."""
    graph = context.onnx.graph
    own = set(context.onnx.functions)
    domains: Dict[str, List[Any]] = {}
    training: Dict[str, List[str]] = {}
    for node in graph.walk():
        if node.op in structure.RANDOM_OPS and not node.domain:
            yield Finding(f"uses the random operator {node.op}.", (("node", node.title),), level=SHOULD)
        elif structure._trains(node, graph):
            training.setdefault(node.op, []).append(node.title)
        elif node.domain and node.full_op not in own:
            domains.setdefault(node.domain, []).append(node)
    for op, titles in training.items():
        many = f"has a {op}" if len(titles) == 1 else f"has {len(titles)} times {op}"
        yield Finding(
            f"{many} in training mode.",
            (("nodes", listed(titles, 3)),),
            notes=("It computes other numbers than in evaluation: call eval() before export.",),
            evidence={"nodes": titles},
        )
    for domain, nodes in domains.items():
        yield replace(structure._foreign(domain, nodes), level=INFO)


def metadata(context: ForeignContext) -> Iterator[Finding]:
    """Class names, size and task that the file states, against what it is."""
    stored = context.contract.metadata
    if "names" in stored:
        try:
            found = class_names(parse(stored["names"]))
        except ValueError as error:
            yield Finding(f"metadata `names` {error}.", evidence={"key": "names"})
        else:
            yield from _class_count(context, found)
    yield from _size(context, stored)


def _size(context: ForeignContext, stored: Mapping[str, str]) -> Iterator[Finding]:
    try:
        size = image_size(stored)
    except (ValueError, TypeError):
        size = None
    fixed = not context.contract.varies_size
    if size is not None and fixed and size != context.contract.size:
        stated, own = ("x".join(map(str, one)) for one in (size, context.contract.size))
        yield Finding(
            f"metadata `imgsz` is {stated} where the file takes {own} alone.",
            evidence={"key": "imgsz"},
        )


def _class_count(context: ForeignContext, found: Sequence[str]) -> Iterator[Finding]:
    """As many names as the output has columns of class scores, and the model's own names where they are known."""
    known = context.oracle.reference.facts.names
    if known and tuple(known) != tuple(found):
        rows = [(str(k), a, b) for k, (a, b) in enumerate(zip(known, found)) if a != b][:6]
        yield Finding(
            f"metadata `names` holds {len(found)} class names that are not the model's {len(known)}.",
            (("class", "model", "file"), *rows),
            headed=True,
            evidence={"key": "names"},
        )
        return
    try:
        layout, outputs = context.layout, context.named(context._exact(context.declared))
    except (OutputsDiffer, CannotRun):
        return
    for one, (name, array) in zip(layout.outputs, outputs.items()):
        for part in one.fields:
            if part.name in ("class", "logits") and part.role == SCORE:
                count = len(range(array.shape[one.axis])[part.start : part.stop])
                if not _counts(len(found), count, part.name == "logits"):
                    yield Finding(
                        f"metadata `names` holds {len(found)} class names where {name!r} has {count} columns of class scores.",
                        evidence={"key": "names"},
                    )


def _counts(names: int, columns: int, queries: bool) -> bool:
    """Whether so many names fit so many columns. Of queries one column may be no object, and COCO's 80 classes have 90 numbers."""
    return names == columns or (queries and (names == columns - 1 or (names == 80 and columns in (90, 91, 92))))


def contradicting(context: ForeignContext) -> Iterator[Finding]:
    """A name that says what the tensor is not: boxes have four columns, scores and logits lie where boxes do not."""
    outputs = context.onnx.graph.outputs
    boxes = [value for value in outputs if "box" in value.name.lower() and "label" not in value.name.lower()]
    scores = [value for value in outputs if any(word in value.name.lower() for word in SCORES)]
    if not boxes or not scores:
        return
    shapes = {value.name: _columns_known(context, value) for value in (*boxes, *scores)}
    wide = {name: shape[-1] for name, shape in shapes.items() if len(shape) >= 2 and isinstance(shape[-1], int)}
    for box in (value.name for value in boxes if value.name in wide):
        other = next((value.name for value in scores if wide.get(value.name) == 4 and value.name != box), None)
        if wide[box] not in (4, 5, 6, 7) and other is not None:
            yield Finding(
                f"names its outputs the opposite of what they are: {box!r} has {wide[box]} columns, {other!r} has 4.",
                ((box, shape_text(shapes[box])), (other, shape_text(shapes[other]))),
                notes=("Who reads the outputs by name takes scores for boxes.",),
                evidence={"names": [box, other]},
            )


def _columns_known(context: ForeignContext, value: Value) -> Tuple[Dim, ...]:
    """The declared shape of an output; the produced one where its last axis is declared to vary, or nothing is."""
    if value.shape and isinstance(value.shape[-1], int):
        return value.shape
    try:
        return tuple(context.predict(context.declared)[value.name].shape)
    except EngineError:
        return value.shape or ()  # that it does not run is structure.shapes' to report


def script_load(context: ForeignContext) -> Iterator[Finding]:
    try:
        context.runner()
    except EngineError as error:
        if "XNNPACK" in str(error):
            raise CannotRun(str(error)) from None
        yield Finding("does not load.", notes=(str(error)[:600],), evidence={"refused": str(error)[:600]})


def script_training(context: ForeignContext) -> Iterator[Finding]:
    if context.script.training_ops:
        what = listed(context.script.training_ops)
        yield Finding(f"was saved in training mode ({what}).", notes=("Call eval() before export.",))
    elif context.script.training:
        yield Finding(
            "was saved with its flag `training` set.",
            notes=(
                "No operator in it was recorded in training, and its numbers are judged as it is. torch.jit.freeze refuses it, and so "
                "does what calls that: call eval() on the outermost module before export.",
            ),
            level=SHOULD,
        )


def script_devices(context: ForeignContext) -> Iterator[Finding]:
    found = sorted({device for device, _ in context.script.devices if not device.startswith("cpu")})
    if found:
        yield Finding(f"has devices frozen into its graph: {', '.join(found)}.", evidence={"devices": found})


def _always(contract: ForeignContract) -> bool:
    return True


def _onnx(contract: ForeignContract) -> bool:
    return contract.onnx


def _asked(contract: ForeignContract) -> bool:
    return contract.onnx and bool(contract.promises.source)


def _script(contract: ForeignContract) -> bool:
    return contract.kind in ("torchscript", "lite")


LOADED: Tuple[str, ...] = ("structure.load",)
CHECKS: Tuple[Check, ...] = (
    Check(
        "structure.checker",
        MUST,
        "The ONNX checker, shape inference included, accepts the file.",
        structure.checker,
        _onnx,
    ),
    Check("structure.load", MUST, "ONNX Runtime loads it, graph optimisations on and off.", structure.load, _onnx),
    Check("structure.opset", MUST, "The opset is the one that was asked for.", opset, _asked),
    Check("structure.names", MUST, "Names and order of inputs and outputs are those asked for.", names, _asked),
    Check(
        "structure.outputs",
        MUST,
        "Every output of the model is there, but for those that its export leaves out.",
        outputs,
        _always,
        (*LOADED, "script.load", "engine.load"),
    ),
    Check("structure.axes", MUST, "Axes asked to vary are symbols, all others numbers.", axes, _asked),
    Check("structure.inferred", MUST, "Inferred shapes do not contradict declared ones.", inferred, _onnx),
    Check("structure.shapes", MUST, "Produced shapes equal declared ones.", shapes, _onnx, LOADED),
    Check(
        "structure.initializers",
        SHOULD,
        "No initializers as inputs, none that nothing reads.",
        _softer(structure.initializers),
        _onnx,
    ),
    Check("structure.dead-nodes", SHOULD, "Every node reaches an output.", _softer(structure.dead_nodes), _onnx),
    Check("structure.operators", MUST, "No random or training-mode operators.", operators, _onnx),
    Check("structure.contradicting", MUST, "No output's name contradicts what it is.", contradicting, _onnx),
    Check(
        "structure.metadata", MUST, "Names, size and task, where present, are the file's own.", metadata, _onnx, LOADED
    ),
    Check("script.load", MUST, "torch loads the archive.", script_load, _script),
    Check("script.training", MUST, "It is not in training mode.", script_training, _script),
    Check("script.devices", MUST, "No device is frozen into the graph.", script_devices, _script),
)
