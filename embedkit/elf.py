"""What an ELF file says of itself: the machine it is for, its loader, the libraries it needs.

Sources: the ELF gABI, chapters 4 and 5; "ELF for the Arm Architecture" (flags) and "Addenda to,
and Errata in, the ABI for the Arm Architecture" (build attributes); Go's debug/buildinfo (Go's
ARM linker writes no attributes, but the build settings hold GOARM). A hand-written reader takes
tens of microseconds a file, a tenth of a general library, and an image may hold tens of thousands.

Whatever a file claims about itself, nothing here raises, reads beyond the file or uses memory
without a bound. A file may be given by its beginning alone: what lies beyond counts as absent.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

MAGIC = b"\x7fELF"
HEADER_BYTES = 64
"""So much of a file's beginning holds the ELF header of either class."""
HEAD_BYTES = 64 << 10
"""So much of a file's beginning holds its program headers and the loader's name."""

MACHINES: dict[str, tuple[int, int, bool]] = {
    "386": (3, 32, False),
    "amd64": (62, 64, False),
    "arm": (40, 32, False),
    "arm64": (183, 64, False),
    "riscv64": (243, 64, False),
    "loong64": (258, 64, False),
    "ppc": (20, 32, True),
    "ppc64": (21, 64, True),
    "ppc64le": (21, 64, False),
    "s390x": (22, 64, True),
    "mips": (8, 32, True),
    "mipsle": (8, 32, False),
    "mips64": (8, 64, True),
    "mips64le": (8, 64, False),
}
"""Docker's word → (e_machine, bits, whether it is big-endian)."""
_NAMES = {value: name for name, value in MACHINES.items()}

# Tag_CPU_arch (6) → the oldest Docker variant whose CPUs run it. 8 is ARMv6T2, 11–13 are the
# M profiles, which no Linux runs on.
_ARM_VARIANTS = {
    0: "v5", 1: "v5", 2: "v5", 3: "v5", 4: "v5", 5: "v5",
    6: "v6", 7: "v6", 8: "v7", 9: "v6", 10: "v7",
    14: "v8", 15: "v8", 18: "v8", 19: "v8", 20: "v8", 22: "v8",
}  # fmt: skip
FLOAT_SOFT, FLOAT_HARD = 0x200, 0x400
"""e_flags of an ARM file that says which procedure call standard it follows."""
_PROGRAM, _SHARED = 2, 3
_LOAD, _DYNAMIC, _INTERPRETER = 1, 2, 3
_ATTRIBUTES = 0x70000003
_NEEDED, _STRINGS, _STRINGS_SIZE, _SONAME, _RPATH, _RUNPATH = 1, 5, 10, 14, 15, 29
_BUILDINFO_MAGIC = b"\xff Go buildinf:"
_MOST_ENTRIES = 4096
_MOST_SECTION_BYTES = 4 << 20
_LONGEST_NAME = 4096

_Read = Callable[[int, int], bytes]
"""(offset, size) → the bytes there, fewer at the end of the file."""


@dataclass(frozen=True)
class Elf:
    """What one ELF file says.

    ``architecture`` is Docker's word, "" where it is none of :data:`MACHINES`. ``interpreter``
    is the dynamic loader's path, "" for a static file. ``needed``, ``rpath``, ``runpath`` and
    ``soname`` are the dynamic section's, as written ($ORIGIN and all). ``end_bytes`` is where
    the last thing that the headers speak of ends: a shorter file is cut off. For ARM,
    ``variant`` is the oldest (v5 to v8) that runs it and ``float_abi`` is "hard" or "soft";
    both are "" where the file does not say. ``page_bytes`` is the largest memory page that its
    segments are laid out for, 0 for a file that is not loaded.
    """

    machine: int
    bits: int
    big_endian: bool
    kind: int
    flags: int
    interpreter: str = ""
    dynamic: bool = False
    needed: tuple[str, ...] = ()
    soname: str = ""
    rpath: tuple[str, ...] = ()
    runpath: tuple[str, ...] = ()
    end_bytes: int = 0
    page_bytes: int = 0
    variant: str = ""
    float_abi: str = ""

    @property
    def architecture(self) -> str:
        return architecture(self.machine, self.bits, self.big_endian)

    @property
    def static(self) -> bool:
        """Whether it starts without a loader (a static-pie, too, has none)."""
        return not self.interpreter

    @property
    def loadable(self) -> bool:
        """Whether it is a program or a library: objects and core files are never started."""
        return self.kind in (_PROGRAM, _SHARED)


