"""Compressing on the way: which format pays on this link with what the target can unpack.

The figures are measured: programs such as dockerd shrink to 40 % with gzip and 35 % with zstd
or xz. On a slow link that triples the rate; on one that the target's ciphers limit (dropbear has
none in hardware: 50 MB/s on a PC) it pays where the target unpacks fast enough, which only a
trial tells.
"""

from __future__ import annotations

import contextlib
import importlib.util
import queue
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from embedkit.errors import InputError


class Squeeze(StrEnum):
    """A compression format; NONE is none."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    XZ = "xz"


# Format → commands that unpack standard input to standard output, by the program they need.
_UNPACK = {
    Squeeze.ZSTD: (("zstd", "zstd -dc"), ("unzstd", "unzstd -c"), ("zstdcat", "zstdcat")),
    Squeeze.GZIP: (("gunzip", "gunzip -c"), ("gzip", "gzip -dc"), ("zcat", "zcat")),
    Squeeze.XZ: (("unxz", "unxz -c"), ("xz", "xz -dc"), ("xzcat", "xzcat")),
}
_PACK = {
    Squeeze.ZSTD: (("zstd", "zstd -3 -c"),),
    # Fast settings: the board's CPU is what limits here.
    Squeeze.GZIP: (("gzip", "gzip -1 -c"),),
}


@dataclass(frozen=True)
class _Cost:
    """What a format does to programs (ratio), and how fast this machine makes it (bytes/s)."""

    ratio: float
    rate: float


_COSTS = {
    Squeeze.NONE: _Cost(1.0, 1e12),
    Squeeze.GZIP: _Cost(2.4, 25e6),  # by zlib; see _gzip_rate()
    Squeeze.ZSTD: _Cost(2.8, 150e6),
    Squeeze.XZ: _Cost(3.2, 3e6),
}
_ISAL_RATE = 250e6
# What a target of any kind unpacks at least, so that a fast link is not slowed by gunzip.
_UNPACK_RATE = 40e6
# For slower links zlib's stronger levels are fast enough, and send less.
_ISAL_ABOVE_RATE = 12e6


def unpacker(squeeze: Squeeze, tools: frozenset[str]) -> str | None:
    """The target's command that undoes ``squeeze``, or None where it has none."""
    if squeeze is Squeeze.NONE:
        return "cat" if "cat" in tools else None
    return next((line for tool, line in _UNPACK[squeeze] if tool in tools), None)


def packer(squeeze: Squeeze, tools: frozenset[str]) -> str | None:
    """The target's command that makes ``squeeze``, or None where it has none."""
    if squeeze is Squeeze.NONE:
        return "cat" if "cat" in tools else None
    return next((line for tool, line in _PACK.get(squeeze, ()) if tool in tools), None)


def choose(
    rate: float,
    sample: bytes,
    possible: Iterable[Squeeze],
    unpack_rate: float | None = None,
) -> Squeeze:
    """The one of ``possible`` that moves data like ``sample`` fastest at ``rate`` bytes/s, to a
    target that was seen to unpack ``unpack_rate`` bytes/s (None: not seen yet)."""
    shrinks = _ratio(sample)
    best, best_rate = Squeeze.NONE, rate
    for squeeze in possible:
        if squeeze is Squeeze.NONE:
            continue
        cost = _COSTS[squeeze]
        # What cannot be shrunk is not shrunk by a better format either.
        ratio = 1 + (shrinks - 1) * cost.ratio / _COSTS[Squeeze.GZIP].ratio
        made = _gzip_rate(rate) if squeeze is Squeeze.GZIP else cost.rate
        effective = min(rate * ratio, made, unpack_rate or _UNPACK_RATE)
        # A tenth more is not worth a process in between.
        if effective > best_rate * 1.1:
            best, best_rate = squeeze, effective
    return best


def _gzip_rate(link_rate: float) -> float:
    isal = link_rate > _ISAL_ABOVE_RATE and importlib.util.find_spec("isal") is not None
    return _ISAL_RATE if isal else _COSTS[Squeeze.GZIP].rate


