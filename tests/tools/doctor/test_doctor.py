"""`detparity script-doctor`: every mistake by its name and line, every submodule that has it, and nothing else."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from detparity.cli import main
from detparity.models.choice import ModelChoice
from detparity.models.compat import jit
from detparity.tools.doctor import report
from detparity.tools.doctor.call_sites import MODULE, OTHER, call_sites
from detparity.tools.doctor.causes import KINDS, CompilerError, grouped, kind_of, taken_apart
from detparity.tools.doctor.run import Request, diagnose

HERE = Path(__file__).resolve().parent
MODELS, YOLO, MENDED = HERE / "doctor_models.py", HERE / "doctor_yolo.py", HERE / "doctor_mended.py"
PAGE = HERE.parents[2] / "docs" / "script_doctor.md"
VERSION = tuple(int(part) for part in torch.__version__.split(".")[:2])


def _line(path, mark):
    """The line of a fixture that carries `<- mark`."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if line.endswith(f"<- {mark}"))


def _examined(name, arguments=None, path=MODELS):
    return diagnose(Request(ModelChoice(), f"{path}:{name}", arguments))


@pytest.fixture
def command(capsys):
    """Run the command; returns (exit code, stdout, stderr)."""

    def run(*arguments):
        code = main.main(["script-doctor", *map(str, arguments)])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


# --- mistakes by name -----------------------------------------------------------------------------------------------

MISTAKES = {
    "AttributeInForward": "attribute-in-forward",
    "AttributeReadFirst": "attribute-in-forward",
    "MixedRoutes": "mixed-type-routing",
    "MixedLayers": "mixed-type-routing",
    "KindOfModule": "isinstance",
    "IsinstanceUnmet": "isinstance",
    "CacheOfNone": "mutated-cache",
    "CacheEmpty": "mutated-cache",
    "CacheRebound": "mutated-cache",
    "ByName": "dynamic-getattr",
    "AskedByName": "dynamic-getattr",
    "StarSignature": "star-arguments",
    "StarCall": "star-arguments",
    "Formatted": "f-string",
    "ZipOfLists": "builtin",
    "SumOfTensors": "builtin",
    "IndexedByVariable": "module-list-index",
    "NoneUsed": "none-attribute",
    "ListUnannotated": "unannotated-parameter",
    "FlagUnannotated": "unannotated-parameter",
    "LambdaAttribute": "lambda",
    "LambdaInside": "lambda",
    "NumpyArray": "numpy",
    "NumpyUfunc": "numpy",
    "MixedReturn": "mixed-return",
    "Settings": "attribute-without-type",
    "ModulesInList": "modules-in-list",
    "OnTheClass": "class-attribute",
    "NotThere": "missing-attribute",
    "SuperForward": "super-call",
    "ListOfNone": "mixed-list",
    "OneForAll": "layer-signature",
    "NewTensor": "tensor-method",
    "TriedOut": "syntax",
    "FromOutside": "python-value",
}


@pytest.mark.smoke
@pytest.mark.parametrize("name", sorted(MISTAKES))
def test_a_mistake_is_found_by_name_and_line(name):
    found = _examined(name)

    assert found.verdict == "does not script"
    assert [cause.kind for cause in found.causes] == [MISTAKES[name]]
    cause = found.causes[0]
    assert (cause.location.file, cause.location.line) == (MODELS.name, _line(MODELS, name))
    assert cause.modules == (("", name),) and cause.reason and not cause.guessed
    assert cause.method.endswith(".forward")
    assert KINDS[cause.kind].instead


def test_every_kind_is_met_by_a_test():
    elsewhere = {
        "output-of-call",
        "ignored-method",
        "unused-method",
        "sequential",
        "retyped-variable",
        "foreign-code",
        "hook",
    }

    assert set(MISTAKES.values()) | elsewhere | {"unknown"} == set(KINDS)