def architecture(machine: int, bits: int, big_endian: bool) -> str:
    """Docker's word for what these three fields of a header say; "" where it is unknown."""
    return _NAMES.get((machine, bits, big_endian), "")


def read(content: bytes) -> Elf | None:
    """What the file says whose bytes, or whose first bytes, are ``content``.

    None where it is no ELF file; 52 bytes are the least that tell.
    """
    return _read(lambda at, size: content[at : at + size])


def read_file(file: IO[bytes]) -> Elf | None:
    """The same of an open file, of which only the telling parts are read. Raises OSError."""
    handle = file.fileno()

    def at(offset: int, size: int) -> bytes:
        # No file is longer than an off_t can say.
        return os.pread(handle, size, offset) if offset + size < 1 << 63 else b""

    return _read(at)


def read_path(path: Path) -> Elf | None:
    """The same of a file's path; None also where there is no file that could be read."""
    try:
        if not path.is_file():  # a pipe or a device must not be waited for
            return None
        with path.open("rb", buffering=0) as file:
            return read_file(file)
    except (OSError, ValueError):
        return None


def section(content: bytes, name: str) -> bytes:
    """The content of a file's section, such as a kernel module's ".modinfo"; empty where there
    is none."""
    file = _header(lambda at, size: content[at : at + size])
    return b"" if file is None else _section(file, _sections(file), name)


@dataclass(frozen=True)
class _Segment:
    kind: int
    offset: int
    address: int
    size: int
    align: int


@dataclass(frozen=True)
class _Section:
    name: int
    kind: int
    offset: int
    size: int


