"""``embedkit flash odroid-xu3`` on a used card, against the card that the commands make by hand."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import cards, founding, guard
from support.loops import loop

from embedkit import cli

pytestmark = pytest.mark.needs(
    "root", "loop", "program:parted", "program:partx", "program:sfdisk", "program:debugfs"
)
SIZE = founding.CARD_SECTORS * 512
MIB = 1 << 20
P1, P2 = (131072, 2097152), (2228224, 2097152)


@pytest.fixture(scope="module")
def artifacts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    guard.install()
    return founding.artifacts(tmp_path_factory.mktemp("made") / "artifacts")


@pytest.fixture(scope="module")
def by_hand(artifacts: Path) -> Iterator[Path]:
    with founding.card(artifacts, artifacts.parent / "by-hand.img") as card:
        yield card


@pytest.fixture(scope="module")
def flashed(artifacts: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The backing file of a card that was full of something else before."""
    backing = tmp_path_factory.mktemp("flashed") / "card"
    with backing.open("wb") as file:
        file.truncate(SIZE)
        for start in (0, P1[0] * 512 + 512 * MIB, P2[0] * 512):
            file.seek(start)
            for _ in range(96):
                file.write(b"\xa5" * MIB)
    with loop(backing) as device, pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(backing.parent / "state"))
        words = ["odroid-xu3", str(device), "--artifacts", str(artifacts)]
        assert cli.main(["flash", *words, "--yes", "--no-discard"]) == 0
        assert cli.main(["verify", *words[:1], str(device), *words[2:]]) == 0
    yield backing


def test_every_blob_region(by_hand: Path, flashed: Path) -> None:
    """All 64 MiB before the first partition: blobs, their rooms and the gaps between."""
    theirs, ours = (bytearray(cards.read_at(card, 0, P1[0] * 512)) for card in (by_hand, flashed))
    # parted's boot code and disk signature, and the CHS fields, which nothing reads.
    theirs[0:446] = ours[0:446] = bytes(446)
    for entry in (446, 462):
        for field in (entry + 1, entry + 5):
            theirs[field : field + 3] = ours[field : field + 3] = bytes(3)
    assert theirs == ours


def test_the_partition_table(by_hand: Path, flashed: Path) -> None:
    assert cards.partition_entries(flashed) == cards.partition_entries(by_hand)


def test_the_file_systems(by_hand: Path, flashed: Path, tmp_path: Path) -> None:
    """Clean, grown and with the same content, although old bytes stayed in their holes."""
    theirs = cards.cut_out(by_hand, *P1, tmp_path / "theirs.p1")
    ours = cards.cut_out(flashed, *P1, tmp_path / "ours.p1")
    assert cards.is_clean(ours)
    assert cards.facts(ours)["Block count"] == cards.facts(theirs)["Block count"]
    assert cards.listing(ours, tmp_path / "ours.d") == cards.listing(theirs, tmp_path / "theirs.d")
    usrfs = cards.cut_out(flashed, *P2, tmp_path / "ours.p2")
    assert cards.is_clean(usrfs)
    assert cards.facts(usrfs)["Filesystem volume name"] == "usrfs"


def test_a_fault_names_the_blob(artifacts: Path, flashed: Path, capsys, monkeypatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(artifacts.parent / "state"))
    with flashed.open("r+b") as file:
        file.seek(2111 * 512 + 5 * 512)
        byte = file.read(1)
        file.seek(-1, 1)
        file.write(bytes((byte[0] ^ 1,)))
    try:
        with loop(flashed) as device:
            words = ["verify", "odroid-xu3", str(device), "--artifacts", str(artifacts), "--json"]
            assert cli.main(words) == 1
        mismatch = json.loads(capsys.readouterr().out)["data"]["mismatch"]
        assert mismatch["sector"] == 2116
        assert "tzsw" in mismatch["region"]
    finally:
        with flashed.open("r+b") as file:
            file.seek(2111 * 512 + 5 * 512)
            file.write(byte)


def test_a_dry_run_needs_no_more_than_the_files(artifacts: Path, tmp_path: Path, capsys) -> None:
    with loop(tmp_path / "card", size=SIZE) as device:
        words = ["odroid-xu3", str(device), "--artifacts", str(artifacts), "--dry-run"]
        assert cli.main(["flash", *words]) == 0
    assert "What flashing odroid-xu3" in capsys.readouterr().out
    assert (tmp_path / "card").stat().st_blocks == 0


def test_a_card_that_is_too_small(artifacts: Path, tmp_path: Path, capsys) -> None:
    with loop(tmp_path / "card", size=SIZE - 512) as device:
        words = ["odroid-xu3", str(device), "--artifacts", str(artifacts), "--yes"]
        assert cli.main(["flash", *words]) == 2
    assert "error:" in capsys.readouterr().err
    assert (tmp_path / "card").stat().st_blocks == 0


def test_options_of_the_other_kind(tmp_path: Path, capsys) -> None:
    with loop(tmp_path / "card", size=MIB * 8) as device:
        for words in (
            ["odroid-xu3", str(device), "--no-bmap"],
            ["x.img", str(device), "--blob=a=b"],
        ):
            assert cli.main(["flash", *words, "--yes"]) == 2
    assert "belong to" in capsys.readouterr().err
