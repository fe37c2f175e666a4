"""Who may import what. The rules stand here once; docs/architecture.md points at them."""

from __future__ import annotations

import ast
import functools
import os
import subprocess
import sys
from pathlib import Path
from typing import Dict, Iterator, Set

import pytest

import detparity
from detparity.core import resources

pytestmark = pytest.mark.smoke

PACKAGE = Path(detparity.__file__).resolve().parent
KIT = resources.root()

# A framework, and the only modules of the package that may import it (a folder stands for all it holds).
ALLOWED: Dict[str, Set[str]] = {
    "torch": {
        "detectors",
        "compat",
        "engines/eager.py",
        "engines/torchscript.py",
        "engines/torchgraph.py",
        "engines/power.py",
        "engines/tensorrt.py",
        "engines/torchscript_doctor.py",
        "engines/torchscript_standin.py",
        "engines/user_model.py",
    },
    "onnxruntime": {"engines"},
    "onnx": {"graph.py", "engines/reference.py", "compat"},
    "hypothesis": {"strategies"},
    "pytest": {"plugin.py", "checking.py"},
    "PIL": {"golden/picture.py"},
    "jinja2": {"report/html.py"},
}
PLAIN = (
    *("contract.py", "subject.py", "findings.py", "failures.py", "facts.py", "errors.py", "files.py", "images.py"),
    *("bytecode.py", "scenes.py", "reading.py", "sketches.py", "spelling.py", "tensors.py"),
    *("golden/index.py", "golden/changes.py", "golden/pending.py", "golden/review.py"),
)
PLAIN_ROOMS = ("oracle/", "doctor/")
PLAIN_PACKAGES = {"numpy", "detparity", "packaging"}  # packaging: the comparison of versions that PEP 440 lays down
# Python names its own modules from 3.10 on; before, what stands outside site-packages.
STANDARD: Set[str] = set(getattr(sys, "stdlib_module_names", ())) or {
    *sys.builtin_module_names,
    *(
        path.name.split(".")[0]
        for folder in ("", "lib-dynload")
        for path in Path(os.__file__).parent.joinpath(folder).iterdir()
    ),
}


def _modules() -> Iterator[Path]:
    for path in sorted(PACKAGE.rglob("*.py")):
        if "_kit" not in path.parts:
            yield path


@functools.cache
def _imports(path: Path) -> Set[str]:
    """Top-level names of everything a file imports, wherever in the file, type-checking blocks left out."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    hidden = {
        inner
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found: Set[str] = set()
    for node in ast.walk(tree):
        if node in hidden:
            continue
        if isinstance(node, ast.Import):
            found.update(alias.name.split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def _name(path: Path) -> str:
    return path.relative_to(PACKAGE).as_posix()


@pytest.mark.parametrize("framework", sorted(ALLOWED))
def test_frameworks_stay_in_their_rooms(framework):
    wrong = [
        _name(path)
        for path in _modules()
        if framework in _imports(path)
        and not any(_name(path) == place or _name(path).startswith(place + "/") for place in ALLOWED[framework])
    ]

    assert wrong == [], f"{framework} may be imported only by {sorted(ALLOWED[framework])}"


def test_plain_rooms_use_the_standard_library_and_numpy_alone():
    plain = [path for path in _modules() if _name(path) in PLAIN or _name(path).startswith(PLAIN_ROOMS)]
    wrong = {_name(path): sorted(_imports(path) - PLAIN_PACKAGES - set(STANDARD)) for path in plain}

    assert {name: extra for name, extra in wrong.items() if extra} == {}


def test_the_library_imports_no_kit():
    assert [_name(path) for path in _modules() if _imports(path) & {"exporters", "suites", "golden", "conftest"}] == []


def test_suites_import_neither_exporters_nor_each_other():
    wrong = [
        path.relative_to(KIT).as_posix()
        for path in sorted((KIT / "suites").rglob("*.py"))
        if "meta" not in path.parts and _imports(path) & {"exporters", "suites"}
    ]

    assert wrong == []


def test_importing_the_package_imports_no_framework():
    code = "import detparity, sys; print(sorted({'torch', 'onnx', 'onnxruntime', 'pytest', 'hypothesis'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


def test_no_module_imports_itself_in_a_circle():
    """Import-time imports only: those inside functions run after both modules are there."""
    edges: Dict[str, Set[str]] = {}
    known = {("detparity." + _name(p)[:-3].replace("/", ".")).replace(".__init__", ""): p for p in _modules()}
    for name, path in known.items():
        found: Set[str] = set()
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ImportFrom) and node.module:
                found.update({node.module, *(f"{node.module}.{alias.name}" for alias in node.names)} & set(known))
        edges[name] = found - {name}
    state: Dict[str, int] = {}

    def visit(name: str, trail: tuple[str, ...]) -> None:
        assert state.get(name) != 1, " -> ".join([*trail, name])
        if state.get(name) is None:
            state[name] = 1
            for other in sorted(edges[name]):
                visit(other, (*trail, name))
            state[name] = 2

    for name in sorted(edges):
        visit(name, ())
