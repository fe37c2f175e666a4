"""How often `detparity locate` names the module and the node of a drawn fault: docs/locate.md has the figures.

    python scripts/located.py RESULTS.jsonl [--faults 8] [--seeds developing|held-out|all] [--only "PATTERN"]     # resumable
    python scripts/located.py RESULTS.jsonl --table

Six models (`located_models.py`), each exported in several forms, and for each of these so many faults; a pattern is of MODEL / FORM,
such as "yolov7* / dynamo*". A fault is one change to one operator, drawn by its seed: `detparity/artifacts/onnx_mutations.py` for
ONNX, `located_script.py` for TorchScript. Even seeds may be looked at while the search is written, odd ones are held out. A fault that
changes no output beyond the noise of float32 cannot be seen by anything and is counted apart.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import sys
import time
import zlib
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Optional, Sequence, Tuple

import located_models as models
import numpy as np
from located_script import planted

from detparity.artifacts import onnx_graph
from detparity.artifacts.input_form import input_form
from detparity.artifacts.onnx_mutations import mutated, title
from detparity.checks.locating import bundle
from detparity.checks.locating.causes import cause_of
from detparity.checks.locating.program import OnnxProgram, Part
from detparity.checks.locating.reduction import smaller
from detparity.checks.locating.script_program import ScriptProgram
from detparity.checks.locating.search import Fault, Search
from detparity.core.errors import EngineError
from detparity.engines.remote import client

SEEDS = {"developing": (0,), "held-out": (1,), "all": (0, 1)}
ALL, HELD_OUT = "all", "all, held out"


def judged(name: str, form: str, seed: int, folder: Path) -> Dict[str, Any]:
    """Plant one fault, look for it, and say what was found."""
    drawn = zlib.crc32(f"{name} {form}".encode()) % 100_000 * 1000 + seed
    record, program, true = (_script if form == models.SCRIPT else _onnx)(name, form, drawn, folder)
    start = time.monotonic()
    try:
        found = _searched(name, program(), true, folder)
    except Exception as error:  # a fault may make a file that no engine takes: that is seen without a search
        return {
            "model": name,
            "form": form,
            "seed": seed,
            **record,
            "refused": f"{type(error).__name__}: {error}"[:200],
        }
    seconds = round(time.monotonic() - start, 1)
    return {"model": name, "form": form, "seed": seed, **record, **found, "seconds": seconds}


Planted = Tuple[Dict[str, Any], Callable[[], Any], Callable[[Part, Any], bool]]


def _onnx(name: str, form: str, drawn: int, folder: Path) -> Planted:
    """A file with a fault: its record, what opens it, and whether a part of it is what was changed."""
    model = models.exported(name, form, folder)
    content, fault = mutated(model, drawn)
    (changed,) = (node for node in model.graph.node if title(node) == fault.node)
    file = folder / "planted.onnx"
    file.write_bytes(content)

    def program() -> OnnxProgram:
        given = models.model(name).given
        graph = onnx_graph.read(file, client()).graph
        given_as = input_form(graph)
        feed = (
            given_as.feed(given_as.image, given, "ones")
            if given.ndim == 4
            else {given_as.image: given.astype(np.float32)}
        )
        return OnnxProgram(file, graph, given_as.image, feed)

    record = {"kind": fault.kind, "node": fault.node, "about": fault.about, "module": models.module_of(changed)}
    return record, program, lambda part, _: part.title == fault.node


def _script(name: str, form: str, drawn: int, folder: Path) -> Planted:
    script = models.traced(name, folder)
    fault = planted(script, drawn)
    file = folder / "planted.torchscript.pt"
    script.save(str(file))
    record = {"kind": fault.kind, "node": fault.node, "about": fault.about, "module": fault.module}
    given = models.model(name).given
    return record, lambda: ScriptProgram(file, given), lambda part, parts: fault.is_part(part, parts)


def _searched(name: str, program: Any, true: Callable[[Part, Any], bool], folder: Path) -> Dict[str, Any]:
    search = Search(models.trace(name), program)
    found = search.located()
    runs = program.runs
    one = len(found.faults) == 1
    cause = cause_of(search, found.faults[0]) if one else None
    places = [(at.part.title, at.module, [part.title for part in at.parts]) for at in found.faults]
    return {
        "places": places[:10],
        "count": len(places),
        "right": bool(places) and true(found.faults[0].part, program.parts),
        "ends": found.ends,
        "runs": runs,
        "cause": [cause.kind, cause.sentence] if cause else None,
        "bundle": _bundled(search, found.faults[0], folder) if one else None,
    }


def _bundled(search: Search, fault: Fault, folder: Path) -> Optional[Sequence[Any]]:
    """Bytes of a bundle, and whether it shows the fault; None where there is none, as for TorchScript."""
    try:
        part = smaller(bundle.part_of(search, fault))
    except EngineError:
        return None
    return bundle.write(
        folder / "bundle", part, {"module": fault.module, "node": fault.part.title, "file": ""}
    ), part.shows


def hits(record: Mapping[str, Any]) -> Tuple[bool, bool]:
    """Whether the module and the node of a fault were named, alone. A module is named by its own path, or by its block where the
    exporter has made one node of several of its modules."""
    if not record["places"]:
        return False, False
    node, module, _ = record["places"][0]
    true = record["module"]
    near = module == true or _parent(module) == true or _parent(true) == module
    right = record.get("right", node == record["node"])
    return record["count"] == 1 and near, record["count"] == 1 and right


def _parent(path: str) -> str:
    return path.rpartition(".")[0]


def interval(hit: int, of: int, level: float = 0.95) -> Tuple[float, float]:
    """The exact (Clopper-Pearson) interval of a rate."""

    def tail(p: float, low: int, high: int) -> float:
        return sum(math.comb(of, k) * p**k * (1 - p) ** (of - k) for k in range(low, high + 1))

    def root(right: Callable[[float], bool]) -> float:
        low, high = 0.0, 1.0
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if right(middle) else (low, middle)
        return (low + high) / 2

    half = (1 - level) / 2
    lower = 0.0 if hit == 0 else root(lambda p: tail(p, hit, of) < half)
    upper = 1.0 if hit == of else root(lambda p: tail(p, 0, hit) > half)
    return lower, upper


def table(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| faults | planted | module named | node named | not to be seen | refused | inferences |"
    yield "|---|---|---|---|---|---|---|"
    for name in [*models.MODELS, *models.FORMS, ALL, HELD_OUT]:
        rows = [one for one in records if _counts(one, name)]
        if not rows:
            continue
        seen = [one for one in rows if one.get("places") is not None and (one["places"] or not one["ends"])]
        found = [hits(one) for one in seen]
        cells = [_rate(sum(one[k] for one in found), len(found)) for k in (0, 1)]
        silent = sum(one.get("places") == [] and one["ends"] for one in rows)
        refused = sum("refused" in one for one in rows)
        runs = np.median([one["runs"] for one in seen]) if seen else 0
        yield f"| {name} | {len(rows)} | {cells[0]} | {cells[1]} | {silent} | {refused} | {runs:g} |"


def bundles(records: Sequence[Mapping[str, Any]]) -> str:
    found = [one["bundle"] for one in records if one.get("bundle")]
    small = sum(size <= bundle.LARGEST and shows for size, shows in found)
    largest = max((size for size, _ in found), default=0)
    return f"Bundles that show the fault in under 200 kB: {small} of {len(found)}; the largest has {largest / 1000:.0f} kB."


def _counts(record: Mapping[str, Any], name: str) -> bool:
    """Whether a fault belongs to a row of the table."""
    if name in (ALL, HELD_OUT):
        return name == ALL or bool(record["seed"] % 2)
    return name in (record["model"], record["form"])


def _rate(hit: int, of: int) -> str:
    if not of:
        return "none"
    low, high = interval(hit, of)
    return f"{hit} of {of} ({100 * low:.1f} to {100 * high:.1f} %)"


def _read(path: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--faults", type=int, default=8, help="for each model and form")
    parser.add_argument("--seeds", choices=SEEDS, default="all")
    parser.add_argument("--only", default="*", metavar="PATTERN")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print("\n".join([*table(_read(options.results)), "", bundles(_read(options.results))]))
        return
    done = {(one["model"], one["form"], one["seed"]) for one in _read(options.results)}
    for name in models.MODELS:
        for form in models.FORMS:
            for seed in (k for k in range(options.faults) if k % 2 in SEEDS[options.seeds]):
                if fnmatch.fnmatch(f"{name} / {form}", options.only) and (name, form, seed) not in done:
                    record = judged(name, form, seed, options.results.with_suffix(".files"))
                    with options.results.open("a") as stream:
                        stream.write(json.dumps(record) + "\n")
                    print(json.dumps(record)[:400], file=sys.stderr)


if __name__ == "__main__":
    main()
