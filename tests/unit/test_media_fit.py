"""Partition tables made to fit a larger card."""

from __future__ import annotations

import struct

import pytest

from embedkit.media import tables
from embedkit.media.fit import Fitted, fit

MIB = 1 << 20
IMAGE = 16 * MIB
DEVICE = 64 * MIB + 8192


def gpt(size: int = IMAGE, sector: int = 512, *, backup: bool = True) -> bytes:
    """The first megabyte of an image with two partitions, the first in the table lying last."""
    table = tables.PartitionTable(
        tables.TableKind.GPT,
        "11111111-2222-3333-4444-555555555555",
        (
            tables.Entry(1, 8 * MIB // sector, 4 * MIB // sector, LINUX, name="rootfs", uuid=ONE),
            tables.Entry(2, 2 * MIB // sector, MIB // sector, LINUX, name="boot", uuid=TWO),
        ),
        backup=backup,
        sector_bytes=sector,
    )
    return image(tables.render(table, size), size)[:MIB]


LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"
ONE = "aaaaaaaa-2222-3333-4444-555555555555"
TWO = "bbbbbbbb-2222-3333-4444-555555555555"


def image(pieces: tuple[tuple[str, int, bytes], ...], size: int) -> bytes:
    content = bytearray(size)
    for _, offset, data in pieces:
        content[offset : offset + len(data)] = data
    return bytes(content)


def mbr() -> bytes:
    table = tables.PartitionTable(
        tables.TableKind.MBR,
        "0x12345678",
        (
            tables.Entry(1, 8192, 2048, "0x83", bootable=True),
            tables.Entry(2, 2048, 4096, "0x0c"),
        ),
    )
    return image(tables.render(table, IMAGE), IMAGE)[:MIB]


def card(fitted: Fitted, size: int = DEVICE) -> tables.Read:
    """Reads a device that has only ``fitted`` on it."""

    def read_at(offset: int, length: int) -> bytes:
        content = bytearray(length)
        for start, data in ((0, fitted.head), (fitted.tail_at, fitted.tail)):
            for at in range(max(start, offset), min(start + len(data), offset + length)):
                content[at - offset] = data[at - start]
        return bytes(content)

    return read_at


@pytest.mark.parametrize("sector", [512, 4096])
def test_both_copies_of_a_gpt_are_right_on_the_card(sector: int) -> None:
    head = gpt(sector=sector)
    fitted = fit(head, IMAGE, DEVICE, sector)
    assert fitted is not None and fitted.grown is None
    before = tables.read(lambda at, n: head[at : at + n], IMAGE, sector)
    assert tables.read(card(fitted), DEVICE, sector) == before
    blind = Fitted(fitted.head[:sector].ljust(MIB, b"\0"),
                   fitted.tail, fitted.tail_at)  # fmt: skip
    from_backup = tables.read(card(blind), DEVICE, sector)
    assert from_backup is not None and before is not None
    assert from_backup.entries == before.entries
    own, other, _, last = struct.unpack_from("<QQQQ", fitted.head, sector + 24)
    assert (own, other) == (1, DEVICE // sector - 1)
    assert last == DEVICE // sector - 2 - 16384 // sector
    assert struct.unpack_from("<I", fitted.head, 446 + 12)[0] == DEVICE // sector - 1
    assert fitted.tail_at + len(fitted.tail) == DEVICE // sector * sector


def test_only_the_table_changes() -> None:
    head = gpt()[:1024] + b"\x77" * (MIB - 1024)
    head = head[:1024] + gpt()[1024 : 34 * 512] + head[34 * 512 :]
    fitted = fit(head, IMAGE, DEVICE, 512)
    assert fitted is not None
    assert fitted.head[:446] == head[:446]
    assert fitted.head[1024:] == head[1024:]


@pytest.mark.parametrize("sector", [512, 4096])
def test_the_last_partition_of_a_gpt_grows(sector: int) -> None:
    fitted = fit(gpt(sector=sector), IMAGE, DEVICE, sector, grow=True)
    assert fitted is not None and fitted.grown is not None
    table = tables.read(card(fitted), DEVICE, sector)
    assert table is not None
    first, second = table.entries
    assert first.first_sector * sector == fitted.grown.first_byte == 8 * MIB
    assert first.end_sector * sector == fitted.grown.end <= fitted.tail_at
    assert fitted.tail_at - fitted.grown.end < 4096
    assert (second.first_sector * sector, second.sectors * sector) == (2 * MIB, MIB)
    assert (first.name, first.uuid) == ("rootfs", ONE)


def test_the_last_partition_of_an_mbr_grows() -> None:
    assert fit(mbr(), IMAGE, DEVICE, 512) is None
    fitted = fit(mbr(), IMAGE, DEVICE, 512, grow=True)
    assert fitted is not None and fitted.grown is not None
    table = tables.read(card(fitted), DEVICE)
    assert table is not None
    first, second = table.entries
    assert (first.first_sector, first.end_sector, first.bootable) == (8192, DEVICE // 512, True)
    assert (second.first_sector, second.sectors) == (2048, 4096)
    assert fitted.tail == b""


def damaged(head: bytes, offset: int) -> bytes:
    return head[:offset] + bytes([head[offset] ^ 1]) + head[offset + 1 :]


@pytest.mark.parametrize(
    ("head", "image_bytes"),
    [
        (bytes(MIB), IMAGE),
        (gpt(), DEVICE),
        (gpt(), DEVICE + MIB),
        (gpt(), IMAGE + MIB),
        (gpt(backup=False), IMAGE),
        (damaged(gpt(), 512 + 40), IMAGE),
        (damaged(gpt(), 1024 + 40), IMAGE),
        (gpt()[: 446 + 20] + b"\x0c" + gpt()[446 + 21 :], IMAGE),
        (gpt(64 * MIB), 64 * MIB),
    ],
    ids=[
        "no table", "same size", "larger", "copy not at the end", "no copy", "damaged header",
        "damaged entries", "hybrid", "no room for the copy",
    ],
)  # fmt: skip
@pytest.mark.parametrize("grow", [False, True])
def test_what_is_not_plain_is_left_alone(head: bytes, image_bytes: int, grow: bool) -> None:
    assert fit(head, image_bytes, DEVICE, 512, grow=grow) is None


def test_an_unknown_size_is_the_table_s() -> None:
    assert fit(gpt(), None, DEVICE, 512) == fit(gpt(), IMAGE, DEVICE, 512)
