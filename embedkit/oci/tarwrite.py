"""Writes tar members whose bytes depend on nothing but what they say.

ustar headers; a pax header only where a value does not fit (POSIX.1-2001, "pax Header
Block"). Extended attributes go under SCHILY.xattr, as the image-spec (layer.md) has it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from embedkit.oci.tarread import BLOCK, Kind

_TYPES: dict[Kind, bytes] = {
    "file": b"0", "link": b"1", "symlink": b"2", "char": b"3", "block": b"4", "dir": b"5",
    "fifo": b"6",
}  # fmt: skip
END = bytes(2 * BLOCK)


@dataclass(frozen=True)
class Header:
    """What a member's header says. Directories are given without the trailing slash."""

    path: str
    kind: Kind
    size: int = 0
    mode: int = 0o644
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    link: str = ""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict)


def padding(size: int) -> bytes:
    """The zeros that follow ``size`` bytes of data."""
    return bytes(-size % BLOCK)


def encode(header: Header) -> bytes:
    """The member's header, with a pax header before it where one is needed."""
    name = _bytes(header.path) + (b"/" if header.kind == "dir" else b"")
    link = _bytes(header.link)
    records: dict[str, bytes] = {}
    prefix, short = _split(name)
    if short is None:
        records["path"] = name
        prefix, short = b"", name[:100]
    if len(link) > 100:
        records["linkpath"] = link
    numbers = {"uid": header.uid, "gid": header.gid, "size": header.size, "mtime": header.mtime}
    stored = {}
    for key, value in numbers.items():
        width = 7 if key in ("uid", "gid") else 11
        stored[key] = value if 0 <= value < 8**width else 0
        if stored[key] != value:
            records[key] = str(value).encode("ascii")
    records.update({f"SCHILY.xattr.{key}": header.xattrs[key] for key in sorted(header.xattrs)})
    block = _block(
        prefix, short, link[:100], _TYPES[header.kind], header.mode, stored,
        header.major, header.minor,
    )  # fmt: skip
    return _pax(records) + block if records else block


def _pax(records: Mapping[str, bytes]) -> bytes:
    content = b"".join(_record(key, value) for key, value in records.items())
    zero = {"uid": 0, "gid": 0, "mtime": 0, "size": len(content)}
    header = _block(b"", b"././@PaxHeader", b"", b"x", 0o644, zero, 0, 0)
    return header + content + padding(len(content))


def _record(key: str, value: bytes) -> bytes:
    body = b" " + _bytes(key) + b"=" + value + b"\n"
    length = len(body)
    while len(str(length)) + len(body) != length:
        length = len(str(length)) + len(body)
    return str(length).encode("ascii") + body


def _block(
    prefix: bytes,
    name: bytes,
    link: bytes,
    kind: bytes,
    mode: int,
    numbers: Mapping[str, int],
    major: int,
    minor: int,
) -> bytes:
    parts = [
        name.ljust(100, b"\0"),
        _octal(mode, 7),
        _octal(numbers["uid"], 7),
        _octal(numbers["gid"], 7),
        _octal(numbers["size"], 11),
        _octal(numbers["mtime"], 11),
        b" " * 8,
        kind,
        link.ljust(100, b"\0"),
        b"ustar\00000",
        bytes(64),
        _octal(major, 7),
        _octal(minor, 7),
        prefix.ljust(155, b"\0"),
        bytes(12),
    ]
    block = b"".join(parts)
    return block[:148] + b"%06o\0 " % sum(block) + block[156:]


def _octal(value: int, width: int) -> bytes:
    return f"{value:0{width}o}".encode("ascii") + b"\0"


def _split(name: bytes) -> tuple[bytes, bytes | None]:
    """ustar's prefix and name; the name is None where it does not fit."""
    if len(name) <= 100:
        return b"", name
    cut = name.rfind(b"/", 0, min(156, len(name) - 1))
    while cut > 0:
        if len(name) - cut - 1 > 100:
            break
        if cut <= 155:
            return name[:cut], name[cut + 1 :]
        cut = name.rfind(b"/", 0, cut)
    return b"", None


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
