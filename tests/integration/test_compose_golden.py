"""The composed Odroid XU3 card against the one that the commands make by hand."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import cards, founding

from embedkit.media.sparse import chunks

pytestmark = pytest.mark.needs(
    "root", "loop", "program:parted", "program:partx", "program:sfdisk", "program:setpriv"
)
P1, P2 = (131072, 2097152), (2228224, 2097152)


def compose(folder: Path, image: Path, *prefix: str) -> None:
    subprocess.run(
        [*prefix, sys.executable, "-m", "embedkit.cli", "compose", "odroid-xu3", "--artifacts",
         folder, "-o", image],
        check=True, capture_output=True, cwd="/",
    )  # fmt: skip


def as_nobody() -> list[str]:
    """Words before a command that take every privilege from it.

    Where only root may look into Python's own folder, the right to read (nothing else) stays.
    """
    plain = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    probe = subprocess.run([*plain, sys.executable, "-c", "import embedkit"], check=False, cwd="/")
    if probe.returncode == 0:
        return plain
    return [*plain, "--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]


def digest(path: Path) -> str:
    sums = hashlib.sha256()
    for piece in chunks(path):
        sums.update(piece)
    return sums.hexdigest()


@pytest.fixture(scope="module")
def work() -> Iterator[Path]:
    # Not under pytest's folder: an ordinary user has to get there.
    folder = Path(tempfile.mkdtemp(prefix="embedkit-golden-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def by_hand(work: Path) -> Iterator[Path]:
    founding.artifacts(work / "artifacts")
    with founding.card(work / "artifacts", work / "by-hand.img") as card:
        yield card


@pytest.fixture(scope="module")
def composed(work: Path, by_hand: Path) -> Path:
    compose(work / "artifacts", work / "composed.img")
    return work / "composed.img"


def test_same_bytes_before_the_partitions(by_hand: Path, composed: Path) -> None:
    """Blobs, rooms and gaps: all 64 MiB, but for the disk signature that parted draws by lot."""
    theirs, ours = (bytearray(cards.read_at(card, 0, 131072 * 512)) for card in (by_hand, composed))
    theirs[440:444] = ours[440:444] = bytes(4)
    # parted also installs its own boot code, which no ARM board ever runs.
    theirs[0:440] = ours[0:440] = bytes(440)
    # The MBR's CHS fields differ in taste; Linux and U-Boot read the sectors only.
    for entry in (446, 462):
        for field in (entry + 1, entry + 5):
            theirs[field : field + 3] = ours[field : field + 3] = bytes(3)
    assert hashlib.sha256(theirs).digest() == hashlib.sha256(ours).digest()


def test_each_blob_is_the_file_s(work: Path, composed: Path) -> None:
    for name, sector, size in founding.BLOBS:
        length = min(size, 15360) if sector == 1 else size
        content = (work / "artifacts" / name).read_bytes()[:length]
        assert cards.read_at(composed, sector * 512, length) == content, name


def test_same_partition_entries(by_hand: Path, composed: Path) -> None:
    entries = cards.partition_entries(composed)
    assert entries == cards.partition_entries(by_hand)
    assert [(entry["start"], entry["size"]) for entry in entries] == [P1, P2]


def test_same_file_systems(by_hand: Path, composed: Path, work: Path) -> None:
    theirs = cards.cut_out(by_hand, *P1, work / "theirs.p1")
    ours = cards.cut_out(composed, *P1, work / "ours.p1")
    assert cards.is_clean(theirs) and cards.is_clean(ours)
    assert cards.facts(ours)["Block count"] == cards.facts(theirs)["Block count"] == "262144"
    listing = cards.listing(ours, work / "ours.d")
    assert listing == cards.listing(theirs, work / "theirs.d")
    assert listing["bin/su"][0] == "0o104755" and listing["home/user"][1:3] == (1000, 1000)
    assert "number: 01:03" in str(listing["dev/null"][3])


def test_usrfs_is_there_and_named(by_hand: Path, composed: Path, work: Path) -> None:
    for card in (by_hand, composed):
        part = cards.cut_out(card, *P2, work / f"{card.stem}.p2")
        assert cards.is_clean(part)
        seen = cards.facts(part)
        assert (seen["Filesystem volume name"], seen["Block count"]) == ("usrfs", "262144")


def test_an_ordinary_user_composes_the_same_bytes(composed: Path, work: Path) -> None:
    folder = work / "nobody"
    folder.mkdir()
    folder.chmod(0o777)
    compose(work / "artifacts", folder / "composed.img", *as_nobody())
    assert (folder / "composed.img").stat().st_uid == 65534
    for name in ("composed.img", "composed.img.bmap", "composed.img.json"):
        assert digest(folder / name) == digest(work / name), name
