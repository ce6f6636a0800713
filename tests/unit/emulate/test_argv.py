"""QEMU's command line, for every board that says how it is emulated."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedkit import board
from embedkit.emulate import card, plan, qemu
from embedkit.emulate.qemu import Medium
from embedkit.errors import InputError

_SERIAL = [
    "-chardev",
    "socket,id=serial,path=console.sock,server=on,wait=off,logfile=console.log",
]
_QMP = ["-qmp", "unix:qmp.sock,server=on,wait=off"]
_NOTHING = ["-nodefaults", "-no-user-config", "-display", "none"]
_TCG = ["-accel", "tcg,thread=multi,tb-size=256"]
_VIRTIO_CARD = [
    "-drive",
    "if=none,id=card,file=card.qcow2,format=qcow2,cache=unsafe,discard=unmap,werror=enospc",
    "-device",
    "virtio-blk-device,drive=card",
]
_VIRTIO_NET = [
    "-netdev",
    "user,id=net,hostfwd=tcp:127.0.0.1:0-:22",
    "-device",
    "virtio-net-device,netdev=net",
    "-device",
    "virtio-rng-device",
]
_ARM = ["qemu-system-arm", "-M", "virt,highmem=off", *_TCG]
_ARM64 = ["qemu-system-aarch64", "-M", "virt", *_TCG]
# Board → the words up to memory and processors, and the kernel's arguments.
_VIRT = {
    "beaglebone-black": (
        [*_ARM, "-cpu", "cortex-a15", "-m", "512M", "-smp", "1"],
        "console=ttyAMA0 root=/dev/vda2 rw rootfstype=ext4 rootwait",
    ),
    "imx8mm-evk": (
        [*_ARM64, "-cpu", "cortex-a53", "-m", "1024M", "-smp", "2"],
        "console=ttyAMA0 root=/dev/vda1 rootwait rw",
    ),
    "odroid-c2": (
        [*_ARM64, "-cpu", "cortex-a53", "-m", "1024M", "-smp", "2"],
        "console=ttyAMA0 root=/dev/vda2 rootwait rw",
    ),
    "odroid-xu3": (
        [*_ARM, "-cpu", "cortex-a15", "-m", "1024M", "-smp", "2"],
        "console=ttyAMA0 root=/dev/vda1 rootwait rw",
    ),
    "odroid-xu4": (
        [*_ARM, "-cpu", "cortex-a15", "-m", "1024M", "-smp", "2"],
        "console=ttyAMA0 root=/dev/vda1 rootwait rw",
    ),
    "qemu-arm-virt": (
        [*_ARM, "-cpu", "cortex-a15", "-m", "1024M", "-smp", "2"],
        "console=ttyAMA0 root=/dev/vda1 rootwait rw",
    ),
    "qemu-arm64-virt": (
        [*_ARM64, "-cpu", "cortex-a53", "-m", "1024M", "-smp", "2"],
        "console=ttyAMA0 root=/dev/vda1 rootwait rw",
    ),
    "raspberrypi-4": (
        [*_ARM64, "-cpu", "cortex-a72", "-m", "1024M", "-smp", "4"],
        "console=ttyAMA0 root=/dev/vda2 rootwait rw",
    ),
    "rock-pi-4": (
        [*_ARM64, "-cpu", "cortex-a72", "-m", "1024M", "-smp", "2"],
        "console=ttyAMA0 root=/dev/vda1 rootwait rw",
    ),
    "stm32mp157c-dk2": (
        [*_ARM, "-cpu", "cortex-a7", "-m", "512M", "-smp", "2"],
        "console=ttyAMA0 root=/dev/vda4 rootwait rw",
    ),
}


@pytest.mark.parametrize("name", _VIRT)
def test_virt_machines(name: str) -> None:
    head, arguments = _VIRT[name]
    medium = Medium(Path("/c.img"), Path("/zImage"), Path("/initrd"))
    assert qemu.command_line(board.load(name), medium, "tcg") == (
        *head, *_NOTHING, *_SERIAL, "-serial", "chardev:serial", *_QMP, *_VIRTIO_CARD,
        *_VIRTIO_NET, "-kernel", "/zImage", "-initrd", "/initrd", "-append", arguments,
    )  # fmt: skip


def test_orangepi_boots_from_its_card() -> None:
    pi = board.load("orangepi-pc")
    assert qemu.command_line(pi, Medium(Path("/c.img")), "tcg", ssh_port=2222) == (
        "qemu-system-arm", "-M", "orangepi-pc", *_TCG, "-m", "1024M", "-smp", "4", *_NOTHING,
        *_SERIAL, "-serial", "chardev:serial", *_QMP,
        "-drive", "if=sd,file=card.qcow2,format=qcow2,cache=unsafe",
        "-nic", "user,id=net,hostfwd=tcp:127.0.0.1:2222-:22",
    )  # fmt: skip


def test_raspberry_pi_3_has_its_console_on_the_second_line_and_its_network_on_usb() -> None:
    pi = board.load("raspberrypi-3")
    medium = Medium(Path("/c.img"), Path("/Image"), device_tree=Path("/pi.dtb"))
    assert qemu.command_line(pi, medium, "tcg", keep=True) == (
        "qemu-system-aarch64", "-M", "raspi3b", *_TCG, "-cpu", "cortex-a53", "-m", "1024M",
        "-smp", "4", *_NOTHING, *_SERIAL, "-serial", "null", "-serial", "chardev:serial", *_QMP,
        "-drive", "if=sd,file=card.qcow2,format=qcow2,cache=writeback",
        "-netdev", "user,id=net,hostfwd=tcp:127.0.0.1:0-:22", "-device", "usb-net,netdev=net",
        "-kernel", "/Image", "-dtb", "/pi.dtb",
        "-append", "console=ttyS1,115200n8 root=/dev/mmcblk0p2 rootwait rw",
    )  # fmt: skip


def test_every_emulated_board_is_checked_here() -> None:
    emulated = {name for name in board.names() if board.load(name).emulation is not None}
    assert {*_VIRT, "orangepi-pc", "raspberrypi-3"} <= emulated
    for name in emulated - {*_VIRT, "orangepi-pc", "raspberrypi-3"}:
        words = qemu.command_line(board.load(name), Medium(kernel=Path("/k")), "tcg")
        assert "-kernel" in words


def test_kvm_is_tried_where_the_processor_is_the_host_s() -> None:
    arm64 = board.load("qemu-arm64-virt")
    assert qemu.accelerators(arm64, "auto", host="arm64") == ("kvm", "tcg")
    assert qemu.accelerators(arm64, "auto", host="amd64") == ("tcg",)
    assert qemu.accelerators(arm64, "tcg", host="arm64") == ("tcg",)
    assert qemu.accelerators(board.load("raspberrypi-3"), "auto", host="arm64") == ("tcg",)
    with pytest.raises(InputError, match="KVM cannot run"):
        qemu.accelerators(arm64, "kvm", host="amd64")
    words = qemu.command_line(arm64, Medium(kernel=Path("/Image")), "kvm", network=False)
    assert words[1:9] == ("-M", "virt,gic-version=host", "-accel", "kvm", "-cpu", "host", "-m",
                          "1024M")  # fmt: skip
    assert words[words.index("-nic") :][:2] == ("-nic", "none")


@pytest.mark.parametrize(
    ("name", "medium", "complaint"),
    [
        ("qemu-arm-virt", Medium(Path("c.img")), "needs a kernel"),
        ("orangepi-pc", Medium(), "nothing to boot"),
        ("orangepi-pc", Medium(Path("c.img"), arguments="quiet"), "need a kernel"),
    ],
)
def test_what_cannot_boot_is_refused(name: str, medium: Medium, complaint: str) -> None:
    with pytest.raises(InputError, match=complaint):
        qemu.command_line(board.load(name), medium, "tcg")


def test_a_card_becomes_a_power_of_two_by_its_overlay(tmp_path: Path) -> None:
    assert card.overlay_bytes(45 << 20, power_of_two=True) == 64 << 20
    assert card.overlay_bytes(64 << 20, power_of_two=True) == 64 << 20
    assert card.overlay_bytes((64 << 20) + 1, power_of_two=True) == 128 << 20
    assert card.overlay_bytes(1000, power_of_two=False) == 1024


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"\x28\xb5\x2f\xfd" + b"x" * 600, "it is zstd"),
        (b"QFI\xfb" + b"x" * 600, "it is qcow2"),
        (b"x" * 100, "100 bytes"),
        (None, "does not exist"),
    ],
)
def test_what_is_no_raw_image_is_refused(
    tmp_path: Path, content: bytes | None, complaint: str
) -> None:
    image = tmp_path / "card.img"
    if content is not None:
        image.write_bytes(content)
    with pytest.raises(InputError, match=complaint):
        plan.plan(board.load("orangepi-pc"), Medium(image))


def test_a_plan_reaches_the_keeper_as_it_is(tmp_path: Path) -> None:
    image = tmp_path / "card.img"
    image.write_bytes(b"\0" * 4096)
    made = plan.plan(board.load("orangepi-pc"), Medium(image), name="pi")
    assert plan.MachinePlan.from_json(made.to_json()) == made
    assert (made.name, made.exact, made.from_card) == ("pi", True, True)
    assert made.loader_problem == (
        "the card has nothing at byte 8192 or 131072, where the boot loader belongs"
    )


def test_a_boot_loader_at_another_place_is_found(tmp_path: Path) -> None:
    image = tmp_path / "card.img"
    content = bytearray(1 << 20)
    content[1024 + 4 : 1024 + 12] = b"eGON.BT0"
    content[8192] = content[131072] = 1
    image.write_bytes(content)
    said = card.misplaced_loader(board.load("orangepi-pc"), image)
    assert said == (
        "the boot loader begins at byte 1024 of the card, and the board looks at 8192 or 131072"
    )
    content[8192 + 4 : 8192 + 12] = b"eGON.BT0"
    content[1024 + 4 : 1024 + 12] = bytes(8)
    image.write_bytes(content)
    assert card.misplaced_loader(board.load("orangepi-pc"), image) == ""


@pytest.mark.parametrize("name", ["", "../x", "a/b", ".hidden", "a b", "x" * 64])
def test_names_that_are_none_are_refused(name: str, tmp_path: Path) -> None:
    kernel = tmp_path / "zImage"
    kernel.touch()
    with pytest.raises(InputError, match="is no name"):
        plan.plan(board.load("qemu-arm-virt"), Medium(kernel=kernel), name=name)
