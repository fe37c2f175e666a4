"""Files that end in the TensorRT plugin, on a CPU: ONNX Runtime up to the plugin, the plugin by its documented semantics.

ONNX Runtime refuses a file with an unknown operator altogether, so the plugin node is taken off and its inputs become outputs.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Dict, Union

import numpy as np

from detparity.artifacts import onnx_edit, onnx_graph
from detparity.core.errors import EngineError, InputError, clipped
from detparity.core.vocabulary import Arrays, Load, Runner
from detparity.engines import onnxruntime
from detparity.oracle.nms import efficient_nms

KEYS = ("score_threshold", "iou_threshold", "max_output_boxes", "background_class", "score_activation", "box_coding")


def _attributes(node: onnx_graph.Node) -> Dict[str, Any]:
    """The plugin's numbers; one that is missing or a list is read as the plugin's parser would: first value, or its default."""
    defaults = {"background_class": -1, "score_activation": 0, "box_coding": 0, "class_agnostic": 0}
    found: Dict[str, Any] = {}
    for key in (*KEYS, "class_agnostic"):
        value = node.get(key, defaults.get(key))
        if value is None:
            raise EngineError(f"the plugin node {node.title} has no attribute {key}")
        found[key] = value[0] if isinstance(value, list) and value else value
    return found


def prepare(source: Union[str, Path], how: Load = Load()) -> Runner:
    """Load a file with one EfficientNMS_TRT node; what follows the node runs on ONNX Runtime as well.

    Raises EngineError where there is no such node, or it does not load.
    """
    path = Path(source)
    file = onnx_graph.read(path)
    nodes = [node for node in file.graph.nodes if node.op == "EfficientNMS_TRT"]
    if len(nodes) != 1 or len(nodes[0].inputs) < 2:
        raise EngineError(
            f"the file has {len(nodes)} EfficientNMS_TRT nodes with boxes and scores where one is expected"
        )
    boxes, scores = nodes[0].inputs[:2]
    model = onnx_edit.expose(path, [boxes, scores])
    inner = onnxruntime.prepare(model, how)
    attributes = _attributes(nodes[0])
    names = nodes[0].outputs
    after = None
    if [value.name for value in file.graph.outputs] != list(names):
        rest = onnx_edit.tail_of(path, dict(zip(names, (2, 3, 2, 2))), integers=(names[0], names[3]))
        after = onnxruntime.prepare(rest, replace(how, cut={}))

    def call(feed: Arrays) -> Arrays:
        found = inner.call(feed)
        try:
            answers = efficient_nms(found[boxes], found[scores], **attributes)
        except (
            ValueError,
            IndexError,
            TypeError,
            MemoryError,
            InputError,
        ) as error:  # shapes and attributes that no plugin could work with
            raise EngineError(f"the plugin's inputs or attributes make no sense ({clipped(error)})") from None
        kinds = (np.int32, np.float32, np.float32, np.int32)
        made = {name: np.asarray(value, kind) for name, value, kind in zip(names, answers, kinds)}
        return made if after is None else after.call({name: made[name] for name in after.input_names})

    facts = {**inner.facts, "plugin": "EfficientNMS_TRT by its documented semantics"}
    return Runner("efficient_nms", call, facts, inner.input_names)
