"""Compares cards: partition entries, bytes of regions, contents of file systems."""

from __future__ import annotations

import hashlib
import json
import stat
import subprocess
from pathlib import Path

from embedkit.media.sparse import copy_sparse


def partition_entries(card: Path) -> list[dict[str, object]]:
    """The table as sfdisk reads it, without the device's name."""
    shown = subprocess.run(
        ["sfdisk", "--json", card], check=True, capture_output=True, text=True
    ).stdout
    entries: list[dict[str, object]] = json.loads(shown)["partitiontable"]["partitions"]
    return [{key: value for key, value in entry.items() if key != "node"} for entry in entries]


def read_at(card: Path, first_byte: int, length: int) -> bytes:
    with card.open("rb") as file:
        file.seek(first_byte)
        return file.read(length)


def cut_out(card: Path, first_sector: int, sectors: int, target: Path) -> Path:
    """A partition as a sparse file of its own."""
    with target.open("w+b") as out:
        copy_sparse(card, out, 0, skip=first_sector * 512, length=sectors * 512)
    return target


def is_clean(filesystem: Path) -> bool:
    """Whether e2fsck -fn finds nothing."""
    ended = subprocess.run(["e2fsck", "-fn", filesystem], check=False, capture_output=True)
    return ended.returncode == 0


def facts(filesystem: Path) -> dict[str, str]:
    """dumpe2fs's header: "Block count", "Filesystem volume name", ..."""
    shown = subprocess.run(
        ["dumpe2fs", "-h", filesystem], check=True, capture_output=True, text=True
    ).stdout
    pairs = (line.partition(":") for line in shown.splitlines())
    return {key.strip(): value.strip() for key, _, value in pairs}


def listing(filesystem: Path, scratch: Path) -> dict[str, tuple[object, ...]]:
    """Path → mode with type, owner, group, and content (a file's hash, a link's text, a
    device's numbers) of everything, as debugfs reads it."""
    scratch.mkdir()
    subprocess.run(
        ["debugfs", "-R", f"rdump / {scratch}", filesystem], check=True, capture_output=True
    )
    found: dict[str, tuple[object, ...]] = {}
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        # /inode/mode/uid/gid/name/size/
        for line in _debugfs(filesystem, f'ls -p "/{folder}"').splitlines():
            fields = line.split("/")
            if len(fields) < 7 or fields[5] in (".", "..", "lost+found"):
                continue
            path = f"{folder}/{fields[5]}".lstrip("/")
            mode = int(fields[2], 8)
            if stat.S_ISDIR(mode):
                waiting.append(path)
            content = _content(filesystem, path, mode, scratch / path)
            found[path] = (oct(mode), int(fields[3]), int(fields[4]), content)
    return found


def _content(filesystem: Path, path: str, mode: int, dumped: Path) -> str:
    if stat.S_ISREG(mode):
        return hashlib.sha256(dumped.read_bytes()).hexdigest()
    if stat.S_ISLNK(mode):
        return str(dumped.readlink())
    if stat.S_ISDIR(mode):
        return ""
    shown = _debugfs(filesystem, f'stat "/{path}"')
    return next(line for line in shown.splitlines() if "Device major" in line)


def _debugfs(filesystem: Path, command: str) -> str:
    return subprocess.run(
        ["debugfs", "-R", command, filesystem], check=True, capture_output=True, text=True
    ).stdout