def _ratio(sample: bytes) -> float:
    if not sample:
        return 1.0
    return max(1.0, len(sample) / len(zlib.compress(sample, 1)))


class _Compressor(Protocol):
    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def _compressor(squeeze: Squeeze, rate: float | None) -> _Compressor:
    if squeeze is Squeeze.GZIP:
        if rate is not None and rate > _ISAL_ABOVE_RATE:
            # Not everywhere, as pyproject.toml says.
            with contextlib.suppress(ImportError):
                from isal import isal_zlib

                fast: _Compressor = isal_zlib.compressobj(2, isal_zlib.DEFLATED, 31)
                return fast
        # Level 6 costs twice level 1's time for a tenth less: right on a slow line only.
        level = 9 if rate is not None and rate < 1e6 else 6 if (rate or 1e9) < 5e6 else 4
        return zlib.compressobj(level, zlib.DEFLATED, 31)
    if squeeze is Squeeze.ZSTD:
        import zstandard

        level = 15 if rate is not None and rate < 1e6 else 5 if (rate or 1e9) < 15e6 else 3
        return zstandard.ZstdCompressor(level=level).compressobj()
    if squeeze is Squeeze.XZ:
        import lzma

        return lzma.LZMACompressor(preset=1 if (rate or 1e9) > 1e5 else 6)
    raise InputError(f"nothing compresses to '{squeeze}'")


def compressed(
    squeeze: Squeeze,
    chunks: Iterable[bytes],
    *,
    rate: float | None = None,
    sent: Callable[[int], None] | None = None,
) -> Iterator[bytes]:
    """``chunks`` in the format; ``sent`` hears how many bytes of the *input* each output stands
    for. Compressing runs in a thread of its own (zlib and zstd release the interpreter), a few
    pieces ahead."""
    if squeeze is Squeeze.NONE:
        for chunk in chunks:
            yield chunk
            if sent is not None:
                sent(len(chunk))
        return
    pieces: queue.Queue[tuple[bytes, int] | BaseException | None] = queue.Queue(maxsize=16)
    stop = threading.Event()

    def offer(piece: tuple[bytes, int] | BaseException | None) -> None:
        while not stop.is_set():
            try:
                pieces.put(piece, timeout=0.2)
                return
            except queue.Full:
                continue

    def work() -> None:
        try:
            compressor = _compressor(squeeze, rate)
            for chunk in chunks:
                offer((compressor.compress(chunk), len(chunk)))
                if stop.is_set():
                    return
            offer((compressor.flush(), 0))
            offer(None)
        except BaseException as error:
            offer(error)

    worker = threading.Thread(target=work, daemon=True)
    worker.start()
    try:
        while True:
            piece = pieces.get()
            if piece is None:
                return
            if isinstance(piece, BaseException):
                raise piece
            data, size = piece
            if data:
                yield data
            if sent is not None:
                sent(size)
    finally:
        stop.set()
        worker.join()


class Decompressor:
    """Undoes a format piece by piece: ``feed`` each, then ask whether it is ``whole``."""

    def __init__(self, squeeze: Squeeze) -> None:
        self._plain = squeeze is Squeeze.NONE
        self.feed: Callable[[bytes], bytes]
        if squeeze is Squeeze.GZIP:
            gzip = zlib.decompressobj(31)
            self.feed = gzip.decompress
            self._eof: Callable[[], bool] = lambda: gzip.eof
        elif squeeze is Squeeze.ZSTD:
            import zstandard

            zstd = zstandard.ZstdDecompressor().decompressobj()
            self.feed = zstd.decompress
            self._eof = lambda: bool(zstd.eof)
        elif self._plain:
            self.feed = lambda data: data
            self._eof = lambda: True
        else:
            raise InputError(f"nothing unpacks '{squeeze}' here")

    @property
    def whole(self) -> bool:
        """Whether the end of the stream was seen (always, where there is none to see)."""
        return self._eof()
