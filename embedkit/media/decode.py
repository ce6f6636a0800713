"""Sequential decoders: compressed bytes in, the image's bytes out, never more than asked for.

A stream that ends early, has rubbish in it or fails its own checksum is an InputError.
"""

from __future__ import annotations

import bz2
import lzma
import zlib
from collections.abc import Callable
from typing import Any, Protocol

from embedkit.errors import InputError
from embedkit.media.zstd_frames import FrameWalker

_READ = 128 << 10
# Larger pieces cost more: the allocator gives each back to the kernel.
_PIECE = 256 << 10
# xz -9 needs 65 MiB; a file that asks for far more is not an image.
_XZ_MEMORY = 160 << 20


class ByteSource(Protocol):
    """Where compressed bytes come from."""

    def read(self, count: int) -> bytes:
        """Up to ``count`` bytes; empty at the end only."""


class Decoder(Protocol):
    """A sequence of decoded bytes."""

    def readinto(self, view: memoryview) -> int:
        """Fills ``view``; fewer bytes than that at the end only."""

    def skip(self, count: int) -> int:
        """Drops ``count`` bytes; returns how many there were."""


def truncated(kind: str) -> InputError:
    """The error for a stream that ends in its middle."""
    return InputError(
        f"the image ends in the middle of its {kind} data: it is not complete",
        hint="fetch or copy it again, and compare its size or sum",
    )


class PlainDecoder:
    """Bytes as they are: a raw image from a pipe or the network."""

    def __init__(self, source: ByteSource) -> None:
        self._source = source

    def readinto(self, view: memoryview) -> int:
        done = 0
        while done < len(view):
            piece = self._source.read(min(len(view) - done, 1 << 20))
            if not piece:
                break
            view[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def skip(self, count: int) -> int:
        return _skip_by_reading(self, count)


class MemberDecoder:
    """Streams made of members one after the other (gzip, bzip2, xz; zip's one deflate).

    ``new`` makes a decompressor with the interface of ``bz2.BZ2Decompressor``. Zeros after
    the last member are padding (tapes, dd); anything else there is an error.
    """

    def __init__(
        self, source: ByteSource, new: Callable[[], Any], kind: str, *, single: bool
    ) -> None:
        self._source = source
        self._new = new
        self._kind = kind
        self._single = single
        self._member: Any = new()
        self._ended = False
        self._left = b""

    def readinto(self, view: memoryview) -> int:
        done = 0
        while done < len(view):
            piece = self._next(min(len(view) - done, _PIECE))
            if not piece:
                break
            view[done : done + len(piece)] = piece
            done += len(piece)
        return done

    def skip(self, count: int) -> int:
        done = 0
        while done < count:
            piece = self._next(min(count - done, _PIECE))
            if not piece:
                break
            done += len(piece)
        return done

    def _next(self, limit: int) -> bytes:
        """Some decoded bytes; empty at the end of the last member only."""
        while not self._ended:
            if self._member.eof:
                self._begin_member()
                continue
            data = b""
            if self._member.needs_input:
                data = self._left or self._source.read(_READ)
                self._left = b""
                if not data:
                    raise truncated(self._kind)
            try:
                piece: bytes = self._member.decompress(data, limit)
            except MemoryError:
                raise InputError(f"the {self._kind} data asks for too much memory") from None
            except Exception as error:
                raise InputError(f"the {self._kind} data is damaged: {error}") from error
            if piece:
                return piece
        return b""

    def _begin_member(self) -> None:
        left: bytes = self._member.unused_data
        if self._single:
            self._ended = True
            return
        while True:
            left = left.lstrip(b"\0")
            if left:
                break
            left = self._source.read(_READ)
            if not left:
                self._ended = True
                return
        self._member = self._new()
        self._left = left


class ZstdDecoder:
    """zstd, frame after frame. ``walk``: notice here where it ends in a frame's middle."""

    def __init__(self, source: ByteSource, *, walk: bool = True) -> None:
        import zstandard

        self._walker = FrameWalker() if walk else None
        self._source = source
        self._error = zstandard.ZstdError
        whole: Any = self  # the library needs no more of a file than read()
        self._reader = zstandard.ZstdDecompressor().stream_reader(
            whole, read_size=_READ, read_across_frames=True
        )
        self._scratch = memoryview(bytearray(1 << 20))

    def read(self, count: int) -> bytes:
        """For the library's reader: the compressed bytes, walked as they pass."""
        data = self._source.read(count)
        if self._walker is not None:
            self._walker.feed(data)
        return data

    def readinto(self, view: memoryview) -> int:
        done = 0
        while done < len(view):
            try:
                count = self._reader.readinto(view[done:])
            except self._error as error:
                raise InputError(f"the zstd data is damaged: {error}") from error
            if not count:
                if self._walker is not None and not self._walker.complete:
                    raise truncated("zstd")
                break
            done += count
        return done

    def skip(self, count: int) -> int:
        return _skip_by_reading(self, count, self._scratch)


def _skip_by_reading(decoder: Decoder, count: int, scratch: memoryview | None = None) -> int:
    buffer = memoryview(bytearray(1 << 20)) if scratch is None else scratch
    done = 0
    while done < count:
        got = decoder.readinto(buffer[: min(len(buffer), count - done)])
        if not got:
            break
        done += got
    return done


class _ZlibMember:
    """The standard library's zlib behind the interface of ``bz2.BZ2Decompressor``."""

    def __init__(self, wbits: int) -> None:
        self._inner = zlib.decompressobj(wbits)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, limit: int) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, limit)


def gzip_decoder(source: ByteSource) -> Decoder:
    """gzip, by isal (three to five times faster) where it is installed, else by zlib."""
    return MemberDecoder(source, _inflater(gzip=True), "gzip", single=False)


def deflate_decoder(source: ByteSource) -> Decoder:
    """Raw deflate, as in zip archives."""
    return MemberDecoder(source, _inflater(gzip=False), "deflate", single=True)


def _inflater(*, gzip: bool) -> Callable[[], Any]:
    try:
        from isal import igzip_lib
    except ImportError:
        return lambda: _ZlibMember(31 if gzip else -15)
    flag = igzip_lib.DECOMP_GZIP if gzip else igzip_lib.DECOMP_DEFLATE
    return lambda: igzip_lib.IgzipDecompressor(flag=flag)


def bzip2_decoder(source: ByteSource) -> Decoder:
    """bzip2, stream after stream."""
    return MemberDecoder(source, bz2.BZ2Decompressor, "bzip2", single=False)


def xz_decoder(source: ByteSource) -> Decoder:
    """xz from a pipe, where its index cannot be reached."""
    return MemberDecoder(
        source,
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
        "xz",
        single=False,
    )
