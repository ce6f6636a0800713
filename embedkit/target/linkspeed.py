"""How fast a link is: told by the first pieces of what has to be sent anyway."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator

from embedkit.errors import TargetError
from embedkit.process import last_line
from embedkit.target.base import Channel, Equipped

# The first piece of a large file goes out plain and tells the speed of the link.
MEASURE_BYTES = 1 << 20


def measure(target: Equipped, line: str, pieces: Iterable[bytes], size: int) -> float:
    """Bytes a second at which ``line`` takes ``pieces``, which stand for ``size`` bytes.

    The clock starts when the command says that it runs: starting one takes a slow board (or a
    login shell with much to read) longer than the bytes. Raises TargetError where it fails.
    """
    running = threading.Event()
    begun: list[float] = []

    complaints: list[bytes] = []

    def output(channel: Channel, data: bytes) -> None:
        if channel is Channel.STDERR:
            complaints.append(data)
        running.set()

    def timed() -> Iterator[bytes]:
        running.wait(60)
        begun.append(time.monotonic())
        yield from pieces

    code = target.stream(f"echo; {line}", input=timed(), output=output)
    if code != 0 or not begun:
        complaint = last_line(b"".join(complaints)) or f"exit code {code}"
        raise TargetError(f"it does not take what is sent: {complaint}", where=target.name)
    return size / max(time.monotonic() - begun[0], 1e-6)
