"""detparity: does the exported detector still do what the model does?

Importing this package imports no framework: torch, onnx, onnxruntime and pytest are loaded by the rooms that need them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, ContextManager, Optional, Union

from detparity.core.version import __version__

if TYPE_CHECKING:
    from torch.nn import Module

    from detparity.cli.capture_fixture import Exports
    from detparity.cli.verify import Result
    from detparity.models.yolov7.detector import YoloDetector

__all__ = ["Result", "__version__", "capture", "verify"]


def verify(
    artifact: Union[str, Path],
    model: Union[str, Path, YoloDetector, Module, None] = None,
    contract: Optional[str] = None,
    strict: bool = False,
    known_failures: Union[str, Path, None] = None,
    against: Union[str, Path, None] = None,
    layout: Optional[str] = None,
    images: Union[str, Path, None] = None,
    labels: Union[str, Path, None] = None,
    engine: Optional[str] = None,
) -> Result:
    """Judge one exported file inside your own test, with the same checks as `detparity check`.

    artifact: the file; model: a checkpoint's path, a torch.nn.Module, a detector, or what `--model` takes; against: where there is
    no model, another exported file, or "self"; layout: what the outputs mean, a preset's name or a file (default: found);
    contract: the name of the variant that a file of the YOLOv7 family promises to be (default: read from the file); strict: SHOULD
    findings violate as well; known_failures: a file of known failures (docs/expectations.md), which decide nothing; images, labels: a
    folder of pictures on which the file is judged as well, and their labels; engine: what runs an ONNX file (default: ONNX Runtime),
    or the server that runs it, `kserve+http://HOST:PORT/MODEL`.
    Returns a `Result`. Raises AssertionError, with every decisive finding and the command that repeats it, where the file violates
    or could not be judged in full, and `detparity.core.errors.InputError` where an input cannot be used.
    """
    __tracebackhide__ = True  # pytest shows the finding, not our frames
    from detparity.cli.verify import Request, verify_artifact

    pictures, objects = (None if path is None else Path(path) for path in (images, labels))
    asked = Request(model, None if against is None else str(against), layout, pictures, objects, engine)
    found = verify_artifact(
        Path(artifact), asked, contract, strict, None if known_failures is None else Path(known_failures)
    )
    if found.text:
        raise AssertionError(found.text)
    return found


def capture() -> ContextManager[Exports]:
    """Watch what your own export code writes, in your own test:

        with detparity.capture() as exports:
            my_export()
        exports.verify()

    `exports.captures` holds the calls of torch's exporting functions once the block has ended, each with a copy of the module that it
    exported; `exports.verify()` judges every file as it lies then against that module.
    """
    from detparity.cli.capture_fixture import capture_exports

    return capture_exports()


def __getattr__(name: str) -> object:
    """`Result`, imported when asked for: its module imports the checks."""
    if name == "Result":
        from detparity.cli.verify import Result

        return Result
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
