"""detparity: does the exported detector still do what the model does?

Importing this package imports no framework: torch, onnx, onnxruntime and pytest are loaded by the rooms that need them.
"""

from __future__ import annotations

__version__ = "0.1.0"
