"""Which architecture a program is for, and whether it needs a loader: from its ELF headers.

Only the headers are read, each bounded: a file cannot make this read more than it says here.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

from embedkit.emulate.magic import Architecture, of_header

_PT_INTERP = 3
_MOST_SEGMENTS = 256
_LONGEST_PATH = 4096


@dataclass(frozen=True)
class Program:
    """``architecture`` is None where embedkit does not know it; ``loader`` is the PT_INTERP
    path, "" for a static program (a static-pie has none either).
    """

    architecture: Architecture | None
    loader: str

    @property
    def is_static(self) -> bool:
        return not self.loader


def read(path: Path) -> Program | None:
    """What the ELF file is for; None where it is no ELF program (or cannot be read)."""
    try:
        if not path.is_file():  # a pipe or a device must not be waited for
            return None
        with path.open("rb") as file:
            head = file.read(64)
            if len(head) < 52 or head[:4] != b"\x7fELF" or head[4] not in (1, 2):
                return None
            order = ">" if head[5] == 2 else "<"
            if head[4] == 1:
                (offset,) = struct.unpack_from(order + "I", head, 28)
                size, count = struct.unpack_from(order + "HH", head, 42)
            elif len(head) < 64:
                return None
            else:
                (offset,) = struct.unpack_from(order + "Q", head, 32)
                size, count = struct.unpack_from(order + "HH", head, 54)
            known = of_header(head)
            file.seek(offset)
            table = file.read(size * min(count, _MOST_SEGMENTS))
            for at in range(0, len(table) - 31, max(size, 32)):
                kind = struct.unpack_from(order + "I", table, at)[0]
                if kind != _PT_INTERP:
                    continue
                layout = "4xI8xI" if head[4] == 1 else "8xQ16xQ"
                if at + struct.calcsize(order + layout) > len(table):
                    break
                where, length = struct.unpack_from(order + layout, table, at)
                file.seek(where)
                raw = file.read(min(length, _LONGEST_PATH)).split(b"\0")[0]
                return Program(known, raw.decode("utf-8", "replace") or "?")
            return Program(known, "")
    except (OSError, OverflowError, ValueError):
        return None
