"""The forms of kernel images, and where in each the kernel itself lies.

Each form is one row of ``FORMS``. To add one: say how its first bytes look, and yield the parts
that may hold the kernel, best first. A form without parts is searched for compressed data.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from embedkit.kernel import fit
from embedkit.kernel.stream import Blob, Part

# Enough to recognise every form and to read its header.
HEAD = 4096

# Either byte order (arch/arm/boot/compressed/head.S).
_ARM_ZIMAGE = (b"\x18\x28\x6f\x01", b"\x01\x6f\x28\x18")
_UIMAGE_HEADER = 64
_UIMAGE_MULTI = 4


@dataclass(frozen=True)
class Form:
    """One form of kernel image.

    ``wraps`` says that the kernel lies inside, compressed, so that the image is small and has
    to be looked into at random. ``parts`` yields (name or "", part).
    """

    name: str
    recognises: Callable[[bytes], bool]
    wraps: bool
    parts: Callable[[Blob], Iterator[tuple[str, Part]]]


def _no_parts(blob: Blob) -> Iterator[tuple[str, Part]]:
    return iter(())


def _bzimage(head: bytes) -> bool:
    return head[0x202:0x206] == b"HdrS" and head[0x1FE:0x200] == b"\x55\xaa"


def _bzimage_parts(blob: Blob) -> Iterator[tuple[str, Part]]:
    """The payload (``Documentation/arch/x86/boot.rst``: fields since protocol 2.08)."""
    head = blob.read(0, HEAD)
    (protocol,) = struct.unpack_from("<H", head, 0x206)
    if protocol < 0x208 or len(head) < 0x250:
        return
    setup_sectors = head[0x1F1] or 4
    offset, length = struct.unpack_from("<2I", head, 0x248)
    if length:
        yield "", Part(blob, (setup_sectors + 1) * 512 + offset, length)


def _zboot(head: bytes) -> bool:
    return head[:2] == b"MZ" and head[4:8] == b"zimg"


def _zboot_parts(blob: Blob) -> Iterator[tuple[str, Part]]:
    """The payload (``include/linux/pe.h`` and ``drivers/firmware/efi/libstub/zboot-header.S``)."""
    offset, length = struct.unpack("<2I", blob.read(8, 8).ljust(8, b"\0"))
    if length:
        yield "", Part(blob, offset, length)


def _uimage_parts(blob: Blob) -> Iterator[tuple[str, Part]]:
    """The data (U-Boot's ``include/image.h``, ``struct legacy_img_hdr``); of several the first."""
    head = blob.read(0, _UIMAGE_HEADER + 4).ljust(_UIMAGE_HEADER + 4, b"\0")
    (size,) = struct.unpack_from(">I", head, 12)
    if head[30] != _UIMAGE_MULTI:
        yield "", Part(blob, _UIMAGE_HEADER, size)
        return
    (first,) = struct.unpack_from(">I", head, _UIMAGE_HEADER)
    at = _UIMAGE_HEADER
    for _ in range(64):  # the list of sizes ends with a zero
        at += 4
        if blob.read(at - 4, 4).ljust(4, b"\0") == b"\0\0\0\0":
            break
    yield "", Part(blob, at, first)


FORMS = (
    Form("FIT image", lambda head: head[:4] == fit.MAGIC, True, fit.kernels),
    Form("uImage", lambda head: head[:4] == b"\x27\x05\x19\x56", True, _uimage_parts),
    Form("bzImage", _bzimage, True, _bzimage_parts),
    Form("EFI zboot image", _zboot, True, _zboot_parts),
    Form("zImage", lambda head: head[0x24:0x28] in _ARM_ZIMAGE, True, _no_parts),
    Form("arm64 Image", lambda head: head[0x38:0x3C] == b"ARM\x64", False, _no_parts),
    Form("RISC-V Image", lambda head: head[0x38:0x3C] == b"RSC\x05", False, _no_parts),
    Form("Android boot image", lambda head: head[:8] == b"ANDROID!", True, _no_parts),
    Form("ELF file", lambda head: head[:4] == b"\x7fELF", False, _no_parts),
)


def form_of(head: bytes) -> Form | None:
    """The form of the image that begins with ``head``, or None."""
    for form in FORMS:
        if form.recognises(head):
            return form
    return None
