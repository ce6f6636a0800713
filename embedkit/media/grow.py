"""Growing a card's last file system, before the card gets its partition table.

The partition is reached through a loop device over its bytes: that needs no partition device,
and the card still looks unfinished when it goes wrong. resize2fs refuses a file system that
was ever mounted until e2fsck -f has seen it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from embedkit import process
from embedkit.errors import InputError, TargetError
from embedkit.media.blockdev import BlockDevice
from embedkit.media.content import HEAD_BYTES
from embedkit.media.fit import ends_in_logical, fit
from embedkit.media.ranges import Range
from embedkit.media.stream import Image
from embedkit.progress import Progress

_PROGRAMS = ("losetup", "e2fsck", "resize2fs")
_EXT_MAGIC = b"\x53\xef"
_EXT_MAGIC_AT = 1024 + 56


def check(
    image: Image, head: bytes, image_bytes: int | None, device_sizes: Sequence[int], sector: int
) -> None:
    """Raises InputError where the image's last partition cannot be grown, LackError where a
    program for it is missing. Nothing is written yet."""
    name = image.info.name
    if image_bytes is None or not image.info.reopenable:
        message = "--grow has to look into the image first, and a stream can be read only once"
        raise InputError(message, where=name, hint="save it to a file first")
    for size in device_sizes:
        if size == image_bytes:
            continue  # there is no room to grow into
        fitted = fit(head, image_bytes, size, sector, grow=True)
        if ends_in_logical(head):
            message = "the last partition is a logical one (in an extended one): it cannot be grown"
            raise InputError(message, where=name)
        if fitted is None or fitted.grown is None:
            raise InputError("the image has no partition table in which one can grow", where=name)
        place = fitted.grown
        if place.first_byte < HEAD_BYTES:
            message = "the last partition begins within the first megabyte: it cannot be grown"
            raise InputError(message, where=name)
        if _read(image, place.first_byte + _EXT_MAGIC_AT, 2) != _EXT_MAGIC:
            raise InputError(
                "the last partition holds no ext2, ext3 or ext4: only these can be grown",
                where=name,
                hint="flash it without --grow",
            )
    for program in _PROGRAMS:
        process.require(program, purpose="grow the file system")


def _read(image: Image, offset: int, length: int) -> bytes:
    buffer = bytearray(length)
    reader = image.reader((Range(offset, length),))
    try:
        reader.seek(offset)
        reader.readinto(memoryview(buffer))
    finally:
        reader.close()
    return bytes(buffer)


def grow_ext(device: BlockDevice, place: Range, progress: Progress, *, verify: bool) -> None:
    """Makes the ext file system at ``place`` fill it. Raises InputError where it is damaged,
    TargetError where the device or a program fails."""
    task = progress.start(f"growing the file system on {device.path}")
    try:
        with _loop(device, place) as path:
            ended = process.run(["e2fsck", "-f", "-p", path], check=False)
            if ended.returncode not in (0, 1):
                raise InputError(
                    f"the image's last file system is damaged: {ended.complaint}",
                    hint="e2fsck -f shows what is wrong with it",
                )
            process.run(["resize2fs", path])
        device.flush()
        if verify:
            device.drop_cache()
            with _loop(device, place, "--read-only", "--direct-io=on") as path:
                ended = process.run(["e2fsck", "-f", "-n", path], check=False)
                if ended.returncode != 0:
                    message = f"the grown file system is not sound: {ended.complaint}"
                    raise TargetError(message, where=str(device.path))
    finally:
        task.finish()


@contextmanager
def _loop(device: BlockDevice, place: Range, *options: str) -> Iterator[str]:
    argv = ["losetup", "--find", "--show", "--offset", str(place.first_byte)]
    argv += ["--sizelimit", str(place.length), *options, str(device.path)]
    path = process.run(argv).text.strip()
    try:
        yield path
    finally:
        process.run(["losetup", "--detach", path], check=False)
