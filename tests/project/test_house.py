"""What no linter holds: packages that import nothing they need not, and the few modules that import ours by name.

Who may import whom is in `[tool.importlinter]` of pyproject.toml, and `tox -e lint` holds it.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from detparity.core import resources

FRAMEWORKS = {"torch", "onnx", "onnxruntime", "hypothesis"}
# Modules that import others of this package by name, and how often: registries, whose arrows import-linter cannot see.
BY_NAME = {
    "detparity/models/adapters/__init__.py": 1,
    "detparity/engines/__init__.py": 1,
    "detparity/models/compat/shims.py": 1,
    "detparity/cli/main.py": 1,
    "detparity/core/isolate_child.py": 1,
}


def _sources():
    return sorted(path for path in (resources.root() / "detparity").rglob("*.py") if "_kit" not in path.parts)


def _imported(code):
    code += f"\nimport sys; print(sorted(({FRAMEWORKS!r} | {{'pytest'}}) & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.mark.smoke
@pytest.mark.parametrize("module", ["detparity", "detparity.kit", "detparity.cli.main", "detparity.core.isolate"])
def test_importing_it_imports_no_framework(module):
    assert _imported(f"import {module}") == "[]"


def test_the_plugin_imports_pytest_alone():
    assert _imported("import detparity.cli.pytest_plugin") == "['pytest']"


def test_our_modules_are_imported_by_name_in_registries_alone():
    found = {}
    for path in _sources():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "importlib.import_module":
                target = node.args[0]
                foreign = isinstance(target, ast.Constant) and not str(target.value).startswith("detparity")
                if not foreign and "tomllib" not in ast.unparse(target) and ast.unparse(target) != "name":
                    name = path.relative_to(resources.root()).as_posix()
                    found[name] = found.get(name, 0) + 1

    assert found == BY_NAME


def test_no_file_is_longer_than_450_lines():
    """Those that are give their reason in their first lines."""
    long = [path for path in _sources() if len(path.read_text(encoding="utf-8").splitlines()) > 450]

    assert [path.name for path in long if "longer than" not in path.read_text(encoding="utf-8")[:1500]] == []


def test_only_the_package_is_importable_from_the_wheel():
    """What comes beside it in a clone is reached through `detparity.kit`, one module in a clone and in a wheel."""
    import detparity.kit.exporters as exporters

    assert exporters.__name__ == "detparity.kit.exporters"
    assert not [
        name for name in ("exporters", "suites", "golden", "conftest") if str(resources.root()) in _origin(name)
    ]


def test_nothing_counts_on_the_clone_being_on_the_path():
    """In a wheel the folders beside the package are modules of `detparity.kit` alone."""
    wrong = [
        f"{path.relative_to(resources.root())}:{node.lineno}"
        for folder in ("detparity", "exporters", "suites")
        for path in sorted((resources.root() / folder).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, (ast.Import, ast.ImportFrom)) and _top(node) in ("exporters", "suites", "tests", "golden")
    ]

    assert wrong == []


def _top(node):
    if isinstance(node, ast.Import):
        return node.names[0].name.split(".")[0]
    return "" if node.level else str(node.module).split(".")[0]


def _origin(name):
    module = sys.modules.get(name)
    return (
        str(Path(getattr(module, "__file__", None) or ""))
        if module is not None and "detparity.kit" in str(module)
        else ""
    )
