"""How often `detparity locate` names the cause of a drawn fault, and whether it ever names another: docs/locate.md has the figures.

    python scripts/caused.py RESULTS.jsonl [--cases 400]     # resumable
    python scripts/caused.py RESULTS.jsonl --table

One small network of every kind of operator, exported once; each case plants one fault of a known kind at a place drawn by its seed.
Kinds alternate. Seeds below 300 were looked at while causes were written, those from 300 on are held out.
"""

from __future__ import annotations

import argparse
import io
import json
import random
import warnings
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Mapping, Sequence, Tuple

import numpy as np
import onnx
import torch
from located import interval
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from detparity.artifacts import onnx_graph, onnx_mutations
from detparity.checks.locating.causes import cause_of
from detparity.checks.locating.program import OnnxProgram
from detparity.checks.locating.search import Search
from detparity.core.trace import Trace
from detparity.engines.remote import client
from detparity.inputs import images
from detparity.models.module_reference import Made, ModuleReference
from detparity.models.reference import ReferenceFacts

SIZE, BATCH = (64, 96), 2
HELD_OUT = 300  # the first seed of those that are


class Host(nn.Module):
    """Two images to boxes and scores."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 12, 3, 2, 1, bias=False), nn.BatchNorm2d(12), nn.SiLU())
        self.one = nn.Sequential(nn.Conv2d(12, 12, 3, 1, 1, bias=False), nn.BatchNorm2d(12, 1e-3), nn.LeakyReLU(0.1))
        self.two = nn.Sequential(nn.Conv2d(12, 12, 3, 2, 1), nn.Hardswish(), nn.MaxPool2d(3, 1, 1))
        self.three = nn.Sequential(
            nn.Conv2d(12, 12, 3, 1, 1), nn.GELU(), nn.AvgPool2d(3, 2, 1, count_include_pad=False)
        )
        self.deep = nn.Sequential(nn.Conv2d(12, 12, 3, 1, 1), nn.InstanceNorm2d(12), nn.ReLU())
        self.up, self.smooth = nn.Upsample(scale_factor=2), nn.Upsample(scale_factor=2, mode="bilinear")
        self.gate, self.mix = nn.Conv2d(12, 12, 1), nn.Conv2d(24, 12, 1)
        self.boxes, self.scores = nn.Conv2d(12, 4, 1), nn.Conv2d(12, 5, 1)

    def forward(self, x: Tensor) -> Tuple[Tensor, Tensor]:
        x = self.stem(x)
        x = self.two(x + self.one(x))
        y = self.deep(self.three(x))
        y = torch.cat([self.up(y), self.smooth(y)], 1)
        y = self.mix(torch.cat([self.mix(y), x * self.gate(x).sigmoid()], 1))
        boxes = self.boxes(y).flatten(2).transpose(1, 2).sigmoid() * 2.0 - 0.5
        return boxes * 8.0, self.scores(y).flatten(2).transpose(1, 2).softmax(-1)


Host_ = Tuple[onnx.ModelProto, Trace, np.ndarray]


def host() -> Host_:
    torch.manual_seed(4)
    module = Host().train()
    pictures = images.batch_of([("natural", 0), ("natural", 1)], SIZE)
    with torch.no_grad():
        for _ in range(40):
            module(torch.from_numpy(np.concatenate([pictures, 1 - pictures])))
    module.eval()
    buffer: Any = io.BytesIO()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        torch.onnx.export(module, (torch.from_numpy(pictures),), buffer, opset_version=17, dynamo=False)
    model = onnx.shape_inference.infer_shapes(onnx.load_from_string(buffer.getvalue()))
    reference = ModuleReference(Made(module, ReferenceFacts("host", "", (BATCH, 3, *SIZE), ())))
    return model, reference.trace(pictures), pictures


# --- what is planted


class Site:
    """A copy of the model that is changed at one place."""

    def __init__(self, model: onnx.ModelProto, rng: random.Random) -> None:
        self.model, self.rng = onnx.ModelProto(), rng
        self.model.CopyFrom(model)
        self.graph = self.model.graph
        values = [*self.graph.value_info, *self.graph.input, *self.graph.output]
        self.shapes = {one.name: [dim.dim_value for dim in one.type.tensor_type.shape.dim] for one in values}
        self.image = self.graph.input[0].name

    def constant(self, value: Any) -> str:
        name = f"planted constant {len(self.graph.initializer)}"
        self.graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def behind(self, tensor: str, make: Callable[[Callable[..., str], str], str]) -> None:
        """Whatever reads a tensor reads what `make` makes of it."""
        made: List[onnx.NodeProto] = []

        def op(kind: str, *inputs: str, **attributes: Any) -> str:
            made.append(
                helper.make_node(
                    kind, inputs, [f"planted {len(made)}"], name=f"planted {kind} {len(made)}", **attributes
                )
            )
            return made[-1].output[0]

        nodes = list(self.graph.node)
        at = next((k for k, node in enumerate(nodes) if tensor in node.output), -1)
        outputs = [one.name for one in self.graph.output]
        source = f"{tensor} before" if tensor in outputs else tensor
        last = make(op, source)
        for node in nodes:
            node.input[:] = [last if name == tensor and tensor not in outputs else name for name in node.input]
        if tensor in outputs:
            nodes[at].output[:] = [source if name == tensor else name for name in nodes[at].output]
            made[-1].output[0] = tensor
        del self.graph.node[:]
        self.graph.node.extend([*nodes[: at + 1], *made, *nodes[at + 1 :]])

    def inner(self, rank: int = 4) -> str:
        """A drawn inner tensor of so many axes, of several rows and columns, that one operator with weights gives."""
        found = [
            node.output[0]
            for node in self.graph.node
            if node.op_type in ("Conv", "Mul", "Add", "Concat", "LeakyRelu")
            and len(self.shapes.get(node.output[0], ())) == rank
        ]
        return self.rng.choice([name for name in found if min(self.shapes[name]) > 1])

    def node(self, *kinds: str) -> onnx.NodeProto:
        return self.rng.choice([node for node in self.graph.node if node.op_type in kinds])


Plant = Callable[[Site], None]


def inserted(make: Callable[[Site, Callable[..., str], str], str], where: str = "inner") -> Plant:
    """An operator behind a drawn tensor, behind the image, or behind the boxes."""

    def plant(site: Site) -> None:
        boxes = site.graph.output[0].name
        tensor = {"inner": site.inner, "image": lambda: site.image, "boxes": lambda: boxes}[where]()
        site.behind(tensor, lambda op, x: make(site, op, x))

    return plant


def gathered(axis: int, order: Callable[[Site, int], Sequence[int]], where: str = "inner") -> Plant:
    def make(site: Site, op: Callable[..., str], x: str) -> str:
        count = site.shapes[x.replace(" before", "")][axis]
        return op("Gather", x, site.constant(np.array(order(site, count), np.int64)), axis=axis)

    return inserted(make, where)


def arithmetic(kind: str, value: Callable[[Site], float], where: str = "inner") -> Plant:
    return inserted(lambda site, op, x: op(kind, x, site.constant(np.float32(value(site)))), where)


def mutation(kind: str, *operators: str) -> Plant:
    """One of `onnx_mutations`, at nodes of some operators."""

    def plant(site: Site) -> None:
        changing = onnx_mutations.Changing(site.model, site.rng)
        nodes = [node for node in site.graph.node if not operators or node.op_type in operators]
        site.rng.shuffle(nodes)
        assert any(onnx_mutations.KINDS[kind](changing, node) is not None for node in nodes), kind

    return plant


def attributes(operator: str, **values: Any) -> Plant:
    def plant(site: Site) -> None:
        for name, value in values.items():
            onnx_mutations._set(site.node(operator), name, value)

    return plant


def resized(**values: Any) -> Plant:
    def plant(site: Site) -> None:
        found = [node for node in site.graph.node if node.op_type == "Resize"]
        node = next(node for node in found if ('"linear"' in str(node)) == ("mode" not in values))
        for name, value in values.items():
            onnx_mutations._set(node, name, value)

    return plant


def without(*kinds: str) -> Plant:
    """An operator that passes on what it reads."""

    def plant(site: Site) -> None:
        node = site.node(*kinds)
        node.op_type = "Identity"
        del node.attribute[:], node.input[1:]

    return plant


def corners(site: Site, op: Callable[..., str], x: str) -> str:
    one, two = (
        op("Slice", x, *(site.constant(np.array([k], np.int64)) for k in (start, start + 2, 2))) for start in (0, 2)
    )
    half = op("Mul", two, site.constant(np.float32(0.5)))
    return op("Concat", op("Sub", one, half), op("Add", one, half), axis=2)


def centres(site: Site, op: Callable[..., str], x: str) -> str:
    one, two = (
        op("Slice", x, *(site.constant(np.array([k], np.int64)) for k in (start, start + 2, 2))) for start in (0, 2)
    )
    middle = op("Mul", op("Add", one, two), site.constant(np.float32(0.5)))
    return op("Concat", middle, op("Sub", two, one), axis=2)


def moved(site: Site, op: Callable[..., str], x: str) -> str:
    axis = site.rng.choice((2, 3))
    count = site.shapes[x][axis]
    order = [0, *range(count - 1)] if site.rng.random() < 0.5 else [*range(1, count), count - 1]
    return op("Gather", x, site.constant(np.array(order, np.int64)), axis=axis)


def shuffled(site: Site, count: int) -> List[int]:
    order = list(range(count))
    one, other = site.rng.sample(order, 2)
    order[one], order[other] = other, one
    return order


def backwards(site: Site, count: int) -> List[int]:
    return list(range(count))[::-1]


def cast(site: Site, op: Callable[..., str], x: str) -> str:
    return op("Cast", op("Cast", x, to=TensorProto.FLOAT16), to=TensorProto.FLOAT)


def limited(site: Site, op: Callable[..., str], x: str) -> str:
    return op("Clip", x, site.constant(np.float32(-0.6)), site.constant(np.float32(0.7)))


REVERSED = ("order along an axis reversed", "channels permuted", "weights permuted", "weights of channels scaled")
INPUTS = ("input channels of weights",)
SCALED = ("scaled", "scaled by 255", "constant changed")
# kind: how it is planted, and the kinds of cause that say what was done
KINDS: Mapping[str, Tuple[Plant, Tuple[str, ...]]] = {
    "image channels reversed": (gathered(1, backwards, "image"), ("image channels reversed", *INPUTS)),
    "image scaled twice": (arithmetic("Div", lambda _: 255, "image"), ("image scaled twice", *SCALED)),
    "image not scaled": (arithmetic("Mul", lambda _: 255, "image"), ("image not scaled", *SCALED)),
    "image from -1 to 1": (
        inserted(
            lambda s, op, x: op("Div", op("Add", x, s.constant(np.float32(1))), s.constant(np.float32(2))), "image"
        ),
        ("image from -1 to 1", "scaled and shifted"),
    ),
    "image mirrored": (gathered(3, backwards, "image"), ("image mirrored", "order along an axis reversed")),
    "image upside down": (gathered(2, backwards, "image"), ("image upside down", "order along an axis reversed")),
    "axis reversed": (gathered(3, backwards), REVERSED),
    "channels permuted": (gathered(1, shuffled), ("channels permuted", "weights permuted")),
    "image repeated": (gathered(0, lambda *_: [0, 0]), ("image repeated",)),
    "batch reversed": (gathered(0, backwards), ("batch reversed", *REVERSED)),
    "scaled": (arithmetic("Mul", lambda s: s.rng.choice((0.5, 0.9, 1.2, 2.0))), SCALED),
    "scaled by 255": (arithmetic("Mul", lambda _: 255), SCALED),
    "divided by 255": (arithmetic("Div", lambda _: 255), SCALED),
    "sign changed": (inserted(lambda _, op, x: op("Neg", x)), ("sign changed",)),
    "shifted": (arithmetic("Add", lambda s: s.rng.choice((-0.5, 0.1, 1.0))), ("shifted",)),
    "scaled and shifted": (
        inserted(lambda s, op, x: op("Add", op("Mul", x, s.constant(np.float32(1.3))), s.constant(np.float32(0.2)))),
        ("scaled and shifted", "scaled"),  # a softmax hides what is added
    ),
    "rounded to float16": (inserted(cast), ("rounded to float16",)),
    "rounded to integers": (inserted(lambda _, op, x: op("Round", x)), ("rounded to integers", "operator left in")),
    "clipped": (inserted(limited), ("clipped", "operator left in")),
    "sigmoid doubled": (inserted(lambda _, op, x: op("Sigmoid", x)), ("function doubled", "operator left in")),
    "tanh added": (inserted(lambda _, op, x: op("Tanh", x)), ("function doubled", "operator left in")),
    "moved by a cell": (inserted(moved), ("moved by a cell", "operator left in")),
    "sigmoid left out": (without("Sigmoid"), ("function left out", "other activation")),
    "activation left out": (
        without("LeakyRelu", "HardSwish", "Relu"),
        ("activation slope", "function left out", "other activation"),
    ),
    "softmax left out": (without("Softmax"), ("function left out", "other activation")),
    "other activation": (
        mutation("another operator", "Relu", "Sigmoid", "HardSwish"),
        ("other activation", "activation slope"),
    ),
    "activation slope": (mutation("attribute changed", "LeakyRelu"), ("activation slope",)),
    "GELU form": (mutation("another operator", "Erf"), ("other activation",)),
    "arithmetic": (mutation("another operator", "Add", "Mul", "Sub"), ("arithmetic operator",)),
    "constant": (mutation("constant changed"), (*SCALED, "shifted", "scaled and shifted", "bias")),
    "term lost": (mutation("term of a sum lost"), ("term lost",)),
    "order of a concatenation": (mutation("operands in another order", "Concat"), ("order of a concatenation",)),
    "convolution padding": (mutation("attribute changed", "Conv"), ("convolution padding",)),
    "pool padding": (mutation("attribute changed", "MaxPool"), ("pool padding",)),
    "pool counts its padding": (attributes("AveragePool", count_include_pad=1), ("pool padding",)),
    "pool kind": (mutation("another operator", "MaxPool"), ("pool kind",)),
    "resize mode": (resized(mode="linear"), ("resize mode",)),
    "resize rounding": (resized(mode="nearest", nearest_mode="ceil"), ("resize rounding",)),
    "resize coordinates": (resized(coordinate_transformation_mode="align_corners"), ("resize coordinates",)),
    "epsilon": (attributes("InstanceNormalization", epsilon=0.01), ("epsilon",)),
    "axis": (attributes("Softmax", axis=1), ("axis",)),
    "weights of one channel scaled": (
        mutation("weights of one channel scaled", "Conv"),
        ("weights of channels scaled",),
    ),
    "weights of one channel lost": (mutation("weights of one channel lost", "Conv"), ("weights of channels lost",)),
    "channels exchanged": (mutation("channels exchanged", "Conv"), ("weights permuted",)),
    "input channels reversed": (mutation("input channels reversed", "Conv"), (*INPUTS, "image channels reversed")),
    "weights rounded to float16": (mutation("weights rounded to float16", "Conv"), ("weights rounded to float16",)),
    "weights of another epoch": (mutation("weights of another epoch", "Conv"), ("other weights",)),
    "bias shifted": (mutation("bias shifted", "Conv"), ("bias",)),
    "bias lost": (mutation("bias lost", "Conv"), ("bias lost", "bias")),
    "corners for centres": (inserted(corners, "boxes"), ("corners for centres",)),
    "centres for corners": (inserted(centres, "boxes"), ("centres for corners",)),
    "y before x": (gathered(2, lambda *_: [1, 0, 3, 2], "boxes"), ("y before x", "channels permuted")),
    "boxes of another unit": (
        inserted(lambda s, op, x: op("Div", x, s.constant(np.array([96, 64, 96, 64], np.float32))), "boxes"),
        ("boxes of another unit",),
    ),
}


def judged(made: Host_, seed: int, file: Path) -> Dict[str, Any]:
    kind = list(KINDS)[seed // 2 % len(KINDS)]
    plant, accepted = KINDS[kind]
    site = Site(made[0], random.Random(seed))
    record: Dict[str, Any] = {"seed": seed, "kind": kind}
    plant(site)
    file.write_bytes(site.model.SerializeToString())
    graph = onnx_graph.read(file, client()).graph
    search = Search(made[1], OnnxProgram(file, graph, site.image, {site.image: made[2]}))
    located = search.located()
    faults = located.faults
    causes = [cause_of(search, fault) for fault in faults]
    named = [cause.kind for cause in causes if cause is not None]
    seen = (
        bool(faults) or not located.ends or kind == "rounded to float16"
    )  # which is noise of the file's own precision
    outcome = (
        "wrong"
        if any(one not in accepted for one in named)
        else "named"
        if named
        else "silent"
        if seen
        else "not to be seen"
    )
    return {**record, "outcome": outcome, "causes": named, "places": [fault.part.title for fault in faults][:4]}


def table(records: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield "| cases | drawn | named | silent | wrong | not to be seen |"
    yield "|---|---|---|---|---|---|"
    for name, rows in (("all", list(records)), ("held out", [one for one in records if one["seed"] >= HELD_OUT])):
        count = {
            key: sum(one["outcome"] == key for one in rows) for key in ("named", "silent", "wrong", "not to be seen")
        }
        of = len(rows) - count["not to be seen"]
        low, high = interval(count["named"], of) if of else (0.0, 1.0)
        rate = f"{count['named']} of {of} ({100 * low:.1f} to {100 * high:.1f} %)"
        yield f"| {name} | {len(rows)} | {rate} | {count['silent']} | {count['wrong']} | {count['not to be seen']} |"
    yield ""
    yield f"{len({one['kind'] for one in records})} kinds of faults were planted."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("--cases", type=int, default=400)
    parser.add_argument("--table", action="store_true")
    options = parser.parse_args()
    records = (
        [json.loads(line) for line in options.results.read_text().splitlines()] if options.results.exists() else []
    )
    if options.table:
        print("\n".join(table(records)))
        return
    done, made = {one["seed"] for one in records}, host()
    for seed in (k for k in range(options.cases) if k not in done):
        record = judged(made, seed, options.results.with_suffix(".onnx"))
        with options.results.open("a") as stream:
            stream.write(json.dumps(record) + "\n")


if __name__ == "__main__":
    main()
