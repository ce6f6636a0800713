"""A console on a target: bytes both ways, a log with times, and scripts of expect and send."""

from __future__ import annotations

import contextlib
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from embedkit import process
from embedkit.errors import InputError, LackError
from embedkit.target.address import LocalAddress, QemuAddress, SshAddress, parse_address
from embedkit.target.base import AskSecret, Closing, ConnectionLost
from embedkit.target.noise import without_ansi

if TYPE_CHECKING:
    from embedkit.target.line import Line
    from embedkit.target.opening import Access

_READ_BYTES = 16 << 10
_KEPT_BYTES = 256 << 10


class Console(Protocol):
    """An open console. ``read`` returns what came within ``timeout`` seconds, empty for nothing,
    and raises ConnectionLost at its end."""

    def read(self, timeout: float) -> bytes: ...

    def write(self, data: bytes) -> None: ...

    def resize(self, columns: int, rows: int) -> None: ...

    def send_break(self) -> None: ...

    def close(self) -> None: ...


class _LineConsole:
    """A serial line as it is: no login, no framing."""

    def __init__(self, line: Line) -> None:
        self._line = line

    def read(self, timeout: float) -> bytes:
        return self._line.read(timeout)

    def write(self, data: bytes) -> None:
        self._line.write(data)

    def resize(self, columns: int, rows: int) -> None:
        pass  # a serial line has no way to say it

    def send_break(self) -> None:
        self._line.send_break()

    def close(self) -> None:
        self._line.close()


class _SshConsole:
    """A login shell on a terminal of its own."""

    def __init__(self, target: Any, columns: int, rows: int) -> None:
        self._target = target
        self._channel = target.open_shell(columns, rows, os.environ.get("TERM", "vt100"))

    def read(self, timeout: float) -> bytes:
        self._channel.settimeout(timeout)
        try:
            data: bytes = self._channel.recv(_READ_BYTES)
        except TimeoutError:
            return b""
        if not data:
            raise ConnectionLost("the console was closed", where=self._target.name)
        return data

    def write(self, data: bytes) -> None:
        self._channel.settimeout(None)
        try:
            self._channel.sendall(data)
        except OSError as error:
            raise ConnectionLost(f"the console broke: {error}", where=self._target.name) from error

    def resize(self, columns: int, rows: int) -> None:
        with contextlib.suppress(Exception):
            self._channel.resize_pty(columns, rows)

    def send_break(self) -> None:
        pass  # a terminal over SSH has no line to break

    def close(self) -> None:
        self._channel.close()
        self._target.close()


class _LocalConsole:
    """A shell here, on a pty."""

    def __init__(self) -> None:
        master, slave = os.openpty()
        with os.fdopen(slave, "r+b", buffering=0) as theirs:
            self._running = process.start(
                ["setsid", "-c", os.environ.get("SHELL", "/bin/sh")],
                stdin=theirs.fileno(),
                stdout=theirs.fileno(),
                stderr=theirs.fileno(),
            )
        self._fd = master

    def read(self, timeout: float) -> bytes:
        import select

        if not select.select([self._fd], [], [], timeout)[0]:
            return b""
        try:
            data = os.read(self._fd, _READ_BYTES)
        except OSError:
            data = b""
        if not data:
            raise ConnectionLost("the shell ended", where="local")
        return data

    def write(self, data: bytes) -> None:
        while data:
            data = data[os.write(self._fd, data) :]

    def resize(self, columns: int, rows: int) -> None:
        import termios

        with contextlib.suppress(OSError):
            termios.tcsetwinsize(self._fd, (rows, columns))

    def send_break(self) -> None:
        pass

    def close(self) -> None:
        self._running.terminate()
        os.close(self._fd)
        self._running.wait()


