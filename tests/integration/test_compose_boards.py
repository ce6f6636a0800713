"""Composed cards of every board, read back by other people's programs. No root needed."""

from __future__ import annotations

import filecmp
import hashlib
import io
import json
import os
import random
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from support import cards
from support.founding import device_tree, noise, uimage

from embedkit import board
from embedkit.board.model import Board, Layout
from embedkit.cli import main

pytestmark = pytest.mark.needs(
    "program:mke2fs", "program:debugfs", "program:sfdisk", "program:mcopy", "program:mkfs.vfat"
)
EPOCH = "1700000000"
LAYOUTS = [
    pytest.param(name, layout.name, id=f"{name}-{layout.name}")
    for name in board.names()
    for layout in board.load(name).layouts
]


@pytest.fixture(autouse=True)
def _epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOURCE_DATE_EPOCH", EPOCH)


def rootfs_tar(path: Path) -> Path:
    """Owners, devices, capabilities, links, spaces, quotes, and 150 files, in a random order."""
    members: list[tuple[tarfile.TarInfo, bytes]] = []

    def add(name: str, content: bytes = b"", kind: bytes = tarfile.REGTYPE, **more: object) -> None:
        info = tarfile.TarInfo(name)
        info.type, info.size, info.mtime = kind, len(content), 1_600_000_000
        for key, value in more.items():
            setattr(info, key, value)
        members.append((info, content))

    for number in range(150):
        add(f"usr/lib/file{number}", noise(str(number), number * 301), mode=0o644, uid=number)
    add("zz first/target", b"data", mode=0o640, uid=70000, gid=80000)
    add("a link", kind=tarfile.LNKTYPE, linkname="zz first/target")
    add('etc/quo"te', b"q")
    add("sbin/init", kind=tarfile.SYMTYPE, linkname="../bin/busybox")
    add("dev/console", kind=tarfile.CHRTYPE, mode=0o600, devmajor=5, devminor=1)
    add("bin/ping", b"ping", mode=0o755, pax_headers={
        "SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x00\x20" + "\x00" * 14})  # fmt: skip
    add("tmp", kind=tarfile.DIRTYPE, mode=0o1777)
    random.Random(path.name).shuffle(members)
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in sorted(members, key=lambda item: item[0].islnk()):
            tar.addfile(info, io.BytesIO(content))
    return path


def fill(folder: Path, found: Board, layout: Layout) -> Path:
    """Artifacts of fitting kinds and plausible sizes for a layout."""
    folder.mkdir(exist_ok=True)
    for blob in layout.blobs:
        content = noise(blob.name, min(blob.room or 300_000, 300_000) - 512)
        if blob.kind == "uimage":
            content = uimage(content[:100_000])
        elif blob.kind == "dtb":
            content = device_tree(20_000)
        elif blob.kind == "fit":
            content = device_tree(4096).replace(b"\0\0\0\1\0\0\0\0", b"\0\0\0\1images\0", 1)
        if blob.holes:
            content = noise(blob.name, 49_664)
        (folder / blob.images[0]).write_bytes(content)
    for partition in layout.partitions:
        if not partition.filesystem:
            (folder / partition.images[0]).write_bytes(noise(partition.name, 200_000))
        for name in partition.files:
            (folder / name).write_bytes(noise(name, 50_000))
        if partition.files and not any("*" in name for name in partition.files):
            (folder / "extlinux").mkdir(exist_ok=True)
            (folder / "extlinux" / "extlinux.conf").write_bytes(b"timeout 1\n")
    rootfs_tar(folder / "rootfs.tar")
    return folder


def compose(*words: str | Path) -> int:
    return main(["compose", *map(str, words), "--quiet"])


@pytest.mark.parametrize(("name", "layout_name"), LAYOUTS)
def test_every_layout_composes(name: str, layout_name: str, tmp_path: Path) -> None:
    found = board.load(name)
    layout = board.find_layout(found, layout_name)
    folder = fill(tmp_path / "artifacts", found, layout)
    image = tmp_path / "card.img"
    assert compose(name, "--layout", layout_name, "--artifacts", folder, "-o", image) == 0
    manifest = json.loads((tmp_path / "card.img.json").read_text())
    assert image.stat().st_size == manifest["card"]["bytes"]
    for extent in manifest["extents"]:
        if "file" in extent:
            source = next(path for path in folder.rglob(extent["file"])).read_bytes()
            wanted = source[extent["skip"] : extent["skip"] + extent["length"]]
            assert cards.read_at(image, extent["first_byte"], extent["length"]) == wanted
    if layout.table == "none":
        return
    entries = cards.partition_entries(image)
    for partition, entry in zip(layout.partitions, entries, strict=True):
        if partition.offset is not None:
            assert entry["start"] == partition.offset // 512
        if partition.size is not None:
            assert entry["size"] == partition.size // 512
        if layout.table == "gpt":
            assert entry["name"] == partition.name
            assert str(entry["type"]).lower() == partition.type
            assert ("LegacyBIOSBootable" in str(entry.get("attrs"))) == partition.bootable
        else:
            assert int(str(entry["type"]), 16) == int(partition.type, 16)
            assert bool(entry.get("bootable")) == partition.bootable
        if partition.filesystem == "ext4":
            place = int(str(entry["start"])), int(str(entry["size"]))
            part = cards.cut_out(image, *place, tmp_path / "part")
            assert cards.is_clean(part)


