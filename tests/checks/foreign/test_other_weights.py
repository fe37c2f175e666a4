"""Where choices cannot be matched, a weight that is nearly the model's, or none that is, is a defect; folded batch-norm is none."""

from __future__ import annotations

import re
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("torch", minversion="1.13")

import onnx
from detparity.kit.tests.checks.foreign import stand_ins
from onnx import numpy_helper

from detparity.artifacts import onnx_graph
from detparity.checks.foreign import parity
from detparity.checks.foreign.other_weights import LEAST, other_weights
from detparity.core.case import Case
from detparity.core.findings import CannotRun

CASE = Case((64, 96), (("noise", 0),))
LAYOUTS = ("ultralytics", "detr", "torchvision")


def _found(model, layout, path):
    onnx.save(model, str(path))
    graph = onnx_graph.read(path).graph
    artifact = SimpleNamespace(kind="onnx")
    oracle = SimpleNamespace(reference=stand_ins.reference_of(layout))
    return other_weights(
        SimpleNamespace(artifact=artifact, oracle=oracle, onnx=SimpleNamespace(graph=graph)), CASE, "too close"
    )


def _changed(model, change, count):
    """The model with `change` made to its `count` largest weights, 0 for all."""
    weights = [
        one for one in model.graph.initializer if len(one.dims) > 1 and np.prod(one.dims) >= LEAST * max(one.dims[:2])
    ]
    for one in sorted(weights, key=lambda one: -np.prod(one.dims))[: count or None]:
        value = change(numpy_helper.to_array(one))
        one.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), one.name))
    return model


def _epoch(value):
    return value + 0.02 * value.std() * np.random.default_rng(0).standard_normal(value.shape)


def _drawn(value):
    return np.random.default_rng(value.size).permutation(value.ravel()).reshape(value.shape)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_weights_of_another_epoch_and_of_another_training_are_found(layout, tmp_path):
    path = tmp_path / "file.onnx"
    assert _found(stand_ins.onnx_of(layout), layout, path) is None

    one = _found(_changed(stand_ins.onnx_of(layout), _epoch, 1), layout, path)
    assert "stores 1 of " in one.message and "with other numbers than the model's: first " in one.message
    assert re.search(r", (1\.9|2\.0|2 )[0-9]* ?% off", one.message)
    assert one.notes == (f"Its numbers at {CASE} were not compared: too close.",)

    every = _found(_changed(stand_ins.onnx_of(layout), _drawn, 0), layout, path)
    assert "the weights of another training: none of " in every.message
    assert min(float(row[2].split()[0]) for row in every.rows[1:]) > 80  # far from NEARLY


def test_a_branch_that_was_merged_into_a_kernel_is_no_other_weight(tmp_path):
    """RepVGG adds its product, and its identity, to the middle of the kernel beside them."""

    def merged(value):
        if value.ndim != 4 or min(value.shape[2:]) < 3:
            return value
        value = value.copy()
        value[:, :, value.shape[2] // 2, value.shape[3] // 2] += 0.5 * value.std()
        return value

    changed = _changed(stand_ins.onnx_of("ultralytics"), merged, 0)
    assert any(len(one.dims) == 4 and min(one.dims[2:]) > 2 for one in changed.graph.initializer)
    assert _found(changed, "ultralytics", tmp_path / "file.onnx") is None


def test_it_decides_where_numbers_cannot_and_there_alone(monkeypatch):
    finding = object()
    truth = SimpleNamespace(choices=())
    context = SimpleNamespace(
        named=lambda outputs: outputs,
        exact_outputs={},
        predict=lambda case: {},
        choices=lambda case: (),
        truth=lambda case, choices: truth,
        layout=SimpleNamespace(selected=False),
    )

    def cannot(*_):
        raise CannotRun("near ties are as likely as a defect")

    monkeypatch.setattr(parity, "judged_of", cannot)
    monkeypatch.setattr(parity, "other_weights", lambda *_: finding)
    assert parity.compare(context, CASE) == [finding]
    monkeypatch.setattr(parity, "other_weights", lambda *_: None)
    with pytest.raises(CannotRun, match="near ties"):
        parity.compare(context, CASE)
    monkeypatch.setattr(parity, "judged_of", lambda *_: None)
    monkeypatch.setattr(parity, "other_weights", cannot)
    assert parity.compare(context, CASE) == []
