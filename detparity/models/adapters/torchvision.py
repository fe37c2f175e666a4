"""Detectors of torchvision, with random weights: `torchvision.models.get_model` builds them by name."""

from __future__ import annotations

from typing import Any, Tuple

import torch
from torch import nn

from detparity.models.adapters import common
from detparity.models.module_reference import Made
from detparity.models.reference import ModelRequest, Preprocessing, ReferenceFacts


def detected(module: nn.Module, images: torch.Tensor) -> Any:
    """These models take a list of images (3, H, W) and return a dictionary for each; the first is the answer."""
    return module(list(images) if images.dim() == 4 else [images])[0]


def make(name: str, request: ModelRequest) -> Made:
    models = common.package("torchvision.models", "torchvision")
    known = models.list_models(module=models.detection)
    if name not in known:
        raise common.unknown("torchvision", name, known)
    given = {"weights": None, "weights_backbone": None, **common.keywords(request)}
    module = common.called(f"torchvision, for {name},", lambda: models.get_model(name, **given))
    height, width = request.size or _own_size(module)
    facts = ReferenceFacts(
        f"torchvision:{name}",
        "",
        (3, height, width),
        (),
        "torchvision",
        _names(models, name, given),
        Preprocessing(resize="stretch"),
        code=True,
    )
    return Made(module, facts, detected)


def _own_size(module: nn.Module) -> Tuple[int, int]:
    fixed = getattr(getattr(module, "transform", None), "fixed_size", None)
    return (int(fixed[1]), int(fixed[0])) if fixed else common.DEFAULT_SIZE


def _names(models: Any, name: str, given: Any) -> Tuple[str, ...]:
    """Of the published weights, where the number of classes is theirs."""
    if "num_classes" in given:
        return ()
    found = models.get_model_weights(name).DEFAULT.meta.get("categories", ())
    return tuple(map(str, found))
