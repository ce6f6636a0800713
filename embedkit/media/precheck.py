"""What can be known to be wrong with an image before the first byte is written.

Cheap where the container tells (raw size, xz index, zstd frames, zip directory, gzip's last
four bytes against the block map), by decoding once where only that tells: a .gz or .bz2
without a block map. An image is compared with its block map's hashes while it is written; of a
raw one, the ends and samples between them are compared beforehand: what was never copied or
fetched to its end shows there.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from embedkit.errors import InputError
from embedkit.media import bmap as bmaps
from embedkit.media import sources
from embedkit.media.content import Content
from embedkit.media.ranges import complement
from embedkit.media.stream import Image, ImageInfo, gzip_size_is
from embedkit.media.sums import wrong_sum
from embedkit.progress import Progress
from embedkit.units import format_size

#: Hashing so much takes a hundredth of a second.
SAMPLE_BYTES = 16 << 20


def check_image(
    image: Image, bmap: bmaps.Bmap | None, smallest_device: int | None, progress: Progress
) -> Content:
    """What ``image`` promises, checked as far as that goes without writing.

    ``smallest_device``: bytes that it has to fit into. Raises InputError for an image that is
    cut, damaged, too large, or not the one that the block map was made for.
    """
    info = image.info
    if bmap is not None and smallest_device is not None:
        _require_fit(bmap.image_size, smallest_device, info.name)
    if info.size is not None and smallest_device is not None:
        _require_fit(info.size, smallest_device, info.name)
    if info.reopenable and _must_count(image, bmap):
        limit = bmap.image_size if bmap is not None else smallest_device
        info = _count(image, limit, progress)
    if bmap is None:
        return _without_bmap(image)
    if info.size is not None and info.size != bmap.image_size:
        raise InputError(
            f"the image has {info.size} bytes, its block map was made for {bmap.image_size}",
            where=info.name,
            hint="they do not belong together, or the image is not complete",
        )
    content = Content.from_bmap(bmap)
    if info.is_plain_file:
        rest = _check_samples(image, content)
        content = replace(content, sums=rest)
    return content


def _must_count(image: Image, bmap: bmaps.Bmap | None) -> bool:
    info = image.info
    if info.size is not None and info.checked:
        return False
    if bmap is None:
        return True
    if info.kind == "gzip" and info.path is not None:
        return not gzip_size_is(info.path, bmap.image_size)
    return False


def _count(image: Image, limit: int | None, progress: Progress) -> ImageInfo:
    task = progress.start("checking the image", unit="bytes")
    try:
        return image.count(limit, task)
    finally:
        task.finish()


def _without_bmap(image: Image) -> Content:
    info = image.info
    found = image.data_ranges()
    if found is None or info.size is None:
        return Content(info.size)
    # Holes of a file read as zeros, and without a block map zeros are meant.
    return Content(info.size, found, zero=complement(found, info.size), zero_gaps=False)


def _check_samples(image: Image, content: Content) -> tuple[bmaps.MappedRange, ...]:
    """Compares some ranges with their hashes; returns those that are still to be compared.

    Raises InputError where one differs.
    """
    assert image.info.path is not None
    chosen = _samples(content.sums)
    if not chosen:
        return content.sums
    with sources.open_file(image.info.path) as file:

        def check(index: int) -> int | None:
            item = content.sums[index]
            digest = bmaps.hash_range(file.fileno(), item.range, content.hash_name)
            return None if digest == item.digest else index

        with ThreadPoolExecutor(min(4, os.cpu_count() or 1)) as pool:
            for wrong in pool.map(check, chosen):
                if wrong is not None:
                    error = wrong_sum(content.sums[wrong])
                    error.where = image.info.name
                    raise error
    compared = frozenset(chosen)
    return tuple(item for index, item in enumerate(content.sums) if index not in compared)


def _samples(sums: Sequence[bmaps.MappedRange]) -> list[int]:
    """Which ranges are compared beforehand: both ends first, then halves, quarters, …; as many
    as SAMPLE_BYTES take, so that a large image does not keep its card waiting."""
    left = SAMPLE_BYTES
    chosen: list[int] = []
    steps = [0, len(sums) - 1] if sums else []
    stride = len(sums)
    while stride > 1:
        stride = -(-stride // 2)
        steps += range(0, len(sums), stride)
    for index in dict.fromkeys(steps):
        if sums[index].length <= left:
            chosen.append(index)
            left -= sums[index].length
    return sorted(chosen)


def _require_fit(size: int, device: int, where: str) -> None:
    if size > device:
        raise InputError(
            f"the image has {size} bytes, the device only {device} "
            f"({format_size(size - device)} too few)",
            where=where,
        )
