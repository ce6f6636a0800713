"""The end of a flash, for each device: read-back, growth, and the first megabyte at last.

Nothing finds partitions on the card before ``complete`` has put the first megabyte in place,
and it does so only where all that was written was found on the device.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass

from embedkit.errors import EmbedkitError, TargetError
from embedkit.media import journal as journals
from embedkit.media.blockdev import DeviceFault, aligned_buffer
from embedkit.media.content import HEAD_BYTES, Layout
from embedkit.media.fit import Fitted, fit
from embedkit.media.outcome import Options, Outcome, State
from embedkit.media.pipeline import Entry
from embedkit.media.ranges import total
from embedkit.media.readback import Mismatch, explain, first_difference, first_wrong
from embedkit.media.stream import Image
from embedkit.media.writer import DeviceWriter
from embedkit.progress import Progress


@dataclass(frozen=True)
class Written:
    """What was put on every device behind the first megabyte, and what belongs into that.

    ``size`` is the image's, in bytes; None where the image ended in an error. ``begun`` and
    ``ended`` are seconds of the monotonic clock.
    """

    image: Image
    layout: Layout
    entries: Sequence[Entry]
    head: bytes
    size: int | None
    begun: float
    ended: float


def complete(
    writer: DeviceWriter,
    written: Written,
    options: Options,
    progress: Progress,
    stop: threading.Event,
) -> Outcome:
    """Brings the device of ``writer`` to its end. Errors are in the outcome."""
    return _Completion(writer, written, options, progress, stop).run()


class _Completion:
    def __init__(
        self,
        writer: DeviceWriter,
        written: Written,
        options: Options,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        self.writer = writer
        self.device = writer.device
        self.written = written
        self.layout = written.layout
        self.options = options
        self.progress = progress
        self.stop = stop

    def run(self) -> Outcome:
        writer = self.writer
        try:
            if writer.fault is not None:
                raise writer.fault
            fitted = self._fitted()
            mismatch = self._verify() if self.options.verify else None
            if mismatch is None and fitted.grown is not None:
                self._grow(fitted)
            if mismatch is None:
                self._go_on()
                writer.seal(_aligned(fitted.head), _aligned(fitted.tail), fitted.tail_at)
                if self.options.verify:
                    mismatch = self._verify_sealed(fitted)
                    if mismatch is not None:
                        writer.unseal()
        except EmbedkitError as error:
            return self._failed(error)
        writer.journal.forget()
        state = State.VERIFIED if self.options.verify else State.WRITTEN
        if mismatch is not None:
            state = State.DIFFERS
        return Outcome(
            writer.identity,
            state,
            writer.written_bytes,
            verified_bytes=writer.written_bytes if state is State.VERIFIED else 0,
            resumed_bytes=writer.skipped_bytes,
            zeroed_bytes=total(self.layout.zero),
            discarded=writer.discarded,
            table_reread=mismatch is None and self.device.reread_partitions(),
            write_seconds=self.written.ended - self.written.begun,
            verify_seconds=time.monotonic() - self.written.ended if self.options.verify else 0.0,
            mismatch=mismatch,
            grown=fitted.grown if mismatch is None else None,
            table_moved=bool(fitted.tail) and mismatch is None,
            warnings=self.layout.warnings,
        )

    def _go_on(self) -> None:
        """Raises TargetError after Ctrl-C: the next step is not one to stop in."""
        if self.stop.is_set():
            raise TargetError("interrupted before the card was finished")

    def _fitted(self) -> Fitted:
        """The first megabyte for this device: a larger one has its GPT's copy elsewhere."""
        plain = Fitted(self.written.head)
        size = self.written.size
        if size is None or not self.options.fit_table:
            return plain
        fitted = fit(
            plain.head,
            size,
            self.device.size_bytes,
            self.device.sector_bytes,
            grow=self.options.grow,
        )
        return fitted or plain

    def _grow(self, fitted: Fitted) -> None:
        from embedkit.media.grow import grow_ext

        assert fitted.grown is not None
        self._go_on()
        # From here on the card holds other bytes than the journal says.
        self.writer.journal.forget()
        self.writer.resumable = False
        grow_ext(self.device, fitted.grown, self.progress, verify=self.options.verify)

    def _verify(self) -> Mismatch | None:
        marker = Fitted(journals.marker(self.writer.journal.run))
        mismatch = self._verify_sealed(marker)
        if mismatch is not None:
            return Mismatch(
                mismatch.first_byte,
                mismatch.length,
                True,
                mismatch.region,
                "a write to another place ended up here, or none arrives: the device has less "
                "capacity than it claims (counterfeit), or drops writes",
            )
        alias = _alias_of_head(self.writer)
        if alias is not None:
            what = "it shows the first megabyte again: the device has no more capacity than this "
            region = self.layout.names(alias)
            return Mismatch(alias, 512, True, region, what + "(counterfeit)")
        entries = self.written.entries
        task = self.progress.start(
            f"verifying {self.device.path}",
            total=sum(entry.length for entry in entries),
            unit="bytes",
        )
        try:
            index = first_wrong(self.device, entries, task, self.stop.is_set)
        finally:
            task.finish()
        if index is None:
            return None
        return explain(self.device, entries, index, self.written.image, self.layout.names)

    def _verify_sealed(self, meant: Fitted) -> Mismatch | None:
        """Whether the first megabyte, and what is at the card's end, are as ``meant``."""
        pieces = [
            (part.first_byte, meant.head[part.first_byte : part.end])
            for part in sorted(self.writer.head_parts())
        ]
        if meant.tail:
            pieces.append((meant.tail_at, meant.tail))
        buffer = memoryview(aligned_buffer(HEAD_BYTES))
        for offset, expected in pieces:
            view = buffer[: len(expected)]
            self.device.read_into(view, offset)
            difference = first_difference(bytes(view), expected)
            if difference is not None:
                place = (offset + difference) // 512 * 512
                what = "it does not hold what was written"
                return Mismatch(place, 512, True, self.layout.names(place), what)
        return None

    def _failed(self, error: EmbedkitError) -> Outcome:
        writer = self.writer
        if isinstance(error, DeviceFault) and error.where is None:
            error.where = str(self.device.path)
            if error.offset is not None:
                name = self.layout.names(error.offset)
                inside = f", in {name}" if name else ""
                error.where += f", sector {error.offset // 512}{inside}"
        return Outcome(
            writer.identity,
            State.FAILED,
            writer.written_bytes,
            resumed_bytes=writer.skipped_bytes,
            write_seconds=self.written.ended - self.written.begun,
            error=error,
            warnings=(_state_of(writer), *self.layout.warnings),
        )


def _aligned(content: bytes) -> memoryview:
    """``content`` in memory that direct I/O takes."""
    if not content:
        return memoryview(b"")
    buffer = aligned_buffer(len(content))
    buffer[:] = content
    return memoryview(buffer)


def _alias_of_head(writer: DeviceWriter) -> int | None:
    """Where the head's marker shows up a second time: a card that starts over there.

    Written data betrays most such cards when it is read back. One whose aliases all fall into
    holes would pass, and fail its user later; their sizes are mostly powers of two.
    """
    buffer = memoryview(aligned_buffer(4096))
    offset = HEAD_BYTES * 2
    while offset + len(buffer) <= writer.device.size_bytes:
        writer.device.read_into(buffer, offset)
        if journals.run_of(bytes(buffer[:512])) == writer.journal.run:
            return offset
        offset *= 2
    return None


def _state_of(writer: DeviceWriter) -> str:
    """What the user finds on a device that failed."""
    if not writer.touched:
        return "nothing was written to the device"
    if not writer.armed:
        return "the device's first megabyte may be damaged; nothing else was changed"
    if not writer.resumable:
        return "the device has no partition table now; flash it again"
    return (
        "the device has no partition table now; 'embedkit flash --resume' goes on where it stopped"
    )
