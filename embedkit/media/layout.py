"""CardPlan: what goes where on a card, as plain data.

Nothing here touches a file. :mod:`embedkit.media.planner` makes a plan from a board and its
artifacts, :mod:`embedkit.media.compose` turns one into an image.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from embedkit.media.ranges import Range, Span
from embedkit.media.tables import PartitionTable


class RegionKind(StrEnum):
    """What a part of the card is for."""

    TABLE = "table"
    BLOB = "blob"
    PARTITION = "partition"
    RESERVED = "reserved"
    GAP = "gap"


@dataclass(frozen=True)
class Region(Span):
    """A named part of the card: a blob with its room, a partition, the table, a gap."""

    name: str
    kind: RegionKind
    first_byte: int
    length: int
    note: str = ""


@dataclass(frozen=True)
class FileSource:
    """Bytes of a file, from its byte ``skip`` on."""

    path: Path
    skip: int = 0


@dataclass(frozen=True)
class BytesSource:
    """Bytes that embedkit made, such as a partition table."""

    data: bytes


class ContentKind(StrEnum):
    """What a file system is filled from."""

    EMPTY = "empty"
    FOLDER = "folder"
    TAR = "tar"
    IMAGE = "image"
    FILES = "files"


@dataclass(frozen=True)
class BootFiles:
    """What an extlinux.conf has to name: a kernel and a device tree below ``folder``."""

    folder: str
    kernel: str
    device_tree: str
    arguments: str


@dataclass(frozen=True)
class FilesystemSource:
    """A file system that compose makes (or copies and grows) for a partition.

    ``content`` is a folder, a tar or an image, as ``kind`` says; for FILES it is None and
    ``files`` holds (path on this machine, path in the file system). ``features`` is
    mke2fs's feature list, ``uuid`` text (for FAT its first eight hex digits are the serial).
    ``boot``: what a default extlinux.conf starts, None where there is to be none.
    """

    filesystem: str
    kind: ContentKind
    content: Path | None = None
    files: tuple[tuple[Path, str], ...] = ()
    label: str = ""
    uuid: str = ""
    features: str = ""
    grow: bool = True
    boot: BootFiles | None = None


Source = FileSource | BytesSource | FilesystemSource


@dataclass(frozen=True)
class Extent(Span):
    """``length`` bytes at ``first_byte`` of the card, from ``source``."""

    name: str
    first_byte: int
    length: int
    source: Source


@dataclass(frozen=True)
class CardPlan:
    """A whole card. Extents ascend and do not overlap; regions may (a cut blob's room).

    ``kept`` are regions whose present content stays on the card (a saved U-Boot
    environment); ``zeroed`` are ranges that hold zeros wherever no extent puts anything.
    """

    board: str
    layout: str
    size_bytes: int
    extents: tuple[Extent, ...]
    regions: tuple[Region, ...]
    table: PartitionTable | None
    zeroed: tuple[Range, ...] = ()
    kept: tuple[Range, ...] = ()
    warnings: tuple[str, ...] = ()

    def region_at(self, offset: int) -> str:
        """What the byte ``offset`` belongs to, for messages: the smallest region around it."""
        around = [region for region in self.regions if region.first_byte <= offset < region.end]
        if around:
            return min(around, key=lambda region: region.length).name
        before = [region for region in self.regions if region.end <= offset]
        if before:
            return f"gap after {max(before, key=lambda region: region.end).name}"
        return "gap at the card's start"
