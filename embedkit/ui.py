"""The terminal: progress and messages on standard error, colour, confirmation."""

from __future__ import annotations

import os
import sys
import threading
import time
from typing import IO, Any

from embedkit.errors import InputError
from embedkit.progress import Task, Unit
from embedkit.report.clean import one_line, safe
from embedkit.units import format_seconds, format_size


def wants_color(stream: IO[str], no_color: bool = False) -> bool:
    """Colour is decided for each stream: a terminal, no NO_COLOR (no-color.org), not TERM=dumb."""
    if no_color or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return False
    return _is_terminal(stream)


def terminal_width(stream: IO[str]) -> int | None:
    """The columns of the terminal that ``stream`` is; None where it is none."""
    if not _is_terminal(stream):
        return None
    # As shutil.get_terminal_size does it; shutil itself imports all the compression modules.
    asked = os.environ.get("COLUMNS", "")
    if asked.isdecimal() and int(asked):
        return int(asked)
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError):
        return None


def _is_terminal(stream: IO[str] | None) -> bool:
    return stream is not None and not stream.closed and stream.isatty()


class Ui:
    """What a command may show while it works. It implements embedkit.progress.Progress.

    ``verbosity``: -1 only errors, 0 normal, 1 and more what is done in detail. Any thread may
    call any method; lines and bars do not mix.
    """

    def __init__(self, *, verbosity: int = 0, no_color: bool = False, yes: bool = False) -> None:
        self.verbosity = verbosity
        self.yes = yes
        self.color = wants_color(sys.stderr, no_color)
        self._lock = threading.RLock()
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
        self._line(f"warning: {message}", color="33")

    def start(self, title: str, *, total: int | None = None, unit: Unit = "steps") -> Task:
        """Progress: a bar on a terminal; elsewhere a line at the end, and some while it lasts."""
        # A dumb terminal cannot move its cursor up, so a bar would be printed over and over.
        bars = _is_terminal(sys.stderr) and os.environ.get("TERM") != "dumb"
        if self.verbosity >= 0 and bars:
            return _BarTask(self, one_line(title), total, unit)
        return _LineTask(self, one_line(title), total, unit)

    def confirm(self, question: str, expected: str) -> bool:
        """Asks the user to type ``expected`` (the name of what will be changed).

        True at once with ``--yes``. Raises InputError without a terminal to ask on.
        """
        if self.yes:
            return True
        if not _is_terminal(sys.stdin):
            raise InputError(
                "this needs a confirmation, and there is no terminal to ask on",
                hint="give --yes if you are sure",
            )
        with self._lock:
            self._stop_bars()
            sys.stderr.write(f"{safe(question)}\nType '{safe(expected)}' to go on: ")
            sys.stderr.flush()
        return sys.stdin.readline().strip() == expected

    def close(self) -> None:
        """Gives the terminal back: a bar that an error left behind hides the cursor."""
        with self._lock:
            self._stop_bars()

    def _line(self, message: str, color: str = "") -> None:
        shown = safe(message)
        with self._lock:
            if self._live is not None:
                from rich.text import Text

                # A Text is taken as it is: no markup, no :emoji:, no highlighting.
                text = Text(shown, style="yellow" if color else "")
                self._live.console.print(text, soft_wrap=True)
                return
            if color and self.color:
                shown = f"\033[{color}m{shown}\033[0m"
            print(shown, file=sys.stderr, flush=True)

    def _add_bar(self, title: str, total: int | None) -> tuple[Any, Any]:
        with self._lock:
            if self._live is None:
                self._live = _new_bars(self.color)
                self._live.start()
            self._running += 1
            return self._live, self._live.add_task(title, total=total, rate="")

    def _bar_done(self, bars: Any) -> None:
        with self._lock:
            if bars is not self._live:
                return  # stopped before, for a question or at the end
            self._running -= 1
            if self._running == 0:
                self._stop_bars()

    def _stop_bars(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None
            self._running = 0


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
        # What the program prints belongs to standard output even while a bar is shown.
        redirect_stdout=False,
    )


class _BarTask:
    """A bar. Updates are gathered so that a fast writer is not slowed by its own progress."""

    _INTERVAL = 0.1

    def __init__(self, ui: Ui, title: str, total: int | None, unit: Unit) -> None:
        self._ui = ui
        self._unit = unit
        self._bars, self._id = ui._add_bar(title, total)
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
            if now - self._shown_at >= self._INTERVAL:
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
        self._ui._bar_done(self._bars)


class _LineTask:
    """For logs and pipes: one line at the end, and one now and then so that it never looks hung."""

    _INTERVAL = 15.0

    def __init__(self, ui: Ui, title: str, total: int | None, unit: Unit) -> None:
        self._ui = ui
        self._title = title
        self._total = total
        self._unit = unit
        self._begun = time.monotonic()
        self._said_at = self._begun
        self._done = 0
        self._open = True
        self._lock = threading.Lock()

    def advance(self, amount: int) -> None:
        with self._lock:
            self._done += amount
            now = time.monotonic()
            if now - self._said_at < self._INTERVAL:
                return
            self._said_at = now
            line = f"{self._title}: {self._amount()} so far"
            if self._total:
                line += f", {100 * self._done // self._total} %"
        self._ui.say(line)

    def _amount(self) -> str:
        if self._unit == "bytes":
            return format_size(self._done)
        return f"{self._done} step{'' if self._done == 1 else 's'}"

    def finish(self) -> None:
        with self._lock:
            if not self._open:
                return
            self._open = False
            seconds = time.monotonic() - self._begun
            amount = f"{self._amount()}, " if self._unit == "bytes" else ""
        self._ui.say(f"{self._title}: {amount}{format_seconds(seconds)}")
