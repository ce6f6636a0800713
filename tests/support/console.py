"""A board's serial console for tests: a real pty with a real getty (or QEMU) behind it, and a
line in front of it that is as slow, as noisy and as lossy as asked."""

from __future__ import annotations

import contextlib
import os
import pty
import random
import select
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.sshservers import busybox_root, in_root, stop

MESSAGES = (
    b"[%d.%06d] usb 1-1: new high-speed USB device number 4 using xhci_hcd\r\n",
    b"[%d.%06d] EXT4-fs (mmcblk0p2): mounted filesystem with ordered data mode.\r\n",
    b"\r\n[%d.%06d] random: crng init done\r\n",
    b"\r\n<6>[%d.%06d] eth0: Link is Up - 1Gbps/Full - flow control rx/tx\r\n",
    # Not every message has the kernel's form.
    b"sd 0:0:0:0: [sda] %d%06d 512-byte logical blocks\r\n",
)


@dataclass(frozen=True)
class Badness:
    """``noise``: the share of reads that carry a message, at a random place. ``loss``: the share
    of bytes lost, either way. ``baud``: bytes a second are a tenth of it."""

    noise: float = 0.0
    loss: float = 0.0
    baud: int | None = None
    seed: int = 1


class Pace:
    """One direction of a line of so many baud. A sleep that a busy machine makes longer is made
    up for by the next ones, so that the line is as fast as it says."""

    def __init__(self, baud: int | None) -> None:
        self._baud = baud
        self._due = 0.0

    def __call__(self, size: int) -> None:
        """Waits as long as the line takes for so many bytes."""
        if self._baud:
            now = time.monotonic()
            # What nothing was sent in is not made up for, but for a moment.
            self._due = max(self._due, now - 0.1) + size * 10 / self._baud
            time.sleep(max(0.0, self._due - now))


class Bridge:
    """Serves a pty's master (or any descriptor) to one client after another on a TCP port."""

    def __init__(self, fd: int, badness: Badness | None = None) -> None:
        self._fd = fd
        self._bad = badness or Badness()
        self._random = random.Random(self._bad.seed)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.injected = 0
        self._client: socket.socket | None = None
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=work, daemon=True) for work in (self._serve, self._from_board)
        ]
        for thread in self._threads:
            thread.start()

    @property
    def url(self) -> str:
        return f"serial+tcp://127.0.0.1:{self.port}"

    def cut(self, seconds: float = 10.0) -> None:
        """Drops the client that is connected. A client knows that it is before this side does,
        so one is waited for."""
        ends = time.monotonic() + seconds
        while (client := self._client) is None:
            assert time.monotonic() < ends, "nobody is connected"
            time.sleep(0.01)
        self._drop(client)

    def _drop(self, client: socket.socket | None) -> None:
        if client is not None:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        self._stop.set()
        self._drop(self._client)
        self._listener.close()
        for thread in self._threads:
            thread.join(3)

    def _serve(self) -> None:
        self._listener.settimeout(0.2)
        while not self._stop.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                continue
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._client = client
            pace = Pace(self._bad.baud)
            with contextlib.suppress(OSError):
                while data := client.recv(512):
                    pace(len(data))
                    self._to_board(self._lossy(data))
            self._client = None
            client.close()

    def _to_board(self, data: bytes) -> None:
        while data:
            _, writable, _ = select.select([], [self._fd], [], 0.5)
            if writable:
                data = data[os.write(self._fd, data[:256]) :]
            elif self._stop.is_set():
                return

    def _from_board(self) -> None:
        pace = Pace(self._bad.baud)
        while not self._stop.is_set():
            if not select.select([self._fd], [], [], 0.2)[0]:
                continue
            try:
                data = os.read(self._fd, 1024)
            except OSError:  # nobody has the other side open just now: getty restarts
                time.sleep(0.05)
                continue
            pace(len(data))
            data = self._lossy(data)
            if self._random.random() < self._bad.noise:
                place = self._random.randrange(len(data) + 1)
                message = self._random.choice(MESSAGES) % (
                    self._random.randrange(9999),
                    self._random.randrange(999999),
                )
                data = data[:place] + message + data[place:]
                self.injected += 1
            client = self._client
            if client is not None:
                with contextlib.suppress(OSError):
                    client.sendall(data)

    def _lossy(self, data: bytes) -> bytes:
        if not self._bad.loss:
            return data
        return bytes(byte for byte in data if self._random.random() >= self._bad.loss)


@contextlib.contextmanager
def getty(root: Path, *, password_hash: str = "") -> Iterator[int]:
    """A BusyBox root with its getty and login on a pty; yields the pty's master."""
    busybox_root(root)
    (root / "etc/passwd").write_text(f"root:{password_hash}:0:0:root:/root:/bin/sh\n")
    master, slave = pty.openpty()
    # A new getty for each login, as init would start one.
    loop = "hostname tinyboard; while :; do setsid getty -L - 115200 vt100; sleep 0.2; done"
    running = subprocess.Popen(
        in_root(root, loop), stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    try:
        yield master
    finally:
        stop(running)
        os.close(slave)
        os.close(master)
