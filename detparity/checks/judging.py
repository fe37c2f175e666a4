"""How a context runs its checks and its engines, whatever is judged: each check once, each engine loaded once."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import Any, Callable, Dict, Iterator, Optional, Sequence, Tuple, Union

from detparity import engines
from detparity.checks.earlier import Earlier
from detparity.core.clock import Clock
from detparity.core.endpoint import Endpoint
from detparity.core.errors import EngineDied, EngineError
from detparity.core.findings import BLOCKED, CannotRun, Check, Finding, Outcome, of_the_end, refused
from detparity.core.runtimes import RUNTIMES
from detparity.core.vocabulary import Artifact, Load, Runner
from detparity.engines.remote import client

Key = Tuple[str, str, int, Tuple[str, ...], str]
COMPILED = (
    2  # shapes for which TorchScript may be compiled: the declared one, and another, for which it is compiled anew
)
Fold = Callable[[Any, str, Tuple[Finding, ...]], Tuple[Finding, ...]]


def _silent(number: int, count: int) -> None:
    """No progress is shown."""


class Judging:
    """What every context has: `outcome` of a check, and `runner` of an engine. A subclass states what it judges, which engine judges
    it, what an engine may take (`seconds`), and whether a file that reached a limit is to blame (`to_blame`). endpoint: the server
    that runs the file, where it is judged there; on: the engine that was asked for in place of the one for its kind; such an engine,
    and one of a runtime's own files, is set to compute in float32."""

    artifact: Artifact
    file: Any
    contract: Any
    clock: Clock
    checks: Dict[str, Check]
    outcomes: Dict[str, Outcome]
    died: Optional[EngineDied]
    fold: Fold
    on: str
    endpoint: Optional[Endpoint]
    earlier: Earlier = Earlier()  # on the user's pictures
    progress: Callable[[int, int], None] = staticmethod(_silent)  # of them: the number of one, and how many there are
    _reported_by: Optional[str]
    _runners: Dict[Key, Union[Runner, EngineError]]

    def engine(self) -> str:
        """The engine that judges this file: the server that runs it, else the one that was asked for, else the one for its kind."""
        return self.own_engine() if self.endpoint is None else engines.KSERVE

    def own_engine(self) -> str:
        """The engine that was asked for, else the one for files of its kind."""
        return self.on or engines.judging(self.artifact.kind).name

    def declared_outputs(self) -> Optional[Sequence[str]]:
        """Names of an ONNX file's outputs, in order; None for other files, which name none."""
        if self.artifact.kind != "onnx":
            return None
        return tuple(value.name for value in self.file.graph.outputs)

    def seconds(self, images: int) -> float:
        """What an engine may take for so many images."""
        raise NotImplementedError

    def to_blame(self, error: EngineDied) -> bool:
        """Whether a file that reached a limit is at fault."""
        raise NotImplementedError

    def runner(self, engine: str = "", **how: Any) -> Runner:
        """The artifact in its engine, or in the one called `engine`, prepared once; how: of `Load`. Raises EngineError where it does
        not load."""
        return self.prepared(engine or self.engine(), self.load(**how))

    def load(self, **how: Any) -> Load:
        """How a file is loaded in the engine that judges it. precision: "default" leaves that to the engine."""
        own = "float32" if self.elsewhere else ""
        asked = how.pop("precision", own)
        return Load(**how, precision="" if asked == "default" else asked, compiled=COMPILED)

    @property
    def elsewhere(self) -> bool:
        """Whether an engine judges that was asked for by name, or that has files of its own."""
        return bool(self.on) or self.artifact.kind in RUNTIMES

    def forget(self, **how: Any) -> None:
        """Let go of the file as one check alone had it loaded; how: of `Load`."""
        self._runners.pop(_key(self.engine(), self.load(**how)), None)

    def prepared(self, name: str, how: Load) -> Runner:
        key = _key(name, how)
        if key not in self._runners:
            self._runners[key] = self._prepare(name, how)
        found = self._runners[key]
        if isinstance(found, EngineError):
            raise found
        return found

    def _prepare(self, name: str, how: Load) -> Union[Runner, EngineError]:
        try:
            with self.engine_runs(name):
                if name == engines.KSERVE:
                    served = engines.module(name).prepare
                    found: Runner = served(str(self.endpoint), how, self.seconds, self.declared_outputs())
                    return found
                return client().prepare(name, self.artifact.path, how, self.seconds)
        except ImportError as error:
            raise CannotRun(f"the engine {name} is not installed ({error.name or error})") from None
        except EngineError as error:
            return error

    @contextmanager
    def engine_runs(self, name: str) -> Iterator[None]:
        """Time an engine, and remember where the one that judges this file ended over it: it is not asked again."""
        judging = name == self.engine()
        if judging and self.died is not None:
            raise self.died
        try:
            with self.clock.running():
                yield
        except EngineDied as error:
            if judging:
                self.died = error
            raise

    def outcome(self, check_id: str) -> Outcome:
        """Run a check once, after those it needs; a check whose need failed is skipped without making the verdict incomplete."""
        if check_id not in self.outcomes:
            self.outcomes[check_id] = self._judge(self.checks[check_id])
        return self.outcomes[check_id]

    def _judge(self, check: Check) -> Outcome:
        for need in check.needs:
            if need in self.checks and self.checks[need].applies(self.contract):
                first = self.outcome(need)
                if first.outcome != "passed" and not _only_soft(first):
                    return Outcome(check.id, check.level, "skipped", reason=f"{BLOCKED}{need}")
        start, before = time.perf_counter(), self.clock.engine
        findings: Tuple[Finding, ...] = ()
        reason, result, incomplete = None, "passed", False
        try:
            findings = self.fold(self, check.id, tuple(check.run(self)))
            result = "failed" if findings else "passed"
        except CannotRun as error:
            reason, result, incomplete = str(error), "skipped", error.hides and check.level == "MUST"
        except EngineDied as error:
            if self._reported_by is not None:
                return Outcome(check.id, check.level, "skipped", reason=f"{BLOCKED}{self._reported_by}")
            self._reported_by = check.id
            if self.to_blame(error):
                findings, result = (of_the_end(error),), "failed"
            else:
                reason, result, incomplete = undecided(error), "skipped", True
        except EngineError as error:
            findings, result = self.fold(self, check.id, (refused(error),)), "failed"
        except Exception as error:  # a check that breaks is reported as broken, never as passed
            reason, result, incomplete = f"{type(error).__name__}: {error}", "error", True
        seconds = time.perf_counter() - start
        return Outcome(check.id, check.level, result, findings, reason, incomplete, seconds, self.clock.engine - before)


def undecided(error: EngineDied) -> str:
    """Why the end of a process says nothing about the file, as a reason."""
    killed = error.how == "killed"
    return f"{error}; {'run it again' if killed else 'the reference needs more than a quarter of that'}"


def _key(name: str, how: Load) -> Key:
    return (name, how.optimisation, how.threads, tuple(how.cut), how.precision)


def _only_soft(outcome: Outcome) -> bool:
    return outcome.outcome == "failed" and all(finding.level != "MUST" for finding in outcome.findings)
