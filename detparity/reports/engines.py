"""One table over files and engines: what each computed in, its verdict, and what it costs in accuracy and gains in time."""

from __future__ import annotations

from pathlib import PurePath
from typing import Any, Dict, List, Mapping, Optional

HEADINGS = ("file", "engine", "precision", "verdict", "floors", "mAP difference", "boxes lost", "time")
NOTE = "floors: largest error, in noise floors of the file's precision; time: on one thread, as a multiple of the first row's"


def rows_of(artifacts: List[Dict[str, Any]]) -> List[Dict[str, Any]]:
    """The table as data; empty unless several files or engines are judged and any of them on another engine than ONNX Runtime."""
    elsewhere = any(one.get("on") or "by default" in one.get("engine", {}) for one in artifacts)
    return [_row(one, _short(one["path"], artifacts)) for one in artifacts] if elsewhere and len(artifacts) > 1 else []


def _short(path: str, artifacts: List[Dict[str, Any]]) -> str:
    """A file by its name, where no other has it."""
    name = PurePath(path).name
    return name if {one["path"] for one in artifacts if PurePath(one["path"]).name == name} == {path} else path


def _row(entry: Mapping[str, Any], file: str) -> Dict[str, Any]:
    engine, noise, images = entry.get("engine", {}), entry.get("noise", {}), entry.get("images", {})
    numbers = images.get("precision", {}).get("numbers", {}).get("mAP50-95")
    found: Dict[str, Any] = {
        "file": file,
        "engine": entry.get("on") or engine.get("name", ""),
        "precision": _precision(entry),
        "verdict": entry["verdict"],
        "floors": max((row["floors"] for row in noise.values()), default=_violating(entry)),
        "map": numbers["file"] - numbers["model"] if numbers else None,
        "lost": images["total"]["lost"] if "total" in images else None,
        "of": images["total"]["model"] if "total" in images else None,
        "time": entry.get("latency", {}).get("ratio", 1.0 if entry.get("latency") else None),
    }
    return {key: value for key, value in found.items() if value is not None}


def _violating(entry: Mapping[str, Any]) -> Optional[float]:
    """The largest error that a finding states, in floors; None where none does."""
    stated = [
        finding["evidence"].get("floors")
        for check in entry["checks"]
        for finding in check["findings"]
        if check["id"].startswith("parity.")
    ]
    return max((float(one) for one in stated if isinstance(one, (int, float))), default=None)


def _precision(entry: Mapping[str, Any]) -> str:
    """What the engine computed in, of what is stored, and what it would compute in by default."""
    engine = entry.get("engine", {})
    read = entry.get("precision") or {}  # of the file, where no engine has loaded it
    known = read["name"] if read.get("weights") else ""
    ran = str(engine.get("precision") or known or ("float32" if engine else ""))
    stored = str(entry.get("weights_stored") or ran)
    default = engine.get("by default") or ran
    parts = [f"{stored} weights"] * (stored != ran) + [f"{default} by default"] * (default != ran)
    return ran + (f" ({', '.join(parts)})" if parts else "")


def cells(row: Mapping[str, Any]) -> List[str]:
    """A row of the table as text, under `HEADINGS`."""
    error = row.get("floors", 0.0)
    floors = f"{error:.2f}" if error < 1000 else f"{error:,.0f}"
    lost = f"{row['lost']} of {row['of']}" if "lost" in row else ""
    return [
        str(row["file"]),
        str(row["engine"]),
        str(row["precision"]),
        str(row["verdict"]),
        floors if "floors" in row else "",
        f"{row['map']:+.4f}" if "map" in row else "",
        lost,
        f"{row['time']:.2f}" if "time" in row else "",
    ]
