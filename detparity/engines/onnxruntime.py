"""ONNX Runtime on the CPU: graph optimisation and thread count are choices, the provider that ran is recorded."""

from __future__ import annotations

import bisect
import json
import re
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Dict, List, Sequence, Tuple, Union

import numpy as np
import onnxruntime as ort

from detparity.artifacts import onnx_edit, onnx_graph
from detparity.core.errors import EngineError
from detparity.core.vocabulary import Arrays, Load, Runner

_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "disabled": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}


_PREAMBLE = re.compile(r"^\[ONNXRuntimeError\] : \d+ : [A-Z_]+ : (Exception during initialization: )?")
_SOURCE = re.compile(r"\S*/onnxruntime\S*?\.(h|cc):\d+ (?:[\w:<>&*~, ]+\([^)]*\)(?: \[[^\]]*\])? )?")


def one_line(error: Exception) -> str:
    """The runtime's reason in one line, without its error code and the lines of its own sources."""
    return _SOURCE.sub("", _PREAMBLE.sub("", " ".join(str(error).split())))


def prepare(source: Union[str, Path, bytes], how: Load = Load()) -> Runner:
    """Load a path or the bytes of a model. Raises EngineError with the runtime's own reason if it does not load."""
    if how.cut:
        source = onnx_edit.tail_of(source if isinstance(source, bytes) else Path(source), how.cut)
    session = _session(source if isinstance(source, bytes) else str(source), _options(how.optimisation, how.threads))
    seconds = how.seconds
    names = [output.name for output in session.get_outputs()]

    def call(feed: Arrays) -> Arrays:
        run_options = ort.RunOptions()
        timer = threading.Timer(seconds, setattr, (run_options, "terminate", True)) if seconds else None
        if timer:
            timer.start()
        try:
            values = session.run(names, dict(feed), run_options)
        except Exception as error:
            if run_options.terminate:
                raise EngineError(f"it was still running after {seconds:g} seconds") from None
            raise EngineError(one_line(error)) from None
        finally:
            if timer:
                timer.cancel()
        return {name: np.array(value) for name, value in zip(names, values)}

    facts = {
        "provider": ", ".join(session.get_providers()),
        "optimisation": how.optimisation,
        "threads": str(how.threads or "default"),
        "onnxruntime": ort.__version__,
    }
    return Runner("onnxruntime", call, facts, tuple(value.name for value in session.get_inputs()))


def _options(optimisation: str, threads: int) -> Any:
    options = ort.SessionOptions()
    options.graph_optimization_level = _LEVELS[optimisation]
    options.log_severity_level = 4  # its complaints reach the reader as findings
    # Waiting threads sleep: spinning ones starve every other process of a shared machine, our own workers among them.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    if threads:
        options.intra_op_num_threads = threads
    return options


def _session(model: Union[str, bytes], options: Any) -> Any:
    if isinstance(model, str) and model != model.encode("utf-8", "replace").decode():
        model = Path(model).read_bytes()  # the runtime takes no path that is not UTF-8, as Linux does
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime raises half a dozen unrelated types here
        raise EngineError(one_line(error)) from None


SUFFIX = "_kernel_time"  # of the events that are a node's own computation
RUNS_GRAPHS = ("If", "Loop", "Scan")


@dataclass(frozen=True)
class KernelTime:
    """What one node of the optimised graph takes. seconds: median of the runs, all its executions in a run together; a node that runs
    subgraphs is given what they do not take, their nodes stand for themselves."""

    name: str
    op: str
    seconds: float


@dataclass(frozen=True)
class Profiled:
    """kernels: in the order they first ran; overhead: seconds of a run in no kernel (median); executed: the optimised graph, whose
    nodes bear the kernels' names."""

    kernels: Tuple[KernelTime, ...]
    overhead: float
    executed: Tuple[onnx_graph.Node, ...]


