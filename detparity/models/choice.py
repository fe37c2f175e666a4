"""Which model is chosen, and how it is loaded or built. Nothing here imports torch before a model is needed."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, FrozenSet, List, Optional, Sequence, Tuple

from detparity.core import resources
from detparity.core.errors import InputError
from detparity.core.files import require_file

BUNDLED_SIZE = (256, 320)  # height, width of the bundled detector's exports: not square, so that swapped axes show
BUNDLED = "bundled"
MOST_PICKLE = 64 << 20  # bytes of a pickle that is searched for the package it was made with
ARCH_WIDTH, FIRST_SEED = 0.25, 0  # of a model that --arch builds, unless given


@dataclass(frozen=True)
class ModelChoice:
    """Which model is chosen: checkpoints (several make an ensemble), or an architecture with width and seed; neither means the
    bundled detector (docs/bundled.md). cfg: a layer table or an architecture's name, for a state dict that does not state its
    architecture, or to build from. width: None means 0.25 of `arch` and for `cfg`'s own.

    model: a model of any kind (`PKG.MOD:NAME`, `FILE.py:NAME`, `ADAPTER:NAME`), or "bundled"; against: another exported file, or
    "self", whose graph in float64 is compared where there is no model; capture: a folder that `capture --keep` left."""

    weights: Tuple[Path, ...] = ()
    arch: Optional[str] = None
    width: Optional[float] = None
    seed: int = FIRST_SEED
    cfg: Optional[str] = None
    model: Optional[str] = None
    model_args: Optional[str] = None
    against: Optional[str] = None
    capture: Optional[Path] = None
    condition: bool = False
    trust: bool = False
    layout: Optional[str] = None

    @property
    def named(self) -> bool:
        """Whether anything is chosen: where nothing is, the own exporters are judged with the bundled detector."""
        home = self.weights or self.arch is not None or self.cfg is not None
        return bool(home) or self.model is not None or self.foreign

    @property
    def foreign(self) -> bool:
        """Whether files are judged as those of any detector, by a reference that is not of the home family."""
        return self.model not in (None, BUNDLED) or self.against is not None or self.capture is not None

    @property
    def arguments(self) -> List[str]:
        """The options that choose the same model again, for the `Repeat:` line of a failure."""
        found = [argument for path in self.weights for argument in ("--weights", str(path))]
        found += ["--cfg", self.cfg] if self.cfg else []
        found += ["--arch", self.arch] if self.arch else []
        found += ["--width", f"{self.width:g}"] if found and self.width is not None else []
        for option, value in (("model", self.model), ("model-args", self.model_args), ("against", self.against)):
            found += [f"--{option}", value] if value is not None else []
        found += ["--capture", str(self.capture)] if self.capture is not None else []
        found += ["--layout", self.layout] if self.layout is not None else []
        found += [f"--{option}" for option in ("condition", "trust") if getattr(self, option)]
        if self.model == BUNDLED or self.against is not None or self.capture is not None:
            return found
        return found if self.weights or not found else [*found, "--seed", str(self.seed)]

    @property
    def title(self) -> str:
        return " + ".join(map(str, self.weights)) or self.cfg or self.arch or self.model or BUNDLED


def require_one_model(choice: ModelChoice) -> None:
    """Raise InputError for options that choose more than one model, or choose for one that is not built."""
    if choice.arch is not None and (choice.weights or choice.cfg is not None):
        raise InputError("--weights or --cfg and --arch both choose the model; give one of them")
    ways = {
        "--weights, --arch or --cfg": choice.weights or choice.arch is not None or choice.cfg is not None,
        "--model": choice.model is not None,
        "--against": choice.against is not None,
        "--capture": choice.capture is not None,
    }
    given = [name for name, value in ways.items() if value]
    if len(given) > 1:
        raise InputError(f"{given[0]} and {given[1]} both choose what files are judged against; give one of them")
    _require_of_use(choice)
    if not given and (choice.width is not None or choice.seed != FIRST_SEED):
        raise InputError("--width and --seed are for a model that --arch or --cfg builds; the bundled one is trained")


def _require_of_use(choice: ModelChoice) -> None:
    """Raise InputError for options that say something of a model that is not there."""
    spec = choice.model is not None and choice.model != BUNDLED
    for option, given in (("--model-args", choice.model_args is not None), ("--condition", choice.condition)):
        if given and not spec:
            raise InputError(f"{option} is for a model that --model names")
    if choice.layout is not None and not choice.foreign and not choice.weights:
        raise InputError("--layout is for files that --model, --against or --capture judge")
    if (choice.width is not None and choice.foreign) or (choice.seed != FIRST_SEED and choice.foreign and not spec):
        raise InputError("--width and --seed are for a model that is built: --arch, --cfg, and --seed for --model")


OPTIONS_OF_A_MODEL = (
    "  --weights best.pt            an official YOLOv5 or YOLOv7 checkpoint; of ultralytics with --trust as well",
    "  --model FILE.py:FACTORY      your own torch.nn.Module, or PKG.MOD:FACTORY; this runs that code",
    "  --model ultralytics:best.pt  | libreyolo:NAME | torchvision:NAME | transformers:FOLDER, where the package is installed",
    "  --capture DIR                the module that `detparity capture --keep DIR -- COMMAND` exported",
    "  --against OTHER.onnx         no model: another file, before a simplifier or of the last release; or --against self",
    "  --model bundled              the detector that comes with detparity: five drawn shapes",
)


HOME = (
    OPTIONS_OF_A_MODEL[0].split(";")[0],
    "  --arch NAME | --cfg FILE     an architecture of the family, built",
    OPTIONS_OF_A_MODEL[-1],
)


def require_home_named(choice: ModelChoice, files: Sequence[Path]) -> None:
    """`require_named` for commands that are for the YOLOv7 family alone."""
    if files and not choice.named:
        raise InputError(f"{files[0]}: nothing states which model it is an export of; one of these does:", HOME)


def require_named(choice: ModelChoice, files: Sequence[Path]) -> None:
    """Raise InputError, with the options there are, for files that are given without anything to compare them with."""
    if choice.foreign and not files:
        raise InputError("--model, --against and --capture judge files; give the exported files as well")
    if files and not choice.named:
        raise InputError(
            f"{files[0]}: nothing states which model it is an export of; one of these does:", OPTIONS_OF_A_MODEL
        )


def of_a_package(choice: ModelChoice) -> ModelChoice:
    """A checkpoint of ultralytics or libreyolo, whose loading executes what it holds, as that package's model: with --trust alone.

    Raises InputError for one without --trust.
    """
    if len(choice.weights) != 1:
        return choice
    path = choice.weights[0]
    package = next((name for name in ("ultralytics", "libreyolo") if name in _modules(path)), None)
    if package is None:
        return choice
    if not choice.trust:
        raise InputError(
            f"{path} is a checkpoint of {package}, which cannot be read without executing what it holds: --trust, or "
            "`detparity capture -- COMMAND` on the export command"
        )
    return replace(choice, weights=(), model=f"{package}:{path}")


def _modules(path: Path) -> FrozenSet[str]:
    """The packages that a checkpoint's pickle names. Empty where it is no archive of torch's."""
    import zipfile  # for a checkpoint alone, like what it imports
    import zlib

    try:
        with zipfile.ZipFile(path) as archive:
            names = [name for name in archive.namelist() if name.endswith("/data.pkl")]
            if len(names) != 1 or archive.getinfo(names[0]).file_size > MOST_PICKLE:
                return frozenset()
            content = archive.read(names[0])
    except (OSError, zipfile.BadZipFile, ValueError, NotImplementedError, RuntimeError, zlib.error):
        return frozenset()
    return frozenset(found.decode() for found in re.findall(rb"(ultralytics|libreyolo)\.[a-z]", content))


def load_detector(choice: ModelChoice) -> Any:
    """Return the detector. Raises InputError for a file or a name that cannot be used."""
    from detparity.core.file_kind import require_checkpoint  # not for the parsers, which import this module

    require_one_model(choice)
    chosen = choice.weights or choice.arch is not None or choice.cfg is not None
    for path in choice.weights:
        require_file(path, "a checkpoint")
        require_checkpoint(path)
    if not chosen:
        return bundled()
    drawn = None
    if choice.cfg is not None:
        from detparity.models.yolov7 import yaml_config

        drawn, classes, title = yaml_config.named(choice.cfg, choice.width)
    if choice.weights:
        from detparity.models.yolov7 import checkpoint_loader

        return checkpoint_loader.load(*choice.weights, plan=drawn)
    from detparity.models.yolov7 import seeded

    if drawn is not None:
        return seeded.conditioned(drawn, f"{title}-w{drawn.width:g}-s{choice.seed}", choice.seed, classes)
    assert choice.arch is not None
    return seeded.seeded(choice.arch, ARCH_WIDTH if choice.width is None else choice.width, choice.seed)


def bundled_weights() -> Path:
    """The checkpoint of the bundled detector, in the official format."""
    return resources.PACKAGE / "models" / "data" / "bundled.pt"


def bundled() -> Any:
    """The detector used where none is chosen: trained on drawn scenes, and read like any other checkpoint."""
    path = bundled_weights()
    require_file(path, "the checkpoint of the bundled detector")
    from detparity.models.yolov7 import checkpoint_loader

    detector = checkpoint_loader.load(path)
    return replace(detector, facts=replace(detector.facts, name="bundled"))
