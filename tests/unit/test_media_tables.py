"""MBR and GPT: what is written reads back, damage is seen, nonsense is refused."""

from __future__ import annotations

import struct
import uuid
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.errors import InputError
from embedkit.media import tables
from embedkit.media.tables import Entry, PartitionTable, TableKind

SIZE = 2 << 20
SECTORS = SIZE // 512
LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
MBR = PartitionTable(TableKind.MBR, "0xdeadbeef", (Entry(1, 2048, 100, "0x83"),))


def written(table: PartitionTable, size: int = SIZE) -> bytearray:
    card = bytearray(size)
    for _, first, data in tables.render(table, size):
        card[first : first + len(data)] = data
    return card


def read_back(card: bytes | bytearray, size: int | None = None) -> PartitionTable | None:
    data = bytes(card)
    return tables.read(lambda offset, length: data[offset : offset + length], size or len(data))


def gpt(*entries: Entry, backup: bool = True, at: int = 2) -> PartitionTable:
    return PartitionTable(TableKind.GPT, str(uuid.UUID(int=7)), entries, at, backup)


@st.composite
def placed(draw: st.DrawFn, first: int, last: int, most: int) -> list[tuple[int, int]]:
    """Disjoint (start, sectors) between two sectors."""
    cuts = sorted(draw(st.sets(st.integers(first, last), min_size=2, max_size=2 * most)))
    return [(a, b - a) for a, b in zip(cuts[::2], cuts[1::2], strict=False)]


@given(placed(1, SECTORS - 1, 4), st.integers(0, 0xFFFFFFFF), st.integers(1, 255), st.booleans())
def test_mbr_round_trip(
    places: list[tuple[int, int]], signature: int, kind: int, bootable: bool
) -> None:
    if kind == 0xEE:
        kind = 0x83
    entries = tuple(
        Entry(number, start, count, f"0x{kind:02x}", bootable and number == 1)
        for number, (start, count) in enumerate(places, 1)
    )
    table = PartitionTable(TableKind.MBR, f"0x{signature:08x}", entries)
    assert read_back(written(table)) == table


@given(placed(34, SECTORS - 34, 6), st.text("aé-_Z9", max_size=36), st.booleans())
def test_gpt_round_trip(places: list[tuple[int, int]], name: str, backup: bool) -> None:
    entries = tuple(
        Entry(n, start, count, LINUX, n == 1, name, str(uuid.UUID(int=n)), 1 << 60)
        for n, (start, count) in enumerate(places, 1)
    )
    table = gpt(*entries, backup=backup)
    assert read_back(written(table)) == table


def test_gpt_entries_elsewhere() -> None:
    entry = Entry(1, 2048, 100, LINUX, name="rootfs", uuid=str(uuid.UUID(int=3)))
    table = gpt(entry, backup=False, at=2016)
    card = written(table)
    assert not any(card[1024 : 2016 * 512])
    assert read_back(card) == table


def test_backup_serves_where_the_first_copy_is_damaged() -> None:
    entry = Entry(1, 2048, 100, LINUX, name="rootfs", uuid=str(uuid.UUID(int=3)))
    card = written(gpt(entry))
    card[512 + 30] ^= 1
    seen = read_back(card)
    assert seen is not None and seen.entries == (entry,)
    card[-512 + 30] ^= 1
    with pytest.raises(InputError, match="the GPT is damaged"):
        read_back(card)


@pytest.mark.parametrize(
    ("entries", "complaint"),
    [
        ((Entry(1, 0, 10, "0x83"),), "outside"),
        ((Entry(1, SECTORS - 5, 6, "0x83"),), "outside"),
        ((Entry(1, 10, 0, "0x83"),), "is empty"),
        ((Entry(5, 10, 1, "0x83"),), "room for 1 to 4"),
        (
            (Entry(1, 10, 10, "0x83"), Entry(2, 19, 5, "0x83")),
            "partition 1 and partition 2 overlap",
        ),
        ((Entry(1, 10, 5, "0x83"), Entry(1, 20, 5, "0x83")), "same number"),
    ],
)
def test_impossible_entries_are_refused(entries: tuple[Entry, ...], complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        tables.render(PartitionTable(TableKind.MBR, "", entries), SIZE)


def test_mbr_ends_at_two_tebibytes() -> None:
    table = PartitionTable(TableKind.MBR, "", (Entry(1, 2048, 1 << 32, "0x83"),))
    with pytest.raises(InputError, match="2 TiB"):
        tables.check(table, 4 << 40)


def test_no_table() -> None:
    assert read_back(bytes(SIZE)) is None
    assert read_back(b"") is None
    # A FAT without a table ends its boot sector in the same two bytes.
    boot_sector = bytearray(512)
    boot_sector[446:450] = b"text"
    boot_sector[510:512] = b"\x55\xaa"
    assert read_back(boot_sector, SIZE) is None


def test_mbr_entry_behind_the_card_is_told() -> None:
    card = written(MBR)
    struct.pack_into("<I", card, 446 + 12, 0xFFFFFFFF)
    with pytest.raises(InputError, match="after the card's end"):
        read_back(card)


def test_gpt_with_absurd_numbers_is_refused() -> None:
    """Sums that match do not make a header true."""
    for offset, value in ((80, 0xFFFFFFFF), (84, 3), (80, 0)):
        card = written(gpt(backup=False))
        struct.pack_into("<I", card, 512 + offset, value)
        struct.pack_into("<I", card, 512 + 16, 0)
        struct.pack_into("<I", card, 512 + 16, zlib.crc32(bytes(card[512 : 512 + 92])))
        with pytest.raises(InputError):
            read_back(card)


@given(st.binary(min_size=512, max_size=2048))
def test_garbage_never_crashes(head: bytes) -> None:
    data = bytearray(head)
    data[510:512] = b"\x55\xaa"
    data[446 + 4] = 0xEE
    data[512:520] = b"EFI PART"
    try:
        read_back(data, SIZE)
    except InputError:
        pass
