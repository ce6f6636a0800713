"""Platforms: how they are written, made canonical, and who can run what.

The rules are containerd's (platforms/database.go and compare.go), because Docker and
containerd decide by them; the list of variants is the image-spec's (image-index.md).
"""

from __future__ import annotations

import platform as host_platform
import re
from dataclasses import dataclass, replace
from pathlib import Path

from embedkit.errors import InputError

_ARCHITECTURES = {
    "i386": ("386", ""),
    "i486": ("386", ""),
    "i586": ("386", ""),
    "i686": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", "v7"),
    # Debian's armel is ARMv5TE; containerd's is v6. Images follow containerd.
    "armel": ("arm", "v6"),
    "armv5l": ("arm", "v5"),
    "armv5tel": ("arm", "v5"),
    "armv5tejl": ("arm", "v5"),
    "armv6l": ("arm", "v6"),
    "armv7l": ("arm", "v7"),
    "armv8l": ("arm", "v8"),
}
_KNOWN = frozenset(
    {"386", "amd64", "arm", "arm64", "loong64", "mips", "mips64", "mips64le", "mipsle"}
    | {"ppc64", "ppc64le", "riscv64", "s390x", "wasm", "unknown"}
)
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, order=True)
class Platform:
    """What an image needs at least, or what a machine offers. Not necessarily canonical."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    def __str__(self) -> str:
        text = f"{self.os}/{self.architecture}"
        return f"{text}/{self.variant}" if self.variant else text


def parse(text: str) -> Platform:
    """``linux/arm/v7``, ``arm/v7``, ``arm64``, ``armhf``: canonical.

    A word alone is an architecture. Raises InputError for what names no platform.
    """
    words = text.split("/")
    if not 1 <= len(words) <= 3 or not all(_WORD.fullmatch(word) for word in words):
        raise InputError(f"'{text}' is not a platform", hint="write it as 'linux/arm/v7'")
    if len(words) == 1 or (len(words) == 2 and _is_architecture(words[0])):
        words.insert(0, "linux")
    found = normalise(Platform(words[0], words[1], words[2] if len(words) == 3 else ""))
    if found.architecture not in _KNOWN:
        raise InputError(
            f"'{words[1]}' in '{text}' is not an architecture that images are made for",
            hint=f"known: {', '.join(sorted(_KNOWN - {'unknown'}))}",
        )
    return found


def _is_architecture(word: str) -> bool:
    return word.lower() in _ARCHITECTURES or word.lower() in _KNOWN


def normalise(platform: Platform) -> Platform:
    """``platform`` in containerd's canonical form: an ARM without a variant is v7."""
    os = platform.os.lower() or "linux"
    os = "darwin" if os == "macos" else os
    architecture = platform.architecture.lower()
    variant = platform.variant.lower()
    if architecture in _ARCHITECTURES:
        architecture, implied = _ARCHITECTURES[architecture]
        variant = implied or variant
    if architecture == "amd64" and variant == "v1":
        variant = ""
    elif architecture == "arm64":
        if variant in ("8", "v8", "v8.0", "8.0"):
            variant = ""
        elif variant in ("9", "9.0", "v9.0"):
            variant = "v9"
        elif re.fullmatch(r"[89]\.\d+", variant):
            variant = "v" + variant
    elif architecture == "arm":
        if variant in ("", "7"):
            variant = "v7"
        elif variant in ("5", "6", "8"):
            variant = "v" + variant
    return replace(platform, os=os, architecture=architecture, variant=variant)


def same(left: Platform, right: Platform) -> bool:
    """Whether both name the same platform once canonical (os.version and features apart)."""
    a, b = normalise(left), normalise(right)
    return (a.os, a.architecture, a.variant) == (b.os, b.architecture, b.variant)


def runnable(host: Platform) -> tuple[Platform, ...]:
    """What a machine of ``host`` runs, best first: containerd's ``Only``.

    An arm64 machine's list ends with the 32-bit ARM platforms, an amd64's with 386: whether
    a given CPU and kernel really run those, the list does not say.
    """
    host = normalise(host)
    found = [host]
    match = re.fullmatch(r"v(\d+)(?:\.(\d+))?", host.variant)
    if host.architecture == "amd64":
        level = int(match.group(1)) if match else 1
        found += [replace(host, variant=f"v{n}" if n > 1 else "") for n in range(level - 1, 0, -1)]
        found.append(replace(host, architecture="386", variant=""))
    elif host.architecture == "arm" and match:
        found += [replace(host, variant=f"v{n}") for n in range(int(match.group(1)) - 1, 4, -1)]
    elif host.architecture == "arm64":
        found += [replace(host, variant=variant) for variant in _arm64_below(host.variant)]
        found += [replace(host, architecture="arm", variant=f"v{n}") for n in (8, 7, 6, 5)]
    return tuple(dict.fromkeys(found))


def _arm64_below(variant: str) -> list[str]:
    """The arm64 variants that a CPU of ``variant`` also runs, best first ("" is v8.0)."""
    match = re.fullmatch(r"v([89])(?:\.(\d+))?", variant)
    if match is None:
        return []
    minor = min(int(match.group(2) or 0), 30)
    if match.group(1) == "8":
        return [f"v8.{n}" for n in range(minor - 1, 0, -1)] + ([""] if minor else [])
    # Arm ARM, A2.1: v9.N holds everything of v8.(N+5).
    nines = ([f"v9.{n}" for n in range(minor - 1, 0, -1)] + ["v9"]) if minor else []
    return nines + [f"v8.{n}" for n in range(minor + 5, 0, -1)] + [""]


def accepts(host: Platform, wanted: Platform) -> bool:
    """Whether a machine of ``host`` runs an image for ``wanted``, as containerd sees it."""
    wanted = normalise(wanted)
    return any(same(offer, wanted) for offer in runnable(host))


def tag_suffix(platform: Platform) -> str:
    """``arm-v7``: for file names and tags."""
    parts = [platform.architecture, platform.variant]
    if platform.os != "linux":
        parts.insert(0, platform.os)
    return "-".join(part for part in parts if part)


def from_cpuinfo(machine: str, cpuinfo: str) -> Platform:
    """The platform of a Linux machine from ``uname -m`` and /proc/cpuinfo.

    As containerd does it (cpuinfo_linux.go), with its Raspberry Pi exception: "CPU
    architecture: 7" beside the model name ARMv6-compatible is a v6.
    """
    found = normalise(Platform("linux", machine))
    if found.architecture != "arm":
        return found
    stated = re.search(r"^CPU architecture\s*:\s*(\S+)", cpuinfo, re.MULTILINE)
    model = re.search(r"^model name\s*:\s*(.+)", cpuinfo, re.MULTILINE)
    word = stated.group(1) if stated else ""
    if model and model.group(1).startswith("ARMv6-compatible") and word.startswith("7"):
        return replace(found, variant="v6")
    for variant, pattern in (
        ("v8", r"8|AArch64"),
        ("v7", r"7\w?|\?\(1[2-7]\)"),
        ("v6", r"6|6TEJ"),
        ("v5", r"5\w*"),
    ):
        if re.fullmatch(pattern, word, re.IGNORECASE):
            return replace(found, variant=variant)
    return found


def of_this_machine() -> Platform:
    """The platform of the machine that embedkit runs on, as Linux containers see it."""
    cpuinfo = Path("/proc/cpuinfo")
    try:
        text = cpuinfo.read_text(errors="replace")
    except OSError:
        text = ""
    return from_cpuinfo(host_platform.machine() or "amd64", text)
