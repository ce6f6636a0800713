"""A board reached over its serial console."""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Iterable
from typing import Literal

from embedkit.errors import TargetError
from embedkit.target import agent
from embedkit.target.address import SerialAddress
from embedkit.target.base import (
    COMMAND_SECONDS,
    AskSecret,
    Channel,
    Command,
    CommandTimeout,
    ConnectionLost,
    Output,
    Result,
    quote,
    script,
)
from embedkit.target.exchange import Exchange
from embedkit.target.line import Reader, open_line
from embedkit.target.login import LOGIN, Found, log_in
from embedkit.target.noise import readings, tail_line
from embedkit.target.shell import ShellTarget

LOGIN_SECONDS = 20.0
_TYPING_TRIES = 6
_STARTING_TRIES = 3
_HELLO_SECONDS = 15.0
_POLL_SECONDS = 0.5
# A board that starts and has no login says nothing for so long at most.
_BOOT_QUIET_SECONDS = 20.0
# A line of 115200 baud is assumed where a network line does not tell, for waiting only.
_ASSUMED_BAUD = 115200


class SerialTarget(ShellTarget):
    """``serial://`` and its kin: a login or a shell on a serial line.

    Commands, their output and their exit codes travel in checksummed frames, so kernel messages
    in between damage nothing. It is slow: see ``estimate_seconds``. ``url`` and ``name`` are what
    the target is called where that is not its address.
    """

    carries_binary: Literal[False] = False

    def __init__(
        self,
        address: SerialAddress,
        *,
        ask: AskSecret | None = None,
        url: str = "",
        name: str = "",
    ) -> None:
        super().__init__(url or address.url, name or address.name)
        self._serial = address
        self._ask = ask
        self._reader: Reader | None = None
        self._exchange: Exchange | None = None

    def connect(self, *, deadline_seconds: float | None = None) -> None:
        if self._exchange is not None:
            return
        ends = time.monotonic() + (deadline_seconds or LOGIN_SECONDS)
        while True:
            try:
                self._connect_once(max(1.0, ends - time.monotonic()))
                return
            except ConnectionLost:
                self._drop()
                if deadline_seconds is None or time.monotonic() > ends:
                    raise
                time.sleep(0.5)
            except BaseException:
                self._drop()
                raise

    def _connect_once(self, timeout: float) -> None:
        self._reader = Reader(open_line(self._serial))
        user = self._serial.user or "root"
        found = log_in(self._reader, self.name, user=user, ask=self._ask, timeout=timeout)
        if found is Found.UBOOT:
            raise TargetError(
                "the board is at its U-Boot prompt",
                where=self.name,
                hint=f"use {self._serial.url.replace('serial', 'uboot', 1)} to talk to it, or "
                "boot it",
            )
        if found is Found.AGENT:
            # Left by a run that was ended: away with it, as its sequence numbers are not ours.
            self._end_agent(self._reader)
        baud = self._serial.baud or _ASSUMED_BAUD
        for attempt in range(_STARTING_TRIES):
            self._type_agent(self._reader)
            exchange = Exchange(self._reader, self.name, 10 / baud)
            try:
                exchange.hello(_HELLO_SECONDS)
                break
            except CommandTimeout:
                if attempt + 1 == _STARTING_TRIES:
                    raise
                # The line that starts it may have lost a byte, and left a quote open.
                self._reader.line.write(b"\x03")
                self._end_agent(self._reader)
        self._exchange = exchange

    def _end_agent(self, reader: Reader) -> None:
        reader.line.write(b"\n:e\n")
        reader.settle(0.4, 3.0)
        reader.drop()

    def _type_agent(self, reader: Reader) -> None:
        for _ in range(_TYPING_TRIES):
            for line in agent.typed_lines():
                reader.line.write(line.encode() + b"\r")
                # The echo shows that the shell reads; a slow board is not overrun.
                reader.settle(0.05, 3.0)
            for _ in range(4):
                reader.drop()
                reader.line.write(agent.check_line().encode() + b"\r")
                answer = reader.settle(0.4, 8.0)
                shown = list(readings(answer))
                if any(known in r for r in shown for known in agent.checksums()):
                    reader.drop()
                    reader.line.write(agent.START_LINE.encode() + b"\r")
                    return
                if any(b"~K" in r and b"K~" in r for r in shown):
                    break  # it did answer, and what was typed is not what arrived
        raise TargetError(
            "the shell on the serial line does not take what is typed",
            where=self.name,
            hint="is the baud rate right? 'embedkit console' shows what it says",
        )

    def run(
        self,
        command: Command,
        *,
        input: bytes | None = None,
        timeout: float | None = COMMAND_SECONDS,
        check: bool = True,
    ) -> Result:
        text = script(command)
        if self._exchange is None:
            self.connect()
        assert self._exchange is not None
        try:
            answer = self._exchange.run(text.encode(), input or b"", timeout)
        except ConnectionLost:
            self._drop()
            raise
        return self._ended(Result(text, answer.exit_code, answer.stdout, answer.stderr), check)

    def stream(
        self,
        command: Command,
        *,
        input: Iterable[bytes] | None = None,
        output: Output | None = None,
        timeout: float | None = None,
    ) -> int:
        text = script(command)
        if input is not None:
            result = self.run(text, input=b"".join(input), timeout=timeout, check=False)
            _hand_out(result.stdout, result.stderr, output)
            return result.exit_code
        return self._follow(text, output, timeout)

    def _follow(self, text: str, output: Output | None, timeout: float | None) -> int:
        """In the background, its output in files that are read while they grow."""
        started = self.run(
            "d=$(mktemp -d 2>/dev/null) || { d=/tmp/.embedkit.s$$; mkdir $d || exit; }; "
            f"{{ sh -c {quote(text)} >$d/o 2>$d/e </dev/null; echo $? >$d/r; }} & "
            "echo $! $d"
        )
        process, _, folder = started.text.strip().partition(" ")
        where = quote(folder)
        ends = None if timeout is None else time.monotonic() + timeout
        done = [0, 0]
        try:
            while True:
                # The exit code is asked for first: after it nothing more is written.
                code = self.run(f"cat {where}/r 2>/dev/null; :").text.strip()
                for index, (file, channel) in enumerate(
                    (("o", Channel.STDOUT), ("e", Channel.STDERR))
                ):
                    data = self.run(f"tail -c +{done[index] + 1} {where}/{file}").stdout
                    done[index] += len(data)
                    if data and output is not None:
                        output(channel, data)
                if code:
                    return int(code)
                if ends is not None and time.monotonic() > ends:
                    raise TargetError(
                        f"the command did not end within {timeout:g} s", where=self.name
                    )
                time.sleep(_POLL_SECONDS)
        finally:
            if self._exchange is not None:
                with contextlib.suppress(TargetError):
                    self.run(f"kill {process} 2>/dev/null; rm -rf {where}")

    def estimate_seconds(self, size: int, sample: bytes) -> float | None:
        """How long ``size`` bytes like ``sample`` take; None where the speed is not known."""
        ratio = len(zlib.compress(sample, 9)) / len(sample) if sample else 1.0
        packed = size * min(ratio, 1.0) if "gunzip" in self.tools() else size
        if self._serial.baud is not None:
            # Ten bits a byte on the line; base64 and line ends make 4/3 and a little of it, the
            # answers to the blocks cost a tenth.
            return packed * 10 / self._serial.baud * 1.36 * 1.1
        rate = self._exchange.rate if self._exchange is not None else None
        return packed / rate if rate else None

    @property
    def repeated(self) -> int:
        """How many times something had to be said again on this connection."""
        return self._exchange.repeated if self._exchange is not None else 0

    def reconnect(self, *, deadline_seconds: float = 60.0) -> None:
        self._drop()
        self.connect(deadline_seconds=deadline_seconds)

    def _come_back(self, seconds: float) -> None:
        """Says nothing while the board starts: a key that it hears stops U-Boot at its prompt,
        and QEMU's PL011 hears nothing more once its buffer was full before Linux looked."""
        self._drop()
        ends = time.monotonic() + seconds
        reader = Reader(open_line(self._serial))
        try:
            quiet_since = time.monotonic()
            while (now := time.monotonic()) < ends and now - quiet_since < _BOOT_QUIET_SECONDS:
                if reader.more(_POLL_SECONDS):
                    quiet_since = time.monotonic()
                elif LOGIN.search(tail_line(bytes(reader.buffer))):
                    break
        finally:
            reader.line.close()
        self.reconnect(deadline_seconds=max(1.0, ends - time.monotonic()))

    def close(self) -> None:
        """Leaves the board's console as it was: the agent ends, the shell stays logged in."""
        if self._exchange is not None:
            with contextlib.suppress(TargetError):
                self._exchange.end()
        self._drop()

    def _drop(self) -> None:
        self._exchange = None
        if self._reader is not None:
            self._reader.line.close()
            self._reader = None


def _hand_out(stdout: bytes, stderr: bytes, output: Output | None) -> None:
    if output is not None:
        for channel, data in ((Channel.STDOUT, stdout), (Channel.STDERR, stderr)):
            if data:
                output(channel, data)
