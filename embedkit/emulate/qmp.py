"""Short talks with a running QEMU over QMP (QEMU's docs/interop/qmp-spec.txt).

QEMU serves one client at a time on its socket, so every talk is short and ends at once.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from embedkit.errors import TargetError
from embedkit.target.line import connect_unix

_LONGEST_ANSWER = 4 << 20
_FORWARD = re.compile(r"TCP\[HOST_FORWARD\]\s+\d+\s+\S+\s+(\d+)\s+\S+\s+22\b")


class QmpError(TargetError):
    """QEMU does not answer, or not with what was asked for."""


class Talk:
    """An open talk. Events are left out."""

    def __init__(self, connected: socket.socket, ends: float) -> None:
        self._socket = connected
        self._ends = ends
        self._rest = b""

    def ask(self, command: str, **arguments: Any) -> Any:
        """QEMU's answer to ``command``. Raises QmpError."""
        message = json.dumps({"execute": command, "arguments": arguments}) + "\n"
        try:
            self._socket.sendall(message.encode())
        except OSError as error:
            raise QmpError(f"QEMU does not answer: {error}") from error
        while True:
            answer = self.receive()
            if "return" in answer:
                return answer["return"]
            if "error" in answer:
                detail = answer["error"]
                what = detail.get("desc") if isinstance(detail, dict) else detail
                raise QmpError(f"QEMU refuses '{command}': {what}")

    def receive(self) -> dict[str, Any]:
        """The next message. Raises QmpError."""
        while b"\n" not in self._rest:
            left = self._ends - time.monotonic()
            if left <= 0 or len(self._rest) > _LONGEST_ANSWER:
                raise QmpError("QEMU does not answer in time")
            self._socket.settimeout(left)
            try:
                data = self._socket.recv(64 << 10)
            except OSError as error:
                raise QmpError(f"QEMU does not answer: {error}") from error
            if not data:
                raise QmpError("QEMU closed the connection")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        try:
            value = json.loads(line)
        except ValueError as error:
            raise QmpError("QEMU's answer is not JSON") from error
        if not isinstance(value, dict):
            raise QmpError("QEMU's answer is not an object")
        return value


@contextlib.contextmanager
def talk(path: Path, *, seconds: float = 5.0) -> Iterator[Talk]:
    """A talk over the socket ``path``, all of it within ``seconds``. Raises QmpError."""
    ends = time.monotonic() + seconds
    try:
        connected = connect_unix(path)
    except OSError as error:
        raise QmpError(f"QEMU is not there: {error.strerror}") from error
    with connected:
        opened = Talk(connected, ends)
        opened.receive()  # the greeting
        opened.ask("qmp_capabilities")
        yield opened


def status(path: Path) -> str:
    """``running``, ``paused``, ``io-error``… (RunState of QEMU's qapi/run-state.json).

    Raises QmpError.
    """
    with talk(path) as opened:
        answer = opened.ask("query-status")
    return str(answer.get("status", "")) if isinstance(answer, dict) else ""


def forwarded_port(opened: Talk) -> int | None:
    """The port of this machine that leads to the guest's port 22. Raises QmpError."""
    text = opened.ask("human-monitor-command", **{"command-line": "info usernet"})
    match = _FORWARD.search(str(text))
    return int(match.group(1)) if match else None
