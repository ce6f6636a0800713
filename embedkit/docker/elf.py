"""What a program's ELF header says: which CPU it needs, whether it is whole and stands alone.

Source: the ELF gABI, chapters 4 and 5, and AAELF32 for the ARM flags. Only the beginning of a
file is looked at, so a member of an archive can be judged while it streams by.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from embedkit.target.platform import MACHINES

HEAD_BYTES = 64 << 10
"""So much of a file's beginning holds its program headers and the loader's name."""

_EXECUTABLE = (2, 3)  # ET_EXEC, and ET_DYN for position-independent programs
_PT_INTERP = 3
_FLOAT_SOFT = 0x200
_FLOAT_HARD = 0x400


@dataclass(frozen=True)
class Elf:
    """``arch`` is Docker's word, or ``machine N``. ``hard_float`` is None where the file does
    not say (all but ARM, and Go programs without C). ``interpreter`` is the dynamic loader that
    it asks for, empty for a static program. ``needed_bytes`` is where the last thing that its
    headers speak of ends: a shorter file is cut off."""

    arch: str
    bits: int
    hard_float: bool | None
    interpreter: str
    needed_bytes: int

    @property
    def static(self) -> bool:
        return not self.interpreter


def read(head: bytes) -> Elf | None:
    """The header in the first ``HEAD_BYTES`` of a file; None where it is no program at all.

    Nothing that the file claims can make this raise, or read beyond ``head``.
    """
    if len(head) < 52 or head[:4] != b"\x7fELF" or head[4] not in (1, 2) or head[5] not in (1, 2):
        return None
    wide = head[4] == 2
    order = "<" if head[5] == 1 else ">"
    layout = struct.Struct(order + ("HHIQQQIHHHHHH" if wide else "HHIIIIIHHHHHH"))
    if len(head) < 16 + layout.size:
        return None
    kind, machine, _, _, phoff, shoff, flags, _, phentsize, phnum, shentsize, shnum, _ = (
        layout.unpack_from(head, 16)
    )
    if kind not in _EXECUTABLE:
        return None
    needed = max(phoff + phentsize * phnum, shoff + shentsize * shnum if shoff else 0)
    interpreter = ""
    segment = struct.Struct(order + ("IIQQQQQQ" if wide else "IIIIIIII"))
    for index in range(phnum):
        at = phoff + index * phentsize
        if at + segment.size > len(head):
            break
        fields = segment.unpack_from(head, at)
        offset, size = (fields[2], fields[5]) if wide else (fields[1], fields[4])
        needed = max(needed, offset + size)
        if fields[0] == _PT_INTERP:
            name = head[offset : offset + min(size, 256)].split(b"\0")[0]
            interpreter = name.decode("ascii", "replace") or "?"
    hard: bool | None = None
    if machine == 40 and flags & (_FLOAT_HARD | _FLOAT_SOFT):
        hard = bool(flags & _FLOAT_HARD)
    arch = MACHINES.get(machine, f"machine {machine}")
    return Elf(arch, 64 if wide else 32, hard, interpreter, needed)
