"""What an image promises about a card: which bytes are data, what the rest may be.

Three kinds of bytes: *data* is written and verified; *zero* must read as zeros, is zeroed and
verified; all else is *free*: holes inside partitions, and what lies behind the image. Free
bytes are discarded where the device can and never verified. Without a block map everything
is data, and long runs of zeros in it become zero.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from embedkit.errors import InputError
from embedkit.media import tables
from embedkit.media.bmap import Bmap, MappedRange
from embedkit.media.ranges import Range, align, complement, merge, subtract

#: The part of a card that is written last: partition table and first boot blobs.
HEAD_BYTES = 1 << 20
_BLOCK = 4096
# Cards erase in units of megabytes; an order for less costs as much and frees nothing.
_WORTH_DISCARDING = 1 << 20
_EXTENDED = {f"0x{kind:02x}" for kind in tables.EXTENDED}


@dataclass(frozen=True)
class Content:
    """What is to be on the card. Offsets are bytes.

    ``size``: of the image; None where a pipe does not say. ``mapped``: where it has data;
    None where that is not known. ``sums``: hashes to check the image against on the way.
    ``kept``: parts of the card that must stay as they are (a saved U-Boot environment).
    ``zero``: what must read as zeros besides (holes of a file that has no block map).
    ``name_at`` names the blob or partition at an offset.
    """

    size: int | None
    mapped: tuple[Range, ...] | None = None
    sums: tuple[MappedRange, ...] = ()
    hash_name: str = "sha256"
    kept: tuple[Range, ...] = ()
    zero: tuple[Range, ...] = ()
    name_at: Callable[[int], str] | None = field(default=None, compare=False)
    zero_gaps: bool = True

    @classmethod
    def from_bmap(cls, bmap: Bmap) -> Content:
        sums = tuple(item for item in bmap.ranges if item.digest)
        return cls(bmap.image_size, bmap.mapped(), sums, bmap.hash_name)


@dataclass(frozen=True)
class Layout:
    """``content`` once the image's first megabyte is known.

    ``data`` and ``zero`` leave out the head and what is kept; ``data`` is None where it is
    everything up to the image's end. ``free``: what a device of ``size`` bytes may discard.
    """

    data: tuple[Range, ...] | None
    zero: tuple[Range, ...]
    names: Callable[[int], str]
    table: tables.PartitionTable | None
    warnings: tuple[str, ...] = ()

    def free(self, content: Content, device_size: int) -> tuple[Range, ...]:
        used = [Range(0, HEAD_BYTES), *self.zero, *content.kept]
        if self.data is not None:
            used += self.data
        elif content.size is None:
            return ()
        else:
            used.append(Range(0, content.size))
        inner = complement(align(used, _BLOCK), device_size // _BLOCK * _BLOCK)
        return tuple(item for item in inner if item.length >= _WORTH_DISCARDING)


def lay_out(content: Content, head: bytes, *, sector_bytes: int = 512) -> Layout:
    """Where data, zeros and free bytes are, given the image's first megabyte.

    Raises InputError where the image's own partition table was made for another sector size.
    """
    warnings = []
    size = content.size
    table, complaint = read_table(head, size, sector_bytes)
    if complaint:
        warnings.append(complaint)
    outside = (Range(0, HEAD_BYTES), *content.kept)
    if content.mapped is None:
        whole = None if size is None else subtract((Range(0, size),), outside)
        return Layout(whole, (), content.name_at or _namer(table), table, tuple(warnings))
    data = subtract(align(content.mapped, _BLOCK, size), outside)
    # Whole sectors: what is asked of a device has to be; data goes before zeros.
    end = None if size is None else -(-size // sector_bytes) * sector_bytes
    zero = subtract(align(content.zero, _BLOCK, end), (*data, *outside))
    if content.zero_gaps and table is not None and table.entries and size is not None:
        # Stale bytes between partitions bite (old boot blobs, old superblocks): a hole inside
        # a partition belongs to its file system, a hole outside belongs to nobody.
        inside = [partition_range(table, entry) for entry in table.entries]
        gaps = complement(merge([*align(inside, _BLOCK), *data]), size // _BLOCK * _BLOCK)
        zero = merge([*zero, *subtract(gaps, outside)])
    return Layout(data, zero, content.name_at or _namer(table), table, tuple(warnings))


def partition_range(table: tables.PartitionTable, entry: tables.Entry) -> Range:
    """The bytes of one partition."""
    return Range(entry.first_sector * table.sector_bytes, entry.sectors * table.sector_bytes)


def read_table(
    head: bytes, size: int | None, sector_bytes: int
) -> tuple[tables.PartitionTable | None, str]:
    """The partition table in an image's head, and what is wrong with it in one sentence.

    Raises InputError for a GPT whose sectors are not the device's: its partitions would be
    looked for at other places than where they are.
    """
    other = 4096 if sector_bytes == 512 else 512
    here = head[sector_bytes : sector_bytes + 8] == b"EFI PART"
    if not here and head[other : other + 8] == b"EFI PART":
        raise InputError(
            f"the image's GPT counts sectors of {other} bytes, the device has sectors of "
            f"{sector_bytes}: the partitions would not be found",
            hint=f"make the image for {sector_bytes}-byte sectors",
        )

    def read_at(offset: int, length: int) -> bytes:
        return head[offset : offset + length]

    # A table that names more than the image holds is judged by its own entries.
    limit = size if size is not None else 1 << 62
    try:
        return tables.read(read_at, limit, sector_bytes), ""
    except InputError as error:
        if sector_bytes != 512 and _is_sound(read_at, limit, 512):
            raise InputError(
                "the image's partition table counts sectors of 512 bytes, the device has sectors "
                f"of {sector_bytes}: the partitions would not be found",
                hint=f"make the image for {sector_bytes}-byte sectors",
            ) from error
        return None, f"the image's partition table: {error.message}"


def _is_sound(read_at: tables.Read, limit: int, sector_bytes: int) -> bool:
    try:
        return tables.read(read_at, limit, sector_bytes) is not None
    except InputError:
        return False


def _namer(table: tables.PartitionTable | None) -> Callable[[int], str]:
    def name_at(offset: int) -> str:
        if table is None or not table.entries:
            return ""
        for entry in table.entries:
            place = partition_range(table, entry)
            if place.first_byte <= offset < place.end:
                name = "extended" if entry.type in _EXTENDED else entry.name
                label = f" ({name})" if name else ""
                return f"partition {entry.number}{label}"
        first = min(entry.first_sector for entry in table.entries) * table.sector_bytes
        return "before the first partition" if offset < first else "outside every partition"

    return name_at