def open_console(
    url: str, access: Access, *, columns: int = 80, rows: int = 24, wait: float | None = None
) -> Console:
    """The console at ``url``: the bare line for serial and U-Boot targets and emulated boards, a
    login shell over SSH. Raises what connecting raises."""
    address = parse_address(url)
    if isinstance(address, QemuAddress):
        from embedkit.target.emulated import locate

        # A board's console is its serial line, also where SSH would answer.
        _, address = locate(replace(address, via=address.via or "serial"))
    if isinstance(address, LocalAddress):
        return _LocalConsole()
    if isinstance(address, SshAddress):
        from embedkit.target.opening import open_target

        target = open_target(url, access)
        target.connect(deadline_seconds=wait)
        return _SshConsole(target, columns, rows)
    from embedkit.target.line import open_line

    ends = time.monotonic() + (wait or 0)
    while True:
        try:
            return _LineConsole(open_line(address))
        except (ConnectionLost, LackError):
            if time.monotonic() >= ends:
                raise
            time.sleep(0.5)


class Log(Closing):
    """Writes what a board said to a file, each line with the time at which it began.

    Terminal control is left out, so that the file can be shown anywhere; what is typed is not
    written, so that no password is.
    """

    def __init__(self, path: Path, clock: Callable[[], datetime] = datetime.now) -> None:
        self._clock = clock
        self._partial = b""
        self._begun: datetime | None = None
        try:
            self._file: BinaryIO = path.open("ab")
        except OSError as error:
            raise LackError(f"cannot write {path}: {error.strerror}") from error

    def write(self, data: bytes) -> None:
        for piece in data.splitlines(keepends=True):
            if self._begun is None:
                self._begun = self._clock()
            self._partial += piece
            if piece.endswith(b"\n"):
                self._end_line()
        if len(self._partial) > 8192:
            self._end_line()

    def _end_line(self) -> None:
        begun = self._begun or self._clock()
        text = without_ansi(self._partial).rstrip(b"\n")
        clean = bytes(byte for byte in text if (byte >= 32 and byte != 127) or byte == 9)
        stamp = begun.isoformat(sep=" ", timespec="milliseconds")
        self._file.write(stamp.encode() + b"  " + clean + b"\n")
        self._file.flush()
        self._partial, self._begun = b"", None

    def close(self) -> None:
        if self._partial:
            self._end_line()
        self._file.close()


@dataclass(frozen=True)
class Instruction:
    """One line of a script. ``verb`` is one of VERBS."""

    verb: str
    text: str
    where: str
    pattern: re.Pattern[str] | None = None
    seconds: float = 0.0


@dataclass(frozen=True)
class Played:
    """An instruction that was carried out, well or not."""

    instruction: Instruction
    ok: bool
    seconds: float
    detail: str = ""


VERBS = ("send", "sendline", "expect", "fail", "timeout", "sleep", "secret", "break")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "e": "\x1b", "\\": "\\"}


