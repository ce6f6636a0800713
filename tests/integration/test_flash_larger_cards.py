"""An image on a card that is larger than it: the GPT's second copy, and --grow."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import guard
from support.flash_cards import MIB, has_table
from support.loops import loop

from embedkit import cli, process
from embedkit.errors import TargetError
from embedkit.media import tables

pytestmark = pytest.mark.needs("root", "loop", "program:mke2fs", "program:sfdisk")

IMAGE = 24 * MIB
DEVICE = 64 * MIB
_LINUX = "0fc63daf-8483-4772-8e79-3d69d8477de4"


@pytest.fixture
def target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    guard.install()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with loop(tmp_path / "disk", size=DEVICE) as device:
        yield device


def make_image(path: Path, kind: tables.TableKind, *, filesystem: bool = True) -> Path:
    """A partition from 4 MiB to (nearly) the image's end, with an ext4 that holds one file."""
    gpt = kind is tables.TableKind.GPT
    entry = tables.Entry(
        1, 4 * MIB // 512, 16 * MIB // 512, _LINUX if gpt else "0x83", uuid=_LINUX if gpt else ""
    )
    table = tables.PartitionTable(kind, _LINUX if gpt else "0x12345678", (entry,))
    with path.open("wb") as file:
        file.truncate(IMAGE)
        for _, offset, data in tables.render(table, IMAGE):
            os.pwrite(file.fileno(), data, offset)
    if filesystem:
        content = path.with_name("content")
        content.mkdir(exist_ok=True)
        (content / "hello").write_text("from the image\n")
        inner = path.with_name("inner")
        with inner.open("wb") as file:
            file.truncate(16 * MIB)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-d", content, inner], check=True)
        with path.open("r+b") as file:
            os.pwrite(file.fileno(), inner.read_bytes(), 4 * MIB)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, dict]:
    code = cli.main([*map(str, words), "--json"])
    return code, json.loads(capsys.readouterr().out)


def table_of(device: Path) -> dict:
    made = subprocess.run(["sfdisk", "--json", device], check=True, capture_output=True)
    assert made.stderr == b"", made.stderr
    return json.loads(made.stdout)["partitiontable"]


