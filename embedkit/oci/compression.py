"""Compressed streams: recognised, read with bounds, written reproducibly.

gzip goes through isal where it is installed (six times faster than zlib at about the same
size) and through zlib otherwise. A blob made by another library, or another release of it,
has other bytes for the same content: identity is the diff_id, the digest of the plain tar.
"""

from __future__ import annotations

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Protocol, cast

from embedkit.errors import InputError
from embedkit.oci.limits import CHUNK, DEFAULT, Limits
from embedkit.oci.mediatypes import Compression
from embedkit.oci.streams import Pulled

HEAD = 8
"""Bytes of a stream's beginning that :func:`sniff` needs."""

_MAGIC: tuple[tuple[bytes, Compression], ...] = (
    (b"\x1f\x8b\x08", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
)
_INPUT = 256 << 10
_OUTPUT = 512 << 10


class Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def sniff(head: bytes) -> Compression:
    """What a stream that begins with ``head`` is compressed with; zstd's skippable frames too."""
    for magic, compression in _MAGIC:
        if head.startswith(magic):
            return compression
    if len(head) >= 4 and head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50:
        return "zstd"
    return "none"


def compressor(compression: Compression, level: int | None = None) -> Compressor:
    """A compressor whose output depends on content, library and level alone.

    No name and no time go into the header. Raises ValueError for what is not written here.
    """
    if compression == "gzip":
        try:
            from isal import isal_zlib
        except ImportError:
            return zlib.compressobj(6 if level is None else level, zlib.DEFLATED, 31)
        # isal knows levels 0 to 3.
        return cast(
            Compressor,
            isal_zlib.compressobj(2 if level is None else min(level, 3), isal_zlib.DEFLATED, 31),
        )
    if compression == "zstd":
        import zstandard

        return zstandard.ZstdCompressor(level=3 if level is None else level).compressobj()
    raise ValueError(f"{compression} is read, not written")


def compressed(
    stream: BinaryIO, compression: Compression, level: int | None = None
) -> Iterator[bytes]:
    """The bytes of ``stream``, compressed, in pieces."""
    if compression == "none":
        while content := stream.read(CHUNK):
            yield content
        return
    made = compressor(compression, level)
    while content := stream.read(CHUNK):
        if piece := made.compress(content):
            yield piece
    yield made.flush()


def decompressed(
    stream: BinaryIO,
    compression: Compression,
    where: str,
    *,
    most: int | None = None,
    limits: Limits = DEFAULT,
) -> BinaryIO:
    """What ``stream`` holds once unpacked, as a stream; it is closed with its result.

    ``most`` bounds the unpacked bytes (default: limits.layer_unpacked). Raises InputError
    while reading for damaged data, for more bytes than that, and for a ratio that no real
    layer has (beyond limits.bomb_free, limits.bomb_ratio to one).
    """
    bound = limits.layer_unpacked if most is None else most
    reader = _Decompressor(stream, compression, where, bound, limits)
    # Small reads (a tar reader's) must not each cost a call into the decompressor.
    return io.BufferedReader(reader, _OUTPUT)


class _Decompressor(Pulled):
    def __init__(
        self,
        stream: BinaryIO,
        compression: Compression,
        where: str,
        most: int,
        limits: Limits,
    ) -> None:
        super().__init__()
        self._stream = stream
        self._where = where
        self._most = most
        self._limits = limits
        self._compression = compression
        self._make = _engine(compression, limits)
        self._engine: Any = None
        self._pending = b""
        self._taken = 0
        self._given = 0
        self._between = True
        self._done = False

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(CHUNK), b""))
        if size == 0 or self._done:
            return b""
        content = self._some(size)
        self._given += len(content)
        self._check_bounds()
        return content

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()

    def _some(self, size: int) -> bytes:
        if self._compression == "none":
            content = self._stream.read(size)
            self._taken += len(content)
            return content
        while True:
            if not self._pending:
                self._pending = self._stream.read(_INPUT)
                self._taken += len(self._pending)
            if self._between and not self._begin_member():
                return b""
            try:
                content = self._engine.decompress(self._pending, size)
            except self._engine.errors as error:
                raise self._bad(f"damaged {self._compression} data: {error}") from error
            ended_input = not self._pending
            self._pending = self._engine.rest
            if self._engine.eof:
                self._between = True
            if content:
                return cast(bytes, content)
            if ended_input and not self._engine.eof:
                raise self._bad(f"the {self._compression} data is cut off")

    def _begin_member(self) -> bool:
        """Starts the next gzip member or zstd frame; False at the end of the data."""
        if not self._pending:
            if self._engine is None:
                raise self._bad(f"no {self._compression} data")
            self._done = True
            return False
        # Zeros after the last member are padding of tapes and sloppy tools; gzip takes them.
        if self._engine is not None and not self._pending.strip(b"\0"):
            self._pending = b""
            return self._begin_member_after_padding()
        self._engine = self._make()
        self._between = False
        return True

    def _begin_member_after_padding(self) -> bool:
        while content := self._stream.read(_INPUT):
            if content.strip(b"\0"):
                raise self._bad(f"something follows the {self._compression} data")
        self._done = True
        return False

    def _check_bounds(self) -> None:
        if self._given > self._most:
            raise self._bad(f"unpacks to more than {self._most} bytes")
        ratio_bound = self._limits.bomb_free + self._taken * self._limits.bomb_ratio
        if self._given > ratio_bound:
            raise self._bad(
                f"{self._taken} compressed bytes unpack to more than {self._given}: "
                "a decompression bomb"
            )

    def _bad(self, what: str) -> InputError:
        return InputError(what, where=self._where)


