"""TorchScript without our code: scripted and lite files in a bare process, what can be read of them, how they are distinguished."""

from __future__ import annotations

import json
import pickle
import shutil
import struct
import subprocess
import sys
import zipfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from detparity.artifacts import lite_bytecode, torchscript_graph
from detparity.checks import baked_size, export, parity
from detparity.checks.context import applicable
from detparity.checks.known_failures import settle
from detparity.checks.opening import make_context, open_file
from detparity.checks.session import Options, Session
from detparity.cli import main
from detparity.core.case import Case
from detparity.core.clock import Clock
from detparity.core.errors import EngineError, InputError, NotMade
from detparity.core.findings import Outcome
from detparity.core.vocabulary import parse_variant
from detparity.engines import lite, torchscript
from detparity.engines.reference_runs import make_oracle
from detparity.inputs.explore import explore
from detparity.inputs.images import batch_of
from detparity.models.compat import jit
from detparity.models.yolov7.network import Level, Network, Predictions
from detparity.models.yolov7.seeded import seeded
from detparity.tools.export_cache import KitExports, export_bytes, promised

pytestmark = pytest.mark.lanes

SIZE = (64, 96)
# Sizes and batches no export saw; from the second call on runs what the profile of the first made of the module.
UNSEEN = (((32, 160), 2), ((96, 64), 1), ((32, 160), 2))
ALONE = """
import sys

class Closed:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("detparity", "exporters"):
            raise ImportError(name + " is not there")

sys.meta_path.insert(0, Closed())
import numpy, torch

for path in sys.argv[1:]:
    if path.endswith(".ptl"):
        from torch.jit.mobile import _load_for_lite_interpreter as load
    else:
        load = torch.jit.load
    module, feed, found = load(path), numpy.load("feed.npz"), {}
    for name in feed.files:
        with torch.no_grad():
            result = module(torch.from_numpy(feed[name]))
        for k, tensor in enumerate([result] if isinstance(result, torch.Tensor) else result):
            found["%s.%d" % (name, k)] = tensor.numpy()
    numpy.savez(path.replace("\\\\", "/").split("/")[-1] + ".npz", **found)
print(sorted(name for name in sys.modules if name.split(".")[0] in ("detparity", "exporters")))
"""


def _write(detector, name, path, size=SIZE, head="grid"):
    path.write_bytes(export_bytes(detector, parse_variant(promised(name), head), size, exporter=name))
    return path


@pytest.fixture(scope="module")
def made(session, tmp_path_factory):
    """Call with an exporter's name and a head for the path of its file of the bundled detector, made once."""
    folder, found = tmp_path_factory.mktemp("made"), {}

    def make(name, head="grid"):
        if (name, head) not in found:
            suffix = ".ptl" if name == "lite" else ".pt"
            found[name, head] = _write(session.detector, name, folder / f"{name}-{head}{suffix}", head=head)
        return found[name, head]

    return make


@pytest.fixture(scope="module")
def oracle(session):
    return make_oracle(session.detector, Clock(), ("grid", "raw"))


@pytest.fixture(scope="module")
def context_of(session, made, oracle):
    """Call as `made` for the context of the file, opened once."""
    found = {}

    def context(name, head="grid"):
        if (name, head) not in found:
            found[name, head] = _context(session.detector, made(name, head), oracle=oracle)
        return found[name, head]

    return context


def _context(detector, path, variant=None, size=None, oracle=None):
    found, clock = open_file(path, detector.facts, variant, size), Clock()
    oracle = oracle or make_oracle(detector, clock, (found.contract.variant.head,))
    return make_context(detector, found, oracle, clock, explore)


def _wrong(context, groups=("",)):
    outcomes = [context.outcome(check) for check in applicable(context) if check.startswith(groups)]
    return {outcome.check: outcome.findings or outcome.reason for outcome in outcomes if outcome.outcome != "passed"}