def read_script(path: Path) -> tuple[Instruction, ...]:
    """Reads a script: one instruction a line, ``#`` begins a comment line.

    ``send TEXT`` and ``sendline TEXT`` (with \\n \\r \\t \\e \\xHH), ``expect REGEX``, ``fail
    REGEX`` (whenever it comes, the script fails), ``timeout SECONDS`` for what follows, ``sleep
    SECONDS``, ``secret`` (types the password and Enter), ``break``. Raises InputError with all
    that is wrong.
    """
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read the script {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the script {path} is not text in UTF-8") from error
    found: list[Instruction] = []
    problems: list[str] = []
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            found.append(_instruction(line.strip(), f"{path}:{number}"))
        except (ValueError, re.error) as error:
            problems.append(f"line {number}: {error}")
    if problems:
        raise InputError("; ".join(problems), where=str(path), hint=f"verbs: {', '.join(VERBS)}")
    return tuple(found)


def _instruction(line: str, where: str) -> Instruction:
    verb, _, text = line.partition(" ")
    text = text.strip() if verb not in ("send", "sendline") else text
    if verb in ("send", "sendline"):
        if verb == "send" and not text:
            raise ValueError("send needs a text")
        return Instruction(verb, _unescaped(text), where)
    if verb in ("expect", "fail"):
        if not text:
            raise ValueError(f"{verb} needs a regular expression")
        return Instruction(verb, text, where, re.compile(text, re.MULTILINE))
    if verb in ("timeout", "sleep"):
        if not re.fullmatch(r"\d{1,6}(\.\d+)?", text):
            raise ValueError(f"{verb} needs a number of seconds")
        return Instruction(verb, text, where, seconds=float(text))
    if verb in ("secret", "break"):
        if text:
            raise ValueError(f"{verb} takes nothing after it")
        return Instruction(verb, "", where)
    raise ValueError(f"there is no instruction '{verb}'")


def _unescaped(text: str) -> str:
    def put(match: re.Match[str]) -> str:
        word = match.group(1)
        if word.startswith("x") and len(word) == 3:
            return chr(int(word[1:], 16))
        if word not in _ESCAPES:
            raise ValueError(f"\\{word} is not an escape")
        return _ESCAPES[word]

    return re.sub(r"\\(x[0-9A-Fa-f]{2}|.|$)", put, text)


class Player:
    """Carries out a script. ``heard`` gets every byte that comes, for the log and the screen."""

    def __init__(
        self, console: Console, heard: Callable[[bytes], None], ask: AskSecret | None
    ) -> None:
        self._console = console
        self._heard = heard
        self._ask = ask
        self._raw = b""
        self._used = 0
        self._timeout = 30.0
        self._failures: list[re.Pattern[str]] = []

    def play(self, script: tuple[Instruction, ...]) -> list[Played]:
        """What was done, up to and with the first instruction that failed."""
        done: list[Played] = []
        for instruction in script:
            begun = time.monotonic()
            detail = self._do(instruction)
            ok = detail is None
            done.append(Played(instruction, ok, time.monotonic() - begun, detail or ""))
            if not ok:
                break
        return done

    def _do(self, instruction: Instruction) -> str | None:
        """None where it went well, else why not."""
        match instruction.verb:
            case "send":
                self._console.write(instruction.text.encode())
            case "sendline":
                self._console.write(instruction.text.encode() + b"\r")
            case "secret":
                secret = self._ask("password for the console") if self._ask else None
                if secret is None:
                    return "there is no password: set EMBEDKIT_PASSWORD"
                self._console.write(secret.encode() + b"\r")
            case "break":
                self._console.send_break()
            case "timeout":
                self._timeout = instruction.seconds
            case "fail":
                assert instruction.pattern is not None
                self._failures.append(instruction.pattern)
            case "sleep":
                return self._listen(None, instruction.seconds)
            case _:
                return self._listen(instruction.pattern, self._timeout)
        return None

    def _listen(self, pattern: re.Pattern[str] | None, seconds: float) -> str | None:
        ends = time.monotonic() + seconds
        while True:
            text = without_ansi(self._raw).decode("utf-8", "replace")
            for failure in self._failures:
                if (bad := failure.search(text, self._used)) is not None:
                    return f"'{bad.group()[:80]}' came, which must not"
            if pattern is not None and (good := pattern.search(text, self._used)) is not None:
                self._used = good.end()
                return None
            left = ends - time.monotonic()
            if left <= 0:
                if pattern is None:
                    return None
                last = text[self._used :].rstrip().rpartition("\n")[2][-80:]
                return f"it did not come within {seconds:g} s; the last line is '{last}'"
            try:
                data = self._console.read(min(left, 0.5))
            except ConnectionLost as error:
                return str(error)
            if data:
                self._heard(data)
                self._keep(data)

    def _keep(self, data: bytes) -> None:
        self._raw += data
        if len(self._raw) > 2 * _KEPT_BYTES:
            rest = without_ansi(self._raw[:-_KEPT_BYTES]).decode("utf-8", "replace")
            self._raw = self._raw[-_KEPT_BYTES:]
            self._used = max(0, self._used - len(rest))