def profiled(
    model: Union[str, bytes], feeds: Sequence[np.ndarray], rounds: int, threads: int = 0, warm_up: int = 3
) -> Profiled:
    """Run a path or the bytes of a model, in a session as `prepare` makes it, under the runtime's own profiler.

    feeds: (B, 3, H, W) images of its first input, used in rotation; rounds: runs that count, after `warm_up` that do not. The
    profiler's events cost a microsecond or so each, which is in the overhead. Nothing is left on disk.

    Raises EngineError where it does not load or run, or the profile does not hold all runs.
    """
    with tempfile.TemporaryDirectory(prefix="detparity-profile-") as folder:
        # Saved by another session: one that writes its graph keeps weights that the measured one may let go.
        saving = _options("all", threads)
        saving.optimized_model_filepath = str(Path(folder, "executed.onnx"))
        _session(model, saving)
        options = _options("all", threads)
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        events = _events(_session(model, options), feeds, warm_up + rounds)
        kernels, overhead = _medians(events, warm_up, rounds)
        return Profiled(kernels, overhead, onnx_graph.nodes_of(Path(saving.optimized_model_filepath)))


def _events(session: Any, feeds: Sequence[np.ndarray], runs: int) -> List[Dict[str, Any]]:
    """What the profiler of `session` wrote over so many runs."""
    name = session.get_inputs()[0].name
    try:
        for number in range(runs):
            session.run(None, {name: feeds[number % len(feeds)]})
    except Exception as error:
        raise EngineError(one_line(error)) from None
    finally:
        written = Path(session.end_profiling())  # also after a failure: it holds a file open until then
    found: List[Dict[str, Any]] = json.loads(written.read_text(encoding="utf-8"))
    return found


def _medians(events: Sequence[Dict[str, Any]], warm_up: int, rounds: int) -> Tuple[Tuple[KernelTime, ...], float]:
    """Each kernel's seconds and those in none. The events are the complete profile."""
    complete = sorted((event for event in events if event["name"] == "model_run"), key=lambda event: int(event["ts"]))
    if len(complete) != warm_up + rounds:
        raise EngineError(f"the runtime's profile holds {len(complete)} of {warm_up + rounds} runs")
    starts = [event["ts"] for event in complete]
    kernels = [event for event in events if event.get("cat") == "Node" and event["name"].endswith(SUFFIX)]
    kernels.sort(key=lambda event: (event["ts"], -event["dur"]))
    taken: Dict[Tuple[str, str], np.ndarray] = {}
    for event, own in zip(kernels, _own(kernels)):
        run = bisect.bisect_right(starts, event["ts"]) - 1 - warm_up
        if run >= 0:
            key = (event["name"][: -len(SUFFIX)], event["args"]["op_name"])
            taken.setdefault(key, np.zeros(rounds))[run] += own
    rest = np.array([event["dur"] for event in complete[warm_up:]], float) - sum(taken.values(), np.zeros(rounds))
    found = tuple(KernelTime(*key, float(np.median(times)) * 1e-6) for key, times in taken.items())
    return found, max(float(np.median(rest)), 0.0) * 1e-6


def _own(kernels: Sequence[Dict[str, Any]]) -> List[float]:
    """Microseconds of each event, without those of the events in the subgraphs it runs. The events stand in order of time."""
    own = [float(event["dur"]) for event in kernels]
    around: List[int] = []
    for index, event in enumerate(kernels):
        while around and event["ts"] >= kernels[around[-1]]["ts"] + kernels[around[-1]]["dur"]:
            around.pop()
        if around:
            own[around[-1]] -= event["dur"]
        if event["args"]["op_name"] in RUNS_GRAPHS:
            around.append(index)
    return [max(value, 0.0) for value in own]


def newest(smallest: Callable[[int, int], bytes]) -> Dict[str, int]:
    """The newest IR version and default-domain opset this runtime loads; `smallest` makes a model of two such versions."""
    return {
        "ort_ir": _last(7, lambda number: smallest(number, 12)),
        "ort_opset": _last(12, lambda number: smallest(7, number)),
    }


def _last(known: int, make: Callable[[int], bytes]) -> int:
    """The last number from `known` on whose model loads."""
    while True:
        try:
            prepare(make(known + 1))
        except EngineError:
            return known
        known += 1
