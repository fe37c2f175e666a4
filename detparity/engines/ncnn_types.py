"""In which types an ncnn model stores its weights, layer by layer: its .bin is read in the order of its .param.

Each weight begins with four bytes that state its type (ncnn's src/modelbin.cpp); a layer's sizes are parameters of its line
(load_param and load_model in src/layer).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Dict, List, Mapping, Tuple

HALF, INT8, TABLE = (
    0x01306B47,
    0x000D4B38,
    0x0002C056,
)  # tags; another one that is not zero: codes of a table of 256 numbers
LINE = re.compile(r"^(\S+)\s+\S+\s+(\d+)\s+(\d+)\s+(.*)$")
# Of layers with weights: the parameter with how many there are, that with whether there is a bias, that with how many biases.
WEIGHTS: Mapping[str, Tuple[int, int, int]] = {
    **dict.fromkeys(("Convolution", "Convolution1D", "Deconvolution"), (6, 5, 0)),
    **dict.fromkeys(("ConvolutionDepthWise", "DeconvolutionDepthWise"), (6, 5, 0)),
    "InnerProduct": (2, 1, 0),
}
SCALES = 8  # the parameter with which scales of 8 bits follow


def stored(param: Path, weights: Path) -> Dict[str, int]:
    """Weights by type; the first layer that is not known ends the reading."""
    found: Dict[str, int] = {}
    content, at = weights.read_bytes(), 0
    for line in param.read_text(encoding="utf-8", errors="replace").splitlines()[2:]:
        layer = LINE.match(line)
        if layer is None:
            continue
        values = _parameters(layer[4].split()[int(layer[2]) + int(layer[3]) :])
        if layer[1] == "MemoryData":
            at += (
                4
                * (values.get(0, 1) or 1)
                * (values.get(1, 1) or 1)
                * (values.get(2, 1) or 1)
                * (values.get(11, 1) or 1)
            )
        elif layer[1] in WEIGHTS:
            many, bias, biases = WEIGHTS[layer[1]]
            count = values.get(many, 0)
            if at + 4 > len(content):
                break
            kind, size = _type(int.from_bytes(content[at : at + 4], "little"), count)
            found[kind] = found.get(kind, 0) + count
            at += size + 4 * values.get(biases, 0) * values.get(bias, 0)
            if values.get(SCALES, 0):
                break  # scales follow, whose number depends on the layer
        elif not _empty(layer[1]):
            break
    return found


def _type(tag: int, count: int) -> Tuple[str, int]:
    """The type of a weight, and the bytes of it with its tag."""
    if tag == HALF:
        return "float16", 4 + -(-2 * count // 4) * 4
    if tag == INT8:
        return "int8", 4 + -(-count // 4) * 4
    if tag == TABLE or not tag:
        return "float32", 4 + 4 * count
    return "uint8", 4 + 4 * 256 + -(-count // 4) * 4


def _parameters(words: List[str]) -> Dict[int, int]:
    found: Dict[int, int] = {}
    for word in words:
        key, _, value = word.partition("=")
        if key.lstrip("-").isdigit() and value.lstrip("-").isdigit():
            found[int(key)] = int(value)
    return found


def _empty(kind: str) -> bool:
    """Whether a layer stores no numbers."""
    return kind in (
        *(
            "Input",
            "Split",
            "Concat",
            "Slice",
            "Crop",
            "Reshape",
            "Permute",
            "Flatten",
            "ExpandDims",
            "Squeeze",
            "Padding",
        ),
        *(
            "ReLU",
            "Sigmoid",
            "Swish",
            "SiLU",
            "HardSwish",
            "HardSigmoid",
            "Mish",
            "TanH",
            "Softmax",
            "UnaryOp",
            "BinaryOp",
        ),
        *(
            "Pooling",
            "Interp",
            "Eltwise",
            "Reduction",
            "Noop",
            "ShuffleChannel",
            "PixelShuffle",
            "Clip",
            "MatMul",
            "Reorg",
        ),
        *("CumulativeSum", "Packing", "Cast", "GELU", "ELU", "Exp", "Log", "Power", "CopyTo", "Tile"),
    )
