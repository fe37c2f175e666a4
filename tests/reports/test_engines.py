"""The table over files and engines."""

from __future__ import annotations

import pytest

from detparity.reports.engines import rows_of


@pytest.mark.parametrize(
    "engine, read, shown",
    [
        ({}, {"name": "float32", "weights": {}}, ""),
        ({}, {"name": "float16", "weights": {"float16": 9}}, "float16"),
        ({"name": "ncnn", "precision": "float32", "by default": "float32"}, None, "float32"),
        ({"name": "openvino", "precision": "float32", "by default": "bfloat16"}, None, "float32 (bfloat16 by default)"),
    ],
)
def test_precision_is_the_engine_s_or_that_of_the_weights_that_were_read(engine, read, shown):
    entry = {"path": "one", "verdict": "violates", "checks": [], "engine": engine, "precision": read}
    other = {"path": "other", "on": "openvino", "verdict": "conforms", "checks": []}

    assert rows_of([entry, other])[0]["precision"] == shown
