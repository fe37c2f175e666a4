"""The reference evaluator with our Resize gives what onnx's own gives, where that can be waited for."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from detparity.engines import onnx_reference

SHAPE, OUT = (1, 2, 4, 3), (1, 2, 7, 6)


@pytest.mark.parametrize("where", ["asymmetric", "half_pixel", "align_corners", "pytorch_half_pixel"])
@pytest.mark.parametrize("mode", ["nearest", "linear", "cubic"])
def test_resize_is_the_evaluators_own(mode, where, tmp_path):
    node = helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], mode=mode, coordinate_transformation_mode=where)
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in (("x", SHAPE), ("y", OUT))
    ]
    sizes = helper.make_tensor("sizes", TensorProto.INT64, [4], OUT)
    graph = helper.make_graph([node], "resize", values[:1], values[1:], [sizes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, str(tmp_path / "resize.onnx"))
    x = np.random.default_rng(1).normal(0, 1, SHAPE).astype(np.float32)
    ours = onnx_reference.prepare(tmp_path / "resize.onnx").call({"x": x})["y"]
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, ReferenceEvaluator(model).run(None, {"x": x})[0], rtol=0, atol=1e-6)
