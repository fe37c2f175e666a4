"""`detparity diff` as its users meet it: what it says of two files, how it ends, and what it refuses."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from detparity.kit.tests.examples import examples
from detparity.kit.tests.tools.diff import small_graphs as small
from onnx import TensorProto, helper, numpy_helper

from detparity.artifacts import onnx_graph
from detparity.cli import main
from detparity.core.errors import NotMade
from detparity.tools.diff import output_diff, report
from detparity.tools.diff.graph_summary import official_name
from detparity.tools.diff.tensor_diff import apart, happened


@pytest.fixture
def diff(tmp_path, monkeypatch, capsys):
    """Call with two models (or paths) for (exit code, stdout, stderr) of the command, run in their folder as a.onnx and b.onnx."""
    monkeypatch.chdir(tmp_path)

    def put(name, item):
        if isinstance(item, (str, Path)):
            return str(item)
        Path(name).write_bytes(item if isinstance(item, bytes) else item.SerializeToString())
        return name

    def run(a, b, *more):
        code = main.main(["diff", put("a.onnx", a), put("b.onnx", b), *map(str, more)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def bundled(made):
    """Call with an exporter's name for what it makes of the bundled detector."""

    def load(name):
        found = made(name)
        if isinstance(found, NotMade):
            pytest.skip(f"{name}: {found}")
        return onnx.load(str(found))

    return load


def scaled(model, name, factor):
    other = small.copied(model)
    item = next(item for item in other.graph.initializer if official_name(item.name) == name)
    item.CopyFrom(small.tensor(item.name, numpy_helper.to_array(item) * np.float32(factor)))
    return other


def rows(out):
    """The lines of the output, each as its words."""
    return [line.split() for line in out.splitlines()]


# --- the same --------------------------------------------------------------------------------------------------------


def test_a_file_and_itself(diff):
    assert diff(small.network(), small.network()) == (0, "a.onnx and b.onnx are the same file\n", "")


def test_other_names_and_another_order_are_one_line(diff):
    model = small.network()
    other = small.copied(model)
    small._renamed(other, np.random.default_rng(0))

    code, out, err = diff(model, other)

    assert (code, err) == (0, "")
    assert out == "a.onnx and b.onnx are the same graph; names of inner values differ\n"


def test_everything_spelled_otherwise_is_the_same_graph(diff):
    code, out, _ = diff(small.conditional(), small.respelled(small.conditional(), 4))

    assert code == 0 and out.startswith("a.onnx and b.onnx are the same graph; ") and out.count("\n") == 1
    for what in ("names of inner values", "storage of constants", "Identity nodes"):
        assert what in out


def test_a_comment_is_reported_and_no_difference(diff):
    other = small.network()
    other.doc_string = "made on a Friday"

    code, out, _ = diff(small.network(), other)

    assert code == 0 and "the same graph; how it is written down" in out


# --- different -------------------------------------------------------------------------------------------------------


def test_one_tensor_that_was_scaled(diff, bundled, tmp_path):
    model = bundled("grid")

    code, out, err = diff(model, scaled(model, "model.37.conv.weight", 1.0001), "--json", tmp_path / "d.json")

    assert (code, err) == (1, "")
    assert out.startswith("B differs from A in weights.\n")
    assert ["model.37.conv.weight", "0.0001", "multiplied", "by", "1.0001"] in rows(out)
    assert "estimated" not in out and "first apart" not in out
    assert "Run at 1x3x256x320 with onnxruntime:" in out
    noise = next(row for row in rows(out) if row[:2] == ["output", "noise"])
    assert 0 < float(noise[3]) < float(noise[2]) < 1
    assert max(map(len, out.splitlines())) <= 120

    found = json.loads((tmp_path / "d.json").read_text())
    assert found["schema"] == report.SCHEMA and found["same"] is False and found["not_compared"] is None
    assert found["tensors"][0]["tensor"] == "model.37.conv.weight"
    assert found["tensors"][0]["relative"] == pytest.approx(1e-4, rel=1e-3)
    assert [item["kind"] for item in found["differences"]] == ["weights"]
    first = found["numbers"]["outputs"][0]
    assert first["names"] == ["output", "output"] and first["largest"] == pytest.approx(float(noise[2]), rel=1e-3)
    assert len(first["place"]) == 3 and first["values"][0] != first["values"][1]


