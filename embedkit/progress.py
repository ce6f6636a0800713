"""How long work tells its caller how far it is. No terminal code: see :mod:`embedkit.ui`."""

from __future__ import annotations

from typing import Literal, Protocol

Unit = Literal["bytes", "steps"]


class Task(Protocol):
    """One running piece of work."""

    def advance(self, amount: int) -> None:
        """``amount`` more bytes or steps are done."""

    def finish(self) -> None:
        """The work ended, well or not. May be called more than once."""


class Progress(Protocol):
    """Takes what long work reports. Implementations must be thread-safe."""

    def start(self, title: str, *, total: int | None = None, unit: Unit = "steps") -> Task:
        """Begins a task of ``total`` bytes or steps (None: not known beforehand)."""

    def say(self, message: str) -> None:
        """One line for the user that is neither result nor error."""


class _NullTask:
    def advance(self, amount: int) -> None:
        pass

    def finish(self) -> None:
        pass


class NullProgress:
    """Drops everything: for library use and tests."""

    def start(self, title: str, *, total: int | None = None, unit: Unit = "steps") -> Task:
        return _NullTask()

    def say(self, message: str) -> None:
        pass