def test_files_run_in_a_process_that_has_none_of_our_code(made, context_of, tmp_path):
    files = {
        made(*choice): context_of(*choice) for choice in (("scripted", "grid"), ("scripted", "raw"), ("lite", "grid"))
    }
    cases = [Case(size, parity.pictures(batch, seed=k % 2)) for k, (size, batch) in enumerate(UNSEEN)]
    np.savez(tmp_path / "feed.npz", **{str(k): batch_of(case.pictures, case.size) for k, case in enumerate(cases)})

    command = [sys.executable, "-W", "ignore", "-c", ALONE, *map(str, files)]
    result = subprocess.run(command, cwd=str(tmp_path), capture_output=True, text=True)

    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"
    for path, context in files.items():
        found = np.load(tmp_path / f"{path.name}.npz")
        levels = 1 if context.contract.variant.head == "grid" else len(context.facts.strides)
        for k, case in enumerate(cases):
            outputs = {str(level): found[f"{k}.{level}"] for level in range(levels)}
            assert parity.judge_outputs(context, case, outputs) == [], (path.name, str(case))


@pytest.mark.parametrize("head", ["grid", "raw"])
def test_the_scripted_file_has_no_python_and_nothing_unread(head, session, made):
    module = jit.load(str(made("scripted", head)), {})
    known = torchscript_graph.Known(module)
    read = {known.path(node) for node in torchscript_graph.walk(known.graph) if node.kind() == "prim::GetAttr"}
    unread = {
        f"{name}.{attribute}".lstrip(".")
        for name, part in module.named_modules()
        for attribute in (*dict(part.named_parameters(recurse=False)), *dict(part.named_buffers(recurse=False)))
    } - read
    ours = {
        name: {key for key in set(vars(original)) - set(vars(torch.nn.Module())) if not key.startswith("__")}
        for name, original in session.detector.network.named_modules()
        if isinstance(original, (Network, Level))
    }
    prefix = "network." if head == "grid" else ""
    unread |= {
        prefix + attribute_path
        for name, attributes in ours.items()
        for attribute_path in (f"{name}.{attribute}".lstrip(".") for attribute in attributes)
        if prefix + attribute_path not in read
    }

    kinds = {node.kind() for node in torchscript_graph.walk(known.graph)}
    assert {kind for kind in kinds if kind.split("::")[0] not in ("aten", "prim")} == set()
    assert "prim::PythonOp" not in kinds
    # The geometry of the head travels with its logits, so that they can be decoded.
    geometry = {f"levels.{k}.{part}" for k in range(3) for part in ("anchors", "stride")}
    assert unread == (set() if head == "grid" else geometry)


class Calling(Predictions):
    def forward(self, images: Tensor) -> Tensor:
        return self.outside(self.decode(self.network(images)))

    @torch.jit.ignore
    def outside(self, found):  # what has no type is a Tensor; a type would be text here, which torch does not resolve
        return found


def test_a_call_back_into_python_cannot_be_saved(session):
    module = jit.script(Calling(session.detector.network).eval())

    with pytest.raises(RuntimeError, match="Could not export Python function call"):
        jit.lite(module, {})


@pytest.mark.parametrize(
    "variant, head, name, classes", [("scripted", "raw", "yolov7-tiny", 1), ("lite", "grid", "training-yolov7-tiny", 3)]
)
def test_other_models_are_right_at_other_sizes(variant, head, name, classes, tmp_path):
    detector = seeded(name, 0.125, 1, classes)
    context = _context(detector, _write(detector, variant, tmp_path / "other", head=head))

    for check in ("script.structure", "script.weights", "script.operators", "script.metadata", "parity.sizes"):
        assert context.outcome(check).outcome == "passed", check


def test_the_mobile_file_conforms_or_is_a_known_failure(session, tmp_path):
    """Where a known failure is listed, the failure must be the one it names; elsewhere the file must be made and right."""
    known = Session(Options(session.choice), KitExports()).known_failures.of("lite-mobile", "export.made")
    try:
        path = _write(session.detector, "lite-mobile", tmp_path / "mobile.ptl")
    except RuntimeError as error:
        outcome = settle(export.outcome(NotMade(f"RuntimeError: {error}", missing=False)), known)
        assert outcome.outcome == "known failure", str(error)
        return
    context = _context(session.detector, path)

    assert known is None
    assert context.contract.variant.name == "lite"
    assert context.script.ops["prepacked::conv2d_clamp_run"] == len(session.detector.weights)
    assert _wrong(context, ("script.", "parity.declared")) == {}  # suites/ judges the file of the exporter by all


