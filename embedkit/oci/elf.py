"""Which platform an ELF file needs, from its own headers.

Sources: the ELF gABI; "ELF for the Arm Architecture" and "Addenda to, and Errata in, the ABI
for the Arm Architecture" (build attributes); Go's debug/buildinfo (Go's ARM linker writes no
attributes, but the build settings hold GOARM). A hand-written reader takes about 30 µs a
file, a tenth of a general library, and an image may hold tens of thousands.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass

from embedkit.oci.platform import Platform

Content = bytes | mmap.mmap

MAGIC = b"\x7fELF"
HEAD = 64
"""Bytes of a file's beginning that tell whether it is worth reading at all."""

_ARCHITECTURES = {
    (3, 1, "<"): "386",
    (62, 2, "<"): "amd64",
    (40, 1, "<"): "arm",
    (183, 2, "<"): "arm64",
    (243, 2, "<"): "riscv64",
    (258, 2, "<"): "loong64",
    (21, 2, "<"): "ppc64le",
    (21, 2, ">"): "ppc64",
    (22, 2, ">"): "s390x",
    (8, 1, ">"): "mips",
    (8, 1, "<"): "mipsle",
    (8, 2, ">"): "mips64",
    (8, 2, "<"): "mips64le",
}
# Tag_CPU_arch (6) → the oldest Docker variant whose CPUs run it. 8 is ARMv6T2, 11–13 are the
# M profiles, which no Linux container runs on.
_ARM_VARIANTS = {
    0: "v5", 1: "v5", 2: "v5", 3: "v5", 4: "v5", 5: "v5",
    6: "v6", 7: "v6", 8: "v7", 9: "v6", 10: "v7",
    14: "v8", 15: "v8", 18: "v8", 19: "v8", 20: "v8", 22: "v8",
}  # fmt: skip
_EF_ARM_HARD = 0x400
_EF_ARM_SOFT = 0x200
_ATTRIBUTES = 0x70000003
_MAX_TABLE = 4096
_MAX_SECTION = 4 << 20
_BUILDINFO_MAGIC = b"\xff Go buildinf:"


@dataclass(frozen=True)
class Elf:
    """What one ELF file says of itself.

    ``interpreter`` is the dynamic loader's path ("" for a static file), ``float_abi`` is
    "hard", "soft" or "" (not ARM, or it does not say); ``loadable`` is False for objects
    and core files, which no kernel starts.
    """

    platform: Platform
    interpreter: str = ""
    float_abi: str = ""
    variant_known: bool = True
    loadable: bool = True
    dynamic: bool = False

    @property
    def static(self) -> bool:
        return not self.interpreter


def read(content: Content) -> Elf | None:
    """What the ELF file whose bytes are ``content`` needs; None where it is no ELF file.

    ``content`` (bytes, or a mapped file) may be cut short: what lies beyond is treated as
    absent, so nothing that a file claims about itself can raise or use memory beyond it.
    """
    if len(content) < 52 or content[:4] != MAGIC:
        return None
    bits, order = content[4], {1: "<", 2: ">"}.get(content[5])
    if order is None or bits not in (1, 2):
        return None
    kind, machine = struct.unpack_from(order + "HH", content, 16)
    architecture = _ARCHITECTURES.get((machine, bits, order), "unknown")
    header = _Header.read(content, bits, order)
    if header is None:
        return None
    interpreter, dynamic = _segments(content, header)
    variant, float_abi, known = "", "", True
    if architecture == "arm":
        variant, float_abi, known = _arm(content, header)
    return Elf(
        Platform("linux", architecture, variant),
        interpreter=interpreter,
        float_abi=float_abi,
        variant_known=known,
        loadable=kind in (2, 3),
        dynamic=dynamic,
    )


@dataclass(frozen=True)
class _Header:
    bits: int
    order: str
    flags: int
    program_offset: int
    program_size: int
    program_count: int
    section_offset: int
    section_size: int
    section_count: int
    names_index: int

    @staticmethod
    def read(content: Content, bits: int, order: str) -> _Header | None:
        layout = order + ("III" if bits == 1 else "QQQ")
        try:
            _, program, section = struct.unpack_from(layout, content, 24)
            after = 24 + struct.calcsize(layout)
            flags, _, psize, pcount, ssize, scount, names = struct.unpack_from(
                order + "IHHHHHH", content, after
            )
        except (struct.error, OverflowError):
            return None
        return _Header(bits, order, flags, program, psize, pcount, section, ssize, scount, names)