def test_a_gpt_fits_the_larger_card(tmp_path: Path, target: Path, capsys) -> None:
    image = make_image(tmp_path / "card.img", tables.TableKind.GPT)
    code, answer = run(capsys, "flash", image, target, "--yes")
    assert (code, answer["data"]["devices"][0]["gpt_copy_moved"]) == (0, True)
    assert table_of(target)["lastlba"] == DEVICE // 512 - 34
    code, answer = run(capsys, "verify", image, target)
    assert (code, answer["data"]["same"]) == (0, True)
    # The copy at the end counts, too.
    with (tmp_path / "disk").open("r+b") as file:
        file.seek(DEVICE - 512 + 20)
        file.write(b"\xff")
    subprocess.run(["blockdev", "--flushbufs", target], check=True)
    code, answer = run(capsys, "verify", image, target)
    assert (code, answer["data"]["mismatch"]["sector"]) == (1, DEVICE // 512 - 1)


def test_exact_leaves_the_table(tmp_path: Path, target: Path, capsys) -> None:
    image = make_image(tmp_path / "card.img", tables.TableKind.GPT)
    code, answer = run(capsys, "flash", image, target, "--yes", "--exact")
    assert (code, answer["data"]["devices"][0]["gpt_copy_moved"]) == (0, False)
    with (tmp_path / "disk").open("rb") as disk, image.open("rb") as file:
        assert disk.read(IMAGE) == file.read()
    assert run(capsys, "verify", image, target)[0] == 0


@pytest.mark.parametrize("kind", tables.TableKind)
@pytest.mark.parametrize("packed", [False, True], ids=["raw", "gz"])
def test_grow(tmp_path: Path, target: Path, capsys, kind: tables.TableKind, packed: bool) -> None:
    image = make_image(tmp_path / "card.img", kind)
    if packed:
        subprocess.run(["gzip", image], check=True)
        image = tmp_path / "card.img.gz"
    code, answer = run(capsys, "flash", image, target, "--yes", "--grow")
    assert code == 0, answer
    found = answer["data"]["devices"][0]
    assert found["state"] == "verified"
    (partition,) = table_of(target)["partitions"]
    assert partition["start"] * 512 == 4 * MIB
    assert partition["size"] * 512 == found["grown_to_bytes"] > 59 * MIB
    inner = tmp_path / "grown"
    with (tmp_path / "disk").open("rb") as disk:
        disk.seek(4 * MIB)
        inner.write_bytes(disk.read(found["grown_to_bytes"]))
    subprocess.run(["e2fsck", "-f", "-n", inner], check=True, capture_output=True)
    said = subprocess.run(["dumpe2fs", "-h", inner], check=True, capture_output=True, text=True)
    facts = dict(line.split(":", 1) for line in said.stdout.splitlines() if ":" in line)
    size = int(facts["Block count"]) * int(facts["Block size"])
    assert found["grown_to_bytes"] - size < 8192
    text = subprocess.run(["debugfs", "-R", "cat hello", inner], capture_output=True, check=True)
    assert text.stdout == b"from the image\n"
    code, answer = run(capsys, "verify", image, target)
    assert code == 1
    assert "was grown" in json.dumps(answer)


def test_what_cannot_grow_is_refused_first(tmp_path: Path, target: Path, capsys) -> None:
    image = make_image(tmp_path / "card.img", tables.TableKind.MBR, filesystem=False)
    before = (tmp_path / "disk").read_bytes()
    code, answer = run(capsys, "flash", image, target, "--yes", "--grow")
    assert (code, "holds no ext2" in answer["error"]["message"]) == (2, True)
    with image.open("r+b") as file:
        file.write(bytes(512))
    code, answer = run(capsys, "flash", image, target, "--yes", "--grow")
    assert (code, "no partition table" in answer["error"]["message"]) == (2, True)
    with image.open("r+b") as file:
        file.write(make_image(tmp_path / "b.img", tables.TableKind.MBR).read_bytes()[:512])
        file.seek(446 + 4)
        file.write(b"\x0f")
    code, answer = run(capsys, "flash", image, target, "--yes", "--grow")
    assert (code, "is a logical one" in answer["error"]["message"]) == (2, True)
    code, answer = run(capsys, "flash", image, target, "--yes", "--grow", "--exact")
    assert (code, "contradict" in answer["error"]["message"]) == (2, True)
    code, answer = run(capsys, "flash", "odroid-xu3", target, "--yes", "--grow")
    assert (code, "belongs to an image" in answer["error"]["message"]) == (2, True)
    assert (tmp_path / "disk").read_bytes() == before


def test_a_damaged_file_system_never_becomes_a_card(tmp_path: Path, target: Path, capsys) -> None:
    image = make_image(tmp_path / "card.img", tables.TableKind.MBR)
    with image.open("r+b") as file:
        file.seek(4 * MIB + 4096)
        file.write(b"\xa5" * 65536)  # group descriptors, bitmaps, inodes
    code, answer = run(capsys, "flash", image, target, "--yes", "--grow")
    assert code == 2
    assert "file system is damaged" in answer["error"]["message"]
    assert not has_table(tmp_path / "disk")


def test_a_failing_growth_leaves_no_table(
    tmp_path: Path, target: Path, capsys, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make_image(tmp_path / "card.img", tables.TableKind.MBR)
    real = process.run

    def failing(argv, **options):
        if argv[0] == "resize2fs":
            raise TargetError("resize2fs failed")
        return real(argv, **options)

    with monkeypatch.context() as patch:
        patch.setattr(process, "run", failing)
        code, answer = run(capsys, "flash", image, target, "--yes", "--grow")
    assert code == 4
    assert not has_table(tmp_path / "disk")
    assert "flash it again" in answer["error"]["message"] + (answer["error"]["hint"] or "")
    # Nothing of the loop devices is left, and the card can be flashed again.
    assert run(capsys, "flash", image, target, "--yes", "--resume")[0] == 2
    assert run(capsys, "flash", image, target, "--yes", "--grow")[0] == 0


@pytest.mark.parametrize("kind", tables.TableKind)
def test_a_table_of_512_byte_sectors_is_refused_on_4096(
    tmp_path: Path, capsys, monkeypatch, kind: tables.TableKind
) -> None:
    guard.install()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    image = make_image(tmp_path / "card.img", kind)
    with loop(tmp_path / "disk", size=DEVICE, sector=4096) as device:
        code, answer = run(capsys, "flash", image, device, "--yes")
        assert code == 2
        assert "sectors of 512" in answer["error"]["message"]
        code, answer = run(capsys, "flash", "odroid-xu3", device, "--yes")
        assert (code, "sectors of 4096" in answer["error"]["message"]) == (2, True)
    assert not any((tmp_path / "disk").read_bytes())
