"""The pages name files that exist: paths in backticks and in commands, and relative links with their anchors."""

from __future__ import annotations

import re
from pathlib import Path

from detparity.core import resources

ROOT = resources.root()
PAGES = [
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "suites" / "README.md",
]
ENDINGS = (".ini", ".json", ".md", ".png", ".pt", ".py", ".svg", ".toml", ".tsv", ".txt", ".yaml", ".yml", "/")
PLACEHOLDER = re.compile(r"(?<![A-Za-z])(NAME|FILE|DIR|FOLDER|LANE)(?![A-Za-z])")
# Folders whose files are always this repository's; golden/ and reports/ in a command are also a user's.
OURS = ("benchmarks", "constraints", "detparity", "docs", "exporters", "scripts", "suites", "tests")
LINK = re.compile(r"\]\(([^()\s]+)\)")


def _parts(page: Path):
    """The page's prose and its code blocks, indented or fenced, as two lists of numbered lines."""
    prose, code, fenced = [], [], False
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1):
        if line.startswith("```"):
            fenced = not fenced
        else:
            (code if fenced or line.startswith("    ") else prose).append((number, line))
    return prose, code


def _paths(text: str):
    """Words that are paths: with a slash and a known ending; the id of a test is reduced to its file."""
    for word in text.split():
        path = word.split("::")[0].strip("'\"(),;")
        if "/" in path and "://" not in path and path.endswith(ENDINGS) and not PLACEHOLDER.search(path):
            yield path


def _exists(path: str, page: Path):
    """From the repository's root, from the page's folder, or, as docs/architecture.md writes them, from detparity/."""
    return any((folder / path).exists() for folder in (ROOT, page.parent, ROOT / "detparity"))


def _anchors(page: Path):
    """Anchors of a page's headings, as GitHub makes them."""
    found = []
    for _, line in _parts(page)[0]:
        if re.match(r"#+ ", line):
            slug = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower()).replace(" ", "-")
            count = sum(other == slug or re.fullmatch(rf"{re.escape(slug)}-\d+", other) is not None for other in found)
            found.append(f"{slug}-{count}" if count else slug)
    return found


def test_paths_in_backticks_exist():
    missing = [
        f"{page.relative_to(ROOT)}:{number}: {path}"
        for page in PAGES
        for number, line in _parts(page)[0]
        for quoted in re.findall(r"`([^`]+)`", line)
        for path in _paths(quoted)
        if not _exists(path, page)
    ]

    assert missing == []


def test_paths_in_commands_exist():
    missing = [
        f"{page.relative_to(ROOT)}:{number}: {path}"
        for page in PAGES
        for number, line in _parts(page)[1]
        for path in _paths(line)
        if path.split("/")[0] in OURS and not _exists(path, page)
    ]

    assert missing == []


def test_relative_links_and_their_anchors_exist():
    missing = []
    for page in PAGES:
        for number, line in _parts(page)[0]:
            for target in LINK.findall(re.sub(r"`[^`]*`", "", line)):
                name, _, anchor = target.partition("#")
                file = (page.parent / name) if name else page
                if re.match(r"[a-z]+:", target):
                    continue
                if not file.exists() or (anchor and anchor not in _anchors(file)):
                    missing.append(f"{page.relative_to(ROOT)}:{number}: {target}")

    assert missing == []


def test_what_is_found_missing():
    assert list(_paths("pytest suites/parity/test_parity.py::test_promise[grid:parity.sizes] -k x")) == [
        "suites/parity/test_parity.py"
    ]
    assert list(_paths("exporters/NAME.py golden/nms/NAME.json reports/LANE.json https://a.org/b.md float/int")) == []
    assert list(_paths("detparity/detectors/network.py, suites/script/ DIRECTIONS/x.py")) == [
        "detparity/detectors/network.py",
        "suites/script/",
        "DIRECTIONS/x.py",
    ]
    assert not _exists("detparity/detectors/network.py", ROOT / "README.md")
    assert _anchors(ROOT / "docs" / "performance.md").count("the-tail-of-our-exports") == 1