@pytest.mark.smoke
def test_a_clean_module_is_healthy_though_it_comes_close_to_every_mistake():
    found = _examined("Healthy")

    assert (found.verdict, found.healthy, found.causes) == ("scripts", True, ())
    assert found.modules == 4


def test_a_sequential_is_compiled_though_nothing_calls_it():
    found = _examined("SequentialOfMixed")

    assert [(cause.kind, cause.modules) for cause in found.causes] == [("sequential", (("m", "Sequential"),))]
    assert found.causes[0].location.file == "torch/nn/modules/container.py"


def test_a_variable_of_two_types_and_code_from_elsewhere_are_named(tmp_path):
    file = tmp_path / "net.py"
    file.write_text(
        "import collections.abc\nimport textwrap\nfrom torch import nn\n"
        "class Retyped(nn.Module):\n    def forward(self, x):\n        for i in range(2):\n            x = [x]\n        return x\n"
        "class Elsewhere(nn.Module):\n    def forward(self, x):\n        textwrap.dedent('a')\n        return x\n"
    )

    retyped, elsewhere = _examined("Retyped", path=file), _examined("Elsewhere", path=file)

    assert [(c.kind, c.location.line) for c in retyped.causes] == [("retyped-variable", 7)]
    assert [(c.kind, c.location.line) for c in elsewhere.causes] == [("foreign-code", 11)]


def test_a_helper_outside_the_class_is_looked_into():
    (cause,) = _examined("HelperUnannotated").causes

    assert (cause.kind, cause.method, cause.location.line) == (
        "unannotated-parameter",
        "route_of",
        _line(MODELS, "HelperUnannotated"),
    )


def test_a_hook_is_what_stops_a_module_of_torch_s_own():
    found = _examined("Hooked")

    assert [(c.kind, c.modules) for c in found.causes] == (
        [("hook", (("inner", "ReLU"),))] if VERSION >= (1, 8) else []
    )


# --- ignored and unused ---------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_what_scripts_but_cannot_be_saved_is_no_success(command):
    code, out, _ = command("--model", f"{MODELS}:Ignored")

    assert code == 1
    assert "scripts, but the result is of no use in a file: 1 cause in 1 of its 1 module." in " ".join(out.split())
    assert f"doctor_models.py:{_line(MODELS, 'Ignored')} in Ignored.forward" in out
    assert "Could not export Python function call 'measure'" in out


def test_the_submodule_with_the_ignored_method_is_named_and_its_parent_is_not():
    found = _examined("IgnoredChild")

    assert found.verdict == "cannot be saved"
    assert [(cause.kind, cause.modules) for cause in found.causes] == [("ignored-method", (("inner", "Ignored"),))]


@pytest.mark.smoke
def test_a_call_of_an_unused_method_is_a_note(command):
    code, out, _ = command("--model", f"{MODELS}:Unused")

    assert code == 0
    assert f"measure at doctor_models.py:{_line(MODELS, 'Unused')}" in out
    assert "marked unused, so the scripted module raises when it reaches" in " ".join(out.split())


def test_an_unused_forward_leaves_nothing_to_save():
    found = _examined("UnusedForward")

    assert (found.verdict, found.causes[0].kind) == ("cannot be saved", "unused-method")
    assert found.causes[0].location.line == _line(MODELS, "UnusedForward")


def _verdict_of_torch(name, monkeypatch):
    """What torch itself does with a model of the fixtures, asked without the doctor."""
    spec = importlib.util.spec_from_file_location("doctor_models_asked", MODELS)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)  # the compiler looks for the source there
    spec.loader.exec_module(module)
    try:
        scripted = jit.script(getattr(module, name)())
    except Exception:  # its type changed from one version to the next
        return "does not script"
    with pytest.raises(Exception):  # noqa: B017 - as above
        jit.reloaded(scripted)
    return "cannot be saved"


