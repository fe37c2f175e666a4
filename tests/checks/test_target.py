"""What the targets of --for are known not to take, each rule met by one file and by no other."""

from __future__ import annotations

import onnx
import pytest
from onnx import TensorProto, helper

from detparity.artifacts import onnx_graph
from detparity.checks.target import _met
from detparity.core.targets import targets
from detparity.engines.remote import client

RULES = [(name, number) for name, target in targets().items() for number in range(len(target.rules))]


def _file(tmp_path, rule):
    """A file of one node that meets a rule, or meets none."""
    shape = [1, 3, 64, 96]
    if rule and "batch" in rule.varies:
        shape[0] = "batch"
    if rule and "size" in rule.varies:
        shape[2:] = ["height", "width"]
    kind = TensorProto.INT64 if rule and rule.dtypes else TensorProto.FLOAT
    image = helper.make_tensor_value_info("images", TensorProto.FLOAT, shape)
    out = helper.make_tensor_value_info("output", kind, None)
    node = helper.make_node("Identity", ["images"], ["output"])
    if rule and rule.operators:
        node = helper.make_node(rule.operators[0], ["images"], ["output"], domain="any")
    if rule and rule.rank_from:
        node = helper.make_node("Transpose", ["images"], ["output"], perm=[0, 1, 3, 4, 2])
    opset = 18 if rule and rule.opset_over else 13
    model = helper.make_model(
        helper.make_graph([node], "g", [image], [out]),
        opset_imports=[helper.make_opsetid("", opset), helper.make_opsetid("any", 1)],
    )
    onnx.save(model, str(tmp_path / "file.onnx"))
    return onnx_graph.read(tmp_path / "file.onnx", client())


@pytest.mark.parametrize(("name", "number"), RULES, ids=[f"{name}-{number}" for name, number in RULES])
def test_a_rule_is_met_by_what_it_names_alone(name, number, tmp_path):
    rule = targets()[name].rules[number]

    assert _met(rule, _file(tmp_path, rule))
    assert not _met(rule, _file(tmp_path, None))


def test_every_rule_has_a_source():
    assert all(rule.source and rule.effect and rule.advice for one in targets().values() for rule in one.rules)
