"""torch.onnx.export through TorchScript, whatever the version's default, and quietly."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import io
import warnings
from typing import Any, Dict, Iterator, Mapping, Sequence

import torch

from detparity.models.compat.shims import Need, Shim, bare

SHIM = Shim(
    # The parameter `dynamo` is there from 2.4 and true by default from 2.9.
    needs=(
        Need({"torch": "==2.0.*"}, r"AssertionError: export printed '=+ Diagnostic Run"),
        Need(
            {"torch": ">=2.9"}, r"(UserWarning: .*'dynamic_axes' is not recommended|ModuleNotFoundError: .*onnxscript)"
        ),
    ),
    without="from 2.9 the torch.export-based exporter runs, needs onnxscript, warns, and writes opset 18 where 12 is requested; "
    "2.0 prints a banner to standard output, which belongs to the command that exports",
    until="torch drops the TorchScript-based exporter",
)


def export_onnx(
    module: torch.nn.Module,
    example: torch.Tensor,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
    opset: int,
) -> bytes:
    """Return the bytes of the exported ONNX model; whatever torch raises passes through."""
    plain = bare("onnx_export")
    keywords: Dict[str, Any] = {}
    if not plain and "dynamo" in inspect.signature(torch.onnx.export).parameters:
        keywords["dynamo"] = False
    buffer = io.BytesIO()
    with contextlib.ExitStack() as quiet:
        if not plain:
            # Deprecation of this very exporter, and trace warnings about the sizes a static export is intended to fix.
            quiet.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore")
            quiet.enter_context(contextlib.redirect_stdout(io.StringIO()))
            quiet.enter_context(_operators_registered_once())
        torch.onnx.export(
            module,
            (example,),
            buffer,
            opset_version=opset,
            input_names=list(input_names),
            output_names=list(output_names),
            dynamic_axes={name: dict(axes) for name, axes in dynamic_axes.items()},
            do_constant_folding=True,
            **keywords,
        )
    return buffer.getvalue()


@contextlib.contextmanager
def _operators_registered_once() -> Iterator[None]:
    """Up to 1.12 all operators of an opset are registered again for every node that is exported: half of the time of an export."""
    try:
        registry: Any = importlib.import_module("torch.onnx.symbolic_registry")
    except ImportError:
        yield
        return
    before = registry.register_version
    registry.register_version = functools.lru_cache(maxsize=None)(before)
    try:
        yield
    finally:
        registry.register_version = before


def probe() -> None:
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        export_onnx(torch.nn.ReLU().eval(), torch.zeros(1, 3), ["images"], ["output"], {"images": {0: "batch"}}, 12)
    if printed.getvalue():
        raise AssertionError(f"export printed {printed.getvalue()[:60]!r}")
