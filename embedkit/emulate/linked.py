"""What dynamic programs and kernel modules ask for: NEEDED libraries, and ``.modinfo``.

Source: the ELF gABI, chapters 4 and 5; Linux, include/linux/moduleparam.h (MODULE_INFO). The
files are Debian's or the user's own; what does not hold together reads as asking for nothing.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_PT_LOAD, _PT_DYNAMIC, _PT_INTERP = 1, 2, 3
_DT_NEEDED, _DT_STRTAB = 1, 5
_MOST_ENTRIES = 4096


@dataclass(frozen=True)
class Linked:
    """``loader`` is the dynamic loader's path ("" for a library or a static program),
    ``needed`` the names of libraries."""

    loader: str
    needed: tuple[str, ...]


@dataclass(frozen=True)
class _Elf:
    content: bytes
    order: str
    wide: bool

    def unpack(self, narrow: str, wide: str, at: int) -> tuple[int, ...]:
        return struct.unpack_from(self.order + (wide if self.wide else narrow), self.content, at)

    def string(self, at: int) -> str:
        end = self.content.index(b"\0", at)
        return self.content[at:end].decode("utf-8", "replace")


def _elf(content: bytes) -> _Elf | None:
    if len(content) < 52 or content[:4] != b"\x7fELF":
        return None
    return _Elf(content, ">" if content[5] == 2 else "<", content[4] == 2)


def linked(content: bytes) -> Linked | None:
    """What the program or library asks for; None where it is no ELF file."""
    elf = _elf(content)
    if elf is None:
        return None
    try:
        return _linked(elf)
    except (struct.error, ValueError, OverflowError):
        return Linked("", ())


def _linked(elf: _Elf) -> Linked:
    (offset,) = elf.unpack("I", "Q", 32 if elf.wide else 28)
    size, count = elf.unpack("HH", "HH", 54 if elf.wide else 42)
    segments = []
    for index in range(count):
        at = offset + index * size
        if elf.wide:
            kind, _, where, address, _, length = elf.unpack("", "IIQQQQ", at)
        else:
            kind, where, address, _, length = elf.unpack("IIIII", "", at)
        segments.append((kind, where, address, length))
    loader = next((elf.string(where) for kind, where, *_ in segments if kind == _PT_INTERP), "")
    dynamic = next((entry for entry in segments if entry[0] == _PT_DYNAMIC), None)
    if dynamic is None:
        return Linked(loader, ())
    entries = []
    for index in range(_MOST_ENTRIES):
        tag, value = elf.unpack("II", "QQ", dynamic[1] + index * (16 if elf.wide else 8))
        if tag == 0:
            break
        entries.append((tag, value))
    table = next((value for tag, value in entries if tag == _DT_STRTAB), None)
    names = next(
        (
            where + table - address
            for kind, where, address, length in segments
            if table is not None and kind == _PT_LOAD and address <= table < address + length
        ),
        None,
    )
    if names is None:
        return Linked(loader, ())
    return Linked(loader, tuple(elf.string(names + v) for tag, v in entries if tag == _DT_NEEDED))


def modinfo(content: bytes) -> tuple[tuple[str, str], ...]:
    """The (key, value) pairs of a kernel module's ``.modinfo`` section, in their order."""
    elf = _elf(content)
    if elf is None:
        return ()
    try:
        section = _section(elf, ".modinfo")
    except (struct.error, ValueError, OverflowError):
        return ()
    pairs = []
    for entry in section.split(b"\0"):
        key, equals, value = entry.decode("utf-8", "replace").partition("=")
        if equals:
            pairs.append((key, value))
    return tuple(pairs)


def _section(elf: _Elf, wanted: str) -> bytes:
    (offset,) = elf.unpack("I", "Q", 40 if elf.wide else 32)
    size, count, names_index = elf.unpack("HHH", "HHH", 58 if elf.wide else 46)

    def header(index: int) -> tuple[int, int, int]:
        at = offset + index * size
        name, _, _, _, where, length = elf.unpack("IIIIII", "IIQQQQ", at)
        return name, where, length

    _, names, _ = header(names_index)
    for index in range(count):
        name, where, length = header(index)
        if elf.string(names + name) == wanted:
            return elf.content[where : where + length]
    return b""
