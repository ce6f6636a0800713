"""One entry of binfmt_misc: as the kernel shows it, and as one registers it.

Source: the kernel's ``Documentation/admin-guide/binfmt-misc.rst`` and ``fs/binfmt_misc.c``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from embedkit.errors import InputError

_LONGEST_LINE = 1920  # MAX_REGISTER_LENGTH
_ESCAPED = re.compile(rb"\\x([0-9A-Fa-f]{2})")


@dataclass(frozen=True)
class Entry:
    """``magic``, ``mask`` and ``offset`` (bytes) recognise a file, or ``extension`` does.

    ``flags`` are letters: F the interpreter is opened now and works in every container, P it is
    told argv[0], O it gets the program as an open file, C (with O) it runs with the
    credentials of the program, which makes foreign setuid programs work.
    """

    name: str
    interpreter: str
    flags: str = ""
    magic: bytes = b""
    mask: bytes = b""
    offset: int = 0
    extension: str = ""
    enabled: bool = True

    @property
    def is_fixed(self) -> bool:
        """Whether the kernel holds the interpreter open, so that a chroot need not have it."""
        return "F" in self.flags

    def line(self) -> str:
        """What registers it. Raises InputError where the kernel would not take it."""
        for part in (self.name, self.interpreter, self.flags):
            if any(sign in part for sign in "\n\0") or not part.isprintable():
                raise InputError(f"'{part!r}' cannot stand in a binfmt_misc entry")
        if not self.name or "/" in self.name or self.name in (".", "..", "register", "status"):
            raise InputError(f"'{self.name}' is no name for a binfmt_misc entry")
        texts = self.name + self.interpreter + self.flags + self.extension
        delimiter = next(sign for sign in ":|,;#!@%+=~^" if sign not in texts)
        if self.extension:
            middle = ["E", "", self.extension, ""]
        else:
            offset = str(self.offset) if self.offset else ""
            middle = ["M", offset, _escape(self.magic), _escape(self.mask)]
        line = delimiter + delimiter.join([self.name, *middle, self.interpreter, self.flags])
        if len(line.encode()) > _LONGEST_LINE:
            raise InputError("the entry is longer than the kernel takes", where=self.interpreter)
        return line

    def says_the_same(self, other: Entry) -> bool:
        """Whether both do the same: order of the flags and the O that C brings do not count."""
        return _normal(self) == _normal(other)


def parse(name: str, text: str) -> Entry | None:
    """The entry that the kernel shows as ``text``; None where the text is something else."""
    lines = text.splitlines()
    if not lines or lines[0] not in ("enabled", "disabled"):
        return None
    values = {}
    for line in lines[1:]:
        key, _, value = line.partition(" ")
        values[key.rstrip(":")] = value
    try:
        return Entry(
            name=name,
            interpreter=values["interpreter"],
            flags=values.get("flags", "").strip(),
            magic=bytes.fromhex(values.get("magic", "")),
            mask=bytes.fromhex(values.get("mask", "")),
            offset=int(values.get("offset", "0")),
            extension=values.get("extension", "").removeprefix("."),
            enabled=lines[0] == "enabled",
        )
    except (KeyError, ValueError):
        return None


def parse_line(line: str) -> Entry | None:
    """The entry that a line of a binfmt.d file registers; None for a comment or a bad line."""
    line = line.strip()
    if not line or line[0] in "#;" or line[0].isalnum():
        return None
    parts = line[1:].split(line[0])
    if len(parts) == 6:  # the last delimiter may be left out
        parts.append("")
    if len(parts) < 7 or parts[1] not in ("M", "E"):
        return None
    name, kind, offset, magic, mask, interpreter, flags = parts[:7]
    try:
        if kind == "E":
            return Entry(name, interpreter, flags, extension=magic)
        at = int(offset or "0")
        return Entry(name, interpreter, flags, _unescape(magic), _unescape(mask), at)
    except ValueError:
        return None


def _escape(raw: bytes) -> str:
    return "".join(f"\\x{byte:02x}" for byte in raw)


def _unescape(text: str) -> bytes:
    raw = text.encode("utf-8", "surrogateescape")
    return _ESCAPED.sub(lambda found: bytes([int(found.group(1), 16)]), raw)


def _normal(entry: Entry) -> tuple[object, ...]:
    flags = set(entry.flags)
    if "C" in flags:
        flags.add("O")
    mask = entry.mask or b"\xff" * len(entry.magic)
    magic = bytes(a & b for a, b in zip(entry.magic, mask, strict=False))
    return (
        entry.name,
        entry.interpreter,
        frozenset(flags),
        magic,
        mask,
        entry.offset,
        entry.extension,
        entry.enabled,
    )