def test_none_without_annotation_is_found_where_torch_scripts_it_and_fails_to_save_it(monkeypatch):
    found = _examined("NoneUnannotated")

    assert [cause.kind for cause in found.causes] == ["unannotated-parameter"]
    assert found.causes[0].location.line == _line(MODELS, "NoneUnannotated")
    assert found.verdict == _verdict_of_torch("NoneUnannotated", monkeypatch)


# --- several causes -------------------------------------------------------------------------------------------------


def test_the_others_in_the_same_method_are_read_beside_the_first():
    found = _examined("Several")

    assert [(cause.kind, cause.location.line) for cause in found.causes] == [
        ("module-list-index", _line(MODELS, "Several"))
    ]
    assert [(mistake.kind, mistake.location.line) for mistake in found.causes[0].also] == [
        ("mutated-cache", _line(MODELS, "SeveralCache")),
        ("mixed-return", _line(MODELS, "SeveralReturn")),
    ]


def test_a_parent_has_its_own_cause_and_its_children_theirs():
    found = _examined("Parent")

    assert [(cause.kind, cause.location.line, [path for path, _ in cause.modules]) for cause in found.causes] == [
        ("unannotated-parameter", _line(MODELS, "ListUnannotated"), ["first"]),
        ("lambda", _line(MODELS, "LambdaAttribute"), ["second.0", "second.1", "second.2"]),
        ("missing-attribute", _line(MODELS, "Parent"), [""]),
    ]


def test_a_parent_is_not_blamed_for_its_children():
    found = _examined("Bystander")

    assert [(cause.kind, cause.modules) for cause in found.causes] == [
        ("lambda", (("inner", "LambdaAttribute"),)),
        ("mixed-return", (("pair", "MixedReturn"),)),
    ]


@pytest.fixture(scope="module")
def yolo():
    return _examined("Detector", path=YOLO)


def test_a_detector_of_the_usual_habits_is_taken_apart(yolo):
    causes = {cause.kind: cause for cause in yolo.causes}

    assert yolo.modules == 61
    assert [cause.kind for cause in yolo.causes][:3] == ["lambda", "unannotated-parameter", "module-list-index"]
    assert len(yolo.causes) == 4
    assert (causes["lambda"].location.line, len(causes["lambda"].modules)) == (_line(YOLO, "lambda"), 17)
    assert {kind for _, kind in causes["lambda"].modules} == {"Unit"}
    assert causes["unannotated-parameter"].modules == (("layers.17", "Join"), ("layers.19", "Join"))
    assert causes["module-list-index"].location.line == _line(YOLO, "index")
    assert [mistake.kind for mistake in causes["module-list-index"].also] == ["mutated-cache", "mixed-return"]
    last = yolo.causes[3]  # which of its mistakes stops the network itself differs by version; all are named
    named = {last.kind, *(mistake.kind for mistake in last.also)}
    assert last.modules == (("", "Detector"),) and {"mixed-type-routing", "unannotated-parameter"} <= named


def test_the_first_cause_is_what_torch_stops_at(yolo):
    with pytest.raises(Exception) as raised:  # its own types by version
        torch.jit.script(_yolo_module())

    assert taken_apart(str(raised.value)).lines[0][1] == yolo.causes[0].location.line


def _yolo_module():
    from detparity.tools.doctor.user_model import opened

    with opened(f"{YOLO}:Detector", None) as mine:
        return mine.model


def test_it_fits_on_one_screen_and_says_the_same_again(yolo, command):
    code, out, err = command("--model", f"{YOLO}:Detector")

    assert (code, err, out) == (1, "", report.text(yolo) + "\n")
    lines = out.replace(str(YOLO), YOLO.name).splitlines()  # the folder of a clone has any length
    assert len(lines) <= 50 and max(map(len, lines)) <= 100
    assert out.startswith(
        "script-doctor: Detector of doctor_yolo.py does not script: 4 causes in 21 of its 61 modules."
    )
    assert "17 x Unit: layers.0, layers.1, layers.2, layers.3 and 13 more" in out
    assert f"Repeat:  detparity script-doctor --model {YOLO}:Detector" in out


