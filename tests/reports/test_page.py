"""The HTML page of a report: what it shows of findings and pictures, and that a browser shows it without an error."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from detparity.kit.tests.reports.samples import ABOUT

from detparity.core.findings import Finding, Outcome
from detparity.core.text import render
from detparity.core.verdict import artifact_verdict, outcome_record
from detparity.inputs.encoded import png
from detparity.reports import html, page_pictures, page_view, report

pytest.importorskip("jinja2")
QUICK = {**ABOUT, "quick": True}
HOSTILE = "</script><img src=x onerror=alert(1)>\x1b[2J\u202e"
MUST = Finding(
    "differs from the model.",
    (("error", "1 px"), ("where", HOSTILE)),
    notes=(HOSTILE,),
    evidence={"floors": 99.0, "limit": 4.0},
)
TABLE = Finding("has other names.", (("", "promised"), ("output", HOSTILE)), headed=True, level="SHOULD")


def _record(check, *findings, outcome=""):
    made = Outcome(check, "MUST", outcome or ("failed" if findings else "passed"), findings)
    return outcome_record(
        made, [render("a", check, one) for one in findings], f"detparity check 'a b' --checks {check}"
    )


def _entry(path, *records, **more):
    timings = {"engine_seconds": 0.0, "total_seconds": 0.5}
    return {
        "path": path,
        "how": "grid",
        "verdict": artifact_verdict(records, False),
        "checks": list(records),
        "timings": timings,
        **more,
    }


def _detection(change="", label="cat"):
    return {"box": [4.0, 4.0, 20.0, 30.0], "score": 0.9, "class": label, "change": change}


def _picture(name, pixels=40, **counts):
    image = f"data:image/png;base64,{base64.b64encode(png(np.full((pixels, pixels, 3), 90, np.uint8))).decode()}"
    return {
        "name": name,
        "height": pixels,
        "width": pixels,
        "image": image,
        "counts": {"model": 1, "file": 1, "same": 0, "moved": 0, "lost": 0, "added": 0, **counts},
        "model": [_detection("lost" if counts.get("lost") else "", HOSTILE)],
        "file": [_detection("added" if counts.get("added") else "")],
        "moved": [],
    }


@pytest.fixture(scope="module")
def made():
    noise = {"xy": {"stride": 8.0, "floor": 1e-6, "error": 2e-6, "floors": 2.0, "floors_max": 2.0, "limit": 4.0}}
    bad = _entry(
        f"{HOSTILE}.onnx",
        _record("parity.declared", MUST),
        _record("structure.outputs", TABLE),
        pictures=[_picture("scene 0"), _picture("scene 1", lost=1, added=1)],
        heat={
            "name": "scene 1",
            "limit": 8.0,
            "stride": 8,
            "group": "class",
            "floors": 70.0,
            "cells": f"data:image/png;base64,{base64.b64encode(png(np.zeros((2, 2, 3), np.uint8))).decode()}",
            "rows": [{"stride": 8, "group": "class", "anchors": [1.0, 70.0]}],
        },
    )
    good = _entry("good.onnx", _record("structure.load"), noise=noise, pictures=[_picture("scene 0")])
    broken = report.unusable_entry("c.onnx", f"c.onnx is no model: {HOSTILE}")
    return report.report(QUICK, [good, bad, broken], {"engine_seconds": 0.0, "total_seconds": 1.0})


def test_the_page_has_the_worst_file_first_and_nothing_of_a_file_as_markup(made):
    page = html.page(made)

    assert re.findall(r'data-verdict="(\w+)" aria-labelledby', page) == ["violates", "unusable", "conforms"]
    assert "<img" not in page and page.count("<script>") == 1 and "\x1b" not in page and "\u202e" not in page
    assert "3 files: 1 violates, 1 is unusable, 1 conforms." in page
    assert "<code>detparity check &#39;a b&#39; --checks parity.declared</code>" in page
    assert "<strong>Fix:</strong>" in page and "Error 99 floors, limit 4, on a logarithmic scale." in page
    assert not re.search(r'(src|href)="(?!#|data:image/(png|jpeg);base64,)', page)


def test_an_image_is_stored_once_and_what_changed_comes_first(made):
    page = html.page(made)

    assert len(made["images"]) == 1 and page.count("data:image/png;base64,") == 2  # and the map of errors
    assert page.index("<strong>scene 1</strong>") < page.index("<strong>scene 0</strong>")
    assert "The model detects 1, the file 1: 0 the same, 1 lost, 1 added." in page
    assert "Worst: class at stride 8, 70 floors; the limit is 8" in page and '<td class="n bad">70</td>' in page


def test_a_page_stays_small_and_says_what_it_left_out(made, monkeypatch):
    monkeypatch.setattr(page_pictures, "BUDGET", 10)
    page = html.page(made)

    assert "data:image" not in page.replace("img-src data:", "")
    assert "2 pictures are left out" in page and "1 picture is left out" in page


@pytest.mark.parametrize("floors, over", [(0.0, False), (4.0, False), (4.1, True), (1e30, True), (float("nan"), True)])
def test_a_bar_stays_inside_its_frame(floors, over):
    found = page_view.scale(floors, 4.0)

    assert found["over"] is over and 0 <= found["value"] <= 100 and 0 < found["limit"] < 100


def test_at_most_twenty_labels_are_drawn_those_of_what_changed():
    shot = _picture("s", lost=30, added=5)
    shot["model"] = [_detection("lost") for _ in range(30)] + [_detection() for _ in range(9)]
    shot["file"] = [_detection("added") for _ in range(5)]
    (shown,), _ = page_pictures.pictures([shot], {shot["image"]: ""})
    labels = [(layer["side"], box["label"]) for layer in shown["layers"] for box in layer["boxes"] if box["label"]]

    assert len(labels) == 20 and [side for side, _ in labels].count("file") == 5
    assert not any(box["label"] for layer in shown["layers"] if not layer["changed"] for box in layer["boxes"])


# --- in a browser


def _axe():
    """axe-core: of the file that DETPARITY_AXE names, else of the package axe-playwright-python."""
    named = os.environ.get("DETPARITY_AXE")
    if named:
        return Path(named)
    return Path(pytest.importorskip("axe_playwright_python").__file__).parent / "axe.min.js"


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    chromium, driver = (shutil.which(name) for name in ("chromium", "chromedriver"))
    if not chromium or not driver:
        pytest.skip("chromium and chromedriver are not installed")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    flags = "headless no-sandbox disable-gpu disable-quic no-first-run disable-background-networking"
    for flag in (*flags.split(), "disable-component-update", "disable-sync"):
        options.add_argument(f"--{flag}")
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    found = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield found
    found.quit()


def _show(browser, path, width, scheme):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": False}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    browser.get(path.as_uri())


@pytest.fixture
def path(made, tmp_path):
    found = tmp_path / "page.html"
    found.write_text(html.page(made), encoding="utf-8")
    return found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_overflows_and_axe_finds_nothing(browser, path, scheme):
    axe = _axe().read_text(encoding="utf-8")
    for width in (400, 800, 1400):
        _show(browser, path, width, scheme)
        browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        browser.execute_script(axe)
        found = browser.execute_async_script(
            "const done = arguments[0]; axe.run().then(r => done(r.violations.map(v => [v.id, v.nodes[0].html])))"
        )
        assert found == [], json.dumps(found, indent=1)
    assert browser.get_log("browser") == []


def test_filters_search_and_toggles(browser, path):
    _show(browser, path, 1000, "light")
    shown = (
        "return [...document.querySelectorAll('article')].filter(one => !one.hidden).map(one => one.dataset.verdict)"
    )
    drawn = "return getComputedStyle(document.querySelector('figure .{}')).display"
    browser.find_element("css selector", "button[data-verdict=violates]").click()
    assert browser.execute_script(shown) == ["violates"]
    browser.find_element("css selector", "button[data-verdict='']").click()
    browser.find_element("id", "search").send_keys("other names")
    assert browser.execute_script(shown) == ["violates"]
    assert browser.find_element("id", "count").text == "1 of 3 files shown"
    assert browser.execute_script(drawn.format("model.changed")) != "none"
    browser.find_element("css selector", "figure label[for$=-file]").click()
    assert browser.execute_script(drawn.format("model.changed")) == "none"
    assert browser.execute_script(drawn.format("file.changed")) != "none"
    assert browser.get_log("browser") == []
