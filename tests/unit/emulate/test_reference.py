"""A reference board, assembled from packages made for it: what is in it, cached, interrupted."""

from __future__ import annotations

import errno
import gzip
import os
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from support import debs

from embedkit.emulate import initramfs, reference, system
from embedkit.emulate.packages import Folder, NotThere, Package
from embedkit.emulate.reference import Reference, assemble
from embedkit.errors import InputError, LackError
from embedkit.progress import NullProgress, Progress

pytestmark = pytest.mark.needs("program:dpkg-deb", "program:dpkg")
KEY = "ssh-ed25519 AAAA embedkit"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return debs.whole_folder(tmp_path_factory.mktemp("debian"))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "embedkit" / "reference"


def made(folder: Path, kind: str = "arm", key: str = KEY) -> Reference:
    return assemble(kind, debs=folder, authorized_key=key, progress=NullProgress())


def entries(cache: Path) -> list[str]:
    return sorted(path.name.partition("-")[0] for path in cache.iterdir() if path.is_dir())


def test_what_a_machine_and_compose_are_given(folder: Path) -> None:
    board = made(folder)
    assert (board.kind, board.board, board.arch) == ("arm", "qemu-arm-virt", "armhf")
    assert board.kernel is not None and board.kernel.read_bytes() == b"kernel"
    assert board.kernel.parent == board.folder and board.initrd is not None
    assert board.arguments.startswith("console=ttyAMA0 root=/dev/vda1 ")
    assert board.config.read_bytes() == b"CONFIG_NET=y\n"
    assert board.busybox.read_bytes() == debs.busybox() and os.access(board.busybox, os.X_OK)
    assert {path.name for path in board.bundle.iterdir()} == {
        "docker", "dockerd", "docker-proxy", "docker-init", "containerd",
        "containerd-shim-runc-v2", "ctr", "runc",
    }  # fmt: skip
    assert ("libdev1", "1.0-1") in board.packages and len(board.packages) == 12


def test_the_root_file_system(folder: Path) -> None:
    with tarfile.open(made(folder).folder / "rootfs.tar") as tar:
        members = {member.name: member for member in tar}
        assert len(members) == len(tar.getnames())

        def text(name: str) -> str:
            file = tar.extractfile(name)
            assert file is not None
            return file.read().decode()

        assert text("root/.ssh/authorized_keys") == f"{KEY}\n"
        assert text("etc/ssl/certs/ca-certificates.crt") == "CERT A\nCERT B\n"
        assert "ttyAMA0::respawn:/sbin/getty -L ttyAMA0 115200 vt100\n" in text("etc/inittab")
        assert text("etc/hostname") == "qemu-arm-virt\n"
        dep = text("usr/lib/modules/6.1.0-9-armmp/modules.dep")
    assert "kernel/net/bridge/br_netfilter.ko: kernel/drivers/odd/stp.ko\n" in dep
    assert "kernel/fs/ext4/ext4.ko: kernel/fs/jbd2/jbd2.ko\n" in dep and "drm" not in dep
    assert {(one.uid, one.gid, one.mtime) for one in members.values()} == {(0, 0, 1_700_000_000)}
    modes = {name: members[name].mode for name in ("tmp", "root", "etc/shadow", "usr/bin/busybox")}
    assert modes == {"tmp": 0o1777, "root": 0o700, "etc/shadow": 0o600, "usr/bin/busybox": 0o755}
    assert members["dev/console"].ischr() and members["dev/console"].devmajor == 5
    links = {name: one.linkname for name, one in members.items() if one.issym()}
    assert links["sbin"] == "usr/bin" and links["usr/bin/init"] == links["usr/bin/sh"] == "busybox"
    assert links["usr/bin/iptables"] == links["usr/bin/iptables-legacy"] == "xtables-legacy-multi"
    assert links["usr/bin/ip6tables-save"] == "xtables-legacy-multi"
    libraries = {name.rpartition("/")[2] for name in members if ".so" in name}
    assert libraries == {
        "libc.so.6", "ld-linux-armhf.so.3", "libgcc_s.so.1", "libdev.so.1", "libxt_nat.so",
    }  # fmt: skip
    # A folder before what is in it, and never through a link.
    seen: set[str] = set()
    for name in members:
        above = name.rpartition("/")[0]
        assert not above or (above in seen and members[above].isdir()), name
        seen.add(name)


def test_the_same_packages_give_the_same_bytes(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = made(folder)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "other"))
    second = made(folder)
    assert first.folder != second.folder
    for name in ("rootfs.tar", "initrd.gz", "zImage"):
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes()


def test_a_card_that_boots_by_itself(folder: Path) -> None:
    board = made(folder, "orangepi-pc")
    assert board.kernel is None and board.initrd is None
    assert (board.folder / "u-boot-sunxi-with-spl.bin").read_bytes() == b"spl"
    with tarfile.open(board.folder / "rootfs.tar") as tar:
        config = tar.extractfile("boot/extlinux/extlinux.conf")
        assert config is not None
        lines = dict(line.split(None, 1) for line in config.read().decode().splitlines())
        assert lines["append"] == board.arguments and "root=/dev/mmcblk0p1" in board.arguments
        for key in ("kernel", "initrd", "fdt"):
            assert tar.getmember(lines[key].lstrip("/")).size > 0


def test_it_is_made_once(folder: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    first = made(folder)
    monkeypatch.setattr(reference, "unpack", lambda *_: pytest.fail("unpacked again"))
    assert made(folder) == first
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache.parents[1]))
    assert made(folder, key="ssh-ed25519 BBBB other").folder != first.folder


