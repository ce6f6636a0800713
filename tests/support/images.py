"""Kernel images and compressed data made by hand, as small as the formats allow.

Nothing here uses the code under test: each builder is a second, independent writing of the
format that the code reads.
"""

from __future__ import annotations

import bz2
import gzip
import lzma
import random
import re
import struct
import zlib
from collections.abc import Callable

import zstandard

CONFIG = (
    b"#\n# Automatically generated file; DO NOT EDIT.\n"
    b"# Linux/arm 6.1.55 Kernel Configuration\n#\n"
    b"CONFIG_ARM=y\nCONFIG_OVERLAY_FS=m\n# CONFIG_VETH is not set\n"
    + b"".join(b"CONFIG_HAVE_%d=y\n" % number for number in range(2000))
)


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that hardly compress and never change: what machine code looks like to a packer."""
    return random.Random(seed).randbytes(size)


def ikconfig(config: bytes = CONFIG) -> bytes:
    """What kernel/configs.c leaves in the kernel's read-only data."""
    return b"IKCFG_ST" + gzip.compress(config, mtime=0) + b"IKCFG_ED"


def kernel(config: bytes | None = CONFIG, size: int = 300_000) -> bytes:
    """An uncompressed kernel without a header: code, the config (if any), data."""
    middle = ikconfig(config) if config is not None else b""
    return noise(size, 1) + middle + noise(size // 2, 2)


def elf(content: bytes) -> bytes:
    """``content`` as the body of a 32-bit ARM ELF file (the header alone, no sections)."""
    header = b"\x7fELF\x01\x01\x01" + bytes(9) + struct.pack("<HHI", 2, 40, 1)
    return header.ljust(52, b"\0") + content


def bzimage(payload: bytes, *, protocol: int = 0x20F, tail: bytes = b"tail" * 500) -> bytes:
    """An x86 image: setup code of 3 sectors, a decompressor, the payload, more."""
    setup = bytearray(noise(4 * 512, 3))
    setup[0x1F1] = 3
    setup[0x1FE:0x200] = b"\x55\xaa"
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H", setup, 0x206, protocol)
    decompressor = noise(700, 4)
    struct.pack_into("<2I", setup, 0x248, len(decompressor), len(payload))
    return bytes(setup) + decompressor + payload + tail


def zimage(payload: bytes) -> bytes:
    """An ARM image: the header, a decompressor, the payload, its size, more."""
    head = bytearray(noise(0x4A10, 5))
    struct.pack_into("<3I", head, 0x24, 0x016F2818, 0, len(head) + len(payload))
    return bytes(head) + payload + b"\x78\x56\x34\x01" + noise(300, 6)


def arm64_image(content: bytes) -> bytes:
    return b"MZ".ljust(0x38, b"\0") + b"ARM\x64" + bytes(4) + content


def zboot(payload: bytes) -> bytes:
    """An EFI image that expands itself."""
    head = bytearray(noise(0x1000, 7))
    head[:8] = b"MZ\0\0zimg"
    struct.pack_into("<2I", head, 8, len(head), len(payload))
    return bytes(head) + payload + bytes(512)


def uimage(content: bytes, compression: int = 0, kind: int = 2) -> bytes:
    """U-Boot's old image: a header of 64 bytes."""
    header = struct.pack(
        ">7I4B32s",
        *(0x27051956, 0, 0, len(content), 0x8000, 0x8000, zlib.crc32(content)),
        *(5, 2, kind, compression),
        b"Linux-6.1",
    )
    return header + content


def fit(images: dict[str, tuple[str, bytes]], default: str, *, external: bool = False) -> bytes:
    """A FIT image: name → (type, content); ``default`` is the default configuration's kernel."""
    strings = b""
    behind = b""

    def prop(name: str, value: bytes) -> bytes:
        nonlocal strings
        at = len(strings)
        strings += name.encode() + b"\0"
        return struct.pack(">3I", 3, len(value), at) + value + bytes(-len(value) % 4)

    def node(name: str, *inside: bytes) -> bytes:
        label = name.encode() + b"\0"
        label += bytes(-len(label) % 4)
        return struct.pack(">I", 1) + label + b"".join(inside) + struct.pack(">I", 2)

    nodes = []
    for name, (kind, content) in images.items():
        if external:
            where = prop("data-offset", struct.pack(">I", len(behind)))
            where += prop("data-size", struct.pack(">I", len(content)))
            behind += content + bytes(-len(content) % 4)
        else:
            where = prop("data", content)
        nodes.append(node(name, prop("type", kind.encode() + b"\0"), where))
    configuration = node("conf-1", prop("kernel", default.encode() + b"\0"))
    tree = node(
        "",
        prop("description", b"test\0"),
        node("images", *nodes),
        node("configurations", prop("default", b"conf-1\0"), configuration),
    ) + struct.pack(">I", 9)
    structure = 56
    total = structure + len(tree) + len(strings)
    header = struct.pack(
        ">10I",
        *(0xD00DFEED, total, structure, structure + len(tree), 40, 17, 16, 0),
        *(len(strings), len(tree)),
    )
    return (header.ljust(structure, b"\0") + tree + strings).ljust(total + 3 & ~3, b"\0") + behind


Operation = tuple[bytes, int]


def _operations(data: bytes) -> tuple[list[Operation], bytes]:
    """``data`` as literals followed by a run of their last byte, and the literals at the end."""
    found: list[Operation] = []
    at = 0
    for run in re.finditer(rb"(?s)(.)\1{39,}", data):
        found.append((data[at : run.start() + 1], run.end() - run.start() - 1))
        at = run.end()
    return found, data[at:]


def lz4_block(data: bytes) -> bytes:
    """A valid LZ4 block: long runs of one byte become matches, all else literals."""

    def more(value: int) -> bytes:
        return b"" if value < 15 else b"\xff" * ((value - 15) // 255) + bytes([(value - 15) % 255])

    out = b""
    operations, rest = _operations(data)
    for literals, match in operations:
        out += bytes([min(len(literals), 15) << 4 | 15]) + more(len(literals)) + literals
        out += b"\x01\x00" + more(match - 4)
    return out + bytes([min(len(rest), 15) << 4]) + more(len(rest)) + rest


def lzo_block(data: bytes) -> bytes:
    """A valid LZO1X block, made like :func:`lz4_block`."""

    def extended(value: int) -> bytes:  # 1 or more
        return b"\0" * ((value - 1) // 255) + bytes([(value - 1) % 255 + 1])

    operations, rest = _operations(data)
    pieces = [*operations, (rest, 0)]
    out = b""
    for index, (literals, match) in enumerate(pieces):
        if index == 0 and 0 < len(literals) <= 238:
            out += bytes([17 + len(literals)]) + literals
        elif index > 0 and len(literals) < 4:
            out += literals  # announced by the match before
        elif literals:
            if len(literals) <= 18:
                out += bytes([len(literals) - 3]) + literals
            else:
                out += b"\0" + extended(len(literals) - 18) + literals
        if match:
            follow = len(pieces[index + 1][0])
            out += b"\x20" + extended(match - 33) + bytes([follow if follow < 4 else 0, 0])
    return out + b"\x11\0\0"


def lz4_legacy(data: bytes) -> bytes:
    """What ``lz4 -l`` writes."""
    out = b"\x02\x21\x4c\x18"
    for at in range(0, len(data), 8 << 20):
        block = lz4_block(data[at : at + (8 << 20)])
        out += struct.pack("<I", len(block)) + block
    return out


def lz4_frame(data: bytes, *, block: int = 64 << 10) -> bytes:
    """A frame of independent blocks, without checksums (the header's own is not looked at)."""
    out = b"\x04\x22\x4d\x18\x60\x40\x00"
    for at in range(0, len(data), block):
        packed = lz4_block(data[at : at + block])
        out += struct.pack("<I", len(packed)) + packed
    return out + bytes(4)


def lzop(data: bytes, *, block: int = 256 << 10) -> bytes:
    """What ``lzop`` writes: version 1.03, with an Adler-32 of each block."""
    header = struct.pack(">3H2B4IB", 0x1030, 0x2080, 0x0940, 1, 5, 1, 0o644, 0, 0, 0)
    out = b"\x89LZO\0\r\n\x1a\n" + header + struct.pack(">I", zlib.adler32(header))
    for at in range(0, len(data), block):
        plain = data[at : at + block]
        packed = lzo_block(plain)
        if len(packed) >= len(plain):
            packed = plain
        out += struct.pack(">3I", len(plain), len(packed), zlib.adler32(plain)) + packed
    return out + bytes(4)


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": lambda data: gzip.compress(data, 1, mtime=0),
    "xz": lambda data: lzma.compress(data, check=lzma.CHECK_CRC32, preset=0),
    "lzma": lambda data: lzma.compress(data, lzma.FORMAT_ALONE, preset=0),
    "bzip2": lambda data: bz2.compress(data, 1),
    "zstd": lambda data: zstandard.ZstdCompressor().compress(data),
    "lz4": lz4_legacy,
    "lzo": lzop,
}


def gzip_bomb(size: int = 4 << 30) -> bytes:
    """One gzip member that expands to ``size`` zero bytes (a multiple of 1 MiB)."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    head = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03"
    return head + block * (size >> 20) + packer.flush() + bytes(8)


def zstd_bomb(size: int = 4 << 30) -> bytes:
    """One zstd frame of blocks that each repeat a byte 128 KiB times."""
    block = (1 << 1 | (128 << 10) << 3).to_bytes(3, "little") + b"\0"
    last = (1 | 1 << 1 | (128 << 10) << 3).to_bytes(3, "little") + b"\0"
    return b"\x28\xb5\x2f\xfd\x00\x58" + block * ((size >> 17) - 1) + last


def lz4_bomb(size: int = 4 << 30) -> bytes:
    block = lz4_block(bytes(4 << 20))
    return b"\x04\x22\x4d\x18\x60\x70\x00" + (struct.pack("<I", len(block)) + block) * (size >> 22)


def lzop_bomb(size: int = 4 << 30) -> bytes:
    whole = lzop(bytes(256 << 10))
    return whole[:38] + whole[38:-4] * (size >> 18) + bytes(4)
