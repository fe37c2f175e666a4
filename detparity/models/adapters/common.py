"""What the adapters share: importing a package, calling a factory, arguments, sizes, and the first run of what was made."""

from __future__ import annotations

import difflib
import importlib
import inspect
import random
import traceback
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Optional, Sequence, Tuple

import numpy as np
import torch

from detparity.artifacts.input_form import CHANNELS, channels_last, in_order, integers, pixels
from detparity.core.errors import InputError
from detparity.inputs import images
from detparity.models import fold
from detparity.models.module_reference import Made, arrays, condition
from detparity.models.reference import ModelRequest, ReferenceFacts, arguments
from detparity.models.user_file import raised

DEFAULT_SIZE = (640, 640)
# What batch-norm is set on: of several kinds, so that no channel is as good as constant over them.
PICTURES = ("natural", "noise", "natural", "low-contrast", "natural", "dark", "natural", "gradient")
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def keywords(request: ModelRequest) -> Dict[str, Any]:
    """Arguments by name alone, as the factories of packages take them. Raises InputError for a list."""
    found = arguments(request)
    if found.positional:
        raise InputError(f"--model-args for {request.spec} is an object of keyword arguments, not a list")
    return dict(found.keywords)


def package(name: str, install: str = "") -> Any:
    """A foreign package. Raises InputError where it is missing or does not import."""
    install = install or name.partition(".")[0]
    try:
        return importlib.import_module(name)
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
            raise InputError(
                f"--model {install}:... needs a package that is not installed: pip install {install}"
            ) from None
        raise InputError(f"the package {install} does not import: {raised(error)}") from None
    except Exception as error:  # a package's own code raises what it likes
        raise InputError(f"the package {install} does not import: {raised(error)}") from None


def called(what: str, factory: Callable[[], Any]) -> Any:
    """What a factory returns. Raises InputError with its error and where that was raised."""
    try:
        return factory()
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # the code of others raises what it likes
        raise InputError(f"{what} raised {raised(error)}{_where(error)}") from None


def _where(error: BaseException) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    own = str(Path(__file__).parent)
    last = next((frame for frame in reversed(frames) if not frame.filename.startswith(own)), None)
    return f" ({Path(last.filename).name}, line {last.lineno})" if last else ""


def unknown(what: str, name: str, known: Iterable[str]) -> InputError:
    """The error of a mistyped name, with the nearest ones."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, 6, 0.5) or names[:6]
    return InputError(f"{what} has no model {name!r}; the nearest names are {', '.join(near)}")


def require_trust(request: ModelRequest, what: str) -> None:
    if not request.trust:
        raise InputError(
            f"{request.spec}: loading {what} executes what is in it; give --trust where you trust who made the file"
        )


def seeded(seed: int) -> None:
    random.seed(seed)
    np.random.seed(seed % (1 << 32))
    torch.manual_seed(seed)


def conditioned(made: Made, seed: int) -> None:
    """Set the statistics of every batch-norm on pictures as the model takes them."""
    if not any(fold.is_norm(part) for part in made.module.modules()):
        return
    shape = in_order(made.facts.shape)
    size = (int(str(shape[-2])), int(str(shape[-1])))
    pictures = np.stack([images.make(kind, size, seed + k) for k, kind in enumerate(PICTURES)])
    batches = [pictures, pictures[:1] if len(shape) == 4 else pictures[0]]
    problem: Optional[Exception] = None
    for batch in batches:  # a norm of single pixels needs several images, a model may take only one
        try:
            return condition(made, prepared(made.facts, batch))
        except Exception as error:  # the model's own code raises what it likes
            problem = error
    raise InputError(f"{made.facts.title} cannot be conditioned: {raised(problem or Exception())}")


def prepared(facts: ReferenceFacts, pictures: np.ndarray) -> torch.Tensor:
    """Pictures, (B, 3, H, W) or (3, H, W) in 0..1, as a model takes them."""
    integral = integers(facts.image)
    found = pixels(pictures, facts.image) if integral else facts.preprocessing.apply(pictures).astype(np.float32)
    last = found.ndim == 4 and channels_last(facts.shape)
    return torch.from_numpy(np.ascontiguousarray(found.transpose(0, 2, 3, 1) if last else found))


def shape(request: ModelRequest, default: Sequence[int] = DEFAULT_SIZE) -> Tuple[int, ...]:
    """(1, 3, height, width) of the example."""
    height, width = request.size or tuple(default)
    return (1, 3, int(height), int(width))


def pair(value: Any, default: Tuple[int, int] = DEFAULT_SIZE) -> Tuple[int, int]:
    """(height, width) of a size given as one number, a pair, or neither."""
    if isinstance(value, (int, float)) and not isinstance(value, bool) and value > 0:
        return int(value), int(value)
    if isinstance(value, (list, tuple)) and value and all(isinstance(side, (int, float)) for side in value):
        return int(value[0]), int(value[-1])
    return default


def require_image(made: Made, request: ModelRequest) -> None:
    """Raise InputError unless the model takes one image of its example's shape and gives tensors."""
    size = made.facts.shape
    axes = [int(str(side)) for side in in_order(size)]
    if len(axes) not in (3, 4) or axes[-3] != CHANNELS:
        raise InputError(
            f"{made.facts.title} takes an input of shape {tuple(size)}, which is no image of three channels; "
            "models with other inputs are not supported"
        )
    several = _several(made)
    if several:
        raise InputError(
            f"{made.facts.title} takes several inputs ({', '.join(several)}); models with other inputs than one image "
            "are not supported"
        )
    given = prepared(made.facts, np.full(axes, 0.5, np.float32))
    try:
        with torch.no_grad():
            found = arrays(made.call(made.module, given))
    except (Exception, SystemExit) as error:
        hint = "" if request.size else "; --img-size gives another size"
        raise InputError(
            f"{made.facts.title} does not run an image of shape {tuple(size)}: {raised(error)}{_where(error)}{hint}"
        ) from None
    if not found:
        raise InputError(f"{made.facts.title} returns no tensor, so there is nothing to compare")


def _several(made: Made) -> List[str]:
    """The inputs of a module that is called with an image alone, where it takes more than that."""
    forward = getattr(made.module, "forward", None)
    if made.call.__name__ != "called" or forward is None or isinstance(made.module, torch.jit.ScriptModule):
        return []
    try:
        parameters = inspect.signature(forward).parameters.values()
    except (TypeError, ValueError):
        return []
    needed = [
        one.name
        for one in parameters
        if one.default is one.empty and one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)
    ]
    return needed if len(needed) > 1 else []
