"""The block decoders of LZ4 and LZO1X, and every compression as a stream."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import images

from embedkit.kernel import lz4, lzo
from embedkit.kernel.decompress import CODECS, codec_of
from embedkit.kernel.stream import CutShortError, DamagedError

# Literals, long runs and short ones, in any order.
DATA = st.lists(
    st.one_of(
        st.binary(max_size=400),
        st.builds(
            lambda byte, length: byte * length,
            st.binary(min_size=1, max_size=1),
            st.integers(0, 3000),
        ),
    ),
    max_size=8,
).map(b"".join)


def in_pieces(data: bytes, size: int) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def expand(packed: bytes, size: int = 1 << 16) -> bytes:
    codec = codec_of(packed)
    assert codec is not None
    return b"".join(codec.expand(in_pieces(packed, size)))


@given(DATA)
def test_lz4_blocks_expand_to_what_they_were(data: bytes) -> None:
    assert lz4.decode_block(images.lz4_block(data), len(data)) == data


@given(DATA)
def test_lzo_blocks_expand_to_what_they_were(data: bytes) -> None:
    assert lzo.decode_block(images.lzo_block(data), len(data)) == data


@pytest.mark.parametrize(
    ("block", "expanded"),
    [
        # 4 literals, then "abcdabcd…" at distance 4.
        (b"\x4babcd\x04\x00\x50wxyz!", b"abcd" + b"abcdabcdabcdabc" + b"wxyz!"),
        (b"\x00", b""),
    ],
)
def test_lz4_vectors(block: bytes, expanded: bytes) -> None:
    assert lz4.decode_block(block, 1000) == expanded


# Each instruction of Documentation/staging/lzo.rst once, behind 4 or 5 literals.
@pytest.mark.parametrize(
    ("block", "expanded"),
    [
        pytest.param(b"\x15abcd\x11\0\0", b"abcd", id="literals"),
        pytest.param(b"\x01abcd\x11\0\0", b"abcd", id="literals without the short start"),
        pytest.param(b"\x15abcd\x4c\0\x11\0\0", b"abcdabc"[:4] + b"abc", id="3 bytes near"),
        pytest.param(b"\x15abcd\xec\0\x11\0\0", b"abcd" + b"abcdabcd", id="8 bytes near"),
        pytest.param(b"\x15abcd\x4d\0Z\x11\0\0", b"abcdabcZ", id="a literal behind a match"),
        pytest.param(b"\x15abcd\x4d\0Z\x00\x00\x11\0\0", b"abcdabcZZZ", id="2 bytes after 1"),
        pytest.param(b"\x15abcd\x23\x0c\x00\x11\0\0", b"abcd" + b"abcda", id="medium distance"),
        pytest.param(
            b"\x15abcd\x20\x01\x0e\x00YZ\x11\0\0",
            b"abcd" + (b"abcd" * 9)[:34] + b"YZ",
            id="long and two literals",
        ),
    ],
)
def test_lzo_vectors(block: bytes, expanded: bytes) -> None:
    assert lzo.decode_block(block, 1000) == expanded


def test_lzo_far_matches() -> None:
    """3 bytes from 2049 on after literals, and distances from 16384 on."""
    start = images.noise(20_000)
    literals = b"\0" + b"\0" * ((20_000 - 18 - 1) // 255) + bytes([(20_000 - 18 - 1) % 255 + 1])
    packed = literals + start + b"\x00\x00"  # state 4: distance 2049
    packed += b"\x12" + (5 << 2).to_bytes(2, "little")  # 4 bytes from 16384 + 5
    expanded = start + start[-2049:-2046]
    expanded += expanded[-16389 : -16389 + 4]
    assert lzo.decode_block(packed + b"\x11\0\0", 1 << 20) == expanded


@pytest.mark.parametrize("decode", [lz4.decode_block, lzo.decode_block])
@given(block=st.binary(max_size=2000))
def test_any_bytes_are_damaged_or_bounded(
    decode: Callable[[bytes, int], bytes], block: bytes
) -> None:
    try:
        assert len(decode(block, 5000)) <= 5000
    except DamagedError:
        pass


@given(DATA.filter(bool), st.data())
def test_a_cut_or_changed_block_never_passes_for_more(data: bytes, draw: st.DataObject) -> None:
    for pack, decode in (
        (images.lz4_block, lz4.decode_block),
        (images.lzo_block, lzo.decode_block),
    ):
        packed = bytearray(pack(data))
        packed[draw.draw(st.integers(0, len(packed) - 1))] = draw.draw(st.integers(0, 255))
        try:
            assert len(decode(bytes(packed), len(data))) <= len(data)
        except DamagedError:
            pass


@pytest.mark.parametrize("name", images.PACKERS)
@pytest.mark.parametrize("size", [1, 7, 1 << 16])
def test_every_compression_expands_in_pieces_of_any_size(name: str, size: int) -> None:
    data = images.CONFIG[:5000] + bytes(3000) + images.noise(1000)
    packed = images.PACKERS[name](data)
    assert codec_of(packed) is not None
    assert expand(packed, size) == data


def test_lz4_frames_with_all_their_options() -> None:
    first, second = images.CONFIG[:60_000], images.noise(3000)
    linked = b"\x04\x22\x4d\x18" + bytes([0x5C, 0x40]) + len(first).to_bytes(8, "little") + b"\0"
    block = images.lz4_block(first)
    # A second block that repeats 20 bytes of the first, and a stored one.
    again = b"\x0f\x64\x00\x01\x50wxyz!"
    packed = linked
    for piece, size in ((block, len(block)), (again, len(again)), (second, len(second) | 1 << 31)):
        packed += size.to_bytes(4, "little") + piece + b"sum!"
    packed += bytes(4) + b"sum!"
    repeated = (first + first[-100:-80])[-20:]
    assert expand(packed) == first + repeated + b"wxyz!" + second


@pytest.mark.parametrize("name", ["gzip", "xz", "bzip2", "zstd"])
def test_streams_one_after_the_other_are_one(name: str) -> None:
    packed = images.PACKERS[name](b"a" * 1000) + images.PACKERS[name](b"b" * 1000)
    assert expand(packed + b"\0\0\0\0") == b"a" * 1000 + b"b" * 1000


def test_lz4_legacy_takes_no_appended_size_for_a_block() -> None:
    data = bytes(8 << 20) + b"end" * 5
    assert expand(images.lz4_legacy(data) + len(data).to_bytes(4, "little") + b"more") == data


@pytest.mark.parametrize("name", images.PACKERS)
def test_cut_data_is_called_cut(name: str) -> None:
    packed = images.PACKERS[name](images.noise(20_000))
    for keep in (len(packed) // 2, len(packed) - 3 if name == "lzo" else len(packed) - 6):
        with pytest.raises(CutShortError):
            expand(packed[:keep])


@pytest.mark.parametrize("name", images.PACKERS)
@given(data=st.data())
def test_damaged_data_raises_nothing_else(name: str, data: st.DataObject) -> None:
    packed = bytearray(images.PACKERS[name](images.CONFIG[:3000]))
    for _ in range(3):
        packed[data.draw(st.integers(10, len(packed) - 1))] = data.draw(st.integers(0, 255))
    codec = codec_of(bytes(packed))
    if codec is None:
        return
    try:
        for _ in zip(codec.expand(iter([bytes(packed)])), range(64), strict=False):
            pass
    except DamagedError:
        pass


def test_each_magic_is_part_of_what_must_fit() -> None:
    for codec in CODECS:
        assert codec.fits.pattern
        assert not codec.fits.match(codec.magic[:1] + b"\xee" * 40)


def test_checksums_are_checked() -> None:
    packed = bytearray(images.lzop(images.CONFIG))
    packed[-40] ^= 1
    with pytest.raises(DamagedError, match=r"checksum|LZO"):
        expand(bytes(packed))
