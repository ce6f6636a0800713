"""What uses a block device: mounts, swap, and the devices built on top of it."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

Number = tuple[int, int]


@dataclass(frozen=True)
class Roots:
    """Where the kernel's views are; tests put others here."""

    sys: Path = Path("/sys")
    proc: Path = Path("/proc")
    dev: Path = Path("/dev")


@dataclass(frozen=True)
class Use:
    """One use of a device or of a part of it: ``kind`` mount, swap or holder.

    ``part`` is the kernel's name of the used part, ``by`` the mount point, or the holder's
    name and what it is ("dm-0, LVM volume vg-root").
    """

    kind: str
    part: str
    by: str


class Uses:
    """Mounts, swaps and holders, found once and asked for each device."""

    def __init__(self, roots: Roots) -> None:
        self._roots = roots
        self._mounts = _mounts(roots)
        self._swaps = _swaps(roots)

    def of(self, folder: Path, parts: Mapping[str, Number]) -> tuple[Use, ...]:
        """Uses of the disk in ``folder``; ``parts`` are it and its partitions with numbers."""
        found: list[Use] = []
        for name, number in parts.items():
            found += [Use("mount", name, place) for place in self._mounts.get(number, ())]
            if number in self._swaps:
                found.append(Use("swap", name, "swap space"))
            place = folder if name == folder.name.replace("!", "/") else folder / name
            found += self._held(name, place / "holders", set())
        return tuple(dict.fromkeys(found))

    def _held(self, part: str, holders: Path, seen: set[str]) -> list[Use]:
        """Holders of a device, the holders of those, and where they are mounted."""
        found: list[Use] = []
        for entry in sorted(holders.iterdir()) if holders.is_dir() else ():
            if entry.name in seen:
                continue
            seen.add(entry.name)
            folder = self._roots.sys / "block" / entry.name
            found.append(Use("holder", part, f"{entry.name} ({_what_holds(folder)})"))
            number = parse_number(read_text(folder / "dev"))
            if number is not None:
                found += [Use("mount", part, place) for place in self._mounts.get(number, ())]
                if number in self._swaps:
                    found.append(Use("swap", part, f"swap space on {entry.name}"))
            found += self._held(part, folder / "holders", seen)
        return found


def _what_holds(folder: Path) -> str:
    uuid, name = read_text(folder / "dm" / "uuid"), read_text(folder / "dm" / "name")
    if uuid.startswith("LVM-"):
        return f"LVM volume {name}"
    if uuid.startswith("CRYPT-"):
        return f"encrypted volume {name}"
    if uuid.startswith("mpath-"):
        return f"multipath device {name}"
    if name or folder.name.startswith("dm-"):
        return f"device-mapper volume {name}".strip()
    if folder.name.startswith("md"):
        return f"RAID array, {read_text(folder / 'md' / 'level') or 'unknown level'}"
    return "another device on top of it"


def _mounts(roots: Roots) -> dict[Number, list[str]]:
    """Device number → mount points, from /proc/self/mountinfo (proc_pid_mountinfo(5))."""
    found: dict[Number, list[str]] = {}
    for line in read_text(roots.proc / "self" / "mountinfo").splitlines():
        fields = line.split(" ")
        if len(fields) < 10 or "-" not in fields:
            continue
        numbers = {parse_number(fields[2])}
        source = _unescape(fields[fields.index("-") + 2])
        if source.startswith("/dev/"):
            # btrfs and others report an anonymous number; their source names the device.
            try:
                status = (roots.dev / source.removeprefix("/dev/")).stat()
            except OSError:
                status = None
            if status is not None and stat.S_ISBLK(status.st_mode):
                numbers.add((os.major(status.st_rdev), os.minor(status.st_rdev)))
        for number in numbers:
            if number is not None:
                found.setdefault(number, []).append(_unescape(fields[4]))
    return found


def _swaps(roots: Roots) -> set[Number]:
    found = set()
    for line in read_text(roots.proc / "swaps").splitlines()[1:]:
        try:
            status = Path(_unescape(line.split()[0])).stat()
        except (OSError, IndexError):
            continue
        if stat.S_ISBLK(status.st_mode):
            found.add((os.major(status.st_rdev), os.minor(status.st_rdev)))
        else:
            found.add((os.major(status.st_dev), os.minor(status.st_dev)))
    return found


def _unescape(text: str) -> str:
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), text)


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def read_int(path: Path) -> int:
    text = read_text(path)
    return int(text) if text.isdecimal() else 0


def parse_number(text: str) -> Number | None:
    match = re.fullmatch(r"(\d+):(\d+)", text)
    return (int(match.group(1)), int(match.group(2))) if match else None
