"""Where a folder keeps its kernel config: build trees, Buildroot, root filesystems.

Each kind of folder is one row of ``KINDS``, asked in order; only the named places are looked at,
nothing is walked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import InputError

_HEAD = 512
_SHOWN = 6


@dataclass(frozen=True)
class Kind:
    """A kind of folder: where (glob patterns) the configs of its kernels lie."""

    name: str
    patterns: tuple[str, ...]


KINDS = (
    Kind("Buildroot output", ("build/linux-*/.config", "output/build/linux-*/.config")),
    Kind("kernel tree", (".config",)),
    Kind("/boot folder", ("config-*",)),
    Kind("root filesystem", ("boot/config-*",)),
    Kind("module folder", ("config", "build/.config")),
    Kind("root filesystem's modules", ("lib/modules/*/config", "usr/lib/modules/*/config")),
)
# Where nothing of the above is, a kernel image may carry its config. Best first: an image that
# needs no expanding comes before the same kernel compressed.
IMAGE_FOLDERS = ("", "boot", "images", "output/images")
IMAGE_NAMES = (
    "vmlinux",
    "Image",
    "vmlinuz*",
    "bzImage*",
    "zImage*",
    "Image.*",
    "uImage*",
    "kernel*.img",
    "*.itb",
    "fitImage*",
)
_MAX_IMAGES = 12

# Buildroot packages whose name only begins like the kernel's.
_NOT_THE_KERNEL = re.compile(r"linux-(?:headers|firmware|tools|pam|backports|fusion|zigbee)(?:-|$)")


def config_file(folder: Path) -> Path | None:
    """The one kernel config that ``folder`` holds, or None.

    Raises InputError where there are several: which of them is meant is the user's to say.
    """
    for kind in KINDS:
        found = _distinct(_matches(folder, kind.patterns))
        if len(found) > 1:
            found = [path for path in found if _written_by_the_kernel(path)] or found
        if len(found) > 1:
            shown = ", ".join(str(path.relative_to(folder)) for path in found[:_SHOWN])
            more = f" and {len(found) - _SHOWN} more" if len(found) > _SHOWN else ""
            raise InputError(
                f"this {kind.name} has several kernel configs: {shown}{more}",
                hint="give one of them",
                where=str(folder),
            )
        if found:
            return found[0]
    return None


def images(folder: Path) -> Iterator[Path]:
    """Files of ``folder`` that may be kernel images by their name, best first."""
    patterns = [f"{place}/{name}".lstrip("/") for name in IMAGE_NAMES for place in IMAGE_FOLDERS]
    yield from _distinct(_matches(folder, tuple(patterns)))[:_MAX_IMAGES]


def nothing_there(folder: Path, tried: list[str]) -> InputError:
    """The error for a folder without a kernel config, with what it seems to be."""
    if _all_there(folder, "Kconfig", "Makefile", "arch", "kernel"):
        return InputError(
            "a kernel source tree without a .config",
            hint="configure it first (make ARCH=… …_defconfig), give the build folder (O=…), "
            "or give a file of arch/*/configs",
            where=str(folder),
        )
    if _all_there(folder, "Config.in", "Makefile", "package", "linux"):
        return InputError(
            "a Buildroot tree without a configured kernel",
            hint="run 'make linux-configure' first, or give the output folder (O=…)",
            where=str(folder),
        )
    looked = ", ".join(pattern for kind in KINDS for pattern in kind.patterns)
    if tried:
        looked += "; without a config in them: " + ", ".join(tried)
    return InputError(
        f"no kernel config in this folder; looked for {looked} and kernel images",
        hint="give the config itself, or a kernel's build folder, Buildroot's output folder, "
        "a /boot folder or a root filesystem",
        where=str(folder),
    )


def _matches(folder: Path, patterns: tuple[str, ...]) -> list[Path]:
    found = []
    for pattern in patterns:
        for path in sorted(folder.glob(pattern)):
            if path.is_file() and not _NOT_THE_KERNEL.match(path.parent.name):
                found.append(path)
    return found


def _distinct(paths: list[Path]) -> list[Path]:
    """Each file once, under the first of its names."""
    seen: dict[tuple[int, int], Path] = {}
    for path in paths:
        info = path.stat()
        seen.setdefault((info.st_dev, info.st_ino), path)
    return list(seen.values())


def _written_by_the_kernel(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return b" Kernel Configuration" in file.read(_HEAD)
    except OSError:
        return False


def _all_there(folder: Path, *names: str) -> bool:
    return all((folder / name).exists() for name in names)
