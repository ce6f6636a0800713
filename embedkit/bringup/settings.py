"""What a bringup is told, as frozen values. Sizes are bytes, paths absolute."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

EMULATED = "qemu:"
FILE = "file:"
POWER_OF_TWO = "power-of-two"
PROOFS = ("none", "quick", "full")
UNTIL = ("any", "ssh", "login")
DEADLINE_SECONDS = 180


@dataclass(frozen=True)
class Kernel:
    """The kernel: ``config`` is anything that check-kernel reads, or a defconfig of ``tree``.

    ``buildroot`` is the output folder of a Buildroot that builds it; ``patched`` and ``fragment``
    are where the patch goes; ``modules`` is a root file system with the kernel's modules.
    """

    config: str = ""
    tree: Path | None = None
    buildroot: Path | None = None
    defconfig: str = ""
    patched: Path | None = None
    fragment: Path | None = None
    modules: Path | None = None
    profile: str = "docker"
    features: tuple[str, ...] = ()
    enable: tuple[str, ...] = ()
    disable: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    prefer: str = "auto"
    arch: str | None = None
    cross_compile: str | None = None
    assume_compiler: bool = False

    @property
    def known(self) -> bool:
        """Whether the file says where the kernel's config is."""
        return bool(self.config or self.tree or self.buildroot)

    @property
    def patchable(self) -> bool:
        """Whether there is a Kconfig tree to patch on."""
        return self.tree is not None or self.buildroot is not None


@dataclass(frozen=True)
class Build:
    """The user's own build. ``command`` is a list of words; ``makes`` are files that it must
    leave behind; ``inputs`` are files and folders whose change makes it necessary again."""

    command: tuple[str, ...]
    folder: Path
    makes: tuple[Path, ...] = ()
    inputs: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Card:
    """The card. ``files`` maps names of blobs and partitions to files; ``size`` is bytes, None
    for as small as possible; ``image`` is where the composed card goes."""

    layout: str | None = None
    artifacts: Path | None = None
    files: tuple[tuple[str, Path], ...] = ()
    size: int | None = None
    power_of_two: bool = False
    seed: str = ""
    image: Path | None = None


@dataclass(frozen=True)
class Boot:
    """How the board starts, and how to get in. The files are for emulated machines that are
    given their kernel; ``memory`` is bytes; ``until`` is what counts as up: "ssh", "login" on
    the serial line, or "any"."""

    deadline_seconds: int = DEADLINE_SECONDS
    kernel: Path | None = None
    initrd: Path | None = None
    device_tree: Path | None = None
    arguments: str | None = None
    memory: int | None = None
    processors: int | None = None
    accelerator: str = "auto"
    until: str = "any"
    accept_new_host_key: bool = False
    legacy_ssh: bool = False


@dataclass(frozen=True)
class Docker:
    """What is deployed; as the options of ``embedkit deploy`` of the same names."""

    bundle: Path | None = None
    version: str | None = None
    minimal: bool = False
    root: str | None = None
    data_root: str | None = None
    iptables: str = "auto"
    allow_dynamic: bool = False
    force: bool = False
    settings: tuple[tuple[str, Any], ...] = ()
    proof: str = "quick"
    busybox: Path | None = None


@dataclass(frozen=True)
class Settings:
    """One bringup. ``device`` is ``qemu:``, ``file:PATH`` or a block device, empty where no card
    is written; ``target`` a target's URL, empty where the board is not to be reached.

    ``reference`` names a reference board of embedkit's own that stands in for all the rest;
    ``work`` is the folder of the state, the logs and the report.
    """

    name: str
    board: str
    work: Path
    device: str = ""
    target: str = ""
    reference: str = ""
    kernel: Kernel = field(default_factory=Kernel)
    build: Build | None = None
    card: Card = field(default_factory=Card)
    boot: Boot = field(default_factory=Boot)
    docker: Docker = field(default_factory=Docker)

    @property
    def emulated(self) -> bool:
        """Whether QEMU stands in for the board."""
        return self.device == EMULATED

    @property
    def composes(self) -> bool:
        """Whether a card is made at all."""
        return bool(self.reference or self.card.artifacts or self.card.files)

    @property
    def file(self) -> Path | None:
        """The file that stands in for a device, or None."""
        return Path(self.device.removeprefix(FILE)) if self.device.startswith(FILE) else None

    @property
    def image(self) -> Path:
        """Where the composed card goes."""
        return self.file or self.card.image or self.work / "card.img"


def of_reference(kind: str, work: Path) -> Settings:
    """All of it on the reference board ``kind``; its files are known once it is assembled."""
    return Settings(f"reference-{kind}", "", work, device=EMULATED, reference=kind)
