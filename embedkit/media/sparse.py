"""Sparse files: copies that keep holes, and what a file really holds."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from embedkit.errors import LackError
from embedkit.media.ranges import Range

_CHUNK = 1 << 20
_BLOCK = 4096
_ZEROS = bytes(_CHUNK)


def data_ranges(descriptor: int, size: int) -> Iterator[Range]:
    """Where a file has data, as its file system knows it (all of it where that knows nothing)."""
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            if error.errno == errno.EINVAL:
                yield Range(at, size - at)
                return
            raise
        end = min(os.lseek(descriptor, start, os.SEEK_HOLE), size)
        yield Range(start, end - start)
        at = end


def chunks(path: Path) -> Iterator[memoryview]:
    """The whole content of a file in pieces; its holes are not read but made up of zeros."""
    zeros = memoryview(_ZEROS)
    with path.open("rb", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        at = 0
        for part in (*data_ranges(file.fileno(), size), Range(size, 0)):
            while at < part.first_byte:
                piece = zeros[: min(_CHUNK, part.first_byte - at)]
                at += len(piece)
                yield piece
            file.seek(at)
            while at < part.end and (read := file.read(min(_CHUNK, part.end - at))):
                at += len(read)
                yield memoryview(read)


def copy_sparse(source: Path, out: IO[bytes], at: int, *, skip: int = 0, length: int = -1) -> None:
    """Copies ``source`` from its byte ``skip`` on to the byte ``at`` of ``out``.

    Blocks of zeros are skipped: ``out`` must be fresh there. It is made long enough for
    the whole. Raises LackError where the disk is full.
    """
    with source.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        end = size if length < 0 else min(size, skip + length)
        try:
            for part in data_ranges(file.fileno(), end):
                start = max(part.first_byte, skip)
                if start < part.end:
                    _copy(file, out, Range(start, part.end - start), at - skip)
            out.flush()
            if os.fstat(out.fileno()).st_size < at + end - skip:
                out.truncate(at + end - skip)
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
                raise LackError(f"no room for the image: {error.strerror}") from error
            raise


def _copy(file: IO[bytes], out: IO[bytes], part: Range, shift: int) -> None:
    file.seek(part.first_byte)
    position = part.first_byte
    while position < part.end:
        chunk = file.read(min(_CHUNK, part.end - position))
        if not chunk:
            return
        for first, last in _filled(chunk):
            out.seek(position + shift + first)
            out.write(memoryview(chunk)[first:last])
        position += len(chunk)


def _filled(chunk: bytes) -> Iterator[tuple[int, int]]:
    """(first, end) of runs of blocks that are not all zeros."""
    if chunk == _ZEROS[: len(chunk)]:
        return
    view, zeros = memoryview(chunk), memoryview(_ZEROS)
    start: int | None = None
    for first in range(0, len(chunk), _BLOCK):
        block = view[first : first + _BLOCK]
        empty = block == zeros[: len(block)]
        if empty and start is not None:
            yield start, first
            start = None
        elif not empty and start is None:
            start = first
    if start is not None:
        yield start, len(chunk)