def test_the_users_model_is_left_as_it_was():
    from detparity.tools.doctor import compiler
    from detparity.tools.doctor.user_model import opened

    with opened(f"{MODELS}:Parent", None) as mine:
        before = [(path, type(module), id(module), dict(vars(module))) for path, module in mine.model.named_modules()]
        compiler.examine(mine.model, str)
        after = [(path, type(module), id(module), dict(vars(module))) for path, module in mine.model.named_modules()]

    assert [row[:3] for row in before] == [row[:3] for row in after]
    for one, other in zip(before, after):
        assert one[3].keys() == other[3].keys() - {
            "__overloads__"
        }  # torch.jit.script leaves it on whatever it looks at
        assert all(one[3][name] is other[3][name] for name in one[3])


# --- the output of a call -------------------------------------------------------------------------------------------


def test_a_result_in_place_of_a_module_is_recognised(command):
    code, out, _ = command("--model", f"{MODELS}:listed")

    assert code == 1
    assert "listed of doctor_models.py is no module, but what calling one returned." in out
    assert "a tuple of 2 (Tensor)" in out
    assert "doctor_models.py holds a module as instance: --model" in " ".join(out.split())
    assert "which calls TwoOutputs()" in out


@pytest.mark.parametrize("value, words", [("[x, x]", "a list of 2 (Tensor)"), ("x", "a Tensor of shape (1, 3)")])
def test_the_file_of_the_usual_accident(command, tmp_path, value, words):
    file = tmp_path / "run.py"
    file.write_text(
        "import torch\nfrom torch import nn\n"
        f"class Net(nn.Module):\n    def forward(self, x):\n        return {value}\n"
        "net = Net().eval()\ndata = torch.zeros(1, 3)\nout = net(data)\n"
        "scripted = torch.jit.script(net(data))\n"
    )

    code, out, _ = command("--model", f"{file}:Net", "--json", tmp_path / "r.json")
    _, result, _ = command("--model", f"{file}:out")

    flat = " ".join(out.split())
    assert code == 1
    assert "Net of run.py scripts completely, and the result can be saved; 1 call of torch.jit.script is" in flat
    assert "run.py:9" in out and "instead torch.jit.script(net), and then call what it returns" in flat
    assert ("a list gives a ScriptList" if VERSION >= (1, 10) else "a list raises RuntimeError") in flat
    assert "a tensor raises" in flat and "a tuple raises" in flat
    if value == "x" or VERSION < (1, 10):
        assert "importing it ended at run.py:9, which raised" in flat
    assert words in result
    written = json.loads((tmp_path / "r.json").read_text())
    assert [(site["place"]["line"], site["scripts"], site["certain"]) for site in written["call_sites"]] == [
        (9, "result", True)
    ]


