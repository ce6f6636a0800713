"""Comparing an image with its block map's hashes while its bytes pass."""

from __future__ import annotations

import hashlib
import os
import queue
import threading

from embedkit.errors import InputError
from embedkit.media.bmap import MappedRange
from embedkit.media.content import Content
from embedkit.media.pipeline import Batch


class SumChecker:
    """Compares the image with its block map's hashes while its bytes pass in order."""

    def __init__(self, content: Content) -> None:
        self._sums = content.sums
        self._hash = content.hash_name
        self._size = content.size
        self._index = 0
        self._digest = hashlib.new(content.hash_name)
        self._at = content.sums[0].first_byte if content.sums else 0

    def feed(self, offset: int, view: memoryview) -> None:
        """The next bytes of the image. Raises InputError at the end of a range that differs."""
        end = offset + len(view)
        while self._index < len(self._sums):
            item = self._sums[self._index]
            start = max(item.first_byte, offset)
            stop = min(item.end, end)
            if start >= stop:
                return
            if start == self._at:
                self._digest.update(view[start - offset : stop - offset])
                self._at = stop
            if stop < item.end:
                return
            if self._at != item.end or self._digest.hexdigest() != item.digest:
                raise wrong_sum(item)
            self._index += 1
            self._digest = hashlib.new(self._hash)
            if self._index < len(self._sums):
                self._at = self._sums[self._index].first_byte

    def feed_batch(self, batch: Batch) -> None:
        """The next batch; one of zeros that were never read has nothing to compare."""
        if batch.view:
            for piece in batch.entry.pieces:
                self.feed(piece.offset, batch.view[piece.start : piece.start + piece.length])

    def finish(self) -> None:
        """Raises InputError where a range was never completed."""
        if self._index < len(self._sums):
            raise wrong_sum(self._sums[self._index])


def wrong_sum(item: MappedRange) -> InputError:
    """The error for a range whose content is not what the block map's hash says."""
    return InputError(
        f"the image differs from its block map in bytes {item.first_byte} to {item.end - 1}",
        hint="image and .bmap do not belong together, or one is damaged: fetch both again",
    )


class SumThread:
    """Feeds a SumChecker on a thread of its own: hashing keeps neither reader nor writers.

    Each batch that is ``put`` is released once. ``error`` is what was found so far.
    """

    def __init__(self, checker: SumChecker) -> None:
        self.error: Exception | None = None
        self._checker = checker
        self._queue: queue.SimpleQueue[Batch | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="sums", daemon=True)
        self._thread.start()

    def put(self, batch: Batch) -> None:
        self._queue.put(batch)

    def finish(self) -> None:
        """After the last batch. Raises InputError where the image differs."""
        self.close()
        if self.error is not None:
            raise self.error
        self._checker.finish()

    def close(self) -> None:
        """Waits until all batches are let go. May be called twice."""
        self._queue.put(None)
        self._thread.join()

    def _work(self) -> None:
        os.nice(5)  # of this thread alone (Linux): who feeds the card goes first
        while (batch := self._queue.get()) is not None:
            try:
                if self.error is None:
                    self._checker.feed_batch(batch)
            except Exception as error:
                self.error = error
            finally:
                batch.release()
