"""`[tool.detparity]` of the pyproject.toml in the current folder: options of `check` and `capture` by their names.

The command line overrides them, and one that names a model holds only where the command line names none. `trust` cannot be set there,
since a folder's author is not its user.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any, Dict, Iterator, List, Mapping

from detparity.cli.options import Parser, nearest
from detparity.core.errors import InputError, clipped

FILE = Path("pyproject.toml")
COMMANDS = ("check", "capture")
NAMES = ("weights", "arch", "cfg", "model", "against", "capture")  # each names what a file is judged against
MODEL = (*NAMES, "width", "seed", "model_args", "layout", "condition")
APART = ("help", "trust", "quiet", "verbose", "color")  # decided for each run


def settings() -> Mapping[str, Any]:
    """The table, empty where there is none. Raises InputError for a file that is not TOML, or no table."""
    if not FILE.is_file():
        return {}
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        found = toml.loads(FILE.read_text(encoding="utf-8")).get("tool", {}).get("detparity", {})
    except (OSError, ValueError, RecursionError, AttributeError) as error:
        raise InputError(f"{FILE} cannot be read: {clipped(error)}") from None
    if not isinstance(found, dict):
        raise InputError(f"[tool.detparity] of {FILE} is no table")
    return found


def apply(options: argparse.Namespace, own: Parser, table: Mapping[str, Any]) -> List[str]:
    """Set the options that the command line left out, and return their names. own: the command's parser.

    Raises InputError for a key that no command has, and for a value that its option refuses.
    """
    known = [name[2:] for parser in _parsers() for name in parser.option_names() if name.startswith("--")]
    known = ["artifacts", *(name for name in known if name not in APART)]
    for key in table:
        if key not in known:
            raise InputError(f"[tool.detparity] of {FILE} has no option {key!r}{nearest(key, known)}")
    words = [word for key, value in table.items() if f"--{key}" in own.option_names() for word in _words(key, value)]
    try:
        given, without = vars(own.parse_args(words)), vars(own.parse_args([]))
    except InputError as error:
        raise InputError(f"[tool.detparity] of {FILE}: {error}") from None
    named = any(getattr(options, name) != without[name] for name in NAMES if name in without)
    done = []
    for name, value in given.items():
        left_out = getattr(options, name, None) == without[name]
        if value != without[name] and left_out and not (named and name in MODEL):
            setattr(options, name, value)
            done.append(name.replace("_", "-"))
    if "artifacts" in table and "artifacts" in without and not options.artifacts and not options.exporter:
        options.artifacts = [Path(name) for name in _texts("artifacts", table["artifacts"])]
        done.append("artifacts")
    return done


def additions(given: Mapping[str, Any]) -> Dict[str, Any]:
    """What the table sets of options of `check` that were read elsewhere, by their names; given: those, with `artifacts`."""
    from detparity.cli import check

    table = settings()
    if not table:
        return {}
    parser = Parser()
    check.add(parser)
    options = parser.parse_args([])
    for name, value in given.items():
        setattr(options, name.replace("-", "_"), value)
    return {name: getattr(options, name.replace("-", "_")) for name in apply(options, parser, table) if name in given}


def _parsers() -> Iterator[Parser]:
    """The parsers of the commands that have settings."""
    from detparity.cli import capture, check

    for module in (check, capture):
        parser = Parser()
        module.add(parser)
        yield parser


def _words(key: str, value: Any) -> List[str]:
    """A setting as it is written on the command line."""
    if isinstance(value, bool):
        return [f"--{key}"] if value else []
    if key in ("weights", "exporter"):
        return [word for one in _texts(key, value) for word in (f"--{key}", one)]
    if isinstance(value, list):
        return [f"--{key}", *map(str, value)]
    if isinstance(value, (str, int, float)):
        return [f"--{key}={value}"]
    raise InputError(f"{key} in [tool.detparity] of {FILE} is no text, number, boolean or list")


def _texts(key: str, value: Any) -> List[str]:
    found = [value] if isinstance(value, str) else value
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise InputError(f"{key} in [tool.detparity] of {FILE} is no list of texts")
    return found