@pytest.fixture(scope="module")
def bone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A card with both kinds of file systems."""
    folder = tmp_path_factory.mktemp("bone")
    found = board.load("beaglebone-black")
    fill(folder / "artifacts", found, found.default_layout)
    os.environ["SOURCE_DATE_EPOCH"] = EPOCH
    arguments = ["beaglebone-black", "--artifacts", folder / "artifacts"]
    assert compose(*arguments, "-o", folder / "card.img") == 0
    return folder


def test_the_tar_s_owners_devices_and_capabilities(bone: Path, tmp_path: Path) -> None:
    entry = cards.partition_entries(bone / "card.img")[1]
    place = int(str(entry["start"])), int(str(entry["size"]))
    part = cards.cut_out(bone / "card.img", *place, tmp_path / "part")
    listing = cards.listing(part, tmp_path / "dump")
    assert listing["zz first/target"][:3] == ("0o100640", 70000, 80000)
    assert listing["a link"] == listing["zz first/target"]
    assert listing["dev/console"][0] == "0o20600" and "05:01" in str(listing["dev/console"][3])
    assert listing["tmp"][0] == "0o41777"
    assert listing["sbin/init"][3] == "../bin/busybox"
    assert listing["usr/lib/file149"][1] == 149
    assert 'etc/quo"te' in listing
    assert len(listing) == 150 + 7 + len(
        ["bin", "dev", "etc", "sbin", "usr", "usr/lib", "zz first"]
    )
    xattr = subprocess.run(
        ["debugfs", "-R", "ea_get -x /bin/ping security.capability", part],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    assert "01 00 00 02 00 20" in xattr
    times = subprocess.run(
        ["debugfs", "-R", "stat /bin/ping", part], check=True, capture_output=True, text=True
    ).stdout
    assert times.count(f"0x{1_600_000_000:08x}") >= 3


def test_fat_holds_the_files(bone: Path, tmp_path: Path) -> None:
    listed = subprocess.run(
        ["mdir", "-b", "-/", "-i", f"{bone / 'card.img'}@@1M", "::"],
        check=True, capture_output=True, text=True,
    ).stdout.split()  # fmt: skip
    assert set(listed) == {"::/MLO", "::/u-boot.img", "::/extlinux/", "::/extlinux/extlinux.conf"}
    copied = tmp_path / "MLO"
    subprocess.run(["mcopy", "-i", f"{bone / 'card.img'}@@1M", "::/MLO", copied], check=True)
    assert copied.read_bytes() == (bone / "artifacts" / "MLO").read_bytes()


def test_same_inputs_same_bytes(
    bone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another folder, other times of files, another zone, another order in the tar."""
    again = tmp_path / "artifacts"
    shutil.copytree(bone / "artifacts", again)
    rootfs_tar(tmp_path / "other order.tar").rename(again / "rootfs.tar")
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    assert compose("beaglebone-black", "--artifacts", again, "-o", tmp_path / "card.img") == 0
    assert filecmp.cmp(bone / "card.img", tmp_path / "card.img", shallow=False)
    assert filecmp.cmp(bone / "card.img.bmap", tmp_path / "card.img.bmap", shallow=False)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """A board whose card has nothing but 12 MiB of ext4."""
    path = tmp_path / "small.toml"
    path.write_text(
        'title = "x"\narch = "arm"\n[layouts.sd]\n[layouts.sd.partitions.root]\noffset = "1MiB"\n'
        'size = "12MiB"\nfilesystem = "ext4"\nimage = "rootfs.tar"\n'
    )
    return path


