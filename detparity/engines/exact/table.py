"""Which operators are ours."""

from __future__ import annotations

from typing import List, Mapping, Tuple, Type

from onnx.reference.op_run import OpRun

from detparity.engines.exact import arithmetic, quantised, sampling, selection, windows
from detparity.engines.exact.graph import AS_FLOAT32, OURS, PLUGIN
from detparity.engines.exact.operator import Function, operator

RUNTIME = "com.microsoft"

_FUNCTIONS: Mapping[Tuple[str, str], Function] = {
    ("", "AffineGrid"): sampling.affine_grid,
    ("", "AveragePool"): windows.average_pool,
    ("", "BatchNormalization"): arithmetic.batch_normalization,
    ("", "Constant"): arithmetic.constant,
    ("", "ConstantOfShape"): arithmetic.constant_of_shape,
    ("", "Conv"): windows.conv,
    ("", "ConvInteger"): quantised.conv_integer,
    ("", "ConvTranspose"): windows.conv_transpose,
    ("", "DequantizeLinear"): quantised.dequantize,
    ("", "Div"): arithmetic.divide,
    ("", "DynamicQuantizeLinear"): quantised.dynamic_quantize,
    ("", "Erf"): arithmetic.erf,
    ("", "Gather"): selection.gather,
    ("", "GatherElements"): selection.gather_elements,
    ("", "GatherND"): selection.gather_nd,
    ("", "Gelu"): arithmetic.gelu,
    ("", "GridSample"): sampling.grid_sample,
    ("", "GroupNormalization"): arithmetic.group_normalization,
    ("", "HardSwish"): arithmetic.hard_swish,
    ("", "LayerNormalization"): arithmetic.layer_normalization,
    ("", "LogSoftmax"): arithmetic.log_softmax,
    ("", "MatMulInteger"): quantised.matmul_integer,
    ("", "MaxPool"): windows.max_pool,
    ("", "Mish"): arithmetic.mish,
    ("", "NonMaxSuppression"): selection.non_max_suppression,
    ("", "Pad"): selection.pad,
    ("", "QLinearConv"): quantised.linear_conv,
    ("", "QLinearMatMul"): quantised.linear_matmul,
    ("", "QuantizeLinear"): quantised.quantize,
    ("", "RMSNormalization"): arithmetic.rms_normalization,
    ("", "Resize"): sampling.resize,
    ("", "RoiAlign"): sampling.roi_align,
    ("", "Scatter"): selection.scatter_elements,
    ("", "ScatterElements"): selection.scatter_elements,
    ("", "ScatterND"): selection.scatter_nd,
    ("", "Sigmoid"): arithmetic.sigmoid,
    ("", "Softmax"): arithmetic.softmax,
    ("", "Softplus"): arithmetic.softplus,
    ("", "TopK"): selection.top_k,
    ("", "Upsample"): sampling.upsample,
    (OURS, AS_FLOAT32): arithmetic.as_float32,
    (OURS, PLUGIN): selection.efficient,
    (RUNTIME, "DequantizeLinear"): quantised.dequantize,
    (RUNTIME, "FusedConv"): arithmetic.fused_conv,
    (RUNTIME, "FusedMatMul"): arithmetic.fused_matmul,
    (RUNTIME, "Gelu"): arithmetic.gelu,
    (RUNTIME, "QLinearAdd"): quantised.linear_add,
    (RUNTIME, "QLinearConcat"): quantised.linear_concat,
    (RUNTIME, "QLinearGlobalAveragePool"): quantised.linear_average,
    (RUNTIME, "QLinearLeakyRelu"): quantised.linear_leaky_relu,
    (RUNTIME, "QLinearMul"): quantised.linear_mul,
    (RUNTIME, "QLinearSigmoid"): quantised.linear_sigmoid,
    (RUNTIME, "QuantizeLinear"): quantised.quantize,
    (RUNTIME, "QuickGelu"): arithmetic.quick_gelu,
}

OPERATORS: List[Type[OpRun]] = [
    *(operator(name, function, domain) for (domain, name), function in _FUNCTIONS.items()),
    selection.Loop,
]
