"""Screenshots of detparity's pages for the docs: `python scripts/screenshots.py docs/pictures`. Needs chromium, Pillow and jinja2.

The subject is an export of the bundled detector with two anchors exchanged, on drawn scenes; with `--weights yolov5s.pt` (any official
checkpoint of COCO's classes) an export of that, on docs/photographs, as the committed ones are.
"""

from __future__ import annotations

import argparse
import io
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, List, Optional

import numpy as np

from detparity.cli import main as command
from detparity.core import resources
from detparity.core.errors import InputError
from detparity.core.files import write_bytes

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
]
LARGEST = 150_000  # bytes of a picture
QUALITY = {".png": (192, 128, 96, 64), ".webp": (80, 65, 50)}
MARGIN = 24  # rows of the page's colour that are left above and below
NOT_PICTURES = (
    "body > header, main > *:not(article), article + article, article > *:not(h2):not(.legend):not(.pictures)"
)
NOT_HEAT = "body > header, main > *:not(article), article + article, article > *:not(.heat):not(.scale)"


@dataclass(frozen=True)
class Shot:
    """name: of the file; page: that is shown; width, height: of the window, whose empty end is cut off; hidden: a CSS selector."""

    name: str
    page: str
    width: int = 1200
    height: int = 1400
    dark: bool = False
    hidden: str = ""


SHOTS = (
    Shot("report.png", "report", 1100, 1200, hidden=".guide, .repeat, .note, #files, .files, .finding .pairs"),
    Shot("pictures.webp", "report", height=1300, hidden=NOT_PICTURES),
    Shot("errors.webp", "report", height=700, hidden=NOT_HEAT),
    Shot("phone.webp", "report", 400, 1500, True),
    Shot(
        "against.webp",
        "against",
        height=2600,
        hidden="body > header, main > *:not(article), .pictures, .legend, .finding",
    ),
    Shot("diff.webp", "diff", height=900),
    Shot("review.webp", "review", height=1400),
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", type=Path, help="an official checkpoint of COCO's classes")
    options = parser.parse_args()
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        print("no screenshots: none of chromium, chromium-browser, google-chrome is installed", file=sys.stderr)
        return 0
    options.folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        pages(Path(scratch), options.weights)
        for shot in SHOTS:
            size = taken(browser, Path(scratch), shot, options.folder / shot.name)
            print(f"{options.folder / shot.name}: {size:,} bytes")
    return 0


def pages(folder: Path, weights: Optional[Path]) -> None:
    """Write report.html, against.html, diff.html and review.html of a good file and one with two anchors exchanged."""
    own = ["--weights", str(weights)] if weights else []
    model = own or ["--model", "bundled"]
    size = ["320", "416"] if weights else ["256", "320"]
    photographs = resources.root() / "docs" / "photographs"
    shown = ["--images", str(photographs), "--labels", str(photographs)] if weights else []
    (folder / "made").mkdir()
    run("export", *own, "--grid", "--include", "onnx", "--img-size", *size, "--output-dir", str(folder / "made"))
    good = next((folder / "made").iterdir())
    good = good.rename(folder / "before.onnx")
    bad = folder / "best.onnx"
    exchanged(good, bad)
    run("check", str(bad), *model, "--quick", *shown, "--html", str(folder / "report.html"))
    against = ["--against", str(good), "--layout", "yolov5"]
    run("check", str(bad), *against, "--quick", *shown, "--html", str(folder / "against.html"))
    run("diff", str(good), str(bad), "--html", str(folder / "diff.html"))
    golden, waiting = ["--golden", str(folder / "golden")], str(folder / "waiting")
    run("golden", "record", str(good), *model, "--name", "best", *golden)
    run("golden", "check", str(bad), *model, "--name", "best", *golden, "--pending", waiting)
    run("review", *golden, "--from", waiting, "--html", str(folder / "review.html"))


def run(*words: str) -> None:
    """One command of detparity, in this process. Raises InputError where it could not be carried out."""
    if command.main(list(words)) not in (0, 1):
        raise InputError(f"detparity {' '.join(words)} failed")


def exchanged(good: Path, bad: Path) -> None:
    """The second and third anchor of the coarsest level exchanged."""
    import onnx
    from onnx import numpy_helper

    model = onnx.load(str(good))
    tensor = [one for one in model.graph.initializer if one.name.endswith(".anchors")][-1]
    anchors = numpy_helper.to_array(tensor)[:, [0, 2, 1]]
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(anchors), tensor.name))
    onnx.save(model, str(bad))


def taken(browser: str, folder: Path, shot: Shot, target: Path) -> int:
    """Take one screenshot and return its size in bytes. Raises InputError where the browser fails or the picture is too large."""
    from PIL import Image

    text = (folder / f"{shot.page}.html").read_text(encoding="utf-8").replace(f"{folder}/", "")
    text = re.sub(r"/[^\s<>\"']*/(?=[^\s<>\"'/]+\.pt\b)", "", text)  # a checkpoint by its name alone
    hidden = f"{shot.hidden} {{ display: none !important }}" if shot.hidden else ""
    page, raw = folder / "shown.html", folder / "shown.png"
    page.write_text(text.replace("</style>", f"{hidden}</style>", 1), encoding="utf-8")
    arguments: List[str] = [
        *FLAGS,
        f"--user-data-dir={folder / 'profile'}",
        f"--blink-settings=preferredColorScheme={0 if shot.dark else 1}",
        f"--window-size={shot.width},{shot.height}",
        f"--screenshot={raw}",
    ]
    subprocess.run([browser, *arguments, page.as_uri()], capture_output=True, timeout=120, check=False)
    if not raw.is_file():
        raise InputError(f"{browser} wrote no screenshot of {page}")
    with Image.open(raw) as opened:
        picture = trimmed(opened.convert("RGB"))
    raw.unlink()
    for level in QUALITY[target.suffix]:
        content = encoded(picture, target.suffix, level)
        if len(content) <= LARGEST:
            write_bytes(target, content)
            return len(content)
    raise InputError(f"{target} would have {len(content):,} bytes, more than {LARGEST:,}")


def encoded(picture: Any, suffix: str, level: int) -> bytes:
    """A picture as a file. level: colours of a PNG, quality of a WebP."""
    written = io.BytesIO()
    if suffix == ".png":
        picture.quantize(level, dither=0).save(written, "PNG", optimize=True)
    else:
        picture.save(written, "WEBP", quality=level, method=6)
    return written.getvalue()


def trimmed(picture: Any) -> Any:
    """Without most of the rows of the page's colour at its ends."""
    rows = np.asarray(picture)
    used = np.flatnonzero((rows != rows[0, 0]).any(axis=(1, 2)))
    return picture.crop((0, max(int(used[0]) - MARGIN, 0), picture.width, min(int(used[-1]) + MARGIN, picture.height)))


if __name__ == "__main__":
    sys.exit(main())
