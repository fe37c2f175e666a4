"""torch.onnx.export by way of TorchScript, whatever the version calls it.

Needed by: torch 2.9 and later, whose default is the torch.export-based exporter (`dynamo=True`), which does not honour opset 12.
Breaks without it: the file says opset 18, or the export asks for onnxscript. The parameter is absent up to 2.3 and present from 2.4.
May go when: the TorchScript-based exporter is removed from torch.
"""

from __future__ import annotations

import inspect
import io
import warnings
from typing import Any, Dict, Mapping, Sequence

import torch


def export_onnx(
    module: torch.nn.Module,
    example: torch.Tensor,
    input_names: Sequence[str],
    output_names: Sequence[str],
    dynamic_axes: Mapping[str, Mapping[int, str]],
    opset: int,
) -> bytes:
    """Return the bytes of the exported ONNX model; whatever torch raises passes through."""
    keywords: Dict[str, Any] = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        keywords["dynamo"] = False
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        # Deprecation of this very exporter, and trace warnings about the sizes a static export is meant to fix.
        warnings.simplefilter("ignore")
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
