"""Cases of what the commands read: ONNX files, known failures, goldens, reports. Each ends with a verdict or one line."""

from __future__ import annotations

import contextlib
import functools
import io
import json
import random
import re
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Tuple
from unittest import mock

import onnx
from detparity.kit.tests.fuzz import onnx_changes
from detparity.kit.tests.fuzz.cases import TEXTS, Case, mutated, spoil

from detparity.checks import context, session
from detparity.cli import main as command_line
from detparity.core.vocabulary import parse_variant
from detparity.engines import remote
from detparity.models.yolov7.seeded import seeded
from detparity.tools.export_cache import export_bytes
from detparity.tools.golden.index import canonical, digest

MODEL = ("--arch", "yolov7-tiny", "--width", "0.125")
SIZE = (64, 64)
VARIANTS = ("grid", "grid-dynamic-batch", "end2end-ort", "raw")
SECONDS = 10.0  # for what the child does at one time
GRAPH = {"opset": 12, "ops": {"Conv": 58}}
KNOWN = """format = 2

[[known_failure]]
check = "structure.axes"
artifacts = ["good*.onnx"]
when = { torch = ">=1.7" }
message = "declares axis 2"
reason = "the tool marks every axis as free"
link = "https://example.org/1"
"""
TOML_BITS = (
    "[",
    "[[",
    "{a=",
    "'''",
    '"\\ud800"',
    "9" * 400,
    "1e400",
    "inf",
    "nan",
    "2024-13-45",
    "\x00",
    "a.b.c=1",
    "\n\n[x]\n",
    "(?",
)


@functools.cache
def exported(variant: str) -> bytes:
    return export_bytes(seeded("yolov7-tiny", 0.125, 0), parse_variant(variant), SIZE)


class Ended:
    """How a command ended: its exit code, and what it printed."""

    def __init__(self, *words: object) -> None:
        out, err = io.StringIO(), io.StringIO()
        self.words = [str(word) for word in words]
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            try:
                self.code = command_line.main(self.words)
            except SystemExit as end:
                self.code = int(end.code or 0)
        self.out, self.err = out.getvalue(), err.getvalue()

    def problem(self) -> str:
        """What is wrong with that; empty where nothing is."""
        if self.code not in (0, 1, 2, 3):
            trace = re.search(r"\S+detparity-error-\S+\.txt", self.err)
            return f"exit {self.code}: {self.err}\n{Path(trace[0]).read_text()[-1500:] if trace else ''}"
        if "Traceback" in self.out + self.err or "\x1b" in self.out + self.err:
            return f"a traceback or an escape: {(self.out + self.err)[-500:]}"
        if self.code == 2 and not self.out and (self.err.count("\n") != 1 or len(self.err) > 1500):
            return f"{self.words[0]} refuses with {self.err[:500]!r}"
        return "exit 1 and nothing printed" if self.code == 1 and not self.out.strip() else ""


