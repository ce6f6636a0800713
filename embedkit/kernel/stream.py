"""Bytes that are read piece by piece, with bounds: files, memory, and what is expanded from them.

Nothing here holds more than a piece of what it reads, unless the caller asks for it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator

PIECE = 256 << 10
_FIRST_PIECE = 8 << 10


class DamagedError(Exception):
    """Compressed data that is not valid, in a few words. Never leaves ``embedkit.kernel``."""

    codec: str | None = None


class CutShortError(DamagedError):
    """Compressed data that ends before its end."""


class Blob:
    """Bytes with random access: ``size`` of them, from a file, from memory or a part of another.

    ``start`` is where a part begins in the file that it was cut from.
    """

    size: int
    start = 0

    def read(self, at: int, length: int) -> bytes:
        """Up to ``length`` bytes from offset ``at``; fewer only at the end."""
        raise NotImplementedError

    def pieces(self, at: int = 0) -> Iterator[bytes]:
        """Everything from offset ``at`` on; small pieces first, for who soon has seen enough."""
        size = _FIRST_PIECE
        while piece := self.read(at, size):
            yield piece
            at += len(piece)
            size = min(2 * size, PIECE)


class FileBlob(Blob):
    """An open file, read without moving its position."""

    def __init__(self, descriptor: int, size: int) -> None:
        self._descriptor = descriptor
        self.size = size

    def read(self, at: int, length: int) -> bytes:
        return os.pread(self._descriptor, max(0, min(length, self.size - at)), at)


class MemoryBlob(Blob):
    """Bytes in memory."""

    def __init__(self, content: bytes | bytearray) -> None:
        self._content = content
        self.size = len(content)

    def read(self, at: int, length: int) -> bytes:
        return bytes(self._content[at : at + length])


class Part(Blob):
    """``size`` bytes of ``whole`` from offset ``at``, as far as it goes."""

    def __init__(self, whole: Blob, at: int, size: int) -> None:
        self._whole = whole
        self._at = at
        self.size = max(0, min(size, whole.size - at))
        self.start = whole.start + at

    def read(self, at: int, length: int) -> bytes:
        return self._whole.read(self._at + at, max(0, min(length, self.size - at)))


class ByteReader:
    """Reads exact amounts from a stream of pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._buffer = b""

    def piece(self) -> bytes:
        """What is at hand, else the next piece; empty at the end."""
        found, self._buffer = self._buffer, b""
        return found or next(self._pieces, b"")

    def give_back(self, unused: bytes) -> None:
        """Puts bytes back in front."""
        self._buffer = unused + self._buffer

    def upto(self, size: int) -> bytes:
        """``size`` bytes, or fewer at the end."""
        if len(self._buffer) < size:
            gathered = [self._buffer]
            have = len(self._buffer)
            while have < size and (piece := next(self._pieces, b"")):
                gathered.append(piece)
                have += len(piece)
            self._buffer = b"".join(gathered)
        found, self._buffer = self._buffer[:size], self._buffer[size:]
        return found

    def peek(self, size: int) -> bytes:
        """As :meth:`upto`, but they stay unread."""
        found = self.upto(size)
        self.give_back(found)
        return found

    def rest(self) -> Iterator[bytes]:
        """All that is still unread."""
        while piece := self.piece():
            yield piece

    def exactly(self, size: int) -> bytes:
        """``size`` bytes. Raises CutShortError where there are fewer."""
        found = self.upto(size)
        if len(found) < size:
            raise CutShortError("it ends too early")
        return found
