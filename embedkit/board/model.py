"""What a board file says, as frozen values. Offsets and sizes are bytes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Hole:
    """Bytes ``start`` to ``end`` (not included) of a blob's file that are not written."""

    start: int
    end: int


@dataclass(frozen=True)
class Blob:
    """Raw bytes outside every partition: a boot loader, firmware, a raw kernel.

    ``images`` are file names in the artifacts folder, the first that exists is taken. ``room``
    is what the file may take at ``offset`` (None: up to the next region). With ``cut``, what
    does not fit is left out; ``overwritten_by`` names blobs that may lie over this one's end.
    ``kind`` is what the file must prove to be ("raw": anything). ``sha256`` lists builds that
    are known to belong at this place of this layout.
    """

    name: str
    images: tuple[str, ...]
    offset: int
    room: int | None = None
    cut: bool = False
    overwritten_by: tuple[str, ...] = ()
    holes: tuple[Hole, ...] = ()
    kind: str = "raw"
    optional: bool = False
    sha256: tuple[str, ...] = ()
    source: str = ""


@dataclass(frozen=True)
class Partition:
    """One partition. ``offset`` None: after the one before, aligned; ``size`` None: the rest.

    ``type`` is ``"0x83"`` for an MBR, a GUID for a GPT. ``filesystem`` "" means raw content.
    The content is the first of ``images`` that the artifacts folder has (a folder, a tar or
    a file system image), else ``files`` gathered from there, else nothing. ``grow`` makes a
    smaller file system image fill the partition. ``extlinux`` is the folder in which U-Boot
    looks for kernel and extlinux.conf ("/boot"), "" where it does not.
    """

    name: str
    number: int
    offset: int | None
    size: int | None
    type: str
    bootable: bool = False
    uuid: str = ""
    filesystem: str = ""
    label: str = ""
    images: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    optional_files: tuple[str, ...] = ()
    kind: str = "raw"
    features: str = ""
    grow: bool = True
    extlinux: str = ""
    optional: bool = False
    source: str = ""


@dataclass(frozen=True)
class Reserved:
    """A place that belongs to somebody else, such as U-Boot's saved environment.

    With ``keep`` its present content stays on the card, otherwise it is zeroed.
    """

    name: str
    offset: int
    size: int
    keep: bool = False
    source: str = ""


@dataclass(frozen=True)
class Layout:
    """One way to lay a card out for the board."""

    name: str
    title: str
    table: str
    blobs: tuple[Blob, ...]
    partitions: tuple[Partition, ...]
    reserved: tuple[Reserved, ...] = ()
    default: bool = False
    identity: str = ""
    gpt_location: int = 1024
    gpt_backup: bool = True
    zero_head: int = 0
    alignment: int = 1 << 20
    note: str = ""
    source: str = ""


@dataclass(frozen=True)
class Console:
    """The serial line and what is seen on it."""

    device: str
    baud: int
    login_prompt: str
    boot_prompt: str
    source: str = ""


@dataclass(frozen=True)
class Boot:
    """What the boot loader is to start: file names, load address, kernel arguments."""

    kernel: str
    device_tree: str
    load_address: int
    arguments: str
    source: str = ""


@dataclass(frozen=True)
class Emulation:
    """How QEMU stands in for the board.

    ``card_boot``: QEMU's machine starts from a card image as the board does; otherwise the
    kernel is given on the command line. ``drive`` is how the card is attached ("sd" or
    "virtio"), ``network`` how the board's network is ("onboard", "virtio", "usb").
    ``power_of_two``: the image's size must be one. ``substitute``: the machine is
    not the board's, only its architecture is.
    """

    program: str
    machine: str
    cpu: str
    memory: int
    processors: int
    drive: str
    network: str
    console: str
    card_boot: bool
    power_of_two: bool
    substitute: bool
    note: str = ""
    source: str = ""


@dataclass(frozen=True)
class Board:
    """Everything that embedkit knows of a board."""

    name: str
    title: str
    soc: str
    arch: str
    compatible: tuple[str, ...]
    layouts: tuple[Layout, ...]
    console: Console
    boot: Boot
    emulation: Emulation | None
    sources: tuple[tuple[str, str], ...]
    advice: tuple[str, ...]
    path: Path

    @property
    def default_layout(self) -> Layout:
        """The layout that is taken where none is named."""
        for layout in self.layouts:
            if layout.default:
                return layout
        return self.layouts[0]
