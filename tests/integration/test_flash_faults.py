"""Every way in which a card can fail under flash: the message, the exit code, what is left.

The device is a FUSE file with direct I/O under a loop device with direct I/O, so that a fault
is in the device and no cache of the kernel stands before it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import guard
from support.faulty_disk import Fault, FaultyDisk, faulty_disk
from support.flash_cards import MIB, Card, differs, flash, has_table, make_card

from embedkit import cli
from embedkit.media.outcome import Options, State

pytestmark = pytest.mark.needs("root", "loop", "file:/dev/fuse", "program:fusermount3")

SIZE = 64 * MIB


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Card:
    guard.install()
    return make_card(tmp_path_factory.mktemp("card") / "card.img")


@pytest.fixture(scope="module")
def shared_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FaultyDisk]:
    with faulty_disk(tmp_path_factory.mktemp("disk"), SIZE) as disk:
        yield disk


@pytest.fixture
def disk(
    shared_disk: FaultyDisk, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FaultyDisk]:
    """A disk without a fault, that carries an older card with a partition table."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    shared_disk.fail(None)
    with shared_disk.backing.open("r+b") as file:
        file.write(b"\xa5" * SIZE)
        file.seek(510)
        file.write(b"\x55\xaa")
    yield shared_disk
    shared_disk.fail(None)


def command(card: Card, disk: FaultyDisk, capsys: pytest.CaptureFixture[str], *words: str) -> tuple:
    """Exit code and JSON of ``embedkit flash``."""
    code = cli.main(["flash", str(card.path), str(disk.device), "--yes", "--json", *words])
    return code, json.loads(capsys.readouterr().out)


def test_a_good_device_is_written_and_verified(card: Card, disk: FaultyDisk, capsys) -> None:
    code, answer = command(card, disk, capsys)
    assert (code, answer["data"]["devices"][0]["state"]) == (0, "verified")
    assert differs(card, disk.backing) == []
    assert has_table(disk.backing)


# The card's extents are 0-4 KiB, 1-5, 12-21 and 40-44 MiB.
PLACES = {"first": 0, "middle": 15 * MIB, "last": 43 * MIB}


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("eio", "input/output error"),
        ("short", "input/output error"),
        ("enospc", "smaller than it claims"),
    ],
)
def test_a_failing_write_ends_the_flash(
    card: Card, disk: FaultyDisk, capsys, place: str, kind: str, message: str
) -> None:
    offset = PLACES[place]
    disk.fail(Fault(kind, offset, offset + 4096))
    code, answer = command(card, disk, capsys)
    assert code == 4
    assert message in answer["error"]["message"]
    where = answer["error"]["where"]
    sector = int(where.split("sector ")[1].split(",")[0])
    # The batch in which it failed; the device does not say which of its sectors it was.
    assert sector * 512 <= offset < sector * 512 + 4 * MIB
    if place != "first":
        assert "partition 1" in where
        assert "--resume" in answer["error"]["message"] + answer["error"]["hint"]
        assert not has_table(disk.backing)
        disk.fail(None)
        code, answer = command(card, disk, capsys, "--resume")
        assert code == 0
        assert differs(card, disk.backing) == []


def test_an_unreadable_sector_is_not_a_success(card: Card, disk: FaultyDisk, capsys) -> None:
    disk.fail(Fault("eio-read", 15 * MIB, 15 * MIB + 4096))
    code, answer = command(card, disk, capsys)
    assert code == 4
    assert "on read" in answer["error"]["message"]
    assert not has_table(disk.backing)


@pytest.mark.parametrize("place", PLACES)
def test_dropped_writes_are_found(card: Card, disk: FaultyDisk, capsys, place: str) -> None:
    offset = PLACES[place]
    disk.fail(Fault("drop", offset, offset + 4096))
    code, answer = command(card, disk, capsys)
    found = answer["data"]["devices"][0]
    assert (code, found["state"]) == (1, "differs")
    if place != "first":
        # One dropped request of the kernel: the first sector of it that is wrong is named.
        assert offset - MIB < found["mismatch"]["first_byte"] <= offset
        assert found["mismatch"]["exact"]
        assert found["mismatch"]["region"] == "partition 1"
        assert not has_table(disk.backing)


