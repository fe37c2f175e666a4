"""A report for other machines: paths of files under test relative to the folder of the run, or by name alone."""

from __future__ import annotations

import os
from typing import Any, Dict, Mapping


def short(path: str) -> str:
    """The path from the current folder, or the file's name where it lies elsewhere."""
    if not os.path.isabs(path):
        return path
    relative = os.path.relpath(path)
    return os.path.basename(path) if relative.startswith(os.pardir) else relative


def portable(report: Mapping[str, Any]) -> Dict[str, Any]:
    """The report with no absolute path of a file under test, its model, or the current folder, in any text."""
    known = [one["path"] for one in report["artifacts"]]
    known += [str(report["subject"].get("weights") or "")]
    known += [str(one.get("against") or "") for one in report["artifacts"]]
    pairs = {path: short(path) for path in sorted(set(known), key=len, reverse=True) if os.path.isabs(path)}
    pairs[os.getcwd() + os.sep] = ""

    def shown(value: Any) -> Any:
        if isinstance(value, str):
            for path, name in pairs.items():
                value = value.replace(path, name)
            return value
        if isinstance(value, Mapping):
            return {key: shown(one) for key, one in value.items()}
        return [shown(one) for one in value] if isinstance(value, (list, tuple)) else value

    found: Dict[str, Any] = shown(report)
    return found
