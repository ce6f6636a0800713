"""The block devices of this machine, and what each is used for.

Facts come from sysfs (Documentation/ABI/{stable,testing}/sysfs-block of the kernel), mounts
and swaps from /proc, names of file systems and serial numbers from udev's database where a
udevd runs. Nothing is opened for writing here.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import InputError
from embedkit.media import signatures
from embedkit.media.blockdev import Identity
from embedkit.media.uses import Number, Roots, Use, Uses, parse_number, read_int, read_text

_SYSFS_SECTOR = 512
_UDEV = Path("/run/udev")


@dataclass(frozen=True)
class Partition:
    """A partition that the kernel knows. Sizes are bytes."""

    name: str
    number: int
    first_byte: int
    length: int
    filesystem: str = ""
    label: str = ""


@dataclass(frozen=True)
class DeviceInfo:
    """A whole block device. ``bus`` is usb, mmc, nvme, ata, virtio, loop, scsi, dm, md, …"""

    name: str
    path: Path
    number: Number
    size_bytes: int
    sector_bytes: int
    bus: str
    kind: str
    vendor: str
    model: str
    serial: str
    removable: bool
    read_only: bool
    diskseq: int | None
    partitions: tuple[Partition, ...]
    uses: tuple[Use, ...]
    signature: str = ""
    backing_file: str = ""

    @property
    def identity(self) -> Identity:
        return Identity(
            self.path, self.number, self.size_bytes, self.diskseq, self.serial, self.title
        )

    @property
    def title(self) -> str:
        """Vendor and model, or what stands for them."""
        text = f"{self.vendor} {self.model}".strip()
        return text or (f"loop on {self.backing_file}" if self.backing_file else self.kind)

    @property
    def mounts(self) -> tuple[Use, ...]:
        return tuple(use for use in self.uses if use.kind == "mount")


def scan(roots: Roots | None = None) -> tuple[DeviceInfo, ...]:
    """All block devices that have a size or a slot for a medium, sorted by name."""
    roots = roots or Roots()
    uses = Uses(roots)
    udev = _udev_properties() if roots == Roots() else {}
    found = []
    folder = roots.sys / "block"
    for entry in sorted(folder.iterdir()) if folder.is_dir() else ():
        info = _device(entry, roots, uses, udev)
        if info is not None and (info.size_bytes or info.bus in ("usb", "mmc", "scsi")):
            found.append(info)
    return tuple(sorted(found, key=lambda info: _natural(info.name)))


def find(target: str, roots: Roots | None = None) -> DeviceInfo:
    """The whole device at the path ``target``, symlinks followed.

    Raises InputError, with the reason, for everything else: a partition, a file, a folder,
    a character device, nothing at all.
    """
    roots = roots or Roots()
    path = Path(target)
    try:
        status = path.stat()
    except FileNotFoundError:
        known = roots.dev / target
        hint = f"did you mean {known}?" if "/" not in target and known.exists() else None
        raise InputError(
            "there is no such device", where=target, hint=hint or "'embedkit devices' lists them"
        ) from None
    except OSError as error:
        raise InputError(f"cannot look at the device: {error.strerror}", where=target) from error
    _require_block(status.st_mode, target)
    number = (os.major(status.st_rdev), os.minor(status.st_rdev))
    folder = roots.sys / "dev" / "block" / f"{number[0]}:{number[1]}"
    if not folder.exists():
        raise InputError("the kernel knows no disk behind this device node", where=target)
    folder = folder.resolve()
    if (folder / "partition").exists():
        whole = roots.dev / folder.parent.name
        raise InputError(
            f"this is a partition of {whole}, not a whole device",
            where=target,
            hint=f"the whole device is {whole}",
        )
    udev = _udev_properties(folder.name) if roots == Roots() else {}
    info = _device(folder, roots, Uses(roots), udev)
    if info is None:
        raise InputError("the device vanished while it was looked at", where=target)
    return info


def _require_block(mode: int, where: str) -> None:
    if stat.S_ISBLK(mode):
        return
    kinds = (
        (stat.S_ISREG, "a regular file"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISCHR, "a character device"),
        (stat.S_ISFIFO, "a pipe"),
        (stat.S_ISSOCK, "a socket"),
    )
    what = next((name for test, name in kinds if test(mode)), "something else")
    hint = "'embedkit devices' lists the devices; an image is named before them"
    if what != "a regular file":
        hint = "'embedkit devices' lists the devices"
    raise InputError(f"this is {what}, not a block device", where=where, hint=hint)


def _device(
    folder: Path, roots: Roots, uses: Uses, udev: Mapping[str, Mapping[str, str]]
) -> DeviceInfo | None:
    """One entry of /sys/block; None where it vanished meanwhile."""
    name = folder.name.replace("!", "/")
    number = parse_number(read_text(folder / "dev"))
    if number is None:
        return None
    properties = udev.get(name, {})
    bus, kind = _bus(name, folder, properties)
    backing = read_text(folder / "loop" / "backing_file")
    path = roots.dev / name
    partitions = _partitions(folder, udev)
    parts = {name: number}
    parts |= {
        p.name: n for p in partitions if (n := parse_number(read_text(folder / p.name / "dev")))
    }
    signature = properties.get("ID_FS_TYPE", "") or signatures.sniff_path(path)
    return DeviceInfo(
        name=name,
        path=path,
        number=number,
        size_bytes=read_int(folder / "size") * _SYSFS_SECTOR,
        sector_bytes=read_int(folder / "queue" / "logical_block_size") or _SYSFS_SECTOR,
        bus=bus,
        kind=kind,
        vendor=read_text(folder / "device" / "vendor") if bus in ("usb", "scsi", "ata") else "",
        model=read_text(folder / "device" / "model") or read_text(folder / "device" / "name"),
        serial=_serial(folder, properties, backing),
        removable=read_text(folder / "removable") == "1",
        read_only=read_text(folder / "ro") == "1",
        diskseq=read_int(folder / "diskseq") or None,
        partitions=partitions,
        uses=uses.of(folder, parts),
        signature=signature,
        backing_file=backing,
    )


def _partitions(folder: Path, udev: Mapping[str, Mapping[str, str]]) -> tuple[Partition, ...]:
    found = []
    for entry in folder.iterdir() if folder.is_dir() else ():
        if (entry / "partition").exists():
            properties = udev.get(entry.name, {})
            found.append(
                Partition(
                    name=entry.name,
                    number=read_int(entry / "partition"),
                    first_byte=read_int(entry / "start") * _SYSFS_SECTOR,
                    length=read_int(entry / "size") * _SYSFS_SECTOR,
                    filesystem=properties.get("ID_FS_TYPE", ""),
                    label=properties.get("ID_FS_LABEL", ""),
                )
            )
    return tuple(sorted(found, key=lambda partition: partition.number))


def _bus(name: str, folder: Path, properties: Mapping[str, str]) -> tuple[str, str]:
    """The bus, and in words what hangs on it."""
    for pattern, bus, kind in _BY_NAME:
        if re.fullmatch(pattern, name):
            return bus, kind
    if name.startswith("mmcblk"):
        card = read_text(folder / "device" / "type")
        if "boot" in name or "rpmb" in name:
            return "mmc", "eMMC boot area"
        return "mmc", {"SD": "SD card", "MMC": "eMMC"}.get(card, "MMC device")
    parents = folder.resolve().parts
    if any(re.fullmatch(r"usb\d+", part) for part in parents) or properties.get("ID_BUS") == "usb":
        return "usb", "USB disk"
    if any(re.fullmatch(r"ata\d+", part) for part in parents) or properties.get("ID_BUS") == "ata":
        return "ata", "ATA disk"
    if (folder / "device").exists() and "scsi_host" in "".join(
        entry.name for entry in (folder / "device").iterdir()
    ):
        return "scsi", "SCSI disk"
    return ("scsi", "SCSI disk") if name.startswith("sd") else ("other", "block device")


_BY_NAME = (
    (r"loop\d+", "loop", "loop device"),
    (r"dm-\d+", "dm", "device-mapper volume"),
    (r"md\w+", "md", "RAID array"),
    (r"zram\d+", "memory", "compressed memory"),
    (r"ram\d+", "memory", "RAM disk"),
    (r"pmem.*", "memory", "persistent memory"),
    (r"nbd\d+", "network", "network block device"),
    (r"rbd\d+|drbd\d+", "network", "network block device"),
    (r"bcache\d+", "dm", "bcache volume"),
    (r"zd\d+", "dm", "ZFS volume"),
    (r"nvme\d+(c\d+)?n\d+", "nvme", "NVMe disk"),
    (r"vd[a-z]+", "virtio", "virtual disk"),
    (r"xvd[a-z]+", "virtio", "virtual disk"),
    (r"sr\d+", "optical", "optical drive"),
    (r"fd\d+", "floppy", "floppy drive"),
    (r"mtdblock\d+|ubiblock.*", "flash", "raw flash"),
)


def _serial(folder: Path, properties: Mapping[str, str], backing: str) -> str:
    """The serial number; a loop device is told apart by the file behind it."""
    for key in ("ID_SERIAL_SHORT", "ID_SERIAL"):
        if properties.get(key):
            return properties[key]
    for name in ("device/cid", "device/serial", "serial", "device/wwid", "wwid"):
        if text := read_text(folder / name):
            return text
    # USB: the serial is an attribute of the USB device, some folders above the disk.
    for parent in folder.resolve().parents:
        if (parent / "idVendor").exists():
            return read_text(parent / "serial")
    return backing


def _udev_properties(only: str | None = None) -> dict[str, dict[str, str]]:
    """Kernel name → udev's properties; empty where libudev or its database is missing."""
    if not _UDEV.is_dir():
        return {}  # no udevd: pyudev would look for its library for nothing
    try:
        import pyudev

        context = pyudev.Context()
        found = {}
        for device in context.list_devices(subsystem="block"):
            if only is None or device.sys_name.startswith(only):
                found[device.sys_name] = dict(device.properties)
    except Exception:  # no libudev, no database, a device that vanished: /sys tells enough
        return {}
    return found


def _natural(name: str) -> list[tuple[int, str]]:
    """loop2 before loop10."""
    return [
        (int(part or 0), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)
    ]