@pytest.mark.parametrize(("suffix", "program"), [(".zst", "zstd"), (".gz", "gzip"), (".xz", "xz")])
def test_compressed_images(small: Path, tmp_path: Path, suffix: str, program: str) -> None:
    tar, out = rootfs_tar(tmp_path / "rootfs.tar"), tmp_path / "out"
    out.mkdir()
    packed = out / f"card.img{suffix}"
    assert compose(small, "--blob", f"root={tar}", "-o", tmp_path / "card.img") == 0
    assert compose(small, "--blob", f"root={tar}", "-o", packed) == 0
    first = packed.read_bytes()
    unpacked = subprocess.run([program, "-dc", packed], check=True, capture_output=True).stdout
    assert unpacked == (tmp_path / "card.img").read_bytes()
    assert filecmp.cmp(tmp_path / "card.img.bmap", out / "card.img.bmap", shallow=False)
    # Once more, over what is there: the same bytes, and nothing beside them.
    assert compose(small, "--blob", f"root={tar}", "-o", packed) == 0
    assert packed.read_bytes() == first
    names = sorted(path.name for path in out.iterdir())
    assert names == sorted([packed.name, "card.img.bmap", "card.img.json"])


def ext4_image(path: Path, *debugfs: str) -> Path:
    subprocess.run(["mke2fs", "-q", "-t", "ext4", path, "6M"], check=True, capture_output=True)
    for command in debugfs:
        subprocess.run(["debugfs", "-w", "-R", command, path], check=True, capture_output=True)
    return path


def test_an_image_that_was_mounted_is_grown(small: Path, tmp_path: Path) -> None:
    """resize2fs alone refuses it: last mounted after it was last checked, and not unmounted."""
    image = ext4_image(
        tmp_path / "used.ext4", "ssv mtime 20300101", "ssv mnt_count 3", "ssv state 0"
    )
    refused = subprocess.run(["resize2fs", image, "8M"], check=False, capture_output=True)
    assert refused.returncode != 0
    assert compose(small, "--blob", f"root={image}", "-o", tmp_path / "card.img") == 0
    part = cards.cut_out(tmp_path / "card.img", 2048, 24576, tmp_path / "part")
    assert cards.is_clean(part)
    facts = cards.facts(part)
    assert int(facts["Block count"]) * int(facts["Block size"]) == 12 << 20


