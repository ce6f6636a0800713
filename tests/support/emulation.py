"""Foreign programs for tests: Debian's static QEMU and BusyBox, without installing either."""

from __future__ import annotations

import os
import shutil
import struct
import subprocess
from pathlib import Path

from embedkit.emulate.magic import Architecture
from support import debian, locks

APPLETS = (
    "sh",
    "cat",
    "cut",
    "echo",
    "grep",
    "id",
    "kill",
    "ls",
    "mount",
    "ps",
    "sleep",
    "touch",
    "uname",
)


def qemu_folder() -> Path:
    """A folder with Debian's qemu-arm-static and qemu-aarch64-static, cached."""
    deb = debian.download("qemu-user-static")

    def fill(folder: Path) -> None:
        # All of the package is 380 MB.
        members = ["./usr/bin/qemu-arm-static", "./usr/bin/qemu-aarch64-static"]
        with subprocess.Popen(
            ["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE
        ) as stream:
            subprocess.run(
                ["tar", "-x", "-C", folder, "--strip-components=3", *members],
                stdin=stream.stdout,
                check=True,
            )

    return locks.made_once(debian.cache() / "unpacked" / f"{deb.stem}-arm", fill)


def busybox_root(folder: Path, arch: str) -> Path:
    """A small root file system of Debian's architecture ``arch`` in ``folder``."""
    source = debian.unpack("busybox-static", arch)
    for name in ("bin", "proc", "sys", "dev", "run", "etc", "tmp", "root"):
        (folder / name).mkdir(parents=True)
    shutil.copy(source / "bin/busybox", folder / "bin/busybox")
    for applet in APPLETS:
        (folder / "bin" / applet).symlink_to("busybox")
    (folder / "etc/resolv.conf").write_text("# the board's own\n")
    return folder


def program(
    architecture: Architecture, *, loader: bytes = b"", kind: int = 2, cut: int | None = None
) -> bytes:
    """An ELF file with nothing but headers; ``loader`` makes it dynamic."""
    order = ">" if architecture.big_endian else "<"
    wide = architecture.bits == 64
    head, entry = (64, 56) if wide else (52, 32)
    raw = bytearray(architecture.header(kind).ljust(head, b"\0"))
    struct.pack_into(order + ("Q" if wide else "I"), raw, 32 if wide else 28, head)
    struct.pack_into(order + "HH", raw, 54 if wide else 42, entry, 2)
    load = struct.pack(order + "I", 1).ljust(entry, b"\0")
    asks = bytearray(struct.pack(order + "I", 3 if loader else 4).ljust(entry, b"\0"))
    where = head + 2 * entry
    struct.pack_into(order + ("Q" if wide else "I"), asks, 8 if wide else 4, where)
    struct.pack_into(order + ("Q" if wide else "I"), asks, 32 if wide else 16, len(loader) + 1)
    return bytes(raw + load + asks + loader + b"\0")[:cut]


def mounts_under(folder: Path) -> list[str]:
    """Mounts of this process's namespace in ``folder``."""
    lines = Path("/proc/self/mountinfo").read_text().splitlines()
    return [line for line in lines if os.fspath(folder) in line]
