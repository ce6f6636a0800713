"""The last moments before a device is written: what is asked, unmounted and refused."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from embedkit.errors import InputError
from embedkit.media import devices
from embedkit.media.devices import DeviceInfo
from embedkit.media.subject import Subject
from embedkit.media.verdicts import judge, require_writable
from embedkit.units import format_size


def question(found: Sequence[DeviceInfo], title: str) -> str:
    """What the user must have seen before ``found`` are overwritten with ``title``."""
    lines = [f"All data on {'this device' if len(found) == 1 else 'these devices'} will be lost:"]
    for device in found:
        lines.append(f"  {device.path}  {device.title}, {format_size(device.size_bytes)}")
        lines += [
            f"    {partition.name}  {format_size(partition.length)}  "
            f"{partition.filesystem} {partition.label}".rstrip()
            for partition in device.partitions
        ]
        lines += [f"    mounted at {use.by} (will be unmounted)" for use in device.mounts]
    lines.append(f"It will hold: {title}")
    return "\n".join(lines)


def refuse_own_backing(found: Sequence[DeviceInfo], subject: Subject) -> None:
    """Raises InputError where a device is a loop over the image that it is to hold."""
    path = subject.image.info.path
    for device in found:
        backing = Path(device.backing_file) if device.backing_file else None
        if path is not None and backing is not None and backing.exists() and path.samefile(backing):
            raise InputError("the device is a loop over the image itself", where=str(device.path))


def unmounted(
    found: Sequence[DeviceInfo], say: Callable[[str], None], *, accept_suspicious: bool = False
) -> list[DeviceInfo]:
    """The devices with nothing mounted from them any more.

    Raises InputError where one is another device than before, or is not to be written now.
    """
    released = []
    for device in found:
        if device.mounts:
            # Mostly nothing is mounted, and a card need not wait for what is not used.
            from embedkit import process

            for use in reversed(device.mounts):
                say(f"unmounting {use.by}")
                process.run(["umount", use.by])
            again = devices.find(str(device.path))
            verdict = judge(again)
            require_writable(again, verdict, accept_suspicious=accept_suspicious)
            if again.identity != device.identity:
                message = "the device changed while it was unmounted"
                raise InputError(message, where=str(device.path))
        released.append(device)
    return released
