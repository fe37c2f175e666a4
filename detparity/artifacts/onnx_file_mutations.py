"""One change to an ONNX file at a time, drawn by seed, in groups: what changes one node (`onnx_mutations`), and what changes types,
inputs and outputs, suppression, metadata and quantisation.

Each kind is a function that changes a copy of the file and says where and how, or None where it has nothing to change.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Dict, Iterator, Mapping, Optional, Sequence, Set, Tuple

import onnx
from onnx import TensorProto

from detparity.artifacts import onnx_choice_mutations as choices
from detparity.artifacts import onnx_interface_mutations as interface
from detparity.artifacts.onnx_graph import all_nodes
from detparity.artifacts.onnx_interface_mutations import FileChange, Where
from detparity.artifacts.onnx_mutations import KINDS, Change, Changing, title
from detparity.core.errors import InputError

FLOAT, FLOAT16, BFLOAT16, INT32 = TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.INT32
TRIES = 8  # draws of a kind, before another one is drawn


@dataclass(frozen=True)
class Mutant:
    """number: in the order drawn; about: a clause about `where`; model: the file with that change."""

    number: int
    group: str
    kind: str
    where: str
    about: str
    model: onnx.ModelProto


def _at_a_node(change: Change) -> FileChange:
    """A change to any one node."""

    def changed(at: Changing) -> Optional[Where]:
        nodes = list(at.model.graph.node)
        at.rng.shuffle(nodes)
        for node in nodes:
            name = title(node)
            about = change(at, node)
            if about is not None:
                return name, about
        return None

    return changed


def _nodes(names: Sequence[str]) -> Dict[str, FileChange]:
    return {name: _at_a_node(KINDS[name]) for name in names}


GROUPS: Mapping[str, Mapping[str, FileChange]] = {
    "weights": _nodes([name for name in KINDS if "channel" in name or "weights" in name or "bias" in name]),
    "operators": _nodes(["another operator", "constant changed"]),
    "attributes": _nodes(["attribute changed"]),
    "wiring": _nodes(["operands in another order", "another tensor read", "term of a sum lost"]),
    "types": {
        "through float16": _at_a_node(interface.passes_through(FLOAT16, FLOAT, "what it makes is rounded to float16")),
        "through bfloat16": _at_a_node(
            interface.passes_through(BFLOAT16, FLOAT16, "what it makes is rounded to bfloat16")
        ),
        "through integers": _at_a_node(interface.passes_through(INT32, FLOAT, "what it makes is cut to integers")),
    },
    "io": {
        "input renamed": interface.input_renamed,
        "output renamed": interface.output_renamed,
        "outputs exchanged": interface.outputs_exchanged,
        "output lost": interface.output_lost,
        "output added": interface.output_added,
        "shape declared wrong": interface.declared_shape,
        "type declared wrong": interface.declared_type,
        "image interface.scaled twice": interface.image_through("it is interface.scaled by 1/255", interface.scaled),
        "image shifted": interface.image_through("1/255 is added to it", interface.shifted),
        "image BGR": interface.image_through("its channels are reversed", interface.backwards(3), channels=True),
        "image mirrored": interface.image_through("it is mirrored", interface.backwards(1), channels=True),
        "image upside down": interface.image_through("it is upside down", interface.backwards(2), channels=True),
    },
    "nms": {
        "overlap threshold": _at_a_node(
            choices.nms_number(3, "iou_threshold", "IoU threshold", [lambda x: x + 0.05, lambda x: x - 0.05])
        ),
        "score threshold": _at_a_node(
            choices.nms_number(4, "score_threshold", "score threshold", [lambda x: x + 0.05, lambda x: x / 2])
        ),
        "cap": _at_a_node(choices.nms_number(2, "max_output_boxes", "cap", [lambda x: x - 1, lambda x: x + 1])),
        "corners for centres": _at_a_node(choices.nms_corners),
        "the worst chosen": _at_a_node(choices.chosen_worst),
        "one fewer chosen": _at_a_node(choices.chosen_fewer),
        "chosen by other numbers": _at_a_node(choices.read_by_choice),
    },
    "metadata": {
        "opset": interface.opset,
        "class names exchanged": interface.entry_changed("names", interface.names_exchanged),
        "class name lost": interface.entry_changed("names", interface.name_lost),
        "stride": interface.entry_changed("stride", interface.larger),
        "image size": interface.image_size,
        "suppression": interface.entry_changed("detparity.nms", interface.larger),
    },
    "quantisation": {
        "scale": _at_a_node(choices.linear(1, choices.scale_changed)),
        "zero point": _at_a_node(choices.linear(2, choices.zero_point_changed)),
        "weights in 8 bits": _at_a_node(choices.integer_weights),
        "scale of another tensor": _at_a_node(choices.another_scale),
    },
}


def loaded(path: Path) -> onnx.ModelProto:
    """A file with its tensors. Raises InputError where it cannot be changed."""
    try:
        return onnx.load(str(path))
    except Exception as error:  # protobuf and onnx's external data have no common exception
        raise InputError(f"{path} cannot be changed: {str(error)[:200]}") from None


def drawn(
    model: onnx.ModelProto, inferred: Optional[bytes], seed: int, groups: Sequence[str] = tuple(GROUPS)
) -> Iterator[Mutant]:
    """Mutants of a model, each another one, its groups in rotation, until there are no more of them. inferred: a serialised graph
    with the types and shapes of inner tensors, which some changes need. The same model, seed and groups give the same mutants."""
    seen: Set[Tuple[str, str, str]] = set()
    left, number = list(groups), 0
    declared = list(model.graph.value_info)
    model = _with_shapes(model, inferred)
    while left:
        group = left.pop(0)
        found = _one(model, random.Random(f"{seed} {number} {group}"), group, seen)
        if found is None:
            continue
        left.append(group)
        seen.add((found[0], *found[1]))
        del found[2].graph.value_info[:]
        found[2].graph.value_info.extend(declared)
        yield Mutant(number, group, found[0], *found[1], model=found[2])
        number += 1


def _with_shapes(model: onnx.ModelProto, inferred: Optional[bytes]) -> onnx.ModelProto:
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if inferred is not None:
        known = {one.name for one in copy.graph.value_info}
        shaped = onnx.GraphProto.FromString(inferred)
        copy.graph.value_info.extend(one for one in shaped.value_info if one.name not in known)
    return copy


def _one(
    model: onnx.ModelProto, rng: random.Random, group: str, seen: Set[Tuple[str, str, str]]
) -> Optional[Tuple[str, Where, onnx.ModelProto]]:
    """A kind of a group, where it changed something, and the changed copy; None where there is nothing left to change."""
    kinds = list(GROUPS[group])
    rng.shuffle(kinds)
    for kind in kinds:
        for _ in range(TRIES):
            copy = onnx.ModelProto()
            copy.CopyFrom(model)
            found = GROUPS[group][kind](Changing(copy, rng))
            if found is None:
                break
            if (kind, *found) not in seen:
                _without_dead(copy, model)
                return kind, found, copy
    return None


def _without_dead(copy: onnx.ModelProto, model: onnx.ModelProto) -> None:
    """Take out what a change left without a reader, as a converter would; what had none before remains."""
    graph = copy.graph
    before = _unread(model)
    while True:
        unread = _unread(copy) - before
        nodes = [k for k, node in enumerate(graph.node) if node.output and set(filter(None, node.output)) <= unread]
        tensors = [k for k, tensor in enumerate(graph.initializer) if tensor.name in unread]
        for k in reversed(nodes):
            del graph.node[k]
        for k in reversed(tensors):
            del graph.initializer[k]
        if not nodes and not tensors:
            return


def _unread(model: onnx.ModelProto) -> Set[str]:
    """Tensors that no node and no output reads."""
    read = {value.name for value in model.graph.output}
    made = {tensor.name for tensor in model.graph.initializer}
    for node in all_nodes(model.graph.node):
        read.update(node.input)
        made.update(filter(None, node.output))
    return made - read
