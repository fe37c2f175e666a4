"""What the tails cost: files with suppression against `raw` on ONNX Runtime, interleaved, as ratios.

    pytest benchmarks/test_tail.py -m slow -s

and, where ultralytics is installed, what its own tail (`nms=True`) costs against its file without, in the same rounds.

A benchmark, not a verdict: it prints ratios, and asserts only that both files are right before they are timed.
"""

from __future__ import annotations

import os

import pytest

from detparity.checks.opening import make_context, open_file
from detparity.cli import main
from detparity.core import resources
from detparity.core.clock import Clock
from detparity.core.vocabulary import Load, parse_variant
from detparity.engines import onnxruntime
from detparity.engines.reference_runs import make_oracle
from detparity.inputs.explore import explore
from detparity.inputs.images import make
from detparity.models.yolov7.seeded import seeded
from detparity.tools.bench.candidates import numbered_call, of_file, prepare
from detparity.tools.bench.interleave import take_turns
from detparity.tools.bench.run import require_right
from detparity.tools.bench.statistics import ratio
from detparity.tools.export_cache import export_bytes

SIZE, ROUNDS, WARM_UP = (640, 640), 100, 8
TAILS = ("end2end-ort", "end2end-trt-nms", "end2end-trt")  # the last up to the plugin, which TensorRT alone runs


@pytest.mark.slow
def test_tail_against_raw(tmp_path):
    detector = seeded("yolov7-tiny", 1.0, 0)
    clock = Clock()
    oracle = make_oracle(detector, clock, ("grid", "raw"))
    contexts = {}
    for name in ("raw", *TAILS):
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(export_bytes(detector, parse_variant(name), SIZE))
        found = open_file(path, detector.facts)
        contexts[name] = make_context(detector, found, oracle, clock, explore)

    feeds = [make("natural", SIZE, seed)[None] for seed in range(3)]
    for threads in (1, 2):
        contenders = {name: of_file(context, threads)[0] for name, context in contexts.items()}
        runners = {name: prepare(one.recipe) for name, one in contenders.items()}
        for name, one in contenders.items():
            require_right(one, runners[name], 1, SIZE)
        calls = {name: numbered_call(runner, feeds) for name, runner in runners.items()}
        seconds = take_turns(calls, ROUNDS, WARM_UP, len(feeds))
        print(f"\n{threads} threads, {len(runners['end2end-ort'].call({'images': feeds[0]})['output'])} detections")
        for name in TAILS:
            tail, fastest = ratio(seconds[name], seconds["raw"]), seconds[name].min() / seconds["raw"].min()
            print(
                f"  {name} / raw = {tail.middle:.4f} ({tail.low:.4f} to {tail.high:.4f}), of the fastest runs {fastest:.4f}"
            )
            assert tail.rounds == ROUNDS


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # its exporter's
def test_beside_ultralytics(tmp_path, monkeypatch):
    """Each maker's file against its own without suppression: their models differ, so that their times are not compared."""
    pytest.importorskip("ultralytics")
    monkeypatch.syspath_prepend(str(resources.root() / "scripts"))
    monkeypatch.chdir(tmp_path)
    theirs = _of_ultralytics()
    detector = seeded("yolov7-tiny", 1.0, 0)
    for name in ("raw", "end2end-ort"):
        (tmp_path / f"{name}.onnx").write_bytes(export_bytes(detector, parse_variant(name), SIZE))
    for name in theirs:
        assert main.main(["check", name, "--model", "ultralytics:yolov8n.pt", "--trust", "--quick", "-q"]) == 0
    for name in ("raw.onnx", "end2end-ort.onnx"):
        assert main.main(["check", name, "--arch", "yolov7-tiny", "--width", "1", "--quick", "-q"]) == 0

    feeds = [{"images": make("natural", SIZE, seed)[None].copy()} for seed in range(3)]
    pairs = {"ours": ("end2end-ort.onnx", "raw.onnx"), "ultralytics": tuple(theirs)}
    for threads in (1, 2):
        names = [name for pair in pairs.values() for name in pair]
        runners = {name: onnxruntime.prepare(tmp_path / name, Load(threads=threads)) for name in names}
        calls = {name: lambda k, one=one: one.call(feeds[k]) for name, one in runners.items()}
        seconds = take_turns(calls, ROUNDS, WARM_UP, len(feeds))
        for who, (tail, plain) in pairs.items():
            found = ratio(seconds[tail], seconds[plain])
            print(
                f"\n{threads} threads: {who}, {tail} / {plain} = {found.middle:.4f} ({found.low:.4f} to {found.high:.4f})"
            )
            assert found.rounds == ROUNDS


def _of_ultralytics():
    """Its exports of a model of random weights, whose scores spread so that the cap is reached: with suppression and without."""
    from foreign_table import conditioned, pictures, spread
    from ultralytics import YOLO

    model = YOLO("yolov8n.yaml")
    conditioned(model.model.eval(), pictures(SIZE[0]), lambda module, images: module(images))
    spread(model.model, pictures(SIZE[0])[:1], r"\.cv3\.\d+\.2$", -3.0)
    model.save("yolov8n.pt")
    asked = {"format": "onnx", "imgsz": SIZE[0], "opset": 12, "simplify": False}
    found = []
    for name, more in (("nms.onnx", {"nms": True, "conf": 0.25, "iou": 0.45, "max_det": 100}), ("plain.onnx", {})):
        os.replace(YOLO("yolov8n.pt").export(**asked, **more), name)
        found.append(name)
    return found
