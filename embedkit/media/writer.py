"""The write side of flashing: one device, some threads, one state at a time.

``arm`` makes the card visibly unfinished; batches are written in any order; ``seal`` puts the
first megabyte in place, its first 4 KiB last of all. A device that fails drops out: it keeps
taking batches, and lets them go, so that the others go on.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable

from embedkit.media import journal as journals
from embedkit.media.blockdev import BlockDevice, Identity, aligned_buffer
from embedkit.media.content import HEAD_BYTES
from embedkit.media.pipeline import Batch
from embedkit.media.ranges import Range, subtract
from embedkit.progress import Task

#: Requests in flight: hides the latency of each; more gains nothing on cards.
THREADS = 3
_FIRST = 4096
_TAIL_BYTES = 128 << 10
# What an interruption waits for at most.
_DISCARD_STEP = 256 << 20
_DISCARD_QUICK_SECONDS = 0.02


class DeviceWriter:
    """Writes one device. ``fault`` is what stopped it, or None."""

    def __init__(
        self,
        device: BlockDevice,
        identity: Identity,
        journal: journals.Journal,
        done: frozenset[journals.Key],
        *,
        resumed: bool,
        kept: tuple[Range, ...],
        checkpoint_seconds: float,
        on_write: Callable[[int], None] | None = None,
    ) -> None:
        self.device = device
        self.identity = identity
        self.journal = journal
        self.fault: BaseException | None = None
        self.touched = False
        self.armed = False
        self.resumable = True
        self.written_bytes = 0
        self.skipped_bytes = 0
        self.discarded = False
        self.task: Task | None = None
        self._done = done
        self._resumed = resumed
        self._kept = kept
        self._interval = checkpoint_seconds
        self._on_write = on_write
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._flushing = threading.Lock()
        self._fresh: list[journals.Key] = []
        self._checked_at = time.monotonic()
        self._stopped = False
        self._given = threading.Event()  # no further batch will come
        self._nearly_done = False
        self._threads: list[threading.Thread] = []

    def arm(self, image: str, image_end: int | None) -> None:
        """Makes the card visibly unfinished.

        The first 4 KiB go first: from then on there is no partition table.
        """
        try:
            self.journal.begin(image, self.identity)
            self.touched = True
            buffer = aligned_buffer(HEAD_BYTES)
            buffer[:] = journals.marker(self.journal.run)
            view = memoryview(buffer)
            for part in self.head_parts():
                self._write(view[part.first_byte : part.end], part.first_byte)
                if part.first_byte == 0:
                    self.device.flush()
            self.armed = True
            if not self._resumed:
                self._clear_tail(image_end)
            self.device.flush()
        except Exception as error:
            self.fault = error

    def start(self, free: tuple[Range, ...]) -> None:
        """From here on batches are taken; meanwhile what is free is discarded."""
        work: list[Callable[[], None]] = [self._work] * THREADS
        # On its own thread: a card that erases slowly does not keep the image from being read.
        work += [lambda: self._discard(free)] if free and self.fault is None else []
        for index, target in enumerate(work):
            name = f"write-{self.device.path.name}-{index}"
            thread = threading.Thread(target=target, name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def put(self, batch: Batch) -> None:
        self._queue.put(batch)

    def stop(self) -> None:
        """Batches that wait are let go without being written."""
        self._stopped = True

    def finish(self) -> None:
        """Waits for the last batch and flushes."""
        self._given.set()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()
        if self.fault is None:
            try:
                self._checkpoint(force=True)
            except Exception as error:
                self.fault = error

    @property
    def idle(self) -> bool:
        """No thread writes any more."""
        return not any(thread.is_alive() for thread in self._threads)

    def seal(self, head: memoryview, tail: memoryview, tail_at: int) -> None:
        """Writes ``tail`` to ``tail_at`` and the first megabyte: all but 4 KiB, a flush, then
        those. Raises DeviceFault."""
        if tail:
            self._write(tail, tail_at)
            self.device.flush()
        for part in reversed(self.head_parts()):
            self._write(head[part.first_byte : part.end], part.first_byte)
            self.device.flush()
        self.written_bytes += HEAD_BYTES

    def unseal(self) -> None:
        """Takes the partition table away again, as far as the device still obeys."""
        try:
            buffer = aligned_buffer(_FIRST)
            buffer[:] = journals.marker(self.journal.run)[:_FIRST]
            view = memoryview(buffer)
            for part in subtract((Range(0, _FIRST),), self._kept):
                self.device.write_from(view[part.first_byte : part.end], part.first_byte)
            self.device.flush()
        except Exception:  # the fault that led here is the one to tell
            pass

    def head_parts(self) -> tuple[Range, ...]:
        """The head without what is kept: its first 4 KiB apart, and first."""
        first = subtract((Range(0, _FIRST),), self._kept)
        return first + subtract((Range(_FIRST, HEAD_BYTES - _FIRST),), self._kept)

    def _clear_tail(self, image_end: int | None) -> None:
        """The copy of an older GPT at the card's end would bring its partitions back."""
        size = self.device.size_bytes
        start = max(HEAD_BYTES, size - _TAIL_BYTES)
        if image_end is not None and image_end > start:
            start = -(-image_end // _FIRST) * _FIRST
        for part in subtract((Range(start, max(0, size - start)),), self._kept):
            self.device.zero(part.first_byte, part.length)

    def _write(self, view: memoryview, offset: int) -> None:
        if self._on_write is not None:
            self._on_write(offset)
        self.device.write_from(view, offset)

    def _discard(self, free: tuple[Range, ...]) -> None:
        try:
            for item in free:
                for offset in range(item.first_byte, item.end, _DISCARD_STEP):
                    length = min(_DISCARD_STEP, item.end - offset)
                    begun = time.monotonic()
                    if self._stopped or not self.device.discard(offset, length):
                        return
                    # A device does one thing at a time: what is written has its turns. What
                    # took long has waited for them already.
                    taken = time.monotonic() - begun
                    if taken < _DISCARD_QUICK_SECONDS:
                        self._given.wait(3 * taken)
            self.discarded = True
        except Exception as error:
            with self._lock:
                self.fault = self.fault or error

    def _work(self) -> None:
        while True:
            batch = self._queue.get()
            if batch is None:
                return
            try:
                if self.fault is None and not self._stopped:
                    self._take(batch)
            except Exception as error:
                with self._lock:
                    self.fault = self.fault or error
            finally:
                batch.release()

    def _take(self, batch: Batch) -> None:
        entry = batch.entry
        if entry.key in self._done:
            self.skipped_bytes += entry.length
        elif entry.zero:
            for piece in entry.pieces:
                self.device.zero(piece.offset, piece.length)
        else:
            for piece in entry.pieces:
                self._write(batch.view[piece.start : piece.start + piece.length], piece.offset)
        with self._lock:
            self.written_bytes += entry.length
            self._fresh.append(entry.key)
        if self.task is not None:
            self.task.advance(entry.length)
        # Shortly before the end, so that the last flush, which all wait for, has little to do.
        few = self._given.is_set() and self._queue.qsize() <= len(self._threads) + THREADS
        nearly = few and not self._nearly_done
        self._nearly_done = self._nearly_done or nearly
        self._checkpoint(now=nearly)

    def _checkpoint(self, *, force: bool = False, now: bool = False) -> None:
        """Flushes what is written so far and notes it in the journal: when it is time again,
        ``now`` unless another thread is at it, with ``force`` in any case."""
        if not (force or now) and time.monotonic() - self._checked_at < self._interval:
            return
        if not self._flushing.acquire(blocking=force):
            return
        try:
            with self._lock:
                fresh, self._fresh = self._fresh, []
            self.device.flush()
            if fresh:
                self.journal.add(fresh)
            self._checked_at = time.monotonic()
        finally:
            self._flushing.release()
