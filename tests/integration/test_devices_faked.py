"""Verdicts on devices that no test machine has, played by umockdev: the commands see them in
/sys, in udev and in /dev, as they would see real ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.flash_cards import MIB, make_card

pytestmark = pytest.mark.needs("program:umockdev-run")

_PCI = "/devices/pci0000:00"
_GB = 10**9


@dataclass(frozen=True)
class Disk:
    """One fake disk: ``where`` is its parent in /sys, with ``parent`` as attributes there."""

    name: str
    number: tuple[int, int]
    where: str
    size: int
    verdict: str
    reason: str = ""
    removable: bool = False
    read_only: bool = False
    parent: tuple[str, ...] = ()
    udev: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()

    @property
    def path(self) -> str:
        return f"{self.where}/block/{self.name}"


def _scsi(host: int) -> str:
    return f"host{host}/target{host}:0:0/{host}:0:0:0"


def usb(host: int, *, vendor: str = "Generic ", model: str = "STORAGE DEVICE") -> dict[str, object]:
    return {
        "where": f"{_PCI}/0000:00:14.0/usb1/1-{host}/1-{host}:1.0/{_scsi(host)}",
        "parent": (f"A: vendor={vendor}\\n", f"A: model={model}\\n"),
        "udev": ("E: ID_BUS=usb", f"E: ID_SERIAL_SHORT=USB{host}"),
    }


def mmc(host: int, card: str, name: str) -> dict[str, object]:
    return {
        "where": f"{_PCI}/0000:02:00.0/rtsx_pci_sdmmc.0/mmc_host/mmc{host}/mmc{host}:0001",
        "parent": (f"A: type={card}\\n", f"A: name={name}\\n", f"A: cid=27504853443847{host}\\n"),
    }


def ata(port: int) -> dict[str, object]:
    return {
        "where": f"{_PCI}/0000:00:17.0/ata{port}/{_scsi(port)}",
        "parent": ("A: vendor=ATA     \\n", "A: model=Samsung SSD 870\\n"),
        "udev": ("E: ID_BUS=ata",),
    }


DISKS = (
    Disk("sdb", (8, 16), size=32 * _GB, removable=True, verdict="card", **usb(11)),
    Disk(
        "sdc", (8, 32), size=8 * _GB, verdict="card", **usb(12, vendor="SanDisk ", model="Cruzer")
    ),
    Disk("mmcblk0", (179, 0), size=32 * _GB, verdict="card", **mmc(0, "SD", "SD32G")),
    Disk("mmcblk1", (179, 8), size=16 * _GB, verdict="card", **mmc(1, "MMC", "BJTD4R")),
    Disk(
        "mmcblk1boot0",
        (179, 16),
        size=4 * MIB,
        verdict="suspicious",
        reason="an eMMC's boot area",
        **mmc(1, "MMC", "BJTD4R"),
    ),
    Disk(
        "sdd",
        (8, 48),
        size=500 * _GB,
        verdict="suspicious",
        reason="a fixed USB disk",
        **usb(13, vendor="WD      ", model="My Passport"),
    ),
    Disk(
        "sde",
        (8, 64),
        size=2000 * _GB,
        verdict="suspicious",
        reason="1.8 TiB is more than cards",
        removable=True,
        **usb(14),
    ),
    Disk(
        "sdf",
        (8, 80),
        size=0,
        verdict="refused",
        reason="no medium in it",
        removable=True,
        **usb(15),
    ),
    Disk(
        "sdg",
        (8, 96),
        size=32 * _GB,
        verdict="refused",
        reason="read-only",
        removable=True,
        read_only=True,
        **usb(16),
    ),
    Disk(
        "nvme0n1",
        (259, 0),
        size=512 * _GB,
        verdict="suspicious",
        reason="an internal disk (NVMe",
        where=f"{_PCI}/0000:01:00.0/nvme/nvme0",
        parent=("A: model=Samsung SSD 980\\n",),
    ),
    Disk(
        "sda",
        (8, 0),
        size=480 * _GB,
        verdict="suspicious",
        reason="an internal disk (ATA",
        **ata(1),
    ),
    Disk(
        "sdh",
        (8, 112),
        size=480 * _GB,
        verdict="refused",
        reason="sdh is held by dm-0 (LVM volume vg-data)",
        attributes=("L: holders/dm-0=/devices/virtual/block/dm-0",),
        **ata(2),
    ),
    Disk(
        "sdi",
        (8, 128),
        size=480 * _GB,
        verdict="refused",
        reason="sdi is held by md0 (RAID array, raid1)",
        attributes=("L: holders/md0=/devices/virtual/block/md0",),
        **ata(3),
    ),
    Disk(
        "sdj",
        (8, 144),
        size=32 * _GB,
        verdict="refused",
        reason="sdj is held by dm-1 (encrypted volume usb)",
        removable=True,
        attributes=("L: holders/dm-1=/devices/virtual/block/dm-1",),
        **usb(17),
    ),
    Disk(
        "sdk",
        (8, 160),
        size=32 * _GB,
        verdict="suspicious",
        reason="it carries an LVM physical volume",
        removable=True,
        **{**usb(18), "udev": ("E: ID_BUS=usb", "E: ID_FS_TYPE=LVM2_member")},
    ),
    Disk(
        "sdl",
        (8, 176),
        size=32 * _GB,
        verdict="suspicious",
        reason="it carries a member of a ZFS pool",
        removable=True,
        **{**usb(19), "udev": ("E: ID_BUS=usb", "E: ID_FS_TYPE=zfs_member")},
    ),
    Disk(
        "dm-0",
        (253, 0),
        size=100 * _GB,
        verdict="refused",
        reason="a device-mapper volume, not a card",
        where="/devices/virtual",
        attributes=("A: dm/uuid=LVM-abc\\n", "A: dm/name=vg-data\\n"),
    ),
    Disk(
        "dm-1",
        (253, 1),
        size=30 * _GB,
        verdict="refused",
        reason="a device-mapper volume, not a card",
        where="/devices/virtual",
        attributes=("A: dm/uuid=CRYPT-LUKS2-x\\n", "A: dm/name=usb\\n"),
    ),
    Disk(
        "md0",
        (9, 0),
        size=100 * _GB,
        verdict="refused",
        reason="a RAID array, not a card",
        where="/devices/virtual",
        attributes=("A: md/level=raid1\\n",),
    ),
    Disk(
        "zram0",
        (252, 0),
        size=4 * _GB,
        verdict="refused",
        reason="compressed memory, not a card",
        where="/devices/virtual",
    ),
    Disk(
        "nbd0",
        (43, 0),
        size=4 * _GB,
        verdict="suspicious",
        reason="network block device",
        where="/devices/virtual",
    ),
    Disk(
        "sr0",
        (11, 0),
        size=4 * _GB,
        verdict="refused",
        reason="an optical drive",
        removable=True,
        **ata(4),
    ),
    Disk(
        "mtdblock0",
        (31, 0),
        size=16 * MIB * 8,
        verdict="refused",
        reason="raw flash",
        where="/devices/virtual",
    ),
    Disk(
        "vdb",
        (254, 16),
        size=20 * _GB,
        verdict="suspicious",
        reason="an internal disk (virtual",
        where=f"{_PCI}/0000:00:05.0/virtio3",
    ),
)


def description() -> str:
    """What umockdev-run reads: P device, N node, E udev property, A attribute, L link."""
    lines: list[str] = []
    parents: set[str] = set()
    for disk in DISKS:
        if disk.where not in parents and disk.where != "/devices/virtual":
            parents.add(disk.where)
            lines += [f"P: {disk.where}", "E: SUBSYSTEM=scsi", *disk.parent, ""]
        lines += [
            f"P: {disk.path}",
            f"N: {disk.name}",
            "E: SUBSYSTEM=block",
            "E: DEVTYPE=disk",
            f"E: DEVNAME=/dev/{disk.name}",
            f"E: MAJOR={disk.number[0]}",
            f"E: MINOR={disk.number[1]}",
            *disk.udev,
            f"A: dev={disk.number[0]}:{disk.number[1]}\\n",
            f"A: size={disk.size // 512}\\n",
            f"A: removable={int(disk.removable)}\\n",
            f"A: ro={int(disk.read_only)}\\n",
            "A: queue/logical_block_size=512\\n",
            *disk.attributes,
        ]
        if disk.where != "/devices/virtual":
            lines.append("L: device=../../../" + disk.where.rsplit("/", 1)[1])
        lines.append("")
    return "\n".join(lines)


# Runs under umockdev: all commands in one process, since each start takes a second.
_DRIVER = """
import contextlib, io, json, pathlib, sys
from support import guard
from embedkit import cli
from embedkit.media import devices
guard.install()
devices._UDEV = pathlib.Path("/")  # the faked database is seen by libudev alone
def call(*words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = cli.main([*words, "--json"])
    return code, json.loads(out.getvalue())
image, *names = sys.argv[1:]
answer = {"devices": call("devices")[1]["data"]["devices"]}
for name in names:
    answer[name] = call("flash", image, f"/dev/{name}", "--dry-run")
    answer[name + "!"] = call("flash", image, f"/dev/{name}", "--dry-run", "--accept-suspicious")
print(json.dumps(answer))
"""


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict:
    folder = tmp_path_factory.mktemp("fake")
    card = make_card(folder / "card.img", size=3 * MIB, ranges=((MIB, MIB),))
    (folder / "machine.umockdev").write_text(description())
    (folder / "driver.py").write_text(_DRIVER)
    argv = ["umockdev-run", "--device", folder / "machine.umockdev", "--"]
    argv += [sys.executable, folder / "driver.py", card.path, *(disk.name for disk in DISKS)]
    tests = str(Path(__file__).parent.parent)
    ended = subprocess.run(
        argv, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": tests}, check=False
    )
    assert ended.returncode == 0, ended.stderr
    return json.loads(ended.stdout)


@pytest.mark.parametrize("disk", DISKS, ids=lambda disk: disk.name)
def test_devices_says(answers: dict, disk: Disk) -> None:
    (found,) = (each for each in answers["devices"] if each["path"] == f"/dev/{disk.name}")
    assert found["verdict"] == disk.verdict, found
    assert disk.reason in "; ".join(found["reasons"])


@pytest.mark.parametrize("disk", DISKS, ids=lambda disk: disk.name)
def test_flash_does_what_devices_says(answers: dict, disk: Disk) -> None:
    code, answer = answers[disk.name]
    if disk.verdict == "card":
        assert code == 0, answer
        return
    assert code == 2
    assert disk.reason in answer["error"]["message"]
    code, answer = answers[disk.name + "!"]
    assert code == (0 if disk.verdict == "suspicious" else 2), answer


def test_models_and_serials(answers: dict) -> None:
    found = {each["path"]: each for each in answers["devices"]}
    assert found["/dev/sdb"]["model"] == "STORAGE DEVICE"
    assert found["/dev/sdb"]["serial"] == "USB11"
    assert found["/dev/mmcblk0"]["model"] == "SD32G"
    assert found["/dev/mmcblk0"]["serial"] == "275048534438470"
    assert (found["/dev/mmcblk0"]["bus"], found["/dev/mmcblk0"]["kind"]) == ("mmc", "SD card")
