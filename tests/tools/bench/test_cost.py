"""What the suite itself costs: a verdict against the bare inferences it needs, by file and model; and two workers against one.

    pytest tests/tools/bench/test_cost.py -m slow -s            # bundled files, yolov7-tiny and yolov7 at 640, yolov7-e6e at 1280
    pytest tests/tools/bench/test_cost.py -m slow -s -k "tiny or two"

Each verdict is a command of its own, from a cold start; what is printed is in docs/performance.md. It is a benchmark: it asserts
that the command judged the file, never how long it took.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest
import torch

from detparity.core import resources
from detparity.core.text import columns
from detparity.models.choice import ModelChoice, load_detector
from detparity.models.yolov7.detector import official_key
from detparity.models.yolov7.seeded import seeded
from detparity.tools.export_cache import exported

# What a user's own script would do: load both, run both once, compare.
BARE = """
import sys, numpy as np, torch, onnxruntime
torch.set_grad_enabled(False)
size = [int(side) for side in sys.argv[3:]]
images = np.random.default_rng(0).random((1, 3, *size), dtype=np.float32)
model = torch.jit.load(sys.argv[1])
session = onnxruntime.InferenceSession(sys.argv[2], providers=["CPUExecutionProvider"])
expected = model(torch.from_numpy(images))
expected = expected[0] if isinstance(expected, (tuple, list)) else expected
print(float(np.abs(expected.numpy() - session.run(None, {session.get_inputs()[0].name: images})[0]).max()))
"""
FIGURES = ("seconds", "times bare", "processor s", "times bare", "in engines", "times engines", "peak MB")


def _run(words):
    """Seconds, seconds of processors and peak memory in bytes of a command, from start to end; it must end well."""
    with tempfile.TemporaryFile() as output:
        start = time.perf_counter()
        process = subprocess.Popen(words, stdout=output, stderr=output, cwd=str(resources.root()))
        _, status, used = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        ended = os.WIFEXITED(status)  # and not killed, for its memory say
        process.returncode = os.WEXITSTATUS(status) if ended else -os.WTERMSIG(status)
        output.seek(0)
        assert process.returncode == 0, f"{process.returncode}: {output.read().decode(errors='replace')[-1500:]}"
    return seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024


def _verdict(path, model, folder, *options):
    """Seconds, those of processors, peak bytes and the report of one `detparity check` of its own."""
    report = folder / "report.json"
    if report.exists():
        report.unlink()
    chosen = model or ("--model", "bundled")
    words = [sys.executable, "-m", "detparity", "check", str(path), *chosen, "--json", str(report), *options]
    seconds, processor, peak = _run(words)
    return seconds, processor, peak, json.loads(report.read_text(encoding="utf-8"))


def _middle(runs):
    """The run of median seconds; the later of the two middle ones."""
    return sorted(runs, key=lambda run: run[0])[len(runs) // 2]


def _row(title, seconds, processor, peak, found, bare=(0.0, 0.0)):
    engine = found["timings"]["engine_seconds"]
    times = [f"{taken / one:.1f}" if one else "" for taken, one in zip((seconds, processor), bare)]
    figures = (f"{seconds:.1f}", times[0], f"{processor:.1f}", times[1], f"{engine:.1f}", f"{seconds / engine:.1f}")
    return (title, *figures, f"{peak / 1e6:.0f}")


def _title(words):
    form, cache, *rest = (word for word in words if os.sep not in word)
    return " ".join([form, *rest, *(["again"] if cache == "--cache" else [])])


def _checkpoint(name, folder):
    """A state dict under official names with seeded weights, so that a cold start reads a file as a user's would."""
    network = seeded(name, None).network
    path = folder / f"{name}.pt"
    state = {official_key(network, key): value for key, value in network.state_dict().items() if "anchors" not in key}
    torch.save(state, str(path))
    return path


def test_a_command_that_was_killed_is_no_success():
    with pytest.raises(AssertionError, match=r"^-9: "):
        _run([sys.executable, "-c", "import os; os.kill(os.getpid(), 9)"])


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, side, forms, rounds",
    [
        ("yolov7-tiny", 640, ("grid", "grid-dynamic", "end2end-ort", "traced"), 3),
        ("yolov7-tiny", 1280, ("grid",), 1),
        ("yolov7", 640, ("grid",), 1),
        ("yolov7-e6e", 1280, ("grid",), 1),
    ],
)
def test_a_verdict_on_a_real_model(name, side, forms, rounds, tmp_path):
    """All commands are interleaved, `rounds` times; shown is the run of median seconds of each."""
    model = ["--weights", str(_checkpoint(name, tmp_path)), "--cfg", name]
    detector = load_detector(ModelChoice((tmp_path / f"{name}.pt",), cfg=name))
    paths = {form: exported(detector, form, (side, side), tmp_path) for form in {*forms, "grid", "traced"}}
    both = [str(paths["traced"]), str(paths["grid"]), str(side), str(side)]
    cold, again = ("--no-cache",), ("--cache", str(tmp_path / "references"))
    bare, verdicts = (
        [],
        {(form, *cache, *quick): [] for form in forms for cache in (cold, again) for quick in ((), ("--quick",))},
    )
    for form in forms:  # what a first run leaves
        _verdict(paths[form], model, tmp_path, "--img-size", str(side), *again)
    for _ in range(rounds):
        bare.append(_run([sys.executable, "-W", "ignore", "-c", BARE, *both]))
        for (form, *options), runs in verdicts.items():
            runs.append(_verdict(paths[form], model, tmp_path, "--img-size", str(side), *options))
            print(".", end="", flush=True)
    *one, peak = _middle(bare)
    first = ("load both, compare once", f"{one[0]:.1f}", "1.0", f"{one[1]:.1f}", "1.0", "", "", f"{peak / 1e6:.0f}")
    rows = [("", *FIGURES), first]
    rows += [_row(_title(words), *_middle(runs), one) for words, runs in verdicts.items()]
    print(f"\n\n{name} at {side}x{side}\n\n" + "\n".join(columns(rows)))
    assert len(rows) == 2 + 4 * len(forms)


@pytest.mark.slow
def test_a_verdict_on_each_of_our_own_files(tmp_path, made, session):
    rows = [("", *FIGURES)]
    for name in session.exporters():
        path = made(name)
        if isinstance(path, Path):
            found = _verdict(path, [], tmp_path, "--img-size", "256", "320", "--no-cache")
            rows.append(_row(name, *found))
            print(".", end="", flush=True)
    print("\n\nbundled at 256x320\n\n" + "\n".join(columns(rows)))
    assert len(rows) > 10


@pytest.mark.slow
def test_two_workers_beside_one(tmp_path):
    """The default suite on one worker and on two, each a run of its own."""
    seconds = {}
    for workers in (2, 1):
        options = f"-q -n {workers} --dist loadgroup -p no:cacheprovider".split()
        words = [sys.executable, "-m", "pytest", *options, "--basetemp", str(tmp_path / str(workers))]
        seconds[workers], *_ = _run(words)
    rows = [("workers", "seconds"), *((str(count), f"{taken:.0f}") for count, taken in sorted(seconds.items()))]
    print("\n\n" + "\n".join(columns(rows)) + f"\n\n  {seconds[1] / seconds[2]:.2f} times as fast")
    assert len(rows) == 3
