"""Dispatch modes of ours: torch calls `__torch_dispatch__` with every operator that runs (torch 1.13)."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode


class DispatchMode(TorchDispatchMode):
    """A mode that does not load torch's compiler.

    Torch wraps the method of others so that nothing in it is compiled, and loads the compiler for that: 800 modules, which takes as
    long as torch itself. Where a model has loaded it, its compiled parts run uncompiled inside the mode, which has to see every
    operator.
    """

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        """What a torch that wraps asks before (2.13 does)."""
        return False

    def __enter__(self) -> Any:
        uncompiled = getattr(sys.modules.get("torch.compiler"), "set_stance", None)  # torch 2.6
        with contextlib.ExitStack() as stack:
            if "torch._dynamo" in sys.modules and uncompiled:
                stack.enter_context(uncompiled("force_eager"))
            entered = super().__enter__()
            self._eager = stack.pop_all()
        return entered

    def __exit__(self, *error: Any) -> None:
        with self._eager:
            super().__exit__(*error)
