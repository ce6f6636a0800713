"""Multi-block .xz files: their index, and decoding of wanted blocks on several threads.

The layout is that of the .xz file format specification 1.1.0 (tukaani.org/xz): streams of
header, blocks, index and footer; the index holds each block's sizes, so that a block can be
found, left out, or decoded beside another one.
"""

from __future__ import annotations

import lzma
import os
import queue
import zlib
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from embedkit.errors import InputError
from embedkit.media.decode import truncated
from embedkit.media.ranges import Range, Span

_HEADER = b"\xfd7zXZ\0"
_FOOTER = b"YZ"
_MEMORY = 160 << 20
_PIECE = 1 << 20
# Blocks that wait decoded, together; and the largest block that is decoded as a whole.
_AHEAD = 64 << 20
_WHOLE_BLOCK = 32 << 20
_MAX_RECORDS = 4_000_000


@dataclass(frozen=True)
class XzBlock(Span):
    """One block: where it is in the file, and which bytes of the image it holds."""

    file_offset: int
    stored_bytes: int
    first_byte: int
    length: int
    stream_flags: bytes


def read_index(descriptor: int) -> tuple[XzBlock, ...]:
    """All blocks of an .xz file in order, empty ones left out.

    Raises InputError where the file is cut or its index is damaged.
    """
    streams: list[list[tuple[int, int, int, bytes]]] = []
    end = os.fstat(descriptor).st_size
    while True:
        end = _without_padding(descriptor, end)
        if end == 0:
            break
        records, end = _read_stream(descriptor, end)
        streams.append(records)
    blocks = []
    position = 0
    for records in reversed(streams):
        for offset, stored, length, flags in records:
            if length:
                blocks.append(XzBlock(offset, stored, position, length, flags))
            position += length
            if position >= 1 << 63:
                raise InputError("the xz index promises an impossible size")
    return tuple(blocks)


def _without_padding(descriptor: int, end: int) -> int:
    while end >= 4 and os.pread(descriptor, 4, end - 4) == b"\0\0\0\0":
        end -= 4
    return end


def _read_stream(descriptor: int, end: int) -> tuple[list[tuple[int, int, int, bytes]], int]:
    """The records of the stream that ends at ``end``, and where it begins."""
    footer = os.pread(descriptor, 12, end - 12) if end >= 32 else b""
    if len(footer) != 12 or footer[10:] != _FOOTER:
        raise truncated("xz")
    if zlib.crc32(footer[4:10]) != int.from_bytes(footer[:4], "little"):
        raise InputError("the xz footer is damaged")
    flags = footer[8:10]
    index_size = (int.from_bytes(footer[4:8], "little") + 1) * 4
    index_start = end - 12 - index_size
    if index_start < 12:
        raise InputError("the xz index reaches before the file's start")
    index = os.pread(descriptor, index_size, index_start)
    if len(index) != index_size or index[0] != 0:
        raise InputError("the xz index is damaged")
    if zlib.crc32(index[:-4]) != int.from_bytes(index[-4:], "little"):
        raise InputError("the xz index is damaged: its checksum is wrong")
    sizes = _parse_index(index[:-4])
    stored = sum(_padded(unpadded) for unpadded, _ in sizes)
    start = index_start - stored - 12
    if start < 0:
        raise InputError("the xz index promises more than the file holds")
    header = os.pread(descriptor, 12, start)
    if header[:6] != _HEADER or header[6:8] != flags:
        raise InputError("an xz stream does not begin where its index says")
    records = []
    offset = start + 12
    for unpadded, length in sizes:
        records.append((offset, _padded(unpadded), length, flags))
        offset += _padded(unpadded)
    return records, start


