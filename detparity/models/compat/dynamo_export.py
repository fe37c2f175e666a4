"""torch.onnx.export through torch.export: one call for every version that has it, quietly."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import inspect
import io
import logging
import warnings
from typing import Any, Dict, Iterator, Mapping, Optional, Sequence, Tuple

import torch

from detparity.models.compat.shims import Need, Shim, bare

SHIM = Shim(
    needs=(
        Need({"torch": ">=2.5,<2.13", "onnxscript": ">=0.1"}, r"AssertionError: export printed '\[torch\.onnx\]"),
        Need({"torch": "==2.13.*", "onnxscript": ">=0.1"}, r"(?s)ConversionError: .*FutureWarning.*LeafSpec"),
        Need({"torch": ">=2.14", "onnxscript": ">=0.1"}, r"AssertionError: export printed '\[torch\.onnx\]"),
    ),
    without="progress is printed to standard output, which belongs to the command that exports; 2.13 warns of its own workings, which "
    "ends the export where warnings are errors; 2.5 leaves dead nodes and onnxscript's functions in the graph, 2.6 unfolded constants",
    until="torch.onnx.export prints nothing, and 2.6 is no longer supported",
)


def unavailable() -> Optional[str]:
    """Why this version cannot export through torch.export with named axes, or None where it can."""
    version = tuple(int(part) for part in torch.__version__.split(".")[:2])
    if version < (2, 5):
        has = "can name no axes in its" if hasattr(torch.onnx, "dynamo_export") else "has no"
        return f"this torch {has} torch.export-based ONNX exporter; 2.5 is the first whose axes can be named"
    if importlib.util.find_spec("onnxscript") is None:
        return "the torch.export-based ONNX exporter needs onnxscript: pip install 'detparity[dynamo]'"
    return None


def export_dynamo(
    module: torch.nn.Module,
    example: torch.Tensor,
    input_name: str,
    output_names: Sequence[str],
    axes: Mapping[int, Tuple[str, int]],
    opset: int,
) -> bytes:
    """Return the bytes of the exported ONNX model, weights inside; whatever torch raises passes through.

    axes: the axes of the input that vary: a name, and the number each length is a multiple of. What the file calls them is the
    exporter's choice: versions write arithmetic of symbols, or the example's numbers.
    """
    plain = bare("dynamo_export")
    keywords: Dict[str, Any] = {}
    if not plain and "optimize" in inspect.signature(torch.onnx.export).parameters:
        keywords["optimize"] = True
    with contextlib.nullcontext() if plain else _quiet():
        captured = torch.export.export(
            module, (example,), dynamic_shapes=(_dims(axes),) if axes else None, strict=False
        )
        program: Any = torch.onnx.export(
            captured,
            (example,),
            dynamo=True,
            input_names=[input_name],
            output_names=list(output_names),
            opset_version=opset,
            **keywords,
        )
        if not plain and not keywords:
            importlib.import_module("onnxscript.optimizer").optimize(program.model)
    return bytes(program.model_proto.SerializeToString())


def _dims(axes: Mapping[int, Tuple[str, int]]) -> Dict[int, Any]:
    """torch.export's dimensions. A multiple is an expression of another dimension, which has a name of its own."""
    dims: Dict[int, Any] = {}
    for axis, (name, multiple) in axes.items():
        dims[axis] = torch.export.Dim(name) if multiple == 1 else multiple * torch.export.Dim(f"{name}_{multiple}")
    return dims


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Nothing on standard output, no warnings, no log below an error: all three concern torch's internals."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def probe() -> None:
    if unavailable():
        return
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        export_dynamo(torch.nn.ReLU().eval(), torch.zeros(2, 3), "images", ["output"], {0: ("batch", 1)}, 18)
    if printed.getvalue():
        raise AssertionError(f"export printed {printed.getvalue()[:60]!r}")
