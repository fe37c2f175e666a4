"""What a call of an exporting function states: the module in the mode it is exported in, example inputs, names, axes, opset."""

from __future__ import annotations

import inspect
import itertools
from dataclasses import dataclass, field
from typing import Any, Dict, List, Mapping, Optional, Sequence, Tuple

import torch
from torch import nn

from detparity.core.errors import clipped
from detparity.core.promises import OPEN
from detparity.models.capture_hooks import DYNAMO, ONNX, Watched
from detparity.models.module_copy import copied

PRESERVE, TRAINING = 1, 2  # of torch.onnx.TrainingMode
Axes = Dict[str, Dict[int, str]]


@dataclass
class Contract:
    """One call, as `models.capture.CapturedCall` has it. shared: parts of the copy that could not be copied."""

    exporter: str
    module: Optional[nn.Module] = None
    arguments: Tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    input_names: Tuple[str, ...] = ()
    output_names: Tuple[str, ...] = ()
    dynamic_axes: Axes = field(default_factory=dict)
    opset: Optional[int] = None
    problem: str = ""
    shared: Tuple[str, ...] = ()


def exported(subject: Any) -> Any:
    """What a call exports: a bound method stands for its module."""
    owner = getattr(subject, "__self__", None)
    return owner if inspect.ismethod(subject) and isinstance(owner, nn.Module) else subject


def contract(watched: Watched, arguments: Mapping[str, Any], subject: Any, origin: Optional[Contract]) -> Contract:
    """The contract of a call that exports or compiles `subject`. origin: the call that made `subject`, where it is a program already:
    its eager module is what is exported."""
    dynamo = watched.exporter == DYNAMO or bool(arguments.get("dynamo"))
    dynamo = dynamo or type(subject).__name__ == "ExportedProgram"
    made = Contract(DYNAMO if watched.exporter == ONNX and dynamo else watched.exporter)
    if origin is None:
        _copy(subject, made)
    else:
        made.module, made.problem, made.shared = origin.module, origin.problem, origin.shared
        made.arguments, made.kwargs = origin.arguments, origin.kwargs
    if made.module is not None and made.exporter == ONNX and origin is None:
        _set_mode(made.module, arguments.get("training"))
    inputs, keywords = _inputs(arguments)
    if inputs or keywords:
        made.arguments, made.kwargs = detached(inputs), detached(keywords)
    made.input_names, made.output_names = _names(arguments, "input_names"), _names(arguments, "output_names")
    made.opset = arguments.get("opset_version")
    try:
        made.dynamic_axes = {**_from_axes(arguments.get("dynamic_axes")), **_from_shapes(arguments, made)}
    except Exception:  # what the exporter does not accept either
        made.dynamic_axes = {}
    return made


def _copy(subject: Any, made: Contract) -> None:
    if not isinstance(subject, nn.Module) and type(subject).__name__ == "ExportedProgram":
        subject = subject.module()
    if not isinstance(subject, nn.Module):
        name = getattr(subject, "__name__", type(subject).__name__)
        made.problem = f"{name} is no module, and what it uses cannot be copied"
        return
    try:
        made.module, shared = copied(subject)
        made.shared = tuple(shared)
    except Exception as error:  # a module's own __deepcopy__ raises what it likes
        made.problem = clipped(error)


def _set_mode(module: nn.Module, training: Any) -> None:
    """The mode in which the TorchScript-based exporter runs a module: evaluation where the call states nothing else."""
    mode = int(getattr(training, "value", training) or 0)
    if mode != PRESERVE:
        module.train(mode == TRAINING)


