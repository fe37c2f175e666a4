"""The graph in float64: each operator of ours against torch or numbers worked out by hand, and complete files against their model."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from detparity import engines
from detparity.core.errors import EngineError, NotMade
from detparity.core.vocabulary import Load
from detparity.engines.remote import client
from detparity.inputs.images import make

TORCH = tuple(int(part) for part in torch.__version__.split(".")[:2])
pytestmark = pytest.mark.skipif(TORCH < (1, 13), reason="evaluating a graph in float64 takes torch 1.13")
ARTIFACTS = Path(__file__).parents[3] / "shared" / "data"
QUICK = settings(max_examples=25, deadline=None, derandomize=True)
FLOATS = {"float16": TensorProto.FLOAT16, "float32": TensorProto.FLOAT}


def exact(source, how=Load()):
    return engines.module("onnx_exact").prepare(source, how)


def model(nodes, feed, opset=17, outputs=("y",), initializers=(), domains=()):
    """A model whose inputs are those of `feed`, floating-point ones declared float32, its outputs of no declared shape."""

    def declared(array):
        return TensorProto.FLOAT if array.dtype.kind == "f" else helper.np_dtype_to_tensor_dtype(array.dtype)

    inputs = [helper.make_tensor_value_info(name, declared(array), None) for name, array in feed.items()]
    graph = helper.make_graph(
        list(nodes),
        "g",
        inputs,
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        list(initializers),
    )
    imports = [helper.make_opsetid("", opset), *(helper.make_opsetid(domain, 1) for domain in domains)]
    return helper.make_model(graph, opset_imports=imports, ir_version=8).SerializeToString()


def run(op, *inputs, opset=17, count=1, domain="", **attributes):
    """One node on float64 inputs; None leaves an optional input out."""
    names = ["" if array is None else f"x{index}" for index, array in enumerate(inputs)]
    outputs = [f"y{index}" for index in range(count)]
    feed = {name: array for name, array in zip(names, inputs) if name}
    node = helper.make_node(op, names, outputs, domain=domain, **attributes)
    found = exact(model([node], feed, opset, outputs, domains=[domain] if domain else [])).call(feed)
    return found["y0"] if count == 1 else tuple(found.values())


def numbers(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape)


def close(ours, theirs, limit=1e-12):
    theirs = theirs.numpy() if isinstance(theirs, torch.Tensor) else np.asarray(theirs)
    assert ours.shape == theirs.shape and ours.dtype == theirs.dtype
    assert np.abs(ours - theirs).max(initial=0) <= limit * max(1.0, np.abs(theirs).max(initial=0))


# Windows


@QUICK
@given(
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(1, 2),
    st.integers(0, 2),
    st.sampled_from([(1, 4, 6), (2, 4, 6), (4, 4, 4)]),
)
def test_conv_is_torchs(kernel, stride, dilation, pad, groups):
    group, channels, made = groups
    x, w, b = (
        numbers(2, channels, 9, 11),
        numbers(made, channels // group, kernel, kernel, seed=1),
        numbers(made, seed=2),
    )

    ours = run("Conv", x, w, b, strides=[stride] * 2, pads=[pad] * 4, dilations=[dilation] * 2, group=group)

    close(ours, F.conv2d(*map(torch.from_numpy, (x, w, b)), stride, pad, dilation, group))


def test_conv_of_one_and_three_axes_and_uneven_pads():
    x, w = numbers(1, 2, 7), numbers(3, 2, 3, seed=1)
    close(run("Conv", x, w, pads=[2, 0]), F.conv1d(F.pad(torch.from_numpy(x), (2, 0)), torch.from_numpy(w)))
    x, w = numbers(1, 2, 4, 5, 6), numbers(3, 2, 2, 2, 2, seed=1)
    close(run("Conv", x, w), F.conv3d(torch.from_numpy(x), torch.from_numpy(w)))


@pytest.mark.parametrize(("auto", "pads"), [("SAME_UPPER", (0, 1)), ("SAME_LOWER", (1, 0)), ("VALID", (0, 0))])
def test_automatic_pads(auto, pads):
    x, w = numbers(1, 2, 8), numbers(2, 2, 3, seed=1)
    theirs = F.conv1d(F.pad(torch.from_numpy(x), pads), torch.from_numpy(w), None, 2)

    close(run("Conv", x, w, strides=[2], auto_pad=auto), theirs)


@QUICK
@given(st.integers(1, 3), st.integers(1, 3), st.integers(0, 1), st.integers(0, 1), st.sampled_from([1, 2]))
def test_conv_transpose_is_torchs(kernel, stride, pad, extra, group):
    if pad >= kernel or extra >= stride:
        return
    x, w, b = numbers(1, 4, 5, 6), numbers(4, 3, kernel, kernel, seed=1), numbers(3 * group, seed=2)

    ours = run("ConvTranspose", x, w, b, strides=[stride] * 2, pads=[pad] * 4, output_padding=[extra] * 2, group=group)

    close(ours, F.conv_transpose2d(*map(torch.from_numpy, (x, w, b)), stride, pad, extra, group))


def test_conv_transpose_to_a_shape():
    x, w = numbers(1, 2, 5, 5), numbers(2, 3, 3, 3, seed=1)
    theirs = F.conv_transpose2d(torch.from_numpy(x), torch.from_numpy(w), None, 2)

    close(
        run("ConvTranspose", x, w, strides=[2, 2], output_shape=[10, 10], auto_pad="SAME_UPPER"), theirs[..., :10, :10]
    )
    close(run("ConvTranspose", x, w, strides=[2, 2], output_shape=[9, 9]), theirs[..., 1:10, 1:10])


@QUICK
@given(st.integers(1, 5), st.integers(1, 3), st.integers(0, 2), st.booleans(), st.integers(5, 12))
def test_pools_are_torchs(kernel, stride, pad, ceil, size):
    if pad > kernel // 2:
        return
    x = numbers(1, 2, size, 9)
    given_ = dict(kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=[pad] * 4, ceil_mode=int(ceil))

    values, indices = run("MaxPool", x, count=2, **given_)
    theirs, places = F.max_pool2d(torch.from_numpy(x), kernel, stride, pad, 1, ceil, True)
    close(values, theirs)
    planes = np.arange(2).reshape(1, 2, 1, 1) * x[0, 0].size
    assert np.array_equal(indices, places.numpy() + planes)
    close(run("MaxPool", x, **given_), theirs)
    for include in (False, True):
        ours = run("AveragePool", x, count_include_pad=int(include), opset=19, **given_)
        close(ours, F.avg_pool2d(torch.from_numpy(x), kernel, stride, pad, ceil, include))


def test_pools_with_dilations_and_integers():
    x = np.random.default_rng(0).integers(0, 255, (1, 2, 9, 9)).astype(np.uint8)
    ours = run("MaxPool", x, kernel_shape=[3, 2], dilations=[2, 3])
    theirs = F.max_pool2d(torch.from_numpy(x.astype(float)), (3, 2), 1, 0, (2, 3))

    assert ours.dtype == np.uint8 and np.array_equal(ours, theirs.numpy())
    assert run("MaxPool", numbers(1, 1, 4, 4), count=2, kernel_shape=[4, 4], storage_order=1)[1].shape == (1, 1, 1, 1)


# Sampling


@QUICK
@given(st.integers(1, 9), st.integers(1, 9), st.sampled_from(["nearest", "linear", "cubic"]), st.booleans())
def test_resize_is_torchs_interpolate(height, width, mode, corners):
    """As torch exports it: by asymmetric cells, by corners, or by half pixels."""
    x = numbers(1, 2, 5, 7)
    sizes = np.array([1, 2, height, width])
    where = "asymmetric" if mode == "nearest" else "align_corners" if corners else "half_pixel"
    names = {"nearest": "nearest", "linear": "bilinear", "cubic": "bicubic"}
    more = {} if mode == "nearest" else {"align_corners": corners}

    ours = run("Resize", x, None, None, sizes, mode=mode, coordinate_transformation_mode=where, nearest_mode="floor")

    close(ours, F.interpolate(torch.from_numpy(x), (height, width), mode=names[mode], **more))


def test_resize_by_hand():
    x = np.array([[[[1.0, 2.0, 3.0, 4.0]]]])

    def resized(out, **attributes):
        return run("Resize", x, None, None, np.array([1, 1, 1, out]), **attributes)[0, 0, 0].tolist()

    half = dict(coordinate_transformation_mode="half_pixel")
    assert resized(2, mode="nearest", nearest_mode="round_prefer_floor", **half) == [1, 3]  # cells 0.5 and 2.5
    assert resized(2, mode="nearest", nearest_mode="round_prefer_ceil", **half) == [2, 4]
    assert resized(2, mode="nearest", nearest_mode="floor", **half) == [1, 3]
    assert resized(2, mode="nearest", nearest_mode="ceil", **half) == [2, 4]
    assert resized(2, mode="linear", **half) == [1.5, 3.5]
    assert resized(1, mode="linear", **half) == [2.5]
    assert resized(1, mode="linear", coordinate_transformation_mode="pytorch_half_pixel") == [1]
    assert resized(2, mode="linear", antialias=1, opset=18, **half) == pytest.approx([13 / 8, 27 / 8])
    assert resized(1, mode="linear", coordinate_transformation_mode="align_corners") == [1]


def test_resize_lengths_and_cells_are_float32s():
    """Ten cells by float32's 0.7 are seven, and every third of float32's thirds is the next cell, as ONNX Runtime has it."""
    ten, scale = np.arange(10.0).reshape(1, 1, 1, 10), np.array([1, 1, 1, np.float32(0.7)])
    assert run("Resize", ten, None, scale, coordinate_transformation_mode="asymmetric").shape == (1, 1, 1, 7)
    third = np.array([1, 1, 1, np.float32(1 / 3)])
    assert run("Resize", np.arange(9.0).reshape(1, 1, 1, 9), None, third, mode="nearest", nearest_mode="floor",
               coordinate_transformation_mode="asymmetric").ravel().tolist() == [0, 3, 6]  # fmt: skip


def test_resize_of_older_opsets_and_upsample():
    x, scales = numbers(1, 2, 3, 4), np.array([1.0, 1.0, 2.0, 2.0])
    twice = x.repeat(2, axis=2).repeat(2, axis=3)

    close(run("Resize", x, scales, opset=10), twice)
    close(run("Upsample", x, scales, opset=9), twice)
    close(run("Upsample", x, opset=8, scales=scales.tolist()), twice)
    empty = run(
        "Resize", x, np.zeros(0), scales, opset=13, coordinate_transformation_mode="asymmetric", nearest_mode="floor"
    )
    close(empty, twice)
    linear = run("Upsample", np.array([[[[0.0, 2.0]]]]), np.array([1.0, 1.0, 1.0, 2.0]), opset=9, mode="linear")
    assert linear.ravel().tolist() == [0, 1, 2, 2]  # asymmetric cells 0, 0.5, 1, 1.5


def test_resize_of_chosen_axes_keeps_the_aspect():
    x = numbers(1, 2, 4, 8)
    ours = run("Resize", x, None, None, np.array([6, 6]), opset=18, axes=[2, 3], mode="linear",
               keep_aspect_ratio_policy="not_larger")  # fmt: skip

    close(ours, F.interpolate(torch.from_numpy(x), (3, 6), mode="bilinear", align_corners=False))


def test_resize_of_a_crop():
    x, roi = np.arange(5.0).reshape(1, 1, 1, 5), np.array([0, 0, 0, 0.25, 1, 1, 1, 1.25])
    given_ = dict(mode="linear", coordinate_transformation_mode="tf_crop_and_resize", extrapolation_value=9.0)

    assert run("Resize", x, roi, None, np.array([1, 1, 1, 3]), **given_).ravel().tolist() == [1, 3, 9]


@pytest.mark.parametrize("mode", ["bilinear", "nearest", "bicubic"])
@pytest.mark.parametrize("outside", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("corners", [0, 1])
def test_grid_sample_is_torchs(mode, outside, corners):
    x, grid = numbers(2, 3, 5, 6), 1.3 * np.tanh(numbers(2, 4, 7, 2, seed=1))
    theirs = F.grid_sample(torch.from_numpy(x), torch.from_numpy(grid), mode, outside, bool(corners))

    close(run("GridSample", x, grid, mode=mode, padding_mode=outside, align_corners=corners), theirs)
    names = {"bilinear": "linear", "bicubic": "cubic"}
    newer = run(
        "GridSample", x, grid, opset=20, mode=names.get(mode, mode), padding_mode=outside, align_corners=corners
    )
    close(newer, theirs)


def test_affine_grid_is_torchs():
    theta = numbers(2, 2, 3)
    theirs = F.affine_grid(torch.from_numpy(theta), [2, 3, 4, 5], False)

    close(run("AffineGrid", theta, np.array([2, 3, 4, 5]), opset=20), theirs)


def test_roi_align_by_hand():
    """Samples of a plane x + 10 y lie on the plane; half a pixel is what the two rules differ by."""
    x = np.arange(6.0) + 10 * np.arange(6.0)[:, None]
    roi, image = np.array([[1.0, 1.0, 3.0, 5.0]]), np.array([0])
    given_ = dict(output_height=2, output_width=2, sampling_ratio=2)

    older = run("RoiAlign", x[None, None], roi, image, coordinate_transformation_mode="output_half_pixel", **given_)
    newer = run("RoiAlign", x[None, None], roi, image, **given_)

    assert older.ravel() == pytest.approx([21.5, 22.5, 41.5, 42.5])
    assert newer.ravel() == pytest.approx([16.0, 17.0, 36.0, 37.0])
    outside = run("RoiAlign", x[None, None], np.array([[-9.0, -9.0, -5.0, -5.0]]), image, **given_)
    assert not outside.any()


# Arithmetic


@pytest.mark.parametrize(
    ("op", "opset", "function"),
    [
        ("Sigmoid", 17, torch.sigmoid),
        ("Erf", 17, torch.erf),
        ("Softplus", 17, lambda x: torch.log1p(torch.exp(x))),
        ("Mish", 18, lambda x: F.mish(x)),
        ("HardSwish", 17, lambda x: F.hardswish(x)),
        ("Gelu", 20, lambda x: F.gelu(x)),
        ("LeakyRelu", 17, lambda x: F.leaky_relu(x, 0.01)),
        ("Tanh", 17, torch.tanh),
    ],
)
def test_activations_are_torchs(op, opset, function):
    x = 3 * numbers(2, 3, 4)
    close(run(op, x, opset=opset), function(torch.from_numpy(x)))


def test_an_attribute_is_the_number_its_author_wrote():
    assert run("LeakyRelu", np.array([-1.0]), alpha=0.1).tolist() == [-0.1]


def test_softmax_of_older_opsets_joins_the_last_axes():
    x = numbers(2, 3, 4)
    flat = torch.softmax(torch.from_numpy(x).reshape(2, 12), 1).reshape(2, 3, 4)

    close(run("Softmax", x, opset=11), flat)
    close(run("LogSoftmax", x, opset=11), flat.log())
    close(run("Softmax", x, opset=13), torch.softmax(torch.from_numpy(x), 2))
    close(run("Softmax", x, opset=13, axis=1), torch.softmax(torch.from_numpy(x), 1))


@pytest.mark.parametrize("opset", [9, 13, 14, 17])
def test_batch_normalization_uses_the_running_statistics(opset):
    x, scale, bias, mean = numbers(2, 3, 4, 5), numbers(3, seed=1), numbers(3, seed=2), numbers(3, seed=3)
    variance = np.exp(numbers(3, seed=4))
    theirs = F.batch_norm(*map(torch.from_numpy, (x, mean, variance, scale, bias)), eps=1e-3)

    close(run("BatchNormalization", x, scale, bias, mean, variance, opset=opset, epsilon=1e-3), theirs)


def test_batch_normalization_in_training():
    x, ones, zeros = numbers(4, 3, 5), np.ones(3), np.zeros(3)
    found = run("BatchNormalization", x, ones, zeros, zeros, ones, count=3, training_mode=1)
    theirs = F.batch_norm(torch.from_numpy(x), None, None, training=True)

    close(found[0], theirs)
    close(found[1], 0.1 * x.mean(axis=(0, 2)))


def test_layer_and_group_normalization_are_torchs():
    x = numbers(2, 4, 3)
    scale, bias = numbers(3, seed=1), numbers(3, seed=2)
    close(
        run("LayerNormalization", x, scale, bias),
        F.layer_norm(torch.from_numpy(x), [3], torch.from_numpy(scale), torch.from_numpy(bias)),
    )
    scale, bias = numbers(4, seed=1), numbers(4, seed=2)
    close(
        run("GroupNormalization", x, scale, bias, opset=21, num_groups=2),
        F.group_norm(torch.from_numpy(x), 2, torch.from_numpy(scale), torch.from_numpy(bias)),
    )


def test_integers_are_divided_towards_zero():
    assert run("Div", np.array([-7, 7, -8]), np.array([2, -2, 2])).tolist() == [-3, -3, -4]


# Choosing


def test_top_k_takes_equal_numbers_in_order():
    values, places = run("TopK", np.array([[1.0, 3.0, 3.0, 2.0]]), np.array([3]), count=2, sorted=0)
    assert (values.tolist(), places.tolist()) == ([[3, 3, 2]], [[1, 2, 3]])
    low = run("TopK", np.array([2.0, 1.0, 1.0]), np.array([2]), count=2, largest=0)
    assert low[1].tolist() == [1, 2]
    assert run("TopK", np.array([2.0, 1.0, 4.0]), opset=9, count=2, k=1)[1].tolist() == [2]


def test_non_max_suppression_by_hand():
    boxes = np.array([[[0, 0, 10, 10], [10, 11, 0, 0], [0, 0, 4, 4], [20, 20, 30, 30]]], float)
    scores = np.array([[[0.9, 0.8, 0.5, 0.1], [0.1, 0.1, 0.1, 0.9]]])

    def chosen(*limits, **attributes):
        return run("NonMaxSuppression", boxes, scores, *limits, **attributes).tolist()

    assert chosen(np.array([10]), np.array([0.5]), np.array([0.3])) == [[0, 0, 0], [0, 0, 2], [0, 1, 3]]
    assert chosen(np.array([10]), np.array([0.95]), np.array([0.3])) == [[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 1, 3]]
    assert chosen(np.array([1]), np.array([0.5]), np.array([0.3])) == [[0, 0, 0], [0, 1, 3]]
    assert chosen(np.array([1]), np.array([0.5]), np.array([0.9])) == []  # a score must exceed its threshold
    assert chosen() == []
    assert len(chosen(np.array([9]))) == 4  # any overlap suppresses; the fourth box meets none
    centred = np.array([[[5, 5, 10, 10], [5.5, 5, 11, 10]]], float)
    assert run("NonMaxSuppression", centred, np.array([[[0.5, 0.9]]]), np.array([2]), np.array([0.8]),
               center_point_box=1).tolist() == [[0, 0, 1]]  # fmt: skip


def test_gather_and_scatter():
    x = numbers(40, 3)
    places = np.random.default_rng(1).integers(-40, 40, (5, 3))
    close(run("GatherElements", x, places), np.take_along_axis(x, places, 0))
    assert run("GatherND", x, np.array([[1], [-1]])).tolist() == [x[1].tolist(), x[39].tolist()]
    assert run("GatherND", x, np.array([[[1, 2]], [[-1, 0]]])).tolist() == [[x[1, 2]], [x[39, 0]]]
    assert run("GatherND", x[:2], np.array([[2], [0]]), batch_dims=1).tolist() == [x[0, 2], x[1, 0]]
    unique = np.array([[0, 1, -1]])
    for op, opset in (("ScatterElements", 17), ("Scatter", 9)):
        ours = run(op, x, unique, np.ones((1, 3)), opset=opset)
        assert ours[[0, 1, 39], [0, 1, 2]].tolist() == [1, 1, 1] and np.isin(ours, x).sum() == 117
    added = run("ScatterElements", np.zeros((2, 3)), np.array([[0, 0, 0], [0, 0, 1]]), np.ones((2, 3)), reduction="add")
    assert added.tolist() == [[2, 2, 1], [0, 0, 1]]
    placed = run("ScatterND", np.zeros((3, 2)), np.array([[2], [0]]), np.array([[1.0, 2.0], [3.0, 4.0]]))
    assert placed.tolist() == [[3, 4], [0, 0], [1, 2]]
    summed = run("ScatterND", np.zeros(3), np.array([[1], [1]]), np.array([2.0, 5.0]), reduction="add")
    assert summed.tolist() == [0, 7, 0]


def test_gather_of_no_indices_has_the_other_axes():
    x = np.arange(6.0).reshape(3, 2)

    assert run("Gather", x, np.zeros(0, np.int64), axis=0).shape == (0, 2)
    assert np.array_equal(run("Gather", x, np.array(-1), axis=0), [4, 5])
    assert np.array_equal(run("Gather", x, np.array([[1, 0]]), axis=1), x[:, [[1, 0]]])


def test_pads_may_be_negative():
    x = np.arange(6.0).reshape(1, 6)
    assert run("Pad", x, np.array([0, -1, 0, 2]), np.array(9.0)).tolist() == [[1, 2, 3, 4, 5, 9, 9]]
    assert run("Pad", x, opset=2, pads=[0, 1, 0, 0], mode="reflect").tolist() == [[1, 0, 1, 2, 3, 4, 5]]


# Against ONNX Runtime, in float32


def against_the_runtime(limit, op, *inputs, opset=17, count=1, **attributes):
    """The same node on the same float32 inputs; its outputs differ by no more than float32 does."""
    names = ["" if array is None else f"x{index}" for index, array in enumerate(inputs)]
    feed = {name: np.asarray(array) for name, array in zip(names, inputs) if name}
    feed = {name: array.astype(np.float32) if array.dtype.kind == "f" else array for name, array in feed.items()}
    outputs = [f"y{index}" for index in range(count)]
    kinds = [TensorProto.INT64 if op == "NonMaxSuppression" else TensorProto.FLOAT, TensorProto.INT64]
    parsed = onnx.load_from_string(model([helper.make_node(op, names, outputs, **attributes)], feed, opset, outputs))
    for value, kind in zip(parsed.graph.output, kinds):
        value.type.tensor_type.elem_type = kind
    source = parsed.SerializeToString()
    theirs = engines.module("onnxruntime").prepare(source, Load("disabled", threads=1)).call(feed)
    ours = exact(source).call(feed)
    for name, values in theirs.items():
        assert ours[name].shape == values.shape
        assert np.abs(ours[name] - values).max(initial=0) <= limit


@pytest.mark.parametrize(
    "where", ["half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric"]
)
@pytest.mark.parametrize("scale", [0.3, 0.6, 0.7, 1 / 3, 0.5, 1.5, 2.0, 2.6])
def test_resize_is_the_runtimes(where, scale):
    x, scales = numbers(1, 2, 10, 9).astype(np.float32), np.array([1, 1, scale, 2.0], np.float32)
    names = dict(coordinate_transformation_mode=where, opset=19)

    # The runtime places half_pixel_symmetric elsewhere by a rounding of float32 (1.9999999 where half_pixel has 2).
    for rounding in (
        ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil") if where != "half_pixel_symmetric" else ()
    ):
        against_the_runtime(0, "Resize", x, None, scales, mode="nearest", nearest_mode=rounding, **names)
    against_the_runtime(2e-6, "Resize", x, None, scales, mode="linear", **names)
    for outside in (0, 1):
        against_the_runtime(1e-5, "Resize", x, None, scales, mode="cubic", exclude_outside=outside, **names)


@pytest.mark.parametrize("seed", range(8))
def test_non_max_suppression_is_the_runtimes(seed):
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 30, (2, 200, 4)).astype(np.float32)
    scores = rng.uniform(0, 1, (2, 3, 200)).astype(np.float32)
    limits = np.array([30]), np.array([0.4], np.float32), np.array([0.2], np.float32)

    against_the_runtime(0, "NonMaxSuppression", boxes, scores, *limits, center_point_box=seed % 2)


@pytest.mark.parametrize("half", ["half_pixel", "output_half_pixel"])
@pytest.mark.parametrize("ratio", [0, 1, 2])
def test_roi_align_is_the_runtimes(half, ratio):
    rng = np.random.default_rng(0)
    rois = np.sort(rng.uniform(-3, 40, (20, 2, 2)), axis=1).reshape(20, 4)
    rois = np.concatenate([rois, [[5, 5, 5, 5], [50, 50, 60, 60], [-20, -20, -10, -10]]])
    images = rng.integers(0, 2, len(rois))

    against_the_runtime(
        1e-5, "RoiAlign", numbers(2, 3, 12, 17), rois, images, output_height=3, output_width=4, spatial_scale=0.5,
        sampling_ratio=ratio, coordinate_transformation_mode=half,
    )  # fmt: skip


@pytest.mark.parametrize("ceil", [0, 1])
@pytest.mark.parametrize("pads", [[0, 0, 0, 0], [1, 0, 1, 2]])
def test_pools_are_the_runtimes(ceil, pads):
    x, given_ = numbers(1, 2, 10, 11), dict(kernel_shape=[3, 3], strides=[2, 2], pads=pads, ceil_mode=ceil)

    against_the_runtime(1e-6, "MaxPool", x, count=2, **given_)
    against_the_runtime(1e-6, "AveragePool", x, **given_)
    if not ceil:  # ONNX Runtime 1.23 counts cells past the padding as well; torch is the judge above
        against_the_runtime(1e-6, "AveragePool", x, count_include_pad=1, **given_)


# Control flow, functions, unknown operators


def test_a_loop_carries_and_stacks():
    body = helper.make_graph(
        [
            helper.make_node("Add", ["carried", "step"], ["next"]),
            helper.make_node("Identity", ["going"], ["go_on"]),
            helper.make_node("Identity", ["next"], ["scan"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("index", TensorProto.INT64, []),
            helper.make_tensor_value_info("going", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, [2]),
        ],
        [
            helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("next", TensorProto.FLOAT, [2]),
            helper.make_tensor_value_info("scan", TensorProto.FLOAT, [2]),
        ],
    )
    nodes = [
        helper.make_node("Mul", ["x", "x"], ["step"]),  # read in the body alone
        helper.make_node("Loop", ["count", "", "x"], ["last", "all"], body=body),
    ]
    feed = {"x": np.array([1.0, 2.0]), "count": np.array(3)}

    found = exact(model(nodes, feed, outputs=("last", "all"))).call(feed)

    assert found["last"].tolist() == [4, 14] and found["all"].tolist() == [[2, 6], [3, 10], [4, 14]]
    none = exact(model(nodes, feed, outputs=("last", "all"))).call({**feed, "count": np.array(0)})
    assert none["last"].tolist() == [1, 2] and none["all"].shape == (0, 2)


def test_a_branch_is_converted():
    def branch(name, value):
        tensor = helper.make_tensor("v", TensorProto.FLOAT, [1], [value])
        nodes = [
            helper.make_node("Constant", [], ["c"], value=tensor),
            helper.make_node("Mul", ["c", "x"], ["scaled"]),
            helper.make_node("Cast", ["scaled"], [name], to=TensorProto.FLOAT),
        ]
        return helper.make_graph(nodes, name, [], [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1])])

    node = helper.make_node("If", ["flag"], ["y"], then_branch=branch("a", 3.0), else_branch=branch("b", 5.0))
    feed = {"x": np.array([1 + 2.0**-40]), "flag": np.array(True)}
    loaded = exact(model([node], feed))

    assert loaded.call(feed)["y"].tolist() == [3 * (1 + 2.0**-40)]
    assert loaded.call({**feed, "flag": np.array(False)})["y"].tolist() == [5 * (1 + 2.0**-40)]


def test_a_function_of_the_file_uses_our_operators():
    body = [
        helper.make_node("Cast", ["a"], ["b"], to=TensorProto.FLOAT),
        helper.make_node("Sigmoid", ["b"], ["c"]),
    ]
    function = helper.make_function("own", "squash", ["a"], ["c"], body, [helper.make_opsetid("", 17)])
    feed = {"x": np.array([1 + 2.0**-40])}
    parsed = onnx.load_from_string(
        model([helper.make_node("squash", ["x"], ["y"], domain="own")], feed, domains=["own"])
    )
    parsed.functions.append(function)

    close(exact(parsed.SerializeToString()).call(feed)["y"], torch.sigmoid(torch.from_numpy(feed["x"])), 0)


def test_an_unknown_operator_is_named_with_its_node():
    node = helper.make_node("Wonder", ["x"], ["y"], name="head/wonder", domain="acme")
    feed = {"x": np.zeros(2)}

    with pytest.raises(EngineError, match=r"^the operator acme\.Wonder \(node 'head/wonder'\) is not supported$"):
        exact(model([node], feed, domains=["acme"]))
    with pytest.raises(EngineError, match=r"^the operator Wonder \(node 'y'\) is not supported$"):
        exact(model([helper.make_node("Wonder", ["x"], ["y"])], feed))


def test_a_node_that_fails_is_named():
    node = helper.make_node("MatMul", ["x", "x"], ["y"], name="m")
    feed = {"x": np.zeros((2, 3))}

    with pytest.raises(EngineError, match=r"^the operator MatMul \(node 'm'\): [^\n]+$"):
        exact(model([node], feed)).call(feed)


def test_the_plugin_runs_by_its_semantics():
    given_ = dict(score_threshold=0.25, iou_threshold=0.5, max_output_boxes=3, box_coding=0, background_class=-1)
    boxes = np.array([[[0, 0, 10, 10], [0, 0, 10, 11], [20, 20, 30, 30]]], float)
    scores = np.array([[[0.9], [0.8], [0.5]]])

    count, _, best, _ = run("EfficientNMS_TRT", boxes, scores, count=4, domain="TRT", score_activation=0, **given_)

    assert count.tolist() == [[2]] and best.tolist() == [[0.9, 0.5, 0]] and best.dtype == np.float64


# Types


@pytest.mark.parametrize("kind", sorted(FLOATS))
def test_every_type_of_the_graph_is_float64(kind):
    """1 + 2^-40 is no float32: it survives casts, constants and types of every sort that the graph names."""
    nodes = [
        helper.make_node("Cast", ["x"], ["a"], to=FLOATS[kind]),
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Constant", [], ["one"], value_float=1.0),
        helper.make_node("EyeLike", ["shape2"], ["eye"], dtype=FLOATS[kind]),
        helper.make_node("Mul", ["a", "one"], ["b"]),
        helper.make_node("Mul", ["b", "half"], ["c"]),
        helper.make_node("CastLike", ["c", "half"], ["d"]),
        helper.make_node("Add", ["d", "zeros"], ["e"]),
        helper.make_node("MatMul", ["eye", "e"], ["y"]),
    ]
    constants = [
        numpy_helper.from_array(np.array([2]), "shape"),
        numpy_helper.from_array(np.zeros((2, 2)), "shape2"),
        numpy_helper.from_array(np.array(0.5, kind), "half"),
    ]
    feed = {"x": np.array([1 + 2.0**-40, 3.0])}

    found = exact(model(nodes, feed, initializers=constants)).call(feed)["y"]

    assert found.dtype == np.float64 and found.tolist() == [0.5 + 2.0**-41, 1.5]


def test_an_optional_float32_run():
    feed = {"x": np.array([1 / 3])}
    loaded = exact(model([helper.make_node("Mul", ["x", "x"], ["y"])], feed), Load("float32"))

    assert loaded.call(feed)["y"].dtype == np.float32 and loaded.facts["evaluated in"] == "float32"
    with pytest.raises(EngineError, match="evaluates in all, exact, float32, not in 'disabled'"):
        exact(model([helper.make_node("Mul", ["x", "x"], ["y"])], feed), Load("disabled"))


def test_lengths_are_the_files_own():
    """Ten cells by float32's 0.7: seven, though 10 * 0.699999988 is less. Data is not rounded."""
    nodes = [
        helper.make_node("Shape", ["x"], ["n"]),
        helper.make_node("Cast", ["n"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["f", "scale"], ["g"]),
        helper.make_node("Floor", ["g"], ["h"]),
        helper.make_node("Cast", ["h"], ["length"], to=TensorProto.INT64),
        helper.make_node("Floor", ["x"], ["data"]),
    ]
    feed = {"x": np.full(10, 1 - 2.0**-40)}
    scale = [numpy_helper.from_array(np.array([0.7], np.float32), "scale")]

    found = exact(model(nodes, feed, outputs=("length", "data"), initializers=scale)).call(feed)

    assert found["length"].tolist() == [7] and not found["data"].any()


def test_an_older_torch_is_named(monkeypatch):
    monkeypatch.setattr(torch, "__version__", "1.12.1+cu113")

    with pytest.raises(ImportError, match=r"takes torch 1\.13 or newer, this is 1\.12\.1\+cu113$"):
        exact(b"")


def test_an_empty_file_is_refused():
    with pytest.raises(EngineError, match=r"^it has no outputs$"):
        exact(b"")


def test_inputs_are_checked():
    loaded = exact(model([helper.make_node("Add", ["x", "x"], ["y"])], {"x": np.zeros(2)}))

    for feed, says in (
        ({}, "its input 'x' is not given"),
        ({"z": np.zeros(2)}, "it has no input 'z', only 'x'"),
        ({"x": np.zeros(2, int)}, "its input 'x' is int64 where the file declares FLOAT"),
    ):
        with pytest.raises(EngineError, match=f"^{says}$"):
            loaded.call(feed)


def test_intermediate_values_are_released():
    """A chain of 40 tensors of 8 MB: what is held at once stays far below their sum."""
    import tracemalloc

    nodes = [helper.make_node("Neg", [f"t{i}" if i else "x"], [f"t{i + 1}"]) for i in range(40)]
    feed = {"x": np.ones((1024, 1024))}
    loaded = exact(model(nodes, feed, outputs=("t40",)))

    tracemalloc.start()
    loaded.call(feed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 6 * feed["x"].nbytes


def test_a_call_ends_in_time():
    nodes = [helper.make_node("MatMul", [f"t{i}" if i else "x", "x"], [f"t{i + 1}"]) for i in range(200)]
    feed = {"x": np.ones((256, 256))}

    with pytest.raises(EngineError, match=r"^it was still running after 0\.001 seconds$"):
        exact(model(nodes, feed, outputs=("t200",)), Load(seconds=0.001)).call(feed)


def test_external_data_is_read(tmp_path):
    constant = numpy_helper.from_array(np.full(400, 0.5, np.float32), "half")
    parsed = onnx.load_from_string(
        model([helper.make_node("Mul", ["x", "half"], ["y"])], {"x": np.ones(400)}, initializers=[constant])
    )
    onnx.save(parsed, tmp_path / "m.onnx", save_as_external_data=True, location="m.bin", size_threshold=16)

    assert exact(tmp_path / "m.onnx").call({"x": np.ones(400)})["y"].tolist() == [0.5] * 400
    (tmp_path / "m.bin").unlink()
    with pytest.raises(EngineError, match=r"^[^\n]+$"):
        exact(tmp_path / "m.onnx")


# Quantised


def test_quantised_numbers_by_hand():
    x, scale = np.array([[-1.0, 0.26, 0.25, 99.0]]), np.array(0.1)
    assert run("QuantizeLinear", x, np.array(0.5), np.array(3, np.uint8)).tolist() == [[1, 4, 3, 201]]
    wide = run("DequantizeLinear", np.array([2**30 + 1], np.int32), scale)
    assert wide.tolist() == [(2**30 + 1) * 0.1]  # float32 has no such number
    columns = run("DequantizeLinear", np.array([[1, 2], [3, 4]], np.int8), np.array([1.0, 10.0]), axis=1)
    assert columns.tolist() == [[1, 20], [3, 40]]
    found, step, zero = run("DynamicQuantizeLinear", np.array([-1.0, 0.0, 1.55]), count=3)
    assert (found.tolist(), step.item(), zero.item()) == ([0, 100, 255], pytest.approx(0.01), 100)


def test_quantised_products_are_those_of_integers():
    rng = np.random.default_rng(0)
    x, w = rng.integers(0, 255, (1, 3, 6, 6)).astype(np.uint8), rng.integers(-127, 127, (4, 3, 3, 3)).astype(np.int8)
    products = F.conv2d(torch.from_numpy(x.astype(float) - 5), torch.from_numpy(w.astype(float)))

    ours = run("ConvInteger", x, w, np.array(5, np.uint8))
    assert ours.dtype == np.int32 and np.array_equal(ours, products.numpy())
    scales = np.array([1e-3, 2e-3, 3e-3, 4e-3])
    result = run("QLinearConv", x, np.array(0.1), np.array(5, np.uint8), w, scales, np.zeros(4, np.int8),
                 np.array(0.05), np.array(128, np.uint8))  # fmt: skip
    real = products.numpy() * 0.1 * scales.reshape(1, 4, 1, 1) / 0.05
    assert np.array_equal(result, np.clip(np.rint(real) + 128, 0, 255))
    a, b = x[0, 0], rng.integers(0, 255, (6, 2)).astype(np.uint8)
    product = run("MatMulInteger", a, b, np.array(7, np.uint8), np.array([1, 2], np.uint8))
    assert np.array_equal(product, (a.astype(int) - 7) @ (b.astype(int) - [1, 2]))
    matrix = run("QLinearMatMul", a, np.array(0.1), np.array(7, np.uint8), b, np.array(0.1), np.array(1, np.uint8),
                 np.array(30.0), np.array(9, np.uint8))  # fmt: skip
    expected = (a.astype(int) - 7) @ (b.astype(int) - 1) * 0.01 / 30
    assert np.array_equal(matrix, np.clip(np.rint(expected) + 9, 0, 255))


def test_onnxruntimes_quantised_sum():
    x, step, zero = np.array([10, 250], np.uint8), np.array(0.5), np.array(0, np.uint8)
    found = run("QLinearAdd", x, step, zero, x, step, zero, step, zero, domain="com.microsoft")
    assert found.tolist() == [20, 255]


# Complete files


def _reference(detector, head, feed):
    """The model that the file holds, its stored float32 weights, in float64."""
    from detparity.models.yolov7.network import Predictions

    network = copy.deepcopy(detector.network).double().eval()
    module = network if head == "raw" else Predictions(network).eval()
    with torch.no_grad():
        found = module(torch.from_numpy(feed["images"]).double())
    return [found.numpy()] if head != "raw" else [level.numpy() for level in found]


@pytest.mark.parametrize("name", ["grid", "raw", "grid-dynamic", "raw-dynamic-batch"])
def test_our_exports_are_the_model_in_float64(name, made, session):
    path = made(name)
    if isinstance(path, NotMade):
        pytest.skip(str(path))
    feed = {"images": make("noise", (256, 320), 3)[None].copy()}

    found = list(exact(path).call(feed).values())

    for ours, theirs in zip(found, _reference(session.detector, name.split("-")[0], feed)):
        close(ours, theirs.reshape(ours.shape), 1e-9)


@pytest.mark.parametrize("name", ["end2end-ort", "end2end-trt", "end2end-trt-nms"])
def test_our_tails_choose_what_the_runtime_chooses(name, made):
    path = made(name)
    if isinstance(path, NotMade):
        pytest.skip(str(path))
    feed = {"images": make("noise", (256, 320), 3)[None].copy()}
    engine = "efficient_nms" if name == "end2end-trt" else "onnxruntime"

    ours, theirs = exact(path).call(feed), engines.module(engine).prepare(path, Load(threads=1)).call(feed)

    for output, values in theirs.items():
        assert ours[output].shape == values.shape
        assert np.abs(ours[output] - values).max(initial=0) < 1e-3


@pytest.mark.parametrize("name", ["grid", "raw"])
def test_in_the_child_it_is_the_same(name, made):
    path = made(name)
    if isinstance(path, NotMade):
        pytest.skip(str(path))
    feed = {"images": make("noise", (256, 320), 3)[None].copy()}

    ours, theirs = exact(path).call(feed), client().prepare("onnx_exact", path).call(feed)

    assert all(
        theirs[name].dtype == np.float64 and np.array_equal(values, theirs[name]) for name, values in ours.items()
    )


@pytest.mark.parametrize("name", ["grid", "grid-dynamic", "raw", "end2end-ort", "end2end-trt"])
def test_real_files_are_the_runtimes_within_float32(name):
    path = ARTIFACTS / "artifacts" / "yolov7-tiny" / f"{name}.onnx"
    if not path.is_file():
        pytest.skip("no real files here")
    feed = {"images": make("noise", (320, 320), 3)[None].copy()}
    engine = "efficient_nms" if name == "end2end-trt" else "onnxruntime"

    ours, again = exact(path).call(feed), exact(path, Load("float32")).call(feed)
    theirs = engines.module(engine).prepare(path, Load("disabled", threads=1)).call(feed)

    for output, values in theirs.items():
        assert again[output].dtype == values.dtype
        assert np.abs(ours[output] - values).max(initial=0) <= 0.05  # pixels; as far as our own float32 run is
        assert np.abs(ours[output] - again[output]).max(initial=0) <= 0.05


@pytest.mark.parametrize(
    "attributes", [{}, {"pads": [1, 0, 2, 1], "strides": [2, 1]}, {"dilations": [2, 3], "group": 3}]
)
@pytest.mark.parametrize("fewest", [1, 16])
def test_a_large_convolution_is_run_by_strips_of_its_rows(fewest, attributes, monkeypatch):
    x, w = np.random.default_rng(0).normal(size=(2, 3, 30, 20)), np.random.default_rng(1).normal(size=(6, 3, 3, 3))
    w = w[:, : 3 // attributes.get("group", 1)]
    bias = np.random.default_rng(2).normal(size=6)
    before = run("Conv", x, w, bias, **attributes)
    monkeypatch.setattr("detparity.models.exact_conv.FEWEST_CHANNELS", fewest)
    monkeypatch.setattr("detparity.models.exact_conv.LARGE_BYTES", 0)
    monkeypatch.setattr("detparity.models.exact_conv.STRIP_BYTES", 3000)
    np.testing.assert_allclose(run("Conv", x, w, bias, **attributes), before, rtol=1e-12, atol=1e-12)


def test_nodes_in_another_order_are_sorted():
    """ONNX Runtime sorts a graph, onnx's evaluator does not; what a branch of an If reads is made before it as well."""
    branch = helper.make_graph(
        [helper.make_node("Neg", ["b"], ["n"])], "t", [], [helper.make_tensor_value_info("n", TensorProto.FLOAT, None)]
    )
    nodes = [
        helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch),
        helper.make_node("Exp", ["a"], ["b"]),
        helper.make_node("Abs", ["x"], ["a"]),
    ]
    feed = {"x": numbers(3), "c": np.array(True)}
    close(exact(model(nodes, feed)).call(feed)["y"], -np.exp(np.abs(feed["x"])))


def test_nodes_that_read_each_other_are_refused():
    nodes = [helper.make_node("Add", ["x", "b"], ["y"]), helper.make_node("Neg", ["y"], ["b"], name="back")]
    with pytest.raises(EngineError, match=r"its nodes read each other: .*back"):
        exact(model(nodes, {"x": numbers(3)}))