SITES = {
    "model = Net()\ntorch.jit.script(model(x))": "torch.jit.script(model)",
    "model = Net()\ntorch.jit.script(obj=model(x))": "torch.jit.script(model)",
    "model = load(path)\ny = model(x)\ntorch.jit.script(y)": "torch.jit.script(model)",
    "model = Net()\ny, z = model(x)\ntorch.jit.script(y)": "torch.jit.script(model)",
    "model = Net()\ntorch.jit.script(model.eval()(x)[0])": "torch.jit.script(model.eval())",
    "torch.jit.script(Net()(x))": "torch.jit.script(Net())",
    "model = Net()\ntorch.jit.script(model.forward(x))": "torch.jit.script(model)",
    "model = Net()\ntorch.jit.script(model(x).float())": "torch.jit.script(model)",
    "from torch import jit\nmodel = Net()\njit.script(model(x))": "jit.script(model)",
    "from torch.jit import script as s\nmodel = Net()\ns(model(x))": "s(model)",
    "import torch as t\nmodel = Net()\nt.jit.script(model(x))": "t.jit.script(model)",
    "def export(model, x):\n    return torch.jit.script(model(x))": "torch.jit.script(model)",
    "class E:\n    def __init__(self, m):\n        self.m = m\n    def go(self, x):\n        return torch.jit.script(self.m(x))": (
        "torch.jit.script(self.m)"
    ),
    "for model in models:\n    torch.jit.script(model(x))": "torch.jit.script(model)",
}
FINE = (
    "model = Net()\ntorch.jit.script(model)",
    "torch.jit.script(Net())",
    "torch.jit.script(Net(3, width=2).eval())",
    "from zoo import net\ntorch.jit.script(net(pretrained=True))",
    "def build(n):\n    return Net(n)\ntorch.jit.script(build(3))",
    "model = Net()\ntorch.jit.script(model.to('cpu').eval())",
    "def export(make):\n    return torch.jit.script(make())",
    "make = Net\ntorch.jit.script(make(3))",
    "make = getattr(zoo, name)\ntorch.jit.script(make(3))",
    "make = ZOO[name]\ntorch.jit.script(make(3))",
    "model = Net()\nmodel = model(x)\nmodel = Net()\ntorch.jit.script(model)",
    "def script(x):\n    return x\nscript(model(x))",
    "class N(M):\n    def forward(self, x):\n        return torch.jit.script(super().forward)",
)


@pytest.mark.parametrize("text", sorted(SITES))
def test_a_call_that_scripts_a_result_is_found_in_the_source(text):
    (site,) = call_sites(text, "export.py", {})

    assert (site.result, site.instead, site.certain) == (True, SITES[text], False)
    assert (
        site.location.text == text.splitlines()[site.location.line - 1].strip()
        and "script" in site.location.text + text
    )


@pytest.mark.parametrize("text", FINE)
def test_a_call_that_scripts_a_module_is_left_alone(text):
    assert [site for site in call_sites(text, "export.py", {}) if site.result] == []


def test_what_a_name_holds_decides_where_the_file_has_run():
    text = "net = make(3)\ntorch.jit.script(net(x))"

    assert call_sites(text, "f.py", {"net": OTHER})[0].result is False
    assert call_sites(text, "f.py", {"net": MODULE})[0].certain is True


def test_call_sites_are_read_and_never_run(command, tmp_path):
    good, bad = tmp_path / "good.py", tmp_path / "bad.py"
    good.write_text("import torch\ntorch.jit.script(Net())\nraise SystemExit(9)\n")
    bad.write_text("import torch\nmodel = Net()\nraise SystemExit(9)\ntorch.jit.script(model(x))\n")

    assert command("--call-site", good)[0] == 0
    code, out, err = command("--call-site", good, bad)
    assert (code, err) == (1, "")
    assert (
        "good.py, bad.py: 2 calls of torch.jit.script read; 1 call of torch.jit.script is handed a result"
        in " ".join(out.split())
    )
    assert "bad.py:4" in out and "(read in the source)" in out
    assert command("--model", f"{MODELS}:Healthy", "--call-site", bad)[0] == 1


# --- the page and the advice ----------------------------------------------------------------------------------------

MENDED_NAMES = [
    node.name for node in ast.parse(MENDED.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)
]
HELPERS = {"TwoOutputs", "Half", "One"}  # parts of mended models


@pytest.mark.parametrize("name", MENDED_NAMES)
def test_what_the_doctor_advises_works(name):
    found = _examined(name, path=MENDED)

    assert (found.verdict, found.causes, found.unused) == ("scripts", (), ())


