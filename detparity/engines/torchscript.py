"""TorchScript archives: running them, and their graph as plain facts. Nothing else in the project reads a torch graph."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Tuple

import numpy as np
import torch

from detparity.compat import jit
from detparity.engines.torchgraph import Constant, Known, Written, source, tensors, walk, written
from detparity.subject import Arrays, EngineError, Runner

METADATA_FILE = "detparity.json"
# Operators that act otherwise in training, and which of their inputs says so.
TRAINING_FLAG = {"aten::dropout": 2, "aten::feature_dropout": 2, "aten::alpha_dropout": 2, "aten::batch_norm": 5}


@dataclass(frozen=True)
class ScriptFile:
    """ops: operator counts of the inlined graph; devices: (device, source line) of every device constant; constants: tensors that
    are no parameters; state: parameters and buffers by path; training: whether it was saved in training mode; training_ops: operators
    recorded as they act in training; metadata: the text of our extra file, or empty; written: sizes that stand in the graph as
    numbers."""

    ops: Mapping[str, int]
    devices: Tuple[Tuple[str, str], ...]
    constants: Tuple[Constant, ...]
    slopes: Tuple[float, ...]
    training_ops: Tuple[str, ...]
    state: Mapping[str, np.ndarray]
    training: bool
    metadata: str
    written: Tuple[Written, ...] = ()


def _load(path: str) -> Tuple[torch.jit.ScriptModule, str]:
    extra = {METADATA_FILE: ""}
    try:
        module = jit.load(path, extra)
    except Exception as error:  # torch raises RuntimeError, ValueError or its own types by version
        raise EngineError(" ".join(str(error).split())[:300]) from None
    text = extra[METADATA_FILE]
    return module, text.decode(errors="replace") if isinstance(text, bytes) else text


def read(path: str) -> ScriptFile:
    """Read an archive. Raises EngineError where torch cannot load it."""
    module, metadata = _load(path)
    known = Known(module)
    ops: Counter = Counter()
    devices: List[Tuple[str, str]] = []
    slopes: List[float] = []
    training_ops: List[str] = []
    for node in walk(known.graph):
        ops[node.kind()] += 1
        inputs = list(node.inputs())
        if node.kind() == "prim::Constant":
            devices += _device(node)
        if node.kind() in ("aten::leaky_relu", "aten::leaky_relu_"):
            slope = known.value(inputs[1])
            slopes += [float(slope)] if isinstance(slope, (int, float)) else []
        flag = TRAINING_FLAG.get(node.kind().rstrip("_"))
        if flag is not None and known.value(inputs[flag]) is True:
            training_ops.append(f"{node.kind()} ({source(node)})")
    return ScriptFile(
        dict(ops),
        tuple(devices),
        tuple(tensors(known, dict(module.named_parameters()))),
        tuple(slopes),
        tuple(training_ops),
        {key: value.detach().float().numpy() for key, value in module.state_dict().items()},
        bool(getattr(module, "training", False)),
        metadata,
        tuple(written(known)),
    )


def _device(node: Any) -> List[Tuple[str, str]]:
    output = next(iter(node.outputs()))
    value = output.toIValue() if str(output.type()) in ("Device", "Device?") else None
    return [] if value is None else [(str(value), source(node))]


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
    return runner("torchscript", _load(path)[0], threads)


def prepare_frozen(path: str, threads: int = 0) -> Runner:
    """Load an archive and optimise it for inference: weights folded into the graph, convolutions fused and prepacked.

    Raises EngineError where it does not load, or torch cannot optimise it.
    """
    module = _load(path)[0]
    try:
        optimised = jit.for_inference(module)
    except Exception as error:  # torch raises RuntimeError, AttributeError or its own types by version
        raise EngineError(f"it cannot be optimised for inference: {' '.join(str(error).split())[:300]}") from None
    return runner("torchscript", optimised, threads, optimised="for inference")


def runner(engine: str, module: Callable[[torch.Tensor], Any], threads: int, **more: str) -> Runner:
    """A loaded module as the runner of `engine`; more: facts beside the common ones."""
    facts = {"provider": "CPU", "torch": str(torch.__version__), "threads": str(threads or "default"), **more}

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

    return Runner(engine, call, facts)
