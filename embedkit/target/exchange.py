"""Our side of the framed exchange with a board's serial shell (see :mod:`embedkit.target.agent`).

Nothing is believed without its checksum: what we send is compared there before it is used, what
comes back is compared here, and either is repeated until it is right. A command runs at most
once, however often its answer has to be asked for again.
"""

from __future__ import annotations

import base64
import binascii
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass

from embedkit.errors import TargetError
from embedkit.target.base import CommandTimeout
from embedkit.target.digest import Digester
from embedkit.target.line import Reader
from embedkit.target.noise import readings

# Blocks that are checked as one, at first and where the line is bad: small enough that a line with
# an error in 50,000 bytes gets most of them through at once.
_BLOCK_BYTES = 3072
# What they grow to on a line that damages none: the answers cost next to nothing then.
_LARGEST_BLOCK_BYTES = 24 << 10
_LINE_CHARACTERS = 480  # BusyBox's and the kernel's line buffers hold 1,023 and 4,095
_TRIES = 40
_QUIET_SECONDS = 0.25
_ASK_AGAIN_SECONDS = 2.0
_STOP_SECONDS = 5.0


@dataclass(frozen=True)
class Answer:
    """What a command did, from its own checksummed record."""

    exit_code: int
    stdout: bytes
    stderr: bytes


@dataclass(frozen=True)
class _Frame:
    sequence: int
    payload: bytes


