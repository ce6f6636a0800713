"""What is sent to a target."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import InputError
from embedkit.target.digest import Digester

# paramiko copies what it could not send at once, so large pieces cost more than small ones.
PIECE_BYTES = 64 << 10


@dataclass(frozen=True)
class Source:
    """What is sent: a local file or bytes."""

    content: Path | bytes
    size: int

    @classmethod
    def of(cls, content: Path | bytes) -> Source:
        if isinstance(content, bytes):
            return cls(content, len(content))
        if not content.is_file():
            if content.is_dir():
                raise InputError(
                    f"{content} is a folder", hint="send an archive of it (tar), and unpack that"
                )
            raise InputError(f"{content} does not exist", hint="give a file to send")
        return cls(content, content.stat().st_size)

    @property
    def mode(self) -> int:
        return 0o644 if isinstance(self.content, bytes) else self.content.stat().st_mode & 0o777

    def pieces(self, start: int, end: int | None = None) -> Iterator[bytes]:
        """Bytes ``start`` to ``end`` in small pieces."""
        end = self.size if end is None else min(end, self.size)
        if isinstance(self.content, bytes):
            for offset in range(start, end, PIECE_BYTES):
                yield self.content[offset : min(offset + PIECE_BYTES, end)]
            return
        with self.content.open("rb", buffering=0) as file:
            file.seek(start)
            while start < end:
                data = file.read(min(PIECE_BYTES, end - start))
                if not data:
                    raise InputError(f"{self.content} became shorter while it was being sent")
                start += len(data)
                yield data

    def digest(self, digester: Digester, size: int | None = None) -> str:
        if isinstance(self.content, bytes):
            return digester.of_bytes(self.content if size is None else self.content[:size])
        return digester.of_file(self.content, size)
