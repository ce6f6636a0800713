"""The chain of a bringup: which stages are done, kept, left out or not reached.

Every stage ends in the state before the next begins, so a run that was cut off at any moment
goes on with the stage that it was in.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from embedkit.bringup import state as states
from embedkit.bringup.settings import Settings
from embedkit.bringup.stages import Chain, Done, Hands, Result, Stage, Standing, Todo, Tone
from embedkit.bringup.state import Digests, Record
from embedkit.errors import EmbedkitError, InputError, did_you_mean

Describe = Callable[[Done], Mapping[str, Any]]


@dataclass(frozen=True)
class Choice:
    """Which stages: all but ``skip``, only ``only``, those from ``begin`` on.

    ``again`` does even what is unchanged; ``keep`` leaves an emulated board running.
    """

    skip: tuple[str, ...] = ()
    only: tuple[str, ...] = ()
    begin: str = ""
    again: bool = False
    dry_run: bool = False
    keep: bool = False


class Observer(Protocol):
    """Hears of every stage, when its end is already in the state."""

    def started(self, stage: Stage) -> None: ...

    def ended(self, result: Result) -> None: ...


@dataclass(frozen=True)
class Ended:
    """A whole run. ``interrupted`` is the stage that an earlier run was cut off in, "" for none;
    ``left_on`` the emulated board that goes on, "" for none."""

    settings: Settings
    results: tuple[Result, ...]
    interrupted: str
    seconds: float
    left_on: str = ""

    @property
    def exit_code(self) -> int:
        return max((result.exit_code for result in self.results), default=0)

    @property
    def failed(self) -> Result | None:
        """The stage that ended the run, or None."""
        return next((r for r in self.results if r.standing is Standing.FAILED), None)


def chosen(stages: Sequence[Stage], choice: Choice) -> frozenset[str]:
    """The names of the stages that ``choice`` leaves. Raises InputError for an unknown name."""
    names = [stage.name for stage in stages]
    for name in (*choice.skip, *choice.only, *([choice.begin] if choice.begin else [])):
        if name not in names:
            hint = did_you_mean(name, names) or f"known: {', '.join(names)}"
            raise InputError(f"there is no stage '{name}'", hint=hint)
    left = names[names.index(choice.begin) :] if choice.begin else names
    left = [name for name in left if name not in choice.skip]
    return frozenset(name for name in left if not choice.only or name in choice.only)


def run(
    settings: Settings,
    stages: Sequence[Stage],
    choice: Choice,
    hands: Hands,
    *,
    describe: Describe,
    observer: Observer | None = None,
) -> Ended:
    """Runs the chain and tells how each stage went; what a stage raises is in its result.

    Raises InputError for a stage that does not exist, LackError where the state cannot be kept.
    KeyboardInterrupt passes through; the state then says where to go on.
    """
    names = chosen(stages, choice)
    begun = time.monotonic()
    results: list[Result] = []
    with contextlib.ExitStack() as stack:
        if not choice.dry_run:
            stack.enter_context(states.locked(settings.work))
        state = states.load(settings.work)
        chain = Chain(settings, hands, state, Digests(state.digests), names)
        stack.callback(_leave, chain, choice)
        for stage in stages:
            broken = any(result.standing is Standing.FAILED for result in results)
            result = _stage(stage, chain, choice, names, results, broken, describe, observer)
            results.append(result)
            if observer is not None:
                observer.ended(result)
        # Also one that an earlier run left on: it is not this one's to end.
        goes_on = chain.board is not None and (choice.keep or chain.board.machine is None)
        left_on = chain.board.target.address if chain.board is not None and goes_on else ""
    return Ended(
        chain.settings, tuple(results), state.running, time.monotonic() - begun,
        left_on if chain.settings.emulated else "",
    )  # fmt: skip


def _leave(chain: Chain, choice: Choice) -> None:
    """Lets go of the board. What goes wrong with that changes no answer."""
    if chain.board is None:
        return
    try:
        chain.board.close(keep=choice.keep)
    except EmbedkitError as error:
        chain.progress.say(f"warning: the board was not left as it should be: {error}")


def _stage(
    stage: Stage,
    chain: Chain,
    choice: Choice,
    names: frozenset[str],
    before: Iterable[Result],
    broken: bool,
    describe: Describe,
    observer: Observer | None,
) -> Result:
    absent = stage.absent(chain)
    if absent:
        return Result(stage.name, stage.title, Standing.ABSENT, absent)
    if stage.name not in names:
        return Result(stage.name, stage.title, Standing.SKIPPED, "as asked")
    if broken:
        return Result(stage.name, stage.title, Standing.NOT_REACHED)
    pending = any(result.standing is Standing.PLANNED for result in before)
    if observer is not None and not choice.dry_run:
        observer.started(stage)
    begun = time.monotonic()
    try:
        inputs = "" if choice.dry_run and pending else states.hash_of(stage.inputs(chain))
        kept = None if choice.again or not inputs else _kept(stage, chain, inputs)
        if kept is not None:
            return kept
        if choice.dry_run:
            return _planned(stage, chain, pending)
        chain.state = chain.state.begun(stage.name)
        _save(chain)
        done = stage.do(chain)
    except EmbedkitError as error:
        if not choice.dry_run:
            chain.state = chain.state.failed()
            _save(chain)
        return Result(
            stage.name, stage.title, Standing.FAILED, str(error), Tone.FAIL,
            time.monotonic() - begun, time.time(), error, error.hint or "",
        )  # fmt: skip
    return _ended(stage, chain, inputs, done, time.monotonic() - begun, describe)


def _kept(stage: Stage, chain: Chain, inputs: str) -> Result | None:
    record = chain.state.records.get(stage.name)
    if record is None or record.inputs != inputs or not stage.verify(chain, record):
        return None
    return Result(
        stage.name, stage.title, Standing.KEPT, record.verdict, Tone(record.status),
        record.seconds, record.finished, shown=record.shown,
    )  # fmt: skip


def _planned(stage: Stage, chain: Chain, pending: bool) -> Result:
    try:
        todos = stage.preview(chain)
    except EmbedkitError as error:
        if not pending:
            raise
        # What it needs is made by a stage before it, which a dry run only plans.
        later = "planned when the stages before it are done"
        todos = (Todo(later, "" if chain.settings.reference else str(error)),)
    return Result(stage.name, stage.title, Standing.PLANNED, todos=todos)


def _ended(
    stage: Stage, chain: Chain, inputs: str, done: Done, seconds: float, describe: Describe
) -> Result:
    took = seconds if done.seconds is None else done.seconds
    shown = describe(done)
    failed = done.tone is Tone.FAIL
    if failed:
        chain.state = chain.state.failed()
    else:
        outputs = {str(path): chain.digests.of(path) for path in done.outputs}
        record = Record(
            inputs, outputs, done.tone.value, done.verdict, took, time.time(), done.carry, shown
        )
        chain.state = chain.state.ended(stage.name, record)
    _save(chain)
    standing = Standing.FAILED if failed else Standing.DONE
    return Result(
        stage.name, stage.title, standing, done.verdict, done.tone, took, time.time(),
        error=done.error, hint=done.hint, shown=shown,
    )  # fmt: skip


def _save(chain: Chain) -> None:
    chain.state = replace(chain.state, digests=chain.digests.known)
    states.save(chain.state, chain.settings.work)
