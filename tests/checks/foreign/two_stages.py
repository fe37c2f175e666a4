"""Small two-stage models, drawn: candidates by their scores, some of which nearly tie, attention among the chosen, classes and boxes.

The model is a torch module; its "file" is numpy in float32 that computes the same in another order, or with one thing changed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Dict, Optional, Tuple

import numpy as np
import torch

from detparity.checks.foreign.truth import Asked, ForeignOracle, exact_truth, grow
from detparity.core.case import Case
from detparity.core.decisions import Choice
from detparity.core.layout import PRESETS
from detparity.models.module_reference import Made, ModuleReference
from detparity.models.reference import ReferenceFacts

WIDTH, CLASSES = 8, 3
CHANGES = (
    "another query",
    "rows swapped after the decoder",
    "box of another query",
    "scores not gathered",
    "one less",
    "one more",
    "wrong axis",
    "smallest",
    "not sorted",
    "offset of the batch forgotten",
)


class Drawn(torch.nn.Module):
    """(batch, 3, 4, candidates) images. Candidates of one group differ across what their score reads, so that they nearly tie."""

    def __init__(self, seed: int, steps: int = 0) -> None:
        super().__init__()
        rng = np.random.default_rng(seed)
        self.candidates, self.count = int(rng.integers(16, 40)), int(rng.integers(3, 9))
        self.steps = steps
        groups = int(rng.integers(self.candidates // 2, self.candidates))
        score = rng.standard_normal(WIDTH)
        across = rng.standard_normal((self.candidates, WIDTH))
        across -= np.outer(across @ score / (score @ score), score)
        tensors = {
            "stem": rng.standard_normal((12, WIDTH)) / 3,
            "across": across,
            "score": score[:, None],
            "decode": rng.standard_normal((WIDTH, CLASSES + 4)),
        }
        for name, value in tensors.items():
            self.register_buffer(name, torch.from_numpy(value.astype(np.float32)))
        self.group = rng.integers(0, groups, self.candidates)

    def forward(self, images: torch.Tensor) -> Dict[str, torch.Tensor]:
        seen = images.flatten(1, 2).transpose(1, 2)[:, self.group]
        features = torch.tanh(seen @ self.stem) + self.across
        scores = (features @ self.score).squeeze(2)
        if self.steps:
            scores = torch.round(scores * self.steps) / self.steps
        best, chosen = scores.topk(self.count, dim=1)
        queries = features.gather(1, chosen.unsqueeze(2).expand(-1, -1, WIDTH))
        mixed = queries + torch.softmax(queries @ queries.transpose(1, 2) / 3, 2) @ queries
        found = mixed @ self.decode
        return {"logits": found[..., :CLASSES] + best.unsqueeze(2), "pred_boxes": torch.sigmoid(found[..., CLASSES:])}


def _product(one: np.ndarray, other: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A float32 product whose sums run in a drawn order."""
    order = rng.permutation(one.shape[-1])
    return np.matmul(one[..., order], other[..., order, :])


def evaluated(module: Drawn, images: np.ndarray, rng: np.random.Generator, change: str = "") -> Tuple[Any, Choice]:
    """The outputs of a file and its choice. change: of CHANGES, or that of a tie by margin."""
    weights = {name: value.numpy() for name, value in module.named_buffers()}
    seen = images.reshape(len(images), -1, images.shape[-1]).transpose(0, 2, 1)[:, module.group]
    features = np.tanh(_product(seen, weights["stem"], rng)) + weights["across"]
    scores = _product(features, weights["score"], rng)[..., 0]
    if module.steps:
        scores = np.round(scores * np.float32(module.steps)) / np.float32(module.steps)
    indices, count = _chosen(scores, module.count, rng, change), module.count
    source = features
    if change == "offset of the batch forgotten":
        source = np.repeat(features[:1], len(features), 0)
    queries = np.take_along_axis(source, indices[..., None], 1)
    best = np.take_along_axis(scores, indices, 1)
    if change == "scores not gathered":
        best = scores[:, : indices.shape[1]]
    inner = _product(queries, queries.transpose(0, 2, 1), rng) / np.float32(3)
    weight = np.exp(inner - inner.max(2, keepdims=True))
    if change == "wrong axis":
        weight = np.exp(inner - inner.max(1, keepdims=True))
        weight = weight / weight.sum(1, keepdims=True)
    found = _product(queries + _product(weight / weight.sum(2, keepdims=True), queries, rng), weights["decode"], rng)
    logits = found[..., :CLASSES] + best[..., None]
    boxes = 1 / (1 + np.exp(-found[..., CLASSES:]))
    if change == "rows swapped after the decoder":
        logits[:, [0, count - 1]], boxes[:, [0, count - 1]] = logits[:, [count - 1, 0]], boxes[:, [count - 1, 0]]
    if change == "box of another query":
        boxes[:, 0] = boxes[:, 1]
    return {"logits": logits, "pred_boxes": boxes}, Choice("/TopK", scores.astype(np.float64), indices, 1)


def _chosen(scores: np.ndarray, count: int, rng: np.random.Generator, change: str) -> np.ndarray:
    """Equal scores in any order."""
    shuffled = rng.permuted(np.tile(np.arange(scores.shape[1]), (len(scores), 1)), axis=1)
    order = np.argsort(-np.take_along_axis(scores, shuffled, 1), axis=1, kind="stable")
    ranked = np.take_along_axis(shuffled, order, 1)
    if change == "smallest":
        return ranked[:, ::-1][:, :count]
    if change == "another query":
        return np.concatenate([ranked[:, : count - 1], ranked[:, -1:]], 1)
    if change == "not sorted":
        return ranked[:, :count][:, ::-1]
    return ranked[:, : count + {"one less": -1, "one more": 1}.get(change, 0)]


@dataclass
class Judged:
    """What `parity` asks of a context, of a file that is already run."""

    oracle: ForeignOracle
    asked: Asked
    hidden: str = ""
    suppression: str = ""
    uncovered: Tuple[str, ...] = ()
    notes: Dict[str, Any] = field(default_factory=dict)

    @property
    def layout(self) -> Any:
        return self.asked.layout

    def grow(self, case: Case, truth: Any) -> bool:
        return grow(self.oracle, truth, self.asked)


def reference(module: Drawn) -> ForeignOracle:
    facts = ReferenceFacts("drawn", str(id(module)), (1, 3, 4, module.candidates), (), "detr")
    return ForeignOracle(ModuleReference(Made(module.eval(), facts)))


def finding(oracle: ForeignOracle, images: np.ndarray, outputs: Any, choice: Optional[Choice]) -> Any:
    """What `parity.declared` finds of a file with these outputs and this choice, with the truth it was judged by."""
    from detparity.checks.foreign.parity import judged_of

    case = Case((4, images.shape[-1]), tuple(("noise", slot) for slot in range(len(images))))
    choices = (choice,) if choice is not None else ()
    asked = Asked(images, case, PRESETS["detr"], lambda found: dict(found), choices)
    truth = exact_truth(oracle, asked)
    context: Any = Judged(oracle, asked)
    return judged_of(context, case, truth, outputs), truth
