"""Every architecture of the family through the exporters, narrow: by default one in each variant; nightly so that every kind of
block meets every way of capturing a module, and every kind of head every variant; under `slow` each architecture in each variant,
narrow and at full width."""

from __future__ import annotations

import functools
from typing import Any, FrozenSet, List, Tuple

import pytest

from detparity.checks.context import applicable
from detparity.checks.opening import make_context, open_file
from detparity.cli.export import rounded
from detparity.core.clock import Clock
from detparity.core.vocabulary import Size, parse_variant
from detparity.engines.reference_runs import Oracle, make_oracle
from detparity.inputs.explore import explore
from detparity.models.yolov7.architectures import ARCHITECTURES, plan
from detparity.models.yolov7.detector import make_detector
from detparity.models.yolov7.network import joined
from detparity.models.yolov7.plan import Plan
from detparity.models.yolov7.seeded import seeded
from detparity.tools.export_cache import SUFFIX, export_bytes

# Each way of making a file, with the axes that ask most of it.
VARIANTS = (
    "grid",
    "raw-dynamic",
    "end2end-ort-dynamic",
    "end2end-trt-dynamic-batch",
    "traced-dynamic",
    "lite",
    "scripted",
)
SLOW = pytest.mark.slow
# Structure and weights in full; numbers at the declared size and, where it varies, at others. The bundled detector gets the rest.
CHECKS = (
    *("structure", "script", "parity.declared", "parity.sizes", "parity.batches"),
    *(
        "nms.operator",
        "nms.thresholds",
        "nms.attributes",
        "nms.class-offset",
        "nms.detections",
        "nms.sizes",
        "nms.tail",
    ),
)
NARROW: Any = {"baseline-x50-csp": 0.5}  # 32 groups need as many channels
CLASSES = 3


def _size(stride: int) -> Size:
    return 2 * stride, 3 * stride


@functools.lru_cache(maxsize=1)
def _model(name: str, width: float, classes: int = CLASSES) -> Tuple[Any, Oracle, Clock]:
    detector = seeded(name, width, 1, classes)
    clock = Clock()
    return detector, make_oracle(detector, clock, ("grid", "raw")), clock


@functools.lru_cache(maxsize=1)
def _ensemble() -> Tuple[Any, Oracle, Clock]:
    """Two unlike members, whose levels are of the same sizes."""
    members = [seeded(name, 1 / 16, seed, CLASSES) for seed, name in enumerate(("yolov7-tiny", "training-yolov7"))]
    detector = make_detector("both", members[1].facts.names, joined([member.network for member in members]))
    clock = Clock()
    return detector, make_oracle(detector, clock, ("grid", "raw")), clock


def _red(name: str, width: float, variant: str, folder: Any, classes: int = CLASSES) -> List[str]:
    """What the checks find, one line each."""
    detector, oracle, clock = _model(name, width, classes) if name != "ensemble" else _ensemble()
    promise = parse_variant(variant)
    path = folder / f"{name}{SUFFIX[promise.form]}"
    path.write_bytes(export_bytes(detector, promise, _size(detector.facts.max_stride)))
    found = open_file(path, detector.facts, variant)
    context = make_context(detector, found, oracle, clock, explore)
    asked = [check for check in applicable(context) if check.split(".")[0] in CHECKS or check in CHECKS]
    assert len(asked) >= 8
    outcomes = [context.outcome(check) for check in asked]
    return [
        f"{one.check}: {one.outcome} {one.reason or [finding.message for finding in one.findings]}"
        for one in outcomes
        if one.outcome != "passed"
    ]


MORE = pytest.mark.more
Met = FrozenSet[Tuple[str, str]]


@functools.cache
def _plan(name: str) -> Plan:
    return plan(name, None)


@functools.cache
def _meets(name: str, variant: str) -> Met:
    """What this case brings together: blocks and activation with the way the modules are captured (traced into ONNX, traced, or
    compiled, for a lite file too: what follows the head is the same to them), the head and its number of levels with the variant."""
    drawn, form = _plan(name), parse_variant(variant).form
    captured = "compiled" if form in ("scripted", "lite") else form
    blocks = {step.kind for step in drawn.steps} | {str(drawn.activation)}
    head = (drawn.head, f"{len(drawn.taps)} levels")
    return frozenset({(block, captured) for block in blocks} | {(part, variant) for part in head})


