"""Images and block maps that lie: a clear error, and the device as it was before."""

from __future__ import annotations

import bz2
import functools
import gzip
import hashlib
import io
import json
import lzma
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import zstandard
from support import guard
from support.flash_cards import MIB, Card, differs, has_table, make_card
from support.loops import loop

from embedkit import cli
from embedkit.media import bmap, precheck
from embedkit.media.ranges import Range

pytestmark = pytest.mark.needs("root", "loop")

SIZE = 64 * MIB
_OLD = b"\x5a" * 4096


@dataclass
class Target:
    """A loop device whose content is known."""

    device: Path
    backing: Path

    @property
    def untouched(self) -> bool:
        with self.backing.open("rb") as file:
            return all(part == _OLD * 256 for part in iter(lambda: file.read(MIB), b""))


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    guard.install()
    backing = tmp_path_factory.mktemp("target") / "disk"
    with loop(backing, size=SIZE) as device:
        yield Target(device, backing)


@pytest.fixture
def target(shared: Target, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with shared.backing.open("r+b") as file:
        file.write(_OLD * (SIZE // len(_OLD)))
    subprocess.run(["blockdev", "--flushbufs", shared.device], check=True)
    return shared


@pytest.fixture
def card(tmp_path: Path) -> Card:
    return make_card(tmp_path / "card.img", ranges=((MIB, MIB), (8 * MIB, MIB), (40 * MIB, MIB)))


def flash(image: Path, target: Target, capsys: pytest.CaptureFixture[str], *words: str) -> tuple:
    """Exit code, and the error's text (or the report's verdict)."""
    code = cli.main(["flash", str(image), str(target.device), *words, "--yes", "--json"])
    answer = json.loads(capsys.readouterr().out)
    error = answer["error"]
    return code, f"{error['message']} ({error['where']})" if error else answer["verdict"]


@functools.cache
def packed(kind: str, content: bytes) -> bytes:
    """Packed once, not for every test."""
    return PACKERS[kind](content)


PACKERS = {
    "gz": lambda content: gzip.compress(content, 1),
    "xz": lambda content: lzma.compress(content, preset=0),
    "bz2": lambda content: bz2.compress(content, 1),
    "zst": zstandard.compress,
}


@pytest.mark.parametrize("kind", PACKERS)
@pytest.mark.parametrize("with_bmap", [True, False], ids=["bmap", "no bmap"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.999])
def test_a_stream_cut_in_its_middle(
    card: Card, target: Target, capsys, kind: str, with_bmap: bool, share: float
) -> None:
    content = packed(kind, card.path.read_bytes())
    image = card.path.with_name(f"card.img.{kind}")
    image.write_bytes(content[: int(len(content) * share)])
    code, said = flash(image, target, capsys, *([] if with_bmap else ["--no-bmap"]))
    assert code == 2
    assert "the image ends in the middle of its" in said
    if kind == "bz2" and with_bmap:
        # Nothing in the file tells: it is noticed on the way, and the card shows it.
        assert not has_table(target.backing)
    else:
        assert target.untouched


def test_a_cut_raw_image(card: Card, target: Target, capsys) -> None:
    with card.path.open("r+b") as file:
        file.truncate(40 * MIB + 100)
    code, said = flash(card.path, target, capsys)
    assert (code, target.untouched) == (2, True)
    assert f"its block map was made for {48 * MIB}" in said


def test_a_raw_image_that_differs_from_its_block_map(card: Card, target: Target, capsys) -> None:
    with card.path.open("r+b") as file:
        file.seek(40 * MIB + 77)
        file.write(b"other")
    code, said = flash(card.path, target, capsys)
    assert (code, target.untouched) == (2, True)
    assert f"differs from its block map in bytes {40 * MIB} to {41 * MIB - 1}" in said
    assert flash(card.path, target, capsys, "--no-bmap")[0] == 0


def test_a_raw_image_that_differs_where_no_sample_was_taken(
    target: Target, tmp_path: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noticed on the way, as in a packed image: the card shows it."""
    card = make_card(tmp_path / "card.img", ranges=((MIB, 8 * MIB), (40 * MIB, MIB)))
    monkeypatch.setattr(precheck, "SAMPLE_BYTES", 0)
    with card.path.open("r+b") as file:
        file.seek(40 * MIB + 77)
        file.write(b"other")
    code, said = flash(card.path, target, capsys)
    assert code == 2
    assert f"differs from its block map in bytes {40 * MIB} to {41 * MIB - 1}" in said
    assert not target.untouched and not has_table(target.backing)


def test_a_packed_image_of_another_block_map(card: Card, target: Target, capsys, tmp_path) -> None:
    """They differ from the start, so that is known before anything is written."""
    other = make_card(tmp_path / "other.img", ranges=((MIB, MIB),), seed=5)
    image = card.path.with_name("card.img.zst")
    image.write_bytes(zstandard.compress(other.path.read_bytes()))
    code, said = flash(image, target, capsys)
    assert (code, target.untouched) == (2, True)
    assert "differs from its block map" in said


def test_a_packed_image_with_one_wrong_range(card: Card, target: Target, capsys) -> None:
    """Far behind: unpacking everything first would double the time, so the card may be begun.
    It must not look finished."""
    content = bytearray(card.path.read_bytes())
    content[41 * MIB - 1] ^= 1
    image = card.path.with_name("card.img.zst")
    image.write_bytes(zstandard.compress(bytes(content)))
    code, said = flash(image, target, capsys)
    assert code == 2
    assert f"differs from its block map in bytes {40 * MIB} to {41 * MIB - 1}" in said
    assert not has_table(target.backing)


def _resealed(text: str) -> bytes:
    blank = re.sub(r"(<BmapFileChecksum>\s*)[0-9a-f]+", lambda m: m.group(1) + "0" * 64, text)
    digest = hashlib.sha256(blank.encode()).hexdigest()
    return blank.replace("0" * 64, digest, 1).encode()


BOMB = '<!DOCTYPE bmap [<!ENTITY a "0123456789"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>'


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("> 256-511 <", "> 0-511 <", "overlaps"),
        ("> 256-511 <", "> 256-99999 <", "lies outside"),
        ("<bmap version", BOMB + "<bmap version", "document type declaration"),
        (f"> {48 * MIB} <", f"> {1 << 60} <", "counts"),
    ],
)
def test_block_maps_that_lie(card: Card, target: Target, capsys, old, new, message) -> None:
    path = card.path.with_name("card.img.bmap")
    text = path.read_text()
    assert old in text
    path.write_bytes(_resealed(text.replace(old, new)))
    code, said = flash(card.path, target, capsys)
    assert (code, target.untouched) == (2, True)
    assert message in said
    assert str(path) in said


def test_a_block_map_with_a_wrong_sum_of_itself(card: Card, target: Target, capsys) -> None:
    path = card.path.with_name("card.img.bmap")
    path.write_bytes(path.read_bytes().replace(b"> 256-511 <", b"> 256-510 <"))
    code, said = flash(card.path, target, capsys)
    assert (code, target.untouched) == (2, True)
    assert "its own checksum is wrong" in said


def test_a_block_map_of_a_larger_card(tmp_path: Path, target: Target, capsys) -> None:
    large = make_card(tmp_path / "card.img", size=80 * MIB, ranges=((MIB, MIB),))
    image = tmp_path / "card.img.zst"
    image.write_bytes(zstandard.compress(large.path.read_bytes()))
    code, said = flash(image, target, capsys)
    assert (code, target.untouched) == (2, True)
    assert f"the image has {80 * MIB} bytes, the device only {SIZE}" in said


class TestBombs:
    """A few kilobytes that unpack to more than the device holds."""

    BOMB_BYTES = 300 * MIB

    def packed(self, kind: str) -> bytes:
        piece = bytes(MIB)
        file = io.BytesIO()
        if kind == "gz":
            with gzip.GzipFile(fileobj=file, mode="wb", compresslevel=1) as out:
                for _ in range(300):
                    out.write(piece)
        elif kind == "zst":
            with zstandard.ZstdCompressor().stream_writer(file, closefd=False) as writer:
                for _ in range(300):
                    writer.write(piece)
        elif kind == "zip":
            with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
                archive.writestr("card.img", bytes(self.BOMB_BYTES))
        else:
            compressor = lzma.LZMACompressor(preset=0)
            file.write(b"".join(compressor.compress(piece) for _ in range(300)))
            file.write(compressor.flush())
        return file.getvalue()

    @pytest.mark.parametrize("kind", ["gz", "zst", "xz", "zip"])
    def test_from_a_file(self, tmp_path: Path, target: Target, capsys, kind: str) -> None:
        image = tmp_path / f"bomb.{kind}"
        image.write_bytes(self.packed(kind))
        assert image.stat().st_size < 4 * MIB
        code, said = flash(image, target, capsys)
        assert (code, target.untouched) == (2, True)
        assert "the device only" in said or "unpacks to more than" in said

    def test_with_a_size_that_lies(self, tmp_path: Path, target: Target, capsys) -> None:
        """The last four bytes of a .gz are its size; here they promise the block map's."""
        card = make_card(tmp_path / "bomb.img", size=8 * MIB, ranges=((MIB, MIB),))
        content = gzip.compress(card.path.read_bytes() + bytes(self.BOMB_BYTES), 1)
        image = tmp_path / "bomb.img.gz"
        image.write_bytes(content[:-4] + struct.pack("<I", card.size))
        code, said = flash(image, target, capsys)
        assert code == 2
        assert "longer than" in said
        assert not has_table(target.backing)

    def test_from_a_pipe(self, target: Target) -> None:
        """Only unpacking tells: the device is full before, and must not look finished."""
        argv = [sys.executable, "-m", "embedkit.cli", "flash", "-", target.device, "--yes"]
        ended = subprocess.run(argv, input=self.packed("gz"), capture_output=True, check=False)
        assert ended.returncode == 2
        assert b"larger than the device" in ended.stderr
        assert not has_table(target.backing)


def test_a_pipe_cut_in_its_middle(card: Card, target: Target) -> None:
    content = gzip.compress(card.path.read_bytes(), 1)
    argv = [sys.executable, "-m", "embedkit.cli", "flash", "-", target.device, "--yes"]
    ended = subprocess.run(argv, input=content[:-30_000], capture_output=True, check=False)
    assert ended.returncode == 2
    assert b"in the middle of its gzip data" in ended.stderr
    assert not has_table(target.backing)


def test_a_wrong_expected_hash(card: Card, target: Target, capsys) -> None:
    image = card.path.with_name("card.img.zst")
    image.write_bytes(zstandard.compress(card.path.read_bytes()))
    code, said = flash(image, target, capsys, "--sha256", "00" * 32)
    assert code == 2
    assert "not 0000" in said
    assert not has_table(target.backing)


@pytest.mark.parametrize("kind", ["raw", *PACKERS])
@pytest.mark.parametrize("with_bmap", [True, False], ids=["bmap", "no bmap"])
@pytest.mark.parametrize("sector", [512, 4096])
def test_good_images_of_every_kind_arrive(
    tmp_path: Path, kind: str, with_bmap: bool, sector: int, capsys, monkeypatch
) -> None:
    """The counterpart: what is not hostile is written, to the byte."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    card = make_card(
        tmp_path / "card.img", size=24 * MIB, ranges=((MIB, MIB), (20 * MIB, MIB)), sector=sector
    )
    image = card.path
    if kind != "raw":
        image = tmp_path / f"card.img.{kind}"
        image.write_bytes(packed(kind, card.path.read_bytes()))
    backing = tmp_path / "disk"
    backing.write_bytes(_OLD * (32 * MIB // 4096))
    with loop(backing, sector=sector) as device:
        words = [] if with_bmap else ["--no-bmap"]
        assert flash(image, Target(device, backing), capsys, *words)[0] == 0
        assert cli.main(["verify", str(image), str(device), *words]) == 0
    assert differs(card, backing) == []
    with card.path.open("rb") as one, backing.open("rb") as other:
        if not with_bmap:
            # Without a block map zeros are content, too.
            assert one.read() == other.read(card.size)


def test_an_image_that_ends_within_a_sector(tmp_path: Path, capsys) -> None:
    image = tmp_path / "odd.img"
    image.write_bytes(b"\x11" * (3 * MIB + 777))
    backing = tmp_path / "disk"
    backing.write_bytes(_OLD * (8 * MIB // 4096))
    with loop(backing, sector=4096) as device:
        assert flash(image, Target(device, backing), capsys)[0] == 0
    content = backing.read_bytes()
    assert content[: 3 * MIB + 777] == b"\x11" * (3 * MIB + 777)
    assert content[3 * MIB + 777 : 3 * MIB + 4096] == bytes(4096 - 777)


@pytest.mark.parametrize("sector", [512, 4096])
def test_a_sparse_image_of_an_odd_size(tmp_path: Path, capsys, sector: int) -> None:
    """It ends in a hole, within a sector: without a block map its zeros are content."""
    image = tmp_path / "odd.img"
    with image.open("wb") as file:
        file.write(b"\x22" * 5000)
        file.seek(2 * MIB)
        file.write(b"\x33" * 5000)
        file.truncate(3 * MIB + 777)
    backing = tmp_path / "disk"
    backing.write_bytes(_OLD * (8 * MIB // 4096))
    with loop(backing, sector=sector) as device:
        assert flash(image, Target(device, backing), capsys)[0] == 0
        assert cli.main(["verify", str(image), str(device)]) == 0
    assert backing.read_bytes()[: 3 * MIB + 777] == image.read_bytes()


def test_zeros_reach_the_gaps_of_a_card(tmp_path: Path, capsys) -> None:
    """A hole of the block map outside every partition must not keep an old boot blob."""
    card = make_card(tmp_path / "card.img", size=16 * MIB, ranges=((MIB, MIB),))
    with card.path.open("r+b") as file:  # the partition begins at 8 MiB: 2 to 8 MiB is a gap
        file.seek(446 + 8)
        file.write(struct.pack("<II", 16384, 16384))
    block_map = bmap.make(card.path, [Range(0, 4096), Range(MIB, MIB)])
    card.path.with_name("card.img.bmap").write_bytes(block_map)
    backing = tmp_path / "disk"
    backing.write_bytes(_OLD * (32 * MIB // 4096))
    with loop(backing) as device:
        target = Target(device, backing)
        assert flash(card.path, target, capsys, "--no-discard")[0] == 0
    content = backing.read_bytes()
    assert content[2 * MIB : 8 * MIB] == bytes(6 * MIB)
    assert content[8 * MIB : 16 * MIB] == _OLD * (8 * MIB // 4096), "a hole in a partition is free"
    assert content[-(64 << 10) :] == bytes(64 << 10), "an old GPT's copy would be there"


def test_read_and_verify_give_the_card_back(card: Card, tmp_path: Path, capsys) -> None:
    backing = tmp_path / "disk"
    with loop(backing, size=SIZE) as device:
        assert cli.main(["flash", str(card.path), str(device), "--yes"]) == 0
        saved = tmp_path / "saved.img"
        assert cli.main(["read", str(device), "-o", str(saved)]) == 0
        assert saved.read_bytes() == backing.read_bytes()
        assert saved.stat().st_blocks * 512 < 8 * MIB
        assert bmap.read(tmp_path / "saved.img.bmap").image_size == SIZE
        assert cli.main(["verify", str(saved), str(device)]) == 0
        assert cli.main(["read", str(device), "-o", str(saved)]) == 2
        with backing.open("r+b") as file:
            file.seek(8 * MIB + 5000)
            file.write(b"!")
        subprocess.run(["blockdev", "--flushbufs", device], check=True)
        capsys.readouterr()
        assert cli.main(["verify", str(card.path), str(device), "--json"]) == 1
        found = json.loads(capsys.readouterr().out)["data"]["mismatch"]
        assert found["sector"] == (8 * MIB + 5000) // 512
        assert found["region"] == "partition 1"
