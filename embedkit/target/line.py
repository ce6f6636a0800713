"""A serial line, however it is reached: a device, a TCP or Unix socket, RFC 2217."""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket
import time
from pathlib import Path
from typing import Any, Protocol

from embedkit.errors import LackError
from embedkit.target.address import SerialAddress
from embedkit.target.base import ConnectionLost

_CONNECT_SECONDS = 10.0
_READ_BYTES = 16 << 10


class Line(Protocol):
    """Bytes in, bytes out."""

    def read(self, timeout: float) -> bytes:
        """What has come, waiting up to ``timeout`` seconds for something; empty where nothing
        came. Raises ConnectionLost where the line ended."""

    def write(self, data: bytes) -> None:
        """Sends all of ``data``. Raises ConnectionLost."""

    def send_break(self) -> None:
        """Holds the line for a quarter of a second (Magic SysRq), where it is ours to hold."""

    def close(self) -> None: ...


class SocketLine:
    """A line over a stream socket."""

    def __init__(self, connected: socket.socket, name: str) -> None:
        self._socket = connected
        self._name = name

    def read(self, timeout: float) -> bytes:
        try:
            if not select.select([self._socket], [], [], timeout)[0]:
                return b""
            data = self._socket.recv(_READ_BYTES)
        except (OSError, ValueError) as error:
            raise ConnectionLost(f"the serial line broke: {error}", where=self._name) from error
        if not data:
            raise ConnectionLost("the serial line was closed", where=self._name)
        return data

    def write(self, data: bytes) -> None:
        try:
            self._socket.sendall(data)
        except OSError as error:
            raise ConnectionLost(f"the serial line broke: {error}", where=self._name) from error

    def send_break(self) -> None:
        pass  # bytes are all that a socket carries

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._socket.close()


class PortLine:
    """A line that pyserial drives: a device, or a remote port that speaks RFC 2217."""

    def __init__(self, port: Any, name: str) -> None:
        self._port = port
        self._name = name

    def read(self, timeout: float) -> bytes:
        try:
            self._port.timeout = timeout
            first: bytes = self._port.read(1)
            if not first:
                return b""
            waiting = self._port.in_waiting
            return first + (self._port.read(waiting) if waiting else b"")
        except (OSError, TypeError, AttributeError) as error:
            # pyserial's own errors are OSErrors; a port that is closed meanwhile gives the rest.
            raise ConnectionLost(f"the serial line broke: {error}", where=self._name) from error

    def write(self, data: bytes) -> None:
        try:
            view = memoryview(data)
            while view:
                sent = self._port.write(bytes(view[:4096]))
                view = view[sent if sent else 4096 :]
        except (OSError, TypeError, AttributeError) as error:
            raise ConnectionLost(f"the serial line broke: {error}", where=self._name) from error

    def send_break(self) -> None:
        with contextlib.suppress(OSError, NotImplementedError):
            self._port.send_break(0.25)

    def close(self) -> None:
        with contextlib.suppress(Exception):
            self._port.close()


def open_line(address: SerialAddress) -> Line:
    """Opens the line. Raises ConnectionLost where nobody is there, LackError where this machine
    or user cannot open it."""
    if address.kind in ("tcp", "unix"):
        return SocketLine(_connected(address), address.name)
    import serial

    place = address.path if address.kind == "device" else f"rfc2217://{address.host}:{address.port}"
    try:
        if address.kind == "device":
            # Two programs on one line steal each other's bytes: take it for us alone.
            port: Any = serial.Serial(place, address.baud or 115200, exclusive=True)
        else:
            port = serial.serial_for_url(place, address.baud or 115200, timeout=1)
    except (OSError, ValueError) as error:
        raise _cannot_open(address, error) from error
    return PortLine(port, address.name)


def connect_unix(path: Path) -> socket.socket:
    """A stream to the Unix socket ``path``, however long that is. Raises OSError.

    The kernel takes 107 bytes (unix(7)); a longer one is reached through its folder.
    """
    connected = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        if len(os.fsencode(path)) <= 107:
            connected.connect(os.fspath(path))
        else:
            folder = os.open(path.parent, os.O_PATH | os.O_DIRECTORY)
            try:
                connected.connect(f"/proc/self/fd/{folder}/{path.name}")
            finally:
                os.close(folder)
    except BaseException:
        connected.close()
        raise
    return connected


def _connected(address: SerialAddress) -> socket.socket:
    try:
        if address.kind == "unix":
            return connect_unix(Path(address.path))
        connected = socket.create_connection((address.host, address.port), _CONNECT_SECONDS)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.settimeout(None)
        return connected
    except OSError as error:
        raise ConnectionLost(
            f"cannot connect to the serial line: {error.strerror or error}", where=address.url
        ) from error


def _cannot_open(address: SerialAddress, error: Exception) -> LackError | ConnectionLost:
    if address.kind != "device":
        return ConnectionLost(f"cannot connect to the serial line: {error}", where=address.url)
    number = getattr(error, "errno", None)
    text = os.strerror(number) if number else str(error)
    hint = "is the cable in? 'ls /dev/serial/by-id' lists what is there"
    if number == errno.EACCES:
        hint = "join the group that owns it (dialout on Debian), or use sudo"
    elif "Could not configure port" in str(error):
        text = "it is not a serial port"
    elif "lock" in str(error) or number == errno.EBUSY:
        hint = "another program (a terminal?) has it open: close that first"
    return LackError(f"{address.path} cannot be opened: {text}", hint=hint)


class Reader:
    """What came over a line and is not used up yet."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.buffer = bytearray()

    def more(self, timeout: float) -> bool:
        """Waits for more bytes; False where none came."""
        data = self.line.read(timeout)
        self.buffer += data
        return bool(data)

    def settle(self, quiet: float, limit: float) -> bytes:
        """Reads until nothing came for ``quiet`` seconds (or ``limit`` is over); returns all of
        the buffer, which stays."""
        ends = time.monotonic() + limit
        while time.monotonic() < ends and self.more(quiet):
            pass
        return bytes(self.buffer)

    def drop(self) -> None:
        self.buffer.clear()
