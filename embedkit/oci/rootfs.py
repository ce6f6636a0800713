"""The file system that layers make together, with the accounts of what each layer wasted.

Layers are laid over each other as the image-spec (layer.md, "Applying Changesets") has it,
in memory and by name only: nothing is unpacked. Names and counts are bounded.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator
from dataclasses import dataclass

from embedkit.errors import InputError
from embedkit.oci.tarread import Member

WHITEOUT = ".wh."
OPAQUE = ".wh..wh..opq"
_MAX_NODES = 1_000_000
_MAX_PATH = 4096
_MAX_DEPTH = 128
_MAX_NOTES = 1000


class FileNode:
    """One name. ``children`` is None for what is no folder; ``mark`` tells equal content."""

    __slots__ = ("children", "kind", "layer", "link", "mark", "size")

    def __init__(self, kind: str, layer: int, size: int = 0, link: str = "") -> None:
        self.kind = kind
        self.layer = layer
        self.size = size
        self.link = link
        self.mark = b""
        self.children: dict[str, FileNode] | None = {} if kind == "dir" else None


@dataclass(frozen=True)
class Waste:
    """Bytes of a lower layer that no container sees any more."""

    path: str
    size: int
    how: str
    stored_in: int
    undone_in: int


class RootFs:
    """Takes members layer by layer. ``problems`` are things that no honest tool writes."""

    def __init__(self, where: str) -> None:
        self.root = FileNode("dir", 0)
        self.wasted: list[Waste] = []
        self.wasted_bytes = 0
        self.wasted_by: dict[int, int] = {}
        self.stored_bytes = 0
        self.problems: list[str] = []
        self._where = where
        self._nodes = 0
        self._cleared: set[tuple[int, int]] = set()

    def add(self, member: Member, layer: int) -> FileNode | None:
        """Takes one member of ``layer`` (0 is the lowest); its node, or None for a whiteout."""
        parts = self._parts(member)
        if parts is None:
            return None
        if not parts:
            return self.root
        name = parts[-1]
        if name.startswith(WHITEOUT):
            self._whiteout(parts, layer)
            return None
        folder = self._folder(parts[:-1], layer)
        old = folder.get(name)
        path = "/".join(parts)
        if member.kind == "dir" and old is not None and old.kind == "dir":
            return old
        if old is not None:
            if old.layer == layer and old.kind != "dir":
                self._note(f"{path}: twice in one layer")
            self._undo(old, path, "overwritten", layer)
        if member.kind in ("char", "block"):
            self._note(f"{path}: a device node ({member.major}:{member.minor})")
        if member.kind == "link" and (".." in member.link.split("/")):
            self._note(f"{path}: a hard link out of the root, to {member.link[:200]}")
        if member.kind == "symlink" and _leaves(parts, member.link):
            self._note(f"{path}: a symbolic link above the root, to {member.link[:200]}")
        node = self._new(member.kind, layer, member.size, member.link)
        folder[name] = node
        self.stored_bytes += member.size
        return node

    def find(self, path: str) -> FileNode | None:
        """What a container finds at ``path``, through symbolic links."""
        pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
        trail: list[tuple[str, FileNode]] = []
        hops = 0
        while pending:
            part = pending.pop()
            if part == "..":
                if trail:
                    trail.pop()
                continue
            here = trail[-1][1] if trail else self.root
            node = (here.children or {}).get(part)
            if node is None:
                return None
            if node.kind == "symlink":
                hops += 1
                if hops > 40 or len(pending) > _MAX_PATH:
                    return None
                if node.link.startswith("/"):
                    trail.clear()
                words = node.link.split("/")
                pending += [word for word in reversed(words) if word not in ("", ".")]
                continue
            trail.append((part, node))
        return trail[-1][1] if trail else self.root

    def files(self) -> Iterator[tuple[str, FileNode]]:
        """Every visible thing that is no folder, with its path; depth first, by name."""
        stack = [("", self.root)]
        while stack:
            path, node = stack.pop()
            if node.children is None:
                yield path, node
                continue
            for name in sorted(node.children, reverse=True):
                stack.append((f"{path}/{name}" if path else name, node.children[name]))

    def _parts(self, member: Member) -> list[str] | None:
        if len(member.name) > _MAX_PATH:
            self._note(f"{member.name[:60]}…: a name of {len(member.name)} characters")
            return None
        parts = [part for part in member.name.split("/") if part not in ("", ".")]
        if ".." in parts:
            self._note(f"{member.name}: leads out of the root")
            return None
        if member.name.startswith("/"):
            self._note(f"{member.name}: an absolute name")
        if len(parts) > _MAX_DEPTH:
            self._note(f"{member.name[:60]}…: nested {len(parts)} folders deep")
            return None
        return parts

    def _folder(self, parts: list[str], layer: int) -> dict[str, FileNode]:
        """The children of a folder, which comes into being where it is missing."""
        children = self.root.children
        assert children is not None
        for number, part in enumerate(parts):
            node = children.get(part)
            if node is None or node.children is None:
                if node is not None and node.kind != "symlink":
                    path = "/".join(parts[: number + 1])
                    self._note(f"{path}: a file and a folder at once")
                node = self._new("dir", layer)
                children[part] = node
            assert node.children is not None
            children = node.children
        return children

    def _whiteout(self, parts: list[str], layer: int) -> None:
        *above, name = parts
        path = "/".join(above)
        if name == OPAQUE:
            folder = self._existing(above)
            if folder is None or folder.children is None or (id(folder), layer) in self._cleared:
                return
            self._cleared.add((id(folder), layer))
            for child in list(folder.children):
                if folder.children[child].layer < layer:
                    self._undo(folder.children.pop(child), f"{path}/{child}", "deleted", layer)
            return
        hidden = name.removeprefix(WHITEOUT)
        if hidden in ("", ".", ".."):
            self._note(f"{'/'.join(parts)}: a whiteout of the folder itself")
            return
        folder = self._existing(above)
        node = folder.children.get(hidden) if folder and folder.children else None
        # Whiteouts apply to lower layers only.
        if folder is not None and folder.children and node is not None and node.layer < layer:
            del folder.children[hidden]
            self._undo(node, f"{path}/{hidden}".lstrip("/"), "deleted", layer)

    def _existing(self, parts: list[str]) -> FileNode | None:
        node = self.root
        for part in parts:
            child = (node.children or {}).get(part)
            if child is None:
                return None
            node = child
        return node

    def _undo(self, node: FileNode, path: str, how: str, layer: int) -> None:
        stack = [(path, node)]
        while stack:
            here, undone = stack.pop()
            if undone.children:
                stack += [(f"{here}/{name}", child) for name, child in undone.children.items()]
            if undone.size and undone.layer < layer:
                self.wasted_bytes += undone.size
                self.wasted_by[layer] = self.wasted_by.get(layer, 0) + undone.size
                self.wasted.append(Waste(here, undone.size, how, undone.layer, layer))
        if len(self.wasted) > 2 * _MAX_NOTES:
            self.wasted.sort(key=lambda item: -item.size)
            del self.wasted[_MAX_NOTES:]

    def _new(self, kind: str, layer: int, size: int = 0, link: str = "") -> FileNode:
        self._nodes += 1
        if self._nodes > _MAX_NODES:
            raise InputError(f"more than {_MAX_NODES} files", where=self._where)
        return FileNode(kind, layer, size, link[:_MAX_PATH] if kind == "symlink" else "")

    def _note(self, problem: str) -> None:
        if len(self.problems) < _MAX_NOTES:
            self.problems.append(problem)


def _leaves(parts: list[str], link: str) -> bool:
    """Whether a relative link climbs above the root. (In a container it then stays at /.)"""
    if link.startswith("/"):
        return False
    joined = posixpath.normpath(posixpath.join("/".join(parts[:-1]), link))
    return joined == ".." or joined.startswith("../")
