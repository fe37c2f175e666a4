"""`detparity init`: what a project needs so that its exports are checked in CI and in its tests."""

from __future__ import annotations

import argparse
import importlib
import json
import re
import shlex
import sys
from pathlib import Path
from typing import Any, Dict, List, Tuple

from detparity.cli.options import say
from detparity.core.errors import InputError, clipped
from detparity.core.files import write_text

PYPROJECT = Path("pyproject.toml")
EXPECTATIONS = Path("detparity-expectations.toml")
WORKFLOWS = {"github": Path(".github/workflows/detparity.yml"), "gitlab": Path(".gitlab/detparity.yml")}

GITHUB = """\
# Exports the model and judges the file: a summary, annotations on the pull request, a page and JUnit.
name: detparity
on: [push, pull_request]
permissions:
  contents: read
jobs:
  check:
    runs-on: ubuntu-latest
    steps:
      - uses: actions/checkout@v4
      - uses: actions/setup-python@v5
        with:
          python-version: "3.11"
      # Install here what your export needs, and torch for the CPU first: a plain install brings 5 GB of CUDA.
      - run: python -m pip install {package}
      - run: {export}
      - run: {command} --annotations --markdown "$GITHUB_STEP_SUMMARY" --junit detparity.xml --html detparity.html
      - uses: actions/upload-artifact@v4
        if: always()
        with:
          name: detparity
          path: detparity.*
"""
GITLAB = """\
# Exports the model and judges the file; `include: {{local: /.gitlab/detparity.yml}}` in .gitlab-ci.yml runs it.
detparity:
  image: python:3.11
  script:
    # Install here what your export needs, and torch for the CPU first: a plain install brings 5 GB of CUDA.
    - python -m pip install {package}
    - {export}
    - {command} -v --junit detparity.xml --html detparity.html
  artifacts:
    when: always
    paths: [detparity.html]
    reports:
      junit: detparity.xml
"""
KNOWN = """\
# Known failures of your exporters: what a version of a tool cannot do, so that everything else still fails. None yet.
# docs/expectations.md of detparity has the form of an entry.
format = 2
"""
TEST = '''\
"""The exported file does what the model does."""

from pathlib import Path

import detparity
import pytest

ROOT = Path(__file__).resolve().parents[1]
ARTIFACT = ROOT / {artifact}


@pytest.mark.skipif(not ARTIFACT.is_file(), reason="it is not exported")
def test_the_export_conforms():
    detparity.verify(ARTIFACT, {argument}, known_failures=ROOT / "{expectations}")
'''
TABLE = """\

[tool.detparity]  # options of `detparity check` by their names
artifacts = [{artifact}]
{model}
expectations = "{expectations}"
"""


def add(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--artifact", default="best.onnx", metavar="FILE", help="the export (default %(default)s)")
    model = parser.add_mutually_exclusive_group()
    model.add_argument("--weights", metavar="FILE", help="checkpoint it is judged against (default best.pt)")
    model.add_argument("--model", metavar="SPEC", help="any other model, as `detparity check --model` takes it")
    model.add_argument("--against", metavar="FILE", help="no model: another exported file, or self")
    parser.add_argument(
        "--export", default="python export.py", metavar="COMMAND", help="what exports it in CI (default %(default)r)"
    )
    parser.add_argument("--ci", choices=(*WORKFLOWS, "none"), default="github", help="default %(default)s")
    parser.add_argument("--package", default="detparity[html]", help="what pip installs in CI (default %(default)s)")
    parser.add_argument("--force", action="store_true", help="overwrite files, and the table, that are there")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Exit codes: 0 written, 2 something is there already; then nothing is written."""
    files = _files(options)
    there = [path for path in files if path.exists() and path != PYPROJECT]
    if there and not options.force:
        raise InputError(f"{there[0]} is there already: --force overwrites it")
    for path, text in files.items():
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"cannot write {path}: {error.strerror or error}") from None
        write_text(path, text)
        say(f"{path}: {_about(path)}")
    if PYPROJECT not in files:
        say(f"there is no {PYPROJECT} here: options are in the commands alone")
    say(f"try it:  {' '.join(_command(options, PYPROJECT in files))}")
    return 0


def _files(options: argparse.Namespace) -> Dict[Path, str]:
    """What is written, by path."""
    option, value = _model(options)
    has_table = PYPROJECT.is_file()
    command = " ".join(_command(options, has_table))
    quoted = json.dumps(value)
    argument = {"weights": f"ROOT / {quoted}", "model": quoted}.get(option, f"against={_other(value)}")
    files: Dict[Path, str] = {EXPECTATIONS: KNOWN}
    if options.ci != "none":
        template = GITHUB if options.ci == "github" else GITLAB
        files[WORKFLOWS[options.ci]] = template.format(
            command=command,
            package=shlex.quote(options.package),
            export=_scalar(options.export),
        )
    files[Path("tests/test_detparity.py")] = TEST.format(
        artifact=json.dumps(options.artifact), argument=argument, expectations=EXPECTATIONS
    )
    if has_table:
        table = TABLE.format(
            artifact=json.dumps(options.artifact), model=f"{option} = {json.dumps(value)}", expectations=EXPECTATIONS
        )
        files[PYPROJECT] = _with_table(table, options.force)
    return files


def _scalar(text: str) -> str:
    """A command as a value of YAML."""
    return text if re.fullmatch(r"[\w./][\w ./=+-]*", text) else json.dumps(text)


def _other(value: str) -> str:
    return json.dumps(value) if value == "self" else f"ROOT / {json.dumps(value)}"


def _model(options: argparse.Namespace) -> Tuple[str, str]:
    for option in ("model", "against"):
        if getattr(options, option):
            return option, str(getattr(options, option))
    return "weights", options.weights or "best.pt"


def _command(options: argparse.Namespace, has_table: bool) -> List[str]:
    option, value = _model(options)
    named = [] if has_table else [options.artifact, f"--{option}", value, "--expectations", str(EXPECTATIONS)]
    return ["detparity", "check", *named]


def _with_table(table: str, force: bool) -> str:
    """The text of pyproject.toml with our table at its end. Raises InputError where it has one already, unless forced, and where it
    cannot be read."""
    toml: Any = importlib.import_module("tomllib" if sys.version_info >= (3, 11) else "tomli")
    try:
        text = PYPROJECT.read_text(encoding="utf-8")
        there = "detparity" in toml.loads(text).get("tool", {})
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{PYPROJECT} cannot be read: {clipped(error)}") from None
    if there and not force:
        raise InputError(f"{PYPROJECT} has [tool.detparity] already: --force writes it anew")
    if there:
        text = _without_table(text)
    return text.rstrip("\n") + "\n" + table


def _without_table(text: str) -> str:
    """The text without the lines of [tool.detparity]. Raises InputError where it is written in another form."""
    lines, inside, removed = [], False, False
    for line in text.splitlines():
        if line.lstrip().startswith("["):
            inside = line.split("#")[0].strip() == "[tool.detparity]"
            removed = removed or inside
        if not inside:
            lines.append(line)
    if not removed:
        raise InputError(f"{PYPROJECT} has tool.detparity in another form than a table of its own: edit it by hand")
    return "\n".join(lines)


def _about(path: Path) -> str:
    if path == PYPROJECT:
        return "[tool.detparity], options of `detparity check` and `capture`"
    if path == EXPECTATIONS:
        return "known failures, none yet"
    return "one test" if path.suffix == ".py" else "a job that checks the export"