def _padded(size: int) -> int:
    return -(-size // 4) * 4


def _parse_index(index: bytes) -> list[tuple[int, int]]:
    count, position = _varint(index, 1)
    # A record takes two bytes at the least.
    if count > _MAX_RECORDS or count * 2 > len(index):
        raise InputError("the xz index counts more blocks than it can hold")
    sizes = []
    for _ in range(count):
        unpadded, position = _varint(index, position)
        length, position = _varint(index, position)
        if unpadded < 5:
            raise InputError("the xz index holds an impossible block")
        sizes.append((unpadded, length))
    if any(index[position:]) or len(index) - position > 3:
        raise InputError("the xz index has rubbish at its end")
    return sizes


def _varint(data: bytes, position: int) -> tuple[int, int]:
    """A number of 7 bits a byte, the lowest first, nine bytes at most (section 1.2)."""
    value = 0
    for shift in range(0, 63, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if not byte & 0x80:
            return value, position
    raise InputError("the xz index holds a broken number")


def _pieces(
    descriptor: int, block: XzBlock, stopped: Callable[[], bool] = lambda: False
) -> Iterator[bytes]:
    """The block decoded. Fed with the stream's header, the decoder also checks the block's sum."""
    decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_MEMORY)
    crc = zlib.crc32(block.stream_flags).to_bytes(4, "little")
    data = _HEADER + block.stream_flags + crc
    offset, end = block.file_offset, block.file_offset + block.stored_bytes
    produced = 0
    try:
        while not stopped():
            if decoder.needs_input and not data:
                data = os.pread(descriptor, min(256 << 10, end - offset), offset)
                offset += len(data)
                if not data:
                    break
            piece = decoder.decompress(data, _PIECE)
            data = b""
            produced += len(piece)
            if produced > block.length:
                break
            if piece:
                yield piece
    except lzma.LZMAError as error:
        raise InputError(
            f"the xz data is damaged: {error}", where=f"block at byte {block.file_offset}"
        ) from error
    if produced != block.length and not stopped():
        raise InputError(
            "an xz block does not hold what the index says",
            where=f"block at byte {block.file_offset}",
        )


class XzDecoder:
    """Reads the image of an .xz file; blocks without a wanted byte are never decoded.

    Bytes that are not wanted read as zeros. Blocks of up to 32 MiB are decoded on as many
    threads as there are processors; larger ones (xz -9 -T) one at a time.
    """

    def __init__(
        self, descriptor: int, blocks: Sequence[XzBlock], wanted: Sequence[Range] | None
    ) -> None:
        self._descriptor = descriptor
        self._size = blocks[-1].end if blocks else 0
        chosen = [block for block in blocks if _is_wanted(block, wanted)]
        self._todo = deque(chosen)
        self._position = 0
        self._current: Iterator[bytes] = iter(())
        self._block: XzBlock | None = None
        self._piece = b""
        self._piece_at = 0
        self._stopped = False
        largest = max((block.length for block in chosen), default=0)
        self._pool: ThreadPoolExecutor | None = None
        self._running: deque[_Decoding] = deque()
        self._submitted: deque[XzBlock] = deque(chosen)
        if largest <= _WHOLE_BLOCK and len(chosen) > 1:
            workers = max(2, min(os.cpu_count() or 2, 8))
            self._pool = ThreadPoolExecutor(workers, thread_name_prefix="xz")
            self._ahead = max(2, min(workers + 2, _AHEAD // max(largest, 1)))

    def readinto(self, view: memoryview) -> int:
        count = min(len(view), self._size - self._position)
        done = 0
        while done < count:
            step = self._serve(view[done:count])
            done += step
            self._position += step
        return done

    def skip(self, count: int) -> int:
        count = min(count, self._size - self._position)
        self._position += count
        return count

    def close(self) -> None:
        """Stops the threads; what they decoded is dropped."""
        self._stopped = True
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def _serve(self, view: memoryview) -> int:
        """Fills some of ``view`` from where the position is."""
        while self._block is None or self._block.end <= self._position:
            if not self._todo or self._todo[0].first_byte > self._position:
                gap = (self._todo[0].first_byte if self._todo else self._size) - self._position
                count = min(gap, len(view))
                view[:count] = bytes(count)
                return count
            self._open_next()
        while self._piece_at + len(self._piece) <= self._position:
            self._piece_at += len(self._piece)
            self._piece = next(self._current)
        start = self._position - self._piece_at
        part = self._piece[start : start + len(view)]
        view[: len(part)] = part
        return len(part)

    def _open_next(self) -> None:
        block = self._todo.popleft()
        self._block = block
        self._piece, self._piece_at = b"", block.first_byte
        # Blocks that were passed over must still leave the queue of the threads.
        if self._pool is None:
            self._current = _pieces(self._descriptor, block)
            return
        self._fill_pool()
        self._current = iter(self._running.popleft())
        self._fill_pool()

    def _fill_pool(self) -> None:
        assert self._pool is not None
        while self._submitted and len(self._running) < self._ahead:
            decoding = _Decoding()
            pieces = _pieces(self._descriptor, self._submitted.popleft(), lambda: self._stopped)
            self._running.append(decoding)
            self._pool.submit(decoding.run, pieces)


class _Decoding:
    """A block that a thread decodes; its pieces can be taken while it does."""

    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()

    def run(self, pieces: Iterator[bytes]) -> None:
        try:
            for piece in pieces:
                self._queue.put(piece)
        except Exception as error:
            self._queue.put(error)
        self._queue.put(b"")

    def __iter__(self) -> Iterator[bytes]:
        while item := self._queue.get():
            if isinstance(item, Exception):
                raise item
            yield item


def _is_wanted(block: XzBlock, wanted: Sequence[Range] | None) -> bool:
    if wanted is None:
        return True
    from bisect import bisect_right

    index = bisect_right(wanted, block.first_byte, key=lambda item: item.end)
    return index < len(wanted) and wanted[index].first_byte < block.end
