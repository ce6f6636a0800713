"""Writes initramfs archives: cpio in the newc format (Linux, driver-api/early-userspace)."""

from __future__ import annotations

import gzip
import stat
from dataclasses import dataclass, field


@dataclass
class Initramfs:
    """Collects files; :meth:`compressed` gives the archive."""

    _parts: list[bytes] = field(default_factory=list)
    _count: int = 0

    def folder(self, path: str) -> None:
        self._add(path, stat.S_IFDIR | 0o755, b"")

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        self._add(path, stat.S_IFREG | mode, content)

    def link(self, path: str, target: str) -> None:
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path: str, major: int, minor: int) -> None:
        self._add(path, stat.S_IFCHR | 0o600, b"", (major, minor))

    def _add(self, path: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._count += 1
        name = path.encode() + b"\0"
        numbers = (
            self._count, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0,
        )  # fmt: skip
        head = b"070701" + b"".join(f"{number:08x}".encode() for number in numbers)
        self._parts += [_padded(head + name), _padded(content)]

    def compressed(self) -> bytes:
        self._add("TRAILER!!!", 0, b"")
        return gzip.compress(b"".join(self._parts), 6, mtime=0)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)
