"""The card as it was made by hand before embedkit: artifacts of real sizes, and the commands.

The blobs are noise of the real files' sizes, deterministic; kernel and device tree are real
formats; the root file system is made by mke2fs with owners, device nodes and links.
"""

from __future__ import annotations

import contextlib
import os
import random
import stat
import struct
import subprocess
import zlib
from collections.abc import Iterator
from pathlib import Path

from support.loops import loop, partitions

CARD_SECTORS = 4325376
# file, first sector: the dd lines.
BLOBS = (
    ("bl1.bin.hardkernel", 1, 15616),
    ("bl2.bin.hardkernel.1mb_uboot", 31, 14592),
    ("u-boot-dtb.bin", 63, 616568),
    ("tzsw.bin.hardkernel", 2111, 262144),
    ("uImage", 6304, 4_500_064),
    ("exynos5422-odroidxu3.dtb", 22688, 48_000),
)


def noise(seed: str, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


def uimage(payload: bytes, arch: int = 2) -> bytes:
    """U-Boot's legacy header (include/image.h): Linux kernel for ``arch``, not compressed."""

    def header(own_sum: int) -> bytes:
        return struct.pack(
            ">7I4B32s", 0x27051956, own_sum, 0, len(payload), 0x40008000, 0x40008000,
            zlib.crc32(payload), 5, arch, 2, 0, b"test kernel",
        )  # fmt: skip

    return header(zlib.crc32(header(0))) + payload


def device_tree(size: int) -> bytes:
    """A blob with a true header and an empty root node, padded to ``size`` bytes."""
    structure = struct.pack(">IIII", 1, 0, 2, 9)
    head = struct.pack(">10I", 0xD00DFEED, size, 56, 72, 40, 17, 16, 0, 0, len(structure))
    return (head + bytes(16) + structure).ljust(size, b"\0")


def artifacts(folder: Path) -> Path:
    """Fills ``folder`` with every file that the layout names. Root only (device nodes)."""
    folder.mkdir(parents=True)
    for name, _, size in BLOBS:
        if name == "uImage":
            content = uimage(noise(name, size - 64))
        elif name.endswith(".dtb"):
            content = device_tree(size)
        else:
            content = noise(name, size)
        (folder / name).write_bytes(content)
    tree = folder.parent / "tree"
    _tree(tree)
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-b", "4096", "-O", "^metadata_csum,^64bit", "-d", tree,
         folder / "rootfs.ext4", "96M"],
        check=True,
    )  # fmt: skip
    return folder


def _tree(tree: Path) -> None:
    for name in ("bin", "dev", "etc", "home/user", "var/deep/er"):
        (tree / name).mkdir(parents=True)
    for number in range(200):
        path = tree / "var" / "deep" / f"file {number}"
        path.write_bytes(noise(f"file{number}", number * 977))
    (tree / "bin" / "su").write_bytes(noise("su", 70_000))
    (tree / "bin" / "su").chmod(0o4755)
    (tree / "bin" / "sh").symlink_to("su")
    os.link(tree / "bin" / "su", tree / "bin" / "hard")
    os.chown(tree / "home" / "user", 1000, 1000)
    os.mknod(tree / "dev" / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(tree / "dev" / "mmcblk0", 0o660 | stat.S_IFBLK, os.makedev(179, 0))


def make_card(folder: Path, device: Path) -> None:
    """The commands themselves, in their order, on a loop device. Root only."""
    assert device.name.startswith("loop"), device

    def run(*argv: str | Path) -> None:
        subprocess.run(argv, check=True, capture_output=True)

    run("dd", "if=/dev/zero", f"of={device}", "bs=1M", "count=128")
    run("parted", "-s", device, "mklabel", "msdos")
    run("parted", "-s", device, "mkpart", "primary", "ext4", "131072s", "2228223s")
    run("parted", "-s", device, "mkpart", "primary", "ext4", "2228224s", "4325375s")
    for name, sector, _ in BLOBS:
        run("dd", f"if={folder / name}", f"of={device}", f"seek={sector}")
    subprocess.run(["partx", "--delete", device], check=False, capture_output=True)
    with partitions(device):
        first, second = f"{device}p1", f"{device}p2"
        run("dd", f"if={folder / 'rootfs.ext4'}", f"of={first}", "bs=1M")
        run("resize2fs", first)
        run("mkfs.ext4", "-q", "-F", "-L", "usrfs", second)
        run("sync", "-f", device)


@contextlib.contextmanager
def card(folder: Path, backing: Path) -> Iterator[Path]:
    """``backing`` becomes the card made by hand; yields it when all is written."""
    with loop(backing, size=CARD_SECTORS * 512) as device:
        make_card(folder, device)
    yield backing