def test_a_mobile_file_on_a_build_without_xnnpack_does_not_load_in_one_line(made, monkeypatch):
    path = made("lite")
    own = lite_bytecode.read(path, "")

    def refuse(_):
        raise RuntimeError("Following ops cannot be found:\n[prepacked::conv2d_clamp_run]")

    monkeypatch.setattr(lite_bytecode, "read", lambda *_: replace(own, ops={"prepacked::conv2d_clamp_run": 58}))
    monkeypatch.setattr(jit, "load_lite", refuse)

    with pytest.raises(EngineError, match=r"^it is optimised for mobile, .* XNNPACK: Following ops cannot"):
        lite.prepare(path)


def test_content_and_not_the_name_distinguishes_lite_from_full(session, made, tmp_path):
    full, small = tmp_path / "full.ptl", tmp_path / "small.pt"
    shutil.copy(made("scripted"), full)
    shutil.copy(made("lite"), small)
    facts = session.detector.facts
    found = {path.name: open_file(path, facts) for path in (full, small)}

    assert {name: (f.artifact.kind, f.contract.variant.name) for name, f in found.items()} == {
        "full.ptl": ("torchscript", "scripted"),
        "small.pt": ("lite", "lite"),
    }
    assert found["small.pt"].how == "lite (grid), read from the file, at 64x96"
    for path, variant, words in (
        (full, "lite", "is a TorchScript archive, which cannot be 'lite'"),
        (small, "scripted", "is a lite archive, which cannot be 'scripted'"),
        (small, "grid", "is a lite archive, which cannot be 'grid'"),
    ):
        with pytest.raises(InputError, match=words):
            open_file(path, facts, variant)


def test_checks_that_need_a_graph_are_not_asked_of_a_lite_file(context_of):
    ids = {name: set(applicable(context_of(name))) for name in ("scripted", "lite")}

    assert ids["scripted"] - ids["lite"] == {"script.devices", "script.baked-size"}
    assert ids["lite"] - ids["scripted"] == set()
    assert {"script.weights", "script.operators", "script.batch-norm", "parity.sizes", "parity.batches"} <= ids["lite"]


def test_what_is_read_of_a_lite_file_is_what_torch_reads(session, made):
    path = made("lite")
    found, full = lite.read(str(path)), torchscript.read(str(path))

    assert found.state.keys() == full.state.keys()
    assert all(np.array_equal(found.state[key], full.state[key]) for key in found.state)
    assert found.slopes == pytest.approx(full.slopes) and len(found.slopes) == len(session.detector.slopes)
    assert found.ops["aten::conv2d"] == len(session.detector.weights)
    assert json.loads(found.metadata)["detparity.variant"] == "lite" and not found.training


def _edited(path, name, change):
    """The same archive with one member changed."""
    with zipfile.ZipFile(path) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    with zipfile.ZipFile(path, "w") as archive:
        for member, data in members.items():
            archive.writestr(member, change(data) if member.endswith("/" + name) else data)
    return path


class _Evil:
    def __reduce__(self):
        return (exec, ("import pathlib; pathlib.Path('ran').touch()",))