def test_all_writes_dropped(card: Card, disk: FaultyDisk, capsys) -> None:
    disk.fail(Fault("drop"))
    code, answer = command(card, disk, capsys)
    assert code == 1
    assert "drops writes" in answer["data"]["devices"][0]["mismatch"]["what"]
    assert differs(card, disk.backing)


@pytest.mark.parametrize("capacity", [8 * MIB, 16 * MIB, 32 * MIB])
def test_a_counterfeit_card_is_found(card: Card, disk: FaultyDisk, capsys, capacity: int) -> None:
    disk.fail(Fault("wrap", 0, capacity))
    code, answer = command(card, disk, capsys)
    found = answer["data"]["devices"][0]
    assert (code, found["state"]) == (1, "differs")
    assert not has_table(disk.backing)


def test_a_wrap_onto_the_first_megabyte_is_found(tmp_path: Path, disk: FaultyDisk, capsys) -> None:
    """Data at the capacity overwrites the head before the head is written; verifying only
    afterwards, or only the data, would see nothing wrong."""
    card = make_card(tmp_path / "c.img", ranges=((MIB, MIB), (32 * MIB, MIB)))
    disk.fail(Fault("wrap", 0, 32 * MIB))
    code, answer = command(card, disk, capsys)
    assert code == 1
    assert "counterfeit" in answer["data"]["devices"][0]["mismatch"]["what"]
    assert not has_table(disk.backing)


@pytest.mark.parametrize("offset", [2 * MIB + 700, 15 * MIB + 5, 44 * MIB - 1])
def test_one_flipped_bit_is_found(card: Card, disk: FaultyDisk, capsys, offset: int) -> None:
    disk.fail(Fault("flip", offset, offset + 1))
    code, answer = command(card, disk, capsys)
    mismatch = answer["data"]["devices"][0]["mismatch"]
    assert code == 1
    assert mismatch["sector"] == offset // 512
    assert mismatch["what"] == "1 bit flipped"
    assert not has_table(disk.backing)


def test_a_flipped_bit_in_the_partition_table_is_found(
    card: Card, disk: FaultyDisk, capsys
) -> None:
    disk.fail(Fault("flip", 470, 471))
    code, answer = command(card, disk, capsys)
    assert code == 1
    assert answer["data"]["devices"][0]["mismatch"]["sector"] == 0


def test_verification_through_the_page_cache_misses_it(card: Card, disk: FaultyDisk) -> None:
    """What O_DIRECT is for: without it the kernel's cache answers for the device."""
    disk.fail(Fault("drop", 15 * MIB, 16 * MIB))
    (cached,) = flash(card, disk.device, options=Options(direct=False))
    assert differs(card, disk.backing) != []
    assert cached.state is State.VERIFIED, "the cache no longer hides it: drop this test"
    (honest,) = flash(card, disk.device)
    assert honest.state is State.DIFFERS


def test_no_verify_does_not_claim_to_have_verified(card: Card, disk: FaultyDisk, capsys) -> None:
    disk.fail(Fault("drop", 15 * MIB, 16 * MIB))
    code, answer = command(card, disk, capsys, "--no-verify")
    found = answer["data"]["devices"][0]
    assert (code, found["state"], found["verified_bytes"]) == (0, "written", 0)
    assert "not verified" in answer["verdict"]


def test_a_device_that_disappears(card: Card, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with faulty_disk(tmp_path, SIZE) as disk:
        disk.fail(Fault("gone", 15 * MIB))
        code, answer = command(card, disk, capsys)
        assert code == 4
        assert answer["error"]["kind"] == "DeviceFault"
        assert not has_table(disk.backing)


def test_the_others_go_on_when_one_of_several_fails(
    card: Card, disk: FaultyDisk, tmp_path: Path, capsys
) -> None:
    from support.loops import loop

    disk.fail(Fault("eio", 15 * MIB, 16 * MIB))
    with loop(tmp_path / "a", size=SIZE) as a, loop(tmp_path / "b", size=80 * MIB) as b:
        targets = [str(a), str(disk.device), str(b)]
        code = cli.main(["flash", str(card.path), *targets, "--yes", "--json"])
        answer = json.loads(capsys.readouterr().out)
        states = {each["device"]: each["state"] for each in answer["data"]["devices"]}
        assert code == 4
        assert states == {str(a): "verified", str(disk.device): "failed", str(b): "verified"}
    for name in ("a", "b"):
        assert differs(card, tmp_path / name) == []
