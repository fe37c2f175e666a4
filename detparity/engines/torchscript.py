"""TorchScript archives: running them, and their graph as plain facts. Nothing else in the project reads a torch graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Dict, List, Mapping, Tuple

import numpy as np
import torch

from detparity.compat import jit
from detparity.subject import Arrays, EngineError, Runner

METADATA_FILE = "detparity.json"
# Operators that act otherwise in training, and which of their inputs says so.
TRAINING_FLAG = {"aten::dropout": 2, "aten::feature_dropout": 2, "aten::alpha_dropout": 2, "aten::batch_norm": 5}


@dataclass(frozen=True)
class Constant:
    """A tensor frozen into the graph: its value, the source line the graph records, and what reads it."""

    value: np.ndarray
    source: str
    readers: Tuple[str, ...]


@dataclass(frozen=True)
class ScriptFile:
    """ops: operator counts of the inlined graph; devices: (device, source line) of every device constant; state: parameters
    and buffers by path; training: whether it was saved in training mode; training_ops: operators recorded as they act in
    training; metadata: the text of our extra file, or empty."""

    ops: Mapping[str, int]
    devices: Tuple[Tuple[str, str], ...]
    constants: Tuple[Constant, ...]
    slopes: Tuple[float, ...]
    training_ops: Tuple[str, ...]
    state: Mapping[str, np.ndarray]
    training: bool
    metadata: str


def _load(path: str) -> Tuple[torch.jit.ScriptModule, str]:
    extra = {METADATA_FILE: ""}
    try:
        module = jit.load(path, extra)
    except Exception as error:  # torch raises RuntimeError, ValueError or its own types by version
        raise EngineError(" ".join(str(error).split())[:300]) from None
    text = extra[METADATA_FILE]
    return module, text.decode(errors="replace") if isinstance(text, bytes) else text


def _source(node: Any) -> str:
    try:
        lines = [line for line in node.sourceRange().splitlines() if line.strip()]
    except RuntimeError:  # torch up to 1.11 cannot read the source table of a newer archive
        return "unknown: this torch cannot read the source lines of an archive written by a newer one"
    return lines[0].strip() if lines else "unknown"


def read(path: str) -> ScriptFile:
    """Read an archive. Raises EngineError where torch cannot load it."""
    module, metadata = _load(path)
    graph = module.inlined_graph
    ops: Counter = Counter()
    devices: List[Tuple[str, str]] = []
    constants: List[Constant] = []
    slopes: List[float] = []
    training_ops: List[str] = []
    for node in _walk(graph):
        ops[node.kind()] += 1
        if node.kind() == "prim::Constant":
            _note_constant(node, devices, constants)
        if node.kind() in ("aten::leaky_relu", "aten::leaky_relu_"):
            slopes.append(float(list(node.inputs())[1].toIValue()))
        flag = TRAINING_FLAG.get(node.kind().rstrip("_"))
        if flag is not None and list(node.inputs())[flag].toIValue() is True:
            training_ops.append(f"{node.kind()} ({_source(node)})")
    state = {key: value.detach().float().numpy() for key, value in module.state_dict().items()}
    return ScriptFile(
        dict(ops),
        tuple(devices),
        tuple(constants),
        tuple(slopes),
        tuple(training_ops),
        state,
        bool(getattr(module, "training", False)),
        metadata,
    )


def _walk(block: Any) -> List[Any]:
    found = []
    for node in block.nodes():
        found.append(node)
        for inner in node.blocks():
            found.extend(_walk(inner))
    return found


def _note_constant(node: Any, devices: List[Tuple[str, str]], constants: List[Constant]) -> None:
    output = next(iter(node.outputs()))
    kind = str(output.type())
    if kind in ("Device", "Device?"):
        value = output.toIValue()
        if value is not None:
            devices.append((str(value), _source(node)))
    elif "Tensor" in kind and node.hasAttribute("value"):
        value = output.toIValue()
        if isinstance(value, torch.Tensor):
            readers = tuple(use.user.kind() for use in output.uses())
            constants.append(Constant(value.detach().numpy(), _source(node), readers))


def flatten(result: Any) -> Dict[str, np.ndarray]:
    """Name what a module returned: a tensor, or the tensors of a list or tuple, in order; nested lists are appended."""
    found: List[np.ndarray] = []

    def visit(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            found.append(value.detach().numpy().copy())
        elif isinstance(value, (list, tuple)):
            for item in value:
                visit(item)
        else:
            raise EngineError(f"it returns a {type(value).__name__} where tensors are wanted")

    visit(result)
    return {"output" if index == 0 else f"output_{index}": value for index, value in enumerate(found)}


def prepare(path: str, threads: int = 0) -> Runner:
    """Load an archive for running. A decoded tensor that comes with its logits is returned alone.

    threads: 0 leaves the choice to torch. Raises EngineError if it does not load; running raises it with torch's own reason.
    """
    module, _ = _load(path)
    facts = {"provider": "CPU", "torch": str(torch.__version__), "threads": str(threads or "default")}

    def call(feed: Arrays) -> Arrays:
        before = torch.get_num_threads()
        try:
            if threads:
                torch.set_num_threads(threads)
            with torch.no_grad():
                result = module(torch.from_numpy(feed["images"]))
        except Exception as error:  # errors of the interpreter carry their own traceback text
            lines = [line.strip() for line in str(error).splitlines() if line.strip()]
            raise EngineError(lines[-1] if lines else type(error).__name__) from None
        finally:
            torch.set_num_threads(before)
        arrays = flatten(result)
        first = next(iter(arrays.values()))
        return {"output": first} if first.ndim == 3 else arrays

    return Runner("torchscript", call, facts)
