"""The terminal: progress and messages on standard error, colour, confirmation."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import IO, Any

from embedkit.errors import InputError
from embedkit.progress import Task, Unit
from embedkit.units import format_seconds, format_size


def wants_color(stream: IO[str], no_color: bool = False) -> bool:
    """Colour is decided for each stream: a terminal, no NO_COLOR (no-color.org), not TERM=dumb."""
    if no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return stream.isatty()


class Ui:
    """What a command may show while it works. It implements embedkit.progress.Progress.

    ``verbosity``: -1 only errors, 0 normal, 1 and more what is done in detail.
    """

    def __init__(self, *, verbosity: int = 0, no_color: bool = False, yes: bool = False) -> None:
        self.verbosity = verbosity
        self.yes = yes
        self.color = wants_color(sys.stderr, no_color)
        self._lock = threading.Lock()
        self._live: Any = None
        self._running = 0

    def say(self, message: str) -> None:
        """One line of what is going on."""
        if self.verbosity >= 0:
            self._line(message)

    def detail(self, message: str) -> None:
        """One line that only ``-v`` shows."""
        if self.verbosity >= 1:
            self._line(message)

    def warn(self, message: str) -> None:
        """One line that even ``-q`` does not hide."""
        self._line(f"warning: {message}")

    def start(self, title: str, *, total: int | None = None, unit: Unit = "steps") -> Task:
        """Progress: a bar on a terminal, a line at the start and the end elsewhere."""
        if self.verbosity >= 0 and sys.stderr.isatty():
            return _BarTask(self, title, total, unit)
        return _LineTask(self, title, unit)

    def confirm(self, question: str, expected: str) -> bool:
        """Asks the user to type ``expected`` (the name of what will be changed).

        True at once with ``--yes``. Raises InputError without a terminal to ask on.
        """
        if self.yes:
            return True
        if not sys.stdin.isatty():
            raise InputError(
                "this needs a confirmation, and there is no terminal to ask on",
                hint="give --yes if you are sure",
            )
        sys.stderr.write(f"{question}\nType '{expected}' to go on: ")
        sys.stderr.flush()
        return sys.stdin.readline().strip() == expected

    def _line(self, message: str) -> None:
        with self._lock:
            if self._live is not None:
                self._live.console.print(message, markup=False, highlight=False)
            else:
                print(message, file=sys.stderr, flush=True)

    def _bars(self) -> Any:
        with self._lock:
            if self._live is None:
                self._live = _new_bars(self.color)
                self._live.start()
            self._running += 1
            return self._live

    def _bar_done(self) -> None:
        with self._lock:
            self._running -= 1
            if self._running == 0 and self._live is not None:
                self._live.stop()
                self._live = None


def _new_bars(color: bool) -> Any:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True, no_color=not color)
    return Progress(
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rate]}", markup=False),
        TimeRemainingColumn(),
        console=console,
    )


class _BarTask:
    """A bar. Updates are gathered so that a fast writer is not slowed by its own progress."""

    _INTERVAL = 0.1

    def __init__(self, ui: Ui, title: str, total: int | None, unit: Unit) -> None:
        self._ui = ui
        self._unit = unit
        self._bars = ui._bars()
        self._id = self._bars.add_task(title, total=total, rate="")
        self._begun = time.monotonic()
        self._shown_at = 0.0
        self._done = 0
        self._pending = 0
        self._open = True
        self._lock = threading.Lock()

    def advance(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            self._pending += amount
            now = time.monotonic()
            if now - self._shown_at < self._INTERVAL:
                return
            self._show(now)

    def _show(self, now: float) -> None:
        seconds = max(now - self._begun, 1e-6)
        rate = f"{format_size(int(self._done / seconds))}/s" if self._unit == "bytes" else ""
        self._bars.update(self._id, advance=self._pending, rate=rate)
        self._pending = 0
        self._shown_at = now

    def finish(self) -> None:
        with self._lock:
            if not self._open:
                return
            self._open = False
            self._show(time.monotonic())
        self._ui._bar_done()


class _LineTask:
    """For logs and pipes: one line when it ends."""

    def __init__(self, ui: Ui, title: str, unit: Unit) -> None:
        self._ui = ui
        self._title = title
        self._unit = unit
        self._begun = time.monotonic()
        self._done = 0
        self._open = True

    def advance(self, amount: int) -> None:
        self._done += amount

    def finish(self) -> None:
        if not self._open:
            return
        self._open = False
        seconds = time.monotonic() - self._begun
        amount = f"{format_size(self._done)}, " if self._unit == "bytes" else ""
        self._ui.say(f"{self._title}: {amount}{format_seconds(seconds)}")
