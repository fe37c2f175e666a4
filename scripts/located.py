"""How often `detparity locate` names the module and the node of a drawn fault: docs/locate.md has the figures.

    python scripts/located.py RESULTS.jsonl [--faults 40] [--seeds developing|held-out|all] [--only PATTERN]     # resumable
    python scripts/located.py RESULTS.jsonl --table

Every model is exported under the names of its own exporter; each fault is one change to one node, drawn by its seed
(`detparity/artifacts/onnx_mutations.py`). Even seeds were looked at while the search was written, odd ones are held out. A fault that
changes no output beyond the noise of float32 cannot be seen by anything and is counted apart.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np
import onnx

from detparity.artifacts import onnx_graph
from detparity.artifacts.input_form import input_form
from detparity.artifacts.onnx_mutations import mutated
from detparity.checks.locating.causes import cause_of
from detparity.checks.locating.program import OnnxProgram
from detparity.checks.locating.search import Search
from detparity.core.trace import Trace
from detparity.engines.remote import client
from detparity.inputs import images

SEEDS = {"developing": (0,), "held-out": (1,), "all": (0, 1)}
SIZE = (128, 160)
HELD_OUT = "all, held out"
Made = Tuple[onnx.ModelProto, Trace, np.ndarray]


def home(name: str, variant: str, simplify: Any = None) -> Made:
    """A model of the home family, at a quarter of its width."""
    from detparity.core.vocabulary import parse_variant
    from detparity.models.choice import ModelChoice, load_detector
    from detparity.models.yolov7.recorded import trace
    from detparity.tools.export_cache import export_bytes

    detector = load_detector(ModelChoice(arch=name, width=0.25))
    pictures = images.batch_of([("natural", 0)], SIZE)
    content = export_bytes(detector, parse_variant(variant), SIZE, simplify=simplify)
    return onnx.load_from_string(content), trace(detector, pictures), pictures


def foreign(spec: str, simplify: bool = False, folded: bool = True) -> Made:
    """A model of a package, by torch's own exporter."""
    import io

    import torch

    from detparity.models.adapters import make
    from detparity.models.module_reference import ModuleReference
    from detparity.models.reference import ModelRequest

    made = make(ModelRequest(spec, None, 0, SIZE, True))
    pictures = images.batch_of([("natural", 0)], SIZE)
    given = made.facts.preprocessing.apply(pictures)
    given = given if len(made.facts.shape) == 4 else given[0]
    example: Any = torch.from_numpy(given.copy())
    example = [example] if len(made.facts.shape) == 3 else example
    buffer = io.BytesIO()
    keywords: Dict[str, Any] = {"dynamo": False} if torch.__version__ >= "2.5" else {}
    torch.onnx.export(made.module, (example,), buffer, opset_version=17, do_constant_folding=folded, **keywords)
    model = onnx.load_from_string(buffer.getvalue())
    if simplify:
        import onnxslim

        model = onnxslim.slim(model)
    return model, ModuleReference(made).trace(given), given


MODELS: Mapping[str, Callable[[], Made]] = {
    "yolov7-tiny grid": lambda: home("yolov7-tiny", "grid-dynamic"),
    "yolov7-tiny raw, simplified": lambda: home("yolov7-tiny", "raw", "onnxslim"),
    "yolov7 grid": lambda: home("yolov7", "grid"),
    "yolov8n": lambda: foreign("ultralytics:yolov8n.yaml"),
    "yolov8n, simplified": lambda: foreign("ultralytics:yolov8n.yaml", simplify=True),
    "rtdetr-r18": lambda: foreign("libreyolo:rtdetr-r18"),
    "ssdlite320": lambda: foreign("torchvision:ssdlite320_mobilenet_v3_large"),
}


def _inferred(made: Made) -> Made:
    """With the shapes of inner tensors, which some changes need."""
    return onnx.shape_inference.infer_shapes(made[0]), made[1], made[2]


