"""Reading a card back, past every cache of this machine, and saying what is wrong with it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embedkit.errors import EmbedkitError, TargetError
from embedkit.media.blockdev import BlockDevice, aligned_buffer
from embedkit.media.pipeline import BATCH_BYTES, Entry, Piece, digest_of, zero_digest
from embedkit.media.ranges import Range
from embedkit.media.stream import Image
from embedkit.progress import Task

THREADS = 2
SECTOR = 512


@dataclass(frozen=True)
class Mismatch:
    """The first place where a card is not what was meant. ``exact``: down to the sector.

    ``first_byte`` is exact, or the start of the ``length`` bytes in which the fault lies.
    """

    first_byte: int
    length: int
    exact: bool
    region: str
    what: str

    @property
    def text(self) -> str:
        """``sector 4711 (in partition 2): reads as zeros``."""
        first = self.first_byte // SECTOR
        last = (self.first_byte + max(self.length, 1) - 1) // SECTOR
        place = f"sector {first}" if self.exact else f"within sectors {first} to {last}"
        region = f" (in {self.region})" if self.region else ""
        return f"{place}{region}: {self.what}"


def first_wrong(
    device: BlockDevice, entries: Sequence[Entry], task: Task, stopped: Callable[[], bool]
) -> int | None:
    """The index of the first entry that the device does not hold, None where it holds all.

    Raises DeviceFault where it cannot be read.
    """
    lock = threading.Lock()
    state = _State(len(entries))

    def work() -> None:
        buffer = memoryview(aligned_buffer(BATCH_BYTES))
        while not stopped():
            with lock:
                index = state.next
                state.next += 1
                if index >= state.limit or state.fault is not None:
                    return
            try:
                same = _holds(device, entries[index], buffer)
            except Exception as error:
                with lock:
                    state.fault = state.fault or error
                return
            task.advance(entries[index].length)
            if not same:
                with lock:
                    state.limit = min(state.limit, index)
                    state.wrong = min(state.wrong, index)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if state.fault is not None:
        raise state.fault
    if stopped():
        # Not verified is not "nothing wrong": the caller must never seal the card then.
        raise TargetError("interrupted while the card was read back")
    return state.wrong if state.wrong < len(entries) else None


@dataclass
class _State:
    limit: int
    next: int = 0
    fault: Exception | None = None

    def __post_init__(self) -> None:
        self.wrong = self.limit


def _holds(device: BlockDevice, entry: Entry, buffer: memoryview) -> bool:
    if entry.zero:
        return all(
            _is_zero(device, offset, min(len(buffer), piece.offset + piece.length - offset), buffer)
            for piece in entry.pieces
            for offset in range(piece.offset, piece.offset + piece.length, len(buffer))
        )
    for piece in entry.pieces:
        device.read_into(buffer[piece.start : piece.start + piece.length], piece.offset)
    return digest_of(buffer[: entry.length]) == entry.digest


def _is_zero(device: BlockDevice, offset: int, length: int, buffer: memoryview) -> bool:
    device.read_into(buffer[:length], offset)
    return digest_of(buffer[:length]) == zero_digest(length)


def explain(
    device: BlockDevice,
    entries: Sequence[Entry],
    index: int,
    image: Image,
    names: Callable[[int], str],
) -> Mismatch:
    """What exactly is wrong with the entry at ``index``: it is read again, and the image too."""
    entry = entries[index]
    buffer = memoryview(aligned_buffer(max(BATCH_BYTES, 4096)))
    elsewhere = {other.digest: other for other in entries if not other.zero}
    for piece in entry.pieces:
        for offset in range(piece.offset, piece.offset + piece.length, len(buffer)):
            length = min(len(buffer), piece.offset + piece.length - offset)
            device.read_into(buffer[:length], offset)
            found = bytes(buffer[:length])
            meant = _meant(image, entry, offset, length)
            if meant is None:
                continue
            difference = first_difference(found, meant)
            if difference is not None:
                return _describe(offset, difference, found, meant, names, piece, elsewhere)
    # The image cannot be read twice: the batch is as close as it gets.
    first = entry.pieces[0]
    last = entry.pieces[-1]
    what = _alias(device, entry, buffer, elsewhere) or "it does not hold what was written"
    span = last.offset + last.length - first.offset
    return Mismatch(first.offset, span, False, names(first.offset), what)


def _describe(
    offset: int,
    difference: int,
    found: bytes,
    meant: bytes,
    names: Callable[[int], str],
    piece: Piece,
    elsewhere: dict[bytes, Entry],
) -> Mismatch:
    sector = difference // SECTOR * SECTOR
    what = describe_difference(found[sector : sector + SECTOR], meant[sector : sector + SECTOR])
    other = elsewhere.get(digest_of(memoryview(found)))
    if other is not None and other.pieces[0].offset != piece.offset:
        what = _alias_text(other)
    place = offset + sector
    return Mismatch(place, SECTOR, True, names(place), what)


def _alias(
    device: BlockDevice, entry: Entry, buffer: memoryview, elsewhere: dict[bytes, Entry]
) -> str:
    if entry.zero:
        return ""
    for piece in entry.pieces:
        device.read_into(buffer[piece.start : piece.start + piece.length], piece.offset)
    other = elsewhere.get(digest_of(buffer[: entry.length]))
    return _alias_text(other) if other is not None and other is not entry else ""


def _alias_text(other: Entry) -> str:
    return (
        f"it holds what was written to sector {other.pieces[0].offset // SECTOR}: "
        "the device has less capacity than it claims (counterfeit)"
    )


def describe_difference(found: bytes, meant: bytes) -> str:
    """In words how a sector differs from what it should be."""
    if not any(found):
        return "it reads as zeros: the write was lost"
    if found[:1] == b"\xff" and len(set(found)) == 1:
        return "it reads as erased (FF): the write was lost"
    bits = sum((a ^ b).bit_count() for a, b in zip(found, meant, strict=False))
    if bits <= 16:
        return f"{bits} bit{'s' if bits > 1 else ''} flipped"
    return "it holds other bytes than were written"


def first_difference(one: bytes, other: bytes) -> int | None:
    """The index of the first byte that differs, None where none does."""
    if one == other:
        return None
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high) // 2
        if one[low : middle + 1] == other[low : middle + 1]:
            low = middle + 1
        else:
            high = middle
    return low


def _meant(image: Image, entry: Entry, offset: int, length: int) -> bytes | None:
    if entry.zero:
        return bytes(length)
    if not image.info.reopenable:
        return None
    try:
        reader = image.reader((Range(offset, length),))
        try:
            buffer = bytearray(length)
            reader.seek(offset)
            reader.readinto(memoryview(buffer))
            return bytes(buffer)
        finally:
            reader.close()
    except EmbedkitError:
        return None