def test_every_advice_is_tried():
    mended = {MISTAKES.get(name) for name in MENDED_NAMES} | {"ignored-method", "unused-method", "sequential", "hook"}
    mended |= {"retyped-variable"}
    without = {
        "output-of-call",
        "foreign-code",
        "unknown",
    }  # the first is the command's own success; the others have no model

    assert mended - {None} | without == set(KINDS)
    assert {"Ignored", "Unused", "SequentialOfMixed", "Hooked", "Retyped"} <= set(MENDED_NAMES)
    assert set(MENDED_NAMES) - set(MISTAKES) - HELPERS == {
        "Ignored",
        "Unused",
        "SequentialOfMixed",
        "Hooked",
        "Retyped",
    }


@pytest.fixture
def page():
    if not PAGE.is_file():
        pytest.skip("an installed kit has no docs")
    return PAGE.read_text(encoding="utf-8")


def test_the_page_lists_every_kind(page):
    assert report.kinds_table() in page


def test_the_session_on_the_page_is_real(page, yolo):
    if VERSION != (2, 13):
        pytest.skip("the page shows torch 2.13")

    out = report.text(
        replace(yolo, repeat="detparity script-doctor --model tests/tools/doctor/doctor_yolo.py:Detector")
    )

    assert _shown(out) in page


def test_the_accident_on_the_page_is_real(page, command, monkeypatch, tmp_path):
    if VERSION != (2, 13):
        pytest.skip("the page shows torch 2.13")
    monkeypatch.chdir(tmp_path)
    written = page.split("`run.py`:\n\n")[1].split("    $ ")[0]
    Path("run.py").write_text(textwrap.dedent(written))

    _, out, _ = command("--model", "run.py:scripted")

    assert _shown(out) in page


def _shown(out):
    """As the page shows it; builds of one version differ in what follows a plus sign."""
    text = re.sub(r"(torch \d+\.\d+)\S*", r"\1.0+cpu", out.rstrip("\n"))
    return textwrap.indent(text, "    ")


# --- our own detectors ----------------------------------------------------------------------------------------------


def test_a_detector_of_ours_scripts_and_its_results_do_not(command, tmp_path):
    code, out, err = command("--arch", "yolov7-tiny", "--width", "0.125", "--json", tmp_path / "r.json")

    flat = " ".join(out.split())
    assert (code, err) == (0, "")
    assert "as the module detparity makes of it (Predictions), scripts, with all of its" in flat
    assert "would have scripted what the call returned, not the model" in flat
    assert "one tensor of shape (1, 252, 85); raises" in flat
    assert (
        "a list of 3 tensors; gives a ScriptList" if VERSION >= (1, 10) else "3 tensors; raises RuntimeError"
    ) in flat
    assert "Repeat: detparity script-doctor --arch yolov7-tiny --width 0.125 --seed 0" in flat
    written = json.loads((tmp_path / "r.json").read_text())
    assert (written["schema"], written["verdict"], written["healthy"]) == ("detparity-script-doctor-1", "scripts", True)


# --- options and bad input ------------------------------------------------------------------------------------------


@pytest.mark.smoke
def test_instances_factories_and_arguments_are_taken():
    assert _examined("instance").healthy and _examined("factory").healthy
    assert _examined("WithArguments", "8, scale=0.5").healthy


def test_json_holds_every_cause(command, tmp_path):
    code, _, _ = command("--model", f"{MODELS}:Parent", "--json", tmp_path / "r.json")

    found = json.loads((tmp_path / "r.json").read_text())
    assert (code, found["verdict"], found["modules"]) == (1, "does not script", 6)
    assert [cause["kind"] for cause in found["causes"]] == ["unannotated-parameter", "lambda", "missing-attribute"]
    assert found["causes"][1]["modules"] == [{"path": f"second.{k}", "class": "LambdaAttribute"} for k in range(3)]
    assert found["causes"][0]["place"]["line"] == _line(MODELS, "ListUnannotated")
    assert [path.name for path in tmp_path.iterdir()] == ["r.json"]


