"""Reads tar streams in one pass with bounded memory.

The standard library's tarfile keeps every member in memory and reads extended headers of any
length whole; a layer from a stranger is not to be given that. Formats: POSIX.1-2001 pax,
ustar, GNU (long names, base-256 numbers, old sparse), v7.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Literal

from embedkit.errors import InputError
from embedkit.oci.limits import CHUNK, DEFAULT, Limits

BLOCK = 512
Kind = Literal["file", "link", "symlink", "dir", "char", "block", "fifo", "other"]

_KINDS: dict[bytes, Kind] = {
    b"0": "file", b"\0": "file", b"7": "file", b"S": "file",
    b"1": "link", b"2": "symlink", b"3": "char", b"4": "block", b"5": "dir", b"6": "fifo",
}  # fmt: skip
_XATTR = "SCHILY.xattr."


@dataclass(frozen=True, slots=True)
class Member:
    """One member. ``name`` and ``link`` are as stored (undecodable bytes as surrogates).

    ``size`` is how many bytes of data the archive holds, ``offset`` where they begin, from
    the beginning of the stream; ``mtime`` is whole seconds.
    """

    name: str
    kind: Kind
    size: int
    mode: int
    uid: int
    gid: int
    mtime: int
    link: str
    major: int
    minor: int
    offset: int
    sparse: bool = False
    xattrs: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def path(self) -> str:
        """The name relative to the root: without leading ``/`` and ``./``, and trailing ``/``.

        "" is the root itself; ``..`` is kept, so that a caller can refuse it.
        """
        return "/".join(part for part in self.name.split("/") if part not in ("", "."))


def escapes(name: str) -> bool:
    """Whether a member name leads out of the folder that it is unpacked in."""
    return ".." in name.split("/")


class TarReader:
    """Iterates over the members of ``stream``; each member's data is read before the next.

    ``seekable`` streams are skipped over rather than read. Raises InputError for a damaged
    archive (with the offset), and for one that exceeds ``max_members`` or the limits.
    """

    def __init__(
        self,
        stream: BinaryIO,
        where: str,
        *,
        seekable: bool = False,
        max_members: int | None = None,
        limits: Limits = DEFAULT,
    ) -> None:
        self._stream = stream
        self._where = where
        self._seekable = seekable
        self._limits = limits
        self._max_members = max_members or limits.layer_members
        self._at = 0
        self._left = 0
        self._padding = 0
        self._global: dict[str, bytes] = {}
        self._end = stream.seek(0, io.SEEK_END) if seekable else -1
        if seekable:
            stream.seek(0)

    def __iter__(self) -> Iterator[Member]:
        count = 0
        while (member := self._next()) is not None:
            count += 1
            if count > self._max_members:
                raise self._bad(f"more than {self._max_members} members")
            yield member

    def read(self, size: int = CHUNK) -> bytes:
        """Up to ``size`` bytes of the current member's data; b"" at its end."""
        wanted = min(size, self._left)
        if wanted == 0:
            return b""
        content = self._stream.read(wanted)
        if not content:
            raise self._bad("the archive is cut off")
        self._left -= len(content)
        self._at += len(content)
        return content

    def read_all(self, limit: int) -> bytes:
        """All of the current member's data. Raises InputError where it exceeds ``limit``."""
        if self._left > limit:
            raise self._bad(f"a member of {self._left} bytes where at most {limit} belong")
        return b"".join(iter(self.read, b""))

    def _next(self) -> Member | None:
        extended = dict(self._global)
        long_name: bytes | None = None
        long_link: bytes | None = None
        for _ in range(16):
            self._skip_data()
            begin = self._at
            header = self._block()
            if header is None:
                return None
            kind = header[156:157]
            size = _number(header[124:136])
            if size is None or size < 0 or not _checksum_fits(header):
                raise InputError("not a tar header", where=f"{self._where}: byte {begin}")
            if kind in (b"x", b"g", b"L", b"K"):
                raw = self._extended(size)
                if kind == b"x":
                    extended.update(self._pax(raw))
                elif kind == b"g":
                    self._global.update(self._pax(raw))
                    extended.update(self._global)
                elif kind == b"L":
                    long_name = raw.split(b"\0")[0]
                else:
                    long_link = raw.split(b"\0")[0]
                continue
            return self._member(header, size, extended, long_name, long_link)
        raise self._bad("a chain of extended headers without a member")

    def _member(
        self,
        header: bytes,
        size: int,
        extended: Mapping[str, bytes],
        long_name: bytes | None,
        long_link: bytes | None,
    ) -> Member:
        name, link = _cut(header[:100]), _cut(header[157:257])
        if header[257:263] == b"ustar\0" and header[345:500].strip(b"\0"):
            name = _cut(header[345:500]) + b"/" + name
        name = extended.get("path", long_name if long_name is not None else name)
        name = extended.get("GNU.sparse.name", name)
        link = extended.get("linkpath", long_link if long_link is not None else link)
        sparse = header[156:157] == b"S" or any(key.startswith("GNU.sparse.") for key in extended)
        size = self._pax_number(extended, "size", size)
        kind = _KINDS.get(header[156:157], "other")
        if kind == "file" and name.endswith(b"/") and header[156:157] == b"\0":
            kind = "dir"
        if header[156:157] == b"S":
            self._skip_sparse_map(header)
        # A link's size field may hold its target's size; there is no data for it.
        self._left = size if kind in ("file", "other") else 0
        self._padding = -self._left % BLOCK
        if self._end >= 0 and self._at + self._left > self._end:
            raise self._bad(f"the member '{_decode(name)[:200]}' is cut off")
        return Member(
            name=_decode(name),
            kind=kind,
            size=self._left,
            mode=(_number(header[100:108]) or 0) & 0o7777,
            uid=self._pax_number(extended, "uid", _number(header[108:116]) or 0),
            gid=self._pax_number(extended, "gid", _number(header[116:124]) or 0),
            mtime=self._pax_number(extended, "mtime", _number(header[136:148]) or 0),
            link=_decode(link),
            major=_number(header[329:337]) or 0,
            minor=_number(header[337:345]) or 0,
            offset=self._at,
            sparse=sparse,
            xattrs={
                key.removeprefix(_XATTR): value
                for key, value in extended.items()
                if key.startswith(_XATTR)
            },
        )

    def _pax_number(self, extended: Mapping[str, bytes], key: str, otherwise: int) -> int:
        raw = extended.get(key)
        if raw is None:
            return otherwise
        whole = raw.split(b".")[0]
        if not whole.lstrip(b"-").isdigit() or len(whole) > 20:
            raise self._bad(f"an extended header says {key}={raw[:40]!r}")
        value = int(whole)
        if value < 0 and key != "mtime":
            raise self._bad(f"an extended header says {key}={value}")
        return value

    def _pax(self, raw: bytes) -> dict[str, bytes]:
        """The records ``LENGTH KEY=VALUE\\n`` of an extended header."""
        found: dict[str, bytes] = {}
        at = 0
        while at < len(raw) and raw[at] != 0:
            space = raw.find(b" ", at, at + 12)
            digits = raw[at:space] if space > 0 else b""
            length = int(digits) if digits.isdigit() else 0
            record = raw[space + 1 : at + length]
            key, equals, value = record.partition(b"=")
            if length < 5 or at + length > len(raw) or not equals or not value.endswith(b"\n"):
                raise self._bad("a damaged extended header")
            found[_decode(key)] = value[:-1]
            at += length
        return found

    def _extended(self, size: int) -> bytes:
        if size > self._limits.pax_header:
            raise self._bad(f"an extended header of {size} bytes")
        self._left, self._padding = size, -size % BLOCK
        return self.read_all(self._limits.pax_header)

    def _skip_sparse_map(self, header: bytes) -> None:
        more = header[482]
        for _ in range(10_000):
            if not more:
                return
            block = self._block()
            if block is None:
                break
            more = block[504]
        raise self._bad("a damaged sparse map")

    def _block(self) -> bytes | None:
        """The next 512 bytes; None at the end of the archive (zeros, or no more bytes)."""
        content = b""
        while len(content) < BLOCK:
            more = self._stream.read(BLOCK - len(content))
            if not more:
                break
            content += more
        self._at += len(content)
        if not content or (len(content) == BLOCK and not content.strip(b"\0")):
            return None
        if len(content) < BLOCK:
            raise self._bad("the archive is cut off")
        return content

    def _skip_data(self) -> None:
        if self._seekable:
            self._at += self._left + self._padding
            self._left = self._padding = 0
            self._stream.seek(self._at)
            return
        while self._left:
            self.read(CHUNK)
        # The last member's padding may be missing in archives cut by careless tools.
        while self._padding and (content := self._stream.read(self._padding)):
            self._padding -= len(content)
            self._at += len(content)
        self._padding = 0

    def _bad(self, what: str) -> InputError:
        return InputError(what, where=f"{self._where}: byte {self._at}")


def _cut(raw: bytes) -> bytes:
    return raw.split(b"\0", 1)[0]


def _decode(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def _number(raw: bytes) -> int | None:
    """An octal or base-256 field; None where it is neither."""
    if raw[0] & 0x80:
        value = int.from_bytes(bytes([raw[0] & 0x7F]) + raw[1:], "big")
        return value - (1 << (8 * len(raw) - 1)) if raw[0] & 0x40 else value
    text = _cut(raw).strip()
    if not text:
        return 0
    try:
        return int(text, 8)
    except ValueError:
        return None


def _checksum_fits(header: bytes) -> bool:
    stated = _number(header[148:156])
    blanked = header[:148] + b" " * 8 + header[156:]
    if stated == sum(blanked):
        return True
    # Old tars summed signed characters.
    return stated == sum(byte - 256 if byte > 127 else byte for byte in blanked)
