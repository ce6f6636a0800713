"""Tiny static programs for five platforms, written byte by byte: they print a line and exit.

No compiler, no download. ARM files carry the build attributes that say which architecture
version they were "built" for (ABI addenda, Tag_CPU_arch), the rest of the file is the same.
"""

from __future__ import annotations

import struct

BASE = 0x10000
CPU_ARCH = {"v5": 4, "v6": 6, "v7": 10, "v8": 14}


def _amd64(text: bytes) -> bytes:
    code = b"\xb8\x01\0\0\0\xbf\x01\0\0\0\x48\x8d\x35\x10\0\0\0\xba" + struct.pack("<I", len(text))
    return code + b"\x0f\x05\xb8\x3c\0\0\0\x31\xff\x0f\x05" + text


def _386(text: bytes) -> bytes:
    address = BASE + 52 + 32 + 33
    code = b"\xb8\x04\0\0\0\xbb\x01\0\0\0\xb9" + struct.pack("<I", address)
    code += b"\xba" + struct.pack("<I", len(text)) + b"\xcd\x80"
    code += b"\xb8\x01\0\0\0\x31\xdb\xcd\x80\x90\x90"
    return code + text


def _arm(text: bytes) -> bytes:
    words = (
        0xE3A07004, 0xE3A00001, 0xE28F1010, 0xE3A02000 | len(text), 0xEF000000,
        0xE3A07001, 0xE3A00000, 0xEF000000,
    )  # fmt: skip
    return struct.pack("<8I", *words) + text


def _arm64(text: bytes) -> bytes:
    words = (
        0xD2800808, 0xD2800020, 0x100000C1, 0xD2800002 | len(text) << 5, 0xD4000001,
        0xD2800BA8, 0xD2800000, 0xD4000001,
    )  # fmt: skip
    return struct.pack("<8I", *words) + text


_MACHINES = {"amd64": (62, _amd64), "386": (3, _386), "arm": (40, _arm), "arm64": (183, _arm64)}


def program(
    architecture: str,
    variant: str = "",
    text: str = "hello",
    *,
    interpreter: str = "",
    hard_float: bool = True,
    kind: int = 2,
) -> bytes:
    """An ELF file that prints ``text`` and a line end. ``interpreter`` makes it look dynamic."""
    machine, make = _MACHINES[architecture]
    wide = architecture in ("amd64", "arm64")
    code = make(text.encode() + b"\n")
    header_size, program_size = (64, 56) if wide else (52, 32)
    begin = header_size + program_size * (2 if interpreter else 1)
    assert not interpreter or architecture != "386", "its code holds an absolute address"
    body = code + (interpreter.encode() + b"\0" if interpreter else b"")
    flags, sections = 0, b""
    section_offset = section_count = names_index = 0
    if architecture == "arm":
        flags = 0x05000000 | (0x400 if hard_float else 0x200)
        body += bytes(-len(body) % 4)
        if variant:
            extra, sections = _arm_sections(variant, hard_float, begin + len(body))
            body += extra
            section_offset, section_count, names_index = begin + len(body), 3, 2
    segments = _segment(wide, 1, 0, BASE, begin + len(body), 5)
    if interpreter:
        at = begin + len(code)
        segments += _segment(wide, 3, at, BASE + at, len(interpreter) + 1, 4)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 1, 1]) + bytes(9)
    layout = "<HHIQQQIHHHHHH" if wide else "<HHIIIIIHHHHHH"
    header = ident + struct.pack(
        layout, kind, machine, 1, BASE + begin, header_size, section_offset, flags, header_size,
        program_size, 2 if interpreter else 1, 64 if wide else 40, section_count, names_index,
    )  # fmt: skip
    return header + segments + body + sections


def _segment(
    wide: bool, kind: int, offset: int, address: int, size: int, flags: int, order: str = "<"
) -> bytes:
    if wide:
        return struct.pack(
            order + "IIQQQQQQ", kind, flags, offset, address, address, size, size, 0x1000
        )
    return struct.pack(
        order + "IIIIIIII", kind, offset, address, address, size, size, flags, 0x1000
    )


def _arm_sections(variant: str, hard_float: bool, at: int) -> tuple[bytes, bytes]:
    """The attributes and the section names; and the three section headers."""
    tags = bytes([5]) + b"test\0" + bytes([6, CPU_ARCH[variant]])
    tags += bytes([28, 1]) if hard_float else b""
    inner = b"\x01" + struct.pack("<I", 5 + len(tags)) + tags
    vendor = b"aeabi\0" + inner
    attributes = b"A" + struct.pack("<I", 4 + len(vendor)) + vendor
    names = b"\0.ARM.attributes\0.shstrtab\0"
    content = attributes + names
    padded = content + bytes(-len(content) % 4)
    headers = bytes(40)
    headers += struct.pack("<10I", 1, 0x70000003, 0, 0, at, len(attributes), 0, 0, 1, 0)
    headers += struct.pack("<10I", 17, 3, 0, 0, at + len(attributes), len(names), 0, 0, 1, 0)
    return padded, headers


def library(*, wide: bool = True, big_endian: bool = False) -> bytes:
    """A shared library of nothing but headers and a dynamic section."""
    order = ">" if big_endian else "<"
    names = b"\0libc.so.6\0libm.so.6\0libx.so.1\0/opt/lib\0$ORIGIN/../lib:/usr/x\0"
    header_size, program_size = (64, 56) if wide else (52, 32)
    begin = header_size + 2 * program_size
    word = order + ("QQ" if wide else "II")
    tags = [(1, 1), (1, 11), (14, 21), (15, 31), (29, 40), (10, len(names))]
    tags_size = (len(tags) + 2) * struct.calcsize(word)
    tags += [(5, BASE + begin + tags_size), (0, 0)]
    body = b"".join(struct.pack(word, *tag) for tag in tags) + names
    segments = _segment(wide, 1, 0, BASE, begin + len(body), 5, order)
    segments += _segment(wide, 2, begin, BASE + begin, tags_size, 6, order)
    ident = b"\x7fELF" + bytes([2 if wide else 1, 2 if big_endian else 1, 1]) + bytes(9)
    layout = order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
    header = struct.pack(
        layout, 3, 62, 1, 0, header_size, 0, 0, header_size, program_size, 2, 0, 0, 0
    )
    return ident + header + segments + body
