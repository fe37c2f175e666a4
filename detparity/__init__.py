"""detparity: does the exported detector still do what the model does?

Importing this package imports no framework: torch, onnx, onnxruntime and pytest are loaded by the rooms that need them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Optional, Union

if TYPE_CHECKING:
    from detparity.detectors.detector import YoloDetector

__version__ = "0.1.0"
__all__ = ["__version__", "verify"]


def verify(
    artifact: Union[str, Path],
    model: Union[str, Path, YoloDetector, None] = None,
    contract: Optional[str] = None,
    strict: bool = False,
) -> Dict[str, Any]:
    """Judge one exported file inside your own test, with the same checks as `detparity check`.

    artifact: the file; model: a checkpoint's path or a detector (default: the bundled one); contract: the name of the variant
    the file promises to be (default: read from the file); strict: SHOULD findings violate as well.
    Returns the artifact's entry of the report. Raises AssertionError with every decisive finding where the file violates or
    could not be judged in full, and `detparity.errors.InputError` where an input cannot be used.
    """
    from detparity.verifying import verify_artifact

    return verify_artifact(Path(artifact), model, contract, strict)
