"""OpenVINO on the CPU, for ONNX and for its own files (.xml with .bin).

What it computes in by default depends on the processor: bfloat16 where that has instructions for it, whatever the file stores. The
precision that ran is read from the compiled model, layer by layer. Properties: docs.openvino.ai, "CPU Device", "Precision Control".
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Dict, List, Union

import numpy as np
import openvino as ov

from detparity.artifacts import onnx_edit
from detparity.artifacts.runtime_file import Port, RuntimeFile
from detparity.core.errors import EngineError
from detparity.core.runtimes import runtime_files
from detparity.core.vocabulary import Arrays, Load, Runner

DEVICE = "CPU"
NAMES = {"f32": "float32", "f16": "float16", "bf16": "bfloat16", "f64": "float64", "u8": "uint8", "boolean": "bool"}
HEAVY = ("Convolution", "Deconvolution", "FullyConnected", "MatMul", "GroupConvolution")
CONSTANTS = ("f32", "f16", "bf16", "i8", "u8", "i4", "u4")


def read(path: str) -> RuntimeFile:
    """The facts of a model description. Raises EngineError where it does not load."""
    model = _model(path)
    stored: Counter[str] = Counter()
    for node in model.get_ops():
        if node.get_type_name() == "Constant" and _type(node) in CONSTANTS:
            stored[_type(node)] += int(np.prod(list(node.get_output_shape(0)), dtype=np.int64))
    most = stored.most_common(1)[0][0] if stored else "f32"
    quantised = any(node.get_type_name() == "FakeQuantize" for node in model.get_ops())
    return RuntimeFile(
        tuple(_port(one, k) for k, one in enumerate(model.inputs)),
        tuple(_port(one, k) for k, one in enumerate(model.outputs)),
        _named(most),
        quantised,
    )


def prepare(source: Union[str, Path, bytes], how: Load = Load()) -> Runner:
    """Load a path, a folder, or the bytes of an ONNX model. Raises EngineError if it does not load or run."""
    if how.cut:
        source = onnx_edit.tail_of(source if isinstance(source, bytes) else Path(source), how.cut)
    model = _model(source)
    settings: Dict[str, Any] = {"INFERENCE_NUM_THREADS": how.threads} if how.threads else {}
    if how.precision == "float32":
        settings.update({"INFERENCE_PRECISION_HINT": "f32", "EXECUTION_MODE_HINT": "ACCURACY"})
    try:
        compiled = ov.Core().compile_model(model, DEVICE, settings)
    except Exception as error:
        raise EngineError(_one_line(error)) from None
    inputs = [_name(one, k) for k, one in enumerate(model.inputs)]
    outputs = [_name(one, k) for k, one in enumerate(model.outputs)]
    request = compiled.create_infer_request()

    def call(feed: Arrays) -> Arrays:
        try:
            found = request.infer([np.ascontiguousarray(feed[name]) for name in inputs])
        except Exception as error:
            raise EngineError(_one_line(error)) from None
        return {name: np.array(found[k]) for k, name in enumerate(outputs)}

    return Runner("openvino", call, _facts(compiled, how), tuple(inputs))


def _facts(compiled: Any, how: Load) -> Dict[str, str]:
    """Version, threads, and the precision of what was compiled."""
    ran = Counter(_layers(compiled))
    precision = ", ".join(f"{name}" for name, _ in ran.most_common()) or "unknown"
    return {
        "openvino": ov.__version__,
        "device": DEVICE,
        "threads": str(compiled.get_property("INFERENCE_NUM_THREADS")),
        "precision": precision,
        "asked for": how.precision or "nothing",
        "layers": ", ".join(f"{count} {name}" for name, count in ran.most_common()),
    }


def _layers(compiled: Any) -> List[str]:
    """The precision in which each layer with weights runs; of a model without such layers that of all."""
    ran = [
        (_text(node, "layerType"), _text(node, "runtimePrecision")) for node in compiled.get_runtime_model().get_ops()
    ]
    heavy = ["int8" if precision in ("i8", "u8") else _named(precision) for kind, precision in ran if kind in HEAVY]
    floats = [
        _named(precision) for kind, precision in ran if precision in CONSTANTS and kind not in ("Input", "Output")
    ]
    return heavy or floats


def _text(node: Any, key: str) -> str:
    return str(node.rt_info[key].astype(str)) if key in node.rt_info else ""


def _model(source: Union[str, Path, bytes]) -> Any:
    try:
        if isinstance(source, bytes):
            return ov.Core().read_model(source)
        own = runtime_files(Path(source))
        return ov.Core().read_model(str(own.files[0] if own else source))
    except Exception as error:
        raise EngineError(_one_line(error)) from None


def _port(port: Any, number: int) -> Port:
    shape = tuple(int(dim.get_length()) if dim.is_static else -1 for dim in port.get_partial_shape())
    return Port(_name(port, number), shape, _named(port.get_element_type().get_type_name()))


def _name(port: Any, number: int) -> str:
    """The port's first name; one that is renamed by an exporter has several, of one tensor."""
    names = sorted(port.get_names(), key=lambda name: (len(name), name))
    return str(names[0]) if names else f"port_{number}"


def _type(node: Any) -> str:
    return str(node.get_output_element_type(0).get_type_name())


def _named(name: str) -> str:
    return NAMES.get(name, f"int{name[1:]}" if name[:1] == "i" and name[1:].isdigit() else name)


def _one_line(error: Exception) -> str:
    """The runtime's reason in one line, without the lines of its own sources."""
    lines = [line.strip() for line in str(error).splitlines()]
    reasons = [line for line in lines if line and not line.startswith(("Exception from src", "Check '", "at src"))]
    return " ".join(reasons or lines)[:600]
