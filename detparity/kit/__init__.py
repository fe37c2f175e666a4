"""`detparity.kit.exporters` and `detparity.kit.suites`: what is beside the package in a clone and inside it in a wheel.

The package's path is the folder that holds them, so that each is one module in both, and nothing is put on `sys.path`.
"""

from __future__ import annotations

from detparity.core.resources import root

__path__ = [str(root())]
