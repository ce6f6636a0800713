"""Every compression that a kernel's build offers, told apart by its first bytes.

All work as streams: pieces in, pieces of bounded size out, so that a file of a few kilobytes
that expands to gigabytes costs neither memory nor, with early stop, time.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from embedkit.kernel.stream import Blob, ByteReader, CutShortError, DamagedError

_STEP = 1 << 20
# The kernel's build asks for windows of up to 128 MiB (zstd -22, xz for some architectures).
_WINDOW = 128 << 20
# zstd cannot be told how much to expand at a time: 128 KiB for each 4 bytes at the very worst.
_ZSTD_INPUT = 512
_SEARCH_STEP = 1 << 20

Pieces = Iterator[bytes]


@dataclass(frozen=True)
class Codec:
    """One compression: the ``magic`` to look for, the bytes around it that must also fit.

    ``expand`` raises DamagedError for data that is not valid, CutShortError for data that is
    valid as far as it goes.
    """

    name: str
    magic: bytes
    fits: re.Pattern[bytes]
    expand: Callable[[Pieces], Pieces]


class _Engine(Protocol):
    """The decompressor objects of bz2 and lzma."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = ...) -> bytes: ...


def _gzip(pieces: Pieces) -> Pieces:
    import zlib

    reader = ByteReader(pieces)
    while True:
        engine = zlib.decompressobj(31)
        while not engine.eof:
            data = reader.piece()
            if not data:
                raise CutShortError("it ends too early")
            while data:
                try:
                    expanded = engine.decompress(data, _STEP)
                except zlib.error:
                    raise DamagedError("its data is not valid") from None
                if expanded:
                    yield expanded
                data = engine.unconsumed_tail
                if not data and len(expanded) == _STEP:
                    # zlib may hold back output that fits no more though all input is taken.
                    yield from _held_back(engine.decompress)
        reader.give_back(engine.unused_data)
        if reader.peek(3) != b"\x1f\x8b\x08":
            return


def _held_back(decompress: Callable[[bytes, int], bytes]) -> Pieces:
    import zlib

    try:
        while expanded := decompress(b"", _STEP):
            yield expanded
    except zlib.error:
        raise DamagedError("its data is not valid") from None


def _bzip2(pieces: Pieces) -> Pieces:
    import bz2

    return _engines(pieces, bz2.BZ2Decompressor, OSError, b"BZh")


def _xz(pieces: Pieces) -> Pieces:
    import lzma

    return _engines(
        pieces,
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_WINDOW + (16 << 20)),
        lzma.LZMAError,
        b"\xfd7zXZ\0",
    )


def _lzma(pieces: Pieces) -> Pieces:
    import lzma

    return _engines(
        pieces,
        lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_WINDOW + (16 << 20)),
        lzma.LZMAError,
        None,
    )


def _engines(
    pieces: Pieces, make: Callable[[], _Engine], error: type[Exception], again: bytes | None
) -> Pieces:
    """Expands one stream after another as long as ``again`` begins the next."""
    reader = ByteReader(pieces)
    while True:
        engine = make()
        data = b""
        while not engine.eof:
            if engine.needs_input:
                data = reader.piece()
                if not data:
                    raise CutShortError("it ends too early")
            try:
                expanded = engine.decompress(data, _STEP)
            except error as problem:
                if "emory" in str(problem):
                    raise DamagedError("it needs too much memory to expand") from None
                raise DamagedError("its data is not valid") from None
            data = b""
            if expanded:
                yield expanded
        reader.give_back(engine.unused_data)
        if again is None or reader.peek(len(again)) != again:
            return


def _zstd(pieces: Pieces) -> Pieces:
    import zstandard

    reader = ByteReader(pieces)
    while True:
        engine = zstandard.ZstdDecompressor(max_window_size=_WINDOW).decompressobj()
        while not engine.eof:
            data = reader.upto(_ZSTD_INPUT)
            if not data:
                raise CutShortError("it ends too early")
            try:
                expanded = engine.decompress(data)
            except zstandard.ZstdError as problem:
                if "emory" in str(problem):
                    raise DamagedError("it needs too much memory to expand") from None
                raise DamagedError("its data is not valid") from None
            if expanded:
                yield expanded
        reader.give_back(engine.unused_data)
        if reader.peek(4) != b"\x28\xb5\x2f\xfd":
            return


def _lz4(pieces: Pieces) -> Pieces:
    from embedkit.kernel import lz4

    return lz4.expand_frames(pieces)


def _lz4_legacy(pieces: Pieces) -> Pieces:
    from embedkit.kernel import lz4

    return lz4.expand_legacy(pieces)


def _lzo(pieces: Pieces) -> Pieces:
    from embedkit.kernel import lzo

    return lzo.expand(pieces)


# A dictionary of 2^n or 3 * 2^(n-1) bytes from 64 KiB to 128 MiB, as every encoder chooses it.
_LZMA_DICTIONARY = (
    rb"\x00\x00(?:[\x01-\x04\x06\x08\x0c\x10\x18\x20\x30\x40\x60\x80\xc0]\x00"
    rb"|[\x00\x80]\x01|\x00[\x02-\x04\x06\x08])"
)

CODECS = (
    Codec("gzip", b"\x1f\x8b\x08", re.compile(rb"\x1f\x8b\x08[\x00-\x1f]"), _gzip),
    Codec("xz", b"\xfd7zXZ\0", re.compile(rb"\xfd7zXZ\x00\x00[\x00\x01\x04\x0a]"), _xz),
    Codec("zstd", b"\x28\xb5\x2f\xfd", re.compile(rb"\x28\xb5\x2f\xfd"), _zstd),
    Codec("lz4", b"\x02\x21\x4c\x18", re.compile(rb"(?s)\x02\x21\x4c\x18...\x00"), _lz4_legacy),
    Codec("lz4", b"\x04\x22\x4d\x18", re.compile(rb"\x04\x22\x4d\x18[\x40-\x7f]"), _lz4),
    Codec("lzo", b"\x89LZO\0\r\n\x1a\n", re.compile(rb"\x89LZO\x00\r\n\x1a\n"), _lzo),
    Codec(
        "lzma",
        b"\x5d\0\0",
        # The size is unknown (all ones) or below 4 GiB; the first byte of the data is always 0.
        re.compile(rb"(?s)\x5d" + _LZMA_DICTIONARY + rb"(?:\xff{8}|.{4}\x00{4})\x00"),
        _lzma,
    ),
    Codec("bzip2", b"BZh", re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), _bzip2),
)


def codec_of(head: bytes) -> Codec | None:
    """The compression that begins at the first byte of ``head``, or None."""
    for codec in CODECS:
        if codec.fits.match(head):
            return codec
    return None


def candidates(blob: Blob, limit: int) -> Iterator[tuple[int, Codec]]:
    """Where compressed data may begin in the first ``limit`` bytes, in order of offset."""
    overlap = 32
    start = 0
    while start < min(blob.size, limit):
        window = blob.read(start, _SEARCH_STEP + overlap)
        found = []
        for codec in CODECS:
            at = window.find(codec.magic)
            while 0 <= at < _SEARCH_STEP:
                if codec.fits.match(window, at):
                    found.append((start + at, codec))
                at = window.find(codec.magic, at + 1)
        yield from sorted(found, key=lambda one: one[0])
        start += _SEARCH_STEP
