"""The process in which the command of `detparity capture` runs, and in which its captures are judged at its end.

    python -m detparity.cli.capture_child REQUEST.json

Before the command begins nothing but the standard library is imported. The process ends with the command's own exit code, or, where
that is 0, with the verdict's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import threading
import traceback
from pathlib import Path
from types import TracebackType
from typing import Any, List, Mapping, Optional

from detparity.cli import capture_command
from detparity.models import capture, capture_hooks

DONE = "done"  # written beside the request when there is a verdict; `capture` reads it


def main(request: Path) -> int:
    """Run what the request states; the exit code."""
    asked = json.loads(request.read_text(encoding="utf-8"))
    started = os.getpid()
    with capture.capturing() as captures:
        code = _code(capture_command.from_json(asked["command"]))
        _join()
        _flush()
    if os.getpid() != started:  # a fork of the command that came to its end
        return code
    verdict = judged(captures, asked["options"], code)
    (request.parent / DONE).write_text(str(verdict), encoding="utf-8")
    return code or verdict


def judged(captures: capture.Captures, options: Mapping[str, Any], code: int) -> int:
    """The verdict's exit code. Whatever the command did to this process, its captures are judged as anywhere else."""
    from detparity.cli.capture_verdict import judge_captures
    from detparity.cli.main import guarded

    return guarded(lambda: judge_captures(captures, options, code))


def _code(command: capture_command.Command) -> int:
    """Run the command; its exit code, as Python itself would end."""
    try:
        capture_command.execute(command)
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        _flush()
        print(error.code, file=sys.stderr)
        return 1
    except KeyboardInterrupt as error:
        _print(error)
        return 128 + signal.SIGINT
    except BaseException as error:
        _print(error)
        return 1
    return 0


def _print(error: BaseException) -> None:
    """The traceback that Python prints, without the frames of capture."""
    _flush()
    shown = _own_frames_removed(error.__traceback__)
    if sys.excepthook is sys.__excepthook__:
        for cause in _chain(error):
            cause.__traceback__ = _own_frames_removed(cause.__traceback__)
        traceback.print_exception(type(error), error, shown)
    else:
        sys.excepthook(type(error), error, shown)


def _chain(error: BaseException) -> List[BaseException]:
    found: List[BaseException] = []
    rest: List[Optional[BaseException]] = [error]
    while rest:
        one = rest.pop()
        if one is not None and one not in found:
            found.append(one)
            rest += [one.__cause__, one.__context__]
    return found


def _own_frames_removed(trace: Optional[TracebackType]) -> Optional[TracebackType]:
    frames: List[TracebackType] = []
    began = False
    while trace is not None:
        name = trace.tb_frame.f_code.co_filename
        own = name == capture_hooks.FRAME or (not began and _is_start(name))
        began = began or not _is_start(name)
        if not own:
            frames.append(trace)
        trace = trace.tb_next
    following: Optional[TracebackType] = None
    for frame in reversed(frames):
        frame.tb_next = following
        following = frame
    return following


def _is_start(name: str) -> bool:
    return name in (__file__, capture_command.__file__) or os.path.basename(name) in ("runpy.py", "<frozen runpy>")


def _join() -> None:
    """Wait for threads, as Python does at its end."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread() and not thread.daemon:
            thread.join()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()


if __name__ == "__main__":
    from detparity.cli import capture_child

    sys.exit(capture_child.main(Path(sys.argv[1])))
