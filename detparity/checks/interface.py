"""What an ONNX file declares of its inputs and outputs: names, order, types, axes."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Iterator, List, Optional, Sequence, Set, Tuple

from detparity.artifacts.input_form import in_order
from detparity.artifacts.onnx_graph import Value
from detparity.checks.context import Context
from detparity.core.contract import MUST, SHOULD, Axis, Contract, TensorPromise
from detparity.core.findings import Finding, Row
from detparity.core.text import listed

INVENTED_AXIS = re.compile(r"(_dim_\d+|^unk__\d+)$")
INVENTED_FREE_AXIS = re.compile(r"(_dim_\d+|^unk__\d+|^s\d+)$")
INVENTED_NAME = re.compile(r"^\d+$|^onnx::|/|_output_\d+$")


def _dtype_text(value: Value) -> str:
    return f"{value.dtype} {shape_text(value.shape)}"


def shape_text(shape: Optional[Tuple[object, ...]]) -> str:
    return (
        "of unknown rank" if shape is None else "(" + ", ".join("?" if dim is None else str(dim) for dim in shape) + ")"
    )


def inputs(context: Context) -> Iterator[Finding]:
    found = [value for value in context.onnx.graph.inputs if value.name not in context.onnx.graph.initializers]
    for finding in _names("input", context.contract.inputs, found):
        yield replace(finding, notes=(*finding.notes, *_given(context))) if finding.level == MUST else finding


def _given(context: Context) -> Iterator[str]:
    """What the checks give the file instead of what is promised."""
    form = context.form
    image = next((value for value in context.onnx.graph.inputs if value.name == form.image), None)
    promised = context.contract.inputs[0]
    if image is not None and form.dtype != promised.dtype:
        steps = ", with pixels from 0 to 255" if form.rounding == "8-bit" else ""
        yield f"The image is {form.dtype} {shape_text(image.shape)}: the checks give it as {form.dtype}{steps}."
    if form.others:
        listed_others = ", ".join(f"{value.name!r} ({_dtype_text(value)})" for value in form.others)
        what = "a second input" if len(form.others) == 1 else f"{len(form.others)} further inputs"
        yield f"It takes {what}, {listed_others}: the checks give {_filling(context)}."


def _filling(context: Context) -> str:
    height, width = context.contract.size
    texts = {
        "width, height": f"the image's width and height, ({width}, {height})",
        "height, width": f"the image's height and width, ({height}, {width})",
    }
    pairs = any((value.shape or ())[-1:] == (2,) for value in context.form.others)
    return (
        texts[context.filled] if pairs and context.filled in texts else "zeros" if context.filled == "zeros" else "ones"
    )


def outputs(context: Context) -> Iterator[Finding]:
    for finding in _names("output", context.contract.outputs, context.onnx.graph.outputs):
        apart = _apart(context.onnx.graph.outputs) if finding.level == MUST else ""
        yield replace(finding, notes=(*finding.notes, apart)) if apart else finding


def _apart(outputs: Sequence[Value]) -> str:
    """Says so where three outputs have the shapes of boxes, scores and classes of the same rows."""
    shapes = [value.shape for value in outputs]
    if len(shapes) != 3 or any(shape is None or len(shape) != 3 for shape in shapes):
        return ""
    rows = {shape[1] for shape in shapes if shape}
    last = [shape[2] for shape in shapes if shape]
    if len(rows) == 1 and last == [4, 1, 1]:
        return "Boxes, scores and classes are apart, one output each, as DeepStream reads them: no check of numbers reads that."
    return ""


def _names(what: str, promised: Tuple[TensorPromise, ...], found: Sequence[Value]) -> Iterator[Finding]:
    rows: List[Row] = [("", "promised", "file")]
    wrong, invented = [], []
    for index in range(max(len(promised), len(found))):
        promise = promised[index] if index < len(promised) else None
        value = found[index] if index < len(found) else None
        mark = ""
        if promise is None or value is None or promise.dtype != value.dtype:
            mark = "<- differs"
        elif promise.name != value.name:
            if promise.invented_name_ok and INVENTED_NAME.search(value.name):
                invented.append(value.name)
            else:
                mark = "<- differs"
        wrong += [_difference(what, promise, value)] if mark else []
        rows.append(
            (
                f"{what} {index}",
                f"{promise.name} {promise.dtype}" if promise else "nothing",
                f"{value.name} {value.dtype}" if value else "nothing",
                mark,
            )
        )
    if wrong:
        types = sorted({value.dtype for promise, value in zip(promised, found) if promise.dtype != value.dtype})
        only = len(promised) == len(found) and all(a.name == b.name for a, b in zip(promised, found))
        yield Finding(
            f"has other {what}s than promised: {listed(wrong, 3)}.",
            tuple(rows),
            headed=True,
            notes=("Names, order, count and types are compared.",),
            evidence={what + "s": [value.name for value in found], **({"types": types} if only else {})},
        )
    if invented:
        yield Finding(
            f"leaves the names of {what}s to the exporter: {listed(invented)}.",
            notes=("Such names change with the exporter's version; name every output.",),
            evidence={"invented": invented},
            level=SHOULD,
        )


def _difference(what: str, promise: Optional[TensorPromise], value: Optional[Value]) -> str:
    """A clause on one position."""
    if promise is None or value is None:
        return (
            f"{value.name!r} ({_dtype_text(value)}) is not promised"
            if value
            else f"{promise and promise.name!r} is missing"
        )
    if promise.dtype != value.dtype:
        return f"{value.name!r} is {value.dtype} where {promise.dtype} is promised"
    return f"{what} {promise.name!r} is called {value.name!r}"


def axes(context: Context) -> Iterator[Finding]:
    """Declared axes of inputs and outputs, position by position. Another order of axes is one finding."""
    contract, graph = context.contract, context.onnx.graph
    declared = {value.name: value for value in (*graph.inputs, *graph.outputs)}
    positions = list(zip(contract.inputs, graph.inputs)) + list(zip(contract.outputs, graph.outputs))
    for promise, value in positions:
        value = declared.get(promise.name, value)
        order = _other_order(context, promise, value)
        if order is not None:
            yield Finding(
                f"declares {value.name!r} as {shape_text(value.shape)}: {order[0]}.",
                (("promised", f"({', '.join(map(str, promise.axes))})"), ("file", shape_text(value.shape))),
                notes=("The checks of numbers give and read it so. Export it in the promised order.",),
                evidence={"tensor": value.name, "declared": list(value.shape or ())},
            )
            value = replace(value, shape=order[1])
        yield from _axes_of(promise, value, contract)


def _other_order(
    context: Context, promise: TensorPromise, value: Value
) -> Optional[Tuple[str, Tuple[Optional[object], ...]]]:
    """What the order of axes is and the axes in the promised one; None where they are in it, or in none that is known."""
    shape = value.shape
    if shape is None or len(shape) != len(promise.axes):
        return None
    if value.name == context.form.image and context.form.last:
        return "channels are the last axis (NHWC) where they are the second of the promise", in_order(shape)
    rows, fields = (axis.number for axis in promise.axes[1:]) if len(promise.axes) == 3 else (None, None)
    grid = context.contract.variant.head == "grid" and promise in context.contract.outputs
    fits = rows is None or shape[2] == rows or not isinstance(shape[2], int)
    if grid and fits and fields is not None and shape[1] == fields and shape[2] != fields:
        return "fields come before rows, the output is transposed", (shape[0], shape[2], shape[1])
    return None


def _axes_of(promise: TensorPromise, value: Value, contract: Contract) -> Iterator[Finding]:
    if value.shape is None or len(value.shape) != len(promise.axes):
        found = "no shape" if value.shape is None else f"{len(value.shape)} axes {shape_text(value.shape)}"
        yield Finding(f"declares {found} for {value.name!r} where {len(promise.axes)} axes are promised.")
        return
    taken = {axis.symbol for tensor in contract.inputs for axis in tensor.axes if axis.symbol}
    judged = [_axis(axis, dim, taken) for axis, dim in zip(promise.axes, value.shape)]
    for level in (MUST, SHOULD):
        wrong = [(index, reason) for index, (found, reason) in enumerate(judged) if found == level]
        if not wrong:
            continue
        reasons = dict(wrong)
        rows: List[Row] = [("axis", "contract", "graph")]
        for index, (axis, dim) in enumerate(zip(promise.axes, value.shape)):
            mark = f"<- {reasons[index]}" if index in reasons else ""
            rows.append((str(index), str(axis), "?" if dim is None else str(dim), mark))
        index, reason = wrong[0]
        count = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        yield Finding(
            f"declares axis {index} of {value.name!r} as {value.shape[index]!r}: {reason}{count}.",
            tuple(rows),
            headed=True,
            evidence={"tensor": value.name, "axes": [index for index, _ in wrong], "declared": list(value.shape)},
            level=level,
            fix=None
            if level == MUST
            else "Name the axis in dynamic_axes, or write its name or number into the output's type afterwards.",
        )


def _axis(axis: Axis, dim: object, taken: Set[str]) -> Tuple[str, str]:
    """Return (level, reason) for one axis; ("", "") where it is as promised."""
    if dim is None:
        return SHOULD, "unnamed"
    if isinstance(dim, int):
        if axis.number is None:
            return MUST, "fixed where the contract says it varies"
        return ("", "") if dim == axis.number else (MUST, f"{dim} where {axis.number} is promised")
    symbol = str(dim)
    if re.fullmatch(r"-?\d+", symbol):
        return MUST, "a numeral used as a symbol"
    if axis.free:
        if symbol in taken:
            return MUST, "the name of another number"
        return (SHOULD, "a name the exporter invented") if INVENTED_FREE_AXIS.search(symbol) else ("", "")
    if axis.number is not None:
        if INVENTED_AXIS.search(symbol):
            return SHOULD, f"a name the exporter invented where {axis.number} is promised"
        return MUST, f"a symbol where {axis.number} is promised"
    return ("", "") if symbol == axis.symbol else (MUST, f"another name than {axis.symbol!r}")
