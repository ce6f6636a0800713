"""What a target is: the one protocol through which everything else reaches a board.

A command is either a list of words, which arrive as exactly those words, or a string, which is
a script for the target's ``sh``. Whatever carries it (SSH, a serial line, this machine), it is
run by ``sh -c`` on the target; quote what you put into a script with :func:`quote`.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Protocol, Self

from embedkit.errors import EmbedkitError, InputError, TargetError
from embedkit.process import last_line
from embedkit.progress import Progress

if TYPE_CHECKING:
    from embedkit.target.facts import Facts

Command = str | Sequence[str]

# How long an ordinary command may take. What takes longer says so itself.
COMMAND_SECONDS = 60.0


class Channel(StrEnum):
    """Where a piece of output came from."""

    STDOUT = "stdout"
    STDERR = "stderr"


Output = Callable[[Channel, bytes], None]
"""Takes output as it comes. It must not call the target it is given to."""

AskSecret = Callable[[str], str | None]
"""Answers ``"password for root@board"`` with the secret, or None where there is none to be had."""


class ConnectionLost(TargetError):
    """The way to the target broke; the target may be well, and ``reconnect()`` may mend it."""


class CommandFailed(TargetError):
    """A command on the target ended with another exit code than 0."""

    def __init__(self, result: Result, where: str) -> None:
        shown = " ".join(result.command.split())
        if len(shown) > 120:
            shown = shown[:117] + "..."
        super().__init__(
            f"'{shown}' failed with exit code {result.exit_code}: {result.complaint}", where=where
        )
        self.result = result


class CommandTimeout(TargetError):
    """A command on the target did not end in time; it was told to stop where that can be said."""


class AuthenticationFailed(EmbedkitError):
    """The target is there and does not let us in. Exit code 2: what was given is not right."""


class HostKeyRefused(EmbedkitError):
    """The target's host key is unknown or is not the one that is known. Exit code 2."""


@dataclass(frozen=True)
class Result:
    """A command that ended on the target. ``exit_code`` is 128 + N where signal N killed it."""

    command: str
    exit_code: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    @property
    def text(self) -> str:
        """Standard output, undecodable bytes replaced."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def complaint(self) -> str:
        """The last line that the command wrote to standard error (else to standard output)."""
        return last_line(self.stderr, self.stdout) or f"exit code {self.exit_code}"


@dataclass(frozen=True)
class Transfer:
    """A file that was moved, or that did not need to be.

    ``sent_bytes`` is what went over the wire as payload (less than ``size_bytes`` where it was
    compressed or resumed); ``digest`` is ``ALGORITHM:HEX`` as the target itself computed it
    (``algorithm`` may be as weak as ``cksum`` where the board has nothing else).
    """

    path: str
    size_bytes: int
    sent_bytes: int
    seconds: float
    way: str
    digest: str
    skipped: bool = False
    resumed_at_bytes: int = 0
    interruptions: int = 0


class Closing:
    """What is closed at the end of a ``with``."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class Target(Protocol):
    """A machine that runs commands. One thread at a time may use it.

    Connecting happens on first use, or in ``connect()``. All methods raise ConnectionLost where
    the line breaks and TargetError where the board fails otherwise.
    """

    @property
    def address(self) -> str:
        """The URL it was opened with, without any secret."""

    @property
    def name(self) -> str:
        """Short and printable: for messages and file names."""

    @property
    def carries_binary(self) -> bool:
        """Whether ``stream`` is a clean and fast pipe (SSH, local) and not a serial line."""

    def connect(self, *, deadline_seconds: float | None = None) -> None:
        """Makes the connection now.

        With a deadline it is tried again and again, as while a board boots; without one, once.
        Raises AuthenticationFailed and HostKeyRefused at once, however long the deadline is.
        """

    def run(
        self,
        command: Command,
        *,
        input: bytes | None = None,
        timeout: float | None = COMMAND_SECONDS,
        check: bool = True,
    ) -> Result:
        """Runs ``command`` to its end; standard input is empty unless ``input`` is given.

        Raises CommandFailed for an exit code other than 0 unless ``check`` is off, and
        CommandTimeout after ``timeout`` seconds.
        """

    def stream(
        self,
        command: Command,
        *,
        input: Iterable[bytes] | None = None,
        output: Output | None = None,
        timeout: float | None = None,
    ) -> int:
        """Runs ``command``, feeding ``input`` and handing out output as it comes.

        Returns the exit code. On a serial line the output comes in steps of about a second.
        An exception raised by ``output`` stops the command and passes through.
        """

    def put(
        self,
        source: Path | bytes,
        path: str,
        *,
        mode: int | None = None,
        progress: Progress | None = None,
    ) -> Transfer:
        """Makes the file ``path`` on the target have the content of ``source``.

        Whole or not at all: temporary name, sync, digest compared, renamed. A file that is
        there already with the same digest is not sent again (its mode is set all the same);
        an interrupted transfer goes on where it stopped, reconnecting by itself. ``mode``
        defaults to that of ``source`` (0644 for bytes). The parent folder must exist.
        """

    def get(self, path: str, destination: Path, *, progress: Progress | None = None) -> Transfer:
        """Makes the local file ``destination`` have the content of the target's ``path``.

        As careful as ``put``: temporary name, digest compared, resumed, renamed.
        """

    def facts(self, *, refresh: bool = False) -> Facts:
        """What the target is and has: asked in one exchange, then remembered."""

    def reboot(self, *, deadline_seconds: float = 180.0) -> float:
        """Reboots, waits until the target is back with another boot id, returns the seconds.

        Raises TargetError where it does not come back in time.
        """

    def reconnect(self, *, deadline_seconds: float = 60.0) -> None:
        """Drops the connection and makes a new one."""

    def close(self) -> None:
        """Ends the connection; may be called more than once."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Equipped(Target, Protocol):
    """A target whose shell and programs are known: what moving files is built on."""

    # Bytes a second that the link carried last, uncompressed; None until measured.
    link_rate: float | None
    # Bytes a second that it was seen to unpack while they came in; None until tried.
    unpack_rate: float | None

    def tools(self) -> frozenset[str]:
        """Which of the programs that embedkit can use are there: applets of BusyBox too."""


def quote(word: str) -> str:
    """``word`` as one word of ``sh``, whatever is in it. Raises InputError for a NUL."""
    if "\0" in word:
        raise InputError("a word for the target holds a NUL byte, which no command can take")
    return shlex.quote(word)


def quote_path(path: str) -> str:
    """A file name as one word of ``sh`` that no program takes for an option.

    A relative path that begins with a dash gets ``./`` before it: unlike ``--`` every program
    understands that.
    """
    if not path:
        raise InputError("the file name is empty")
    return quote(f"./{path}" if path.startswith("-") else path)


def script(command: Command) -> str:
    """``command`` as text for ``sh``. Raises InputError for an empty one or a NUL."""
    if isinstance(command, str):
        if "\0" in command:
            raise InputError("a command for the target holds a NUL byte")
        return command
    if not command:
        raise InputError("the command is empty")
    return " ".join(quote(word) for word in command)


def short_name(text: str) -> str:
    """``text`` as a file name and as something that may be printed."""
    return re.sub(r"[^A-Za-z0-9._@-]+", "_", text).strip("_.") or "target"
