"""Adapters of foreign packages, where those are installed: each makes its model and names what it has not."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from detparity.core import environment
from detparity.core.errors import InputError
from detparity.models.reference import EXACT, ModelRequest, Preprocessing

if not environment.holds({"torch": ">=1.13"}, environment.environment()):
    pytest.skip("float64 of any module needs torch 1.13", allow_module_level=True)
from detparity.models import adapters
from detparity.models.module_reference import Made, ModuleReference

SIZE = (64, 64)


@pytest.fixture(autouse=True)
def _scratch(tmp_path, monkeypatch):
    for name in ("YOLO_CONFIG_DIR", "HF_HOME", "MPLCONFIGDIR", "TORCH_HOME"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


def _made(spec, **given) -> Made:
    return adapters.make(ModelRequest(spec, **{"size": SIZE, "condition": True, **given}))


def _shapes(made):
    reference = ModuleReference(made)
    shape = made.facts.shape
    images = np.random.default_rng(2).random(shape).astype(np.float32)
    exact, rounded = reference.run(EXACT, images), reference.run("eager", images)
    assert all(value.dtype == np.float64 for value in exact.values() if value.dtype.kind == "f")
    assert list(exact) == list(rounded)
    return {name: value.shape for name, value in exact.items()}


@pytest.mark.parametrize(
    "spec", ["ultralytics:yolo11n.yaml", "libreyolo:dfine-n", "torchvision:ssd300_vgg16", "transformers:config"]
)
def test_a_package_that_is_missing_is_one_line(spec, tmp_path, monkeypatch):
    name = spec.partition(":")[0]
    monkeypatch.setitem(__import__("sys").modules, name, None)
    if name == "transformers":
        (tmp_path / "config.json").write_text("{}")
        spec = f"transformers:{tmp_path}"

    with pytest.raises(InputError, match=f"{name}") as caught:
        _made(spec)

    assert "pip install" in str(caught.value) or "does not import" in str(caught.value)


@pytest.mark.parametrize(
    ("name", "arguments", "layout", "shapes"),
    [
        ("yolov8n.yaml", None, "ultralytics", {"output": (1, 84, 84)}),
        ("yolo26n.yaml", '{"nms": false, "max_det": 20}', "ultralytics-end2end", {"output": (1, 20, 6)}),
        ("yolov8n.yaml", '{"nms": true, "max_det": 7}', "ultralytics-nms", {"output": (1, 7, 6)}),
        ("yolov8n-seg.yaml", None, "ultralytics-seg", {"output": (1, 116, 84), "output_1": (1, 32, 16, 16)}),
    ],
)
def test_ultralytics_as_its_exporter_exports(name, arguments, layout, shapes):
    pytest.importorskip("ultralytics")
    made = _made(f"ultralytics:{name}", arguments=arguments)

    assert (made.facts.layout, made.facts.shape, len(made.facts.names)) == (layout, (1, 3, 64, 64), 80)
    assert made.facts.code and _shapes(made) == shapes


def test_ultralytics_names_what_it_has():
    pytest.importorskip("ultralytics")
    with pytest.raises(InputError, match=r"has no model 'yolo11n.yml'; the nearest names are yolo11n.yaml"):
        _made("ultralytics:yolo11n.yml")


def test_a_checkpoint_is_loaded_with_trust_alone(tmp_path):
    (tmp_path / "best.pt").write_bytes(b"PK")
    for package in ("ultralytics", "libreyolo"):
        with pytest.raises(InputError, match="executes what is in it; give --trust"):
            _made(f"{package}:{tmp_path / 'best.pt'}")


def test_torchvision_gives_its_fields():
    pytest.importorskip("torchvision")
    made = _made("torchvision:ssdlite320_mobilenet_v3_large", size=None)

    assert (made.facts.layout, made.facts.shape, len(made.facts.names)) == ("torchvision", (3, 320, 320), 91)
    assert set(_shapes(made)) == {"boxes", "scores", "labels"}
    with pytest.raises(InputError, match=r"has no model 'ssd301_vgg16'; the nearest names are ssd300_vgg16"):
        _made("torchvision:ssd301_vgg16")


def test_transformers_takes_a_local_folder(tmp_path):
    package = pytest.importorskip("transformers")
    package.YolosConfig(
        hidden_size=24,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        image_size=[64, 96],
        num_detection_tokens=5,
    ).save_pretrained(tmp_path)

    made = _made(f"transformers:{tmp_path}", size=None)

    assert (made.facts.layout, made.facts.shape) == ("detr", (1, 3, 64, 96))
    assert made.facts.preprocessing.mean == (0.485, 0.456, 0.406)
    assert _shapes(made) == {"logits": (1, 5, 3), "pred_boxes": (1, 5, 4)}
    (tmp_path / "pytorch_model.bin").write_bytes(b"PK")
    with pytest.raises(InputError, match="give --trust"):
        _made(f"transformers:{tmp_path}")
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    (tmp_path / "pytorch_model.bin").unlink()
    assert _made(f"transformers:{tmp_path}").facts.preprocessing == Preprocessing(resize="stretch")


def test_transformers_refuses_what_is_no_detector(tmp_path):
    package = pytest.importorskip("transformers")
    package.BertConfig(hidden_size=24).save_pretrained(tmp_path)

    with pytest.raises(InputError, match="is a bert, which is no detector"):
        _made(f"transformers:{tmp_path}")
    with pytest.raises(
        InputError, match=r"is no folder; it takes a local one with config\.json, never a name to download"
    ):
        _made("transformers:PekingU/rtdetr_r18vd")


def test_libreyolo_as_its_exporter_exports():
    pytest.importorskip("libreyolo")
    made = _made("libreyolo:yolox-n")

    assert (made.facts.layout, made.facts.shape, made.facts.preprocessing.scale) == ("yolox", (1, 3, 64, 64), 255.0)
    assert _shapes(made) == {"output": (1, 84, 85)}
    made = _made("libreyolo:yolo9-t")
    assert (made.facts.layout, _shapes(made)) == ("yolo9", {"output": (1, 84, 84)})
    with pytest.raises(InputError, match=r"has no model 'dfin-n'; the nearest names are dfine-n"):
        _made("libreyolo:dfin-n")


class _Net(torch.nn.Module):
    def forward(self, images):
        return images.mean(1, keepdim=True)


def test_a_torchscript_file_is_its_own_model(tmp_path):
    path = tmp_path / "net.torchscript"
    facts = {"imgsz": [48, 64], "names": {0: "cat"}, "task": "detect", "stride": 32}
    torch.jit.save(torch.jit.script(_Net()), str(path), _extra_files={"config.txt": json.dumps(facts)})

    made = adapters.make(ModelRequest(f"torchscript:{path}"))

    assert (made.facts.layout, made.facts.shape, made.facts.names) == ("ultralytics", (1, 3, 48, 64), ("cat",))
    assert not made.facts.code and _shapes(made) == {"output": (1, 1, 48, 64)}
    (tmp_path / "none.pt").write_text("no archive")
    with pytest.raises(InputError, match=r"torch.jit.load, for .*none.pt, raised"):
        adapters.make(ModelRequest(f"torchscript:{tmp_path / 'none.pt'}"))
