"""A captured call as a reference and as what was asked of the exporter."""

from __future__ import annotations

import inspect
from typing import Any, Dict, List, Optional, Tuple

import numpy as np
import torch
from torch import nn

from detparity.artifacts import onnx_graph
from detparity.artifacts.input_form import CHANNELS, channels_last
from detparity.core.errors import InputError
from detparity.core.promises import Promises, of_batch
from detparity.models.capture import CapturedCall
from detparity.models.example import pixels_of
from detparity.models.module_reference import Made, ModuleReference
from detparity.models.reference import PLAIN, ReferenceFacts
from detparity.models.yolov7.foreign_head import head_of


def reference_of(call: CapturedCall) -> ModuleReference:
    """The module as it was exported, called as its exporter was asked to: the image varies, every other argument is the example's.

    Raises InputError where there is no module, or no image among its inputs.
    """
    if call.module is None:
        raise InputError(f"{call.exporter} exported what cannot be a reference: {call.problem}")
    key, image = _image(call)
    kind, prepared = pixels_of(image)

    def called(module: nn.Module, images: torch.Tensor) -> Any:
        count = len(images) if images.dim() == 4 else 1
        arguments = [_of_batch(one, image, count) for one in call.arguments]
        keywords = {name: _of_batch(one, image, count) for name, one in call.kwargs.items()}
        given: Any = arguments if isinstance(key[0], int) else keywords
        given[key[0]] = (
            images if len(key) == 1 else [images if k == key[1] else one for k, one in enumerate(given[key[0]])]
        )
        return module(*arguments, **keywords)

    notes = [f"shared with the script, as it cannot be copied: {', '.join(call.shared[:6])}"] if call.shared else []
    notes += ["pixels are from 0 to 255, as those of the example are"] * (prepared != PLAIN)
    title = f"{type(call.module).__name__}, captured at {call.exporter}"
    anchors, strides = head_of(call.module)
    facts = ReferenceFacts(
        title,
        "",
        tuple(map(int, image.shape)),
        (),
        names=_names(call.module),
        preprocessing=prepared,
        code=True,
        notes=tuple(notes),
        anchors=anchors,
        strides=strides,
        image=kind,
    )
    return ModuleReference(Made(call.module, facts, called))


def _of_batch(value: Any, image: torch.Tensor, count: int) -> Any:
    return of_batch(value, image.shape, count) if isinstance(value, torch.Tensor) else value


def _in_order(call: CapturedCall) -> List[str]:
    """Names of the arguments that were given by name, in the order of the module's parameters."""
    try:
        known = [*inspect.signature(call.module.forward).parameters] if call.module is not None else []
    except (TypeError, ValueError):  # a function that states no signature
        known = []
    return [*(name for name in known if name in call.kwargs), *(name for name in call.kwargs if name not in known)]


def _tensors(call: CapturedCall) -> Dict[Tuple[Any, ...], torch.Tensor]:
    """The tensors of a call by position or by name, and where they lie in a list, in the order of the module's parameters."""
    given: Dict[Any, Any] = dict(enumerate(call.arguments))
    given.update({name: call.kwargs[name] for name in _in_order(call)})
    tensors: Dict[Tuple[Any, ...], torch.Tensor] = {}
    for key, value in given.items():
        if isinstance(value, torch.Tensor):
            tensors[(key,)] = value
        elif isinstance(value, (list, tuple)):
            tensors.update({(key, k): one for k, one in enumerate(value) if isinstance(one, torch.Tensor)})
    return tensors


def _image(call: CapturedCall) -> Tuple[Tuple[Any, ...], torch.Tensor]:
    """Which argument is the image, by position or by name, or which of a list of images, and the image itself."""
    tensors = _tensors(call)
    images = [key for key, value in tensors.items() if _coloured(value)]
    if len(images) != 1:
        shapes = ", ".join(str(tuple(value.shape)) for value in tensors.values()) or "no tensor"
        raise InputError(
            f"{call.exporter} was given {shapes}: models that take one image of three channels can be judged, and no others yet"
        )
    return images[0], tensors[images[0]]


def _coloured(value: torch.Tensor) -> bool:
    """Whether a tensor has the axes of images of three channels, these before or, in a batch, after height and width."""
    return value.dim() in (3, 4) and (value.shape[-3] == CHANNELS or channels_last(tuple(value.shape)))


def _names(module: nn.Module) -> Tuple[str, ...]:
    """Class names, where the module or one in it has them as a list or by number."""
    for part in module.modules():
        found = getattr(part, "names", None)
        if isinstance(found, dict) and found and all(isinstance(key, int) for key in found):
            found = [found[key] for key in sorted(found)]
        if isinstance(found, (list, tuple)) and found and all(isinstance(name, str) for name in found):
            return tuple(found)
    return ()


def promises_of(call: CapturedCall) -> Promises:
    """What the call asked of its exporter. A program that torch itself saves was asked for no names and no opset."""
    shape = _shape(call)
    others = _others(call) if shape else ()
    if not call.exporter.startswith("torch.onnx"):
        return Promises(call.exporter, shape=shape, others=others)
    names = (call.input_names, call.output_names)
    return Promises(
        call.exporter,
        *names,
        dynamic=_dynamic(call),
        opset=call.opset,
        shape=shape,
        written=_written(call),
        others=others,
    )


def _others(call: CapturedCall) -> Tuple[np.ndarray, ...]:
    image = _image(call)[0]
    return tuple(value.detach().cpu().numpy() for key, value in _tensors(call).items() if key != image)


def _written(call: CapturedCall) -> int:
    """How many outputs the file has as the exporter wrote it; 0 where it cannot be read."""
    try:
        return len(onnx_graph.read(call.first).graph.outputs) if call.first is not None else 0
    except (InputError, OSError):
        return 0


def _shape(call: CapturedCall) -> Tuple[int, ...]:
    try:
        return tuple(map(int, _image(call)[1].shape))
    except InputError:
        return ()


def _dynamic(call: CapturedCall) -> Optional[Dict[str, Dict[int, str]]]:
    return {name: {axis: symbol or "any" for axis, symbol in axes.items()} for name, axes in call.dynamic_axes.items()}


def by_file(calls: List[CapturedCall]) -> Dict[str, CapturedCall]:
    """The call that each file comes from, by path."""
    return {str(path): call for call in calls for path in call.files}