BAD = {
    "no such file": ("--model", "nowhere.py:Net"),
    "is not FILE.py:NAME": ("--model", "nowhere.py"),
    "has no Nothing; it has": ("--model", f"{MODELS}:Nothing"),
    "raised ValueError: no weights here": ("--model", f"{MODELS}:Broken"),
    "(--args gives it arguments)": ("--model", f"{MODELS}:WithArguments"),
    "is a class, but no torch.nn.Module": ("--model", f"{MODELS}:Plain"),
    "is a float, not a torch.nn.Module": ("--model", f"{MODELS}:SCALE"),
    "is a module already": ("--model", f"{MODELS}:instance", "--args", "3"),
    "is not a list of Python literals": ("--model", f"{MODELS}:WithArguments", "--args", "open('x')"),
    "--args goes with --model": ("--args", "3"),
    "both choose the model": ("--model", f"{MODELS}:Healthy", "--arch", "yolov7-tiny"),
    "unknown architecture": ("--arch", "nothing"),
    "its folder does not exist": ("--json", "nowhere/r.json"),
    "is a directory": ("--model", f"{HERE}:Net"),
}


@pytest.mark.parametrize("words", sorted(BAD))
def test_bad_input_is_one_line(command, words):
    code, out, err = command(*BAD[words])

    assert (code, out) == (2, "")
    assert words in err and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize(
    "text, words",
    [
        ("def f(:\n", "is not Python that this interpreter reads"),
        ("import torch\n\nraise RuntimeError('stop')\n", "cannot be imported: line 3 raised RuntimeError: stop"),
        ("import sys\nsys.exit(3)\n", "cannot be imported: line 2 raised SystemExit: 3"),
        ("x = 1\n", "has no Net; it has no torch.nn.Module at all"),
    ],
)
def test_a_file_that_does_not_import_is_one_line(command, tmp_path, text, words):
    (tmp_path / "net.py").write_text(text)

    code, out, err = command("--model", f"{tmp_path / 'net.py'}:Net")

    assert (code, out) == (2, "")
    assert words in err and err.count("\n") == 1


def test_what_the_users_code_prints_and_imports_stays_separate(command, tmp_path):
    (tmp_path / "blocks.py").write_text(
        "from torch import nn\nclass Act(nn.Module):\n    def forward(self, x):\n        return x\n"
    )
    (tmp_path / "net.py").write_text("from blocks import Act\nprint('loading')\nclass Net(Act):\n    pass\n")

    code, out, err = command("--model", f"{tmp_path / 'net.py'}:Net")

    assert (code, err) == (0, "loading\n") and "loading" not in out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["blocks.py", "net.py"]
    assert not {"blocks", "net"} & set(sys.modules) and str(tmp_path) not in sys.path


# --- the compiler's words -------------------------------------------------------------------------------------------

STACK = """

undefined value oops:
  File "/home/me/net.py", line 7
    def helper(self, x):
        return oops
               ~~~~ <--- HERE
'Net.helper' is being compiled since it was called from 'Net.forward'
  File "/home/me/net.py", line 4
    def forward(self, x):
        return self.helper(x)
               ~~~~~~~~~~~ <--- HERE
"""


@pytest.mark.smoke
def test_the_call_stack_is_left_out_and_the_innermost_line_comes_first():
    assert taken_apart(STACK) == CompilerError("undefined value oops", (("/home/me/net.py", 7), ("/home/me/net.py", 4)))


@pytest.mark.smoke
def test_what_is_not_known_is_reported_with_the_compilers_message():
    assert kind_of("undefined value oops", []) == "unknown"
    assert grouped([]) == ()


def test_a_cause_that_is_not_known_is_shown(command, tmp_path):
    (tmp_path / "net.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def forward(self, x):\n        return x + oops\n"
    )

    code, out, _ = command("--model", f"{tmp_path / 'net.py'}:Net")

    assert code == 1
    assert "1. unknown: the compiler refuses" in out and "compiler  undefined value oops" in out and "net.py:4" in out
