"""Exporters keep their hands clean: the model is untouched, the same export is the same graph, options do what they say."""

from __future__ import annotations

import contextlib

import detparity.kit.exporters as exporters
import onnx
import pytest
import torch

from detparity.checks.context import applicable
from detparity.checks.opening import make_context, open_file
from detparity.core.clock import Clock
from detparity.core.errors import NotMade
from detparity.core.vocabulary import parse_variant
from detparity.engines.reference_runs import make_oracle
from detparity.inputs.explore import explore
from detparity.models.choice import BUNDLED_SIZE
from detparity.models.compat import onnx_export
from detparity.models.yolov7.seeded import seeded
from detparity.tools.export_cache import export_bytes, missing, precision, promised
from detparity.tools.golden.content import asked_goldens

SIZE = (64, 96)
VARIANTS = (
    "raw",
    "raw-dynamic",
    "grid",
    "grid-dynamic-batch",
    "grid-dynamic",
    "traced",
    "traced-dynamic",
    "scripted",
    "lite",
)
REPEATED = ("raw-dynamic", "grid", "grid-dynamic")  # archives of torch have names that count up


def _state(detector):
    return {key: value.clone() for key, value in detector.network.state_dict().items()}


@pytest.mark.lanes
@pytest.mark.parametrize("name", VARIANTS)
def test_exporting_leaves_the_model_as_it_was_and_twice_gives_the_same_file(name, session):
    detector = session.detector
    before, mode = _state(detector), [module.training for module in detector.network.modules()]
    buffers = {path for path, _ in detector.network.named_buffers()}

    made = [export_bytes(detector, parse_variant(name), SIZE) for _ in range(1 + (name in REPEATED))]

    after = _state(detector)
    assert all(torch.equal(before[key], after[key]) for key in before) and before.keys() == after.keys()
    assert [module.training for module in detector.network.modules()] == mode
    assert {path for path, _ in detector.network.named_buffers()} == buffers
    assert len(set(made)) == 1


@pytest.mark.lanes
def test_operators_are_registered_once_for_a_file(session, monkeypatch):
    registry = pytest.importorskip(
        "torch.onnx.symbolic_registry", reason="torch 1.13 and newer register operators once"
    )
    asked, register = [], registry.register_version

    def counted(*version):
        asked.append(version)
        register(*version)

    monkeypatch.setattr(registry, "register_version", counted)
    quick = export_bytes(session.detector, parse_variant("grid"), SIZE)
    assert len(asked) == 1 and registry.register_version is counted
    monkeypatch.setattr(onnx_export, "_operators_registered_once", contextlib.nullcontext)

    assert export_bytes(session.detector, parse_variant("grid"), SIZE) == quick
    assert len(asked) > 100


def test_every_onnx_variant_of_raw_and_grid_has_an_exporter():
    made = set(exporters.registry())

    assert {f"{head}{axes}" for head in ("raw", "grid") for axes in ("", "-dynamic-batch", "-dynamic")} <= made


@pytest.mark.lanes
@pytest.mark.parametrize("name", ["grid-half", "traced-half", "grid-int8"])
def test_a_lower_precision_is_the_promised_one_and_the_same_each_time(name, session, made):
    reason = missing(name)
    if reason:
        pytest.skip(reason)
    file = made(name)
    assert not isinstance(file, NotMade), str(file)

    found = open_file(file, session.detector.facts, promised(name))

    assert found.precision.name == found.contract.precision == precision(name)
    if "traced" not in name:  # archives of torch have names that count up
        variant = parse_variant(promised(name))
        assert export_bytes(session.detector, variant, BUNDLED_SIZE, exporter=name) == file.read_bytes()


def test_a_lower_precision_has_goldens_where_its_numbers_are_the_same_everywhere():
    kinds = {}
    for name, kind in asked_goldens(list(exporters.registry())):
        kinds.setdefault(name, []).append(kind)

    assert kinds["grid-half"] == kinds["grid"] and kinds["end2end-ort-half"] == kinds["end2end-ort"]
    assert not [name for name in kinds if precision(name) == "int8"]


def _outcomes(detector, name, path, oracle=None):
    clock = Clock()
    found = open_file(path, detector.facts, name)
    oracle = oracle or make_oracle(detector, clock, (found.contract.variant.head,))
    context = make_context(detector, found, oracle, clock, explore)
    return {check: context.outcome(check) for check in applicable(context) if check != "parity.evaluator"}


def _green(outcomes):
    return {
        check: outcome.findings or outcome.reason for check, outcome in outcomes.items() if outcome.outcome != "passed"
    }


@pytest.mark.parametrize(
    "name, tool",
    [
        ("grid-dynamic", "onnxsim"),
        ("grid-dynamic", "onnxslim"),
        *(pytest.param("raw", tool, marks=pytest.mark.more) for tool in ("onnxsim", "onnxslim")),  # less to simplify
    ],
)
def test_simplified_files_conform_strictly(name, tool, session, tmp_path):
    pytest.importorskip(tool, reason=f"{tool} is an extra, a subject of --simplify")
    path = tmp_path / "simplified.onnx"
    path.write_bytes(export_bytes(session.detector, parse_variant(name), SIZE, simplify=tool))

    assert _green(_outcomes(session.detector, name, path, session.oracle)) == {}
    assert not [entry.key for entry in onnx.load(path).metadata_props if "onnxsim" in entry.key]


@pytest.mark.parametrize("name", ["grid", pytest.param("traced", marks=pytest.mark.more)])
def test_a_fixed_batch_is_preserved(name, session, tmp_path):
    path = tmp_path / "batch"
    path.write_bytes(export_bytes(session.detector, parse_variant(name), SIZE, batch=3))

    outcomes = _outcomes(session.detector, name, path, session.oracle)

    assert _green(outcomes) == {}
    assert "parity.isolation" in outcomes


MODELS = (("training-yolov7-tiny", 0.25, 1, 80), ("yolov7-tiny", 0.125, 2, 1))


@pytest.mark.parametrize(
    "name, width, seed, classes, variant",
    [
        (*MODELS[0], "raw-dynamic-batch"),
        pytest.param(*MODELS[1], "grid-dynamic", marks=pytest.mark.more),
        pytest.param(*MODELS[1], "traced-dynamic", marks=pytest.mark.more),
        pytest.param(*MODELS[0], "grid-dynamic", marks=pytest.mark.more),
        pytest.param(*MODELS[1], "raw-dynamic-batch", marks=pytest.mark.more),
        pytest.param(*MODELS[0], "traced-dynamic", marks=pytest.mark.more),
    ],
)
def test_other_models_conform_strictly(variant, name, width, seed, classes, tmp_path):
    detector = seeded(name, width, seed, classes)
    path = tmp_path / "other"
    path.write_bytes(export_bytes(detector, parse_variant(variant), SIZE))

    assert _green(_outcomes(detector, variant, path)) == {}


@pytest.mark.slow
@pytest.mark.parametrize("variant", ["grid", "grid-dynamic", "raw", "traced"])
def test_full_width_conforms_strictly(variant, tmp_path):
    detector = seeded("yolov7-tiny", 1.0, 3)
    path = tmp_path / "full"
    path.write_bytes(export_bytes(detector, parse_variant(variant), (640, 640)))

    assert _green(_outcomes(detector, variant, path)) == {}
