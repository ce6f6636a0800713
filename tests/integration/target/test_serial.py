"""A real getty and BusyBox on a pty, reached over every kind of serial line, good and bad."""

from __future__ import annotations

import contextlib
import hashlib
import os
import pty
import random
import subprocess
import sysconfig
import threading
import time
import tty
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.console import Badness, Bridge, getty

from embedkit.errors import LackError, TargetError
from embedkit.progress import NullProgress, Unit
from embedkit.target.base import AuthenticationFailed, Channel, CommandTimeout, Target
from embedkit.target.opening import Access, open_target
from embedkit.target.serial import SerialTarget
from embedkit.target.source import Source

pytestmark = pytest.mark.needs("root", "program:busybox", "program:unshare")


@pytest.fixture(scope="module")
def line(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    with getty(tmp_path_factory.mktemp("serial") / "root") as master:
        yield master


@contextlib.contextmanager
def bridged(fd: int, badness: Badness | None = None) -> Iterator[Bridge]:
    bridge = Bridge(fd, badness)
    try:
        yield bridge
    finally:
        bridge.close()


def commands(target: Target, count: int, seed: int) -> None:
    """Commands with all kinds of output; each must come back whole, with its own exit code."""
    source = random.Random(seed)
    for number in range(count):
        code = source.randrange(256)
        words = "".join(source.choice("abc \\%$'\"\t[];~{}") for _ in range(source.randrange(60)))
        lines = source.randrange(30)
        result = target.run(
            f"printf '%s\\n' \"$1\" >&2; seq {lines}; exit {code}"
            if number % 2
            else f"seq {lines}; (exit {code})",
            check=False,
        )
        assert result.exit_code == code
        assert result.text == "".join(f"{value + 1}\n" for value in range(lines))
        echoed = target.run(["printf", "%s", words])
        assert echoed.text == words


def test_two_hundred_commands_among_kernel_messages(line: int) -> None:
    with bridged(line, Badness(noise=0.15, seed=7)) as bridge, open_target(bridge.url) as target:
        commands(target, 100, seed=7)  # two commands each
        assert bridge.injected > 40, "the line was not as bad as it should be"


def test_commands_over_a_line_that_loses_bytes(line: int) -> None:
    bad = Badness(noise=0.05, loss=2e-4, seed=3)
    with bridged(line, bad) as bridge, open_target(bridge.url) as target:
        commands(target, 15, seed=3)


def test_a_command_runs_once_however_bad_the_line(line: int) -> None:
    bad = Badness(noise=0.3, loss=2e-4, seed=11)
    with bridged(line, bad) as bridge, open_target(bridge.url) as target:
        target.run("rm -f /tmp/count")
        for number in range(40):
            target.run(f"echo {number} >>/tmp/count")
        assert target.run("cat /tmp/count; rm /tmp/count").text.split() == [
            str(number) for number in range(40)
        ]


def test_a_megabyte_at_115200_baud_with_its_estimate(line: int, tmp_path: Path) -> None:
    """Tables shrink to a sixth; the time that was told must be near what it took."""
    library = Path(sysconfig.get_path("stdlib"))
    tables = sorted(library.glob("encodings/*.py"))
    content = b"".join(path.read_bytes() for path in tables)[: 1 << 20]
    assert len(content) == 1 << 20
    said: list[str] = []

    class Listening(NullProgress):
        def say(self, message: str) -> None:
            said.append(message)

    bad = Badness(baud=115200, noise=0.05, loss=1e-5, seed=5)
    with bridged(line, bad) as bridge, open_target(f"{bridge.url}?baud=115200") as target:
        done = target.put(content, "/tmp/megabyte", progress=Listening())
        assert target.run("sha256sum </tmp/megabyte").text.split()[0] == done.digest[7:]
        assert isinstance(target, SerialTarget)
        estimate = target.estimate_seconds(len(content), content)
        assert "over the serial line take about" in said[0]
        # A busy machine answers late, and the line is never faster than it is.
        assert estimate is not None and 0.5 < done.seconds / estimate < 4
        target.run("head -c 50000 /tmp/megabyte >/tmp/part")
        target.get("/tmp/part", tmp_path / "part")
        assert (tmp_path / "part").read_bytes() == content[:50000]


class CuttingTask:
    """Drops the line a moment after the transfer came past each of five random places."""

    def __init__(self, bridge: Bridge, size: int, seed: int) -> None:
        self._source = random.Random(seed)
        self._bridge = bridge
        self._places = sorted(self._source.randrange(size // 20, size) for _ in range(5))
        self._reached = 0
        self.cuts = 0

    def advance(self, amount: int) -> None:
        self._reached += amount
        if self._places and self._reached >= self._places[0]:
            self._places.pop(0)
            self.cuts += 1
            threading.Timer(self._source.random() / 2, self._bridge.cut).start()

    def finish(self) -> None:
        pass


class Cutting(NullProgress):
    def __init__(self, task: CuttingTask) -> None:
        self._task = task

    def start(self, title: str, *, total: int | None = None, unit: Unit = "steps") -> CuttingTask:
        return self._task


def image() -> bytes:
    """50 MB as a card's image has them: programs here and there, and much that is empty."""
    source = random.Random(9)
    parts = []
    for number in range(50):
        some = source.randbytes(20_000) + b"text of file %d " % number * 5000
        parts.append(some.ljust(1 << 20, b"\0"))
    return b"".join(parts)


def test_fifty_megabytes_both_ways_through_five_cuts(line: int, tmp_path: Path) -> None:
    content = image()
    wanted = hashlib.sha256(content).hexdigest()
    with bridged(line, Badness(noise=0.02, seed=9)) as bridge, open_target(bridge.url) as target:
        cutting = CuttingTask(bridge, len(content), seed=1)
        done = target.put(content, "/tmp/cut file", progress=Cutting(cutting))
        assert cutting.cuts == 5 and 1 <= done.interruptions <= 5
        assert done.digest == f"sha256:{wanted}"
        assert target.run("sha256sum <'/tmp/cut file'").text.split()[0] == wanted
        assert ".part" not in target.run("ls -a /tmp").text
        cutting = CuttingTask(bridge, len(content), seed=2)
        back = target.get("/tmp/cut file", tmp_path / "back", progress=Cutting(cutting))
        assert cutting.cuts == 5 and 1 <= back.interruptions <= 5
        assert hashlib.sha256((tmp_path / "back").read_bytes()).hexdigest() == wanted
        target.run("rm '/tmp/cut file'")


def test_one_wrong_byte_is_never_called_success(
    line: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = random.Random(3).randbytes(100_000)
    with bridged(line) as bridge, open_target(bridge.url) as target:
        target.run("echo old >/tmp/one")
        original = Source.pieces

        def damaged(self: Source, start: int, end: int | None = None) -> Iterator[bytes]:
            for number, piece in enumerate(original(self, start, end)):
                yield piece if number else bytes((piece[0] ^ 1,)) + piece[1:]

        monkeypatch.setattr(Source, "pieces", damaged)
        with pytest.raises(TargetError, match="not what was sent"):
            target.put(content, "/tmp/one")
        monkeypatch.undo()
        assert target.run("cat /tmp/one; ls -A /tmp | grep one").text == "old\none\n"


def test_output_that_is_followed_and_commands_that_are_stopped(line: int) -> None:
    with bridged(line) as bridge, open_target(bridge.url) as target:
        heard: list[tuple[Channel, bytes]] = []
        code = target.stream(
            "echo one; echo bad >&2; sleep 2; echo two; exit 6",
            output=lambda channel, data: heard.append((channel, data)),
        )
        assert code == 6
        stdout = [data for channel, data in heard if channel is Channel.STDOUT]
        assert b"".join(stdout) == b"one\ntwo\n" and len(stdout) == 2
        assert (Channel.STDERR, b"bad\n") in heard
        with pytest.raises(CommandTimeout):
            target.run("sleep 100", timeout=1)
        assert target.run("ps | grep -c '[s]leep 100'", check=False).text == "0\n"
        big = target.run("seq 20000").text
        assert big == "".join(f"{value}\n" for value in range(1, 20001))
        data = bytes(range(256)) * 40
        assert target.run("cat", input=data).stdout == data


def test_the_console_is_left_as_it_was(line: int) -> None:
    """The agent is gone, echo is on, and the shell that was logged in still is."""
    with bridged(line) as bridge:
        with open_target(bridge.url) as target:
            target.run("cd /; export left=behind")
        with open_target(bridge.url) as target:
            assert target.run("ls -d /tmp/.embedkit.*").text.count("\n") == 1
            assert "-echo " not in target.run("stty -a </dev/console", check=False).text


def test_every_kind_of_line(line: int, tmp_path: Path) -> None:
    with bridged(line) as bridge:
        socat = [
            ["socat", f"unix-listen:{tmp_path}/line,fork", f"tcp:127.0.0.1:{bridge.port}"],
        ]
        running = [subprocess.Popen(argv, start_new_session=True) for argv in socat]
        try:
            _wait_for(tmp_path / "line")
            with open_target(f"serial+unix://{tmp_path}/line") as target:
                assert target.run("echo unix").text == "unix\n"
            with device(bridge.port) as path, open_target(f"serial://{path}?baud=115200") as target:
                assert target.run("echo device").text == "device\n"
                second = open_target(f"serial://{path}")
                with pytest.raises(LackError, match="cannot be opened"):
                    second.connect()
            with (
                device(bridge.port) as path,
                rfc2217(path) as port,
                open_target(f"serial+rfc2217://127.0.0.1:{port}?baud=115200") as target,
            ):
                assert target.run("echo rfc2217").text == "rfc2217\n"
                assert target.run("seq 2000").text.count("\n") == 2000
        finally:
            for process in running:
                process.terminate()
                process.wait()


test_every_kind_of_line = pytest.mark.needs("program:socat")(test_every_kind_of_line)


def _wait_for(path: Path) -> None:
    ends = time.monotonic() + 30
    while not path.exists():
        assert time.monotonic() < ends, f"{path} does not appear"
        time.sleep(0.05)


@contextlib.contextmanager
def device(port: int) -> Iterator[str]:
    """A terminal device whose other end is a TCP port: what a USB adapter is."""
    import socket

    master, slave = pty.openpty()
    tty.setraw(slave)
    remote = socket.create_connection(("127.0.0.1", port))
    stop = threading.Event()

    def carry(read: int, write: int) -> None:
        import select

        while not stop.is_set():
            if select.select([read], [], [], 0.1)[0]:
                data = os.read(read, 4096)
                if not data:
                    return
                os.write(write, data)

    pairs = ((master, remote.fileno()), (remote.fileno(), master))
    threads = [threading.Thread(target=carry, args=pair, daemon=True) for pair in pairs]
    for thread in threads:
        thread.start()
    try:
        yield os.ttyname(slave)
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        remote.close()
        os.close(master)
        os.close(slave)


@contextlib.contextmanager
def rfc2217(path: str) -> Iterator[int]:
    """pyserial's own server side of RFC 2217 before a device."""
    import socket

    import serial
    import serial.rfc2217

    class Pty(serial.Serial):
        """A pty has no modem lines to ask for."""

        cts = dsr = cd = ri = dtr = rts = True

    port = Pty(path, timeout=0.05)
    listener = socket.create_server(("127.0.0.1", 0))
    stop = threading.Event()

    def serve() -> None:
        client, _ = listener.accept()
        client.settimeout(0.05)

        class Writer:
            def write(self, data: bytes) -> None:
                client.sendall(data)

        manager = serial.rfc2217.PortManager(port, Writer())
        while not stop.is_set():
            data = port.read(port.in_waiting or 1)
            if data:
                client.sendall(b"".join(manager.escape(data)))
            with contextlib.suppress(TimeoutError):
                received = client.recv(1024)
                if not received:
                    break
                port.write(b"".join(manager.filter(received)))
        client.close()

    server = threading.Thread(target=serve, daemon=True)
    server.start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        stop.set()
        server.join(3)
        listener.close()
        port.close()


def test_a_login_with_a_password(tmp_path: Path) -> None:
    secret = "s3cret word"
    hashed = subprocess.run(
        ["busybox", "mkpasswd", "-m", "sha512", secret], capture_output=True, text=True, check=True
    ).stdout.strip()
    with getty(tmp_path / "root", password_hash=hashed) as master, bridged(master) as bridge:
        with pytest.raises(AuthenticationFailed) as refused:
            open_target(bridge.url, Access(ask=lambda what: "wrong")).connect()
        assert "EMBEDKIT_PASSWORD" in str(refused.value.hint)
        with open_target(bridge.url, Access(ask=lambda what: secret)) as target:
            assert target.run("id -un").text == "root\n"


def test_a_silent_line_is_said_to_be_silent() -> None:
    master, slave = pty.openpty()
    tty.setraw(slave)
    try:
        with bridged(master) as bridge, pytest.raises(TargetError, match="silent"):
            open_target(bridge.url).connect(deadline_seconds=3)
    finally:
        os.close(slave)
        os.close(master)
