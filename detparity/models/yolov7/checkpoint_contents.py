"""What a checkpoint holds, whoever wrapped it: the records of models, or a state dict by the official names. Needs no torch.

Training code stores the model under one key or another, inside objects that average or distribute it, or its numbers alone, with the
names of those objects before each key.
"""

from __future__ import annotations

import re
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Sequence, Tuple, Union, cast

import numpy as np

from detparity.artifacts.metadata import class_names
from detparity.core.errors import InputError
from detparity.core.pickle_interpreter import Opaque, Record
from detparity.core.text import listed

MODEL, ENSEMBLE = "models.yolo.Model", "models.experimental.Ensemble"
MODELS = (MODEL, "models.yolo.DetectionModel")
OTHER_TASKS = {
    "models.yolo.SegmentationModel": "segmentation",
    "models.yolo.ClassificationModel": "classification",
}
# Keys and attributes that hold a model, averaged weights first: those are what training publishes.
AVERAGED = (
    "ema",
    "ema_state_dict",
    "ema_model",
    "model_ema",
    "state_dict_ema",
    "params_ema",
    "averaged_model",
    "shadow",
)
PLAIN = (
    "model",
    "state_dict",
    "model_state_dict",
    "net",
    "network",
    "module",
    "_orig_mod",
    "weights",
    "params",
    "detector",
)
MAX_NESTING = 12  # of wrappers
_LAYER = re.compile(r"((?:[A-Za-z_]\w*\.)*)(\d{1,5}\..+)", re.ASCII)
_PROFILED = (".total_ops", ".total_params")  # what a profiler leaves behind
_PRUNED, _MASK = "_orig", "_mask"  # of torch.nn.utils.prune

State = Dict[str, np.ndarray]
Found = Union[Record, State]


def members(root: Any) -> List[Found]:
    """What one file holds: usually one model; a list of checkpoints or an ensemble holds several. Raises InputError."""
    if isinstance(root, (list, tuple)):
        if not root:
            raise InputError("holds an empty list where a checkpoint is expected")
        return [member for item in root for member in members(item)]
    found = _inside(root, MAX_NESTING)
    if found is None:
        raise InputError(_nothing(root))
    if isinstance(found, Record) and found.qualified == ENSEMBLE:
        models = [member for child in children(found).values() for member in members(child)]
        if not models:
            raise InputError(f"its {ENSEMBLE} holds no models")
        return models
    return [found]


def _nothing(root: Any) -> str:
    if isinstance(root, Mapping):
        for key in (*AVERAGED, *PLAIN):
            if isinstance(root.get(key), (Record, Opaque)):
                if root[key].qualified in OTHER_TASKS:
                    return (
                        f"its {key!r} is a {root[key].qualified}, a model for {OTHER_TASKS[root[key].qualified]}, "
                        "and only detectors are read"
                    )
                return f"its {key!r} is a {root[key].qualified} where {MODEL} is expected, and holds none"
        return f"holds a dictionary with the keys {sorted(map(str, root))[:8]} and neither a 'model' nor an 'ema'"
    what = root.qualified if isinstance(root, (Record, Opaque)) else type(root).__name__
    return f"its model is a {what} where {MODEL} is expected"


def _inside(value: Any, depth: int) -> Union[Found, None]:
    """The model in a value, or the state dict, through whatever wraps it; None where there is none. Raises InputError for several."""
    if isinstance(value, Record) and value.qualified in (*MODELS, ENSEMBLE):
        return value
    if is_state(value):
        return {str(key): item for key, item in value.items() if isinstance(item, np.ndarray)}
    if depth == 0 or not isinstance(value, (Mapping, Record, Opaque)):
        return None
    parts = dict(_named_parts(value))
    for key in (*AVERAGED, *PLAIN):
        found = _inside(parts.pop(key, None), depth - 1)
        if found is not None:
            return found
    others = {key: found for key, part in parts.items() for found in [_inside(part, depth - 1)] if found is not None}
    if len({id(found) for found in others.values()}) > 1 and not _one_model(list(others.values())):
        raise InputError(f"holds a model under each of {listed(sorted(others))}, so which is to be read is not known")
    return next(iter(others.values()), None)


