"""A default extlinux.conf for trees that have a kernel and no boot script.

U-Boot's standard boot looks for ``extlinux/extlinux.conf`` in a bootable partition's root and in
its ``/boot`` (U-Boot doc/develop/bootstd/extlinux.rst). A rootfs that a builder made has the
kernel there, but not always that file: without it the board stops at U-Boot's prompt.
"""

from __future__ import annotations

import stat
from collections.abc import Sequence
from pathlib import Path

from embedkit.board.model import Board, Partition
from embedkit.media.layout import BootFiles
from embedkit.media.tree import Node

# What U-Boot may be started by instead: then nothing is added.
_SCRIPTS = ("extlinux.conf", "boot.scr", "boot.scr.uimg", "boot.ini", "uEnv.txt")
# Later than any limit: a file system's maker cuts times to SOURCE_DATE_EPOCH.
_NEWEST = 1 << 40


def wanted(board: Board, spec: Partition) -> BootFiles | None:
    """What an extlinux.conf in the partition would start; None where the board file wants none."""
    boot = board.boot
    if not spec.extlinux or not boot.kernel:
        return None
    return BootFiles(spec.extlinux, boot.kernel, boot.device_tree, boot.arguments)


def added(nodes: Sequence[Node], boot: BootFiles, scratch: Path) -> tuple[Node, ...]:
    """``nodes`` with an extlinux.conf where they have the board's kernel and no boot script.

    Its bytes go to a file in the folder ``scratch``.
    """
    paths = {node.path for node in nodes}
    base = boot.folder.strip("/")

    def place(name: str) -> str:
        return f"{base}/{name}" if base else name

    scripted = any(path.rpartition("/")[2] in _SCRIPTS for path in paths)
    if scripted or place(boot.kernel) not in paths:
        return tuple(nodes)
    short = boot.device_tree.rpartition("/")[2]
    places = [place(name) for name in (boot.device_tree, short, f"dtbs/{boot.device_tree}") if name]
    tree = next((path for path in places if path in paths), "")
    lines = ["default linux", "label linux", f"    kernel /{place(boot.kernel)}"]
    lines += [f"    fdt /{tree}"] if tree else []
    lines += [f"    append {boot.arguments}"]
    content = scratch / "extlinux.conf"
    content.write_text("\n".join(lines) + "\n")
    folder = Node(place("extlinux"), stat.S_IFDIR | 0o755, mtime=_NEWEST)
    script = Node(
        f"{folder.path}/extlinux.conf", stat.S_IFREG | 0o644, mtime=_NEWEST, content=content
    )
    new = [script] if folder.path in paths else [folder, script]
    return tuple(sorted([*nodes, *new], key=lambda node: node.path))