def test_a_damaged_image_is_refused(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = ext4_image(tmp_path / "bad.ext4", "clri <2>")
    assert compose(small, "--blob", f"root={image}", "-o", tmp_path / "card.img") == 2
    assert "the file system is damaged" in capsys.readouterr().err
    assert not (tmp_path / "card.img").exists()


@pytest.mark.needs("program:bmaptool")
def test_bmaptool_over_a_used_card(bone: Path, tmp_path: Path) -> None:
    """Somebody else's program, our block map, a card full of old content: nothing shines through
    where a file system would look."""
    size = (bone / "card.img").stat().st_size
    target = tmp_path / "card"
    target.write_bytes(b"\xa5" * size)
    subprocess.run(
        ["bmaptool", "copy", "--bmap", bone / "card.img.bmap", bone / "card.img", target],
        check=True, capture_output=True,
    )  # fmt: skip
    assert cards.read_at(target, 0, 1 << 20) == cards.read_at(bone / "card.img", 0, 1 << 20)
    entry = cards.partition_entries(target)[1]
    place = int(str(entry["start"])), int(str(entry["size"]))
    ours = cards.cut_out(bone / "card.img", *place, tmp_path / "ours")
    theirs = cards.cut_out(target, *place, tmp_path / "theirs")
    assert cards.is_clean(theirs)
    assert cards.listing(theirs, tmp_path / "a") == cards.listing(ours, tmp_path / "b")
    # The journal must not hold old blocks: all of it is zeros behind its superblock.
    for part in (ours, theirs):
        subprocess.run(["debugfs", "-R", f"dump <8> {part}.journal", part], check=True,
                       capture_output=True)  # fmt: skip
        journal = Path(f"{part}.journal").read_bytes()
        assert journal[:4] == b"\xc0\x3b\x39\x98" and not any(journal[4096:])
    for name in ("MLO", "extlinux/extlinux.conf"):
        subprocess.run(["mcopy", "-i", f"{target}@@1M", f"::/{name}", tmp_path / "f"], check=True)
        assert (tmp_path / "f").read_bytes() == (bone / "artifacts" / name).read_bytes()
        (tmp_path / "f").unlink()


@pytest.mark.needs("program:mksquashfs", "program:sqfstar", "program:unsquashfs")
@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_squashfs(tmp_path: Path, kind: str) -> None:
    (tmp_path / "board.toml").write_text(
        'title = "x"\narch = "arm"\n[layouts.sd]\n[layouts.sd.partitions.root]\noffset = "1MiB"\n'
        'size = "4MiB"\nfilesystem = "squashfs"\n'
    )
    content = rootfs_tar(tmp_path / "root.tar")
    if kind == "folder":
        content = tmp_path / "tree"
        (content / "etc").mkdir(parents=True)
        (content / "etc" / "motd").write_text("hello")
    images = []
    for name in ("one.img", "two.img"):
        images.append(tmp_path / name)
        words = ["--blob", f"root={content}", "-o", images[-1]]
        assert compose(tmp_path / "board.toml", *words) == 0
    assert filecmp.cmp(*images, shallow=False)
    listed = subprocess.run(
        ["unsquashfs", "-lln", "-o", str(1 << 20), images[0]],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    wanted = "squashfs-root/etc/motd" if kind == "folder" else "70000/80000"
    assert wanted in listed


def test_failures_leave_nothing(
    bone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tar that is cut short, a card too small for the content, an unusable target."""
    artifacts = tmp_path / "artifacts"
    shutil.copytree(bone / "artifacts", artifacts)
    whole = (artifacts / "rootfs.tar").read_bytes()
    (artifacts / "rootfs.tar").write_bytes(whole[: len(whole) // 2])
    out = tmp_path / "out"
    out.mkdir()
    (out / "card.img").write_bytes(b"the old one")
    arguments = ["beaglebone-black", "--artifacts", artifacts, "-o", out / "card.img"]
    assert compose(*arguments) == 2
    assert "not a readable tar archive" in capsys.readouterr().err
    (artifacts / "rootfs.tar").write_bytes(whole)
    assert compose(*arguments, "--size", "66MiB") == 2
    assert "needs" in capsys.readouterr().err
    assert compose(*arguments[:-1], out) == 2
    assert compose(*arguments[:-1], artifacts / "rootfs.tar") == 2
    assert compose(*arguments[:-1], "/dev/null") == 2
    assert "embedkit flash" in capsys.readouterr().err
    assert [path.name for path in out.iterdir()] == ["card.img"]
    assert (out / "card.img").read_bytes() == b"the old one"


@pytest.mark.needs("program:prlimit")
def test_a_disk_that_fills_up(bone: Path, tmp_path: Path) -> None:
    """Files may not grow past 4 MB: exit 3, the reason, and nothing left behind."""
    ended = subprocess.run(
        ["prlimit", "--fsize=4000000", sys.executable, "-m", "embedkit.cli", "compose",
         "beaglebone-black", "--artifacts", bone / "artifacts", "-o", tmp_path / "card.img"],
        check=False, capture_output=True, text=True,
    )  # fmt: skip
    assert ended.returncode == 3, ended.stderr
    assert "File too large" in ended.stderr
    assert list(tmp_path.iterdir()) == []


def test_content_larger_than_the_partition(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "board.toml").write_text(
        'title = "x"\narch = "arm"\n[layouts.sd]\n[layouts.sd.partitions.root]\noffset = "1MiB"\n'
        'size = "8MiB"\nfilesystem = "ext4"\n'
    )
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "big").write_bytes(noise("big", 9 << 20))
    words = ["--blob", f"root={tmp_path / 'tree'}", "-o", tmp_path / "card.img"]
    assert compose(tmp_path / "board.toml", *words) == 2
    assert "does not fit into the partition's 8388608 bytes" in capsys.readouterr().err
    assert not (tmp_path / "card.img").exists()


def test_dry_run_writes_nothing(
    bone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "card.img"
    words = ["beaglebone-black", "--artifacts", bone / "artifacts", "-o", image, "--dry-run"]
    assert compose(*words) == 0
    assert "partition 2 (rootfs): ext4, filled from rootfs.tar" in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []
    assert compose(*words, "--json") == 0
    data = json.loads(capsys.readouterr().out)["data"]
    assert {"partition table", "partition 1 (boot)"} <= {item["name"] for item in data["regions"]}
    assert data["image"] is None


def test_json_names_what_was_written(
    bone: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = tmp_path / "card.img.gz"
    words = ["beaglebone-black", "--artifacts", bone / "artifacts", "-o", image, "--json"]
    assert compose(*words) == 0
    made = json.loads(capsys.readouterr().out)["data"]["image"]
    assert made["path"] == str(image) and made["bytes"] == image.stat().st_size
    assert made["sha256"] == hashlib.sha256(image.read_bytes()).hexdigest()
    manifest = json.loads(Path(made["manifest"]).read_text())
    assert manifest["image"]["sha256"] == made["sha256"]
    assert Path(made["block_map"]).exists()