def _inputs(arguments: Mapping[str, Any]) -> Tuple[Tuple[Any, ...], Dict[str, Any]]:
    """Example inputs by the names that the exporting functions give them."""
    if "inputs" in arguments:  # trace_module: by method
        found = dict(arguments["inputs"] or {}).get("forward", ())
    else:
        found = next(
            (arguments[k] for k in ("args", "example_inputs", "model_args") if arguments.get(k) is not None), ()
        )
    keywords: Dict[str, Any] = next(
        (arguments[k] for k in ("kwargs", "example_kwarg_inputs", "model_kwargs") if arguments.get(k)), {}
    )
    keywords = dict(keywords)
    if isinstance(found, dict):  # torch.jit.script: by method
        return (), keywords
    inputs = tuple(found) if isinstance(found, (tuple, list)) else (found,)
    if (
        "f" in arguments and inputs and isinstance(inputs[-1], dict)
    ):  # torch.onnx.export: keywords as the last of the tuple
        inputs, keywords = inputs[:-1], {**inputs[-1], **keywords}
    return inputs, keywords


def detached(value: Any) -> Any:
    """Copies of the tensors in a nest of tuples, lists and dictionaries; anything else as it is."""
    if isinstance(value, torch.Tensor):
        return value.detach().clone()
    if isinstance(value, dict):
        return {key: detached(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        items = [detached(item) for item in value]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return value


def _names(arguments: Mapping[str, Any], key: str) -> Tuple[str, ...]:
    return tuple(map(str, arguments.get(key) or ()))


def _from_axes(axes: Any) -> Axes:
    """`dynamic_axes`; an axis that is given without a symbol gets the exporter's."""
    found: Axes = {}
    for name, value in dict(axes or {}).items():
        if isinstance(value, Mapping):
            found[name] = {int(axis): str(symbol) for axis, symbol in value.items()}
        else:
            found[name] = {int(axis): f"{name}_dynamic_axes_{count}" for count, axis in enumerate(value, 1)}
    return found


def _from_shapes(arguments: Mapping[str, Any], made: Contract) -> Axes:
    """`dynamic_shapes`, for inputs that are tensors of their own: by their names in the file, in order. The exporter's own choice of a
    symbol (Dim.DYNAMIC) is empty here, and `OPEN` where it may fix the axis as well (Dim.AUTO)."""
    shapes = arguments.get("dynamic_shapes")
    if not shapes:
        return {}
    if isinstance(shapes, Mapping):
        parameters = _parameters(made.module)
        order = parameters if all(name in parameters for name in shapes) else list(shapes)
        pairs = [(name, shapes.get(name)) for name in order]
    else:
        pairs = list(zip(_parameters(made.module), shapes))
    found: Axes = {}
    for index, (parameter, value) in enumerate(pairs):
        name = made.input_names[index] if index < len(made.input_names) else parameter
        axes = _axes(value)
        if axes:
            found[name] = axes
    return found


def _axes(value: Any) -> Dict[int, str]:
    items: List[Tuple[Any, Any]] = []
    if isinstance(value, Mapping):
        items = list(value.items())
    elif isinstance(value, (list, tuple)):
        items = list(enumerate(value))
    found = {}
    for axis, symbol in items:
        if not isinstance(axis, int):  # a nest of tensors
            return {}
        hint = str(getattr(symbol, "type", symbol)).rpartition(".")[2]  # of Dim.AUTO, Dim.DYNAMIC and Dim.STATIC
        if symbol is not None and not isinstance(symbol, int) and hint != "STATIC":
            name = symbol if isinstance(symbol, str) else getattr(symbol, "__name__", "")
            own = str(name) if str(name).isidentifier() else ""
            found[axis] = OPEN if hint == "AUTO" and not own else own
    return found


def _parameters(module: Optional[nn.Module]) -> List[str]:
    if module is None:
        return [f"input_{index}" for index in range(64)]
    parameters: Sequence[inspect.Parameter] = list(inspect.signature(module.forward).parameters.values())
    found: List[str] = []
    for parameter in parameters:
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            found += list(itertools.islice((f"{parameter.name}_{index}" for index in itertools.count()), 64))
        elif parameter.kind is not inspect.Parameter.VAR_KEYWORD:
            found.append(parameter.name)
    return found
