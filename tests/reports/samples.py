"""What pages say of a run, for those made by tests."""

from __future__ import annotations

ABOUT = {
    "strict": False,
    "quick": False,
    "environment": {"python": "3.11"},
    "isolation": "confined",
    "limits": {},
    "subject": {"name": "m", "digest": "0", "classes": 5, "strides": [8, 16, 32], "weights": None},
}
