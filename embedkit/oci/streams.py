"""The base of readable streams that are written in terms of ``read`` alone."""

from __future__ import annotations

import io
from typing import Any


class Pulled(io.RawIOBase):
    """A stream whose subclass defines ``read(size)``; the rest of the protocol follows from it."""

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        raise NotImplementedError

    def readinto(self, buffer: Any) -> int:
        content = self.read(len(buffer))
        buffer[: len(content)] = content
        return len(content)
