"""Digests: their grammar, and streams that check themselves.

Grammar and registered algorithms: image-spec, descriptor.md, "Digests". Only sha256 and
sha512 are accepted; whatever passes :func:`parse` is safe as a part of a path.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any, BinaryIO

from embedkit.errors import InputError
from embedkit.oci.streams import Pulled

_GRAMMAR = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


def parse(text: object, where: str | None = None) -> str:
    """``text`` where it is a digest that embedkit can check.

    Raises InputError for anything else.
    """
    if isinstance(text, str) and _GRAMMAR.fullmatch(text):
        return text
    shown = text if isinstance(text, str) else type(text).__name__
    raise InputError(f"'{shown[:100]}' is not a sha256 or sha512 digest", where=where)


def is_digest(text: str) -> bool:
    """Whether ``text`` is a digest that embedkit can check."""
    return _GRAMMAR.fullmatch(text) is not None


def split(digest: str) -> tuple[str, str]:
    """Algorithm and hexadecimal part."""
    algorithm, _, encoded = digest.partition(":")
    return algorithm, encoded


def of(content: bytes) -> str:
    """The sha256 digest of ``content``."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def hasher(digest: str) -> Any:
    """A new hash of the algorithm that ``digest`` uses."""
    return hashlib.new(split(digest)[0])


def check(content: bytes, digest: str, size: int | None, where: str) -> bytes:
    """``content``, whose size and digest are as promised.

    Raises InputError otherwise: size first, as the specification wants it.
    """
    if size is not None and len(content) != size:
        raise InputError(f"{digest} should have {size} bytes and has {len(content)}", where=where)
    made = hasher(digest)
    made.update(content)
    if made.hexdigest() != split(digest)[1]:
        raise InputError(
            f"the content of {digest} has another digest: {split(digest)[0]}:{made.hexdigest()}",
            where=where,
            hint="the copy is damaged or was tampered with; fetch it again",
        )
    return content


class VerifyingReader(Pulled):
    """A blob's bytes that are checked on the way: the end is only reached if all was right.

    Raises InputError as soon as more bytes come than promised, and at the end where fewer
    came or the digest differs. ``read(n)`` returns up to ``n`` bytes; b"" is the checked end.
    """

    def __init__(self, source: BinaryIO, digest: str, size: int, where: str) -> None:
        super().__init__()
        self._source = source
        self._digest = digest
        self._size = size
        self._where = where
        self._hash = hasher(digest)
        self._seen = 0
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        if self._ended or size == 0:
            return b""
        wanted = self._size - self._seen + 1 if size < 0 else size
        content = self._source.read(min(wanted, max(self._size - self._seen, 0) + 1))
        if not content:
            self._finish()
            return b""
        self._seen += len(content)
        if self._seen > self._size:
            raise InputError(
                f"{self._digest} should have {self._size} bytes and has more", where=self._where
            )
        self._hash.update(content)
        return content

    def _finish(self) -> None:
        self._ended = True
        if self._seen != self._size:
            raise InputError(
                f"{self._digest} should have {self._size} bytes and ends after {self._seen}",
                where=self._where,
            )
        algorithm, encoded = split(self._digest)
        if self._hash.hexdigest() != encoded:
            raise InputError(
                f"the content of {self._digest} has another digest: "
                f"{algorithm}:{self._hash.hexdigest()}",
                where=self._where,
                hint="the copy is damaged or was tampered with; fetch it again",
            )

    def close(self) -> None:
        if not self.closed:
            self._source.close()
        super().close()
