"""An ONNX graph as its own truth: every floating-point number, cast and type of the file in float64.

onnx's reference evaluator runs it, with the operators of `exact/table.py` in place of its own and without what no node reads any more.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Type, Union

import numpy as np
import onnx
import torch
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import RuntimeContextError

from detparity.artifacts import onnx_edit
from detparity.core.errors import EngineError
from detparity.core.vocabulary import Arrays, Load, Runner
from detparity.engines.exact.graph import NARROW, TYPES, convert, outer_names, type_of
from detparity.engines.exact.operator import floating
from detparity.engines.exact.table import OPERATORS

OLDEST_TORCH = (1, 13)
KINDS: Mapping[str, Any] = {"all": np.float64, "exact": np.float64, "float32": np.float32}


def prepare(source: Union[str, Path, bytes], how: Load = Load()) -> Runner:
    """Load a path or the bytes of a model. how.optimisation: "exact" (and the default) evaluates in float64, "float32" in float32:
    one more equivalent run, whose error is noise. Outputs are of that type. Raises EngineError with the operator and its node where
    one is not supported, ImportError where torch is too old."""
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < OLDEST_TORCH:
        raise ImportError(f"evaluating a graph in float64 takes torch 1.13 or newer, this is {torch.__version__}")
    if how.optimisation not in KINDS:
        raise EngineError(f"it evaluates in {', '.join(sorted(KINDS))}, not in {how.optimisation!r}")
    kind = KINDS[how.optimisation]
    model = _loaded(source, how.cut)
    if not model.graph.output:
        raise EngineError("it has no outputs")
    declared = {value.name: value.type.tensor_type.elem_type for value in model.graph.input}
    clock = _Clock(how.seconds)
    made: Type[Evaluator] = type("Evaluator", (Evaluator,), {"kind": kind, "clock": clock})
    evaluator = _reasoned(lambda: made(convert(model, kind)))
    given = {tensor.name for tensor in model.graph.initializer}
    needed = tuple(name for name in declared if name not in given)

    def call(feed: Arrays) -> Arrays:
        inputs = {name: _input(name, array, declared, kind) for name, array in feed.items()}
        missing = [name for name in needed if name not in inputs]
        if missing:
            raise EngineError(f"its input {missing[0]!r} is not given")
        clock.start()
        with torch.no_grad(), _threads(how.threads), np.errstate(all="ignore"):
            values = evaluator.run(None, inputs)
        return dict(zip(evaluator.output_names, values))

    facts = {"evaluated in": np.dtype(kind).name, "onnx": onnx.__version__, "torch": str(torch.__version__)}
    return Runner("onnx_exact", call, facts, needed)


def _loaded(source: Union[str, Path, bytes], cut: Mapping[str, int]) -> onnx.ModelProto:
    def load() -> onnx.ModelProto:
        if cut:
            return onnx.load_from_string(onnx_edit.tail_of(source if isinstance(source, bytes) else Path(source), cut))
        return onnx.load_from_string(source) if isinstance(source, bytes) else onnx.load(str(source))

    return _reasoned(load)


def _reasoned(work: Any) -> Any:
    try:
        return work()
    except EngineError:
        raise
    except Exception as error:  # the evaluator and protobuf have no common exception
        raise EngineError(_reason(error)) from None


def _reason(error: BaseException) -> str:
    """The first cause in one line: the evaluator wraps some of them in the types of all inputs."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split()) or type(error).__name__


def _input(name: str, array: Any, declared: Mapping[str, int], kind: Any) -> Any:
    if name not in declared:
        raise EngineError(f"it has no input {name!r}, only {', '.join(map(repr, declared))}")
    expected = declared[name]
    if expected in (*NARROW, onnx.TensorProto.DOUBLE) and floating(array):
        return np.array(array, np.float64 if expected == onnx.TensorProto.DOUBLE else kind)
    stated = onnx.TensorProto.DataType.Name(expected)
    if not expected or array.dtype != onnx.helper.tensor_dtype_to_np_dtype(expected):
        raise EngineError(f"its input {name!r} is {array.dtype} where the file declares {stated}")
    return np.array(array)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    if count:
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Clock:
    def __init__(self, seconds: Optional[float]) -> None:
        self.seconds = seconds
        self._started = 0.0

    def start(self) -> None:
        self._started = time.monotonic()

    def check(self) -> None:
        if self.seconds is not None and time.monotonic() - self._started > self.seconds:
            raise EngineError(f"it was still running after {self.seconds:g} seconds")


