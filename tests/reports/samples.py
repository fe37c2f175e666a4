"""What pages say of a run, for those made by tests."""

from __future__ import annotations

import base64

import numpy as np

from detparity.core.findings import Finding, Outcome
from detparity.core.text import render
from detparity.core.verdict import artifact_verdict, outcome_record
from detparity.inputs.encoded import png
from detparity.reports import report

ABOUT = {
    "strict": False,
    "quick": False,
    "environment": {"python": "3.11"},
    "isolation": "confined",
    "limits": {},
    "subject": {"name": "m", "digest": "0", "classes": 5, "strides": [8, 16, 32], "weights": None},
}
QUICK = {**ABOUT, "quick": True}
CELLS = f"data:image/png;base64,{base64.b64encode(png(np.zeros((2, 2, 4), np.uint8))).decode()}"
HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[2J\u202e"
MUST = Finding(
    "differs from the model.",
    (("error", "1 px"), ("where", HOSTILE)),
    notes=(HOSTILE,),
    evidence={"floors": 99.0, "limit": 4.0},
)
TABLE = Finding("has other names.", (("", "promised"), ("output", HOSTILE)), headed=True, level="SHOULD")


def record(check, *findings, outcome=""):
    made = Outcome(check, "MUST", outcome or ("failed" if findings else "passed"), findings)
    return outcome_record(
        made, [render("a", check, one) for one in findings], f"detparity check 'a b' --checks {check}"
    )


def entry(path, *records, **more):
    timings = {"engine_seconds": 0.0, "total_seconds": 0.5}
    return {
        "path": path,
        "how": "grid",
        "verdict": artifact_verdict(records, False),
        "checks": list(records),
        "timings": timings,
        **more,
    }


def detection(change="", label="cat"):
    return {"box": [4.0, 4.0, 20.0, 30.0], "score": 0.9, "class": label, "change": change}


def picture(name, pixels=40, **counts):
    image = f"data:image/png;base64,{base64.b64encode(png(np.full((pixels, pixels, 3), 90, np.uint8))).decode()}"
    return {
        "name": name,
        "height": pixels,
        "width": pixels,
        "image": image,
        "counts": {"model": 1, "file": 1, "same": 0, "moved": 0, "lost": 0, "added": 0, **counts},
        "model": [detection("lost" if counts.get("lost") else "", HOSTILE)],
        "file": [detection("added" if counts.get("added") else "")],
        "moved": [],
    }


def page_report():
    """A file that violates, with all that a page can show; one that conforms; one that cannot be read."""
    noise = {"xy": {"stride": 8.0, "floor": 1e-6, "error": 2e-6, "floors": 2.0, "floors_max": 2.0, "limit": 4.0}}
    bad = entry(
        f"{HOSTILE}.onnx",
        record("parity.declared", MUST),
        record("structure.outputs", TABLE),
        pictures=[picture("scene 0"), picture("scene 1", lost=1, added=1)],
        heat={
            "name": "scene 1",
            "limit": 8.0,
            "stride": 8,
            "group": "class",
            "floors": 70.0,
            "cells": CELLS,
            "rows": [{"stride": 8, "group": "class", "anchors": [1.0, 70.0]}],
        },
    )
    good = entry(
        "good.onnx",
        record("structure.load"),
        noise=noise,
        pictures=[picture("scene 0")],
        graph={
            "other": "before.onnx",
            "same": False,
            "differences": [{"kind": "constants", "words": f"Mul constant: {HOSTILE}"}],
            "first_apart": ["/Mul_1", "/Mul_2"],
            "tensors": [{"tensor": HOSTILE, "what": "multiplied by 2", "relative": 1.0}],
        },
        heat={
            "name": "scene 0",
            "limit": 8.0,
            "stride": 0,
            "group": "output box",
            "floors": 1.5,
            "rows": [{"stride": 0, "group": f"output {HOSTILE}", "floors": 1.5, "strip": CELLS}],
        },
    )
    broken = report.unusable_entry("c.onnx", f"c.onnx is no model: {HOSTILE}")
    return report.report(QUICK, [good, bad, broken], {"engine_seconds": 0.0, "total_seconds": 1.0})