def test_a_page_has_the_same(diff, tmp_path):
    pytest.importorskip("jinja2")
    code, out, _ = diff(small.network(0), small.network(1), "--html", tmp_path / "d.html")
    page = (tmp_path / "d.html").read_text()

    assert (
        code == 1 and "<h1>B differs from A in weights</h1>" in page and out.startswith("B differs from A in weights.")
    )
    assert "model.0" in page and "What happened" in page and "Run at 1x3x32x32 with onnxruntime." in page
    code, *_ = diff(small.network(0), small.network(0), "--html", tmp_path / "d.html")
    assert code == 0 and "<h1>A and B are the same file</h1>" in (tmp_path / "d.html").read_text()


def test_the_first_operators_apart_are_named(diff):
    other = small.network()
    node = [item for item in other.graph.node if item.op_type == "LeakyRelu"][2]
    node.attribute[0].f = 0.2
    node.name = "the culprit"

    code, out, _ = diff(small.network(), other)

    assert code == 1
    assert "LeakyRelu alpha: 0.1 in 5 nodes -> 0.1 in 4, 0.2 in 1" in out
    assert "first apart  A: LeakyRelu making 'act2'; B: the culprit" in out


def test_the_largest_difference_is_where_it_says(diff, tmp_path):
    """Only one row of the output moves, by a half: the position, the values and the root mean square follow."""
    model = small.network()
    other = small.copied(model)
    step = np.zeros((1, 256, 6), np.float32)
    step[0, 77, 3] = 0.5
    other.graph.initializer.append(small.tensor("step", step))
    other.graph.node[-1].output[0] = "before"
    other.graph.node.append(helper.make_node("Add", ["before", "step"], ["output"]))

    code, _, _ = diff(model, other, "--json", tmp_path / "d.json")

    found = json.loads((tmp_path / "d.json").read_text())["numbers"]["outputs"]
    assert code == 1 and [item["picture"] for item in found] == ["noise", "natural"]
    for item in found:
        assert item["place"] == [0, 77, 3] and item["count"] == 1
        assert item["largest"] == pytest.approx(0.5, rel=1e-4)
        assert item["values"][1] - item["values"][0] == pytest.approx(0.5, rel=1e-4)
        assert item["rms"] == pytest.approx(0.5 / np.sqrt(256 * 6), rel=1e-4)


def test_graphs_that_differ_and_numbers_that_do_not(diff):
    other = small.network()
    other.graph.node[0].output[0] = "early"
    other.graph.node.insert(1, helper.make_node("Neg", ["early"], ["negative"]))
    other.graph.node.insert(2, helper.make_node("Neg", ["negative"], ["conv0"]))

    code, out, _ = diff(small.network(), other)

    assert code == 1 and "Neg 0 -> 2" in out
    assert "every output both have is the same, byte for byte, on noise and natural." in out


def test_outputs_of_other_shapes_are_reported_and_not_broadcast(diff):
    other = small.network()
    other.graph.initializer.append(small.tensor("first", np.array([0, 1, 2])))
    other.graph.node[-1].output[0] = "all"
    other.graph.node.append(helper.make_node("Gather", ["all", "first"], ["output"], axis=1))
    del other.graph.output[0].type.tensor_type.shape.dim[1]
    other.graph.output[0].type.tensor_type.shape.dim.insert(1, onnx.TensorShapeProto.Dimension(dim_value=3))

    code, out, _ = diff(small.network(), other)

    assert code == 1 and "output axis 1: 256 -> 3" in out
    assert ["output", "noise", "-", "-", "256", "->", "3", "along", "axis", "1"] in rows(out)