class _Inflate:
    """One gzip member, by isal or zlib, which agree in their interface."""

    def __init__(self) -> None:
        try:
            from isal import isal_zlib

            self._inner: Any = isal_zlib.decompressobj(31)
            self.errors = (cast("type[Exception]", isal_zlib.error),)
        except ImportError:
            self._inner = zlib.decompressobj(31)
            self.errors = (zlib.error,)
        self.rest = b""

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof)

    def decompress(self, data: bytes, size: int) -> bytes:
        content = cast(bytes, self._inner.decompress(data, size))
        self.rest = self._inner.unused_data if self._inner.eof else self._inner.unconsumed_tail
        return content


class _Standard:
    """One stream of bz2 or lzma, which keep what they did not consume."""

    errors = (OSError, EOFError, ValueError, lzma.LZMAError)

    def __init__(self, inner: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._inner = inner
        self.rest = b""

    @property
    def eof(self) -> bool:
        return self._inner.eof

    def decompress(self, data: bytes, size: int) -> bytes:
        content = self._inner.decompress(data, size)
        self.rest = self._inner.unused_data if self._inner.eof else b""
        return content


class _Zstd:
    """One zstd frame. zstandard's object has no output bound, so input goes in small pieces.

    A zstd block holds at most 128 KiB (RFC 8878, 3.1.1.2.4) and takes at least 4 bytes where
    it repeats one, so 256 bytes make at most 8 MiB.
    """

    _PIECE = 256

    def __init__(self, window: int) -> None:
        import zstandard

        self._inner = zstandard.ZstdDecompressor(max_window_size=window).decompressobj()
        self._ready = bytearray()
        self.errors = (zstandard.ZstdError,)
        self.rest = b""

    @property
    def eof(self) -> bool:
        return bool(self._inner.eof) and not self._ready

    def decompress(self, data: bytes, size: int) -> bytes:
        at = 0
        while len(self._ready) < size and at < len(data) and not self._inner.eof:
            self._ready += self._inner.decompress(data[at : at + self._PIECE])
            at += self._PIECE
        self.rest = self._inner.unused_data + data[at:] if self._inner.eof else data[at:]
        content = bytes(self._ready[:size])
        del self._ready[:size]
        return content


def _engine(compression: Compression, limits: Limits) -> Callable[[], Any]:
    if compression == "gzip":
        return _Inflate
    if compression == "zstd":
        return lambda: _Zstd(limits.zstd_window)
    if compression == "bzip2":
        return lambda: _Standard(bz2.BZ2Decompressor())
    return lambda: _Standard(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=limits.xz_memory))
