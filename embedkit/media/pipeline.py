"""The read side of flashing: an image becomes batches in aligned memory, each read once.

A pool of buffers bounds the memory and is the queue: the reader runs ahead until every buffer
waits for a device. A batch goes to every device and returns to the pool after the last one.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from embedkit.errors import InputError
from embedkit.media.blockdev import aligned_buffer
from embedkit.media.ranges import Range
from embedkit.media.stream import Reader

BATCH_BYTES = 4 << 20
# Where no block map tells holes, zeros are told apart in steps of this.
FINE_BATCH_BYTES = 1 << 20
#: The first one of a run: the card waits for no more than this to be decoded.
FIRST_BATCH_BYTES = 512 << 10
#: 192 MiB: deep enough that a slow decoder's rests do not stop a card.
POOL_BATCHES = 48
#: What needs no decoding comes faster than any card takes it.
PLAIN_POOL_BATCHES = 12
_ZERO_STEP = 64 << 20


def _fastest_digest() -> Callable[[memoryview], bytes]:
    """Read-back has to notice faults, not forgers: xxh3 costs next to nothing (50 GB/s)."""
    try:
        from xxhash import xxh3_128_digest
    except ImportError:
        return lambda view: hashlib.blake2b(view, digest_size=16).digest()
    return lambda view: xxh3_128_digest(view)


#: 16 bytes that tell one batch's content from any other.
digest_of = _fastest_digest()


@dataclass(frozen=True)
class Piece:
    """``length`` bytes for the card's ``offset``, at ``start`` in the batch's buffer."""

    offset: int
    start: int
    length: int


@dataclass(frozen=True)
class Entry:
    """What one batch put on the card: what read-back and the journal need to know of it."""

    pieces: tuple[Piece, ...]
    length: int
    digest: bytes
    zero: bool

    @property
    def key(self) -> tuple[int, int, str]:
        return self.pieces[0].offset, self.length, "zero" if self.zero else self.digest.hex()


class Batch:
    """An Entry with its bytes. ``view`` is empty for zeros that were never read."""

    def __init__(self, entry: Entry, buffer: memoryview | None, pool: Pool) -> None:
        self.entry = entry
        self.view = buffer[: entry.length] if buffer is not None else memoryview(b"")
        self._buffer = buffer
        self._pool = pool
        self._users = 0
        self._lock = threading.Lock()

    def hold(self, users: int) -> None:
        """``users`` readers will each call ``release`` once."""
        self._users = users

    def release(self) -> None:
        with self._lock:
            self._users -= 1
            last = self._users <= 0
        if last and self._buffer is not None:
            buffer, self._buffer, self.view = self._buffer, None, memoryview(b"")
            self._pool.give_back(buffer)


class Pool:
    """A bounded number of page-aligned buffers.

    The one that came back last is lent first: memory is touched only as far as the reader
    really runs ahead. ``retire`` ends that: what comes back then is given to the system while
    the devices still work, and not at the end, when everything waits for it.
    """

    def __init__(self, count: int = POOL_BATCHES, size: int = BATCH_BYTES) -> None:
        self.count = count
        self.size = size
        self._free: list[memoryview] = []
        self._unmade = count
        self._retired = False
        self._changed = threading.Condition()

    def take(self) -> memoryview:
        with self._changed:
            while not self._free and not self._unmade:
                self._changed.wait()
            if self._free:
                return self._free.pop()
            self._unmade -= 1
        return memoryview(aligned_buffer(self.size))

    def give_back(self, buffer: memoryview) -> None:
        with self._changed:
            if not self._retired:
                self._free.append(buffer)
                self._changed.notify()

    def retire(self) -> None:
        """Nothing is taken any more."""
        with self._changed:
            self._retired = True
            self._free.clear()


_zero_digests: dict[int, bytes] = {}


def zero_digest(length: int) -> bytes:
    """The digest of ``length`` zeros (lengths are few)."""
    if length not in _zero_digests:
        _zero_digests[length] = digest_of(memoryview(bytes(length)))
    return _zero_digests[length]


def read_head(reader: Reader, content_ranges: Iterable[Range] | None, head: memoryview) -> None:
    """Fills ``head`` with the image's first bytes; where it has none, with zeros.

    ``content_ranges`` are the mapped ones, None where all is data.
    """
    for item in content_ranges if content_ranges is not None else (Range(0, len(head)),):
        end = min(item.end, len(head))
        if item.first_byte >= end:
            break
        reader.seek(item.first_byte)
        got = reader.readinto(head[item.first_byte : end])
        if got < end - item.first_byte and content_ranges is not None:
            raise _short(reader, item.end)


def zero_batches(ranges: Iterable[Range], pool: Pool) -> Iterator[Batch]:
    """Batches without a buffer: what must read as zeros."""
    for item in ranges:
        for offset in range(item.first_byte, item.end, _ZERO_STEP):
            length = min(_ZERO_STEP, item.end - offset)
            yield Batch(Entry((Piece(offset, 0, length),), length, b"", True), None, pool)


def batches(
    reader: Reader,
    ranges: Iterable[Range] | None,
    pool: Pool,
    *,
    start: int,
    sector_bytes: int,
    limit: int,
) -> Iterator[Batch]:
    """The image's data, each byte read once and in order.

    With ``ranges`` None, everything from ``start`` to the image's end. ``limit`` is the
    size of a batch (the first one is smaller): whole batches of zeros are zeroed and not
    written. Only the very end of an image is padded, with zeros, to a whole sector. Raises
    InputError where the image ends before its ranges do.
    """
    builder = _Builder(pool, limit, sector_bytes)
    try:
        if ranges is None:
            if reader.position < start:
                return  # the image ended within its first megabyte
            while True:
                asked = builder.room()
                got = builder.read(reader, asked)
                yield from builder.full()
                if got < asked:
                    break
        else:
            for item in ranges:
                reader.seek(item.first_byte)
                while reader.position < item.end:
                    asked = min(builder.room(), item.end - reader.position)
                    if builder.read(reader, asked) < asked:
                        raise _short(reader, item.end)
                    yield from builder.full()
        yield from builder.rest()
    finally:
        builder.drop()


class _Builder:
    """Puts pieces side by side into a buffer until it is full."""

    def __init__(self, pool: Pool, limit: int, sector_bytes: int) -> None:
        self._pool = pool
        self._limit = min(limit, FIRST_BATCH_BYTES)
        self._next_limit = limit
        self._sector = sector_bytes
        self._buffer: memoryview | None = None
        self._pieces: list[Piece] = []
        self._used = 0

    def room(self) -> int:
        return self._limit - self._used

    def read(self, reader: Reader, count: int) -> int:
        if self._buffer is None:
            self._buffer = self._pool.take()
        offset = reader.position
        got = reader.readinto(self._buffer[self._used : self._used + count])
        padded = -(-got // self._sector) * self._sector
        if padded > got:
            self._buffer[self._used + got : self._used + padded] = bytes(padded - got)
        if got:
            last = self._pieces[-1] if self._pieces else None
            if last is not None and last.offset + last.length == offset:
                self._pieces[-1] = Piece(last.offset, last.start, last.length + padded)
            else:
                self._pieces.append(Piece(offset, self._used, padded))
            self._used += padded
        return got

    def full(self) -> Iterator[Batch]:
        if self._used >= self._limit:
            yield from self.rest()

    def rest(self) -> Iterator[Batch]:
        if not self._pieces or self._buffer is None:
            return
        digest = digest_of(self._buffer[: self._used])
        zero = digest == zero_digest(self._used)
        batch = Batch(
            Entry(tuple(self._pieces), self._used, digest, zero), self._buffer, self._pool
        )
        self._buffer, self._pieces, self._used = None, [], 0
        self._limit = self._next_limit
        yield batch

    def drop(self) -> None:
        if self._buffer is not None:
            self._pool.give_back(self._buffer)
            self._buffer = None


def _short(reader: Reader, end: int) -> InputError:
    return InputError(
        f"the image ends at byte {reader.position}, but its block map has data up to {end}",
        where=reader.info.name,
        hint="image and .bmap do not belong together, or the image is not complete",
    )