def test_counts_of_detections_come_first(diff, bundled):
    model = bundled("end2end-ort")
    other = small.copied(model)
    limit = next(item for item in other.graph.node if item.op_type == "NonMaxSuppression").input[4]
    item = next(item for item in other.graph.initializer if item.name == limit)
    item.CopyFrom(small.tensor(limit, numpy_helper.to_array(item) * np.float32(1.7)))

    code, out, _ = diff(model, other)

    assert code == 1 and "NonMaxSuppression score_threshold [0.25] -> [0.425]" in out
    assert any(row[1:2] == ["noise"] and row[-3:] == ["along", "axis", "0"] for row in rows(out)), out


def test_the_plugin_of_tensorrt_runs_by_its_semantics(diff, bundled):
    model = bundled("end2end-trt")
    other = small.copied(model)
    node = next(item for item in other.graph.node if item.op_type == "EfficientNMS_TRT")
    next(item for item in node.attribute if item.name == "iou_threshold").f = 0.5

    code, out, _ = diff(model, other)

    assert code == 1 and "TRT:EfficientNMS_TRT iou_threshold 0.45 -> 0.5" in out
    assert "Run at 1x3x256x320 with efficient_nms" in out


def test_dynamic_axes_are_filled(diff, bundled):
    model = bundled("grid-dynamic")

    code, out, _ = diff(model, scaled(model, "model.0.conv.weight", 2))

    assert code == 1 and "Run at 1x3x256x320 with onnxruntime" in out  # imgsz of its metadata

    del model.metadata_props[:]
    code, out, _ = diff(model, scaled(model, "model.0.conv.weight", 2))
    assert code == 1 and "Run at 1x3x320x320 with onnxruntime" in out


def test_a_static_file_beside_a_dynamic_one(diff, bundled):
    code, out, _ = diff(bundled("grid"), bundled("grid-dynamic-batch"))

    assert code == 1 and "input axis 0: 1 -> batch" in out
    assert "Run at 1x3x256x320 with onnxruntime: every output both have is the same, byte for byte" in out


def test_inputs_that_no_array_fits_both_of(diff):
    other = small.network()
    other.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 64

    code, out, _ = diff(small.network(), other)

    assert code == 1
    assert "Numbers were not compared: A takes 1x3x32x32, B takes 1x3x32x64" in out


def test_files_that_no_runtime_loads(diff):
    models = [
        small.model(
            [helper.make_node("Mystery", ["images"], ["output"], domain="mine", level=level)],
            ["output"],
            {},
            domains=["mine"],
        )
        for level in (1, 2)
    ]

    code, out, _ = diff(*models)

    assert code == 1 and "mine:Mystery level 1 -> 2" in out
    assert "Numbers were not compared: A does not load: " in out and "Mystery" in out.split("not compared")[1]


def test_a_file_that_does_not_run(diff):
    model = small.network()
    model.graph.initializer[-3].CopyFrom(small.tensor("shape", np.array([1, 7, -1])))

    code, out, _ = diff(small.network(), model)

    assert code == 1 and "Numbers were not compared: B does not " in out


def test_inputs_that_are_no_pictures(diff):
    def numbers(factor, kind=TensorProto.FLOAT):
        nodes = [helper.make_node("Mul", ["x", "by"], ["y"])]
        by = np.array(factor, np.float32 if kind == TensorProto.FLOAT else np.int64)
        return small.model(nodes, [small.value("y", ["n", 3], kind)], {"by": by}, [small.value("x", ["n", 3], kind)])

    code, out, _ = diff(numbers(2), numbers(3))
    assert code == 1 and "Run at 1x3 with onnxruntime:" in out and "3 of 3 differ" in out

    code, out, _ = diff(numbers(2, TensorProto.INT64), numbers(3, TensorProto.INT64))
    assert code == 1 and "Numbers were not compared: input 'x' takes int64, which no picture is" in out


def test_subgraphs_are_read_and_run(diff):
    code, out, _ = diff(small.conditional(), small.conditional(shift=0.75))

    assert code == 1 and "Add constant 0.5 -> 0.75" in out
    assert "Run at 1x4x6x6 with onnxruntime:" in out


