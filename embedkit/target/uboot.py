"""A board at its U-Boot prompt: commands with exit codes, the environment, memory, boot.

U-Boot has no checksums for what it prints, so safety is made of what there is: what is typed is
compared with its echo before it is entered; output and exit code stand between marks of their
own; a command that only reads is run again until two answers agree; the exit code is kept in a
variable and asked for until two answers agree.
"""

from __future__ import annotations

import re
import time
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import InputError, TargetError
from embedkit.progress import NullProgress, Progress
from embedkit.target import ymodem
from embedkit.target.address import SerialAddress, parse_address
from embedkit.target.base import (
    Closing,
    CommandFailed,
    CommandTimeout,
    ConnectionLost,
    Result,
    Transfer,
)
from embedkit.target.line import Reader, open_line
from embedkit.target.noise import readings, tail_line, without_ansi
from embedkit.units import format_seconds, format_size

if TYPE_CHECKING:
    from embedkit.target.opening import Access

_CONNECT_SECONDS = 30.0
_COMMAND_SECONDS = 60.0
_BOOT_SECONDS = 30.0
_QUIET_SECONDS = 0.15
_TYPING_TRIES = 20
_AGREE_TRIES = 40
_LINE_BYTES = 255  # CONFIG_SYS_CBSIZE is 256 on many boards
_PROMPT = re.compile(r"^(=>|.*u-?boot ?[>#]|.*=>) ?$", re.IGNORECASE)
_AUTOBOOT = re.compile(
    rb"hit any key to stop autoboot|press .{1,20} to (?:stop|abort)", re.IGNORECASE
)
# Commands that change nothing, so that they can be run again when an answer looks damaged.
_READS_ONLY = re.compile(
    r"\s*(printenv|env (print|exists)|version|bdinfo|help|echo|md(\.[bwlq])?|crc32|cmp(\.[bwlq])?|"
    r"coninfo|clocks|cpu (list|detail)|dm (tree|uclass)|fdt (print|list|header)|gpio (read|status)|"
    r"iminfo|imls|ls|ext4ls|fatls|size|ext4size|fatsize|fatinfo|mmc (info|list|part|dev)|"
    r"mtd list|nand (info|device)|part (list|uuid|start|size)|test|true|false|"
    r"usb (info|tree|storage|part)|itest(\.[bwls])?|lsblk)\b[^;&|]*"
)
# What U-Boot, or whatever follows it, says when a command does not come back.
_GONE = re.compile(
    rb"Starting kernel|Starting application|resetting \.\.\.|U-Boot (SPL |TPL )?20\d\d\.|"
    rb"Booting Linux|Linux version "
)
_POKE = b"e-k"
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,63}")
_ADDRESS = re.compile(r"(0x)?[0-9A-Fa-f]{1,16}")


def open_uboot(
    url: str, access: Access | None = None, *, deadline_seconds: float | None = None
) -> UbootPrompt:
    """The prompt at ``uboot://…``, connected. Raises InputError for another kind of URL."""
    address = parse_address(url)
    if not isinstance(address, SerialAddress) or not address.uboot:
        raise InputError(f"{url} is not a U-Boot prompt", hint="uboot:///dev/ttyUSB0")
    prompt = UbootPrompt(address)
    prompt.connect(deadline_seconds=deadline_seconds)
    return prompt