class Exchange:
    """Talks to a running agent over ``reader``; ``byte_seconds`` is how long one byte takes."""

    def __init__(self, reader: Reader, name: str, byte_seconds: float) -> None:
        self._reader = reader
        self._name = name
        self._byte_seconds = byte_seconds
        self._sequence = 0
        self._sum = Digester("cksum")
        self._block_bytes = _BLOCK_BYTES
        self.repeated = 0  # how many times something had to be said again
        self.rate: float | None = None  # bytes a second that blocks went up with, lately

    def hello(self, timeout: float) -> None:
        """Waits for the agent's greeting, which names its programs.

        Raises TargetError where it does not come, or where the board lacks what it takes.
        """
        frame = self._ask(b":q 0 0", 0, timeout)
        words = frame.payload.decode("ascii", "replace").split()
        if len(words) != 4 or words[0] != "h":
            raise TargetError("the shell on the serial line gave no greeting", where=self._name)
        if words[2] == "none" or words[3] == "none":
            raise TargetError(
                "the board has no program for checksums (cksum, md5sum) or for base64 "
                "(base64, uuencode, openssl), so nothing said over its serial line can be checked",
                where=self._name,
                hint="'embedkit console' works there all the same",
            )
        self._sum = Digester(words[2])
        # Begin far from what an earlier session may have used.
        self._sequence = 1

    def run(self, script: bytes, input: bytes, timeout: float | None) -> Answer:
        """Runs ``script`` with ``input``. Raises CommandTimeout after it was told to stop."""
        self._append("i", input)
        # The last block travels with the order to run it all.
        rest = len(script) - _BLOCK_BYTES
        self._append("c", script[: max(rest, 0)])
        lines = self._execute(script[max(rest, 0) :], timeout)
        match = _STATUS.fullmatch(lines[0].strip())
        if match is None:
            raise TargetError("the board's answer to a command makes no sense", where=self._name)
        code, out_sum, out_size, err_sum, err_size = (word.decode() for word in match.groups())
        sizes = int(out_size), int(err_size)
        if sum(sizes) <= 2048:
            return Answer(int(code), lines[1][: sizes[0]], lines[1][sizes[0] :])
        stdout = self._fetch("o", sizes[0], out_sum)
        stderr = self._fetch("e", sizes[1], err_sum)
        return Answer(int(code), stdout, stderr)

    def end(self) -> None:
        """Tells the agent to clean up and leave."""
        self._reader.line.write(b"\n:e\n")
        self._reader.settle(0.2, 2.0)
        self._reader.drop()

    def _append(self, file: str, data: bytes) -> None:
        """Adds ``data`` to a file of the agent, in blocks of a size that suits the line."""
        while data:
            begun = time.monotonic()
            size = min(self._block_bytes, len(data))
            if self._checked(f"{file} ", data[:size]):
                self.rate = size / max(time.monotonic() - begun, 1e-6)
                data = data[size:]
                self._block_bytes = min(self._block_bytes * 2, _LARGEST_BLOCK_BYTES)
            else:
                self._block_bytes = _BLOCK_BYTES

    def _checked(self, words: str, block: bytes) -> bool:
        """Sends a block until the board says that it arrived right.

        False: it did not at once, and is large enough to be worth cutting up.
        """
        for _ in range(_TRIES):
            self._sequence += 1
            number = self._sequence
            digest = self._written_sum(block)
            line = f":a {number} {words}{digest} {number}".encode()
            frame = self._ask(line, number, None, before=_gathered(block))
            if frame.payload.partition(b"\n")[0] == line:
                return True
            self.repeated += 1
            if len(block) > _BLOCK_BYTES:
                return False
        raise TargetError("the serial line is too bad: nothing gets through", where=self._name)

    def _execute(self, block: bytes, timeout: float | None) -> tuple[bytes, bytes]:
        for _ in range(_TRIES):
            self._sequence += 1
            number = self._sequence
            line = f":x {number} {self._written_sum(block)} {number}".encode()
            try:
                frame = self._ask(line, number, timeout, before=_gathered(block))
            except CommandTimeout:
                self._stop(number)
                raise
            first, _, rest = frame.payload.partition(b"\n")
            if first == line:
                status, _, output = rest.partition(b"\n")
                return status, output
            self.repeated += 1
        raise TargetError("the serial line is too bad: no command gets through", where=self._name)

    def _stop(self, number: int) -> None:
        """The interrupt character, then quit; the agent survives both and answers."""
        for character in (b"\x03", b"\x1c"):
            self._reader.line.write(character)
            try:
                self._ask(f":q {number} {number}".encode(), number, _STOP_SECONDS)
                return
            except CommandTimeout:
                continue

    def _fetch(self, file: str, size: int, digest: str) -> bytes:
        data = bytearray()
        while len(data) < size:
            index, rest = divmod(len(data), _BLOCK_BYTES)
            assert rest == 0
            self._sequence += 1
            number = self._sequence
            line = f":g {number} {file} {index} {_BLOCK_BYTES} {number}".encode()
            frame = self._ask(line, number, None)
            first, _, block = frame.payload.partition(b"\n")
            if first != line or not block:
                raise TargetError("the output of a command was lost", where=self._name)
            data += block
        if self._written_sum(bytes(data)) != digest:
            raise TargetError("the output of a command changed on the way", where=self._name)
        return bytes(data)

    def _written_sum(self, data: bytes) -> str:
        """As the board's program prints it."""
        digest = self._sum.of_bytes(data)
        return str(int(digest, 16)) if self._sum.program == "cksum" else digest

    def _ask(
        self, line: bytes, number: int, timeout: float | None, *, before: bytes = b""
    ) -> _Frame:
        """Sends ``line`` and returns the frame that answers it, asking again while none is whole.

        ``timeout`` is for the command itself; None: as long as it takes.
        """
        self._reader.drop()
        message = before + line + b"\n"
        self._reader.line.write(message)
        again = f"\n:q {number} {number}\n".encode()
        now = time.monotonic()
        # What is written sits in buffers: the line itself takes its time.
        asked = now + len(message) * self._byte_seconds
        ends = None if timeout is None else asked + timeout
        wait = _ASK_AGAIN_SECONDS
        started = False
        while True:
            got = self._reader.more(_QUIET_SECONDS)
            now = time.monotonic()
            data = bytes(self._reader.buffer)
            frame = self._find(data, number)
            if frame is not None:
                if frame.payload != b"none\n":
                    return frame
                # The board never saw it: all of it once more.
                self._reader.drop()
                self.repeated += 1
                self._reader.line.write(b"\n=\n" + message)
                asked = now + len(message) * self._byte_seconds
                continue
            if ends is not None and now > ends:
                raise CommandTimeout(
                    f"the command did not end within {timeout:g} s", where=self._name
                )
            started = started or f"~<{number}".encode() in data
            # An answer was there and is damaged, or nothing was heard for long.
            damaged = not got and (b"}~" in data or b"~{" in data)
            if damaged or now - asked > wait:
                self._reader.drop()
                self.repeated += 1
                self._reader.line.write(again)
                asked = now
                wait = min(wait * (2 if started else 1.3), 30.0)
                if damaged:
                    wait = _ASK_AGAIN_SECONDS

    def _find(self, data: bytes, number: int) -> _Frame | None:
        if b"}~" not in data:
            return None
        for reading in readings(data):
            for frame in self._frames(reading):
                if frame.sequence == number:
                    return frame
        return None

    def _frames(self, text: bytes) -> Iterator[_Frame]:
        for match in _FRAME.finditer(text):
            # The greeting names the checksum program, so before it is known all are tried.
            payload = _decoded(match.group(3))
            if payload is not None and match.group(2).decode() in self._sums(payload):
                yield _Frame(int(match.group(1)), payload)

    def _sums(self, payload: bytes) -> set[str]:
        if self._sequence:
            return {self._written_sum(payload)}
        hashes = {Digester(p).of_bytes(payload) for p in ("md5sum", "sha1sum", "sha256sum")}
        return {*hashes, self._written_sum(payload)}


# Exit code, then checksum and size of standard output and of standard error.
_STATUS = re.compile(rb"(\d{1,3}) +(\w{1,64}) +(\d{1,15}) +(\w{1,64}) +(\d{1,15})")
_FRAME = re.compile(rb"~\{(\d{1,9}) ([0-9a-f]{1,64})\n(.*?)\n?\}~\1(?!\d)", re.DOTALL)


def _decoded(lines: bytes) -> bytes | None:
    kept = [
        line
        for line in lines.split(b"\n")
        if not line.startswith(b"begin-base64 ") and line.strip() != b"===="
    ]
    try:
        return base64.b64decode(b"".join(kept), validate=True)
    except binascii.Error:
        return None


def _gathered(block: bytes) -> bytes:
    """A block as the lines that the agent gathers, after a line that forgets earlier ones."""
    text = base64.b64encode(block).decode()
    lines = ["="]
    lines += [
        f"+{text[index : index + _LINE_CHARACTERS]}"
        for index in range(0, len(text), _LINE_CHARACTERS)
    ]
    return ("\n".join(lines) + "\n").encode()