def test_what_went_out_of_use_is_removed(folder: Path, cache: Path) -> None:
    old = made(folder).folder.parent
    fresh = made(folder, key="ssh-ed25519 BBBB other").folder.parent
    made(folder, "orangepi-pc")
    left = cache / f".{old.name}.part"
    left.mkdir()
    os.utime(old, (time.time() - 90_000,) * 2)
    made(folder, key="ssh-ed25519 CCCC third")
    assert not old.exists() and not left.exists() and fresh.exists()
    assert entries(cache) == ["arm", "arm", "orangepi"]


def test_two_at_once_make_one(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unpacked: list[Path] = []
    real = reference.unpack

    def counted(deb: Path, where: Path) -> None:
        unpacked.append(deb)
        real(deb, where)

    monkeypatch.setattr(reference, "unpack", counted)
    found: list[Reference] = []
    threads = [threading.Thread(target=lambda: found.append(made(folder))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 3 and len(set(found)) == 1 and len(unpacked) == 12
    assert entries(cache) == ["arm"]


@pytest.fixture(params=["interrupted", "full", "damaged"])
def broken(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    errors: dict[str, tuple[BaseException, type[BaseException]]] = {
        "interrupted": (KeyboardInterrupt(), KeyboardInterrupt),
        "full": (OSError(errno.ENOSPC, "No space left on device"), LackError),
        "damaged": (InputError("is damaged"), InputError),
    }
    raised, expected = errors[request.param]

    def fails(*_: object, **__: object) -> None:
        raise raised

    monkeypatch.setattr(system, "write_system", fails)
    yield expected


def test_half_a_board_is_never_left(folder: Path, cache: Path, broken: type[BaseException]) -> None:
    with pytest.raises(broken):
        made(folder)
    assert entries(cache) == []


def test_what_the_packages_lack_is_told(tmp_path: Path) -> None:
    folder = debs.whole_folder(tmp_path / "debian")
    next(folder.glob("runc_*")).unlink()
    odd = debs.dynamic(("libc.so.6", "libodd.so.2", "libeven.so.4"), "/lib/ld-linux-armhf.so.3")
    debs.deb(tmp_path / "debian", "runc", {"usr/sbin/runc": odd}, version="2")
    with pytest.raises(InputError, match=r"lack the libraries libeven\.so\.4, libodd\.so\.2"):
        made(folder)


def test_old_lists_are_renewed_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Lists(Folder):
        """An archive whose lists are old, until they are renewed."""

        renewed = 0

        def __init__(self, *_: object, **__: object) -> None:
            super().__init__(folder, "armhf")

        def fetch(self, packages: Sequence[Package], progress: Progress) -> dict[str, Path]:
            if not Lists.renewed:
                raise NotThere("404")
            return super().fetch(packages, progress)

        def renew(self) -> bool:
            Lists.renewed += 1
            return Lists.renewed == 1

    monkeypatch.setattr(reference, "Apt", Lists)
    board = assemble("arm", authorized_key=KEY, progress=NullProgress())
    assert board.folder.is_dir() and Lists.renewed == 1


def test_an_unknown_kind(folder: Path) -> None:
    with pytest.raises(InputError, match="no reference board 'arm46'") as caught:
        made(folder, "arm46")
    assert caught.value.hint == "did you mean 'arm64' or 'arm'?"


def test_applets_are_busybox_s_own() -> None:
    assert system.applets(debs.busybox()) == debs.APPLETS
    with pytest.raises(InputError, match="has no getty, udhcpc"):
        lacking = [name for name in debs.APPLETS if name not in ("getty", "udhcpc")]
        system.applets(debs.busybox(lacking))
    with pytest.raises(InputError):
        system.applets(b"no table at all")


def test_the_initramfs() -> None:
    raw = gzip.decompress(initramfs.boot_archive(b"BUSYBOX", [("b.ko", b"1"), ("a.ko", b"22")]))
    found: dict[str, tuple[int, bytes]] = {}
    at = 0
    while True:
        assert raw[at : at + 6] == b"070701" and at % 4 == 0
        numbers = [int(raw[at + 6 + 8 * i : at + 14 + 8 * i], 16) for i in range(13)]
        name = raw[at + 110 : at + 110 + numbers[11] - 1].decode()
        start = (at + 110 + numbers[11] + 3) & ~3
        if name == "TRAILER!!!":
            break
        assert numbers[2:4] == [0, 0] and numbers[5] == 0, "root's, and of no time"
        found[name] = (numbers[1], raw[start : start + numbers[6]])
        at = (start + numbers[6] + 3) & ~3
    assert found["bin/busybox"] == (0o100755, b"BUSYBOX")
    assert found["lib/a.ko"] == (0o100644, b"22")
    assert found["lib/order"][1] == b"b.ko\na.ko\n"
    assert found["bin/switch_root"] == (0o120777, b"busybox")
    assert found["dev/console"][0] == 0o020600
    checked = subprocess.run(["sh", "-n"], input=found["init"][1], check=False)
    assert checked.returncode == 0


def test_scripts_are_plain_sh(folder: Path, tmp_path: Path) -> None:
    with tarfile.open(made(folder).folder / "rootfs.tar") as tar:
        scripts = [one for one in tar if one.name.startswith("etc/init.d/") and one.isreg()]
        assert len(scripts) == 5
        for one in [*scripts, tar.getmember("usr/share/udhcpc/default.script")]:
            file = tar.extractfile(one)
            assert file is not None and one.mode == 0o755
            subprocess.run(["sh", "-n"], input=file.read(), check=True)
