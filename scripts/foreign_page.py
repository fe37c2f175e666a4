"""What docs/foreign.md holds beside its table: defects of exporters, each with its own reproduction, and planted ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import List

DEFECTS = """
## Defects of exporters, confirmed without detparity

**libreyolo 1.6.0, YOLO-NAS: the names of the outputs are exchanged.** The boxes, four columns, are called `pred_logits`, the scores
`pred_boxes`:

    import onnx
    for output in onnx.load("yolonas-s.onnx").graph.output:
        print(output.name, [axis.dim_value or axis.dim_param for axis in output.type.tensor_type.shape.dim])
    # pred_logits [1, 1344, 4]
    # pred_boxes [1, 1344, 80]

**libreyolo 1.6.0, D-FINE and DEIM, dynamic=True: the batch is declared to vary and is one inside.**

    import numpy, onnxruntime
    session = onnxruntime.InferenceSession("dfine-n.onnx")
    print(session.get_inputs()[0].shape)  # ['batch', 3, 256, 256]
    session.run(None, {"images": numpy.zeros((3, 3, 256, 256), numpy.float32)})
    # GatherElements: 'indices' shape should have values within bounds of 'data' shape. Invalid value in indices shape is: 3

**ultralytics 8.4.190, YOLOv10 and YOLO26, dynamic=True nms=False: the best 300 are taken of fewer candidates.** The exporter asks for
a size that varies, and for `anchors` on axis 2 of the output, which is six columns. The model itself takes what there is:

    import numpy, onnxruntime
    session = onnxruntime.InferenceSession("yolo26n.onnx")
    print(session.get_inputs()[0].shape, session.get_outputs()[0].shape)  # ['batch', 3, 'height', 'width'] ['batch', 300, 6]
    session.run(None, {"images": numpy.zeros((1, 3, 64, 96), numpy.float32)})
    # TopK: k argument [300] should not be greater than specified axis dim value [126]

**ultralytics 8.4.190, RT-DETR, dynamic=True: `anchors` is asked for on axis 2 of the output, which is six columns and does not vary.**

    import onnx
    print([axis.dim_param or axis.dim_value for axis in onnx.load("rtdetr-l.onnx").graph.output[0].type.tensor_type.shape.dim])
    # ['batch', 'Concatoutput0_dim_1', 6]

**libreyolo 1.6.0, PicoDet, RTMDet and YOLO7, half=True: the file does not load.** It counts cells with `Range` in float16, a type
that ONNX does not define for it:

    import onnx, onnxruntime
    onnx.checker.check_model(onnx.load("picodet-s.onnx"), full_check=True)
    # (op_type:Range, node name: /head/Range): start typestr: T, has unsupported type: tensor(float16)
    onnxruntime.InferenceSession("picodet-s.onnx")
    # Type 'tensor(float16)' of input parameter ... of operator (Range) in node (/head/Range_6) is invalid.

**libreyolo 1.6.0, YOLOX, half=True: boxes that float16 cannot hold are infinite.** The sizes are exponentials, of this random
network up to a million pixels, in a file that gives float16:

    import numpy, onnxruntime
    session = onnxruntime.InferenceSession("yolox-n.onnx")
    image = numpy.random.default_rng([0, 1]).random((1, 3, 256, 256), dtype=numpy.float32)
    print(numpy.isinf(session.run(None, {session.get_inputs()[0].name: image.astype(numpy.float16)})[0]).sum())  # 19

**libreyolo 1.6.0, D-FINE, DEIM and RT-DETR, half=True: there is no file.** The export ends in an exception of torch, operands of
float32 and float16 in one operator.

**ultralytics 8.4.190, half=True: the file is not sorted.** onnxruntime's `convert_float_to_float16(keep_io_types=True)`, which the
exporter calls last, puts the cast of the input behind its readers; ONNX Runtime sorts, the checker and stricter readers refuse:

    import onnx
    onnx.checker.check_model(onnx.load("yolov8n.onnx"))
    # ValidationError: Nodes in a graph must be topologically sorted, however input 'graph_input_cast_0' of node ..."""


def planted(folder: Path) -> List[str]:
    """The table of `foreign_defects.py`: a row for each defect, a column for each layout, with the checks that found it."""
    found = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("defects/*.json"))]
    if not found:
        return []
    defects = list(dict.fromkeys(key for one in found for key in one["found"] if key))
    lines = [
        "",
        "## Defects planted into such exports",
        "",
        "By `python scripts/foreign_defects.py RESULTS/defects`: which checks found each; a dash where there is no such thing.",
        "",
        f"| planted | {' | '.join('{package} {name}'.format(**one) for one in found)} |",
        f"|---|{'---|' * len(found)}",
    ]
    for defect in defects:
        cells = []
        for one in found:
            cell = one["found"].get(defect, {"verdict": "not run", "checks": []})
            passed = "-" if cell["verdict"] == "does not apply" else f"**{cell['verdict']}**"
            cells.append(", ".join(cell["checks"]) if cell["verdict"] == "violates" else passed)
        lines.append(f"| {defect.replace('_', ' ')} | {' | '.join(cells)} |")
    caught = sum(cell["verdict"] == "violates" for one in found for key, cell in one["found"].items() if key)
    total = sum(cell["verdict"] != "does not apply" for one in found for key, cell in one["found"].items() if key)
    return [*lines, "", f"{caught} of {total} violate."]
