"""Card images for tests: sparse, with an MBR, and a block map of what is in them."""

from __future__ import annotations

import os
import random
from dataclasses import dataclass
from pathlib import Path

from embedkit.media import bmap, devices, precheck, stream, tables
from embedkit.media.content import Content
from embedkit.media.outcome import Options, Outcome
from embedkit.media.ranges import Range, total
from embedkit.media.write import write_image
from embedkit.progress import NullProgress

MIB = 1 << 20


@dataclass(frozen=True)
class Card:
    """A raw image with its .bmap beside it."""

    path: Path
    size: int
    mapped: tuple[Range, ...]

    @property
    def mapped_bytes(self) -> int:
        return total(self.mapped)


def make_card(
    path: Path,
    *,
    size: int = 48 * MIB,
    ranges: tuple[tuple[int, int], ...] = (
        (MIB, 4 * MIB),
        (12 * MIB, 9 * MIB),
        (40 * MIB, 4 * MIB),
    ),
    sector: int = 512,
    seed: int = 1,
) -> Card:
    """An image with a partition from 1 MiB to its end; ``ranges`` hold random bytes."""
    table = tables.PartitionTable(
        tables.TableKind.MBR,
        "0x1234abcd",
        (tables.Entry(1, MIB // sector, (size - MIB) // sector, "0x83"),),
        sector_bytes=sector,
    )
    random_bytes = random.Random(seed)
    mapped = [Range(0, 4096)]
    with path.open("wb") as file:
        file.truncate(size)
        for _, offset, data in tables.render(table, size):
            os.pwrite(file.fileno(), data, offset)
        for start, length in ranges:
            for offset in range(start, start + length, MIB):
                step = min(MIB, start + length - offset)
                os.pwrite(file.fileno(), random_bytes.randbytes(step), offset)
            mapped.append(Range(start, length))
    path.with_name(path.name + ".bmap").write_bytes(bmap.make(path, mapped))
    return Card(path, size, tuple(mapped))


def flash(card: Card | Path, *targets: Path, options: Options | None = None) -> tuple[Outcome, ...]:
    """Flashes as the command does, without its questions."""
    path = card if isinstance(card, Path) else card.path
    image = stream.open_image(str(path))
    found = [devices.find(str(target)) for target in targets]
    beside = bmap.beside(path)
    content: Content = precheck.check_image(
        image,
        bmap.read(beside) if beside else None,
        min(device.size_bytes for device in found),
        NullProgress(),
    )
    identities = [device.identity for device in found]
    return write_image(image, content, identities, options or Options(), NullProgress())


def differs(card: Card, target: Path) -> list[Range]:
    """The mapped ranges that ``target`` (a backing file or device) does not hold."""
    found = []
    with card.path.open("rb") as image, target.open("rb") as device:
        for item in card.mapped:
            for offset in range(item.first_byte, item.end, MIB):
                step = min(MIB, item.end - offset)
                image.seek(offset)
                device.seek(offset)
                if image.read(step) != device.read(step):
                    found.append(Range(offset, step))
    return found


def has_table(target: Path) -> bool:
    """Whether anything would find partitions in ``target``."""
    with target.open("rb") as file:
        head = file.read(8192)
    return head[510:512] == b"\x55\xaa" or b"EFI PART" in head
