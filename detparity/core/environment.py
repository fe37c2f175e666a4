"""Versions, platform and providers: the facts every report, shim and known failure is keyed by."""

from __future__ import annotations

import functools
import os
import platform
import sys
from importlib import metadata
from pathlib import Path
from typing import Dict, Mapping, Optional, Sequence, Tuple, TypeVar

T = TypeVar("T")

PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript", "numpy", "pytest", "hypothesis", "onnxsim", "onnxslim")


def environment() -> Dict[str, str]:
    """Versions by name; a package that is not installed is left out."""
    found = {
        "python": ".".join(map(str, sys.version_info[:3])),
        "platform": platform.platform(terse=True),
        "machine": platform.machine(),
    }
    versions = {package: _version(package) for package in PACKAGES}
    return {**found, **{package: version for package, version in versions.items() if version is not None}}


@functools.cache
def _version(package: str) -> Optional[str]:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def memory_bytes() -> int:
    """The memory of this machine, 0 where the system does not report it."""
    found = line_of(Path("/proc/meminfo"), "MemTotal")
    return int(found.split()[0]) * 1024 if found else 0


def memory_share(share: float) -> Optional[int]:
    """A share of it in bytes, as the limit of a child process; None where it is not known."""
    return int(memory_bytes() * share) or None


def peak_bytes() -> int:
    """The most memory this process has held."""
    import resource

    return int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) * 1024


def machine() -> Dict[str, str]:
    """What times depend on besides versions: the processor, the cores this process may use, and the memory. What a system does not
    report is left out."""
    found = {"cores": str(usable_cores())}
    table = Path("/proc/cpuinfo")
    # A virtual machine may report a name that several generations share: family and model distinguish them.
    parts = [
        (word, line_of(table, key))
        for word, key in (("", "model name"), ("family ", "cpu family"), ("model ", "model"))
    ]
    processor = ", ".join(word + value for word, value in parts if value) or platform.processor()
    memory = line_of(Path("/proc/meminfo"), "MemTotal")
    if processor:
        found["processor"] = processor
    if memory:
        found["memory"] = f"{int(memory.split()[0]) / 1024**2:.0f} GiB"
    return found


def usable_cores() -> int:
    """Cores this process may run on, which may be fewer than the machine has."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def line_of(table: Path, name: str) -> str:
    """The value of the first line `name: value` of a system's table, empty where there is none."""
    if not table.is_file():
        return ""
    for line in table.read_text(encoding="utf-8", errors="replace").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return ""


def lane(found: Mapping[str, str]) -> str:
    """The name tox gives an environment: `py310-torch1.13` for Python 3.10 and torch 1.13.1."""
    python, torch = (".".join(found[name].split(".")[:2]) for name in ("python", "torch"))
    return f"py{python.replace('.', '')}-torch{torch}"


def condition(text: Mapping[str, str]) -> Mapping[str, str]:
    """Return a condition as it came, e.g. {"torch": ">=1.11,<2.10"}. Raises ValueError for what is no fact or no version range."""
    from packaging.specifiers import InvalidSpecifier, SpecifierSet

    known = ("python", *PACKAGES)
    for name, versions in text.items():
        if name not in known:
            raise ValueError(f"{name!r} is no fact; facts are {', '.join(known)}")
        try:
            SpecifierSet(versions)
        except (InvalidSpecifier, AttributeError, TypeError):
            raise ValueError(f"{versions!r} is no version range such as '>=1.11,<2.10'") from None
    return text


def holds(required: Mapping[str, str], found: Mapping[str, str]) -> bool:
    """Whether every fact that `required` names has a version in its range (PEP 440); a package that is not there has none."""
    from packaging.specifiers import SpecifierSet

    return all(
        name in found and SpecifierSet(versions).contains(found[name], prereleases=True)
        for name, versions in condition(required).items()
    )


def settled(cases: Sequence[Tuple[Mapping[str, str], T]], found: Mapping[str, str]) -> T:
    """Return the value of the one condition that holds. Raises ValueError where none or several do: a table leaves no version out."""
    met = [value for required, value in cases if holds(required, found)]
    if len(met) != 1:
        raise ValueError(
            f"{len(met)} conditions of {[dict(required) for required, _ in cases]} hold here, and one must"
        )
    return met[0]