class UbootPrompt(Closing):
    """A connected prompt; closing it leaves the board where it is."""

    def __init__(self, address: SerialAddress) -> None:
        self._address = address
        self._reader: Reader | None = None
        self._mark = 0

    @property
    def address(self) -> str:
        return self._address.url

    @property
    def name(self) -> str:
        return self._address.name

    def connect(self, *, deadline_seconds: float | None = None) -> None:
        """Finds the prompt, stopping an autoboot that is being counted down.

        With a deadline it waits so long, as for somebody to switch the board on. Raises
        TargetError where no prompt comes.
        """
        ends = time.monotonic() + (deadline_seconds or _CONNECT_SECONDS)
        reader = self._opened(ends, retry=deadline_seconds is not None)
        seen = b""
        nudged = 0.0
        while time.monotonic() < ends:
            now = time.monotonic()
            if now - nudged > 1.0:
                # ^C drops what somebody left half typed. An empty line would not do: U-Boot
                # takes it for "the last command again".
                reader.line.write(b"\x03")
                nudged = now
            reader.more(0.2)
            seen = (seen + bytes(reader.buffer))[-4000:]
            if _AUTOBOOT.search(reader.buffer):
                reader.line.write(b" \x03")
            tail = tail_line(bytes(reader.buffer)).strip()
            if _PROMPT.match(tail) and self._answers(reader):
                self._reader = reader
                return
            if len(reader.buffer) > 4000:
                del reader.buffer[:-1000]
        reader.line.close()
        shown = tail_line(seen).strip()[-60:]
        raise TargetError(
            "no U-Boot prompt answers" + (f"; the last line is '{shown}'" if shown else ""),
            where=self.name,
            hint="reset the board while this waits (--wait 60), or if Linux runs use serial://",
        )

    def _opened(self, ends: float, *, retry: bool) -> Reader:
        while True:
            try:
                return Reader(open_line(self._address))
            except ConnectionLost:
                if not retry or time.monotonic() > ends:
                    raise
                time.sleep(0.5)

    def _answers(self, reader: Reader) -> bool:
        """Whether it is really U-Boot, and not a shell whose prompt looks like it."""
        for _ in range(3):
            reader.drop()
            reader.line.write(b"\x15version\r")
            data = without_ansi(reader.settle(_QUIET_SECONDS, 3.0))
            reader.drop()
            if b"U-Boot" in data:
                return True
        return False

    def run(
        self,
        command: str,
        *,
        timeout: float = _COMMAND_SECONDS,
        check: bool = True,
        repeatable: bool | None = None,
    ) -> Result:
        """Runs one line. ``repeatable``: it may be run again to be sure of its output (None: known
        for commands that only read).

        Raises InputError for a line that U-Boot cannot take, CommandFailed for another exit code
        than 0 unless ``check`` is off, CommandTimeout, TargetError where no answer is whole.
        """
        _check_line(command)
        again = _READS_ONLY.fullmatch(command) is not None if repeatable is None else repeatable
        answer = self._once(command, timeout)
        if again:
            answer = self._agreed(command, timeout, answer)
        result = Result(command, answer.exit_code, answer.output, b"")
        if check and not result.ok:
            raise CommandFailed(result, self.name)
        return result

    def _agreed(self, command: str, timeout: float, answer: _Answer) -> _Answer:
        """Runs a reading command again until two answers that came without messages agree."""
        seen: list[_Answer] = []
        for _ in range(_AGREE_TRIES):
            if answer.pure and answer in seen:
                return answer
            seen.append(answer)
            answer = self._once(command, timeout)
        raise TargetError(
            "no two answers agree: the serial line is too bad, or the answer changes",
            where=self.name,
        )

    def env(self, name: str) -> str | None:
        """A variable of U-Boot's environment, or None."""
        _check_name(name)
        result = self.run(f"printenv {name}", check=False)
        text = result.text
        return text.removeprefix(f"{name}=").rstrip("\n") if text.startswith(f"{name}=") else None

    def set_env(self, name: str, value: str, *, save: bool = False) -> None:
        """Sets a variable (empty: removes it), reads it back, and saves all where asked to.

        Raises TargetError where it does not stick.
        """
        _check_name(name)
        if "'" in value:
            raise InputError("U-Boot cannot take a single quote in a value", where=name)
        self.run(f"setenv {name} '{value}'" if value else f"setenv {name}", repeatable=False)
        if (self.env(name) or "") != value:
            raise TargetError(f"the variable {name} did not take its value", where=self.name)
        if save:
            self.run("saveenv")

    def put(self, source: Path, address: str, *, progress: Progress | None = None) -> Transfer:
        """Loads a file into memory at ``address`` (hexadecimal) by YMODEM; CRC-32 compared.

        Raises TargetError where the transfer breaks (it is cancelled, the prompt comes back) or
        what arrived differs.
        """
        if not _ADDRESS.fullmatch(address):
            raise InputError(f"'{address}' is not an address such as 0x40200000")
        if not source.is_file():
            raise InputError(f"{source} is not a file")
        begun = time.monotonic()
        place = int(address, 16)
        data = source.read_bytes()
        progress = progress or NullProgress()
        if self._address.baud:
            seconds = len(data) * 10 / self._address.baud * 1.05
            progress.say(
                f"{self.name}: {format_size(len(data))} by YMODEM take about "
                f"{format_seconds(seconds)}"
            )
        reader = self._connected()
        self._type(reader, f"loady {place:x}")
        reader.line.write(b"\r")
        task = progress.start(f"{self.name}: {source.name}", total=len(data), unit="bytes")
        try:
            ymodem.send(reader, source.name, data, self.name, task.advance)
        finally:
            task.finish()
        self._settle_prompt(reader)
        expected = f"{zlib.crc32(data):08x}"
        if data:
            found = self.run(f"crc32 {place:x} {len(data):x}").text.strip().rpartition(" ")[2]
            if found != expected:
                raise TargetError(
                    f"what is in memory is not {source.name}: CRC-32 {found} and not {expected}",
                    where=self.name,
                )
        seconds = time.monotonic() - begun
        return Transfer(address, len(data), len(data), seconds, "ymodem", f"crc32:{expected}")

    def boot(self, command: str = "boot", *, timeout: float = _BOOT_SECONDS) -> Result | None:
        """Starts ``command``, after which the line is normally somebody else's: then None.

        A result where it came back to the prompt (no kernel at that address, say). What takes
        longer than ``timeout`` (a kernel from a slow network) is taken to be on its way. Nothing
        is typed meanwhile: it would stop the autoboot that follows a reset.
        """
        _check_line(command)
        reader = self._connected()
        self._mark += 1
        mark = f"{self._mark:x}"
        self._type(reader, f"{command}; ek=$?; echo EK''{mark}E$ek=EK")
        reader.line.write(b"\r")
        back = re.compile(rb"(.*?)EK%bE(\d{1,5})=EK" % mark.encode(), re.DOTALL)
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            reader.more(_QUIET_SECONDS)
            for reading in readings(bytes(reader.buffer)):
                if (match := back.search(reading)) is not None:
                    self._settle_prompt(reader)
                    text = match.group(1).lstrip(b"\n")
                    return Result(command, int(match.group(2)), text, b"")
                if _GONE.search(reading):
                    return None
        return None

    def close(self) -> None:
        if self._reader is not None:
            self._reader.line.close()
            self._reader = None

    def _connected(self) -> Reader:
        if self._reader is None:
            self.connect()
        assert self._reader is not None
        return self._reader

    def _once(self, command: str, timeout: float) -> _Answer:
        reader = self._connected()
        self._mark += 1
        mark = f"{self._mark:x}"
        # Quotes keep the marks out of the echo of this very line.
        self._type(reader, f"echo EK''{mark}B; {command}; ek=$?; echo EK''{mark}E$ek=EK")
        reader.line.write(b"\r")
        whole = re.compile(rb"EK%bB\n(.*?)EK%bE(\d{1,5})=EK" % ((mark.encode(),) * 2), re.DOTALL)
        last = re.compile(rb"EK%bE(\d{1,5})=EK" % mark.encode())
        ends = time.monotonic() + timeout
        while True:
            got = reader.more(_QUIET_SECONDS)
            data = bytes(reader.buffer)
            if b"EK" + mark.encode() + b"E" in data or not got:
                raw, *mended = list(readings(data))
                match = whole.search(raw)
                if match is not None:
                    pure = not mended
                    if mended and (better := whole.search(mended[0])) is not None:
                        match = better
                    return _Answer(int(match.group(2)), match.group(1), pure)
                match = next((found for r in mended if (found := whole.search(r))), None)
                if match is not None:
                    return _Answer(int(match.group(2)), match.group(1), False)
            if not got and (_PROMPT.match(tail_line(data).strip()) or _POKE in data):
                # It ended, and a mark is damaged.
                code = next((m.group(1) for r in readings(data) if (m := last.search(r))), None)
                number = int(code) if code is not None else self._exit_code(reader)
                return _Answer(number, _after(data, b"EK" + mark.encode() + b"B\n"), False)
            if time.monotonic() > ends:
                reader.line.write(b"\x03")
                self._settle_prompt(reader)
                raise CommandTimeout(
                    f"the command did not end within {timeout:g} s", where=self.name
                )
            if not got:
                # The prompt may be damaged too. Only a prompt echoes what is typed, and typing
                # the next line begins with erasing it.
                reader.line.write(b"\x15" + _POKE)

    def _exit_code(self, reader: Reader) -> int:
        """The last command's, as often as it takes: asking changes nothing."""
        for _ in range(_AGREE_TRIES):
            self._type(reader, "echo EK''C$ek=EK")
            reader.line.write(b"\r")
            data = reader.settle(_QUIET_SECONDS, 5.0)
            for reading in readings(data):
                match = re.search(rb"EKC(\d{1,5})=EK", reading)
                if match is not None:
                    return int(match.group(1))
        raise TargetError("the serial line is too bad for an exit code", where=self.name)

    def _type(self, reader: Reader, line: str) -> None:
        """Types ``line``, without the Enter, until its echo shows that it arrived."""
        text = line.encode("ascii")
        for _ in range(_TYPING_TRIES):
            reader.drop()
            reader.line.write(b"\x15" + text)
            ends = time.monotonic() + _QUIET_SECONDS * 4 + len(text) / 200
            while time.monotonic() < ends:
                got = reader.more(_QUIET_SECONDS)
                for reading in readings(bytes(reader.buffer)):
                    if text in reading.replace(b"\n", b""):
                        reader.drop()
                        return
                if not got:
                    break
        raise TargetError("what is typed does not arrive at the U-Boot prompt", where=self.name)

    def _settle_prompt(self, reader: Reader) -> None:
        reader.settle(_QUIET_SECONDS, 5.0)
        reader.drop()


@dataclass(frozen=True)
class _Answer:
    """``pure``: nothing that looks like a message of somebody else came in between."""

    exit_code: int
    output: bytes
    pure: bool


def _after(data: bytes, mark: bytes) -> bytes:
    *_, likeliest = readings(data)
    return likeliest.partition(mark)[2].rpartition(b"\n")[0]


def _check_line(command: str) -> None:
    if not command.strip():
        raise InputError("the command is empty")
    if not command.isascii() or not command.isprintable():
        raise InputError("a U-Boot command is one line of printable ASCII characters")
    if len(command) > _LINE_BYTES - 60:
        raise InputError(
            f"the command has {len(command)} characters, and U-Boot takes {_LINE_BYTES - 60}",
            hint="set parts of it as variables and use them",
        )


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise InputError(f"'{name}' is not a name of a U-Boot variable")
