"""`--layout`: presets by name, TOML of the user's own, and one line for what is neither."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detparity.checks.foreign.layout_file import layout_of
from detparity.core.errors import InputError
from detparity.core.layout import PRESETS, fields_of

GOOD = """
box = "xyxy"
selected = true
[preprocessing]
scale = 255
mean = [0.5, 0.5, 0.5]
std = [0.2, 0.2, 0.2]
resize = "stretch"
[[output]]
axis = 2
[[output.field]]
name = "corners"
start = 0
stop = 4
unit = "px"
role = "box"
[[output.field]]
name = "landmarks"
start = 4
each = true
[[output]]
batched = false
"""


def test_presets_by_name():
    assert {name: layout_of(name) for name in PRESETS} == dict(PRESETS)


def test_a_file_of_the_user(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    layout = layout_of(str(path))
    assert (layout.name, layout.box, layout.selected, len(layout.outputs)) == ("mine", "xyxy", True, 2)
    assert layout.preprocessing.scale == 255.0 and layout.preprocessing.resize == "stretch"
    assert [field.name for field in fields_of(layout.outputs[0], 6)] == ["corners", "landmarks 0", "landmarks 1"]
    assert not layout.outputs[1].batched


BAD = {
    "no table": "box = 'xyxy'",
    "output is a number": "output = 3",
    "output of numbers": "output = [3]",
    "unknown key": "colour = 1\n[[output]]",
    "unknown key of an output": "[[output]]\nrows = 3",
    "unknown key of a field": "[[output]]\n[[output.field]]\nname='a'\nstart=0\nwidth=2",
    "unknown box": "box = 'ltwh'\n[[output]]",
    "box is a list": "box = ['xyxy']\n[[output]]",
    "axis is text": "[[output]]\naxis = 'rows'",
    "axis is the batch": "[[output]]\naxis = 0",
    "axis is true": "[[output]]\naxis = true",
    "batched is text": "[[output]]\nbatched = 'no'",
    "fields are no tables": "[[output]]\nfield = 4",
    "field without a start": "[[output]]\n[[output.field]]\nname='a'",
    "field without a name": "[[output]]\n[[output.field]]\nstart=0",
    "start is text": "[[output]]\n[[output.field]]\nname='a'\nstart='0'",
    "start is true": "[[output]]\n[[output.field]]\nname='a'\nstart=true",
    "stop is a fraction": "[[output]]\n[[output.field]]\nname='a'\nstart=0\nstop=1.5",
    "stop before start": "[[output]]\n[[output.field]]\nname='a'\nstart=4\nstop=2",
    "two fields of one name": "[[output]]\n[[output.field]]\nname='a'\nstart=0\nstop=1\n[[output.field]]\nname='a'\nstart=1",
    "each is a number": "[[output]]\n[[output.field]]\nname='a'\nstart=0\neach=1",
    "unknown unit": "[[output]]\n[[output.field]]\nname='a'\nstart=0\nunit='metre'",
    "unit is a table": "[[output]]\n[[output.field]]\nname='a'\nstart=0\nunit={a=1}",
    "unknown role": "[[output]]\n[[output.field]]\nname='a'\nstart=0\nrole='mask'",
    "preprocessing is a number": "preprocessing = 3\n[[output]]",
    "scale is text": "[preprocessing]\nscale='255'\n[[output]]",
    "scale without end": "[preprocessing]\nscale=1" + 400 * "0" + "\n[[output]]",
    "scale is nothing": "[preprocessing]\nscale=nan\n[[output]]",
    "mean without std": "[preprocessing]\nmean=[1,1,1]\n[[output]]",
    "mean of two": "[preprocessing]\nmean=[1,1]\nstd=[1,1]\n[[output]]",
    "mean is a number": "[preprocessing]\nmean=1\nstd=1\n[[output]]",
    "std of zero": "[preprocessing]\nmean=[0,0,0]\nstd=[1,0,1]\n[[output]]",
    "unknown resize": "[preprocessing]\nresize='crop'\n[[output]]",
    "selected is text": "selected='yes'\n[[output]]",
    "after is a list": "after=[1]\n[[output]]",
    "no TOML": "[[output",
    "twice": "box='xyxy'\nbox='xyxy'",
}


def _refused(text):
    with pytest.raises(InputError) as caught:
        layout_of(text)
    message = str(caught.value)
    assert "\n" not in message and len(message) < 600, message
    return message


@pytest.mark.parametrize("text", BAD.values(), ids=BAD)
def test_bad_files_are_one_line(text, tmp_path):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    assert str(path) in _refused(str(path))


@pytest.mark.parametrize("text", ["ultralitics", "", "a.yaml", "missing.toml"])
def test_names_of_nothing_are_one_line(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _refused(text)


def test_bytes_that_are_no_text(tmp_path):
    (tmp_path / "a.toml").write_bytes(b"\xff\xfe\x00")
    _refused(str(tmp_path / "a.toml"))
    (tmp_path / "b.toml").mkdir()
    _refused(str(tmp_path / "b.toml"))


VALUES = st.one_of(
    st.integers(-9, 9),
    st.booleans(),
    st.floats(),
    st.sampled_from(["xyxy", "px", "score", "", "a"]),
    st.lists(st.integers(0, 3), max_size=3),
)
KEYS = st.sampled_from(
    ["box", "selected", "after", "axis", "batched", "name", "start", "stop", "unit", "role", "scale", "mean"]
)
TABLES = st.sampled_from(["", "[preprocessing]", "[[output]]", "[[output.field]]", "[output]"])


def _toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    return repr(value) if not isinstance(value, float) else repr(value).replace("inf", "inf")


@settings(max_examples=80, derandomize=True, database=None, deadline=None)
@given(st.lists(st.tuples(TABLES, st.dictionaries(KEYS, VALUES, max_size=4)), max_size=4))
def test_any_file_is_a_layout_or_one_line(tables):
    text = "\n".join(
        line
        for table, entries in tables
        for line in (table, *(f"{key} = {_toml(value)}" for key, value in entries.items()))
    )
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "any.toml"
        path.write_text(text, encoding="utf-8")
        try:
            layout = layout_of(str(path))
        except InputError as error:
            assert "\n" not in str(error)
        else:
            assert layout.outputs
