"""Every page in headless Chromium: nothing overflows, axe-core finds nothing, no error on the console; filters, keyboard, print."""

from __future__ import annotations

import base64
import json
import os
import shutil
from pathlib import Path

import pytest
from detparity.kit.tests.reports import sample_pages

pytest.importorskip("jinja2")


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
def path(tmp_path):
    """Call with the name of a page for its file."""

    def write(name):
        found = tmp_path / f"{name}.html"
        found.write_text(sample_pages.PAGES[name](tmp_path), encoding="utf-8")
        return found

    return write


@pytest.mark.parametrize("name", list(sample_pages.PAGES))
def test_nothing_overflows_and_axe_finds_nothing(browser, path, name):
    axe, path = _axe().read_text(encoding="utf-8"), path(name)
    assert path.stat().st_size < 10_000_000
    for width, scheme in ((1400, "light"), (800, "dark"), (400, "light"), (400, "dark")):
        _show(browser, path, width, scheme)
        browser.execute_script("document.querySelectorAll('details').forEach(one => { one.open = true; })")
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        if width < 1400:
            browser.execute_script(axe)
            found = browser.execute_async_script(
                "const done = arguments[0]; axe.run().then(r => done(r.violations.map(v => [v.id, v.nodes[0].html])))"
            )
            assert found == [], json.dumps(found, indent=1)
    assert browser.get_log("browser") == []


def test_filters_search_and_toggles(browser, path):
    _show(browser, path("report"), 1000, "light")
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


def test_all_of_it_is_reached_by_the_keyboard_and_details_open_by_their_links(browser, path):
    _show(browser, path("report"), 1000, "light")
    key = {"type": "keyDown", "key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9}
    seen = []
    for _ in range(60):
        browser.execute_cdp_cmd("Input.dispatchKeyEvent", key)
        seen.append(
            browser.execute_script("const e = document.activeElement; return [e.tagName, e.className, e.type || '']")
        )
        if seen[-1][0] == "BODY":
            break
    assert seen[0][:2] == ["A", "skip"]
    kinds = {(tag, kind) for tag, _, kind in seen}
    assert {("INPUT", "search"), ("BUTTON", "button"), ("INPUT", "radio"), ("SUMMARY", ""), ("A", "")} <= kinds
    opened = "document.querySelector('details.checks tr[id]').closest('details').open"
    browser.execute_script("location.hash = document.querySelector('details.checks tr[id]').id")
    assert browser.execute_async_script(f"const done = arguments[0]; setTimeout(() => done({opened}), 50)")


def test_it_prints_without_controls_and_with_every_finding(browser, path):
    _show(browser, path("report"), 1000, "dark")
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print", "features": []})
    hidden = "return [...document.querySelectorAll('.filters, fieldset, .repeat button')].every(e => !e.offsetParent)"
    assert browser.execute_script(hidden)
    assert browser.execute_script("return getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    printed = base64.b64decode(browser.execute_cdp_cmd("Page.printToPDF", {"printBackground": False})["data"])
    assert printed.startswith(b"%PDF") and len(printed) > 10_000