def test_a_file_that_fails_the_checker_says_so(diff):
    other = small.network()
    nodes = list(other.graph.node)[::-1]
    del other.graph.node[:]
    other.graph.node.extend(nodes)

    code, out, _ = diff(small.network(), other)

    assert code == 1 and "B fails the ONNX checker: " in out


def test_values_that_are_not_finite_are_reported(diff, tmp_path):
    other = small.network()
    item = next(item for item in other.graph.initializer if item.name == "model.4.conv.bias")
    array = np.array(numpy_helper.to_array(item))
    array[2] = np.nan
    item.CopyFrom(small.tensor(item.name, array))

    code, out, _ = diff(small.network(), other, "--json", tmp_path / "d.json")

    assert code == 1 and "-> nan" in out
    found = json.loads((tmp_path / "d.json").read_text(), parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
    assert found["numbers"]["outputs"][0]["largest"] == "inf"
    assert found["tensors"][0]["relative"] is None


# --- what happened to a tensor ---------------------------------------------------------------------------------------


def _one(value):
    value[3] = 9
    return value


RANDOM = np.random.default_rng(0).normal(size=(8, 4)).astype(np.float32)


@pytest.mark.parametrize(
    "edit, expected",
    [
        (lambda v: v * np.float32(1.5), "multiplied by 1.5"),
        (lambda v: -v, "multiplied by -1"),
        (lambda v: v * 0, "set to zero"),
        (lambda v: np.where(v > 0, v, np.float32(0)), f"{int((RANDOM <= 0).sum())} of 32 values set to zero"),
        (lambda v: v.astype(np.float16).astype(np.float32), "rounded to float16"),
        (lambda v: v[::-1], "the same values in another order"),
        (lambda v: _one(v.reshape(-1)).reshape(v.shape), "-> 9 at [0, 3], the other 31 as they were"),
        (lambda v: np.where(v > 1, np.float32("inf"), v), "values are not finite"),
        (lambda v: v + np.float32(0.25), "32 of 32 values, most"),
    ],
)
def test_what_happened_to_a_tensor(edit, expected):
    new = edit(RANDOM.copy())
    found = apart(RANDOM, new)

    assert found is not None and expected in happened(RANDOM, new, found)


def test_arrays_that_are_the_same():
    odd = np.array([np.nan, np.inf, -0.0, 1])

    assert apart(odd, odd.copy()) is None
    assert apart(np.zeros(0), np.zeros(0)) is None
    assert apart(odd.astype(np.float32), odd) is None
    found = apart(np.zeros(2), np.ones(2))
    assert found is not None and found.relative is None and found.largest == 1


def test_a_tensor_that_is_another_one_of_the_file(diff):
    other = small.network()
    there = {item.name: item for item in other.graph.initializer}
    there["model.2.conv.weight"].CopyFrom(
        small.tensor("model.2.conv.weight", numpy_helper.to_array(there["model.1.conv.weight"]))
    )

    code, out, _ = diff(small.network(), other)

    assert code == 1 and "it is model.1.conv.weight of A" in out


# --- what is refused -------------------------------------------------------------------------------------------------


def _graph(nodes, outputs=("output",), **more):
    return small.model(nodes, list(outputs), {}, **more).SerializeToString()


def _contradicting():
    model = small.network()
    model.graph.initializer[0].dims[0] = 99
    return model.SerializeToString()


def _doubling(depth):
    """Functions of which each calls the one before twice."""
    functions, domains = [], ["", "mine"]
    for k in range(depth):
        called = [("Neg", "")] * 2 if k == 0 else [(f"F{k - 1}", "mine")] * 2
        nodes = [
            helper.make_node(op, [given], [made], domain=domain)
            for (op, domain), given, made in zip(called, ("x", "t"), ("t", "y"))
        ]
        imports = [helper.make_opsetid(domain, 15 if not domain else 1) for domain in domains]
        functions.append(helper.make_function("mine", f"F{k}", ["x"], ["y"], nodes, imports))
    call = helper.make_node(f"F{depth - 1}", ["images"], ["output"], domain="mine")
    return small.model([call], ["output"], {}, functions=functions, domains=["mine"])


def _recursive():
    body = [helper.make_node("Self", ["x"], ["y"], domain="mine")]
    function = helper.make_function("mine", "Self", ["x"], ["y"], body, [helper.make_opsetid("mine", 1)])
    return _graph(
        [helper.make_node("Self", ["images"], ["output"], domain="mine")], functions=[function], domains=["mine"]
    )


HOSTILE = {
    "empty": (b"", "is empty"),
    "garbage": (b"\xff" * 4096, "is not an ONNX model"),
    "text": (b"<html>not found</html>", "is not an ONNX model"),
    "truncated": (small.network().SerializeToString()[:-500], "is not an ONNX model or is truncated"),
    "no graph": (onnx.ModelProto(ir_version=8).SerializeToString(), "is not an ONNX model: it holds no graph"),
    "a circle": (
        _graph([helper.make_node("Relu", ["b"], ["a"]), helper.make_node("Relu", ["a"], ["b"])], ["b"]),
        "its nodes run in a circle: Relu making 'a', Relu making 'b'",
    ),
    "a node that reads itself": (_graph([helper.make_node("Relu", ["output"], ["output"])]), "run in a circle"),
    "no nodes": (_graph([]), "the graph returns 'output', which no input, node or dense initializer makes"),
    "a dangling name": (_graph([helper.make_node("Relu", ["lost"], ["output"])]), "Relu making 'output' reads 'lost'"),
    "two makers": (
        _graph([helper.make_node("Relu", ["images"], ["output"]), helper.make_node("Abs", ["images"], ["output"])]),
        "two things in one graph are called 'output'",
    ),
    "a tensor that contradicts itself": (_contradicting(), "holds a tensor or an attribute that cannot be read"),
    "functions that double": (_doubling(36), "its functions expand to more than 1000000 nodes"),
    "a function that calls itself": (_recursive(), "its functions call themselves: mine:Self"),
}


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("title", HOSTILE)
def test_an_unusable_file_is_one_line(title, first, diff):
    content, reason = HOSTILE[title]

    code, out, err = diff(*((content, small.network()) if first else (small.network(), content)))

    assert code == 2 and out == ""
    assert err.startswith("detparity: ") and err.count("\n") == 1 and reason in err and len(err) < 500
    assert ("a.onnx" if first else "b.onnx") in err


def test_a_broken_file_is_not_the_same_as_itself(diff):
    content, _ = HOSTILE["a circle"]

    assert diff(content, content)[0] == 2


def test_what_is_no_file_or_another_kind_of_file(diff, tmp_path, made):
    for path, reason in (
        (tmp_path, "is a directory, not an ONNX file"),
        (tmp_path / "none.onnx", "no such file"),
    ):
        code, _, err = diff(small.network(), path)
        assert code == 2 and reason in err and err.count("\n") == 1
    for inner, reason in (
        (("x/constants.pkl", "x/code/"), "is a TorchScript archive; diff compares ONNX files"),
        (("x/constants.pkl", "x/bytecode.pkl"), "for the lite interpreter; diff compares ONNX files"),
        (("x/data.pkl",), "is a checkpoint; diff compares ONNX files"),
    ):
        path = tmp_path / "archive.pt"
        with zipfile.ZipFile(path, "w") as archive:
            for name in inner:
                archive.writestr(name, b"")
        code, _, err = diff(path, small.network())
        assert code == 2 and reason in err and err.count("\n") == 1


def test_a_traced_export_is_refused(diff, made):
    found = made("traced")
    assert not isinstance(found, NotMade)

    code, _, err = diff(small.network(), found)

    assert code == 2 and "is a TorchScript archive; diff compares ONNX files" in err


def test_a_huge_file_is_refused_before_it_is_read(diff, tmp_path, monkeypatch):
    path = tmp_path / "huge.onnx"
    with path.open("wb") as stream:
        stream.truncate(onnx_graph.LARGEST_FILE + 1)
        stream.write(b"\x08")

    code, _, err = diff(path, small.network())

    assert code == 2 and "is larger than the 2 GiB that an ONNX file can be" in err


def test_json_that_cannot_be_written(diff, tmp_path):
    for path, reason in ((tmp_path, "it is a directory"), (tmp_path / "no" / "d.json", "its folder does not exist")):
        code, out, err = diff(small.network(), small.network(), "--json", path)
        assert code == 2 and reason in err and out == ""


def test_a_loop_without_end_is_ended(diff, monkeypatch):
    monkeypatch.setattr(output_diff, "SECONDS", 0.5)
    other = small.conditional()
    next(item for item in other.graph.initializer if item.name == "three").CopyFrom(
        small.tensor("three", np.array(2**60))
    )

    code, out, _ = diff(small.conditional(), other)

    assert code == 1 and "Numbers were not compared: B does not run at 1x4x6x6: it was still running after 0.5 s" in out


def test_names_that_are_no_text(diff):
    content = small.network().SerializeToString().replace(b"LeakyRelu", b"Leaky\xffelu")

    code, _, err = diff(small.network(), content)

    assert code == 2 and "b.onnx holds a name that is not UTF-8" in err and err.count("\n") == 1


def test_json_over_one_of_the_files(diff, tmp_path):
    code, _, err = diff(small.network(), small.network(), "--json", tmp_path / "b.onnx")

    assert code == 2 and "it is one of the files that are read" in err
    assert Path("b.onnx").read_bytes() == small.network().SerializeToString()


def test_what_a_file_says_cannot_move_the_cursor(diff):
    other = small.network()
    other.graph.node[1].name = "red \x1b[31m\nsecond line"
    other.graph.node[1].attribute[0].f = 0.2
    other.metadata_props.add(key="note", value="a\x1b[2J\rb")

    code, out, _ = diff(small.network(), other)

    assert code == 1 and "\x1b" not in out and "\r" not in out
    assert "red \\x1b[31m\\nsecond line" in out


def test_outputs_that_are_no_tensors(diff):
    def listing(count):
        nodes = [helper.make_node("SequenceConstruct", ["images"] * count, ["output"])]
        output = helper.make_tensor_sequence_value_info("output", TensorProto.FLOAT, None)
        return small.model(nodes, [output], {})

    code, out, _ = diff(listing(1), listing(2))

    assert code == 1 and "Numbers were not compared: output 'output' of A is no tensor" in out


@pytest.mark.parametrize("key, value", [("max_output_boxes", -5), ("max_output_boxes", 10**12), ("box_coding", 7)])
def test_a_plugin_that_cannot_work_is_reported(key, value, diff, bundled):
    model = bundled("end2end-trt")
    other = small.copied(model)
    node = next(item for item in other.graph.node if item.op_type == "EfficientNMS_TRT")
    next(item for item in node.attribute if item.name == key).i = value

    code, out, _ = diff(model, other)

    assert code == 1 and f"TRT:EfficientNMS_TRT {key} " in out
    assert "Numbers were not compared: B does not run" in out and "make no" in out


def test_flipped_bytes_never_give_a_traceback(diff, monkeypatch):
    """A file with one wrong byte: the difference is reported, or the file refused in a line."""
    monkeypatch.setattr(output_diff, "SECONDS", 0.5)
    content = small.conditional().SerializeToString()
    rng = np.random.default_rng(0)
    codes = set()
    for _ in range(examples(150)):
        offset, step = int(rng.integers(len(content))), int(rng.integers(1, 256))
        other = bytearray(content)
        other[offset] = (other[offset] + step) % 256
        code, _, err = diff(content, bytes(other))
        assert code in (0, 1, 2) and (code != 2 or err.count("\n") == 1), err
        codes.add(code)
    assert codes == {0, 1, 2}


def test_real_files(diff, shared_data):
    folder = shared_data / "artifacts" / "yolov7-tiny"

    code, out, _ = diff(folder / "raw.onnx", folder / "grid.onnx")
    assert code == 1 and "output 'output' shape: (1, 3, 40, 40, 85) -> (1, 6300, 85)" in out
    assert "1x3x40x40x85 -> 1x6300x85" in out

    code, out, err = diff(folder / "grid.torchscript.pt", folder / "grid.onnx")
    assert code == 2 and "is a TorchScript archive" in err
