"""Partition tables: MBR and GPT, written and read without any library.

Sources: the MBR as Linux reads it (block/partitions/msdos.c) and UEFI 2.10, chapter 5 (GPT
header and entries, protective MBR). Sectors are of 512 bytes unless a table says otherwise.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum

from embedkit.errors import InputError
from embedkit.media.ranges import Range
from embedkit.units import SECTOR

GPT_ENTRIES = 128
_ENTRY_BYTES = 128
# UEFI 2.10, 5.3.1: at least 16,384 bytes are reserved for the entries.
_ENTRIES_BYTES = GPT_ENTRIES * _ENTRY_BYTES
_HEADER = struct.Struct("<8sIIII QQQQ 16s Q III")
_ENTRY = struct.Struct("<16s16sQQQ72s")
_MBR_ENTRY = struct.Struct("<B3sB3sII")
_MAX_SECTOR = 0xFFFFFFFF

BOOTABLE = 1 << 2  # GPT attribute bit 2, "Legacy BIOS Bootable": what U-Boot scans for
#: MBR types whose partition holds logical ones (block/partitions/msdos.c of Linux).
EXTENDED = (0x05, 0x0F, 0x85)
EMPTY_TYPE = "00000000-0000-0000-0000-000000000000"

Read = Callable[[int, int], bytes]


class TableKind(StrEnum):
    MBR = "mbr"
    GPT = "gpt"


@dataclass(frozen=True)
class Entry:
    """One partition. ``type`` is ``"0x83"`` in an MBR, a GUID in a GPT (lower case)."""

    number: int
    first_sector: int
    sectors: int
    type: str
    bootable: bool = False
    name: str = ""
    uuid: str = ""
    attributes: int = 0

    @property
    def end_sector(self) -> int:
        """The first sector after it."""
        return self.first_sector + self.sectors


@dataclass(frozen=True)
class PartitionTable:
    """A table as it is meant, or as it was read.

    ``identity`` is the MBR's disk signature (``"0x1234abcd"``) or the GPT's disk GUID.
    ``entries_sector`` is where the primary GPT entries start (2 unless a boot ROM wants that
    place); ``backup`` whether the copy at the card's end is there.
    """

    kind: TableKind
    identity: str
    entries: tuple[Entry, ...]
    entries_sector: int = 2
    backup: bool = True
    sector_bytes: int = SECTOR


def reserved(
    table_kind: TableKind, size_bytes: int, *, entries_sector: int, backup: bool
) -> tuple[tuple[str, Range], ...]:
    """What a table occupies, named. An MBR's boot code (bytes 0 to 439) is free for others."""
    sector = SECTOR
    if table_kind is TableKind.MBR:
        return (("partition table", Range(440, sector - 440)),)
    taken = [
        ("protective MBR", Range(440, sector - 440)),
        ("GPT header", Range(sector, sector)),
        ("GPT entries", Range(entries_sector * sector, _ENTRIES_BYTES)),
    ]
    if backup:
        length = _ENTRIES_BYTES + sector
        taken.append(("GPT backup", Range(size_bytes - length, length)))
    return tuple(taken)


def render(table: PartitionTable, size_bytes: int) -> tuple[tuple[str, int, bytes], ...]:
    """(region name, first byte, bytes) of everything that ``table`` puts on the card.

    The MBR's boot code is left out (blobs may live there). Raises InputError where an entry
    cannot be written: outside the card, overlapping, too many, past 2 TiB in an MBR.
    """
    check(table, size_bytes)
    if table.kind is TableKind.MBR:
        return (("partition table", 440, _mbr(table)),)
    return _gpt(table, size_bytes)


def check(table: PartitionTable, size_bytes: int) -> None:
    """Raises InputError for entries that no table of this kind can hold."""
    sectors = size_bytes // table.sector_bytes
    limit = 4 if table.kind is TableKind.MBR else GPT_ENTRIES
    first, last = usable(table, size_bytes)
    before: Entry | None = None
    for entry in sorted(table.entries, key=lambda entry: entry.first_sector):
        what = f"partition {entry.number}"
        if not 1 <= entry.number <= limit:
            raise InputError(f"{what}: the table has room for 1 to {limit}")
        if entry.sectors <= 0:
            raise InputError(f"{what} is empty")
        if entry.first_sector < first or entry.end_sector > last + 1:
            raise InputError(
                f"{what} (sectors {entry.first_sector} to {entry.end_sector - 1}) is outside "
                f"what the table allows ({first} to {last} of {sectors} sectors)"
            )
        if table.kind is TableKind.MBR and entry.end_sector - 1 > _MAX_SECTOR:
            raise InputError(f"{what} ends past 2 TiB, which an MBR cannot express; use a GPT")
        if before is not None and entry.first_sector < before.end_sector:
            raise InputError(f"partition {before.number} and {what} overlap")
        before = entry
    if len({entry.number for entry in table.entries}) != len(table.entries):
        raise InputError("two partitions have the same number")


