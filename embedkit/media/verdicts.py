"""Whether a device may be written: *card*, *suspicious* or *refused*, and why.

Refused stays refused (a mount may be undone on request). Suspicious is written only when the
user says with an option of its own that this is meant; ``--yes`` is not enough.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from embedkit.errors import InputError
from embedkit.media.devices import DeviceInfo
from embedkit.media.signatures import MEMBERS
from embedkit.units import format_size

# The largest cards that boards are used with; from here on external disks begin.
LARGE_CARD_BYTES = 550 * 10**9
# A USB stick or card reader says "removable"; small ones that do not are still sticks.
_FIXED_USB_BYTES = 130 * 10**9
_SYSTEM = ("/", "/usr", "/boot", "/boot/efi", "/boot/firmware", "/efi", "/var", "/home", "/opt")
_NEVER = {
    "dm": "it is a {kind}, not a card",
    "md": "it is a {kind}, not a card",
    "memory": "it is {kind}, not a card",
    "optical": "it is an {kind}",
    "floppy": "it is a {kind}",
    "flash": "it is {kind}, which needs other tools (flashcp, ubiformat)",
}


class Judgement(StrEnum):
    """How a device stands."""

    CARD = "card"
    SUSPICIOUS = "suspicious"
    REFUSED = "refused"


@dataclass(frozen=True)
class Verdict:
    """``reasons`` are why it is not simply a card. ``mounted_only``: unmounting would do.

    ``suspicions``: what would still be suspicious then.
    """

    judgement: Judgement
    reasons: tuple[str, ...]
    mounted_only: bool = False
    suspicions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """``refused: holds the running system (/ is on vda1)``."""
        return f"{self.judgement}: {'; '.join(self.reasons)}" if self.reasons else "card"


def judge(device: DeviceInfo, *, size_needed: int | None = None) -> Verdict:
    """The verdict on ``device``, which has to take ``size_needed`` bytes."""
    refused = _system(device) + _used(device) + _unfit(device, size_needed)
    mounts = [] if _system(device) else _mounted(device)
    suspicions = tuple(_suspicious(device))
    if refused or mounts:
        reasons = tuple(refused + mounts)
        return Verdict(Judgement.REFUSED, reasons, not refused, suspicions)
    if suspicions:
        return Verdict(Judgement.SUSPICIOUS, suspicions, suspicions=suspicions)
    return Verdict(Judgement.CARD, ())


def require_writable(
    device: DeviceInfo, verdict: Verdict, *, unmount: bool = False, accept_suspicious: bool = False
) -> None:
    """Raises InputError, with every reason, where ``device`` must not be written."""
    where = str(device.path)
    reasons = "; ".join(verdict.reasons)
    if verdict.judgement is Judgement.REFUSED and not (verdict.mounted_only and unmount):
        hint = "unmount it, or give --unmount" if verdict.mounted_only else None
        raise InputError(f"refused: {reasons}", where=where, hint=hint)
    if verdict.suspicions and not accept_suspicious:
        raise InputError(
            f"suspicious: {'; '.join(verdict.suspicions)}",
            where=where,
            hint="if this is the device that you mean, add --accept-suspicious",
        )


def _system(device: DeviceInfo) -> list[str]:
    held = [use for use in device.mounts if use.by in _SYSTEM]
    if not held:
        return []
    places = ", ".join(f"{use.by} is on {use.part}" for use in held[:3])
    return [f"holds the running system ({places})"]


def _used(device: DeviceInfo) -> list[str]:
    reasons = []
    for use in device.uses:
        if use.kind == "swap":
            reasons.append(f"in use: {use.part} is {use.by}")
        elif use.kind == "holder":
            reasons.append(f"in use: {use.part} is held by {use.by}")
    return reasons


def _mounted(device: DeviceInfo) -> list[str]:
    return [f"mounted: {use.part} at {use.by}" for use in device.mounts]


def _unfit(device: DeviceInfo, size_needed: int | None) -> list[str]:
    reasons = []
    if device.bus in _NEVER:
        reasons.append(_NEVER[device.bus].format(kind=device.kind))
    if device.size_bytes == 0:
        reasons.append("there is no medium in it")
    elif device.read_only:
        reasons.append("it is read-only (the write-protect slide of a card?)")
    if size_needed is not None and 0 < device.size_bytes < size_needed:
        reasons.append(
            f"it is too small: {device.size_bytes} bytes, {size_needed} are needed "
            f"({format_size(size_needed - device.size_bytes)} more)"
        )
    return reasons


def _suspicious(device: DeviceInfo) -> list[str]:
    reasons = []
    if device.signature in MEMBERS:
        reasons.append(f"it carries {MEMBERS[device.signature]}")
    for partition in device.partitions:
        if partition.filesystem in MEMBERS:
            reasons.append(f"{partition.name} carries {MEMBERS[partition.filesystem]}")
    if device.size_bytes > LARGE_CARD_BYTES:
        reasons.append(f"{format_size(device.size_bytes)} is more than cards of boards have")
    if device.bus == "usb" and not device.removable and device.size_bytes > _FIXED_USB_BYTES:
        reasons.append("it is a fixed USB disk, not a card reader or stick")
    elif device.bus in ("ata", "nvme", "virtio", "scsi") and not device.removable:
        reasons.append(f"it is an internal disk ({device.kind})")
    elif device.bus in ("network", "other"):
        reasons.append(f"it is not a card ({device.kind})")
    elif device.kind == "eMMC boot area":
        reasons.append("it is an eMMC's boot area, not the eMMC itself")
    return reasons
