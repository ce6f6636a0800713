"""Which bytes of a file system are in use, whether they are zero or not.

A block map made of the blocks that are not zero is a trap: a journal, an inode table or the
tail of a FAT folder is full of zeros that must be on the card, or the card's old content is
read in their place. So the file system itself is asked.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

from embedkit import process
from embedkit.errors import TargetError
from embedkit.media.ranges import Range, complement, merge

_FREE = re.compile(r"^  Free blocks: (.*)$", re.MULTILINE)
_BLOCK_SIZE = re.compile(r"^Block size:\s+(\d+)$", re.MULTILINE)
_BLOCKS = re.compile(r"^Block count:\s+(\d+)$", re.MULTILINE)

# The first FAT of any boot partition lies in it; a larger one counts as all used.
_FAT_HEAD_BYTES = 64 << 20


def used(path: Path, filesystem: str) -> tuple[Range, ...]:
    """The ranges of the image in ``path`` that must reach a card.

    Raises TargetError where the file system cannot be read.
    """
    size = path.stat().st_size
    if filesystem.startswith("ext"):
        return _ext(path, size)
    if filesystem == "fat":
        with path.open("rb") as file:
            return fat_used(file.read(min(size, _FAT_HEAD_BYTES)), size)
    return (Range(0, size),)


def _ext(path: Path, size: int) -> tuple[Range, ...]:
    text = process.run(["dumpe2fs", path], env={"LC_ALL": "C"}).text
    block, count = _BLOCK_SIZE.search(text), _BLOCKS.search(text)
    if block is None or count is None:
        raise TargetError("dumpe2fs did not describe the file system", where=str(path))
    unit, end = int(block.group(1)), int(block.group(1)) * int(count.group(1))
    free = [Range(end, size - end)] if end < size else []
    for line in _FREE.findall(text):
        for span in filter(None, line.replace(" ", "").split(",")):
            first, _, last = span.partition("-")
            free.append(Range(int(first) * unit, (int(last or first) - int(first) + 1) * unit))
    return complement(free, size)


def fat_used(head: bytes, size: int) -> tuple[Range, ...]:
    """Used ranges of a FAT12, FAT16 or FAT32 (Microsoft's FAT specification 1.03).

    ``head`` holds at least the boot sector and the first FAT. What cannot be understood is
    all used.
    """
    if len(head) < 512:
        return (Range(0, size),)
    sector, per_cluster, reserved, fats, root_entries, sectors16 = struct.unpack_from(
        "<HBHBHH", head, 11
    )
    fat_sectors = struct.unpack_from("<H", head, 22)[0] or struct.unpack_from("<I", head, 36)[0]
    sectors = sectors16 or struct.unpack_from("<I", head, 32)[0]
    if sector not in (512, 1024, 2048, 4096) or not per_cluster or not fats or not fat_sectors:
        return (Range(0, size),)
    root_sectors = -(-root_entries * 32 // sector)
    data = (reserved + fats * fat_sectors + root_sectors) * sector
    cluster = per_cluster * sector
    clusters = (sectors * sector - data) // cluster
    width = 12 if clusters < 4085 else 16 if clusters < 65525 else 32
    table = head[reserved * sector : (reserved + fat_sectors) * sector]
    if clusters <= 0 or len(table) * 8 < (clusters + 2) * width:
        return (Range(0, size),)
    found = [Range(0, data)]
    for number in range(2, clusters + 2):
        if _fat_entry(table, number, width):
            found.append(Range(data + (number - 2) * cluster, cluster))
    return tuple(
        Range(part.first_byte, min(part.end, size) - part.first_byte)
        for part in merge(found)
        if part.first_byte < size
    )


def _fat_entry(table: bytes, number: int, width: int) -> int:
    if width == 12:
        pair = struct.unpack_from("<H", table.ljust(number * 3 // 2 + 2, b"\0"), number * 3 // 2)[0]
        return int(pair >> 4 if number & 1 else pair & 0xFFF)
    if width == 16:
        return int(struct.unpack_from("<H", table, number * 2)[0])
    return int(struct.unpack_from("<I", table, number * 4)[0] & 0x0FFFFFFF)
