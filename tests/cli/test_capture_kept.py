"""What `capture --keep` stores judges the file again, and other versions of it, without the code that made it."""

from __future__ import annotations

import inspect
import sys
import threading

import numpy as np
import onnx
import pytest

pytest.importorskip("torch", minversion="1.13")

import torch
from onnx import helper, numpy_helper

from detparity.cli import main
from detparity.cli.capture_verdict import judge_captures
from detparity.models import capture_store
from detparity.models.capture import capturing

pytestmark = pytest.mark.filterwarnings("ignore")  # the exporter under capture warns of its own deprecation


def made():
    class Local(torch.nn.Sequential):  # cannot be pickled: nothing finds it by its name
        pass

    torch.manual_seed(0)
    return Local(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4), torch.nn.SiLU(), torch.nn.Flatten(2)).eval()


def captured(module, file, later=lambda: None, size=(8, 8)):
    legacy = {"dynamo": False} if "dynamo" in inspect.signature(torch.onnx.export).parameters else {}
    names = {"input_names": ["images"], "output_names": ["output"]}
    with capturing() as captures:
        torch.onnx.export(module, torch.zeros(1, 3, *size), file, **names, **legacy)
        later()
    return captures


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A captured export, stored, and versions of its file: a layer scaled, and a larger input."""
    found = tmp_path_factory.mktemp("stored")
    file = str(found / "m.onnx")
    captures = captured(made(), file)
    assert judge_captures(captures, {"keep": str(found / "stored"), "quick": True}) == 0
    model = onnx.load(file)
    weight = next(one for one in model.graph.initializer if len(one.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.0001), weight.name))
    onnx.save(model, str(found / "scaled.onnx"))
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 12
    model.graph.output[0].type.tensor_type.ClearField("shape")
    onnx.save(model, str(found / "larger.onnx"))
    return found


@pytest.fixture
def check(folder, monkeypatch, capsys):
    monkeypatch.chdir(folder)

    def run(file, *words):
        code = main.main(["check", file, "--capture", "stored", "--quick", *words])
        found = capsys.readouterr()
        return code, " ".join((found.out + found.err).split())

    return run


@pytest.mark.parametrize("words", [(), ("--trust",)])  # there is no module to load
def test_any_version_of_the_file_is_judged_without_the_code(words, check, folder):
    assert not (folder / "stored" / "0" / "module.pt").exists()
    code, shown = check("m.onnx", *words)
    assert code == 0 and "conforms against Local, captured at torch.onnx.export" in shown

    code, shown = check("scaled.onnx", *words)
    assert code == 1 and "parity.declared: scaled.onnx differs from the model" in shown


def test_what_needs_the_module_is_incomplete(check):
    code, shown = check("larger.onnx", "--checks", "parity.declared")
    assert code == 3
    assert "the capture stored no run of the model on this input, and Local cannot be pickled" in shown


def test_what_is_missing_or_damaged_is_one_line(check, folder):
    index = folder / "stored" / "0" / "reference.json"
    content = index.read_text(encoding="utf-8")
    try:
        index.write_text(content[: len(content) // 2], encoding="utf-8")
        code, shown = check("m.onnx")
        assert code == 2 and "reference.json is damaged" in shown
        index.unlink()
        code, shown = check("m.onnx")
        assert code == 2 and "holds no outputs of the model, and Local cannot be pickled" in shown
    finally:
        index.write_text(content, encoding="utf-8")


def test_a_module_that_can_be_pickled_is_run_where_it_is_trusted(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    capture_store.write(captured(torch.nn.Sequential(*made()), "m.onnx"), tmp_path / "stored")
    words = ["check", "m.onnx", "--capture", "stored", "--checks", "parity.declared"]

    assert main.main(words) == 2
    assert "its module is a pickle, which is loaded with --trust only" in capsys.readouterr().out
    assert main.main([*words, "--trust"]) == 0
    assert "conforms against Sequential, captured at torch.onnx.export" in capsys.readouterr().out


class Chosen(torch.nn.Module):
    """The eleven best candidates of a map, attention among them, and four columns. Candidates are pairs of one score, which tie."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.backbone = torch.nn.Sequential(torch.nn.Conv2d(3, 16, 8, 8), torch.nn.Tanh())
        self.score, self.decode = torch.nn.Linear(16, 1), torch.nn.Linear(16, 4)
        self.lock = threading.Lock()  # cannot be pickled

    def forward(self, images):
        features = self.backbone(images).flatten(2).transpose(1, 2)
        scores = 1 + 0.1 * torch.tanh(self.score(features).squeeze(2))
        chosen = torch.cat([scores, scores], 1).topk(11, dim=1).indices
        queries = torch.cat([features, 0.5 * features], 1).gather(1, chosen.unsqueeze(2).expand(-1, -1, 16))
        return self.decode(queries + torch.softmax(4 * queries @ queries.transpose(1, 2), 2) @ queries)


def splice(model, name, edit):
    """Put an operator behind a tensor of the graph."""
    node = next(one for one in model.graph.node if name in one.output)
    at = list(model.graph.node).index(node)
    node.output[list(node.output).index(name)] = f"{name} before"
    model.graph.node.insert(at + 1, edit(f"{name} before", name))


