"""The default boot script: made where there is a kernel and nothing that starts it."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.founding import device_tree, noise

from embedkit.cli import main

pytestmark = pytest.mark.needs("program:mke2fs", "program:debugfs")
CONF = "/boot/extlinux/extlinux.conf"


def compose(tmp_path: Path, **files: bytes) -> str:
    """The extlinux.conf of an Orange Pi card whose rootfs holds ``files``; "" for none."""
    folder = tmp_path / "artifacts"
    (folder / "rootfs").mkdir(parents=True)
    (folder / "u-boot-sunxi-with-spl.bin").write_bytes(noise("u-boot", 300_000))
    for place, content in files.items():
        path = folder / "rootfs" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    image = tmp_path / "card.img"
    assert main(["compose", "orangepi-pc", "--artifacts", str(folder), "-o", str(image), "-q"]) == 0
    inner = tmp_path / "rootfs.img"
    with image.open("rb") as card:
        card.seek(1 << 20)
        inner.write_bytes(card.read())
    subprocess.run(["e2fsck", "-f", "-n", inner], check=True, capture_output=True)
    said = subprocess.run(["debugfs", "-R", f"cat {CONF}", inner], check=True, capture_output=True)
    return said.stdout.decode()


KERNEL = {"boot/zImage": b"kernel"}
TREE = {"boot/sun8i-h3-orangepi-pc.dtb": device_tree(4096)}


def test_a_kernel_and_a_device_tree(tmp_path: Path) -> None:
    assert compose(tmp_path, **KERNEL, **TREE) == (
        "default linux\n"
        "label linux\n"
        "    kernel /boot/zImage\n"
        "    fdt /boot/sun8i-h3-orangepi-pc.dtb\n"
        "    append console=ttyS0,115200n8 root=/dev/mmcblk0p1 rootwait rw\n"
    )


def test_without_a_device_tree_u_boot_s_own_is_taken(tmp_path: Path) -> None:
    assert "fdt" not in compose(tmp_path, **KERNEL)


@pytest.mark.parametrize("script", ["boot/extlinux/extlinux.conf", "boot.scr"])
def test_a_script_of_the_user_s_own_stays_the_only_one(tmp_path: Path, script: str) -> None:
    found = compose(tmp_path, **KERNEL, **TREE, **{script: b"mine\n"})
    assert found == ("mine\n" if script.endswith("conf") else "")


def test_no_kernel_no_script(tmp_path: Path) -> None:
    assert compose(tmp_path, **TREE) == ""
