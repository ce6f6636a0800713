"""Flashing: one image onto one or several devices, verified, never half done unnoticed.

The order, for each device: its first megabyte becomes a marker, so there is no partition
table; everything behind it is written and flushed; all of it is read back past the caches,
the marker too (a counterfeit card that wraps around would have overwritten it); only then
comes the first megabyte, its first 4 KiB last, and is read back in turn.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from embedkit.errors import InputError, TargetError
from embedkit.media import journal as journals
from embedkit.media import pipeline
from embedkit.media.blockdev import BlockDevice, Identity, aligned_buffer, open_device
from embedkit.media.content import HEAD_BYTES, Content, Layout, lay_out
from embedkit.media.outcome import Options, Outcome
from embedkit.media.pipeline import Batch, Entry, Pool
from embedkit.media.ranges import total
from embedkit.media.stream import Image, Reader
from embedkit.media.sums import SumChecker, SumThread
from embedkit.media.writer import DeviceWriter
from embedkit.progress import Progress
from embedkit.units import format_size

# So much is checked against the block map before the first byte is written: an image and a
# .bmap that do not belong together differ at once.
_PRIME_SHARE = 3  # of the buffers, as a divisor
_PRIME_SECONDS = 0.005


def write_image(
    image: Image,
    content: Content,
    targets: Sequence[Identity],
    options: Options,
    progress: Progress,
) -> tuple[Outcome, ...]:
    """Writes ``image`` to all ``targets`` in one pass; an outcome for each, in their order.

    Raises InputError or LackError before anything is written: a device that is not what it
    was, in use or too small, an image that cannot be read. What happens later is in the
    outcomes. KeyboardInterrupt passes through, after every device was left resumable.
    """
    devices: list[BlockDevice] = []
    flash: _Flash | None = None
    try:
        for identity in targets:
            devices.append(open_device(identity, write=True, direct=options.direct))
        flash = _Flash(image, content, devices, targets, options, progress)
        return flash.run()
    except InputError as error:
        error.where = error.where or image.info.name
        raise
    finally:
        # After a second Ctrl-C a thread may still write: the number of its descriptor must
        # not become another file's. The process is about to end, and closes it.
        if flash is None or flash.idle:
            for device in devices:
                device.close()


class _Flash:
    """One run. The steps are the methods of ``run``, in order."""

    def __init__(
        self,
        image: Image,
        content: Content,
        devices: Sequence[BlockDevice],
        targets: Sequence[Identity],
        options: Options,
        progress: Progress,
    ) -> None:
        self.image = image
        self.content = content
        self.options = options
        self.progress = progress
        self.sector_bytes = max(device.sector_bytes for device in devices)
        self._check_sizes(devices)
        self.writers = [self._writer(*pair) for pair in zip(devices, targets, strict=True)]
        plain = image.info.is_plain_file
        self.pool = Pool(pipeline.PLAIN_POOL_BATCHES if plain else pipeline.POOL_BATCHES)
        self.entries: list[Entry] = []
        self.head = memoryview(aligned_buffer(HEAD_BYTES))
        self.size: int | None = None
        self.begun = time.monotonic()
        self._futures: list[Future[Outcome]] = []

    def run(self) -> tuple[Outcome, ...]:
        reader = self.image.reader(self.content.mapped)
        try:
            layout = self._read_head(reader)
            if self.options.grow:
                self._check_grow()
            failure = self._write_all(reader, layout)
        finally:
            reader.close()
        if failure is not None:
            for writer in self.writers:
                writer.fault = writer.fault or failure
        # Here, so that the card does not wait for what is needed last.
        from embedkit.media.completion import Written, complete

        written = Written(
            self.image,
            layout,
            self.entries,
            bytes(self.head),
            self.size,
            self.begun,
            time.monotonic(),
        )
        with ThreadPoolExecutor(max(1, len(self.writers))) as pool:
            stop = threading.Event()
            self._futures = [
                pool.submit(complete, writer, written, self.options, self.progress, stop)
                for writer in self.writers
            ]
            try:
                return tuple(future.result() for future in self._futures)
            except BaseException:
                stop.set()
                raise

    @property
    def idle(self) -> bool:
        """No thread uses a device any more."""
        done = all(future.done() for future in self._futures)
        return done and all(writer.idle for writer in self.writers)

    @property
    def _all_failed(self) -> bool:
        return all(writer.fault is not None for writer in self.writers)

    def _check_sizes(self, devices: Sequence[BlockDevice]) -> None:
        for device in devices:
            needed = max(HEAD_BYTES, self.content.size or 0)
            if device.size_bytes < needed:
                raise InputError(
                    f"the device is too small: {device.size_bytes} bytes, {needed} are needed",
                    where=str(device.path),
                )
        for kept in self.content.kept:
            if kept.first_byte % self.sector_bytes or kept.length % self.sector_bytes:
                raise InputError(f"what is to be kept does not lie on whole sectors: {kept}")

    def _writer(self, device: BlockDevice, identity: Identity) -> DeviceWriter:
        done: frozenset[journals.Key] = frozenset()
        if self.options.resume:
            first = memoryview(aligned_buffer(4096))
            device.read_into(first, 0)
            journal, done = journals.resume(bytes(first[:512]), device.path)
        else:
            journal = journals.new(journals.new_run())
        return DeviceWriter(
            device,
            identity,
            journal,
            done,
            resumed=self.options.resume,
            kept=self.content.kept,
            checkpoint_seconds=self.options.checkpoint_seconds,
            on_write=self.options.on_write,
        )

    def _read_head(self, reader: Reader) -> Layout:
        pipeline.read_head(reader, self.content.mapped, self.head)
        layout = lay_out(self.content, bytes(self.head), sector_bytes=self.sector_bytes)
        for warning in layout.warnings:
            self.progress.say(f"warning: {warning}")
        return layout

    def _check_grow(self) -> None:
        from embedkit.media.grow import check

        sizes = [writer.device.size_bytes for writer in self.writers]
        check(self.image, bytes(self.head), self.content.size, sizes, self.sector_bytes)

    def _write_all(self, reader: Reader, layout: Layout) -> InputError | TargetError | None:
        """Reads once, writes everywhere. An error of the image is returned, not raised, as
        soon as something was written: every device then still gets its outcome."""
        checker = SumChecker(self.content)
        checker.feed(0, self.head)
        stream = self._batches(reader, layout)
        try:
            primed = self._prime(stream, checker)
        except BaseException:
            stream.close()
            raise
        self._arm(layout)
        sums = SumThread(checker)
        expected = total(layout.data) + total(layout.zero) if layout.data is not None else None
        for writer in self.writers:
            writer.task = self.progress.start(
                f"writing {writer.device.path}", total=expected, unit="bytes"
            )
            discard = self.options.discard
            size = writer.device.size_bytes
            writer.start(layout.free(self.content, size) if discard else ())
        try:
            for batch in primed:
                self._hand_out(batch)
            for batch in stream:
                self._check_end(batch)
                self._hand_out(batch, sums)
                if sums.error is not None or self._all_failed:
                    break
            if not self._all_failed:
                sums.finish()
                size = reader.drain(self.content.size)
                if self.content.size is not None and size < self.content.size:
                    raise InputError(
                        f"the image has {size} bytes, its block map promises {self.content.size}"
                    )
                self.size = size
            return None
        except (InputError, TargetError) as error:
            error.where = error.where or self.image.info.name
            self._stop()
            return error
        except BaseException:
            self._stop()
            raise
        finally:
            stream.close()
            sums.close()
            self.pool.retire()
            for writer in self.writers:
                writer.finish()
                if writer.task is not None:
                    writer.task.finish()

    def _batches(self, reader: Reader, layout: Layout) -> Generator[Batch, None, None]:
        yield from pipeline.zero_batches(layout.zero, self.pool)
        yield from pipeline.batches(
            reader,
            layout.data,
            self.pool,
            start=HEAD_BYTES,
            sector_bytes=self.sector_bytes,
            limit=pipeline.FINE_BATCH_BYTES if self.content.mapped is None else self.pool.size,
        )

    def _prime(self, stream: Iterator[Batch], checker: SumChecker) -> list[Batch]:
        primed: list[Batch] = []
        if self.image.info.is_plain_file:
            return primed  # nothing to decode, and samples of it were compared already
        begun = time.monotonic()
        for batch in stream:
            self._check_end(batch)
            checker.feed_batch(batch)
            primed.append(batch)
            late = time.monotonic() - begun > _PRIME_SECONDS
            enough = len(primed) >= self.pool.count // _PRIME_SHARE
            if enough or late or not self.content.sums:
                break
        return primed

    def _check_end(self, batch: Batch) -> None:
        for piece in batch.entry.pieces:
            end = piece.offset + piece.length
            for writer in self.writers:
                if end > writer.device.size_bytes and writer.fault is None:
                    writer.fault = InputError(
                        "the image is larger than the device "
                        f"({format_size(writer.device.size_bytes)})",
                        where=str(writer.device.path),
                    )

    def _arm(self, layout: Layout) -> None:
        def arm(writer: DeviceWriter) -> None:
            writer.arm(self.image.info.name, self.content.size)

        ready = [writer for writer in self.writers if writer.fault is None]
        with ThreadPoolExecutor(max(1, len(ready))) as pool:
            list(pool.map(arm, ready))

    def _hand_out(self, batch: Batch, sums: SumThread | None = None) -> None:
        """To every device, and to ``sums`` where it was not compared yet."""
        self.entries.append(batch.entry)
        batch.hold(len(self.writers) + (1 if sums is not None else 0))
        if sums is not None:
            sums.put(batch)
        for writer in self.writers:
            writer.put(batch)

    def _stop(self) -> None:
        for writer in self.writers:
            writer.stop()
