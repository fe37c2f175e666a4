"""TorchScript that returns logits by level beside decoded predictions: both are judged."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch", minversion="1.13")

from torch import nn  # noqa: E402

from detparity.checks.foreign.open_file import ForeignSource, open_context  # noqa: E402
from detparity.core.clock import Clock  # noqa: E402
from detparity.core.layout import recognise, with_levels  # noqa: E402
from detparity.models.module_reference import Made, ModuleReference  # noqa: E402
from detparity.models.reference import ReferenceFacts  # noqa: E402

CLASSES = 2


class Decoded(nn.Module):
    """Predictions (B, rows, 5 + classes), and the logits of two levels; scale: of the logits that are returned."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.levels = nn.ModuleList(nn.Conv2d(3, 3 * (5 + CLASSES), side, side) for side in (8, 16))
        self.scale = scale

    def forward(self, images):
        rows, logits = [], []
        for level in self.levels:
            found = level(images).unflatten(1, (3, 5 + CLASSES)).permute(0, 1, 3, 4, 2)
            logits.append(self.scale * found)
            rows.append(found.sigmoid().flatten(1, 3))
        return torch.cat(rows, 1), tuple(logits)


@pytest.mark.parametrize(("scale", "outcome"), [(1.0, "passed"), (1.001, "failed")])
def test_logits_beside_predictions_are_judged(scale, outcome, tmp_path):
    path = tmp_path / "best.torchscript.pt"
    torch.jit.trace(Decoded(scale).eval(), torch.zeros(1, 3, 32, 32)).save(str(path))
    facts = ReferenceFacts("decoded", "", (1, 3, 32, 32), (), "yolov5")
    reference = ModuleReference(Made(Decoded().eval(), facts))
    context = open_context(path, ForeignSource(lambda _: reference), None, Clock(), True)

    assert context.outcome("parity.declared").outcome == outcome
    assert context.layout.name == "yolov5" and len(context.layout.outputs) == 3 and context.uncompared == 0


def test_levels_follow_any_layout():
    arrays = {"output": np.zeros((1, 9, 7)), "level": np.zeros((1, 3, 4, 4, 7)), "next": np.zeros((1, 3, 2, 2, 7))}
    found = recognise(arrays, {}, 1)
    assert found.name == "generic" and [len(one.fields) for one in found.outputs] == [0, 1, 1]
    alone = recognise({"a": np.zeros((1, 3, 4, 4, 7))}, {}, 1)
    assert with_levels(alone, [np.zeros((1, 3, 4, 4, 7))]) == alone and alone.outputs[0].fields == ()
