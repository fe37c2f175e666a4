"""Cases of checkpoints, lite archives, layer tables and state dicts: each must load or be refused in one line."""

from __future__ import annotations

import io
import json
import pickle
import pickletools
import random
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

import numpy as np
from detparity.kit.tests.fuzz.cases import NUMBERS, Case, Members, mutated, packed, spoil, unpacked

FOLDER = Path(__file__).resolve().parents[2]
CHECKPOINTS = tuple(sorted((FOLDER / "tests" / "models" / "yolov7" / "fixtures").glob("*.pt")))
TABLE: Mapping[str, Any] = {
    "nc": 3,
    "depth_multiple": 0.5,
    "width_multiple": 0.25,
    "anchors": [[10, 13, 16, 30, 33, 23], [30, 61, 62, 45, 59, 119]],
    "backbone": [
        [-1, 1, "Conv", [32, 3, 2, "None", 1, "nn.LeakyReLU(0.1)"]],
        [-1, 1, "Conv", [64, 3, 2]],
        [-1, 4, "Bottleneck", [64]],
        [-1, 1, "DownC", [64]],
        [-1, 3, "BottleneckCSPA", [64]],
        [-1, 1, "MP", []],
    ],
    "head": [
        [-1, 1, "SPPCSPC", [64]],
        [-1, 1, "nn.Upsample", ["None", 2, "nearest"]],
        [[-1, 4], 1, "Concat", [1]],
        [-1, 1, "RepConv", [64, 3, 1]],
        [6, 1, "Conv", [128, [1, 1]]],
        [[9, 10], 1, "IDetect", ["nc", "anchors"]],
    ],
}
YAML_BITS = (
    *(
        "!!timestamp abc",
        "!!int ''",
        "!!float ''",
        "!!bool maybe",
        "0x" + "f" * 900,
        "9" * 900,
        "1:2:3",
        ".inf",
        ".nan",
        "~",
    ),
    *(
        "2024-01-01",
        "&a [1]",
        "*a",
        "<<: *a",
        "!!set {a}",
        "!!binary aGk=",
        "!!python/name:os.system",
        "? [a]",
        "[" * 200,
        "'",
    ),
)


class Operations:
    """Operations of a pickle as pairs of name and bytes, so that they can be moved without breaking their arguments."""

    def __init__(self, data: bytes) -> None:
        spots = [position for _, _, position in pickletools.genops(data) if position is not None]
        self.operations = [data[a:b] for a, b in zip(spots, [*spots[1:], len(data)])]

    def mutated(self, rng: random.Random) -> bytes:
        found = list(self.operations)
        for _ in range(rng.choice((1, 1, 2, 5))):
            if not found:
                break
            at, other = rng.randrange(len(found)), rng.randrange(len(found))
            change = rng.randrange(5)
            if change == 0:
                found[at] = found[other]
            elif change == 1:
                del found[at : at + rng.choice((1, 2, 5))]
            elif change == 2:
                found[at:at] = found[other : other + rng.choice((1, 3, 20))] * rng.choice((1, 1, 2, 300))
            elif change == 3:
                found[at] = _number(rng.choice(NUMBERS))
            else:
                found[at] = _name(rng)
        return b"".join(found)


def _number(value: int) -> bytes:
    content = value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True)
    return pickle.LONG1 + bytes([len(content)]) + content


NAMES = (
    *("torch._utils _rebuild_tensor_v2", "torch Size", "torch device", "collections OrderedDict", "_codecs encode"),
    *(
        "numpy dtype",
        "numpy ndarray",
        "numpy.core.multiarray scalar",
        "numpy.core.multiarray _reconstruct",
        "torch FloatStorage",
    ),
    *(
        "collections defaultdict",
        "__builtin__ set",
        "__builtin__ getattr",
        "os system",
        "easydict EasyDict",
        "datetime datetime",
    ),
    *(
        "torch.nn.modules.conv Conv2d",
        "models.yolo Model",
        "models.common Conv",
        "pathlib PosixPath",
        "a.b C",
        "builtins list",
    ),
)


def _name(rng: random.Random) -> bytes:
    module, name = rng.choice(NAMES).split(" ")
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _nothing(_: object) -> str:
    return ""


