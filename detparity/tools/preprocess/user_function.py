"""The user's own preprocessing, called in a child process: FILE.py:FUNC or PKG.MOD:FUNC, of a path or of a picture."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Mapping, Tuple

import numpy as np

from detparity.core import environment
from detparity.core.errors import InputError
from detparity.core.isolate import Child, Died, Limits, Refused
from detparity.core.isolate_messages import Arrays, Handler
from detparity.core.text import printable

PATH, RGB, BGR = TAKES = ("path", "rgb", "bgr")
MEMORY_SHARE, SECONDS = 0.5, 120.0


def tensor_of(spec: str, takes: str, path: Path, picture: np.ndarray) -> np.ndarray:
    """What the function returns for a picture. takes: "path", or the picture (h, w, 3) uint8 as "rgb" or "bgr". Raises InputError."""
    home, _, name = spec.rpartition(":")
    if not home or not name.isidentifier():
        raise InputError(f"--with {spec} is neither FILE.py:FUNC nor PKG.MOD:FUNC")
    home = str(Path(home).absolute()) if home.endswith(".py") else home
    given = {} if takes == PATH else {"picture": np.ascontiguousarray(picture if takes == RGB else picture[:, :, ::-1])}
    child = Child(__name__, Limits(environment.memory_share(MEMORY_SHARE), SECONDS))
    asked = {"home": home, "name": name, "path": str(path.absolute()), "folder": os.getcwd()}
    try:
        return child.request("call", asked, given)[1]["tensor"]
    except Died as died:
        text = f"it ended its process ({died.what})" if died.how == "crash" else f"it {died.what}"
        raise InputError(f"--with {spec}: {printable(text)}") from None
    except Refused as refused:
        raise InputError(f"--with {spec}: {printable(str(refused))}") from None
    finally:
        child.close()


def call(content: Mapping[str, Any], arrays: Arrays) -> Tuple[Any, Arrays]:
    """Import the function, call it, and return its tensor as an array."""
    import sys

    from detparity.models import user_file

    sys.path.insert(0, content["folder"])
    module = user_file.imported(content["home"])
    function = getattr(module, content["name"], None)
    if not callable(function):
        raise InputError(f"it has no function {content['name']}")
    try:
        value = function(arrays["picture"] if "picture" in arrays else content["path"])
    except (Exception, SystemExit) as error:  # the user's code raises what it likes
        line = user_file.line_in(error, str(module.__file__))
        raise InputError(f"it raised {user_file.raised(error)}{f' (line {line})' if line else ''}") from None
    return None, {"tensor": _array(value)}


def _array(value: Any) -> np.ndarray:
    """What was returned as an array: a tensor of any framework that numpy takes, alone or first in a tuple, a list or a dictionary."""
    while isinstance(value, (tuple, list, Mapping)) and len(value):
        value = next(iter(value.values())) if isinstance(value, Mapping) else value[0]
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        value = value.float() if "bfloat16" in str(value.dtype) else value
    found = np.asarray(value)
    if found.dtype.kind not in "fiu":
        raise InputError(f"it returned {type(value).__name__}, not a tensor of numbers")
    return found


HANDLERS: Mapping[str, Handler] = {"call": call}
