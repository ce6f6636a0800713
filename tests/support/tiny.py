"""A tiny Linux for emulated boards, from Debian packages alone: kernel, initramfs, rootfs.

BusyBox is PID 1; the kernel's modules for the disk are loaded by a small initramfs. Nothing
of the packages is run on this machine.
"""

from __future__ import annotations

import io
import re
import tarfile
from pathlib import Path

from support import debian
from support.cpio import Initramfs

_TIME = 1_700_000_000
# BusyBox's names that the start-up and the tests call.
APPLETS = (
    *("sh", "ash", "init", "getty", "login", "mount", "umount", "ls", "cat", "echo", "uname"),
    *("dmesg", "mkdir", "mknod", "ln", "cp", "mv", "rm", "sleep", "poweroff", "reboot", "halt"),
    *("sync", "df", "du", "id", "stat", "test", "true", "false", "grep", "sed", "head", "tail"),
    *("wc", "cut", "sort", "hostname", "ifconfig", "ip", "route", "udhcpc", "insmod", "lsmod"),
    *("switch_root", "sha256sum", "dd", "free", "ps", "kill", "vi"),
)


def busybox(arch: str) -> bytes:
    """Debian's static BusyBox."""
    return (debian.unpack("busybox-static", arch) / "bin" / "busybox").read_bytes()


def kernel_package(flavour: str, arch: str) -> Path:
    """The unpacked newest kernel of a flavour ("armmp")."""
    names = debian.search(rf"^linux-image-[0-9.]+-[0-9]+-{flavour}$", arch)
    newest = max(names, key=lambda name: [int(number) for number in re.findall(r"\d+", name)])
    return debian.unpack(newest, arch)


def module_files(package: Path, wanted: list[str]) -> list[Path]:
    """The .ko files of ``wanted`` and of all that they depend on, in loading order."""
    by_name = {path.stem.replace("-", "_"): path for path in package.rglob("*.ko")}
    ordered: list[Path] = []

    def visit(name: str) -> None:
        path = by_name.get(name.replace("-", "_"))
        if path is None or path in ordered:
            return  # built in, or loaded already
        for entry in re.findall(rb"\0?depends=([^\0]*)\0", path.read_bytes()):
            for dependency in entry.decode().split(","):
                if dependency:
                    visit(dependency)
        ordered.append(path)

    for name in wanted:
        visit(name)
    return ordered


def initramfs(arch: str, package: Path, modules: list[str], root: str) -> bytes:
    """An archive that loads ``modules``, waits for ``root`` and goes on there."""
    archive = Initramfs()
    for folder in ("bin", "dev", "proc", "sys", "root", "lib"):
        archive.folder(folder)
    archive.device("dev/console", 5, 1)
    archive.file("bin/busybox", busybox(arch), 0o755)
    for applet in ("sh", "mount", "insmod", "sleep", "switch_root", "echo"):
        archive.link(f"bin/{applet}", "busybox")
    files = module_files(package, modules)
    for path in files:
        archive.file(f"lib/{path.name}", path.read_bytes())
    loads = "\n".join(f"insmod /lib/{path.name}" for path in files)
    archive.file(
        "init",
        f"""#!/bin/sh
mount -t devtmpfs none /dev
mount -t proc none /proc
mount -t sysfs none /sys
{loads}
while [ ! -b {root} ]; do sleep 0.2; done
mount -o rw {root} /root || echo "initramfs: {root} cannot be mounted"
mount -o move /dev /root/dev
exec switch_root /root /sbin/init
""".encode(),
        0o755,
    )
    return archive.compressed()


class RootfsTar:
    """Writes a root file system as a tar with root's files, whoever runs the test."""

    def __init__(self, path: Path) -> None:
        self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def close(self) -> None:
        self._tar.close()

    def _info(self, path: str, kind: bytes, mode: int) -> tarfile.TarInfo:
        info = tarfile.TarInfo(path)
        info.type, info.mode, info.mtime = kind, mode, _TIME
        return info

    def folder(self, path: str, mode: int = 0o755) -> None:
        self._tar.addfile(self._info(path, tarfile.DIRTYPE, mode))

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        info = self._info(path, tarfile.REGTYPE, mode)
        info.size = len(content)
        self._tar.addfile(info, io.BytesIO(content))

    def link(self, path: str, target: str) -> None:
        info = self._info(path, tarfile.SYMTYPE, 0o777)
        info.linkname = target
        self._tar.addfile(info)

    def device(self, path: str, major: int, minor: int, mode: int = 0o600) -> None:
        info = self._info(path, tarfile.CHRTYPE, mode)
        info.devmajor, info.devminor = major, minor
        self._tar.addfile(info)


def fill_rootfs(tar: RootfsTar, arch: str, console: str) -> None:
    """BusyBox as init with a login on ``console``: user root, no password."""
    for folder in ("bin", "sbin", "boot", "dev", "etc", "etc/init.d", "proc", "sys", "root", "run"):
        tar.folder(folder)
    tar.folder("tmp", 0o1777)
    tar.device("dev/console", 5, 1)
    tar.device("dev/null", 1, 3, 0o666)
    tar.file("bin/busybox", busybox(arch), 0o755)
    for applet in APPLETS:
        tar.link(f"bin/{applet}", "busybox")
    tar.link("sbin/init", "../bin/busybox")
    tar.file("etc/passwd", b"root::0:0:root:/root:/bin/sh\n")
    tar.file("etc/group", b"root:x:0:\n")
    tar.file("etc/hostname", b"board\n")
    tar.file("etc/issue", b"embedkit test board\n")
    tar.file(
        "etc/inittab",
        f"""::sysinit:/etc/init.d/rcS
{console}::respawn:/bin/getty -L {console} 115200 vt100
::ctrlaltdel:/bin/reboot
""".encode(),
    )
    tar.file(
        "etc/init.d/rcS",
        b"""#!/bin/sh
mount -t proc none /proc
mount -t sysfs none /sys
mount -t tmpfs none /run
hostname -F /etc/hostname
""",
        0o755,
    )