@functools.lru_cache(maxsize=1)
def _chosen() -> Tuple[Tuple[str, str], ...]:
    """Cases that between them bring together all that any case does, small networks first, and leave no architecture out."""
    every = [(name, variant) for name in sorted(ARCHITECTURES) for variant in VARIANTS]
    layers = {name: len(_plan(name).steps) for name in ARCHITECTURES}
    met = {case: _meets(*case) for case in every}
    left = set().union(*met.values())
    chosen: List[Tuple[str, str]] = []
    while left:
        best = max(every, key=lambda case: (len(met[case] & left) / layers[case[0]], -every.index(case)))
        chosen.append(best)
        left -= met[best]
    for place, name in enumerate(sorted(set(ARCHITECTURES) - {name for name, _ in chosen})):
        chosen.append((name, VARIANTS[place % 4]))  # ONNX, which takes least
    return tuple(chosen)


def _cost(case: Tuple[str, str]) -> Tuple[float, str]:
    name, _ = case
    return len(_plan(name).steps) * NARROW.get(name, 1 / 16) ** 2, name


def _cases() -> List[Any]:
    return [
        pytest.param(name, variant, id=f"{name}:{variant}") for name in sorted(ARCHITECTURES) for variant in VARIANTS
    ]


def _covering() -> List[Any]:
    """The cases that leave nothing out; of each variant the smallest network is in the default run, the others in a nightly one."""
    default = {variant: min((case for case in _chosen() if case[1] == variant), key=_cost) for variant in VARIANTS}
    return [
        pytest.param(*case, id=":".join(case), marks=pytest.mark.proof if case in default.values() else MORE)
        for case in sorted(_chosen())
    ]


@pytest.mark.parametrize("name, variant", _covering())
def test_conforms(name, variant, tmp_path):
    assert _red(name, NARROW.get(name, 1 / 16), variant, tmp_path) == []


def test_the_chosen_cases_leave_nothing_out():
    every = {pair for name in ARCHITECTURES for variant in VARIANTS for pair in _meets(name, variant)}

    assert {pair for case in _chosen() for pair in _meets(*case)} == every
    assert {name for name, _ in _chosen()} == set(ARCHITECTURES)


@pytest.mark.slow
@pytest.mark.parametrize("name, variant", _cases())
def test_conforms_in_every_variant(name, variant, tmp_path):
    assert _red(name, NARROW.get(name, 1 / 16), variant, tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("name, variant", _cases())
def test_conforms_at_full_width(name, variant, tmp_path):
    assert _red(name, ARCHITECTURES[name].width, variant, tmp_path) == []


# One class has no class product, whichever tail follows; many meet the suppression first. Nightly: one class by other heads.
COUNTED = {(1, "end2end-trt-dynamic-batch"), (365, "end2end-ort-dynamic")}


def _counted(count: int, variant: str) -> Any:
    if (count, variant) in COUNTED:
        return pytest.mark.proof
    return MORE if count == 1 else SLOW


COUNTS = [
    pytest.param(count, variant, marks=_counted(count, variant)) for count in (1, 2, 80, 365) for variant in VARIANTS
]


@pytest.mark.parametrize("classes, variant", COUNTS)
def test_any_number_of_classes_conforms(classes, variant, tmp_path):
    assert _red("training-yolov7-tiny", 1 / 16, variant, tmp_path, classes) == []


ENSEMBLES = {"traced-dynamic": pytest.mark.proof, "scripted": SLOW, "raw-dynamic": SLOW}


@pytest.mark.parametrize("variant", [pytest.param(v, marks=ENSEMBLES.get(v, MORE)) for v in VARIANTS])
def test_an_ensemble_conforms(variant, tmp_path):
    assert _red("ensemble", 0, variant, tmp_path) == []


@pytest.mark.parametrize("name, stride", [("yolov7-tiny", 32), ("yolov7-w6", 64)])
def test_sizes_are_rounded_up_to_the_largest_stride_and_said(name, stride):
    said: List[str] = []

    assert rounded((stride, 2 * stride), stride, said.append) == (stride, 2 * stride) and said == []
    assert rounded((stride - 1, stride + 1), stride, said.append) == (stride, 2 * stride)
    assert said == [
        f"warning: image size {stride - 1}x{stride + 1} is not a multiple of the largest stride {stride}; "
        f"using {stride}x{2 * stride}"
    ]
    assert max(seeded(name, 1 / 16, 0, 1).facts.strides) == stride
