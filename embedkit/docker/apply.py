"""Carries a plan out: one step after the other, and back where one fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from embedkit.docker import log
from embedkit.docker.plan import Await, Plan, Send, Shell, Step, Write
from embedkit.docker.service import PID_FILE, SOCKET
from embedkit.errors import EmbedkitError, TargetError
from embedkit.progress import NullProgress, Progress
from embedkit.target.base import ConnectionLost, Target, quote

# dockerd on an emulated ARM board of one core takes 53 s.
READY_SECONDS = 180.0
_POLL_SECONDS = 1.0
_LOG_LINES = 60
_JOURNAL = "journalctl -u docker.service --no-pager -o cat -n 100 2>/dev/null"
_CUTS = 3
_RECONNECT_SECONDS = 60.0


# dockerd waits some 15 s for its containerd. From a slow card that is too short, the first time.
_TOO_SLOW = "timeout waiting for containerd to start"


class Programs(Protocol):
    """Where the programs to send come from: a bundle, or one that several share."""

    def files(self, names: Iterable[str]) -> AbstractContextManager[dict[str, Path]]: ...


class Observer(Protocol):
    """Hears of each step; what it raises ends the run there and then, without any recovery."""

    def started(self, step: Step) -> None: ...

    def finished(self, step: Step, seconds: float) -> None: ...


@dataclass(frozen=True)
class Done:
    """A step that was carried out, or failed with ``error``."""

    step: Step
    seconds: float
    error: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of a plan. ``failure`` is the error that ended it, ``recovered`` says whether
    what was there before is back (None where nothing had to be put back); ``log`` is the end
    of the daemon's log."""

    done: tuple[Done, ...]
    failure: EmbedkitError | None = None
    recovered: bool | None = None
    log: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return self.failure is None


@dataclass
class _Run:
    target: Target
    bundle: Programs | None
    progress: Progress
    observer: Observer | None
    done: list[Done] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


def carry_out(
    target: Target,
    plan: Plan,
    *,
    bundle: Programs | None = None,
    progress: Progress | None = None,
    observer: Observer | None = None,
    prove: Callable[[], bool] | None = None,
) -> Outcome:
    """Does ``plan``. ``prove`` is called between its steps and its closing: where it says no
    and there was something before, that is put back.

    A failure is told in the outcome, not raised; what is no EmbedkitError passes through.
    """
    run = _Run(target, bundle, progress or NullProgress(), observer)
    try:
        _steps(run, plan.steps)
        if prove is not None and not prove() and _has_former(plan):
            raise TargetError(
                "the new version started and did not run a container", where=target.name
            )
        _steps(run, plan.closing)
    except EmbedkitError as failure:
        passed = sum(1 for one in run.done if not one.error)
        if passed < plan.prepared or not plan.recovery:
            return Outcome(tuple(run.done), failure, None, tuple(run.log))
        recovered = _recover(run, plan)
        return Outcome(tuple(run.done), failure, recovered, tuple(run.log))
    return Outcome(tuple(run.done), log=tuple(run.log))


def _has_former(plan: Plan) -> bool:
    """Whether its recovery ends with another daemon running, and not with none."""
    return any(step.id == "start" for step in plan.recovery)


def _recover(run: _Run, plan: Plan) -> bool:
    run.progress.say(f"{run.target.name}: putting back what was there before")
    kept = list(run.log)
    try:
        _steps(run, plan.recovery)
        return True
    except EmbedkitError as error:
        run.progress.say(f"{run.target.name}: {log.harmless(str(error))}")
        return False
    finally:
        run.log[:] = kept


def _steps(run: _Run, steps: Sequence[Step]) -> None:
    sends = [step.action.program for step in steps if isinstance(step.action, Send)]
    if sends and run.bundle is not None:
        with run.bundle.files(sends) as files:
            _each(run, steps, files)
    else:
        _each(run, steps, {})


def _each(run: _Run, steps: Sequence[Step], files: dict[str, Path]) -> None:
    for step in steps:
        if run.observer is not None:
            run.observer.started(step)
        begun = time.monotonic()
        try:
            _persist(run, step, files)
        except EmbedkitError as error:
            run.done.append(Done(step, time.monotonic() - begun, str(error)))
            raise
        seconds = time.monotonic() - begun
        run.done.append(Done(step, seconds))
        if run.observer is not None:
            run.observer.finished(step, seconds)