def test_choices_inside_are_judged_by_the_runs_that_were_stored_under_them(tmp_path, monkeypatch, capsys):
    """The same choice under another name; other numbers after it; a choice that is not legal; one by other numbers; and a legal one,
    of which no run was stored."""
    monkeypatch.chdir(tmp_path)
    captures = captured(Chosen().eval(), "m.onnx", size=(64, 96))
    assert judge_captures(captures, {"keep": "stored", "quick": True}) == 0
    model = onnx.load("m.onnx")

    def version(name, edit):
        one = onnx.ModelProto()
        one.CopyFrom(model)
        edit(one, next(node for node in one.graph.node if node.op_type == "TopK"))
        onnx.save(one, name)
        capsys.readouterr()
        code = main.main(["check", name, "--capture", "stored", "--checks", "parity.declared", "--quick"])
        return code, " ".join(capsys.readouterr().out.split())

    def renamed(one, node):
        node.name = "another name"

    def after(one, node):
        weight = max((w for w in one.graph.initializer if list(w.dims) == [16, 4]), key=lambda w: w.name)
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.001), weight.name))

    def smallest(one, node):
        next(one for one in node.attribute if one.name == "largest").i = 0

    def scaled(by):
        factors = np.repeat(np.float32([1, by]), 96)

        def scores(one, node):
            one.graph.initializer.append(numpy_helper.from_array(factors, "factors"))
            splice(one, node.input[0], lambda old, new: helper.make_node("Mul", [old, "factors"], [new]))

        return scores

    code, shown = version("renamed.onnx", renamed)
    assert code == 0 and "conforms against Chosen" in shown, shown
    code, shown = version("after.onnx", after)
    assert code == 1 and "The model was given what the file chose" in shown, shown
    code, shown = version("smallest.onnx", smallest)
    assert code == 1 and "chooses" in shown, shown
    # No choice of the model's is by such numbers, and few rows say no more.
    code, shown = version("scores.onnx", scaled(1.001))
    assert code == 3 and "could not be matched" in shown, shown
    code, shown = version("ties.onnx", scaled(1 + 2.0**-23))
    assert code == 3 and "the capture stored no run of the model under what it chose at" in shown, shown


SLIM = """
import onnx
from onnx import numpy_helper
def slim(model, factor=1.0):
    weight = next(one for one in model.graph.initializer if len(one.dims) == 4)
    weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * weight.dims[0] * 0 + factor, weight.name))
    return model
"""


@pytest.mark.parametrize(
    ("slims", "clause"),
    [
        (True, "m.onnx was right as torch.onnx.export wrote it, and no longer as onnxslim.slim left it."),
        (False, "m.onnx was right as it was written the second time: a later step of the command broke it."),
    ],
)
def test_the_version_that_was_right_is_named(slims, clause, tmp_path, monkeypatch, capsys):
    """A simplifier breaks the model in memory; or the second write is right, with metadata, and the third is not."""
    (tmp_path / "onnxslim.py").write_text(SLIM)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(sys.modules, "onnxslim", None)  # so that what is imported in its place goes with the test
    del sys.modules["onnxslim"]
    file = str(tmp_path / "m.onnx")

    def later():
        model = onnx.load(file)
        if slims:
            import onnxslim

            model = onnxslim.slim(model)
        model.metadata_props.add(key="author", value="somebody")
        onnx.save(model, file)
        if not slims:
            model.graph.output[0].name = "another"
            model.graph.node[-1].output[0] = "another"
            onnx.save(model, file)

    command = ["python", "my export.py"]
    assert judge_captures(captured(made(), file, later), {"quick": True, "command": command}) == 1
    shown = capsys.readouterr().out
    assert clause in shown, shown
    check = "parity.declared" if slims else "structure.names"
    assert f"Repeat:  detparity capture --checks {check} -- python 'my export.py'" in shown


def test_what_the_model_refuses_under_some_choices_is_refused_under_those_alone(tmp_path):
    import numpy as np

    from detparity.core.decisions import Choice
    from detparity.models.reference import CannotRunReference, ReferenceFacts
    from detparity.models.stored_reference import RecordedReference, StoredReference

    class Model:
        facts = ReferenceFacts("it", "digest", (1, 3, 8, 8), ())

        def run_forced(self, how, images, choices):
            if choices:
                raise CannotRunReference("such a choice")
            return {"output": images * 2}, []

    images = np.ones((1, 3, 8, 8), np.float32)
    choice = Choice("/TopK", np.zeros((1, 4)), np.zeros((1, 2), np.int64), 1)
    recorded = RecordedReference(Model(), tmp_path)
    recorded.run("exact", images)
    with pytest.raises(CannotRunReference):
        recorded.run_forced("exact", images, (choice,))
    recorded.save()
    stored = StoredReference(tmp_path, "it cannot be pickled")
    assert np.array_equal(stored.run("exact", images)["output"], images * 2)
    with pytest.raises(CannotRunReference):
        stored.run_forced("exact", images, (choice,))


def test_a_file_with_more_outputs_than_its_model_is_stored_and_reported(tmp_path, capsys):
    file = str(tmp_path / "m.onnx")

    def later():
        model = onnx.load(file)
        model.graph.node.append(helper.make_node("Identity", ["output"], ["more"]))
        model.graph.output.append(helper.make_tensor_value_info("more", 1, None))
        onnx.save(model, file)

    captures = captured(made(), file, later)
    assert judge_captures(captures, {"keep": str(tmp_path / "stored"), "quick": True}) == 1
    assert "has 2 outputs where the model gives 1" in " ".join(capsys.readouterr().out.split())
