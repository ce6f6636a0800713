"""FIT images (``.itb``): a flattened device tree that holds kernels, device trees and more.

The tree's format is chapter 5 of the Devicetree Specification; what the nodes mean is U-Boot's
``doc/usage/fit/source_file_format.rst``. Only what leads to a kernel is read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

from embedkit.kernel.stream import Blob, Part

MAGIC = b"\xd0\x0d\xfe\xed"

_HEADER_SIZE = 40
_BEGIN_NODE, _END_NODE, _PROPERTY, _NOP = 1, 2, 3, 4
_MAX_TOKENS = 100_000
_MAX_STRINGS = 1 << 20
_MAX_NAME = 256
_SMALL = 256
_KERNEL_TYPES = ("kernel", "kernel_noload")


@dataclass
class _Property:
    offset: int
    size: int
    value: bytes  # its beginning only

    @property
    def text(self) -> str:
        return self.value.split(b"\0")[0].decode("utf-8", "replace")

    @property
    def number(self) -> int:
        return int.from_bytes(self.value[:4], "big")


_Nodes = dict[tuple[str, ...], dict[str, _Property]]


class _BrokenTreeError(Exception):
    pass


def kernels(blob: Blob) -> Iterator[tuple[str, Part]]:
    """Name and content of each kernel in a FIT image, the default configuration's first.

    A damaged tree yields what could be read of it; a device tree without kernels nothing.
    """
    nodes: _Nodes = {}
    try:
        total = _walk(blob, nodes)
    except (_BrokenTreeError, struct.error):
        total = blob.size
    found = {
        path[1]: properties
        for path, properties in nodes.items()
        if len(path) == 2
        and path[0] == "images"
        and "type" in properties
        and properties["type"].text in _KERNEL_TYPES
    }
    default = _default_kernel(nodes)
    for name in sorted(found, key=lambda name: name != default):
        part = _content(blob, found[name], total)
        if part is not None and part.size > 0:
            yield name, part


def _default_kernel(nodes: _Nodes) -> str | None:
    configurations = nodes.get(("configurations",), {})
    if "default" not in configurations:
        return None
    chosen = nodes.get(("configurations", configurations["default"].text), {})
    return chosen["kernel"].text if "kernel" in chosen else None


def _content(blob: Blob, properties: dict[str, _Property], total: int) -> Part | None:
    """The image's bytes: in the tree, or behind it (``mkimage -E``, ``mkimage -p``)."""
    if "data" in properties:
        return Part(blob, properties["data"].offset, properties["data"].size)
    if "data-size" not in properties:
        return None
    size = properties["data-size"].number
    if "data-position" in properties:
        return Part(blob, properties["data-position"].number, size)
    if "data-offset" in properties:
        return Part(blob, (total + 3 & ~3) + properties["data-offset"].number, size)
    return None


def _walk(blob: Blob, nodes: _Nodes) -> int:
    """Fills ``nodes`` with each node's properties; returns the tree's size in bytes."""
    header = struct.unpack(">10I", blob.read(0, _HEADER_SIZE))
    total, structure, strings_at = header[1], header[2], header[3]
    strings = blob.read(strings_at, min(header[8], _MAX_STRINGS))
    path: list[str] = []
    at = structure
    for _ in range(_MAX_TOKENS):
        (token,) = struct.unpack(">I", blob.read(at, 4))
        at += 4
        if token == _BEGIN_NODE:
            name, end, _ = blob.read(at, _MAX_NAME).partition(b"\0")
            if not end:
                raise _BrokenTreeError
            at += len(name) + 4 & ~3
            path.append(name.decode("utf-8", "replace"))
            nodes.setdefault(tuple(path[1:]), {})
        elif token == _PROPERTY:
            size, name_at = struct.unpack(">2I", blob.read(at, 8))
            at += 8
            name = strings[name_at : name_at + _MAX_NAME].partition(b"\0")[0]
            if not path:
                raise _BrokenTreeError
            nodes[tuple(path[1:])][name.decode("utf-8", "replace")] = _Property(
                at, size, blob.read(at, min(size, _SMALL))
            )
            at += size + 3 & ~3
        elif token == _END_NODE and path:
            path.pop()
        elif token != _NOP:
            break
    return int(total)
