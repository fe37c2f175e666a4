"""What a verdict on a file of any detector states that it would have seen: an error twice as large is found."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch", minversion="1.13")  # float64 of any module

from detparity.kit.tests.checks.foreign import stand_ins
from detparity.kit.tests.checks.foreign.stand_ins import STATIC

from detparity.checks import power
from detparity.checks.foreign.parity import judged_of


@pytest.mark.parametrize("name", ["ultralytics", "ultralytics-end2end", "several"])
def test_numbers_off_by_twice_what_is_stated_are_found(name, judged):
    context = judged(name, STATIC, stand_ins.onnx_of(name, STATIC))
    found = power.of_foreign(context)
    case = context.declared
    truth, outputs = context.chosen_truth(case), context.predict(case)

    assert judged_of(context, case, truth, outputs) is None and found["sees"]
    groups = {f"{one.output} {one.field.name}": one for one in truth.images[0].groups}
    for key, row in found["sees"].items():
        field, output = groups[key].field, groups[key].output
        moved = {one: array.astype(np.float64) for one, array in outputs.items()}
        values = np.moveaxis(moved[output], context.layout.outputs[list(outputs).index(output)].axis, -1)
        values[..., field.start : field.stop] += 2 * row["smallest"]
        assert judged_of(context, case, truth, moved) is not None, key


def test_blind_spots_name_what_a_selection_does_not_show(judged):
    name = "ultralytics-end2end"
    found = power.of_foreign(judged(name, STATIC, stand_ins.onnx_of(name, STATIC)))["blind_spots"]

    assert any("not selected" in one for one in found) and any("quick run" in one for one in found)
