"""Plain words: one list, held over identifiers, options, messages and headings. docs/glossary.md has the words to use instead."""

from __future__ import annotations

import ast
import functools
import re

from detparity.core import resources

ROOT = resources.root()
# Each says too little or too much of software. "ways" of float32 and "takes turns" of timed series are terms, so only "way" is here.
AVOIDED = frozenset(
    (
        *(
            "told",
            "said",
            "kept",
            "wanted",
            "meant",
            "gone",
            "fresh",
            "alike",
            "whole",
            "way",
            "place",
            "nobody",
            "whoever",
        ),
        *("debt", "debts", "owed", "ledger", "trial", "trials", "room", "rooms"),
    )
)
PHRASES = re.compile(r"\b(stands|hangs on|in words)\b")
FOLDERS = ("detparity", "exporters", "suites", "scripts", "benchmarks")
# A message may quote a file of the first format, or a Python API.
ALLOWED = {
    "detparity/checks/known_failures.py": {"debt", "says"},  # entries of format 1
    "detparity/reports/matrix/read.py": {"debt"},  # reports of schema 1 and 2
    "detparity/oracle/authored_cases.py": {"kept"},  # a field of the authored cases
    "scripts/compare_revisions.py": {"debt", "told", "way"},  # undoes the renames
}


def _sources():
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            if "_kit" not in path.parts and path.name != "test_words.py":
                yield path, path.relative_to(ROOT).as_posix()


@functools.cache
def _tree(path):
    return ast.parse(path.read_text(encoding="utf-8"))


def _words(identifier):
    identifier = re.sub(r"in_place", "", identifier, flags=re.IGNORECASE)  # the technical term
    return {part.lower() for part in re.findall(r"[A-Z]?[a-z]+|[A-Z]+", identifier)}


def _identifiers(tree):
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.lineno, node.name
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.id
        elif isinstance(node, ast.arg):
            yield node.lineno, node.arg
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.lineno, node.attr


def _docstrings(tree):
    holders = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    return {id(node.body[0].value) for node in ast.walk(tree) if isinstance(node, holders) and ast.get_docstring(node)}


def _texts(tree):
    """String constants that are sentences, options or help, parts of f-strings included; docstrings apart."""
    left_out = _docstrings(tree)
    for node in ast.walk(tree):
        text = node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""
        if id(node) not in left_out and (" " in text or text.startswith("--")):
            yield node.lineno, text


def _avoided(text):
    plain = re.sub(r"in[ -]place|in its place", "", text.lower())  # the technical term, and "instead of"
    return set(re.findall(r"[a-z]+", plain)) & AVOIDED


def test_identifiers_are_plain():
    wrong = [
        f"{name}:{line}: {identifier}"
        for path, name in _sources()
        for line, identifier in _identifiers(_tree(path))
        if _words(identifier) & (AVOIDED - ALLOWED.get(name, set()))
    ]

    assert sorted(set(wrong)) == []


def test_messages_and_options_are_plain():
    wrong = []
    for path, name in _sources():
        if name.startswith("tests/"):  # tests quote what others say
            continue
        for line, text in _texts(_tree(path)):
            if _avoided(text) - ALLOWED.get(name, set()) or PHRASES.search(text):
                wrong.append(f"{name}:{line}: {text[:80]!r}")

    assert wrong == []


def test_guides_are_plain():
    texts = (ROOT / "detparity/core/guides.toml").read_text(encoding="utf-8").splitlines()
    wrong = [line for line in texts if _avoided(line) or PHRASES.search(line)]

    assert len(texts) > 100 and wrong == []


def test_headings_of_docs_are_plain():
    pages = [*sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*.md"))]
    wrong = [
        f"{page.name}: {line}"
        for page in pages
        for line in page.read_text(encoding="utf-8").splitlines()
        if line.startswith("#") and (set(re.findall(r"[a-z]+", line.lower())) & AVOIDED or PHRASES.search(line))
    ]

    assert wrong == []


def test_comments_cite_nothing_a_clone_has_not():
    wrong = [
        f"{name}: {found.group(0)}"
        for path, name in _sources()
        for found in re.finditer(r"\b[Mm]useum \d+|\bissue \d+\b(?! of)", path.read_text(encoding="utf-8"))
        if "pytorch issue" not in path.read_text(encoding="utf-8")[max(0, found.start() - 12) : found.end()]
    ]

    assert wrong == []
