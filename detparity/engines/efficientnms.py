"""Files that end in the TensorRT plugin, on a CPU: ONNX Runtime up to the plugin, the plugin by its documented semantics.

ONNX Runtime refuses a file with an unknown operator as a whole, so the plugin node is taken off and its inputs become outputs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, Mapping, Optional

import numpy as np

from detparity import graph
from detparity.engines import ort
from detparity.oracle.nms import efficient_nms
from detparity.subject import Arrays, EngineError, Runner

KEYS = ("score_threshold", "iou_threshold", "max_output_boxes", "background_class", "score_activation", "box_coding")


def _attributes(node: graph.Node) -> Dict[str, Any]:
    """The plugin's numbers; one that is missing or a list is read as the plugin's parser would: first value, or its default."""
    defaults = {"background_class": -1, "score_activation": 0, "box_coding": 0, "class_agnostic": 0}
    found: Dict[str, Any] = {}
    for key in (*KEYS, "class_agnostic"):
        value = node.get(key, defaults.get(key))
        if value is None:
            raise EngineError(f"the plugin node {node.title} has no attribute {key}")
        found[key] = value[0] if isinstance(value, list) and value else value
    return found


def prepare(
    path: str,
    optimisation: str = "all",
    threads: int = 0,
    cut: Optional[Mapping[str, int]] = None,
    seconds: Optional[float] = None,
) -> Runner:
    """Load a file with one EfficientNMS_TRT node; what follows the node runs on ONNX Runtime as well.

    cut: tensors (name to rank) to start from instead of the image; the others as of `ort.prepare`.

    Raises EngineError where there is no such node, or it does not load.
    """
    file = graph.read(Path(path))
    nodes = [node for node in file.graph.nodes if node.op == "EfficientNMS_TRT"]
    if len(nodes) != 1 or len(nodes[0].inputs) < 2:
        raise EngineError(f"the file has {len(nodes)} EfficientNMS_TRT nodes with boxes and scores where one is wanted")
    boxes, scores = nodes[0].inputs[:2]
    model = graph.expose(Path(path), [boxes, scores])
    inner = ort.prepare(graph.tail_of(model, cut) if cut else model, optimisation, threads, seconds)
    attributes = _attributes(nodes[0])
    names = nodes[0].outputs
    after = None
    if [value.name for value in file.graph.outputs] != list(names):
        rest = graph.tail_of(Path(path), dict(zip(names, (2, 3, 2, 2))), integers=(names[0], names[3]))
        after = ort.prepare(rest, optimisation, threads, seconds)

    def call(feed: Arrays) -> Arrays:
        found = inner.call(feed)
        answers = efficient_nms(found[boxes], found[scores], **attributes)
        kinds = (np.int32, np.float32, np.float32, np.int32)
        made = {name: np.asarray(value, kind) for name, value, kind in zip(names, answers, kinds)}
        return made if after is None else after.call({name: made[name] for name in after.input_names})

    facts = {**inner.facts, "plugin": "EfficientNMS_TRT by its documented semantics"}
    return Runner("efficientnms", call, facts, inner.input_names)