def usable(table: PartitionTable, size_bytes: int) -> tuple[int, int]:
    """The first and the last sector that a partition may take."""
    sectors = size_bytes // table.sector_bytes
    if table.kind is TableKind.MBR:
        return 1, sectors - 1
    entries = _ENTRIES_BYTES // table.sector_bytes
    last = sectors - 1 - (entries + 1 if table.backup else 0)
    # Entries that a boot blob pushed up (genimage's gpt-location) leave the usable area
    # after them, as genimage and sgdisk write it.
    return table.entries_sector + entries, last


def _mbr(table: PartitionTable) -> bytes:
    slots = [bytes(16)] * 4
    for entry in table.entries:
        slots[entry.number - 1] = _MBR_ENTRY.pack(
            0x80 if entry.bootable else 0,
            chs(entry.first_sector),
            int(entry.type, 16),
            chs(entry.end_sector - 1),
            entry.first_sector,
            entry.sectors,
        )
    signature = int(table.identity or "0", 16)
    return struct.pack("<IH", signature, 0) + b"".join(slots) + b"\x55\xaa"


def chs(sector: int) -> bytes:
    """Cylinder, head, sector with 255 heads and 63 sectors a track, as sfdisk writes it."""
    cylinder, rest = divmod(sector, 255 * 63)
    head, place = divmod(rest, 63)
    if cylinder > 1023:
        return b"\xfe\xff\xff"
    return bytes((head, (place + 1) | (cylinder >> 2) & 0xC0, cylinder & 0xFF))


def _gpt(table: PartitionTable, size_bytes: int) -> tuple[tuple[str, int, bytes], ...]:
    sector = table.sector_bytes
    sectors = size_bytes // sector
    slots = [bytes(_ENTRY_BYTES)] * GPT_ENTRIES
    for entry in table.entries:
        name = entry.name.encode("utf-16-le")
        if len(name) > 72:
            raise InputError(f"partition name '{entry.name}' is longer than 36 characters")
        slots[entry.number - 1] = _ENTRY.pack(
            _guid_bytes(entry.type),
            _guid_bytes(entry.uuid),
            entry.first_sector,
            entry.end_sector - 1,
            entry.attributes | (BOOTABLE if entry.bootable else 0),
            name.ljust(72, b"\0"),
        )
    entries = b"".join(slots)
    last_sector = sectors - 1
    backup_entries = last_sector - _ENTRIES_BYTES // sector
    # genimage without a backup names the primary header itself as its copy.
    backup_sector = last_sector if table.backup else 1
    protective = _MBR_ENTRY.pack(
        0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, min(sectors - 1, _MAX_SECTOR)
    )
    pieces = [
        ("protective MBR", 440, bytes(6) + protective + bytes(48) + b"\x55\xaa"),
        (
            "GPT header",
            sector,
            _gpt_header(table, size_bytes, entries, 1, backup_sector, table.entries_sector),
        ),
        ("GPT entries", table.entries_sector * sector, entries),
    ]
    if table.backup:
        header = _gpt_header(table, size_bytes, entries, last_sector, 1, backup_entries)
        pieces.append(("GPT backup", backup_entries * sector, entries + header))
    return tuple(pieces)


def _gpt_header(
    table: PartitionTable, size_bytes: int, entries: bytes, own: int, other: int, at: int
) -> bytes:
    first, last = usable(table, size_bytes)
    fields = (
        b"EFI PART", 0x10000, 92, 0, 0, own, other, first, last,
        _guid_bytes(table.identity), at, GPT_ENTRIES, _ENTRY_BYTES, zlib.crc32(entries),
    )  # fmt: skip
    header = bytearray(_HEADER.pack(*fields))
    struct.pack_into("<I", header, 16, zlib.crc32(bytes(header)))
    return bytes(header).ljust(table.sector_bytes, b"\0")


