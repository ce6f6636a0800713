"""What a stage is, what it works with, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.bringup.settings import Settings
from embedkit.bringup.state import Digests, Record, State
from embedkit.errors import EXIT_NO, EXIT_OK, EmbedkitError, exit_code
from embedkit.progress import NullProgress, Progress
from embedkit.target.opening import Access

if TYPE_CHECKING:
    from embedkit.bringup.held import Board
    from embedkit.docker.deploy import Deployment
    from embedkit.kernel.config import KernelConfig
    from embedkit.kernel.tree import KernelTree


class Standing(StrEnum):
    """What became of a stage."""

    DONE = "done"
    KEPT = "unchanged"  # done by an earlier run, and what it made is still there
    FAILED = "failed"
    SKIPPED = "skipped"  # by the user
    ABSENT = "not asked for"  # nothing in the settings for it
    PLANNED = "planned"  # --dry-run
    NOT_REACHED = "not reached"


class Tone(StrEnum):
    """How the answer of a stage stands; the words are those of a report's statuses."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    INFO = "info"


@dataclass(frozen=True)
class Todo:
    """One thing that a stage would do."""

    title: str
    touches: str = ""
    undo: str = ""


@dataclass(frozen=True)
class Done:
    """What a stage came to. With FAIL the answer is no, and the chain ends; with ``error``, too,
    it was not an answer but something that went wrong.

    ``value`` is the stage's own result, for the report; ``outputs`` are the files that must
    still be the same for the stage to be left out next time; ``carry`` is plain data for the
    stages after it; ``hint`` says what to do next. ``seconds`` replaces what was measured.
    """

    verdict: str
    tone: Tone = Tone.OK
    value: object = None
    outputs: tuple[Path, ...] = ()
    carry: Mapping[str, Any] = field(default_factory=dict)
    hint: str = ""
    seconds: float | None = None
    error: EmbedkitError | None = None


@dataclass(frozen=True)
class Result:
    """One stage of a run, as the report tells it. ``shown`` is the plain form of its value."""

    stage: str
    title: str
    standing: Standing
    verdict: str = ""
    tone: Tone = Tone.INFO
    seconds: float = 0.0
    finished: float = 0.0
    error: EmbedkitError | None = None
    hint: str = ""
    shown: Mapping[str, Any] = field(default_factory=dict)
    todos: tuple[Todo, ...] = ()

    @property
    def exit_code(self) -> int:
        """What this stage makes of the whole."""
        if self.standing is not Standing.FAILED:
            return EXIT_OK
        return exit_code(self.error) if self.error is not None else EXIT_NO


def _no(question: str, expected: str) -> bool:
    return False


@dataclass(frozen=True)
class Hands:
    """What a caller lends: progress, the way into boards, and the answer to a severe question
    (the text, and what has to be typed)."""

    progress: Progress = field(default_factory=NullProgress)
    access: Access = field(default_factory=Access)
    confirm: Callable[[str, str], bool] = _no
    accept_suspicious: bool = False
    unmount: bool = False


@dataclass
class Chain:
    """One run: what all stages share, and what the earlier ones made for the later."""

    settings: Settings
    hands: Hands
    state: State
    digests: Digests
    will_run: frozenset[str] = frozenset()
    kernel: tuple[KernelTree | None, KernelConfig] | None = None
    board: Board | None = None
    deployment: Deployment | None = None

    @property
    def progress(self) -> Progress:
        return self.hands.progress

    def carried(self, stage: str) -> Mapping[str, Any]:
        """What ``stage`` left for later ones, in this run or in an earlier one."""
        record = self.state.records.get(stage)
        return record.carry if record is not None else {}


class Stage:
    """One link of the chain. ``live`` stages are about a running board: what they made is gone
    with it, so an earlier run's result is believed only as ``verify`` says."""

    name = ""
    title = ""
    live = False

    def absent(self, chain: Chain) -> str:
        """Why this stage has nothing to do with these settings; empty where it has."""
        return ""

    def inputs(self, chain: Chain) -> object:
        """Plain data on which everything that the stage makes depends."""
        raise NotImplementedError

    def verify(self, chain: Chain, record: Record) -> bool:
        """Whether what an earlier run made is still there and still the same."""
        return not self.live and all(
            chain.digests.of(Path(path)) == digest for path, digest in record.outputs.items()
        )

    def preview(self, chain: Chain) -> tuple[Todo, ...]:
        """What ``do`` would do. Changes nothing."""
        raise NotImplementedError

    def do(self, chain: Chain) -> Done:
        """Does it. Raises EmbedkitError where it cannot be done."""
        raise NotImplementedError
