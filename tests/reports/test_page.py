"""The HTML page of a report: what it shows of findings and pictures, and that a browser shows it without an error."""

from __future__ import annotations

import re

import pytest
from detparity.kit.tests.reports.samples import detection, page_report, picture

from detparity.reports import html, page_pictures, page_view, terminal

pytest.importorskip("jinja2")


@pytest.fixture(scope="module")
def made():
    return page_report()


def test_the_page_has_the_worst_file_first_and_nothing_of_a_file_as_markup(made):
    page = html.page(made)

    assert re.findall(r'data-verdict="(\w+)" aria-labelledby', page) == ["violates", "unusable", "conforms"]
    assert "<img src=x" not in page and page.count("<script>") == 1 and "\x1b" not in page and "\u202e" not in page
    assert "3 files: 1 violates, 1 is unusable, 1 conforms." in page
    assert "<code>detparity check &#39;a b&#39; --checks parity.declared</code>" in page
    assert "<strong>Fix:</strong>" in page and "Error 99 floors, limit 4, on a logarithmic scale." in page
    assert not re.search(r'(src|href)="(?!#|data:image/(png|jpeg);base64,)', page)


def test_an_image_is_stored_once_and_what_changed_comes_first(made):
    page = html.page(made)

    assert len(made["images"]) == 1 and page.count("data:image/png;base64,") == 3  # and two maps of errors
    assert page.index("<strong>scene 1</strong>") < page.index("<strong>scene 0</strong>")
    assert "The model detects 1, the file 1: 0 the same, 1 lost, 1 added." in page
    assert "Worst: class at stride 8, 70 floors; the limit is 8" in page and '<td class="n bad">70</td>' in page


def test_errors_by_rows_and_the_graph_of_another_model_are_shown(made):
    page = html.page(made)

    assert "<summary>Errors over scene 0: within the noise of float32</summary>" in page
    assert "The graph against before.onnx" in page and "A: /Mul_1\nB: /Mul_2" in page and "multiplied by 2" in page
    assert "On 2 pictures: the model detects 2, the file 2: 0 the same, 1 lost, 1 added." in page


def test_a_page_stays_small_and_says_what_it_left_out(made, monkeypatch):
    monkeypatch.setattr(page_pictures, "BUDGET", 10)
    page = html.page(made)

    assert '<image id="image-' not in page
    assert "2 pictures are left out" in page and "1 picture is left out" in page


@pytest.mark.parametrize("floors, over", [(0.0, False), (4.0, False), (4.1, True), (1e30, True), (float("nan"), True)])
def test_a_bar_stays_inside_its_frame(floors, over):
    found = page_view.scale(floors, 4.0)

    assert found["over"] is over and 0 <= found["value"] <= 100 and 0 < found["limit"] < 100


def test_labels_cover_no_other_and_stay_inside():
    shot = picture("s", lost=6, added=6, pixels=400)
    shot["model"] = [detection("lost") for _ in range(6)]
    shot["file"] = [{**detection("added"), "box": [150.0, 150.0, 390.0, 399.0]} for _ in range(4)]
    (shown,), _ = page_pictures.pictures([shot], {shot["image"]: ""})
    labels = [box for layer in shown["layers"] for box in layer["boxes"] if box["label"]]
    file = [box for box in labels if box["label"].startswith("+")]

    assert len({(box["left"], box["top"]) for box in file}) == 4
    assert all(0 <= box["left"] <= 400 - box["wide"] and 0 <= box["top"] <= 400 - shown["plate"] for box in labels)
    assert labels[0]["label"] == "\u2212 cat 0.90"


def test_at_most_twenty_labels_are_drawn_those_of_what_changed():
    shot = picture("s", lost=30, added=5, pixels=800)
    corners = [(10.0 + 130 * (k % 6), 10.0 + 110 * (k // 6)) for k in range(35)]
    boxes = [[x, y, x + 80, y + 80] for x, y in corners]
    shot["model"] = [{**detection("lost"), "box": box} for box in boxes[:30]] + [detection() for _ in range(9)]
    shot["file"] = [{**detection("added"), "box": box} for box in boxes[30:]]
    (shown,), _ = page_pictures.pictures([shot], {shot["image"]: ""})
    labels = [(layer["side"], box["label"]) for layer in shown["layers"] for box in layer["boxes"] if box["label"]]

    assert len(labels) == 20 and [side for side, _ in labels].count("file") == 5
    assert not any(box["label"] for layer in shown["layers"] if not layer["changed"] for box in layer["boxes"])


def test_a_label_without_a_position_of_its_own_is_left_out_on_both_sides():
    shot = picture("s", lost=20, added=20)
    shot["model"], shot["file"] = ([detection(one) for _ in range(20)] for one in ("lost", "added"))
    (shown,), _ = page_pictures.pictures([shot], {shot["image"]: ""})
    found = [(layer["side"], box) for layer in shown["layers"] for box in layer["boxes"] if box["label"]]
    spots = {(box["left"], box["top"]) for _, box in found}

    assert 2 <= len(found) == len(spots) < 20 and {side for side, _ in found} == {"model", "file"}


def test_near_ties_are_no_alarm_and_of_many_files_those_with_nothing_found_are_folded(made):
    good, bad, _ = made["artifacts"]
    ties = {**good, "near_ties": True, "pictures": bad["pictures"][1:]}
    few = html.page(made)
    page = html.page({**made, "artifacts": [*made["artifacts"], ties, ties]})
    folded = page.count('<details class="file print">')

    assert few.count('<details class="file print">') == 0
    assert folded == 3, "all but the file that violates and the one that cannot be read"
    assert page.count("either side chooses between candidates that are equal but for noise") == 2
    assert '<span class="quiet">1 lost, 1 added</span> The model detects 1, the file 1.' in page
    assert '<span class="bad">1 lost, 1 added</span>' in page


def test_a_terminal_says_so_of_near_ties():
    total = {"model": 9, "file": 9, "same": 8, "moved": 0, "lost": 1, "added": 1}
    found = {"images": {"each": [total], "total": total}}

    assert "near-ties" not in "\n".join(terminal.on_pictures(found))
    assert "What differs on the pictures are near-ties" in "\n".join(terminal.on_pictures({**found, "near_ties": True}))
