"""What a project needs in CI: written once, parsed by those who read it, with options that exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from detparity.checks.known_failures import read
from detparity.cli import check, main, project
from detparity.cli.options import Parser
from detparity.core import resources
from detparity.core.errors import InputError

ROOT = resources.root()


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _options(command):
    parser = Parser()
    check.add(parser)
    return parser.parse_args(shlex.split(command.partition("detparity check")[2]))


def _runs(text):
    return [
        line.strip()
        for line in text.splitlines()
        if ("detparity check" in line and "run:" in line) or "- detparity" in line
    ]


@pytest.mark.parametrize(
    "ci, path", [("github", ".github/workflows/detparity.yml"), ("gitlab", ".gitlab/detparity.yml")]
)
def test_init_writes_what_can_be_read(folder, capsys, ci, path):
    yaml = pytest.importorskip("yaml")
    (folder / "pyproject.toml").write_text('[project]\nname = "x"\n')

    assert (
        main.main(["init", "--artifact", "out/b.onnx", "--weights", "b.pt", "--ci", ci, "--export", "make 'x: y'"]) == 0
    )
    out = capsys.readouterr().out
    for name in (path, "tests/test_detparity.py", "detparity-expectations.toml", "pyproject.toml"):
        assert (folder / name).is_file() and f"{name}: " in out
    assert read(Path("detparity-expectations.toml")) == ()
    compile((folder / "tests/test_detparity.py").read_text(), "test", "exec")
    assert project.settings() == {
        "artifacts": ["out/b.onnx"],
        "weights": "b.pt",
        "expectations": "detparity-expectations.toml",
    }
    written = yaml.safe_load((folder / path).read_text())
    assert "make 'x: y'" in str(written).replace('"', "")
    (command,) = _runs((folder / path).read_text())
    assert _options(command).junit == Path("detparity.xml")


@pytest.mark.parametrize("ci, schema", [("github", "github-workflows"), ("gitlab", "gitlab-ci")])
def test_what_init_writes_fits_the_schema_of_its_service(folder, ci, schema):
    validate = pytest.importorskip("check_jsonschema").main
    assert main.main(["init", "--ci", ci, "--artifact", "out/best.onnx"]) == 0
    (path,) = folder.rglob("detparity.yml")

    with pytest.raises(SystemExit) as ended:
        validate(["--builtin-schema", f"vendor.{schema}", str(path)])
    assert ended.value.code == 0


@pytest.mark.more
def test_pre_commit_runs_the_hook_on_what_is_committed(folder, monkeypatch):
    """A file cut short fails, by the hook as another project gets it from this repository."""
    pytest.importorskip("pre_commit")
    if not (ROOT / ".git").is_dir() or shutil.which("git") is None:
        pytest.skip("needs git and a clone")
    tool = folder / "bin" / "detparity"
    tool.parent.mkdir()
    tool.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m detparity.cli.main "$@"\n')
    tool.chmod(0o755)
    repository = folder / "repository"
    repository.mkdir()
    (repository / "best.onnx").write_bytes(b"\x08\x07\x12\x07pytorch:\xff\xff\xff\x7f")
    for name, value in {
        "PATH": f"{tool.parent}{os.pathsep}{os.environ['PATH']}",
        "PRE_COMMIT_HOME": str(folder / "home"),
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(repository)
    for words in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *words], check=True)
    words = [sys.executable, "-m", "pre_commit", "try-repo", str(ROOT), "detparity-check", "--all-files"]
    done = subprocess.run(words, capture_output=True, text=True)

    assert done.returncode == 1 and "hook id: detparity-check" in done.stdout, done.stdout + done.stderr
    assert "exit code: 2" in done.stdout and "best.onnx: unusable" in done.stdout


def test_init_overwrites_nothing_unless_forced(folder, capsys):
    (folder / "pyproject.toml").write_text('[project]\nname = "x"\n')
    assert main.main(["init"]) == 0
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    assert main.main(["init", "--artifact", "other.onnx"]) == 2
    assert "already" in capsys.readouterr().err
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before

    assert main.main(["init", "--artifact", "other.onnx", "--force"]) == 0
    assert project.settings()["artifacts"] == ["other.onnx"]
    assert (folder / "pyproject.toml").read_text().count("[tool.detparity]") == 1
    assert 'name = "x"' in (folder / "pyproject.toml").read_text()


def test_without_a_pyproject_the_command_has_the_options(folder, capsys):
    assert main.main(["init", "--against", "self", "--ci", "none"]) == 0

    assert (
        "detparity check best.onnx --against self --expectations detparity-expectations.toml" in capsys.readouterr().out
    )
    assert not (folder / "pyproject.toml").exists() and not (folder / ".github").exists()


SETTINGS = """
[tool.detparity]
artifacts = ["best.onnx"]
weights = ["a.pt", "b.pt"]
img-size = [64, 96]
strict = true
conf-thres = 0.3
"""


def _parsed(folder, *words, text=SETTINGS):
    (folder / "pyproject.toml").write_text(text)
    return main._parsed(["check", *words])


def test_settings_are_options_that_the_command_line_overrides(folder, capsys):
    found = _parsed(folder)
    assert (found.strict, found.img_size, found.conf_thres) == (True, [64, 96], 0.3)
    assert found.weights == [Path("a.pt"), Path("b.pt")] and found.artifacts == [Path("best.onnx")]
    assert "pyproject.toml sets weights, img-size, conf-thres, strict, artifacts" in capsys.readouterr().err

    other = _parsed(folder, "x.onnx", "--against", "self", "--conf-thres", "0.5")
    assert other.weights == [] and other.artifacts == [Path("x.onnx")] and other.conf_thres == 0.5 and other.strict
    assert _parsed(folder, "--exporter", "grid").artifacts == []
    assert main._parsed(["capture", "--", "python", "x.py"]).strict


@pytest.mark.parametrize(
    "line, text",
    [
        ("strct = true", "no option 'strct'; did you mean strict?"),
        ("trust = true", "no option 'trust'"),
        ('img-size = ["x"]', "invalid int value"),
        ("weights = 3", "no list of texts"),
        ("checks = {a = 1}", "no text, number, boolean or list"),
        ("strict = ", "cannot be read"),
    ],
)
def test_settings_that_cannot_be_used_are_one_line(folder, line, text):
    with pytest.raises(InputError, match=re.escape(text)):
        _parsed(folder, text=f"[tool.detparity]\n{line}\n")


def test_templates_are_read_and_use_options_that_exist():
    yaml = pytest.importorskip("yaml")
    if not (ROOT / ".github").is_dir():
        pytest.skip("an installed kit has no CI folders")
    action = yaml.safe_load((ROOT / ".github/actions/check/action.yml").read_text())
    template = yaml.safe_load((ROOT / ".ci/check.gitlab-ci.yml").read_text())[".detparity-check"]
    (hook,) = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())
    runs = "\n".join(step["run"] for step in action["runs"]["steps"]).replace("\\\n", " ")

    assert "${{" not in runs  # inputs are no text of the script
    line = next(line for line in runs.splitlines() if line.startswith("detparity check"))
    assert _options(line.partition("||")[0]).annotations
    assert _options(template["script"][-1].replace("$DETPARITY_ARTIFACTS $DETPARITY_OPTIONS", "a.onnx")).verbose
    assert _options(" ".join([hook["entry"], *hook["args"], "a.onnx"])).against == "self"
    assert re.search(hook["files"], "out/best.onnx") and not re.search(hook["files"], "best.pt")


def test_completion_of_every_subcommand(capsys):
    pytest.importorskip("shtab")

    assert main.main(["completion", "bash"]) == 0
    out = capsys.readouterr().out
    assert all(name in out for name in main.SUBCOMMANDS) and "--against" in out


def test_completion_without_its_package_is_one_line(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)

    assert main.main(["completion", "bash"]) == 2
    assert "pip install 'detparity[completion]'" in capsys.readouterr().err
