"""Digests that a board can compute too, and compression on the way."""

from __future__ import annotations

import gzip
import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit.errors import InputError
from embedkit.target.digest import Cksum, Digester
from embedkit.target.squeeze import Decompressor, Squeeze, choose, compressed, unpacker


def posix_cksum(data: bytes) -> int:
    """Bit by bit, as POSIX describes it under "cksum"."""
    length = len(data)
    tail = b""
    while length:
        tail += bytes((length & 0xFF,))
        length >>= 8
    crc = 0
    for byte in data + tail:
        crc ^= byte << 24
        for _ in range(8):
            crc = (crc << 1) ^ 0x04C11DB7 if crc & 0x80000000 else crc << 1
            crc &= 0xFFFFFFFF
    return crc ^ 0xFFFFFFFF


@given(st.lists(st.binary(max_size=300), max_size=4))
def test_cksum_is_that_of_posix(pieces: list[bytes]) -> None:
    ours = Cksum()
    for piece in pieces:
        ours.update(piece)
    assert ours.value() == posix_cksum(b"".join(pieces))


def test_cksum_of_the_known_word() -> None:
    ours = Cksum()
    ours.update(b"hello\n")
    assert ours.value() == 3015617425  # echo hello | cksum


@given(st.text(max_size=80))
def test_an_answer_that_is_no_digest_is_none(text: str) -> None:
    for program in ("sha256sum", "md5sum", "cksum"):
        found = Digester(program).read_answer(text)
        assert found is None or set(found) <= set("0123456789abcdef")


@given(
    st.sampled_from([Squeeze.NONE, Squeeze.GZIP, Squeeze.ZSTD]),
    st.lists(st.binary(max_size=5000), max_size=5),
)
@settings(max_examples=40)
def test_what_is_squeezed_comes_back(squeeze: Squeeze, pieces: list[bytes]) -> None:
    counted: list[int] = []
    packed = list(compressed(squeeze, iter(pieces), sent=counted.append))
    undo = Decompressor(squeeze)
    assert b"".join(undo.feed(piece) for piece in packed) == b"".join(pieces)
    assert undo.whole
    assert sum(counted) == sum(map(len, pieces))


def test_a_cut_stream_is_not_whole() -> None:
    packed = b"".join(compressed(Squeeze.GZIP, iter([b"data" * 1000])))
    undo = Decompressor(Squeeze.GZIP)
    undo.feed(packed[:-5])
    assert not undo.whole


def test_an_error_in_the_source_is_not_swallowed() -> None:
    def broken() -> object:
        yield b"x"
        raise InputError("became shorter")

    with pytest.raises(InputError):
        list(compressed(Squeeze.ZSTD, broken()))  # type: ignore[arg-type]


SAMPLE = b"the same words again and again " * 4000


@pytest.mark.parametrize(
    ("rate", "sample", "possible", "best"),
    [
        (100e6, SAMPLE, [Squeeze.GZIP, Squeeze.ZSTD], Squeeze.NONE),
        (10e6, SAMPLE, [Squeeze.GZIP, Squeeze.ZSTD], Squeeze.ZSTD),
        (10e6, SAMPLE, [Squeeze.GZIP], Squeeze.GZIP),
        (10e6, SAMPLE, [], Squeeze.NONE),
        (10e6, os.urandom(100_000), [Squeeze.GZIP, Squeeze.ZSTD], Squeeze.NONE),
        (10e6, SAMPLE, [Squeeze.XZ], Squeeze.NONE),
        (20e3, SAMPLE, [Squeeze.XZ], Squeeze.XZ),
    ],
)
def test_compression_is_chosen_where_it_pays(
    rate: float, sample: bytes, possible: list[Squeeze], best: Squeeze
) -> None:
    assert choose(rate, sample, possible) is best


def test_what_a_target_was_seen_to_unpack_counts() -> None:
    pytest.importorskip("isal")
    assert choose(50e6, SAMPLE, [Squeeze.GZIP]) is Squeeze.NONE
    assert choose(50e6, SAMPLE, [Squeeze.GZIP], 90e6) is Squeeze.GZIP
    assert choose(50e6, SAMPLE, [Squeeze.GZIP], 50e6) is Squeeze.NONE
    assert choose(10e6, SAMPLE, [Squeeze.GZIP], 9e6) is Squeeze.NONE


@pytest.mark.parametrize("rate", [None, 0.5e6, 3e6, 10e6, 50e6])
def test_gzip_of_every_strength_is_gzip(rate: float | None) -> None:
    packed = b"".join(compressed(Squeeze.GZIP, iter([SAMPLE, SAMPLE]), rate=rate))
    assert gzip.decompress(packed) == SAMPLE * 2


def test_only_what_the_target_has_is_used() -> None:
    assert unpacker(Squeeze.GZIP, frozenset({"zcat"})) == "zcat"
    assert unpacker(Squeeze.ZSTD, frozenset({"gunzip", "cat"})) is None
