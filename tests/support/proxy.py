"""A TCP proxy on loopback that breaks connections after so many bytes, or paces them."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from collections.abc import Iterator

_PIECE = 64 << 10


class Proxy:
    """Forwards to ``port``. ``cuts`` are bytes (both ways together) after which the connection of
    that moment is reset; each is used once. ``rate`` limits each direction, in bytes a second."""

    def __init__(self, port: int, *, cuts: list[int] | None = None, rate: float | None = None):
        self._target = port
        self._cuts = list(cuts or [])
        self._rate = rate
        self._passed = 0
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []
        self._stop = False
        self.cut = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        self._acceptor.start()

    def close(self) -> None:
        self._stop = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._break()
        self._acceptor.join(3)

    def _accept(self) -> None:
        while not self._stop:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                if self._rate:
                    # Small buffers, or a paced link would swallow megabytes at once.
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 128 << 10)
            with self._lock:
                self._open += [client, server]
            for one, other in ((client, server), (server, client)):
                threading.Thread(target=self._forward, args=(one, other), daemon=True).start()

    def _forward(self, source: socket.socket, sink: socket.socket) -> None:
        due = time.monotonic()
        with contextlib.suppress(OSError):
            while data := source.recv(_PIECE):
                if self._rate:
                    due = max(due, time.monotonic() - 0.01) + len(data) / self._rate
                    time.sleep(max(0.0, due - time.monotonic()))
                sink.sendall(data)
                self._count(len(data))
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)

    def _count(self, size: int) -> None:
        with self._lock:
            self._passed += size
            due = bool(self._cuts) and self._passed >= self._cuts[0]
            if due:
                self._cuts.pop(0)
                self._passed = 0
                self.cut += 1
        if due:
            self._break()

    def _break(self) -> None:
        with self._lock:
            ends, self._open = self._open, []
        for end in ends:
            with contextlib.suppress(OSError):
                # A reset, as of a router that lost its power: nothing is said goodbye to.
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                end.shutdown(socket.SHUT_RDWR)
                end.close()


@contextlib.contextmanager
def proxied(
    port: int, *, cuts: list[int] | None = None, rate: float | None = None
) -> Iterator[Proxy]:
    proxy = Proxy(port, cuts=cuts, rate=rate)
    try:
        yield proxy
    finally:
        proxy.close()
