"""What a file really is, told by its content: kernels, device trees, file systems, archives.

Sources: U-Boot include/image.h (legacy header), Documentation/arch/arm64/booting.rst, the
ARM zImage head (arch/arm/boot/compressed/head.S), the Devicetree Specification 0.4 chapter 5,
fs/ext4/ext4.h, fs/squashfs/squashfs_fs.h, POSIX.1 ustar.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from embedkit.elf import MACHINES
from embedkit.errors import InputError
from embedkit.units import format_size

_HEAD_BYTES = 4096
_CHUNK = 1 << 20
_UIMAGE = struct.Struct(">7I4B32s")
_UIMAGE_MAGIC = 0x27051956
_UIMAGE_ARCHES = {"arm": 2, "arm64": 22, "amd64": 24, "riscv64": 26}
_FDT_MAGIC = 0xD00DFEED

_COMPRESSIONS = (
    (b"\x1f\x8b", "gzip"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
)


@dataclass(frozen=True)
class Artifact:
    """A file that was looked at. ``head`` are its first 4 KiB (a shorter one padded with zeros)."""

    path: Path
    size: int
    head: bytes

    def error(self, what: str) -> InputError:
        return InputError(what, where=str(self.path))


def look(path: Path) -> Artifact:
    """Size and head of a regular file. Raises InputError where it cannot be read or is empty."""
    try:
        if not path.is_file():
            raise InputError("not a regular file", where=str(path))
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES).ljust(_HEAD_BYTES, b"\0")
        size = path.stat().st_size
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    if size == 0:
        raise InputError("is empty", where=str(path))
    return Artifact(path, size, head)


def recognise(artifact: Artifact) -> str:
    """What the file seems to be: a kind of the checks below, "tar", a compression, or "raw"."""
    head = artifact.head
    for magic, name in _COMPRESSIONS:
        if head.startswith(magic):
            return name
    if head[257:262] == b"ustar":
        return "tar"
    if _UIMAGE.unpack_from(head)[0] == _UIMAGE_MAGIC:
        return "uimage"
    if head[0x24:0x28] == b"\x18\x28\x6f\x01":
        return "zimage"
    if head[0x38:0x3C] == b"ARM\x64":
        return "arm64-image"
    if head[:4] == struct.pack(">I", _FDT_MAGIC):
        return "dtb"
    if head[1080:1082] == b"\x53\xef":
        return "ext4"
    if head[:4] == b"hsqs":
        return "squashfs"
    if head[:4] == b"\x7fELF":
        return "elf"
    if head[510:512] == b"\x55\xaa" and (head[54:57] == b"FAT" or head[82:85] == b"FAT"):
        return "fat"
    return "raw"


def check(artifact: Artifact, kind: str, arch: str) -> None:
    """Holds a file against what the board file says that it is.

    Raises InputError with what it seems to be instead, or what is damaged.
    """
    found = recognise(artifact)
    if kind == "raw":
        # No boot ROM loads these; a board that is given one says nothing at all.
        if found in ("elf", "tar"):
            raise artifact.error(f"is {_NAMES[found]}: no boot ROM or boot loader starts that")
        return
    if found != kind and not (kind == "fit" and found == "dtb"):
        raise artifact.error(f"is not {_NAMES[kind]}: it looks like {_NAMES.get(found, found)}")
    if kind in _CHECKS:
        _CHECKS[kind](artifact, arch)


def _check_uimage(artifact: Artifact, arch: str) -> None:
    fields = _UIMAGE.unpack_from(artifact.head)
    header = bytearray(artifact.head[:64])
    header[4:8] = bytes(4)
    if zlib.crc32(bytes(header)) != fields[1]:
        raise artifact.error("the checksum of the uImage header is wrong: the file is damaged")
    size, data_sum, its_arch = fields[3], fields[6], fields[8]
    if size > artifact.size - 64:
        raise artifact.error(
            f"the uImage is cut short: its header promises {format_size(size)}, "
            f"the file has {format_size(artifact.size - 64)}"
        )
    if its_arch != _UIMAGE_ARCHES[arch]:
        names = {value: name for name, value in _UIMAGE_ARCHES.items()}
        its = names.get(its_arch, f"architecture {its_arch}")
        raise artifact.error(f"the uImage is for {its}, the board is {arch}")
    if _crc(artifact.path, 64, size) != data_sum:
        raise artifact.error("the checksum of the uImage's data is wrong: the file is damaged")


def _crc(path: Path, skip: int, length: int) -> int:
    checksum = 0
    with path.open("rb") as file:
        file.seek(skip)
        while length > 0 and (chunk := file.read(min(_CHUNK, length))):
            checksum = zlib.crc32(chunk, checksum)
            length -= len(chunk)
    return checksum


def _check_zimage(artifact: Artifact, arch: str) -> None:
    start, end = struct.unpack_from("<II", artifact.head, 0x28)
    # Appended device trees make a zImage longer than its header says, never shorter.
    if end - start > artifact.size:
        raise artifact.error(
            f"the zImage is cut short: it should have {end - start} bytes, "
            f"the file has {artifact.size}"
        )
    if arch != "arm":
        raise artifact.error(f"a zImage is for arm, the board is {arch}")


def _check_arm64(artifact: Artifact, arch: str) -> None:
    if arch != "arm64":
        raise artifact.error(f"the kernel is for arm64, the board is {arch}")


def _check_fdt(artifact: Artifact, arch: str) -> None:
    size = struct.unpack_from(">I", artifact.head, 4)[0]
    # U-Boot's FIT images may keep their data behind the tree: a FIT is longer, never shorter.
    if not 40 <= size <= artifact.size:
        raise artifact.error(
            f"the device tree is cut short: it should have {size} bytes, "
            f"the file has {artifact.size}"
        )


def _check_fit(artifact: Artifact, arch: str) -> None:
    _check_fdt(artifact, arch)
    # FDT_BEGIN_NODE and the name: every FIT has /images (U-Boot doc/usage/fit/source_file).
    if b"\0\0\0\x01images\0" not in artifact.head and not _has_images_node(artifact.path):
        raise artifact.error("is a device tree but not a FIT image: it has no /images node")


def _has_images_node(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(40)
        offset, size = struct.unpack_from(">I", head, 8)[0], struct.unpack_from(">I", head, 36)[0]
        file.seek(offset)
        return b"\0\0\0\x01images\0" in file.read(min(size, 16 << 20))


def _check_elf(artifact: Artifact, arch: str) -> None:
    order = "<" if artifact.head[5:6] == b"\x01" else ">"
    machine = struct.unpack_from(f"{order}H", artifact.head.ljust(20, b"\0"), 18)[0]
    if machine != MACHINES[arch][0]:
        raise artifact.error(f"the ELF file is for machine {machine}, the board is {arch}")


def ext_size(artifact: Artifact) -> int:
    """Bytes that an ext2/3/4 image claims to have.

    Raises InputError where the superblock is nonsense or the file is shorter than the claim.
    """
    head = artifact.head
    blocks_low, log_size = (
        struct.unpack_from("<I", head, 1028)[0],
        struct.unpack_from("<I", head, 1048)[0],
    )
    incompat = struct.unpack_from("<I", head, 1120)[0]
    blocks_high = struct.unpack_from("<I", head, 1360)[0] if incompat & 0x80 else 0
    if log_size > 6:
        raise artifact.error("the ext superblock claims impossible blocks: the file is damaged")
    size = int((blocks_high << 32 | blocks_low) * (1024 << log_size))
    if size > artifact.size:
        raise artifact.error(
            f"the file system is cut short: it should have {size} bytes, "
            f"the file has {artifact.size}"
        )
    return size


def _check_ext(artifact: Artifact, arch: str) -> None:
    ext_size(artifact)


def _check_squashfs(artifact: Artifact, arch: str) -> None:
    used = struct.unpack_from("<Q", artifact.head.ljust(48, b"\0"), 40)[0]
    if used > artifact.size:
        raise artifact.error(
            f"the squashfs is cut short: it should have {used} bytes, the file has {artifact.size}"
        )


_CHECKS: dict[str, Callable[[Artifact, str], None]] = {
    "uimage": _check_uimage,
    "zimage": _check_zimage,
    "arm64-image": _check_arm64,
    "dtb": _check_fdt,
    "fit": _check_fit,
    "elf": _check_elf,
    "ext4": _check_ext,
    "squashfs": _check_squashfs,
}
_NAMES = {
    "uimage": "a uImage",
    "zimage": "an ARM zImage",
    "arm64-image": "an arm64 Image",
    "dtb": "a device tree blob",
    "fit": "a FIT image",
    "ext4": "an ext file system",
    "squashfs": "a squashfs",
    "elf": "an ELF file",
    "tar": "a tar archive",
    "fat": "a FAT file system",
    "raw": "something unknown",
}