def read(read_at: Read, size_bytes: int, sector_bytes: int = SECTOR) -> PartitionTable | None:
    """The table of a card; None where it has none.

    ``read_at(offset, length)`` gives bytes (fewer at the end). Whatever those say, entries
    that leave the card or sums that do not match raise InputError. Logical partitions (in an
    extended one) are not followed.
    """
    first = read_at(0, 512)
    if len(first) < 512 or first[510:512] != b"\x55\xaa":
        return None
    slots = [_MBR_ENTRY.unpack_from(first, 446 + 16 * index) for index in range(4)]
    if any(slot[2] == 0xEE for slot in slots):
        return _read_gpt(read_at, size_bytes, sector_bytes)
    entries = []
    for number, (flag, _, kind, _, start, count) in enumerate(slots, 1):
        if flag not in (0, 0x80):
            return None  # a FAT boot sector ends in the same two bytes
        if kind and count:
            if (start + count) * sector_bytes > size_bytes:
                raise InputError(
                    f"partition {number} ends at sector {start + count}, after the card's end"
                )
            entries.append(Entry(number, start, count, f"0x{kind:02x}", flag == 0x80))
    signature = f"0x{struct.unpack_from('<I', first, 440)[0]:08x}"
    return PartitionTable(TableKind.MBR, signature, tuple(entries), sector_bytes=sector_bytes)


def _read_gpt(read_at: Read, size_bytes: int, sector_bytes: int) -> PartitionTable:
    failures = []
    last = size_bytes // sector_bytes - 1
    for own in (1, last):
        try:
            return _read_gpt_at(read_at, size_bytes, sector_bytes, own)
        except InputError as error:
            failures.append(error.message)
    raise InputError(f"the GPT is damaged: {failures[0]}; its backup: {failures[1]}")


def _read_gpt_at(read_at: Read, size_bytes: int, sector: int, own: int) -> PartitionTable:
    header = read_at(own * sector, sector)
    if len(header) < 92 or header[:8] != b"EFI PART":
        raise InputError(f"no GPT header in sector {own}")
    (
        _,
        _,
        length,
        checksum,
        _,
        at_sector,
        other,
        _,
        _,
        guid,
        at,
        count,
        entry_size,
        entries_sum,
    ) = _HEADER.unpack_from(header)
    if not 92 <= length <= sector:
        raise InputError(f"the GPT header in sector {own} claims {length} bytes")
    blank = header[:16] + bytes(4) + header[20:length]
    if zlib.crc32(blank) != checksum or at_sector != own:
        raise InputError(f"the checksum of the GPT header in sector {own} is wrong")
    if not 1 <= count <= 1024 or entry_size not in (128, 256, 512):
        raise InputError(f"the GPT claims {count} entries of {entry_size} bytes")
    raw = read_at(at * sector, count * entry_size)
    if len(raw) < count * entry_size or zlib.crc32(raw) != entries_sum:
        raise InputError("the checksum of the GPT's entries is wrong")
    entries = []
    for number in range(1, count + 1):
        kind, own_id, start, end, attributes, name = _ENTRY.unpack_from(
            raw, (number - 1) * entry_size
        )
        if kind == bytes(16):
            continue
        if end < start or (end + 1) * sector > size_bytes:
            raise InputError(f"partition {number} (sectors {start} to {end}) is outside the card")
        entries.append(
            Entry(
                number,
                start,
                end - start + 1,
                _guid(kind),
                bootable=bool(attributes & BOOTABLE),
                name=name.decode("utf-16-le", "replace").split("\0")[0],
                uuid=_guid(own_id),
                attributes=attributes & ~BOOTABLE,
            )
        )
    primary_entries = at if own == 1 else 2
    return PartitionTable(
        TableKind.GPT,
        _guid(guid),
        tuple(entries),
        primary_entries,
        backup=own != 1 or other != 1,
        sector_bytes=sector,
    )


def _guid(raw: bytes) -> str:
    from uuid import UUID  # asks for the platform, and only a GPT needs it

    return str(UUID(bytes_le=raw))


def _guid_bytes(text: str) -> bytes:
    from uuid import UUID

    return UUID(text).bytes_le
