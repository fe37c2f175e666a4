"""What a run asks of the exporters beside the package."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Optional, Protocol, Sequence


class OwnExports(Protocol):
    """What the exporters beside the package make: judged where no file is given."""

    @property
    def known_failures(self) -> Path:
        """The file of their known failures."""

    def names(self) -> Sequence[str]:
        """Names of the exporters."""

    def promised(self, name: str) -> str:
        """The name of the variant that this exporter makes."""

    def precision(self, name: str) -> Optional[str]:
        """The precision below float32 that this exporter promises, or None."""

    def missing(self, name: str) -> Optional[str]:
        """Why the exporter does not exist in this environment, or None where it does."""

    def make(self, detector: Any, name: str) -> Path:
        """The exported file. Raises NotMade."""
