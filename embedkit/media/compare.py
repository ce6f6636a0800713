"""Comparing a card with an image, byte for byte, without writing anything."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace

from embedkit.media import journal as journals
from embedkit.media import pipeline
from embedkit.media.blockdev import BlockDevice, Identity, aligned_buffer, open_device
from embedkit.media.content import HEAD_BYTES, Content, Layout, lay_out
from embedkit.media.fit import Fitted, fit
from embedkit.media.pipeline import Batch, Pool
from embedkit.media.ranges import Range, subtract, total
from embedkit.media.readback import Mismatch, describe_difference, first_difference
from embedkit.media.stream import Image, Reader
from embedkit.media.sums import SumChecker
from embedkit.progress import NullProgress, Progress, Task

_THREADS = 2


@dataclass(frozen=True)
class Comparison:
    """``compared_bytes`` of the card were read; ``mismatch`` is the first that differs.

    ``grown``: the card's last partition was grown when it was flashed.
    """

    compared_bytes: int
    mismatch: Mismatch | None
    unfinished: bool
    grown: bool
    warnings: tuple[str, ...]


def compare(
    image: Image, content: Content, identity: Identity, progress: Progress, *, direct: bool = True
) -> Comparison:
    """Reads the device past the page cache and compares it with what ``image`` promises.

    Raises InputError for an image that is damaged or too large, DeviceFault where the device
    cannot be read.
    """
    with open_device(identity, write=False, direct=direct) as device:
        reader = image.reader(content.mapped)
        try:
            return _compare(reader, content, device, progress)
        finally:
            reader.close()


def _compare(
    reader: Reader, content: Content, device: BlockDevice, progress: Progress
) -> Comparison:
    head = memoryview(bytearray(HEAD_BYTES))
    pipeline.read_head(reader, content.mapped, head)
    layout = lay_out(content, bytes(head), sector_bytes=device.sector_bytes)
    checker = SumChecker(content)
    checker.feed(0, head)
    start = _compare_head(device, head, content, layout)
    if start.mismatch is not None:
        return start
    expected = total(layout.data) + total(layout.zero) if layout.data is not None else None
    sink = _Comparer(device, layout)
    sink.task = progress.start(f"comparing {device.path}", total=expected, unit="bytes")
    pool = Pool()
    stream = _stream(reader, layout, pool, device.sector_bytes)
    try:
        for batch in stream:
            checker.feed_batch(batch)
            batch.hold(1)
            sink.queue.put(batch)
            if sink.ended:
                break
        else:
            checker.finish()
            reader.drain(content.size)
    finally:
        stream.close()
        sink.finish()
    if sink.fault is not None:
        raise sink.fault
    compared = start.compared_bytes + sink.compared
    return replace(start, compared_bytes=compared, mismatch=sink.mismatch)


def _stream(
    reader: Reader, layout: Layout, pool: Pool, sector_bytes: int
) -> Generator[Batch, None, None]:
    yield from pipeline.zero_batches(layout.zero, pool)
    yield from pipeline.batches(
        reader,
        layout.data,
        pool,
        start=HEAD_BYTES,
        sector_bytes=sector_bytes,
        limit=pool.size,
    )


def _compare_head(
    device: BlockDevice, head: memoryview, content: Content, layout: Layout
) -> Comparison:
    """Only what the image has there is compared: free bytes of the head may be anything."""
    buffer = memoryview(aligned_buffer(HEAD_BYTES))
    device.read_into(buffer, 0)
    found = bytes(buffer)
    size = min(HEAD_BYTES, HEAD_BYTES if content.size is None else content.size)
    mapped = content.mapped if content.mapped is not None else (Range(0, size),)
    promised = subtract(
        [Range(r.first_byte, min(r.end, HEAD_BYTES) - r.first_byte) for r in mapped], content.kept
    )
    meant = _meant(bytes(head), found, promised, content, device)
    pieces = [(p.first_byte, found[p.first_byte : p.end], meant.head[p.first_byte : p.end])
              for p in promised]  # fmt: skip
    if meant.tail:
        tail = buffer[: len(meant.tail)]
        device.read_into(tail, meant.tail_at)
        pieces.append((meant.tail_at, bytes(tail), meant.tail))
    differing = (_mismatch(offset, there, here, layout) for offset, there, here in pieces)
    return Comparison(
        HEAD_BYTES + len(meant.tail),
        next((mismatch for mismatch in differing if mismatch is not None), None),
        journals.run_of(found[:512]) is not None,
        meant.grown is not None,
        layout.warnings,
    )


def _meant(
    head: bytes, found: bytes, promised: Sequence[Range], content: Content, device: BlockDevice
) -> Fitted:
    """The image's head, or what flash makes of it for a larger device if the card has that."""
    for grow in (False, True):
        fitted = fit(head, content.size, device.size_bytes, device.sector_bytes, grow=grow)
        if fitted is not None and all(
            fitted.head[part.first_byte : part.end] == found[part.first_byte : part.end]
            for part in promised
        ):
            return fitted
    return Fitted(head)


def _mismatch(offset: int, found: bytes, meant: bytes, layout: Layout) -> Mismatch | None:
    difference = first_difference(found, meant)
    if difference is None:
        return None
    sector = (offset + difference) // 512 * 512
    start = max(0, sector - offset)
    what = describe_difference(found[start : start + 512], meant[start : start + 512])
    what = what.removesuffix(": the write was lost").replace("than were written", "than the image")
    return Mismatch(sector, 512, True, layout.names(sector), what)


class _Comparer:
    """Takes batches on some threads and keeps the lowest mismatch."""

    def __init__(self, device: BlockDevice, layout: Layout) -> None:
        self.queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self.mismatch: Mismatch | None = None
        self.fault: Exception | None = None
        self.compared = 0
        self.task: Task = NullProgress().start("")
        self._device = device
        self._layout = layout
        self._lock = threading.Lock()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(_THREADS)]
        for thread in self._threads:
            thread.start()

    @property
    def ended(self) -> bool:
        return self.fault is not None or self.mismatch is not None

    def finish(self) -> None:
        for _ in self._threads:
            self.queue.put(None)
        for thread in self._threads:
            thread.join()
        self.task.finish()

    def _work(self) -> None:
        buffer = memoryview(aligned_buffer(pipeline.BATCH_BYTES))
        while (batch := self.queue.get()) is not None:
            try:
                # Batches come in order: one that began before the first mismatch may be lower.
                if self.fault is None and self._may_be_first(batch):
                    self._take(batch, buffer)
            except Exception as error:
                self.fault = self.fault or error
            finally:
                batch.release()

    def _may_be_first(self, batch: Batch) -> bool:
        found = self.mismatch
        return found is None or batch.entry.pieces[0].offset < found.first_byte

    def _take(self, batch: Batch, buffer: memoryview) -> None:
        for piece in batch.entry.pieces:
            for step in range(0, piece.length, len(buffer)):
                length = min(len(buffer), piece.length - step)
                self._device.read_into(buffer[:length], piece.offset + step)
                start = piece.start + step
                meant = bytes(batch.view[start : start + length]) if batch.view else bytes(length)
                found = bytes(buffer[:length])
                mismatch = _mismatch(piece.offset + step, found, meant, self._layout)
                with self._lock:
                    self.compared += length
                    if mismatch is not None and self._is_lower(mismatch):
                        self.mismatch = mismatch
                if mismatch is not None:
                    return
        self.task.advance(batch.entry.length)

    def _is_lower(self, mismatch: Mismatch) -> bool:
        return self.mismatch is None or mismatch.first_byte < self.mismatch.first_byte
