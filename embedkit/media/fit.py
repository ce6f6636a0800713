"""An image's partition table, made to fit a larger card.

A GPT's second copy belongs to the card's end (UEFI 2.10, 5.3.2), not to the image's: programs
complain of a card where it is not, and offer to "repair" it. The last partition may be grown
on the way. All other bytes of the table stay as the image has them.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

from embedkit.media.ranges import Range
from embedkit.media.tables import EXTENDED, chs

_MBR_SLOTS = range(446, 510, 16)
_PROTECTIVE = 0xEE
_MAX_SECTOR = 0xFFFFFFFF
# Ends of grown partitions: the block of file systems.
_BLOCK = 4096


@dataclass(frozen=True)
class Fitted:
    """``head``: the card's first bytes; ``tail``: what is to be at its end, from byte ``tail_at``.

    ``grown`` is where the last partition is now, None where it was not to be grown.
    """

    head: bytes
    tail: bytes = b""
    tail_at: int = 0
    grown: Range | None = None


def fit(
    head: bytes, image_bytes: int | None, device_bytes: int, sector: int, *, grow: bool = False
) -> Fitted | None:
    """``head`` (an image's first megabyte) for a device of ``device_bytes``.

    None where nothing is to be changed: the image fills the device, has no table, or has one
    that is more than its maker's tools would have written (a hybrid of MBR and GPT, no second
    copy, damaged). ``grow``: the last partition is to reach the card's end. ``image_bytes``
    None: not known, a GPT's own word is taken for it.
    """
    if (image_bytes or 0) >= device_bytes or head[510:512] != b"\x55\xaa":
        return None
    kinds = [head[at + 4] for at in _MBR_SLOTS]
    if _PROTECTIVE in kinds:
        alone = sum(1 for kind in kinds if kind) == 1
        gpt = _Gpt.of(head, sector) if alone else None
        return gpt.fitted(image_bytes, device_bytes, grow=grow) if gpt is not None else None
    return _grown_mbr(head, device_bytes, sector) if grow else None


def ends_in_logical(head: bytes) -> bool:
    """Whether the last partition of an MBR is an extended one, with logical ones in it."""
    last = _last_slot(head)
    return last is not None and head[last + 4] in EXTENDED


def _last_slot(head: bytes) -> int | None:
    """Where in the MBR the entry of the partition is that lies last on the card."""
    found = []
    for at in _MBR_SLOTS:
        start, count = struct.unpack_from("<II", head, at + 8)
        if head[at + 4] and count:
            found.append((start, at))
    return max(found)[1] if found else None


def _grown_mbr(head: bytes, device_bytes: int, sector: int) -> Fitted | None:
    at = _last_slot(head)
    if at is None or head[at + 4] in EXTENDED:
        return None
    start = struct.unpack_from("<I", head, at + 8)[0]
    end = min(device_bytes // _BLOCK * _BLOCK // sector, _MAX_SECTOR)
    changed = bytearray(head)
    changed[at + 5 : at + 8] = chs(end - 1)
    struct.pack_into("<I", changed, at + 12, end - start)
    return Fitted(bytes(changed), grown=Range(start * sector, (end - start) * sector))


@dataclass(frozen=True)
class _Gpt:
    """The primary header's fields that matter here. Places are sectors."""

    head: bytes
    sector: int
    header_bytes: int
    other: int
    entries_at: int
    count: int
    entry_bytes: int

    @classmethod
    def of(cls, head: bytes, sector: int) -> _Gpt | None:
        """None where the primary header or its entries are not in ``head``, or damaged."""
        header = head[sector : 2 * sector]
        if len(header) < sector or header[:8] != b"EFI PART":
            return None
        length, checksum = struct.unpack_from("<II", header, 12)
        own, other = struct.unpack_from("<QQ", header, 24)
        entries_at, count, entry_bytes, entries_sum = struct.unpack_from("<QIII", header, 72)
        if not 92 <= length <= sector or own != 1 or not 0 < count <= 1024:
            return None
        if entry_bytes not in (128, 256, 512):
            return None
        entries = head[entries_at * sector : entries_at * sector + count * entry_bytes]
        if len(entries) < count * entry_bytes or zlib.crc32(entries) != entries_sum:
            return None
        if zlib.crc32(header[:16] + bytes(4) + header[20:length]) != checksum:
            return None
        return cls(head, sector, length, other, entries_at, count, entry_bytes)

    def fitted(self, image_bytes: int | None, device_bytes: int, *, grow: bool) -> Fitted | None:
        sector = self.sector
        room = -(-self.count * self.entry_bytes // sector)
        last = device_bytes // sector - 1
        if image_bytes is None:
            image_bytes = (self.other + 1) * sector
        # The image's own copy must be at its end, and not where the new one goes.
        if self.other != image_bytes // sector - 1 or image_bytes > (last - room) * sector:
            return None
        entries = bytearray(self._entries())
        grown = self._grow(entries, (last - room) * sector) if grow else None
        head = bytearray(self.head)
        start = self.entries_at * sector
        head[start : start + len(entries)] = entries
        head[sector : 2 * sector] = self._header(1, last, self.entries_at, last - room - 1, entries)
        for at in _MBR_SLOTS:
            if head[at + 4] == _PROTECTIVE:
                struct.pack_into("<I", head, at + 12, min(last, _MAX_SECTOR))
        tail = bytes(entries).ljust(room * sector, b"\0")
        tail += self._header(last, 1, last - room, last - room - 1, entries)
        return Fitted(bytes(head), tail, (last - room) * sector, grown)

    def _entries(self) -> bytes:
        start = self.entries_at * self.sector
        return self.head[start : start + self.count * self.entry_bytes]

    def _grow(self, entries: bytearray, usable_bytes: int) -> Range | None:
        """Moves the end of the last partition in ``entries``; its new place."""
        found = []
        for at in range(0, len(entries), self.entry_bytes):
            if any(entries[at : at + 16]):
                found.append((struct.unpack_from("<Q", entries, at + 32)[0], at))
        if not found:
            return None
        start, at = max(found)
        end = usable_bytes // _BLOCK * _BLOCK // self.sector
        struct.pack_into("<Q", entries, at + 40, end - 1)
        return Range(start * self.sector, (end - start) * self.sector)

    def _header(
        self, own: int, other: int, entries_at: int, last_usable: int, entries: bytes | bytearray
    ) -> bytes:
        header = bytearray(self.head[self.sector : 2 * self.sector])
        struct.pack_into("<QQ", header, 24, own, other)
        struct.pack_into("<Q", header, 48, last_usable)
        struct.pack_into("<Q", header, 72, entries_at)
        struct.pack_into("<I", header, 88, zlib.crc32(entries))
        struct.pack_into("<I", header, 16, 0)
        struct.pack_into("<I", header, 16, zlib.crc32(bytes(header[: self.header_bytes])))
        return bytes(header)
