"""Artifacts of a card for the Orange Pi PC, from Debian's U-Boot, kernel and BusyBox."""

from __future__ import annotations

import shutil
from pathlib import Path

from support import debian, tiny

DTB = "sun8i-h3-orangepi-pc.dtb"
_MODULES = ["crc32c_generic", "libcrc32c", "sunxi-mmc", "ext4"]
_EXTLINUX = f"""timeout 1
default board
label board
    kernel /boot/vmlinuz
    initrd /boot/initrd.gz
    fdt /boot/{DTB}
    append console=ttyS0,115200 root=/dev/mmcblk0p1 panic=-1 quiet
"""


def artifacts(folder: Path) -> Path:
    """Fills ``folder`` with u-boot-sunxi-with-spl.bin and rootfs.tar; returns it.

    Raises debian.NotToBeHad where a package cannot be fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    loaders = debian.unpack("u-boot-sunxi", "armhf")
    # Debian 12 builds the Orange Pi Plus's loader only: the same H3 and the same card layout.
    builds = {path.parent.name: path for path in loaders.rglob("u-boot-sunxi-with-spl.bin")}
    loader = builds.get("orangepi_pc") or builds["orangepi_plus"]
    shutil.copyfile(loader, folder / "u-boot-sunxi-with-spl.bin")
    package = tiny.kernel_package("armmp", "armhf")
    tar = tiny.RootfsTar(folder / "rootfs.tar")
    tiny.fill_rootfs(tar, "armhf", "ttyS0")
    tar.folder("boot/extlinux")
    tar.file("boot/extlinux/extlinux.conf", _EXTLINUX.encode())
    tar.file("boot/vmlinuz", next((package / "boot").glob("vmlinuz-*")).read_bytes())
    tar.file(f"boot/{DTB}", next(package.rglob(DTB)).read_bytes())
    tar.file("boot/initrd.gz", tiny.initramfs("armhf", package, _MODULES, "/dev/mmcblk0p1"))
    tar.close()
    return folder
