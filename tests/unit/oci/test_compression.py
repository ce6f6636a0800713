"""Compressed streams: round trips, damage, bombs."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zlib

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.errors import InputError
from embedkit.oci import compression
from embedkit.oci.limits import Limits

SMALL = Limits(bomb_free=1 << 20, bomb_ratio=50)


def _unpack(content: bytes, kind: str = "", **more: object) -> bytes:
    found = kind or compression.sniff(content[:8])
    stream = compression.decompressed(io.BytesIO(content), found, "test", **more)  # type: ignore
    return b"".join(iter(lambda: stream.read(1000), b""))


def _pack(content: bytes, kind: str) -> bytes:
    return b"".join(compression.compressed(io.BytesIO(content), kind))  # type: ignore[arg-type]


@settings(max_examples=40)
@given(st.binary(max_size=200_000), st.sampled_from(["gzip", "zstd", "none"]))
def test_round_trip(content: bytes, kind: str) -> None:
    packed = _pack(content, kind)
    assert _unpack(packed, kind) == content
    assert _pack(content, kind) == packed


def test_others_read_what_we_write() -> None:
    content = bytes(range(256)) * 999
    assert gzip.decompress(_pack(content, "gzip")) == content
    assert (
        zstandard.ZstdDecompressor().decompressobj().decompress(_pack(content, "zstd")) == content
    )


def test_gzip_headers_hold_no_time_and_no_name() -> None:
    packed = _pack(b"x" * 5000, "gzip")
    assert packed[3] == 0
    assert packed[4:8] == bytes(4)


def test_we_read_what_others_write() -> None:
    content = b"0123456789" * 50_000
    assert _unpack(gzip.compress(content)) == content
    assert _unpack(bz2.compress(content)) == content
    assert _unpack(lzma.compress(content)) == content
    assert _unpack(zstandard.compress(content)) == content
    assert _unpack(gzip.compress(b"a") + gzip.compress(b"b") + bytes(512)) == b"ab"
    assert _unpack(zstandard.compress(b"a") + zstandard.compress(b"b")) == b"ab"
    assert _unpack(b"\x50\x2a\x4d\x18\x04\0\0\0skip" + zstandard.compress(b"a")) == b"a"


@pytest.mark.parametrize(
    "pack", [gzip.compress, bz2.compress, lzma.compress, zstandard.compress, zlib.compress]
)
def test_cut_data_is_an_error(pack: object) -> None:
    import random

    content = random.Random(1).randbytes(50_000)
    packed = pack(content)  # type: ignore[operator]
    kind = compression.sniff(packed[:8])
    if kind == "none":
        return
    for end in (len(packed) - 1, len(packed) // 2, 12):
        with pytest.raises(InputError):
            _unpack(packed[:end], kind)


@settings(max_examples=80)
@given(st.sampled_from(["gzip", "zstd", "bzip2", "xz"]), st.integers(0, 300), st.binary(max_size=9))
def test_damage_ends_in_one_kind_of_error(kind: str, at: int, damage: bytes) -> None:
    pack = {"gzip": gzip.compress, "zstd": zstandard.compress, "bzip2": bz2.compress,
            "xz": lzma.compress}[kind]  # fmt: skip
    packed = bytearray(pack(b"some content " * 40))
    packed[at : at + len(damage)] = damage
    try:
        _unpack(bytes(packed), kind)
    except InputError:
        pass


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress, bz2.compress, lzma.compress])
def test_bombs_are_recognised(pack: object) -> None:
    bomb = pack(bytes(8 << 20))  # type: ignore[operator]
    with pytest.raises(InputError, match="bomb"):
        _unpack(bomb, limits=SMALL)


def test_bombs_need_little_memory() -> None:
    import resource

    made = zstandard.ZstdCompressor().compressobj()
    bomb = b"".join(made.compress(bytes(1 << 20)) for _ in range(300)) + made.flush()
    assert len(bomb) < 200_000
    _unpack(zstandard.compress(b"x"))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    stream = compression.decompressed(io.BytesIO(bomb), "zstd", "test")
    with pytest.raises(InputError, match="bomb"):
        while stream.read(1 << 16):
            pass
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert after - before < 64 << 10  # KiB


def test_the_size_is_bounded() -> None:
    with pytest.raises(InputError, match="more than 1000 bytes"):
        _unpack(gzip.compress(bytes(2000)), most=1000)


def test_a_zstd_window_beyond_reason_is_refused() -> None:
    parameters = zstandard.ZstdCompressionParameters.from_level(1, window_log=30)
    made = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    with pytest.raises(InputError):
        _unpack(made.compress(bytes(1000)) + made.flush())


def test_without_isal_the_standard_library_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    fast = _pack(b"content " * 9999, "gzip")
    monkeypatch.setitem(sys.modules, "isal", None)
    slow = _pack(b"content " * 9999, "gzip")
    assert slow == b"".join([*_zlib_gzip(b"content " * 9999)])
    assert _unpack(slow) == _unpack(fast) == b"content " * 9999
    with pytest.raises(InputError):
        _unpack(fast[:-5])


def _zlib_gzip(content: bytes) -> list[bytes]:
    made = zlib.compressobj(6, zlib.DEFLATED, 31)
    return [made.compress(content), made.flush()]
