"""Judges the same files with two revisions of this project and prints where their reports differ.

    python scripts/compare_revisions.py 76dff3b                      # that revision against the working tree
    python scripts/compare_revisions.py 76dff3b --parts commands     # one part alone: exports, shared, defects, commands

Both run with this interpreter, on one thread, one after the other, on the same files: what the exporters make, the real files of
../shared where they are, every planted defect and control, and the commands `diff`, `golden`, `matrix` and unusable input. Compared
are reports, text, stderr and exit codes; seconds, dates and paths are left out, and the renames of `RENAMED` are undone. Exit code 1
where anything else differs.
"""

from __future__ import annotations

import argparse
import difflib
import functools
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

HERE = Path(__file__).resolve().parents[1]
SHARED = HERE.parent / "shared" / "data"
PARTS = ("exports", "shared", "defects", "commands")

# What was renamed on purpose, beside the templates of renamed_messages.tsv: a pattern of the new text, and what it was.
RENAMED: Tuple[Tuple[str, str], ...] = (
    (r"detparity-report-3", "detparity-report-2"),
    (r"known_failure", "debt"),
    (r"known failure", "debt"),
    (r"known debt", "debt"),
    (r"as given, at", "as told, at"),
    (r"\*\*known\*\* a debt, with its reason", "**debt** wrong in a known way, with its reason"),
)
TEMPLATES = Path(__file__).with_name("renamed_messages.tsv")
HOLE = re.compile(r"\\\{[^{}]*\\\}|\{[^{}]*\}|%\([a-z]+\)s")
UNCOMPARED = {
    "seconds",
    "engine_seconds",
    "total_seconds",
    "timings",
    "date",
    "truths_asked",
    "truths_worked_out",
    "isolation",
}

Output = Tuple[int, str, str]


class Tree:
    """One revision: its folder, and the words that start its command."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        module = "detparity.cli.main" if (folder / "detparity" / "cli" / "main.py").is_file() else "detparity.cli"
        self.command = [sys.executable, "-W", "ignore", "-m", module]
        # A file without a model is refused since the open door; before, it was judged against the bundled detector.
        self.bundled = ["--model", "bundled"] if (folder / "detparity" / "checks" / "foreign").is_dir() else []

    def run(self, words: Sequence[str], cwd: Path) -> Output:
        """Run a subcommand; exit code, stdout, stderr."""
        return self._start([*self.command, *words], cwd)

    def python(self, code: str, arguments: Sequence[str], cwd: Path) -> Output:
        return self._start([sys.executable, "-W", "ignore", "-c", code, *arguments], cwd)

    def _start(self, words: List[str], cwd: Path) -> Output:
        variables = {"PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1", "COLUMNS": "100", "PYTHONHASHSEED": "0"}
        done = subprocess.run(
            words, cwd=cwd, env={**os.environ, **variables}, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout, done.stderr


# Writes every planted file of the revision it runs in, with the variant it claims, into the folder of its first argument.
PLANT = """
import importlib, json, sys
from pathlib import Path
folder = Path(sys.argv[1])
try:
    from detparity.kit.tests.defects.registry import registry
    import detparity.kit.exporters as exporters
    from detparity.models.choice import bundled
    from detparity.tools.export_cache import exported
    from detparity.core.environment import environment, holds
except ImportError:
    from detparity import kit
    exporters = kit.exporters()
    registry = importlib.import_module("exporters.broken").registry
    from detparity.session import bundled
    from detparity.exported import exported
    from detparity.facts import environment, holds
detector, found = bundled(), {}
for name, planted in registry().items():
    if not holds(planted.where, environment()):
        continue
    size = planted.size or (256, 320)
    good = exported(detector, planted.variant.name, size, folder, head=planted.variant.head).read_bytes()
    (folder / name).write_bytes(planted.make(detector, exporters.ExportOptions(size), good))
    found[name] = planted.variant.name