def _one_model(found: Sequence[Found]) -> bool:
    """Whether several state dicts are the same arrays under other keys."""
    arrays = [sorted(map(id, one.values())) if isinstance(one, dict) else [id(one)] for one in found]
    return all(one == arrays[0] for one in arrays)


def _named_parts(value: Any) -> Iterator[Tuple[str, Any]]:
    """What a dictionary or an object holds, by name: modules before other attributes."""
    if isinstance(value, Mapping):
        yield from ((str(key), item) for key, item in value.items() if isinstance(item, (Mapping, Record, Opaque)))
        return
    yield from ((f"argument {index}", item) for index, item in enumerate(value.args))
    items = value.items if isinstance(value, Opaque) else []
    yield from ((f"item {index}", item) for index, item in enumerate(items))
    state = value.state
    if isinstance(state, tuple) and state and isinstance(state[0], Mapping):
        state = state[0]
    if isinstance(state, Mapping):
        yield from ((str(key), item) for key, item in state.items())
        modules = state.get("_modules")
        if isinstance(modules, Mapping):
            yield from ((str(key), item) for key, item in modules.items())


def is_state(value: Any) -> bool:
    """Whether a value is a state dict: arrays by name, some of numbered layers, and perhaps numbers beside them."""
    if not isinstance(value, Mapping):
        return False
    arrays = [key for key, item in value.items() if isinstance(item, np.ndarray)]
    nested = any(isinstance(item, (Mapping, list, tuple, Record)) for item in value.values())
    return not nested and any(isinstance(key, str) and _LAYER.fullmatch(key) for key in arrays)


# --- a state dict by the official names


def bare(state: Mapping[str, np.ndarray]) -> State:
    """A state dict by its official names, `model.0.conv.weight`, whatever comes before the number of the layer.

    Entries of no layer, and fewer ones with another prefix, such as those of a loss, are left out. Raises InputError where two
    models share it.
    """
    groups: Dict[str, State] = {}
    for key, value in state.items():
        found = _LAYER.fullmatch(key)
        if found and not key.endswith(_PROFILED):
            groups.setdefault(found[1], {})[f"model.{found[2]}"] = value
    if not groups:
        return dict(state)
    most = max(map(len, groups.values()))
    large = [prefix for prefix, group in groups.items() if 2 * len(group) > most]
    averaged = [prefix for prefix in large if any("ema" in part or part in AVERAGED for part in prefix.split("."))]
    chosen = averaged if len(large) > 1 else large
    if len(chosen) != 1:
        shown = " and ".join(repr(prefix) for prefix in large[:4])
        raise InputError(f"holds several models in one state dict, under the prefixes {shown}; save one of them")
    return unmasked(groups[chosen[0]])


def unmasked(state: State) -> State:
    """A state dict in which what torch.nn.utils.prune split into weights and their mask is one again."""
    found = dict(state)
    for key in state:
        name = key[: -len(_PRUNED)]
        mask = state.get(name + _MASK)
        if key.endswith(_PRUNED) and mask is not None:
            if mask.shape != state[key].shape:
                raise InputError(f"{key} has the shape {state[key].shape} and its mask {mask.shape}")
            del found[key], found[name + _MASK]
            found[name] = state[key] * mask.astype(state[key].dtype)
    return found


# --- the record of a model


def state_of(record: Record) -> Dict[str, Any]:
    return record.state


def children(record: Record) -> Dict[str, Record]:
    modules = state_of(record).get("_modules", {})
    return {key: child for key, child in modules.items() if child is not None}


def names(model: Record, classes: int) -> Tuple[str, ...]:
    """The class names a model brings, one for each class of its head. Raises InputError."""
    given = state_of(model).get("names")
    try:
        found = class_names(given) if given else ()
    except ValueError as error:
        raise InputError(f"it {error}") from None
    entries = given.values() if isinstance(given, Mapping) else given or ()
    if not all(isinstance(name, (str, int, float)) for name in cast(Iterable[Any], entries)):
        raise InputError("it holds class names that are no texts")
    if len(found) != classes:
        stated = f"names {len(found)} classes" if found else "names no classes"
        raise InputError(f"it {stated} but its head scores {classes}; set `model.names` to a list of {classes} names")
    return found
