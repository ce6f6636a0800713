"""The parts of the serial exchange: what noise is taken away, frames, YMODEM, the agent."""

from __future__ import annotations

import binascii
import os
import pty
import subprocess
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.console import MESSAGES, Badness, Bridge

from embedkit.errors import TargetError
from embedkit.target import agent, ymodem
from embedkit.target.base import ConnectionLost
from embedkit.target.exchange import Exchange
from embedkit.target.line import Reader, SocketLine
from embedkit.target.noise import readings, tail_line, without_ansi

TEXT = st.binary(max_size=200).map(lambda data: binascii.hexlify(data))


@given(TEXT, st.data(), st.integers(0, 3))
def test_a_kernel_message_anywhere_is_taken_away(
    text: bytes, data: st.DataObject, kind: int
) -> None:
    place = data.draw(st.integers(0, len(text)))
    message = MESSAGES[kind] % (12, 345678)
    noisy = text[:place] + message + text[place:]
    assert text in [reading.replace(b"\n", b"") for reading in readings(noisy)]


@given(st.binary(max_size=300))
def test_any_noise_can_be_read(data: bytes) -> None:
    assert next(readings(data)) == without_ansi(data)
    tail_line(data)


def test_prompts_behind_colours_and_messages() -> None:
    assert tail_line(b"\x1b[01;32mroot@board\x1b[00m:/# ") == "root@board:/# "
    assert tail_line(b"login: [   12.345678] usb: new device\r\n") == "login: "


@given(st.integers(0, 1000), st.binary(max_size=1024))
def test_ymodem_frames_are_whole(number: int, data: bytes) -> None:
    frame = ymodem.frame(number, data)
    assert len(frame) in (128 + 5, 1024 + 5)
    assert frame[1] ^ frame[2] == 0xFF
    body = frame[3:-2]
    assert body.startswith(data)
    assert binascii.crc_hqx(body + frame[-2:], 0) == 0


class Receiver:
    """The other end of YMODEM, in memory; a Line. It refuses every ``refuse``-th frame once."""

    def __init__(self, refuse: int = 0, cancel_after: int = 10**9) -> None:
        self.name = b""
        self.size = 0
        self.content = b""
        self._out = b"C"
        self._expected = 0
        self._seen = 0
        self._refuse = refuse
        self._cancel_after = cancel_after
        self.cancelled = False
        self._ended = False

    def read(self, timeout: float) -> bytes:
        data, self._out = self._out, b""
        return data

    def write(self, data: bytes) -> None:
        if data[:1] == b"\x18":
            self.cancelled = True
        elif data[:1] == b"\x04":
            self._out, self._ended = b"\x06C", True
        elif self._ended:
            assert data[3:131] == bytes(128)
            self._out = b"\x06"
        else:
            self._frame(data)

    def _frame(self, data: bytes) -> None:
        self._seen += 1
        if self._seen > self._cancel_after:
            self._out = b"\x18\x18"
            return
        if self._refuse and self._seen % self._refuse == 0:
            self._out = b"some text\x15"
            return
        assert binascii.crc_hqx(data[3:], 0) == 0
        assert data[1] == self._expected & 0xFF
        if self._expected == 0:
            self.name, _, rest = data[3:-2].partition(b"\0")
            self.size = int(rest.split(b" ")[0])
            self._out = b"\x06C"
        else:
            self.content = (self.content + data[3:-2])[: self.size]
            self._out = b"\x06"
        self._expected += 1

    def send_break(self) -> None: ...

    def close(self) -> None: ...


@given(st.binary(max_size=5000), st.sampled_from((0, 2, 3)))
@settings(max_examples=30, deadline=None)
def test_ymodem_brings_it_all(content: bytes, refuse: int) -> None:
    receiver = Receiver(refuse)
    moved: list[int] = []
    ymodem.send(Reader(receiver), "file.bin", content, "test", moved.append)
    assert receiver.content == content and receiver.name == b"file.bin"
    assert sum(moved) == len(content)


def test_a_cancelled_ymodem_leaves_the_prompt_alone() -> None:
    receiver = Receiver(cancel_after=2)
    with pytest.raises(TargetError, match="cancelled"):
        ymodem.send(Reader(receiver), "x", bytes(9000), "test", lambda size: None)
    assert receiver.cancelled


@pytest.mark.parametrize("shell", [["sh"], ["bash"], ["busybox", "sh"]])
def test_what_is_typed_is_the_agent(shell: list[str]) -> None:
    lines = agent.typed_lines()
    assert max(map(len, lines)) < 255
    typed = "\n".join([*lines, agent.check_line(), 'printf "$EK" | cat', ""]).encode()
    try:
        ended = subprocess.run(shell, input=typed, capture_output=True, check=True)
    except FileNotFoundError:
        pytest.skip(f"there is no {shell[0]}")
    shown, _, text = ended.stdout.partition(b"\n")
    assert shown in agent.checksums()
    assert text.decode() == agent.text()


@pytest.fixture
def running_agent() -> Iterator[int]:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        ["setsid", "-c", "sh", "-c", agent.text()], stdin=slave, stdout=slave, stderr=slave
    )
    os.close(slave)
    yield master
    process.kill()
    process.wait()
    os.close(master)


@pytest.mark.parametrize("bad", [Badness(), Badness(noise=0.15, loss=2e-4, seed=2)])
def test_an_exchange_with_a_running_agent(running_agent: int, bad: Badness) -> None:
    import socket

    bridge = Bridge(running_agent, bad)
    line = SocketLine(socket.create_connection(("127.0.0.1", bridge.port)), "test")
    try:
        exchange = Exchange(Reader(line), "test", 0.0)
        exchange.hello(10)
        for code in range(8):
            asked = f"cat; seq {code * 200}; exit {code}".encode()
            answer = exchange.run(asked, bytes(range(256)) * code, 30)
            expected = "".join(f"{number}\n" for number in range(1, code * 200 + 1))
            assert answer.exit_code == code and answer.stderr == b""
            assert answer.stdout == bytes(range(256)) * code + expected.encode()
        exchange.end()
    finally:
        line.close()
        bridge.close()


def test_a_line_that_ends_is_lost() -> None:
    import socket

    ours, theirs = socket.socketpair()
    theirs.close()
    with pytest.raises(ConnectionLost):
        SocketLine(ours, "test").read(1)
