"""Detectors of the package transformers from a local folder: a configuration, and weights where there are any. Never the network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, Mapping, Tuple

import torch
from torch import nn

from detparity.core.errors import InputError
from detparity.core.files import require_file
from detparity.models.adapters import common
from detparity.models.module_reference import Made
from detparity.models.reference import ModelRequest, Preprocessing, ReferenceFacts

# Families whose images are normalised, where the folder has no preprocessor_config.json to say so.
NORMALISED = ("detr", "yolos", "deformable_detr", "conditional_detr", "table-transformer", "deta")


def detected(module: nn.Module, images: torch.Tensor) -> Any:
    found = module(pixel_values=images, return_dict=True)
    return {"logits": found["logits"], "pred_boxes": found["pred_boxes"]}


def make(name: str, request: ModelRequest) -> Made:
    folder = Path(name)
    if not folder.is_dir():
        raise InputError(
            f"transformers:{name} is no folder; it takes a local one with config.json, never a name to download"
        )
    require_file(folder / "config.json", "a configuration")
    package = common.package("transformers")
    local: Dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    config = common.called("transformers", lambda: package.AutoConfig.from_pretrained(str(folder), **local))
    automatic = package.AutoModelForObjectDetection
    if type(config) not in automatic._model_mapping:
        raise InputError(f"transformers:{name} is a {config.model_type}, which is no detector that the package exports")
    module = common.called("transformers", lambda: _load(automatic, config, folder, request, local))
    stated = _stated(folder)
    size = request.size or _size(config, stated)
    facts = ReferenceFacts(
        f"transformers:{folder.name} ({config.model_type})",
        "",
        (1, 3, *size),
        (),
        "detr",
        _names(config),
        _preprocessing(config, stated),
        code=True,
    )
    return Made(module, facts, detected)


def _load(automatic: Any, config: Any, folder: Path, request: ModelRequest, local: Mapping[str, Any]) -> nn.Module:
    given = common.keywords(request)
    for key in ("use_pretrained_backbone",):
        if getattr(config, key, False):
            setattr(config, key, False)
    pickled = any(folder.glob("pytorch_model*.bin"))
    if any(folder.glob("*.safetensors")):
        made: nn.Module = automatic.from_pretrained(str(folder), config=config, use_safetensors=True, **local, **given)
    elif pickled:
        common.require_trust(request, "weights in pytorch_model.bin")
        made = automatic.from_pretrained(str(folder), config=config, use_safetensors=False, **local, **given)
    else:
        made = automatic.from_config(config, **given)
    return made.float().eval()


def _stated(folder: Path) -> Mapping[str, Any]:
    path = folder / "preprocessor_config.json"
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise InputError(f"{path} is no JSON: {error}") from None
    return found if isinstance(found, dict) else {}


def _size(config: Any, stated: Mapping[str, Any]) -> Tuple[int, int]:
    size = stated.get("size")
    if isinstance(size, dict) and {"height", "width"} <= set(size):
        return int(size["height"]), int(size["width"])
    return common.pair(getattr(config, "image_size", None))


def _names(config: Any) -> Tuple[str, ...]:
    found = dict(getattr(config, "id2label", None) or {})
    return tuple(str(found[index]) for index in sorted(found)) if all(type(key) is int for key in found) else ()


def _preprocessing(config: Any, stated: Mapping[str, Any]) -> Preprocessing:
    normalised = stated.get("do_normalize", config.model_type in NORMALISED)
    if not normalised:
        return Preprocessing(resize="stretch")
    mean, std = stated.get("image_mean", common.IMAGENET_MEAN), stated.get("image_std", common.IMAGENET_STD)
    return Preprocessing(mean=tuple(map(float, mean)), std=tuple(map(float, std)), resize="stretch")
