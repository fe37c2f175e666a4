"""A network being drawn, layer by layer, before it has any weights: what each layer is, what it reads, channels and strides."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, List, Sequence, Tuple

import torch
from torch import nn

from detparity.core.errors import InputError, clipped
from detparity.models.yolov7.block_builders import HEADS, KINDS
from detparity.models.yolov7.network import Level, Network
from detparity.models.yolov7.size_limits import MAX_LAYERS, MAX_READS, require_bounded

Anchors = Tuple[Tuple[Tuple[float, float], ...], ...]
# Far above any detector: a table must not take all memory. Weights are counted as if no kernel were smaller than 3x3.
MAX_CHANNELS, MAX_REPEATS, MAX_BLOCKS, MAX_WEIGHTS = 16384, 1000, 1200, 600_000_000


@dataclass(frozen=True)
class Step:
    """One layer: its kind, what it reads (0 is the image, k the output of layer k - 1), its arguments in full, and how many
    times it is repeated in sequence."""

    kind: str
    reads: Tuple[int, ...]
    args: Tuple[Any, ...]
    repeat: int = 1


@dataclass
class Plan:
    """`channels` and `strides` are those of each output, the image first. width multiplies channel counts, rounded up to a
    multiple of 8; depth multiplies repeats over one; activation: of convolutions, as a table states it (None is SiLU).

    `auxiliary` lists what the auxiliary convolutions of a training head read, level by level.
    """

    width: float
    anchors: Anchors
    activation: Any = None
    depth: float = 1.0
    steps: List[Step] = field(default_factory=list)
    channels: List[int] = field(default_factory=lambda: [3])
    strides: List[int] = field(default_factory=lambda: [1])
    head: str = ""
    taps: Tuple[int, ...] = ()
    auxiliary: Tuple[int, ...] = ()
    weights: int = 0
    blocks: int = 0
    reads: int = 0
    title: str = ""  # what messages call it

    def add(self, kind: str, reads: Sequence[int], *args: Any, repeat: int = 1) -> int:
        """Draw a layer and return its handle. args: as in a layer table, channel counts before scaling.

        Raises InputError, naming the layer, for what no network can hold.
        """
        where = f"layer {len(self.steps)} ({str(kind)[:40]})"
        if kind not in KINDS:
            raise InputError(f"{where}: an unknown block; known are {', '.join(sorted(KINDS))}")
        if len(self.steps) >= MAX_LAYERS:
            raise InputError(f"{where}: more than {MAX_LAYERS} layers")
        what = KINDS[kind]
        if not reads or (len(reads) > 1 and not what.joins):
            raise InputError(f"{where}: reads {len(reads)} layers where it takes one")
        counted = self._repeats(where, repeat)
        self._count(where, counted, len(reads))
        arguments = list(args)
        if what.widened:
            arguments[:1] = [self.channels[reads[0]], self.scaled(where, args[0] if args else None)]
            if what.counted:
                arguments.insert(2, counted)
        try:
            bound = what.bind(*arguments)
            scale = what.strides(bound)
        except (TypeError, ValueError, ArithmeticError) as error:
            raise InputError(f"{where}: its arguments {list(args)} do not fit: {error}") from None
        channels = self._given(where, kind, reads, bound.get("c2", 0))
        stride = self._stride(where, reads, scale)
        times = 1 if what.counted else counted
        if times > 1 and (channels != self.channels[reads[0]] or scale != 1):
            raise InputError(f"{where}: cannot be repeated {times} times, it changes channels or stride")
        if what.widened:
            self.weights += max(9, bound.get("kernel", 3) ** 2) * counted * self.channels[reads[0]] * channels
        if self.weights > MAX_WEIGHTS or channels > MAX_CHANNELS:
            raise InputError(f"{where}: gives {channels} channels, and too many weights or channels for any detector")
        self.steps.append(Step(kind, tuple(reads), tuple(bound.values()), times))
        self.channels.append(channels)
        self.strides.append(stride)
        return len(self.steps)

    def _count(self, where: str, blocks: int, reads: int) -> None:
        """Raise InputError for more blocks and connections than any detector has, before any is made."""
        self.blocks += blocks
        self.reads += reads
        if self.blocks > MAX_BLOCKS or self.reads > MAX_READS:
            raise InputError(f"{where}: {self.blocks} blocks that read {self.reads} layers, too many for any detector")

    def scaled(self, where: str, channels: Any) -> int:
        """A channel count of a table at this width."""
        if not isinstance(channels, int) or isinstance(channels, bool) or not 0 < channels <= MAX_CHANNELS:
            raise InputError(f"{where}: wants a number of channels first, not {channels!r}")
        return math.ceil(channels * self.width / 8) * 8

    def _repeats(self, where: str, repeat: Any) -> int:
        if not isinstance(repeat, int) or isinstance(repeat, bool) or not 0 < repeat <= MAX_REPEATS:
            raise InputError(f"{where}: a repeat count of {repeat!r} is not in 1 to {MAX_REPEATS}")
        return max(round(repeat * self.depth), 1) if repeat > 1 else 1

    def _given(self, where: str, kind: str, reads: Sequence[int], channels: int) -> int:
        """Channels a layer gives."""
        read = [self.channels[x] for x in reads]
        if kind == "Concat":
            return sum(read)
        if kind == "Shortcut" and (len(read) != 2 or len(set(read)) != 1):
            raise InputError(f"{where}: adds layers of {' and '.join(map(str, read))} channels")
        return 4 * read[0] if kind == "ReOrg" else channels or read[0]

    def _stride(self, where: str, reads: Sequence[int], scale: float) -> int:
        read = [self.strides[x] for x in reads]
        if len(set(read)) != 1:
            raise InputError(f"{where}: joins layers of strides {', '.join(map(str, read))}")
        stride = read[0] * scale
        if not 1 <= stride <= 4096 or stride != int(stride):
            raise InputError(f"{where}: gives a stride of {stride:g}")
        return int(stride)

    def detect(self, kind: str, xs: Sequence[int], auxiliary: Sequence[int] = ()) -> None:
        """End the plan with a head of this kind reading these layers, one per level."""
        assert kind in HEADS
        if len(xs) != len(self.anchors) or (auxiliary and len(auxiliary) != len(xs)):
            raise InputError(f"the head ({kind}) reads {len(xs)} layers for {len(self.anchors)} sets of anchors")
        self.head, self.taps, self.auxiliary = kind, tuple(xs), tuple(auxiliary)

    # What architectures are drawn with.

    def conv(self, x: int, channels: int, kernel: int = 1, stride: int = 1) -> int:
        return self.add("Conv", [x], channels, kernel, stride, None, 1, self.activation)

    def concat(self, *xs: int) -> int:
        return self.add("Concat", xs, 1)

    def halve(self, x: int) -> int:
        """2x2 max-pool."""
        return self.add("MP", [x])

    def pool(self, x: int, kernel: int) -> int:
        """Same-size max-pool."""
        return self.add("SP", [x], kernel)

    def enlarge(self, x: int) -> int:
        """Nearest-neighbour enlargement by two."""
        return self.add("nn.Upsample", [x], None, 2, "nearest")


def build(plan: Plan, classes: int) -> Network:
    """Return an untrained network, in the modules' initial state. Raises InputError for a block that cannot be made."""
    made = [_block(index, step) for index, step in enumerate(plan.steps)]
    auxiliary = [plan.channels[x] for x in plan.auxiliary] or [0] * len(plan.taps)
    levels = [
        Level(
            plan.channels[tap],
            5 + classes,
            torch.tensor(anchors, dtype=torch.float32, device="cpu"),
            plan.strides[tap],
            plan.head != "Detect",
            extra,
        )
        for tap, anchors, extra in zip(plan.taps, plan.anchors, auxiliary)
    ]
    network = Network(made, [step.reads for step in plan.steps], plan.taps, levels)
    require_bounded(network)
    return network


def _block(index: int, step: Step) -> nn.Module:
    try:
        made = [KINDS[step.kind].make(*step.args) for _ in range(step.repeat)]
    except (
        ValueError,
        TypeError,
        ArithmeticError,
        RuntimeError,
    ) as error:  # what modules raise at arguments they cannot take
        raise InputError(f"layer {index} ({step.kind}): {clipped(error)}") from None
    return made[0] if step.repeat == 1 else nn.Sequential(*made)
