"""What a daemon's log says: dockerd and its containerd write hundreds of lines in the second in
which they fail, and one of them is the reason."""

from __future__ import annotations

import re
from collections.abc import Sequence

# What a board writes is shown on a terminal: it must not be obeyed there.
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_LINE_CHARACTERS = 2000
_TELLING = re.compile(r"level=(?:panic|fatal|error)|failed|error|cannot|timeout", re.IGNORECASE)
# logrus's lesser levels, and gRPC, which goes on trying to reach the containerd that was stopped.
_TALK = re.compile(r"level=(?:info|debug|trace)\b|module=grpc\b")


def harmless(text: str) -> str:
    """``text`` without what a terminal would obey."""
    return _CONTROL.sub("?", text)


def lines(data: bytes) -> list[str]:
    """The lines of ``data``, fit to be shown."""
    text = data.decode("utf-8", "replace")
    return [harmless(line)[:_LINE_CHARACTERS] for line in text.splitlines()]


def tells(line: str) -> bool:
    """Whether ``line`` says what went wrong."""
    return _TELLING.search(line) is not None and _TALK.search(line) is None


def shortened(lines: Sequence[str], limit: int) -> list[str]:
    """``limit`` of ``lines``, in their order: those that tell before the others, and of each
    kind the last."""
    spare = max(len(lines) - limit, 0)
    by_worth = sorted(range(len(lines)), key=lambda index: tells(lines[index]))
    return [lines[index] for index in sorted(by_worth[spare:])]
