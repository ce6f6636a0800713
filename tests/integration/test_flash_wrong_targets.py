"""What flash must never write to, on real devices. The guard would stop it, were it to try."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from support import guard, locks
from support.flash_cards import MIB, Card, make_card
from support.loops import LOOPS, loop, partitions

from embedkit import cli
from embedkit.media import blockdev

pytestmark = pytest.mark.needs("root", "loop")

SIZE = 64 * MIB


@pytest.fixture(scope="module", autouse=True)
def _guarded() -> None:
    guard.install()


@pytest.fixture(scope="module")
def card(tmp_path_factory: pytest.TempPathFactory) -> Card:
    return make_card(tmp_path_factory.mktemp("card") / "card.img", ranges=((MIB, MIB),))


@pytest.fixture(params=[512, 4096], ids=["512", "4Kn"])
def sector(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as opened:
        yield opened


def refused(card: Card | Path, target: object, capsys, *words: str, code: int = 2) -> str:
    """Flashing ``target`` fails before anything is written; the message of the error."""
    image = card.path if isinstance(card, Card) else card
    assert cli.main(["flash", str(image), str(target), *words, "--yes", "--json"]) == code
    error = json.loads(capsys.readouterr().out)["error"]
    return f"{error['message']} ({error['where']}) {error['hint']}"


def run(*argv: object) -> str:
    words = [str(word) for word in argv]
    return subprocess.run(words, check=True, capture_output=True, text=True).stdout


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def system_disk() -> Path:
    """The whole disk under ``/``."""
    number = Path("/").stat().st_dev
    folder = Path(f"/sys/dev/block/{os.major(number)}:{os.minor(number)}")
    if not folder.exists():
        pytest.skip("the root file system here is not on a disk")
    folder = folder.resolve()
    while slaves := list((folder / "slaves").iterdir()) if (folder / "slaves").is_dir() else []:
        folder = slaves[0].resolve()
    return Path("/dev") / (folder.parent if (folder / "partition").exists() else folder).name


def test_the_guard_works() -> None:
    with pytest.raises(guard.DangerousOpen):
        os.open(system_disk(), os.O_RDWR)


class TestTheSystemDisk:
    def test_itself(self, card: Card, capsys) -> None:
        assert "holds the running system (/ is on" in refused(card, system_disk(), capsys)

    def test_by_symlink(self, card: Card, tmp_path: Path, capsys) -> None:
        link = tmp_path / "card-reader"
        link.symlink_to(system_disk())
        assert "holds the running system" in refused(card, link, capsys)

    def test_by_symlinks_to_symlinks(self, card: Card, tmp_path: Path, capsys) -> None:
        (tmp_path / "a").symlink_to(system_disk())
        (tmp_path / "b").symlink_to("a")
        assert "holds the running system" in refused(card, tmp_path / "b", capsys)

    def test_by_another_device_node(self, card: Card, tmp_path: Path, capsys) -> None:
        node = tmp_path / "innocent"
        os.mknod(node, stat.S_IFBLK | 0o600, system_disk().stat().st_rdev)
        assert "holds the running system" in refused(card, node, capsys)

    def test_by_a_path_with_dots(self, card: Card, capsys) -> None:
        path = f"/dev/../dev/./{system_disk().name}"
        assert "holds the running system" in refused(card, path, capsys)

    def test_with_every_option_that_allows_something(self, card: Card, capsys) -> None:
        words = ("--accept-suspicious", "--unmount", "--no-verify")
        assert "holds the running system" in refused(card, system_disk(), capsys, *words)

    def test_even_a_dry_run(self, card: Card, capsys) -> None:
        assert "holds the running system" in refused(card, system_disk(), capsys, "--dry-run")

    def test_with_resume(self, card: Card, capsys) -> None:
        assert "holds the running system" in refused(card, system_disk(), capsys, "--resume")

    def test_beside_a_good_device(self, card: Card, tmp_path: Path, stack, capsys) -> None:
        good = stack.enter_context(loop(tmp_path / "good", size=SIZE))
        before = digest(tmp_path / "good")
        assert "holds the running system" in refused(card, good, capsys, str(system_disk()))
        assert digest(tmp_path / "good") == before


class TestNotADevice:
    @pytest.mark.parametrize(
        "path", ["/dev/null", "/dev/zero", "/dev/full", "/dev/tty", "/dev/random"]
    )
    def test_a_character_device(self, card: Card, path: str, capsys) -> None:
        assert "a character device" in refused(card, path, capsys)

    def test_a_folder(self, card: Card, tmp_path: Path, capsys) -> None:
        assert "a folder" in refused(card, tmp_path, capsys)

    def test_a_regular_file(self, card: Card, tmp_path: Path, capsys) -> None:
        file = tmp_path / "sdb"
        file.write_text("precious")
        assert "a regular file" in refused(card, file, capsys)
        assert file.read_text() == "precious"

    def test_a_pipe(self, card: Card, tmp_path: Path, capsys) -> None:
        os.mkfifo(tmp_path / "pipe")
        assert "a pipe" in refused(card, tmp_path / "pipe", capsys)

    def test_a_socket(self, card: Card, tmp_path: Path, capsys, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        with socket.socket(socket.AF_UNIX) as sock:
            sock.bind("socket")
            assert "a socket" in refused(card, tmp_path / "socket", capsys)

    @pytest.mark.parametrize("path", ["/dev/sdzzz", "/dev/no/such/disk", "/nowhere/sdb"])
    def test_nothing_there(self, card: Card, path: str, capsys) -> None:
        assert "no such device" in refused(card, path, capsys)
        assert not Path(path).exists(), "a mistyped name must not become a file"

    def test_a_dangling_symlink(self, card: Card, tmp_path: Path, capsys) -> None:
        (tmp_path / "link").symlink_to("/dev/sdzzz")
        assert "no such device" in refused(card, tmp_path / "link", capsys)
        assert not Path("/dev/sdzzz").exists()

    def test_a_bare_name(self, card: Card, tmp_path: Path, stack, capsys, monkeypatch) -> None:
        monkeypatch.chdir(tmp_path)
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE))
        assert f"did you mean {device}" in refused(card, device.name, capsys)


def _ext4(device: Path) -> None:
    run("mkfs.ext4", "-q", "-F", device)


class TestInUse:
    def test_mounted(self, card: Card, tmp_path: Path, stack, sector: int, capsys) -> None:
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE, sector=sector))
        _ext4(device)
        (tmp_path / "mnt").mkdir()
        run("mount", device, tmp_path / "mnt")
        stack.callback(run, "umount", tmp_path / "mnt")
        (tmp_path / "mnt" / "precious").write_text("data")
        message = refused(card, device, capsys)
        assert f"mounted: {device.name} at {tmp_path}/mnt" in message
        assert "--unmount" in message
        assert (tmp_path / "mnt" / "precious").read_text() == "data"

    def test_a_mounted_partition(self, card: Card, tmp_path: Path, stack, capsys) -> None:
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE))
        subprocess.run(["sfdisk", "-q", device], input=b",,L\n", check=True, capture_output=True)
        stack.enter_context(partitions(device))
        part = Path(f"{device}p1")
        _ext4(part)
        (tmp_path / "mnt").mkdir()
        run("mount", part, tmp_path / "mnt")
        stack.callback(run, "umount", tmp_path / "mnt")
        assert f"mounted: {part.name} at" in refused(card, device, capsys)
        assert f"a partition of {device}" in refused(card, part, capsys)

    def test_an_unmounted_partition(self, card: Card, tmp_path: Path, stack, capsys) -> None:
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE))
        subprocess.run(["sfdisk", "-q", device], input=b",,L\n", check=True, capture_output=True)
        stack.enter_context(partitions(device))
        message = refused(card, f"{device}p1", capsys)
        assert f"a partition of {device}" in message
        assert f"the whole device is {device}" in message

    def test_swap(self, card: Card, tmp_path: Path, stack, capsys) -> None:
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE))
        run("mkswap", device)
        if subprocess.run(["swapon", device], check=False, capture_output=True).returncode:
            pytest.skip("this kernel swaps to no loop device")
        stack.callback(run, "swapoff", device)
        assert "swap space" in refused(card, device, capsys, "--accept-suspicious")

    def test_held_exclusively(self, card: Card, tmp_path: Path, stack, sector, capsys) -> None:
        """What ZFS, dm and others do; /sys need not show it."""
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE, sector=sector))
        before = digest(tmp_path / "disk")
        holder = os.open(device, os.O_RDWR | os.O_EXCL)
        stack.callback(os.close, holder)
        assert "the device is in use" in refused(card, device, capsys)
        assert digest(tmp_path / "disk") == before

    def test_locked(self, card: Card, tmp_path: Path, stack, capsys, monkeypatch) -> None:
        monkeypatch.setattr(blockdev, "_LOCK_SECONDS", 0.1)
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE))
        holder = os.open(device, os.O_RDONLY)
        stack.callback(os.close, holder)
        fcntl.flock(holder, fcntl.LOCK_EX)
        assert "another program holds a lock" in refused(card, device, capsys)

    def test_the_same_device_twice(self, card: Card, tmp_path: Path, stack, capsys) -> None:
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE))
        (tmp_path / "link").symlink_to(device)
        assert "given twice" in refused(card, device, capsys, str(tmp_path / "link"))

    def test_a_loop_over_the_image(self, card: Card, stack, capsys) -> None:
        before = digest(card.path)
        device = stack.enter_context(loop(card.path))
        assert "a loop over the image itself" in refused(card, device, capsys)
        assert digest(card.path) == before


def _signature(offset: int, magic: bytes) -> Callable[[Path], None]:
    def write(path: Path) -> None:
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(magic)

    return write


class TestMembers:
    @pytest.mark.parametrize(
        ("write", "what"),
        [
            (_signature(512, b"LABELONE" + bytes(16) + b"LVM2 001"), "an LVM physical volume"),
            (_signature(4096, b"\xfc\x4e\x2b\xa9"), "a member of a RAID array"),
            (_signature(0, b"LUKS\xba\xbe\x00\x02"), "an encrypted (LUKS) volume"),
            (_signature(132 << 10, b"\x0c\xb1\xba\0\0\0\0\0"), "a member of a ZFS pool"),
            (_signature(4086, b"SWAPSPACE2"), "swap space"),
        ],
    )
    def test_an_idle_member(self, card, tmp_path, stack, sector, capsys, write, what) -> None:
        disk = tmp_path / "disk"
        device = stack.enter_context(loop(disk, size=SIZE, sector=sector))
        write(disk)
        before = digest(disk)
        message = refused(card, device, capsys)
        assert f"suspicious: it carries {what}" in message
        assert "--accept-suspicious" in message
        assert digest(disk) == before


class TestUnfit:
    def test_read_only(self, card: Card, tmp_path: Path, stack, sector, capsys) -> None:
        disk = tmp_path / "disk"
        disk.write_bytes(bytes(SIZE))
        device = stack.enter_context(loop(disk, sector=sector, read_only=True))
        assert "read-only" in refused(card, device, capsys)

    def test_set_read_only(self, card: Card, tmp_path: Path, stack, capsys) -> None:
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE))
        run("blockdev", "--setro", device)
        stack.callback(run, "blockdev", "--setrw", device)
        assert "read-only" in refused(card, device, capsys)

    def test_too_small(self, card: Card, tmp_path: Path, stack, sector, capsys) -> None:
        device = stack.enter_context(loop(tmp_path / "disk", size=40 * MIB, sector=sector))
        message = refused(card, device, capsys)
        assert f"the image has {48 * MIB} bytes, the device only {40 * MIB}" in message

    def test_smaller_than_the_head(self, tmp_path: Path, stack, capsys) -> None:
        (tmp_path / "tiny.img").write_bytes(b"x" * 4096)
        device = stack.enter_context(loop(tmp_path / "disk", size=512 << 10))
        assert "too small" in refused(tmp_path / "tiny.img", device, capsys)

    def test_no_medium(self, card: Card, capsys) -> None:
        with locks.held(LOOPS):
            free = run("losetup", "--find").strip()
            assert "no medium" in refused(card, free, capsys)

    def test_a_gpt_for_other_sectors(self, tmp_path: Path, stack, capsys) -> None:
        image = tmp_path / "gpt.img"
        image.write_bytes(bytes(8 * MIB))
        script = b"label: gpt\n,4M,L\n"
        subprocess.run(["sfdisk", "-q", image], input=script, check=True, capture_output=True)
        device = stack.enter_context(loop(tmp_path / "disk", size=SIZE, sector=4096))
        before = digest(tmp_path / "disk")
        message = refused(image, device, capsys)
        assert "counts sectors of 512 bytes, the device has sectors of 4096" in message
        assert digest(tmp_path / "disk") == before