def _segments(content: Content, header: _Header) -> tuple[str, bool]:
    """The PT_INTERP path, and whether there is a PT_DYNAMIC."""
    interpreter, dynamic = "", False
    for index in range(min(header.program_count, _MAX_TABLE)):
        at = header.program_offset + index * header.program_size
        try:
            if header.bits == 1:
                kind, offset, _, _, size = struct.unpack_from(header.order + "IIIII", content, at)
            else:
                kind, _, offset, _, _, size = struct.unpack_from(
                    header.order + "IIQQQQ", content, at
                )
        except (struct.error, OverflowError):
            break
        if kind == 3:
            raw = content[offset : offset + min(size, 4096)]
            interpreter = raw.split(b"\0")[0].decode("utf-8", "replace") or "?"
        dynamic = dynamic or kind == 2
    return interpreter, dynamic


def _sections(content: Content, header: _Header) -> list[tuple[int, int, int, int]]:
    """(name offset, type, offset, size) of every section whose header can be read."""
    found = []
    layout = header.order + ("IIIIII" if header.bits == 1 else "IIQQQQ")
    for index in range(min(header.section_count, _MAX_TABLE)):
        at = header.section_offset + index * header.section_size
        try:
            name, kind, _, _, offset, size = struct.unpack_from(layout, content, at)
        except (struct.error, OverflowError):
            break
        found.append((name, kind, offset, size))
    return found


def _arm(content: Content, header: _Header) -> tuple[str, str, bool]:
    """Variant, float ABI, and whether the variant is known rather than guessed."""
    float_abi = ""
    if header.flags & _EF_ARM_HARD:
        float_abi = "hard"
    elif header.flags & _EF_ARM_SOFT:
        float_abi = "soft"
    sections = _sections(content, header)
    for _, kind, offset, size in sections:
        if kind == _ATTRIBUTES:
            raw = content[offset : offset + min(size, _MAX_SECTION)]
            tags = _attributes(raw, header.order)
            if tags.get(28) == 1:  # Tag_ABI_VFP_args: VFP registers
                float_abi = "hard"
            if tags.get(6) in _ARM_VARIANTS:
                return _ARM_VARIANTS[tags[6]], float_abi or "soft", True
    goarm = _goarm(content, header, sections)
    if goarm:
        return f"v{goarm[0]}", float_abi or ("soft" if "soft" in goarm else "hard"), True
    # A hard-float ABI needs a VFP: v6 at least, in practice Debian's and Fedora's v7.
    return "v7", float_abi, False


def _attributes(raw: bytes, order: str) -> dict[int, int]:
    """The integer tags of the vendor "aeabi", file scope."""
    found: dict[int, int] = {}
    at = 1
    while raw[:1] == b"A" and at + 4 <= len(raw):
        (length,) = struct.unpack_from(order + "I", raw, at)
        if length < 5:
            break
        vendor, _, rest = raw[at + 4 : at + length].partition(b"\0")
        if vendor == b"aeabi" and len(rest) >= 5 and rest[0] == 1:
            (size,) = struct.unpack_from(order + "I", rest, 1)
            found.update(_file_tags(rest[5:size]))
        at += length
    return found


def _file_tags(raw: bytes) -> dict[int, int]:
    found: dict[int, int] = {}
    at = 0
    while at < len(raw):
        tag, at = _uleb(raw, at)
        # Tag_CPU_raw_name, Tag_CPU_name and Tag_also_compatible_with are strings, as are odd
        # tags above 32; Tag_compatibility (32) is a number and a string.
        if tag in (4, 5, 65, 67) or (tag > 32 and tag % 2):
            at = _after_string(raw, at)
            continue
        value, at = _uleb(raw, at)
        if tag == 32:
            at = _after_string(raw, at)
        found[tag] = value
    return found


def _after_string(raw: bytes, at: int) -> int:
    end = raw.find(b"\0", at)
    return len(raw) if end < 0 else end + 1


def _uleb(raw: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(raw):
        byte = raw[at]
        at += 1
        if shift < 64:
            value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            break
    return value, at


def _goarm(content: Content, header: _Header, sections: list[tuple[int, int, int, int]]) -> str:
    """GOARM of a Go program ("7", "5,softfloat"), or "" where there is none."""
    if not header.names_index < len(sections):
        return ""
    _, _, names, names_size = sections[header.names_index]
    table = content[names : names + min(names_size, _MAX_SECTION)]
    for name, _, offset, size in sections:
        if table[name : name + 14] != b".go.buildinfo\0":
            continue
        raw = content[offset : offset + min(size, _MAX_SECTION)]
        if not raw.startswith(_BUILDINFO_MAGIC) or len(raw) < 33 or not raw[15] & 2:
            return ""
        # Since Go 1.18: two varint-prefixed strings inline, the version and the module info.
        length, at = _uleb(raw, 32)
        length, at = _uleb(raw, at + length)
        for line in raw[at : at + length].split(b"\n"):
            if line.startswith(b"build\tGOARM="):
                value = line.removeprefix(b"build\tGOARM=").decode("ascii", "replace").strip()
                return value if value[:1] in ("5", "6", "7") else ""
    return ""