@pytest.mark.parametrize(
    "name, change, words",
    [
        ("bytecode.pkl", lambda data: data[: len(data) // 2], "cannot be read"),
        ("bytecode.pkl", lambda data: pickle.dumps((8, _Evil()), 2), "cannot be read"),
        ("bytecode.pkl", lambda data: data.replace(b".forward", b".backwar"), "no program of .*Predictions.forward"),
        ("data/0", lambda data: data[:4], "a tensor reaches beyond its storage"),
        ("data.pkl", lambda data: struct.pack("<2sB", b"\x80\x02", 0), "cannot be read"),
    ],
)
def test_damaged_bytecode_is_refused_in_one_line_and_never_run(name, change, words, made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "module.ptl"
    shutil.copy(made("lite"), path)
    _edited(path, name, change)

    with pytest.raises(EngineError, match=words) as caught:
        lite_bytecode.read(path, "x")

    assert "\n" not in str(caught.value)
    assert not (tmp_path / "ran").exists()


def test_the_command_exports_and_checks_a_lite_file(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main.main(["export", "--grid", "--include", "lite", "--img-size", "64", "96"]) == 0
    (path,) = tmp_path.iterdir()
    assert path.suffix == ".ptl" and "lite (grid), 64x96" in capsys.readouterr().out

    words = ["check", path.name, "--model", "bundled", "--checks", "script,parity.declared"]
    code = main.main([*words, "--json", "report.json", "--strict"])

    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert code == 0, capsys.readouterr().out
    (entry,) = report["artifacts"]
    assert (entry["variant"], entry["verdict"]) == ("lite", "conforms")
    assert entry["weights"]["compared"] > 50 and not entry["weights"]["not_comparable"]
    assert entry["engine"]["bytecode"].isdigit()


def test_mobile_without_lite_is_refused(capsys):
    assert main.main(["export", "--mobile"]) == 2
    assert "--mobile is for the lite file: add --include lite" in capsys.readouterr().err


FACTS = seeded("yolov7-tiny", 0.125, 0, 80).facts
CASES = [
    ((1, 3, 85, 32, 40), "the 32x40 cells of stride 8 at 256x320"),
    ((None, 3, None, 20, 16), "the 16x20 cells of stride 16 at 256x320"),
    ((8, 10), "the 8x10 cells of stride 32 at 256x320"),
    ((-1, 3840, 85), "the 3840 rows of stride 8 at 256x320"),
    ((None, 255, 1280), "the 1280 cells of stride 8 at 256x320"),
    ((None, 5040, 85), "the 5040 rows up to those of stride 32 at 256x320"),
    ((4800,), "the 4800 rows up to those of stride 16 at 256x320"),
    ((256, 320), "height and width of 256x320"),
    ((320,), "the width of 256x320"),
    ((1, 1, 1, 20, 1), "the width of 256x320 in cells of stride 16"),
    ((None, 3, 85, None, None), ""),
    ((-1, 85), ""),
    ((2, 64, None, None), ""),
    ((4,), ""),
    ((9223372036854775807,), ""),
    ((None,), ""),
]


@pytest.mark.parametrize("numbers, what", CASES, ids=[str(numbers) for numbers, _ in CASES])
def test_numbers_are_named_for_what_they_are(numbers, what):
    assert baked_size._what(numbers, (256, 320), FACTS) == what


@pytest.mark.parametrize(
    "name, head",
    [
        ("traced-dynamic", "grid"),
        ("scripted", "raw"),
        pytest.param("traced-dynamic", "raw", marks=pytest.mark.more),
        pytest.param("scripted", "grid", marks=pytest.mark.more),
    ],
)
def test_our_own_files_name_no_size_at_all(head, name, context_of):
    """Not even one that parity.sizes would have to excuse."""
    context = context_of(name, head)

    assert list(baked_size._named(context, SIZE)) == []
    assert baked_size.script_grids(context.script.constants, context.facts) == []


@pytest.mark.parametrize("sizes", ["passed", "failed"])
def test_a_number_is_reported_only_where_other_sizes_fail(sizes, session, oracle, tmp_path):
    """An image of 64 by 96 is 96 wide, and every image has an integer multiple of 96 values: the view is right at all sizes."""

    class Chance(Predictions):
        def forward(self, images: Tensor) -> Tensor:
            return self.decode(self.network(images.reshape(-1, 96).reshape(images.shape)))

    path = tmp_path / "chance.pt"
    module = jit.trace(Chance(session.detector.network).eval(), torch.zeros(1, 3, *SIZE))
    jit.save(module, str(path), {})
    context = _context(session.detector, path, "traced-dynamic", SIZE, oracle)
    context.outcomes["parity.sizes"] = Outcome("parity.sizes", "MUST", sizes)

    found = context.outcome("script.baked-size")

    assert found.outcome == sizes
    for finding in found.findings:
        assert finding.message == "has 64x96 written into its graph in 1 operator, so it is right at no other size."
        assert finding.rows[1][:3] == ("aten::reshape", "-1, 96", "the width of 64x96")
        assert "test_scripting.py" in finding.rows[1][3]