def _persist(run: _Run, step: Step, files: dict[str, Path]) -> None:
    """Does a step over cuts of the connection: done twice it is what it is done once."""
    for cut in range(_CUTS + 1):
        try:
            if cut:
                run.target.reconnect(deadline_seconds=_RECONNECT_SECONDS)
            _do(run, step, files)
            return
        except ConnectionLost:
            if cut == _CUTS:
                raise


def _do(run: _Run, step: Step, files: dict[str, Path]) -> None:
    action = step.action
    target = run.target
    if isinstance(action, Shell):
        result = target.run(action.script, timeout=action.timeout_seconds, check=False)
        if not result.ok and not action.may_fail:
            if step.id == "start":
                said = log.lines(result.stderr) or log.lines(result.stdout)
                run.log += log.shortened(said + _last_log(target, step), _LOG_LINES)
            raise TargetError(_why(step, result.exit_code, result.complaint), where=target.name)
    elif isinstance(action, Send):
        target.put(files[action.program], action.path, mode=0o755, progress=run.progress)
    elif isinstance(action, Write):
        path = quote(action.path)
        folder = quote(action.path.rpartition("/")[0])
        # A link at the place of a file would be followed: its content is somebody else's.
        target.run(f"mkdir -p {folder} && if [ -h {path} ]; then rm -f {path}; fi")
        target.put(action.content, action.path, mode=action.mode)
    else:
        _await(run, step, action)


def _why(step: Step, code: int, complaint: str) -> str:
    """What an exit code of a program that was tried says of it (signal(7), sh's own codes)."""
    known = {
        126: "it cannot be executed here: built for another architecture, or mounted noexec",
        132: "illegal instruction: it was built for a newer processor",
        139: "it crashed",
        127: "it does not start: its loader or library is missing",
    }
    hint = known.get(code, "") if step.id == "try" else ""
    # BusyBox's sh takes what the kernel refuses for a script.
    foreign = "Exec format error" in complaint or "syntax error" in complaint
    if step.id == "try" and foreign:
        hint = known[126]
    return f"step '{step.title}' failed with exit code {code}: {complaint}" + (
        f" ({hint})" if hint else ""
    )


def _last_log(target: Target, step: Step) -> list[str]:
    if "systemctl" not in getattr(step.action, "script", ""):
        return []
    return log.lines(target.run(_JOURNAL, check=False).stdout)


def _await(run: _Run, step: Step, action: Await) -> None:
    target, begun = run.target, time.monotonic()
    offset, again = 0, False
    while True:
        # One look takes a board that reads 50 MB of dockerd from a slow card its time, too.
        result = target.run(_poll(action, offset), check=False, timeout=READY_SECONDS)
        head, _, rest = result.stdout.partition(b"\n")
        state = head.decode("ascii", "replace").split()
        offset += len(rest)
        for line in log.lines(rest):
            run.log.append(line)
            detail = getattr(run.progress, "detail", None)
            if detail is not None:
                detail(f"{target.name}: {line}")
        run.log[:] = log.shortened(run.log, _LOG_LINES)
        waited = time.monotonic() - begun
        if "ready" in state or b"API listen on" in rest:
            return
        if "alive" not in state and waited > 3:
            if action.again and not again and _TOO_SLOW in "\n".join(run.log):
                run.progress.say(f"{target.name}: {_TOO_SLOW}; starting it again")
                again = True
                begun, offset = time.monotonic(), 0
                target.run(action.again, check=False, timeout=READY_SECONDS)
                continue
            raise TargetError("the daemon ended while it started", where=target.name)
        if waited > READY_SECONDS:
            raise TargetError(
                f"the daemon runs and did not answer within {READY_SECONDS:g} s", where=target.name
            )
        time.sleep(_POLL_SECONDS if offset else 0.3)


def _poll(action: Await, offset: int) -> str:
    """One look: whether it lives, whether it answers, and what it logged since."""
    if action.log:
        follow = f"tail -c +{offset + 1} {quote(action.log)} 2>/dev/null || :"
    else:
        follow = f'[ -n "$p" ] || {_JOURNAL}'
    return f"""
p=; read -r p 2>/dev/null <{PID_FILE} || :
case $p in ''|*[!0-9]*) p=;; *) [ -d /proc/$p ] || p=;; esac
s=; [ -n "$p" ] && s=alive
if [ -n "$p" ] && [ -S {SOCKET} ] && [ -x {quote(action.folder)}/docker ]; then
  {quote(action.folder)}/docker -H unix://{SOCKET} version >/dev/null 2>&1 && s="$s ready"
fi
echo "state $s"
{follow}
"""
