"""Child processes: what goes over comes back, what goes wrong in a child is a report and not our end, and limits hold."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as drawn

from detparity.core import isolate, landlock
from detparity.core.isolate import Child, Died, Limits, Refused

HANDLERS = "detparity.kit.tests.core.child_handlers"
TYPES = st.sampled_from(["f4", "f8", "f2", "i8", "i4", "u1", "?"])
ARRAYS = st.dictionaries(
    st.text(max_size=5),
    TYPES.flatmap(lambda kind: drawn.arrays(kind, drawn.array_shapes(min_dims=0, min_side=0))),
    max_size=3,
)


@pytest.fixture(scope="module")
def child():
    found = Child(HANDLERS, Limits(memory=400_000_000, seconds=20))
    yield found
    found.close()


@settings(max_examples=40, derandomize=True, database=None, deadline=None)
@given(arrays=ARRAYS, content=st.recursive(st.none() | st.integers(-(2**53), 2**53) | st.text(), st.lists))
def test_what_goes_over_comes_back(child, arrays, content):
    answer, found = child.request("echo", content, arrays)

    assert answer == content
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype and found[name].shape == array.shape
        assert found[name].tobytes() == array.tobytes()


def test_the_shared_file_grows(child):
    large = np.arange(3_000_000, dtype=np.float32)

    _, found = child.request("echo", None, {"x": large})

    assert np.array_equal(found["x"], large)


@pytest.mark.smoke
def test_an_error_in_the_child_is_its_answer(child):
    with pytest.raises(Refused, match="no such luck") as caught:
        child.request("fail", "no such luck")

    assert caught.value.kind == "ValueError"
    assert child.request("echo", 1)[0] == 1


@pytest.mark.smoke
def test_a_crash_is_reported_and_the_next_request_meets_a_new_worker(child):
    child.request("remember", "before")
    before = child.generation

    with pytest.raises(Died) as caught:
        child.request("crash", "some last words")

    assert (caught.value.how, caught.value.what) == ("crash", "SIGSEGV")
    assert "some last words" in caught.value.output
    start = time.perf_counter()
    assert child.request("remembered")[0] is None
    assert child.generation == before + 1
    assert time.perf_counter() - start < 10  # an order of magnitude over what it takes, so that a busy machine passes


def test_a_hang_is_ended(child):
    with pytest.raises(Died) as caught:
        child.request("hang", seconds=0.3)

    assert caught.value.how == "time"
    assert child.request("echo", 1)[0] == 1


def test_time_spent_waiting_for_a_processor_does_not_count(child, monkeypatch):
    start = time.monotonic()
    monkeypatch.setattr(
        isolate, "waited", lambda _: time.monotonic() - start if time.monotonic() < start + 1.0 else 1.0
    )
    with pytest.raises(Died) as caught:
        child.request("hang", seconds=0.2)

    assert caught.value.how == "time" and time.monotonic() - start >= 1.2


@pytest.mark.skipif(
    not Path("/proc/self/schedstat").exists(), reason="what a process waited for is stated by Linux alone"
)
def test_the_time_a_process_waits_for_a_processor_is_read():
    only = {min(os.sched_getaffinity(0))}
    words = [sys.executable, "-c", "while True: pass"]
    rivals = [subprocess.Popen(words, preexec_fn=lambda: os.sched_setaffinity(0, only)) for _ in range(2)]
    try:
        until = time.monotonic() + 20
        while min(isolate.waited(one.pid) for one in rivals) < 0.05 and time.monotonic() < until:
            time.sleep(0.05)
        assert all(isolate.waited(one.pid) >= 0.05 for one in rivals)
    finally:
        for one in rivals:
            one.kill()
            one.wait()
    assert isolate.waited(rivals[0].pid) == 0.0


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_DATA counts what is mapped on Linux alone")
def test_memory_is_bounded(child):
    with pytest.raises(Refused) as caught:
        child.request("allocate", 500_000_000)

    assert "MemoryError" in caught.value.kind
    assert child.request("allocate", 1_000_000)[0] == 1_000_000


@pytest.mark.skipif(not landlock.abi(), reason="this kernel has no Landlock: SECURITY.md says what holds then")
def test_the_child_writes_in_its_own_folder_alone(child, tmp_path):
    with pytest.raises(Refused, match="Permission denied"):
        child.request("write", str(tmp_path / "elsewhere"))
    child.request("write", "own file")
    with pytest.raises(Refused, match="Permission denied"):
        child.request("start", "/bin/true")

    assert not list(tmp_path.iterdir())
    assert child.confinement.startswith("Landlock")


@pytest.mark.skipif(landlock.abi() < 4, reason="Landlock knows the network from version 4 on")
def test_the_child_reaches_no_network(child):
    with pytest.raises(Refused, match="Permission denied"):
        child.request("connect", 9)


def test_what_it_prints_is_not_printed_here(child, capfd):
    child.request("say", "\x1b[2Jconforms")

    assert capfd.readouterr() == ("", "")


def test_what_it_printed_is_there_with_its_answer_in_order(monkeypatch):
    monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)  # with it a child need not flush for itself
    fresh = Child(HANDLERS, Limits(seconds=20))
    for k in range(40):
        fresh.request("say", f"first {k}\n" * 500 + "last")
        assert fresh.printed().endswith(f"{k}\nlast\n")
        fresh.renew()
    with pytest.raises(Died) as caught:
        fresh.request("crash", "an end")
    fresh.close()

    assert caught.value.output == "an end\n"


def test_a_worker_that_another_process_ends_is_no_crash(child):
    """As Linux does where memory is short, which a file need not have filled."""
    os.kill(child.request("who")[0], signal.SIGKILL)

    with pytest.raises(Died, match="was killed by another process") as caught:
        child.request("echo", 1)

    assert caught.value.how == "killed"
    caught.value.__traceback__ = None  # as contextlib does
    assert child.request("echo", 1)[0] == 1


def test_nothing_is_left_when_it_is_closed():
    child = Child(HANDLERS)
    worker = child.request("who")[0]
    folder = Path(child.request("where")[0])
    child.request("write", "left")

    child.close()

    assert not folder.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(worker, 0)


def test_it_ends_with_the_process_that_started_it():
    code = (
        f"from detparity.core.isolate import Child\nchild = Child({HANDLERS!r})\n"
        "print(child.request('who')[0], flush=True)\nchild.request('hang')"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        parent.send_signal(signal.SIGKILL)
        parent.wait()
    for _ in range(100):
        try:
            os.kill(worker, 0)
        except ProcessLookupError:
            return
        time.sleep(0.05)
    raise AssertionError("the worker outlived its parent by five seconds")
