"""Digests that the target and this machine both can compute, the strongest one first."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from embedkit.errors import LackError
from embedkit.target.base import Equipped, quote_path

CHUNK = 256 << 10

_PROGRAMS = ("sha256sum", "sha512sum", "sha1sum", "md5sum", "cksum")


class Hasher(Protocol):
    """What hashlib's objects and Cksum have in common."""

    def update(self, data: bytes, /) -> None: ...

    def hexdigest(self) -> str: ...


class Cksum:
    """The CRC of POSIX ``cksum``: polynomial 0x04C11DB7, most significant bit first, the length
    appended. It is zlib's CRC on bit-reversed bytes, which keeps it at C speed."""

    _REVERSED = bytes(int(f"{value:08b}"[::-1], 2) for value in range(256))

    def __init__(self) -> None:
        self._crc = 0xFFFFFFFF
        self._size = 0

    def update(self, data: bytes, /) -> None:
        self._crc = zlib.crc32(data.translate(self._REVERSED), self._crc)
        self._size += len(data)

    def value(self) -> int:
        """As ``cksum`` prints it, in decimal there."""
        length = self._size.to_bytes((self._size.bit_length() + 7) // 8, "little")
        crc = zlib.crc32(length.translate(self._REVERSED), self._crc)
        return int(f"{crc:032b}"[::-1], 2)

    def hexdigest(self) -> str:
        return f"{self.value():08x}"


@dataclass(frozen=True)
class Digester:
    """One of the programs that the target has for it. ``openssl``: it has that as well, which
    uses the CPU's own SHA instructions: four times as fast as coreutils, where there are any."""

    program: str
    openssl: bool = False

    @property
    def command(self) -> str:
        """What prints the digest of standard input, as ``sh`` words."""
        if self.openssl and self.program == "sha256sum":
            # An openssl too old for -r says so before it reads anything.
            return "{ openssl dgst -sha256 -r 2>/dev/null || sha256sum; }"
        return self.program

    @property
    def name(self) -> str:
        return self.program.removesuffix("sum") if self.program != "cksum" else "cksum"

    def new(self) -> Hasher:
        return Cksum() if self.program == "cksum" else hashlib.new(self.name)

    def of_bytes(self, data: bytes) -> str:
        hasher = self.new()
        hasher.update(data)
        return hasher.hexdigest()

    def of_file(self, path: Path, size: int | None = None) -> str:
        """The digest of the first ``size`` bytes of a local file (None: all of it)."""
        hasher = self.new()
        left = size
        with path.open("rb", buffering=0) as file:
            while left is None or left > 0:
                data = file.read(CHUNK if left is None else min(CHUNK, left))
                if not data:
                    break
                hasher.update(data)
                left = None if left is None else left - len(data)
        return hasher.hexdigest()

    def expected_answer(self, digest: str, size: int) -> str:
        """What the program's answer begins with for a file with this digest, as ``sh`` words."""
        if self.program == "cksum":
            return f"'{int(digest, 16)} {size}'"
        return digest

    def read_answer(self, line: str) -> str | None:
        """The digest in the first words of what the program printed; None where there is none."""
        words = line.split()
        if not words:
            return None
        if self.program == "cksum":
            return f"{int(words[0]):08x}" if words[0].isdecimal() and len(words[0]) <= 10 else None
        word = words[0].lower().removeprefix("\\")
        expected = hashlib.new(self.name).digest_size * 2
        good = len(word) == expected and not word.strip("0123456789abcdef")
        return word if good else None


def digester(target: Equipped) -> Digester | None:
    """The strongest digest that ``target`` has a program for, or None."""
    tools = target.tools()
    for program in _PROGRAMS:
        if program in tools:
            return Digester(program, "openssl" in tools)
    return None


def remote_digests(
    target: Equipped, paths: Sequence[str], *, timeout: float = 600.0
) -> dict[str, str]:
    """Path → ``ALGORITHM:HEX`` of those of ``paths`` that are readable files: one exchange.

    Raises LackError where the target has no program for any digest.
    """
    tool = digester(target)
    if tool is None:
        raise LackError("the target has no sha256sum, md5sum or cksum", where=target.name)
    found: dict[str, str] = {}
    # Long lists go in parts: a command line is limited to 128 KiB an argument.
    for batch in _batches(paths):
        words = " ".join(quote_path(path) for path in batch)
        asked = (
            f'for f in {words}; do if [ -f "$f" ] && [ -r "$f" ]; '
            f'then {tool.command} <"$f"; else echo -; fi; done'
        )
        answers = target.run(asked, timeout=timeout).text.splitlines()
        for path, line in zip(batch, answers, strict=False):
            digest = tool.read_answer(line)
            if digest is not None:
                found[path] = f"{tool.name}:{digest}"
    return found


def _batches(paths: Iterable[str]) -> Iterable[list[str]]:
    batch: list[str] = []
    size = 0
    for path in paths:
        if batch and size + len(path) > 24_000:
            yield batch
            batch, size = [], 0
        batch.append(path)
        size += len(path.encode()) * 2 + 8
    if batch:
        yield batch