(folder / "variants.json").write_text(json.dumps(found))
"""


def plain(value: Any, *folders: Path) -> Any:
    """A report without what may differ from run to run."""
    if isinstance(value, dict):
        return {text_of(key): plain(item, *folders) for key, item in value.items() if key not in UNCOMPARED}
    if isinstance(value, str):
        return text_of(value, *folders)
    return [plain(item, *folders) for item in value] if isinstance(value, list) else value


def text_of(output: str, *folders: Path) -> str:
    """Text without seconds and paths, the documented renames undone."""
    for folder in folders:
        output = output.replace(str(folder), "FOLDER")
    output = re.sub(r"\b\d+\.\d s\b", "N s", output)
    for pattern, before in (*renamed_messages(), *RENAMED):
        output = re.sub(pattern, before, output)
    return re.sub(r"/tmp/[^\s\"']+|detparity-\w{8}", "SCRATCH", output)


@functools.lru_cache(maxsize=1)
def renamed_messages() -> Tuple[Tuple[str, str], ...]:
    """Patterns of messages as they are now, with what they were: a hole of a template stands for any text in one line."""
    found = []
    for line in TEMPLATES.read_text(encoding="utf-8").splitlines():
        _, before, after = line.split("\t")
        before, after = (text.strip("\"'") for text in (before, after))
        holes = len(HOLE.findall(after))
        if holes != len(HOLE.findall(before)) or len(HOLE.sub("", after)) < 8:
            continue
        pattern = r"(.+?)".join(re.escape(part) for part in HOLE.split(after))
        parts = [part.replace("\\", r"\\") for part in HOLE.split(before)]
        found.append(
            (
                pattern,
                "".join(part + (rf"\{number}" if number <= holes else "") for number, part in enumerate(parts, 1)),
            )
        )
    return tuple(found)


def judged(tree: Tree, files: Sequence[str], cwd: Path, *more: str) -> Dict[str, Any]:
    """Exit code, text and report of `check` on these files."""
    report = cwd / f"report-{tree.folder.name}.json"
    report.unlink(missing_ok=True)
    chosen = more if "--weights" in more else (*more, *tree.bundled)
    code, out, err = tree.run(["check", *files, *chosen, "--json", str(report)], cwd)
    found = json.loads(report.read_text()) if report.is_file() else None
    return {
        "code": code,
        "text": text_of(out, tree.folder, cwd),
        "stderr": text_of(err, tree.folder, cwd),
        "report": plain(found),
    }


def exports(trees: Sequence[Tree], scratch: Path) -> Iterator[Tuple[str, List[Any]]]:
    found = [judged(tree, [], scratch) for tree in trees]
    for one in found:
        for entry in one["report"]["artifacts"] if one["report"] else []:
            entry.pop("sha256", None)  # TorchScript holds the paths of the sources that made it
    yield "what the exporters make", found


def shared(trees: Sequence[Tree], scratch: Path) -> Iterator[Tuple[str, List[Any]]]:
    weights = SHARED / "checkpoints" / "yolov7-tiny-torch1.13.pt"
    for path in sorted((SHARED / "artifacts" / "yolov7-tiny").glob("*")) if weights.is_file() else []:
        yield path.name, [judged(tree, [str(path)], scratch, "--weights", str(weights)) for tree in trees]


def defects(trees: Sequence[Tree], scratch: Path) -> Iterator[Tuple[str, List[Any]]]:
    code, _, err = trees[-1].python(PLANT, [str(scratch)], scratch)
    assert code == 0, err
    variants: Mapping[str, str] = json.loads((scratch / "variants.json").read_text())
    for variant in sorted(set(variants.values())):
        names = [name for name, of in variants.items() if of == variant]
        found = [judged(tree, names, scratch, "--variant", variant) for tree in trees]
        for name in names:
            yield name, [_entry(one, name) for one in found]
        yield f"{variant}: the text", [(one["code"], one["text"], one["stderr"]) for one in found]


def _entry(one: Mapping[str, Any], name: str) -> Any:
    entries = one["report"]["artifacts"] if one["report"] else []
    return next((entry for entry in entries if Path(entry["path"]).name == name), None)


def commands(trees: Sequence[Tree], scratch: Path) -> Iterator[Tuple[str, List[Any]]]:
    weights = ["--arch", "yolov7-tiny", "--width", "0.25"]
    made = trees[-1].run(
        ["export", *weights, "--grid", "--img-size", "128", "160", "--output-dir", str(scratch)], scratch
    )
    assert made[0] == 0, made
    onnx = next(scratch.glob("*.onnx"))
    other = scratch / "other.onnx"
    trees[-1].run(
        ["export", *weights, "--seed", "1", "--grid", "--img-size", "128", "160", "--output-dir", str(scratch / ".")],
        scratch,
    )
    second = next(path for path in scratch.glob("*.onnx") if path != onnx)
    second.rename(other)
    (scratch / "empty.onnx").write_bytes(b"")
    (scratch / "cut.onnx").write_bytes(onnx.read_bytes()[:5000])
    (scratch / "text.pt").write_text("not a checkpoint")
    for words in (
        ["diff", onnx.name, onnx.name],
        ["diff", onnx.name, other.name],
        ["golden", "record", onnx.name, *weights, "--name", "x", "--golden", "GOLDEN"],
        ["golden", "check", onnx.name, *weights, "--name", "x", "--golden", "GOLDEN", "--pending", "PENDING"],
        ["golden", "check", other.name, *weights, "--name", "x", "--golden", "GOLDEN", "--pending", "PENDING"],
        ["review", "list", "--golden", "GOLDEN", "--from", "PENDING"],
        ["check", onnx.name, *weights, "--checks", "structure"],
        ["check", other.name, *weights],
        ["check", "missing.onnx"],
        ["check", "empty.onnx"],
        ["check", "cut.onnx"],
        ["check", "text.pt"],
        ["check", onnx.name, "--weights", "text.pt"],
        ["check", onnx.name, "--variant", "nonsense"],
        ["check", onnx.name, "--checks", "nonsense"],
        ["check", onnx.name, "--conf-thres", "7"],
        ["check", "--exporter", "nonsense"],
        ["check", onnx.name, "--nonsense"],
        ["export", "--grid", "--output-dir", "missing"],
        ["matrix", "missing"],
        ["models"],
        ["checks"],
        ["shims"],
    ):
        yield " ".join(words), [_ran(tree, words, scratch) for tree in trees]
    for tree in trees:
        tree.run(
            ["check", onnx.name, *weights, "--checks", "structure", "--json", f"lane-{tree.folder.name}.json"], scratch
        )
    yield "matrix", [_ran(tree, ["matrix", f"lane-{trees[0].folder.name}.json"], scratch) for tree in trees]


def _ran(tree: Tree, words: Sequence[str], scratch: Path) -> Any:
    own = {name: f"{name.lower()}-{tree.folder.name}" for name in ("GOLDEN", "PENDING")}
    code, out, err = tree.run([own.get(word, word) for word in words], scratch)
    for name, folder in own.items():
        out, err = out.replace(folder, name), err.replace(folder, name)
    goldens = {}
    if "record" in words:
        goldens = {path.name: path.read_text() for path in sorted((scratch / own["GOLDEN"]).rglob("*.json"))}
        goldens.pop("INDEX.json")  # it holds the date and the command
    return code, text_of(out, tree.folder, scratch), text_of(err, tree.folder, scratch), goldens


RUN: Mapping[str, Callable[[Sequence[Tree], Path], Iterator[Tuple[str, List[Any]]]]] = {
    "exports": exports,
    "shared": shared,
    "defects": defects,
    "commands": commands,
}


def difference(before: Any, after: Any) -> str:
    """A unified diff of two results."""
    left, right = (
        json.dumps(one, indent=1, sort_keys=True).replace("\\n", "\n").split("\n") for one in (before, after)
    )
    return "\n".join(list(difflib.unified_diff(left, right, "before", "after", lineterm="", n=1))[:60])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("before", help="a revision of this repository")
    parser.add_argument("--parts", default=",".join(PARTS), help="some of %(default)s")
    options = parser.parse_args()
    wrong = compared = 0
    with tempfile.TemporaryDirectory() as folder:
        old = Path(folder) / "before"
        subprocess.run(
            ["git", "worktree", "add", "--quiet", "--detach", str(old), options.before], cwd=HERE, check=True
        )
        try:
            for part in options.parts.split(","):
                scratch = Path(folder) / part
                scratch.mkdir()
                for title, (before, after) in RUN[part]([Tree(old), Tree(HERE)], scratch):
                    compared += 1
                    same = before == after
                    wrong += not same
                    print(f"{'same     ' if same else 'DIFFERENT'} {part}: {title}", flush=True)
                    if not same:
                        print(difference(before, after), flush=True)
        finally:
            subprocess.run(["git", "worktree", "remove", "--force", str(old)], cwd=HERE, check=True)
    print(f"{compared} compared, {wrong} different")
    return 1 if wrong or not compared else 0


if __name__ == "__main__":
    sys.exit(main())