class Evaluator(ReferenceEvaluator):
    """The evaluator of a graph, a subgraph or a function. kind: the type of floating-point numbers; clock: of the call."""

    kind: Any = np.float64
    clock = _Clock(None)

    def __init__(self, proto: Any, **options: Any) -> None:
        if isinstance(proto, onnx.FunctionProto):  # of the model, converted before, or of an operator's schema
            copy = onnx.FunctionProto()
            copy.CopyFrom(proto)
            proto = convert(copy, self.kind)
        super().__init__(proto, **{**options, "new_ops": list(OPERATORS)})

    def _init(self) -> None:
        super()._init()
        # torch shares memory with arrays that it may write to.
        self.rt_inits_ = {
            name: np.require(value, requirements=["C", "W"]) if isinstance(value, np.ndarray) else value
            for name, value in self.rt_inits_.items()
        }
        for node in self.rt_nodes_:
            for name in node.attributes_names_:
                setattr(node, name, _attribute(name, getattr(node, name), self.kind))
        self._finished = self._last_readers()

    def _load_impl(self, node: Any, input_types: Any = None) -> Any:
        try:
            return super()._load_impl(node, input_types)
        except RuntimeContextError:
            raise
        except Exception as error:
            known = "is not supported" if isinstance(error, (NotImplementedError, RuntimeError)) else _reason(error)
            raise EngineError(f"the operator {_title(node)} {known}") from None

    def _last_readers(self) -> List[Set[str]]:
        """For each node, what no later node and no output reads."""
        seen = set(self.output_names)
        found: List[Set[str]] = []
        made = {name for node in self.nodes_ for name in node.output}
        for node in reversed(self.nodes_):
            names = {*node.input, *node.output, *outer_names(node)} & made
            found.append(names - seen)
            seen |= names
        return found[::-1]

    def run(
        self,
        output_names: Optional[Sequence[str]],
        feed_inputs: Mapping[str, Any],
        attributes: Optional[Mapping[str, Any]] = None,
        intermediate: bool = False,
    ) -> Any:
        """As the evaluator's own; a value that nothing reads any more is released."""
        values: Dict[str, Any] = {"": None, **self.rt_inits_, **feed_inputs}
        for node, done in zip(self.rt_nodes_, self._finished):
            self.clock.check()
            values.update((name, value) for name, value in self._outputs(node, values, attributes) if name)
            for name in done:
                values.pop(name, None)
        return [self._value(name, values) for name in output_names or self.output_names]

    @staticmethod
    def _value(name: str, values: Mapping[str, Any]) -> Any:
        if name not in values:
            raise EngineError(f"no node makes the tensor {name!r}")
        return values[name]

    def _outputs(
        self, node: Any, values: Dict[str, Any], attributes: Optional[Mapping[str, Any]]
    ) -> List[Tuple[str, Any]]:
        inputs = [self._value(name, values) for name in node.input]
        more: Dict[str, Any] = {"linked_attributes": attributes} if node.has_linked_attribute and attributes else {}
        if node.need_context():
            more["context"] = values
        try:
            made = list(zip(node.output, node.run(*inputs, **more)))
        except EngineError as error:
            inside = node.need_context() or "the operator" in str(error)
            raise error if inside else EngineError(f"the operator {_title(node.onnx_node)}: {error}") from None
        except Exception as error:
            raise EngineError(f"the operator {_title(node.onnx_node)}: {_reason(error)}") from None
        for _, value in made:
            if (
                self.kind == np.float64
                and isinstance(value, np.ndarray)
                and floating(value)
                and value.dtype != np.float64
            ):
                raise EngineError(f"the operator {_title(node.onnx_node)} has no float64 evaluation")
        return made


def _title(node: onnx.NodeProto) -> str:
    domain = f"{node.domain}." if node.domain and node.domain != "detparity" else ""
    label = node.name or next(filter(None, node.output), "")
    return f"{domain}{node.op_type} (node {label!r})"


def _attribute(name: str, value: Any, kind: Any) -> Any:
    """An attribute of a loaded node: a type as it is evaluated, a number as its author wrote it, 0.1 and not 0.100000001490116."""
    if name in TYPES and isinstance(value, int) and value in NARROW:
        return type_of(kind)
    if isinstance(value, np.float32):
        return float(str(value))
    if isinstance(value, list) and value and all(isinstance(one, np.float32) for one in value):
        return [float(str(one)) for one in value]
    return value