def judged(made: Made, seed: int, file: Path) -> Dict[str, Any]:
    """Plant one fault, look for it, and say what was found."""
    model, trace, given = made
    content, fault = mutated(model, seed)
    file.write_bytes(content)
    start = time.monotonic()
    graph = onnx_graph.read(file, client()).graph
    form = input_form(graph)
    feed = form.feed(form.image, given, "ones") if given.ndim == 4 else {form.image: given.astype(np.float32)}
    record: Dict[str, Any] = {"seed": seed, "kind": fault.kind, "node": fault.node, "about": fault.about}
    try:
        program = OnnxProgram(file, graph, form.image, feed)
        search = Search(trace, program)
        found = search.located()
        runs = program.runs
        cause = cause_of(search, found.places[0]) if len(found.places) == 1 else None
    except Exception as error:  # a fault may make a file that no engine takes: that is seen without a search
        return {**record, "refused": f"{type(error).__name__}: {error}"[:200]}
    places = [(place.part.title, place.module, [one.title for one in place.parts]) for place in found.places]
    return {
        **record,
        "places": places[:10],
        "count": len(places),
        "ends": found.ends,
        "runs": runs,
        "cause": [cause.kind, cause.sentence] if cause else None,
        "seconds": round(time.monotonic() - start, 1),
    }


def module_of(node: str) -> str:
    """The module that torch's exporter named a node by. In a list of modules it repeats the path of what holds them."""
    found: List[str] = []
    for part in node.strip("/").split("/")[:-1]:
        if found and part.startswith(f"{found[-1]}."):
            found.pop()
        found.append(part)
    return ".".join(found)


def hits(record: Mapping[str, Any]) -> Tuple[bool, bool]:
    """Whether the module and the node of a fault were named, alone. A module is named by its own path, or by its block where the
    exporter has made one node of several of its modules."""
    if not record["places"]:
        return False, False
    node, module, _ = record["places"][0]
    true = module_of(record["node"])
    near = module == true or _parent(module) == true or _parent(true) == module
    return record["count"] == 1 and near, record["count"] == 1 and node == record["node"]


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
    yield "| model | faults | module named | node named | not to be seen | refused | inferences |"
    yield "|---|---|---|---|---|---|---|"
    names = [name for name in MODELS if any(one["model"] == name for one in records)]
    for name in [*names, "all", HELD_OUT]:
        rows = [one for one in records if _counts(one, name)]
        seen = [one for one in rows if one.get("places") is not None and (one["places"] or not one["ends"])]
        found = [hits(one) for one in seen]
        cells = [_rate(sum(one[k] for one in found), len(found)) for k in (0, 1)]
        silent = sum(one.get("places") == [] and one["ends"] for one in rows)
        refused = sum("refused" in one for one in rows)
        runs = np.median([one["runs"] for one in seen]) if seen else 0
        yield f"| {name} | {len(rows)} | {cells[0]} | {cells[1]} | {silent} | {refused} | {runs:g} |"


def _counts(record: Mapping[str, Any], name: str) -> bool:
    """Whether a fault belongs to a row of the table."""
    return record["model"] == name or name == "all" or (name == HELD_OUT and bool(record["seed"] % 2))


def _rate(hit: int, of: int) -> str:
    if not of:
        return "none"
    low, high = interval(hit, of)
    return f"{hit} of {of} ({100 * low:.0f} to {100 * high:.0f} %)"


def _read(path: Path) -> List[Dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--faults", type=int, default=40, help="for each model")
    parser.add_argument("--seeds", choices=SEEDS, default="all")
    parser.add_argument("--only", default="*")
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    if options.table:
        print("\n".join(table(_read(options.results))))
        return
    done = {(one["model"], one["seed"]) for one in _read(options.results)}
    file = options.results.with_suffix(".onnx")
    for name in fnmatch.filter(MODELS, options.only):
        left = [k for k in range(options.faults) if k % 2 in SEEDS[options.seeds] and (name, k) not in done]
        made = _inferred(MODELS[name]()) if left else None
        for seed in left:
            assert made is not None
            record = {"model": name, **judged(made, seed, file)}
            with options.results.open("a") as stream:
                stream.write(json.dumps(record) + "\n")
            print(json.dumps(record)[:400], file=sys.stderr)


if __name__ == "__main__":
    main()
