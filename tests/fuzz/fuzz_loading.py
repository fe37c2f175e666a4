"""Mutated checkpoints, lite archives, layer tables and state dicts: each must load or be refused in one line, within its limits.

`python tests/fuzz/fuzz_loading.py --minutes N --seed S` runs until the time is over, prints one line a failure and a summary, leaves
each file that failed in `--keep DIR`, and exits with 1 where there was one. The same seed makes the same files in the same order.
"""

from __future__ import annotations

import argparse
import io
import json
import pickle
import pickletools
import random
import resource
import struct
import sys
import tempfile
import time
import traceback
import zipfile
from pathlib import Path
from typing import Any, Callable, Dict, List, Mapping, NamedTuple, Optional, Tuple

import numpy as np

if __name__ == "__main__":  # in a clone that is not installed
    sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from detparity.core.errors import InputError
from detparity.core.vocabulary import EngineError

MAX_SECONDS, MAX_MEGABYTES = 60.0, 1500
FOLDER = Path(__file__).resolve().parents[2]
CHECKPOINTS = tuple(sorted((FOLDER / "tests" / "models" / "yolov7" / "fixtures").glob("*.pt")))
NUMBERS = (0, 1, -1, 2, 3, 7, 8, 255, 256, 65535, 1 << 16, 1 << 31, (1 << 31) - 1, 1 << 40, (1 << 63) - 1, -(1 << 63))
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


class Case(NamedTuple):
    """One mutated file. sort: of what; path: where it was written; act: what reads it."""

    sort: str
    path: Path
    act: Callable[[], object]


# --- pieces

Members = Dict[str, bytes]


def unpacked(path: Path) -> Members:
    with zipfile.ZipFile(path) as archive:
        return {info.filename: archive.read(info) for info in archive.infolist()}


def packed(members: Members, path: Path, how: int = zipfile.ZIP_STORED) -> None:
    with zipfile.ZipFile(path, "w", how) as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def mutated(rng: random.Random, data: bytes) -> bytes:
    """A few bytes changed, dropped, repeated or moved."""
    content = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 16))):
        if not content:
            break
        at, other = rng.randrange(len(content)), rng.randrange(len(content))
        length = rng.choice((1, 1, 2, 4, 8, 64))
        change = rng.randrange(7)
        if change == 0:
            content[at] ^= 1 << rng.randrange(8)
        elif change == 1:
            content[at] = rng.randrange(256)
        elif change == 2:
            del content[at : at + length]
        elif change == 3:
            content[at:at] = content[other : other + length]
        elif change == 4:
            content[at : at + 4] = struct.pack("<I", rng.choice(NUMBERS) & 0xFFFFFFFF)
        elif change == 5:
            content[at:at] = content[other : other + length] * rng.choice((2, 50, 1000))
        else:
            del content[at:]
    return bytes(content)


class _Operations:
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


# --- one mutator a sort of file


class Fuzzer:
    """Makes the cases of one seed. folder: where files are written."""

    def __init__(self, seed: int, folder: Path) -> None:
        self.rng = random.Random(seed)
        self.folder = folder
        self.sources = [unpacked(path) for path in CHECKPOINTS]
        self._operations: Dict[Tuple[int, str], _Operations] = {}
        self._lite: Optional[Members] = None
        self._state: Optional[Dict[str, np.ndarray]] = None
        self.makers = (self.checkpoint, self.operations, self.tree, self.state_dict, self.table, self.yaml, self.lite)

    def cases(self) -> Any:
        count = 0
        while True:
            yield self.makers[count % len(self.makers)]()
            count += 1

    def _loading(self, sort: str, path: Path, cfg: Optional[str] = None) -> Case:
        from detparity.models.choice import ModelChoice, load_detector

        return Case(sort, path, lambda: load_detector(ModelChoice((path,), cfg=cfg)))

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

    def _parsed(self, key: Tuple[int, str], data: bytes) -> _Operations:
        if key not in self._operations:
            self._operations[key] = _Operations(data)
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
        return self._loading("state dict", path, rng.choice((None, "yolov7-tiny", "training-yolov7-tiny", "yolov7")))

    def table(self) -> Case:
        """Values of a layer table replaced."""
        table = json.loads(json.dumps(TABLE))
        for _ in range(self.rng.choice((1, 1, 2, 4))):
            self._replace(table)
        path = self.folder / "table.yaml"
        path.write_text(json.dumps(table), encoding="utf-8")
        return self._drawn("table", path)

    def _replace(self, table: Any) -> None:
        rng, parent = self.rng, table
        while True:
            keys = list(parent) if isinstance(parent, dict) else list(range(len(parent)))
            if not keys:
                return
            key = rng.choice(keys)
            if isinstance(parent[key], (dict, list)) and rng.random() < 0.85:
                parent = parent[key]
                continue
            parent[key] = rng.choice(
                (
                    *NUMBERS,
                    0.5,
                    1e300,
                    None,
                    True,
                    "x",
                    "x" * 300,
                    [],
                    [1],
                    {},
                    [-1] * 500,
                    "Conv",
                    "Concat",
                    parent[key],
                )
            )
            if isinstance(parent, list) and rng.random() < 0.1:
                parent.extend([parent[key]] * rng.choice((1, 50)))
            return

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

        return Case(sort, path, lambda: load_detector(ModelChoice(cfg=str(path))))

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
        return Case("lite", path, lambda: lite_bytecode.read(path, "detparity.json"))

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


# --- judging


def problem(case: Case) -> str:
    """What is wrong with how a case was taken; empty where it loaded or was refused in one line within its limits."""
    start = time.perf_counter()
    try:
        case.act()
        text = ""
    except (InputError, EngineError) as error:
        text = str(error)
    except Exception:
        return traceback.format_exc(limit=-3)
    seconds = time.perf_counter() - start
    if "\n" in text or len(text) > 1500:
        return f"a message of {len(text)} letters: {text[:300]!r}"
    if seconds > MAX_SECONDS:
        return f"took {seconds:.0f} s"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return f"the process grew to {peak:.0f} MB" if peak > MAX_MEGABYTES else ""


def run(seed: int, keep: Optional[Path], enough: Callable[[int], bool]) -> Tuple[Dict[str, int], List[str]]:
    """Judge the cases of a seed until there are enough; returns how many of each sort there were, and the problems."""
    counts: Dict[str, int] = {}
    problems: List[str] = []
    with tempfile.TemporaryDirectory(prefix="detparity-fuzz-") as folder:
        for number, case in enumerate(Fuzzer(seed, Path(folder)).cases()):
            if enough(number):
                return counts, problems
            counts[case.sort] = counts.get(case.sort, 0) + 1
            found = problem(case)
            if found:
                problems.append(f"case {number} of seed {seed} ({case.sort}): {found}")
                if keep is not None:
                    keep.mkdir(parents=True, exist_ok=True)
                    (keep / f"{seed}-{number}-{case.path.name}").write_bytes(case.path.read_bytes())
    return counts, problems


def main(arguments: Optional[List[str]] = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, metavar="DIR", help="where files that failed are left")
    options = parser.parse_args(arguments)
    end = time.monotonic() + 60 * options.minutes
    counts, problems = run(options.seed, options.keep, lambda number: time.monotonic() > end)
    for text in problems:
        print(text)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    shown = ", ".join(f"{count} {sort}" for sort, count in sorted(counts.items()))
    print(f"seed {options.seed}: {sum(counts.values())} files ({shown}), {len(problems)} problems, at most {peak} MB")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