class Commands:
    """folder: where files are written."""

    def __init__(self, rng: random.Random, folder: Path) -> None:
        self.rng = rng
        self.folder = folder

    def makers(self) -> Mapping[str, Callable[[], Case]]:
        """By the kind of file, what makes a case."""
        return {
            "onnx": self.onnx,
            "toml": self.toml,
            "index": self.index,
            "golden": self.golden,
            "pending": self.pending,
            "report": self.report,
        }

    def _written(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        return path

    def _json(self, name: str, value: Any) -> Path:
        """A JSON file whose value, or whose text, is changed."""
        for _ in range(self.rng.choice((1, 1, 1, 2, 5))):
            spoil(self.rng, value)
        text = json.dumps(value).encode("utf-8", "surrogatepass")
        return self._written(name, mutated(self.rng, text) if self.rng.random() < 0.2 else text)

    def onnx(self) -> Case:
        """One operator, value or number of an exported file changed."""
        model = onnx.load_model_from_string(exported(self.rng.choice(VARIANTS)))
        for _ in range(self.rng.choice((1, 1, 1, 2))):
            onnx_changes.change(self.rng, model)
        path = self._written("changed.onnx", model.SerializeToString())
        return Case("onnx", path, lambda: checked(path, "--quick"))

    def toml(self) -> Case:
        text = KNOWN
        for _ in range(self.rng.choice((1, 1, 2))):
            at = self.rng.randrange(len(text))
            bit = self.rng.choice((*TOML_BITS, *TEXTS))
            text = text[:at] + bit + text[at + self.rng.choice((0, 1, 10)) :]
        path = self._written("known.toml", text.encode("utf-8", "surrogatepass"))
        good = self._written("good.onnx", exported(VARIANTS[0]))
        return Case("toml", path, lambda: checked(good, "--checks", "structure.axes", "--expectations", str(path)))

    def _goldens(self) -> Path:
        """A folder with the goldens of one export."""
        folder = self.folder / "goldens"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self._recorded, folder)
        return folder

    @functools.cached_property
    def _recorded(self) -> Path:
        good = self._written("good.onnx", exported(VARIANTS[0]))
        folder = self.folder / "recorded"
        with warm():
            done = Ended("golden", "record", good, *MODEL, "--name", "good", "--golden", folder)
        if done.code:
            raise AssertionError(done.err)
        return folder

    def index(self) -> Case:
        """INDEX.json changed."""
        folder = self._goldens()
        path = self._json("goldens/INDEX.json", json.loads((folder / "INDEX.json").read_text()))
        words = self.rng.choice((("review", "list"), ("golden", "remove", "graph/good")))
        waits = self.folder / "waits"
        shutil.rmtree(waits, ignore_errors=True)
        self._written("waits/graph/good.json", json.dumps(self._waiting()).encode())
        more = ("--from", waits) if words[0] == "review" else ()
        return Case("index", path, lambda: Ended(*words, "--golden", folder, *more).problem())

    def golden(self) -> Case:
        """A golden changed, and its digest with it."""
        folder = self._goldens()
        file = self.rng.choice(sorted(path for path in folder.rglob("*.json") if path.name != "INDEX.json"))
        content = json.loads(file.read_text())
        path = self._json(str(file.relative_to(self.folder)), content)
        listed = json.loads((folder / "INDEX.json").read_text())
        for entry in listed["goldens"]:
            if folder / entry["file"] == path:
                entry["sha256"] = digest(path.read_text(encoding="utf-8", errors="replace"))
        (folder / "INDEX.json").write_text(canonical(listed))
        good, waits = self._written("good.onnx", exported(VARIANTS[0])), self.folder / "waits"
        words = ("golden", "check", good, *MODEL, "--name", "good", "--golden", folder, "--pending", waits)

        def act() -> str:
            with warm():
                return Ended(*words).problem()

        return Case("golden", path, act)

    def _waiting(self) -> Dict[str, Any]:
        seen: Any = {"pictures": [["scene", 9000]], "size": [64, 64], "tolerance": {"box": 0.1, "score": 0.01}}
        seen["detections"] = [[0, "a", 0.5, 1.0, 2.0, 30.0, 40.0], [0, "b", 0.4, 1.0, 2.0, 30.0, 40.0]]
        texts = {
            "subject": "grid",
            "test": "t",
            "repeat": "pytest",
            "lane": "py311-torch2.13",
            "same": "opset",
            "lost": "",
        }
        return {
            **{"schema": 1, "name": "graph/good", "kind": "graph", "versions": {"torch": "2.13.0"}, "was": None},
            **{"content": dict(GRAPH), "words": ["opset 12 -> 13"], "parity": {"parity.declared": "passed"}},
            **{"seen": {"before": seen, "now": {**seen, "detections": []}}, "drawn": "golden", **texts},
        }

    def pending(self) -> Case:
        """A pending golden changed."""
        folder, waits = self._goldens(), self.folder / "waits"
        shutil.rmtree(waits, ignore_errors=True)
        value = self._waiting()
        index = json.loads((folder / "INDEX.json").read_text())
        value["was"] = next(entry["sha256"] for entry in index["goldens"] if entry["file"] == "graph/good.json")
        path = self._json("waits/graph/good.json", value)
        verb = self.rng.choice(
            (("list",), ("show", "graph/good"), ("accept", "graph/good", "--why", "x"), ("reject", "graph/good"))
        )
        return Case("pending", path, lambda: Ended("review", *verb, "--golden", folder, "--from", waits).problem())

    @functools.cached_property
    def _reports(self) -> List[Any]:
        """A report of a good and a wrong file, and a matrix of it."""
        good = self._written("good.onnx", exported(VARIANTS[0]))
        model = onnx.load_model_from_string(exported(VARIANTS[0]))
        model.graph.output[0].type.tensor_type.shape.dim[2].dim_param = "85"
        wrong = self._written("wrong.onnx", model.SerializeToString())
        report, table = self.folder / "r.json", self.folder / "m.json"
        with warm():
            Ended("check", good, wrong, *MODEL, "--checks", "structure", "--json", report)
        Ended("matrix", report, "--json", table)
        return [json.loads(path.read_text()) for path in (report, table)]

    def report(self) -> Case:
        """A report or a matrix changed, and merged with one that is not."""
        value = self.rng.choice(self._reports)
        plain = self._written("plain.json", json.dumps(value).encode())
        path = self._json("report.json", json.loads(json.dumps(value)))
        pages = self.rng.choice((("--markdown", "m.md"), ("--html", "m.html"), ("--json", "m2.json"), ()))
        words = [self.folder / word if "." in word else word for word in pages]
        both = (path, plain) if self.rng.random() < 0.5 else (path,)
        return Case("report", path, lambda: Ended("matrix", *both, *words).problem())


@contextlib.contextmanager
def warm() -> Iterator[None]:
    """One model and one reference for all runs, and short limits of the child."""
    with contextlib.ExitStack() as stack:
        for name, made in _warm().items():
            stack.enter_context(mock.patch.object(session, name, made))
        for module in (context, remote):
            stack.enter_context(mock.patch.object(module, "LEAST_SECONDS", SECONDS))
        yield


@functools.cache
def _warm() -> Mapping[str, Callable[..., Any]]:
    plain, oracles = session.make_oracle, {}

    def oracle(detector: Any, clock: Any, heads: Tuple[str, ...], cache: Any) -> Any:
        if heads not in oracles:
            oracles[heads] = plain(detector, clock, heads, cache)
        return oracles[heads]

    return {"load_detector": functools.lru_cache(maxsize=None)(session.load_detector), "make_oracle": oracle}


def checked(path: Path, *words: str) -> str:
    """`detparity check` of one file; what is wrong with how it ended."""
    target = path.parent / "checked.json"
    target.unlink() if target.exists() else None
    with warm():
        done = Ended(
            "check",
            path,
            *MODEL,
            *words,
            "--json",
            target,
            "--junit",
            path.parent / "j.xml",
            "--html",
            path.parent / "h.html",
        )
    found = done.problem()
    if found or not target.exists():
        return found
    report = json.loads(target.read_text())
    (entry,) = report["artifacts"]
    broken = [f"{check['id']}: {check['reason']}" for check in entry["checks"] if check["outcome"] == "error"]
    if broken:
        return f"checks that break: {'; '.join(broken)}"
    decisive = [one for check in entry["checks"] for one in check["findings"] if one["level"] == "MUST"]
    return "violates without a finding" if done.code == 1 and not decisive else ""
