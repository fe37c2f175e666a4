"""One page of each kind that detparity writes, with text of a file that tries to be markup."""

from __future__ import annotations

import json

from detparity.kit.tests.reports.samples import HOSTILE, page_report
from detparity.kit.tests.tools.diff import small_graphs as small

from detparity.reports import html
from detparity.reports.matrix import html as matrix
from detparity.reports.matrix import model, read
from detparity.tools.bench import html as bench
from detparity.tools.diff import html as diff
from detparity.tools.diff import report as diff_report
from detparity.tools.golden import html as golden
from detparity.tools.golden import review
from detparity.tools.golden.evaluate import Folders
from detparity.tools.golden.pending import Pending


def _diff(folder):
    for name, seed in (("a.onnx", 0), ("b.onnx", 1)):
        (folder / name).write_bytes(small.network(seed).SerializeToString())
    return diff.page(diff_report.diff(folder / "a.onnx", folder / "b.onnx"))


def _bench(folder):
    times = {"min": 0.001, "median": 0.002, "p90": 0.003, "p99": 0.004}
    one = {"engine": "eager", "nms": "without NMS", "note": "", "latency_seconds": times, "images_per_second": 500.0}
    one.update(load_seconds=0.1, first_call_seconds=0.2, peak_bytes=None, file_bytes=None)
    other = {**one, "engine": "onnxruntime", "note": HOSTILE, "peak_bytes": 5_000_000, "file_bytes": 1_000_000}
    ratio = {"median": 0.5, "low": 0.4, "high": 0.6, "differs": True}
    part = {"seconds": 0.001, "stage": "head", "module": HOSTILE}
    profile = {"title": "x.onnx", "note": HOSTILE, "total_seconds": 0.002, "overhead_seconds": 0.0005}
    return bench.page(
        {
            "model": HOSTILE,
            "batch": 1,
            "size": [64, 64],
            "threads": 1,
            "rounds": 3,
            "baseline": "eager",
            "confidence": 0.95,
            "resolution": 0.04,
            "environment": {"python": "3.11", "machine": "x86_64"},
            "machine": {"cores": 2},
            "busy": True,
            "repeat": "detparity bench x.onnx",
            "profiles": [{**profile, "stages": [part], "modules": [part]}],
            "contenders": [
                {**one, "title": "eager", "seconds": [0.002, 0.003, 0.002], "ratio": None},
                {**other, "title": "x.onnx", "seconds": [0.001, 0.001, 0.002], "ratio": ratio},
            ],
        }
    )


def pending(name="detections/car", holds=False):
    """A golden that waits, with a box that moved, one that was lost and one that is new, on two pictures."""
    now = {"pictures": [["scene", 0], ["scene", 1]], "size": [64, 96], "tolerance": {"box": 0.01, "score": 0.001}}
    same, was, moved = [0, 1, 0.9, 5, 5, 30, 30], [0, 0, 0.8, 40, 8, 80, 50], [0, 0, 0.8, 48, 8, 80, 50]
    lost, added = [1, "cup", 0.7, 5, 5, 30, 30], [1, "cat", 0.6, 50, 5, 90, 60]
    seen = {"before": {**now, "detections": [same, was, lost]}, "now": {**now, "detections": [same, moved, added]}}
    kind = name.partition("/")[0]
    parity = {"parity.declared": "passed" if holds else "failed"}
    more = {
        "versions": {},
        "was": None,
        "content": {},
        "lost": "" if holds else HOSTILE,
        "seen": seen,
        "drawn": "golden",
    }
    return Pending(name, kind, "car", "t", "r", "lane", words=(HOSTILE,) * 14, same=name, parity=parity, **more)


def _review(folder):
    waiting = (pending(), pending("graph/car", holds=True))
    return golden.page(review.Review(Folders(folder / "golden", folder / ".pending"), waiting))


def _matrix(folder):
    made = page_report()
    paths = [folder / f"{number}.json" for number in range(2)]
    limits = {"onnx_ir": 10, "onnx_opset": 21, "ort_ir": 10, "ort_opset": 21}
    for path, torch in zip(paths, ("2.12.0", "2.13.0")):
        lane = {"python": "3.11.9", "torch": torch, "onnx": "1.16.2", "onnxruntime": "1.19.2", "numpy": "1.26.4"}
        subject = {**made["subject"], "digest": "d" * 64}
        path.write_text(json.dumps({**made, "environment": lane, "limits": limits, "subject": subject}))
    return matrix.page(model.merge(read.read(paths), ()))


PAGES = {
    "report": lambda folder: html.page(page_report()),
    "matrix": _matrix,
    "diff": _diff,
    "bench": _bench,
    "review": _review,
}