@dataclass(frozen=True)
class _File:
    """The header, and how its file is read on."""

    read: _Read
    order: str
    wide: bool
    kind: int
    machine: int
    flags: int
    segments_at: tuple[int, int, int]  # offset, size of one, number
    sections_at: tuple[int, int, int]
    names_index: int

    def table(self, place: tuple[int, int, int], layout: struct.Struct) -> list[tuple[int, ...]]:
        """What there is of a table whose entries have just the size that they must have."""
        offset, size, count = place
        if size != layout.size:
            return []
        raw = self.read(offset, size * min(count, _MOST_ENTRIES))
        return list(layout.iter_unpack(raw[: len(raw) // size * size]))

    def name(self, at: int, most: int) -> str:
        """The NUL-terminated text at an offset."""
        raw = self.read(at, min(most, _LONGEST_NAME)).split(b"\0", 1)[0]
        return raw.decode("utf-8", "replace")


def _read(read: _Read) -> Elf | None:
    file = _header(read)
    if file is None:
        return None
    segments = _segments(file)
    ends = [offset + size * count for offset, size, count in (file.segments_at, file.sections_at)]
    interpreter = next(
        (
            file.name(each.offset, each.size) or "?"
            for each in segments
            if each.kind == _INTERPRETER
        ),
        "",
    )
    dynamic = next((each for each in segments if each.kind == _DYNAMIC), None)
    tags = {} if dynamic is None else _dynamic(file, segments, dynamic)
    is_arm = (file.machine, file.wide, file.order) == (40, False, "<")
    variant, float_abi = _arm(file) if is_arm else ("", "")
    return Elf(
        machine=file.machine,
        bits=64 if file.wide else 32,
        big_endian=file.order == ">",
        kind=file.kind,
        flags=file.flags,
        interpreter=interpreter,
        dynamic=dynamic is not None,
        needed=tuple(tags.get(_NEEDED, ())),
        soname=next(iter(tags.get(_SONAME, ())), ""),
        rpath=_folders(tags.get(_RPATH, [])),
        runpath=_folders(tags.get(_RUNPATH, [])),
        end_bytes=max(*ends, *(each.offset + each.size for each in segments), 0),
        page_bytes=min((each.align for each in segments if each.kind == _LOAD), default=0),
        variant=variant,
        float_abi=float_abi,
    )


def _header(read: _Read) -> _File | None:
    head = read(0, HEADER_BYTES)
    if len(head) < 52 or head[:4] != MAGIC or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    wide, order = head[4] == 2, "<" if head[5] == 1 else ">"
    layout = order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH")
    # 52 bytes of a 64-bit file end behind its flags: the tables are absent then.
    head = head.ljust(HEADER_BYTES, b"\0")
    kind, machine, _, _, phoff, shoff, flags, _, phsize, phnum, shsize, shnum, names = (
        struct.unpack_from(layout, head, 16)
    )
    sections = (shoff, shsize, shnum) if shoff else (0, 0, 0)
    return _File(
        read, order, wide, kind, machine, flags, (phoff, phsize, phnum), sections, names
    )  # fmt: skip


def _segments(file: _File) -> list[_Segment]:
    layout = struct.Struct(file.order + ("IIQQQQQQ" if file.wide else "IIIIIIII"))
    entries = file.table(file.segments_at, layout)
    if file.wide:
        return [_Segment(each[0], each[2], each[3], each[5], each[7]) for each in entries]
    return [_Segment(each[0], each[1], each[2], each[4], each[7]) for each in entries]


def _sections(file: _File) -> list[_Section]:
    layout = struct.Struct(file.order + ("IIQQQQIIQQ" if file.wide else "IIIIIIIIII"))
    entries = file.table(file.sections_at, layout)
    return [_Section(each[0], each[1], each[4], each[5]) for each in entries]


def _dynamic(file: _File, segments: list[_Segment], dynamic: _Segment) -> dict[int, list[str]]:
    """Tag → its texts in their order, for the tags whose values are texts."""
    layout = struct.Struct(file.order + ("QQ" if file.wide else "II"))
    count = dynamic.size // layout.size
    entries = file.table((dynamic.offset, layout.size, count), layout)
    offsets: dict[int, list[int]] = {}
    values: dict[int, int] = {}
    for tag, value in entries:
        if tag == 0:
            break
        if tag in (_NEEDED, _SONAME, _RPATH, _RUNPATH):
            offsets.setdefault(tag, []).append(value)
        values[tag] = value
    address, size = values.get(_STRINGS, 0), values.get(_STRINGS_SIZE, 0)
    for each in segments:
        if each.kind == _LOAD and each.address <= address < each.address + each.size:
            begin = each.offset + address - each.address
            return {
                tag: [file.name(begin + at, size - at) for at in found if at < size]
                for tag, found in offsets.items()
            }
    return {}


def _folders(paths: list[str]) -> tuple[str, ...]:
    return tuple(folder for path in paths for folder in path.split(":") if folder)


def _arm(file: _File) -> tuple[str, str]:
    """Variant and float ABI, "" where the file does not say."""
    float_abi = ""
    if file.flags & FLOAT_HARD:
        float_abi = "hard"
    elif file.flags & FLOAT_SOFT:
        float_abi = "soft"
    sections = _sections(file)
    for each in sections:
        if each.kind == _ATTRIBUTES:
            tags = _attributes(file.read(each.offset, min(each.size, _MOST_SECTION_BYTES)))
            if tags.get(28) == 1:  # Tag_ABI_VFP_args: VFP registers
                float_abi = "hard"
            if tags.get(6) in _ARM_VARIANTS:
                return _ARM_VARIANTS[tags[6]], float_abi or "soft"
    goarm = _goarm(file, sections)
    if goarm:
        return f"v{goarm[0]}", float_abi or ("soft" if "soft" in goarm else "hard")
    return "", float_abi


def _attributes(raw: bytes) -> dict[int, int]:
    """The integer tags of the vendor "aeabi", file scope."""
    found: dict[int, int] = {}
    at = 1
    while raw[:1] == b"A" and at + 4 <= len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        if length < 5:
            break
        vendor, _, rest = raw[at + 4 : at + length].partition(b"\0")
        if vendor == b"aeabi" and len(rest) >= 5 and rest[0] == 1:
            (size,) = struct.unpack_from("<I", rest, 1)
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


def _section(file: _File, sections: list[_Section], name: str) -> bytes:
    if not file.names_index < len(sections):
        return b""
    names = sections[file.names_index]
    table = file.read(names.offset, min(names.size, _MOST_SECTION_BYTES))
    wanted = name.encode() + b"\0"
    for each in sections:
        if table[each.name : each.name + len(wanted)] == wanted:
            return file.read(each.offset, min(each.size, _MOST_SECTION_BYTES))
    return b""


def _goarm(file: _File, sections: list[_Section]) -> str:
    """GOARM of a Go program ("7", "5,softfloat"), or "" where there is none."""
    raw = _section(file, sections, ".go.buildinfo")
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
