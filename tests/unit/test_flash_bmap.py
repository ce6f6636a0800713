"""Block maps: read as bmaptool writes them, refused when they lie."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.errors import InputError
from embedkit.media import bmap
from embedkit.media.bmap import Bmap, MappedRange
from embedkit.media.ranges import Range, merge

GOOD = Bmap(40_960, 4096, (MappedRange(0, 4096, "ab" * 32), MappedRange(12_288, 8192, "cd" * 32)))


def resealed(text: str) -> bytes:
    """``text`` with a right checksum of itself, as somebody with intent would make it."""
    blank = re.sub(r"(<BmapFileChecksum>\s*)[0-9a-f]+", lambda m: m.group(1) + "0" * 64, text)
    digest = hashlib.sha256(blank.encode()).hexdigest()
    return blank.replace("0" * 64, digest, 1).encode()


def changed(old: str, new: str) -> bytes:
    text = bmap.render(GOOD).decode()
    assert old in text
    return resealed(text.replace(old, new, 1))


def test_what_is_written_is_read_again() -> None:
    assert bmap.parse(bmap.render(GOOD)) == GOOD


@st.composite
def maps(draw: st.DrawFn) -> Bmap:
    block = draw(st.sampled_from([512, 4096, 65536]))
    size = draw(st.integers(1, 300 * block))
    count = -(-size // block)
    blocks = draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(1, 20)), max_size=12))
    whole = merge(Range(first * block, length * block) for first, length in blocks)
    digest = draw(st.none() | st.just("0f" * 32))
    ranges = tuple(
        MappedRange(r.first_byte, min(r.end, size) - r.first_byte, digest) for r in whole
    )
    return Bmap(size, block, ranges)


@given(maps())
def test_every_map_survives_the_round_trip(one: Bmap) -> None:
    assert bmap.parse(bmap.render(one)) == one


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("> 0 <", "> 0-3 <", "overlaps the one before it"),
        ("> 3-4 <", "> 3-10 <", "lies outside the image's 10 blocks"),
        ("> 3-4 <", "> 4-3 <", "ends before it begins"),
        ("> 3-4 <", "> -1 <", "is not a range of blocks"),
        ("> 3-4 <", "> 0x3 <", "is not a range of blocks"),
        ("> 3-4 <", "> 3 <", "counts 3 mapped blocks but lists 2"),
        ("> 0 <", "> 5 <", "overlaps the one before it, or is out of order"),
        ("> 40960 <", "> 409600 <", "counts 10 blocks where 409600 bytes make 100"),
        ("> 40960 <", "> 0 <", "an image of 0 bytes cannot be"),
        ("> 40960 <", "> -40960 <", "is not a number"),
        ("> 40960 <", "> 99999999999999999999 <", "cannot be"),
        ("> 4096 <", "> 4095 <", "not a power of two"),
        ("> 4096 <", "> 0 <", "not a power of two"),
        ("sha256", "crc32", "known: sha256, sha1"),
        ('version="2.0"', 'version="3.0"', "format 3.0 is not known"),
        ('version="2.0"', 'version="1.2"', "format 1.2 is too old"),
        ('version="2.0"', 'size="2.0"', "does not say its version"),
        ("ab" * 32, "ab", "is not a sha256 sum"),
        ("<ImageSize>", "<BlockSize> 1 </BlockSize><ImageSize>", "is there twice"),
        ("BlocksCount", "BlockCount", "not well-formed"),
        ("bmap version", "x><bmap version", "not <bmap>"),
    ],
)
def test_lies_are_refused(old: str, new: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        bmap.parse(changed(old, new), "card.bmap")


def test_a_changed_file_is_told_by_its_own_sum() -> None:
    content = bmap.render(GOOD).replace(b"> 3-4 <", b"> 3-5 <")
    with pytest.raises(InputError, match="its own checksum is wrong"):
        bmap.parse(content)


@pytest.mark.parametrize(
    "head",
    [
        '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;">]>',
        '<!DOCTYPE bmap SYSTEM "file:///etc/passwd">',
        '<!DOCTYPE bmap [<!ENTITY % x SYSTEM "http://127.0.0.1:1/x"> %x;]>',
    ],
)
def test_entities_are_never_expanded(head: str) -> None:
    with pytest.raises(InputError, match="document type declaration"):
        bmap.parse(changed("<bmap version", head + "<bmap version"))


def test_deep_nesting_is_refused() -> None:
    with pytest.raises(InputError, match="nest deeper"):
        bmap.parse(b"<bmap version='2.0'>" + b"<a>" * 100_000)


@given(st.binary(max_size=400))
def test_rubbish_is_an_error_and_no_crash(content: bytes) -> None:
    with pytest.raises(InputError):
        bmap.parse(content)


@given(st.data())
def test_any_changed_byte_is_noticed_or_harmless(data: st.DataObject) -> None:
    content = bytearray(bmap.render(GOOD))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] = data.draw(st.integers(0, 255))
    try:
        assert bmap.parse(bytes(content)) == GOOD
    except InputError:
        pass


def test_it_is_found_where_bmaptool_looks(tmp_path: Path) -> None:
    image = tmp_path / "card.img.xz"
    image.touch()
    assert bmap.beside(image) is None
    for name in ("card.bmap", "card.img.bmap", "card.img.xz.bmap"):
        (tmp_path / name).touch()
        assert bmap.beside(image) == tmp_path / name


def test_make_hashes_what_is_there(tmp_path: Path) -> None:
    image = tmp_path / "card.img"
    image.write_bytes(b"A" * 4096 + bytes(8192) + b"B" * 100)
    found = bmap.parse(bmap.make(image, [Range(0, 4096), Range(12_288, 100)]))
    assert found.image_size == 12_388
    assert [r.digest for r in found.ranges] == [
        hashlib.sha256(b"A" * 4096).hexdigest(),
        hashlib.sha256(b"B" * 100).hexdigest(),
    ]
    with pytest.raises(InputError, match="whole blocks"):
        bmap.make(image, [Range(0, 100)])
    with pytest.raises(InputError, match="beyond the image"):
        bmap.make(image, [Range(0, 16_384)])
