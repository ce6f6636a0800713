"""The card of an emulated board: an overlay over the image, and room for it on this machine."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

from embedkit import process
from embedkit.board.model import Board
from embedkit.errors import InputError, LackError
from embedkit.units import format_size

# The boot alone writes some megabytes: less than this is not worth a start.
LEAST_ROOM = 32 << 20
# A cluster of the overlay is 64 KiB; where QEMU stopped for want of room, less than some is left.
FULL_BELOW = 1 << 20
_PACKED = {
    b"\x1f\x8b": "gzip",
    b"\xfd7zXZ": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"QFI\xfb": "qcow2",
}
# The header that Allwinner's boot ROM looks for (U-Boot's include/sunxi_image.h): 4 bytes of
# jump, then this.
_SUNXI_MAGIC, _SUNXI_SKIP = b"eGON.BT0", 4
_LOOKED_AT = 4 << 20


def check_image(path: Path) -> int:
    """The size of a raw card image in bytes. Raises InputError for anything else."""
    try:
        if not path.is_file():
            what = "is a device or folder" if path.exists() else "does not exist"
            raise InputError(f"the card image {path} {what}", hint="'embedkit compose' makes one")
        with path.open("rb") as file:
            head = file.read(8)
            size = os.fstat(file.fileno()).st_size
    except OSError as error:
        raise InputError(f"cannot read the card image {path}: {error.strerror}") from error
    for magic, kind in _PACKED.items():
        if head.startswith(magic):
            raise InputError(
                f"{path} is not a raw card image: it is {kind}",
                hint="unpack it first; QEMU needs a raw image to boot from",
            )
    if size < 512:
        raise InputError(f"{path} is not a card image: it has {size} bytes")
    return size


def overlay_bytes(size: int, *, power_of_two: bool) -> int:
    """The card that the board sees, over an image of ``size`` bytes: a larger one where QEMU's
    machine takes only powers of two, as if the image were on a larger card."""
    sectors = -(-size // 512) * 512
    return 1 << (sectors - 1).bit_length() if power_of_two else sectors


def stamp(path: Path) -> str:
    """What changes when the image does: an overlay over another image is a ruin."""
    state = path.stat()
    return f"{state.st_size}:{state.st_mtime_ns}"


def make_overlay(path: Path, image: Path, size: int) -> None:
    """An empty overlay of ``size`` bytes over ``image``. Raises LackError, TargetError."""
    process.run(
        ["qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", image, path, str(size)],
        timeout=30,
    )


def check_room(folder: Path) -> None:
    """Raises LackError where the file system of ``folder`` is as good as full."""
    free = free_bytes(folder)
    if free < LEAST_ROOM:
        raise LackError(
            f"only {format_size(free)} are free in {file_system(folder)}, where the emulated "
            "board's card is kept",
            where=str(folder),
            hint="make room there, or set XDG_STATE_HOME to a place with more",
        )


def free_bytes(folder: Path) -> int:
    """What this user may still write there. Raises LackError."""
    try:
        state = os.statvfs(folder)
    except OSError as error:
        raise LackError(f"cannot look at {folder}: {error.strerror}") from error
    return state.f_bavail * state.f_frsize


def file_system(folder: Path) -> str:
    """The file system that holds ``folder``, as people name it: where it is mounted."""
    place = folder.resolve()
    while not os.path.ismount(place) and place != place.parent:
        place = place.parent
    return f"the file system at {place}"


def misplaced_loader(board: Board, image: Path) -> str:
    """What is wrong with the boot loader's place on the card; "" where nothing is seen.

    A boot ROM that finds nothing says nothing: only the card can tell.
    """
    expected = sorted({blob.offset for layout in board.layouts for blob in layout.blobs})
    try:
        with image.open("rb") as file:
            if expected and all(_is_empty(file.fileno(), offset) for offset in expected):
                places = " or ".join(str(offset) for offset in expected)
                return f"the card has nothing at byte {places}, where the boot loader belongs"
            found = _sunxi_loader(file.fileno())
    except (OSError, ValueError):
        return ""
    if not any("allwinner" in name for name in board.compatible) or found in expected:
        return ""
    places = " or ".join(str(offset) for offset in expected)
    if found is None:
        return f"there is no boot loader at byte {places} of the card"
    return f"the boot loader begins at byte {found} of the card, and the board looks at {places}"


def _is_empty(fd: int, offset: int) -> bool:
    return not os.pread(fd, 512, offset).strip(b"\0")


def _sunxi_loader(fd: int) -> int | None:
    """Where the first boot loader for Allwinner's boot ROM begins, in bytes."""
    size = min(os.fstat(fd).st_size, _LOOKED_AT)
    with mmap.mmap(fd, size, access=mmap.ACCESS_READ) as data:
        place = data.find(_SUNXI_MAGIC)
    return place - _SUNXI_SKIP if place >= _SUNXI_SKIP else None
