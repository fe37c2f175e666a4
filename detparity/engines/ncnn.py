"""ncnn on the CPU, for its own files (.param with .bin), as pnnx writes them.

Such a file has no batch axis and declares no shapes: images are given one by one, and outputs are stacked. By default ncnn computes
3x3 convolutions by Winograd's transform, whose rounding differs by design; asked for float32, it is set to plain
sums and to 32 bits everywhere. Options: ncnn's src/option.h.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Dict, List, Tuple, Union

import ncnn
import numpy as np

from detparity.artifacts.runtime_file import Port, RuntimeFile
from detparity.core.errors import EngineError
from detparity.core.runtimes import runtime_files
from detparity.core.vocabulary import Arrays, Load, Runner
from detparity.engines.ncnn_types import LINE, stored

PLAIN = (  # options that make it compute in float32, sums in the order of the layer
    "use_winograd_convolution",
    "use_fp16_packed",
    "use_fp16_storage",
    "use_fp16_arithmetic",
    "use_bf16_storage",
    "use_int8_inference",
)


def read(path: str) -> RuntimeFile:
    """The facts of a parameter file. Raises EngineError where it is none."""
    param, weights = _files(path)
    inputs, outputs = _ends(param)
    found = stored(param, weights)
    quantised = bool({"int8", "uint8"} & set(found))
    kind = "int8" if quantised else max(found, key=lambda kind: found[kind], default="float32")
    return RuntimeFile(tuple(map(Port, inputs)), tuple(map(Port, outputs)), kind, quantised)


def prepare(source: Union[str, Path], how: Load = Load()) -> Runner:
    """Load a folder or a parameter file. Raises EngineError if it does not load or run."""
    param, weights = _files(source)
    inputs, outputs = _ends(param)
    net = ncnn.Net()
    if how.threads:
        net.opt.num_threads = how.threads
    int8 = read(str(source)).quantised
    for name in PLAIN if how.precision == "float32" else ():
        if not (int8 and name == "use_int8_inference"):
            setattr(net.opt, name, False)
    if net.load_param(str(param)) or net.load_model(str(weights)):
        raise EngineError("ncnn does not load it: a layer that this version has not, or weights that do not fit")

    def call(feed: Arrays) -> Arrays:
        images = [_run(net, outputs, {name: feed[name][k] for name in inputs}) for k in range(len(feed[inputs[0]]))]
        return {name: np.stack([one[name] for one in images]) for name in outputs}

    return Runner("ncnn", call, _facts(net, how, int8), tuple(inputs))


def _run(net: Any, outputs: List[str], feed: Arrays) -> Dict[str, np.ndarray]:
    """One image, (3, H, W) by input."""
    held = {name: np.ascontiguousarray(array, np.float32) for name, array in feed.items()}  # ncnn reads from these
    extractor = net.create_extractor()
    for name, array in held.items():
        if extractor.input(name, ncnn.Mat(array)):
            raise EngineError(f"ncnn does not take the input {name!r}")
    found = {}
    for name in outputs:
        failed, value = extractor.extract(name)
        if failed:
            raise EngineError(f"ncnn does not compute the output {name!r}")
        found[name] = np.array(value)
    return found


def _facts(net: Any, how: Load, int8: bool) -> Dict[str, str]:
    """What is set on this net: ncnn does not report in which precision a layer ran, which its processor decides by default."""
    return {
        "ncnn": str(ncnn.__version__),
        "device": "CPU",
        "threads": str(net.opt.num_threads),
        "precision": "int8" if int8 else "float32" if how.precision else "",
        "asked for": how.precision or "nothing",
        "winograd": "on" if net.opt.use_winograd_convolution else "off",
    }


def _files(source: Union[str, Path]) -> Tuple[Path, Path]:
    found = runtime_files(Path(source))
    if found is None or found.runtime != "ncnn":
        raise EngineError("it is no parameter file with its .bin beside it")
    return found.files[0], found.files[1]


def _ends(param: Path) -> Tuple[List[str], List[str]]:
    """Names of the inputs, and of the outputs: blobs that no layer reads, in order."""
    inputs: List[str] = []
    made: List[str] = []
    taken: List[str] = []
    for line in param.read_text(encoding="utf-8", errors="replace").splitlines()[2:]:
        layer = LINE.match(line)
        if layer is None:
            continue
        words = layer[4].split()
        count, more = int(layer[2]), int(layer[3])
        taken += words[:count]
        made += words[count : count + more]
        inputs += words[count : count + more] if layer[1] == "Input" else []
    outputs = [name for name in made if name not in set(taken) and name not in inputs]
    if not inputs or not outputs:
        raise EngineError("its parameter file names no input, or no output")
    return inputs, outputs