class Loading:
    """Cases of what is loaded as a model. folder: where files are written."""

    def __init__(self, rng: random.Random, folder: Path) -> None:
        self.rng = rng
        self.folder = folder
        self.sources = [unpacked(path) for path in CHECKPOINTS]
        self._operations: Dict[Tuple[int, str], Operations] = {}
        self._lite: Optional[Members] = None
        self._state: Optional[Dict[str, np.ndarray]] = None

    def makers(self) -> Mapping[str, Callable[[], Case]]:
        """By the kind of file, what makes a case."""
        return {
            "checkpoint": self.checkpoint,
            "operations": self.operations,
            "tree": self.tree,
            "state": self.state_dict,
            "table": self.table,
            "yaml": self.yaml,
            "lite": self.lite,
        }

    def _loading(self, sort: str, path: Path, cfg: Optional[str] = None) -> Case:
        from detparity.models.choice import ModelChoice, load_detector

        return Case(sort, path, lambda: _nothing(load_detector(ModelChoice((path,), cfg=cfg))))

    def _archive(self, members: Members, name: str) -> Path:
        path = self.folder / name
        if self.rng.random() < 0.1:
            packed(members, path, self.rng.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED)))
            path.write_bytes(mutated(self.rng, path.read_bytes()))
        else:
            packed(members, path)
        return path

    def checkpoint(self) -> Case:
        """Bytes of one member changed."""
        members = dict(self.rng.choice(self.sources))
        name = self.rng.choice([*members, *[one for one in members if one.endswith("data.pkl")] * 20])
        members[name] = mutated(self.rng, members[name])
        return self._loading("checkpoint", self._archive(members, "checkpoint.pt"))

    def operations(self) -> Case:
        """Operations of the pickle moved, repeated, replaced."""
        index = self.rng.randrange(len(self.sources))
        members = dict(self.sources[index])
        name = next(one for one in members if one.endswith("data.pkl"))
        members[name] = self._parsed((index, name), members[name]).mutated(self.rng)
        return self._loading("operations", self._archive(members, "operations.pt"))

    def _parsed(self, key: Tuple[int, str], data: bytes) -> Operations:
        if key not in self._operations:
            self._operations[key] = Operations(data)
        return self._operations[key]

    def tree(self) -> Case:
        """A number or a text of the pickled model replaced by another of its length."""
        members = dict(self.rng.choice(self.sources))
        name = next(one for one in members if one.endswith("data.pkl"))
        content = bytearray(members[name])
        for _ in range(self.rng.choice((1, 2, 4))):
            codes = [at for at in range(len(content) - 5) if content[at] in b"KMJ"]
            at = self.rng.choice(codes)
            length = {ord("K"): 1, ord("M"): 2, ord("J"): 4}[content[at]]
            value = self.rng.choice(NUMBERS) & ((1 << 8 * length) - 1)
            content[at + 1 : at + 1 + length] = value.to_bytes(length, "little")
        members[name] = bytes(content)
        return self._loading("tree", self._archive(members, "tree.pt"))

    def state_dict(self) -> Case:
        """Keys renamed, tensors reshaped, prefixed, dropped."""
        import torch

        from detparity.models.compat.pickler import save

        state = dict(self._base_state())
        rng = self.rng
        for _ in range(rng.choice((1, 1, 2, 5))):
            key = rng.choice(list(state))
            value = state.pop(key)
            change = rng.randrange(6)
            if change == 0:
                state[rng.choice(("module.", "x.", "", "model.9", "0.")) + key] = value
            elif change == 1 and value.ndim:
                state[key] = value[: rng.randrange(len(value) + 1)]
            elif change == 2:
                state[key] = value.reshape(-1)
            elif change == 3:
                state[key.replace("model.", f"model.{rng.choice((0, 5, 77, 500, 99999))}", 1)] = value
            elif change == 4:
                state[rng.choice(list(state))] = value
        prefix = rng.choice(("", "", "module.", "_orig_mod.", "model."))
        content = {prefix + key: torch.from_numpy(value.copy()) for key, value in state.items()}
        path = self.folder / "state.pt"
        save({"state_dict": content} if rng.random() < 0.5 else content, path)
        return self._loading("state", path, rng.choice((None, "yolov7-tiny", "training-yolov7-tiny", "yolov7")))

    def table(self) -> Case:
        """Values of a layer table replaced."""
        table = json.loads(json.dumps(TABLE))
        for _ in range(self.rng.choice((1, 1, 2, 4))):
            spoil(self.rng, table)
        path = self.folder / "table.yaml"
        path.write_text(json.dumps(table), encoding="utf-8")
        return self._drawn("table", path)

    def yaml(self) -> Case:
        """Text of a layer table changed, or odd YAML put in."""
        text = json.dumps(TABLE, indent=self.rng.choice((None, 1)))
        if self.rng.random() < 0.6:
            at = self.rng.randrange(len(text))
            text = text[:at] + self.rng.choice(YAML_BITS) + text[at + self.rng.choice((0, 1, 5)) :]
            content = text.encode("utf-8")
        else:
            content = mutated(self.rng, text.encode("utf-8"))
        path = self.folder / "text.yaml"
        path.write_bytes(content)
        return self._drawn("yaml", path)

    def _drawn(self, sort: str, path: Path) -> Case:
        from detparity.models.choice import ModelChoice, load_detector

        return Case(sort, path, lambda: _nothing(load_detector(ModelChoice(cfg=str(path)))))

    def lite(self) -> Case:
        """A lite archive whose program or state is changed."""
        from detparity.artifacts import lite_bytecode

        members = dict(self._base_lite())
        names = [name for name in members if name.endswith((".pkl", "/data/0", "/data/1", "version"))]
        name = self.rng.choice(names)
        if name.endswith(".pkl") and self.rng.random() < 0.5:
            members[name] = self._parsed((-1, name), members[name]).mutated(self.rng)
        else:
            members[name] = mutated(self.rng, members[name])
        path = self._archive(members, "module.ptl")
        return Case("lite", path, lambda: _nothing(lite_bytecode.read(path, "detparity.json")))

    def _base_lite(self) -> Members:
        if self._lite is None:
            from detparity.models.compat import jit
            from detparity.models.yolov7.network import Predictions
            from detparity.models.yolov7.seeded import seeded

            module = Predictions(seeded("yolov7-tiny", 0.125, 0, 3).network).eval()
            with zipfile.ZipFile(io.BytesIO(jit.lite(jit.script(module), {"detparity.json": "{}"}))) as archive:
                self._lite = {info.filename: archive.read(info) for info in archive.infolist()}
        return self._lite

    def _base_state(self) -> Dict[str, np.ndarray]:
        if self._state is None:
            from detparity.models.yolov7 import architectures
            from detparity.models.yolov7.detector import official_key

            network = architectures.build("training-yolov7-tiny", 1 / 16, 3)
            self._state = {official_key(network, key): value.numpy() for key, value in network.state_dict().items()}
        return self._state
