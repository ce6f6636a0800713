"""Reading a card into a sparse image with a block map beside it."""

from __future__ import annotations

import os
import tempfile
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import InputError, LackError
from embedkit.files import current_umask, write_atomically
from embedkit.media import bmap
from embedkit.media.blockdev import BlockDevice, Identity, aligned_buffer, open_device
from embedkit.media.pipeline import BATCH_BYTES
from embedkit.media.ranges import Range, merge, total
from embedkit.progress import Progress

_AHEAD = 4
_BLOCK = 64 << 10
_ZEROS = bytes(_BLOCK)


@dataclass(frozen=True)
class Backup:
    """What was read. Sizes are bytes."""

    image: Path
    block_map: Path
    size_bytes: int
    mapped_bytes: int


def read_device(identity: Identity, target: Path, progress: Progress) -> Backup:
    """Reads the whole device into ``target``, which must not exist; zeros become holes.

    The image gets its name when it is whole and its block map is there. Raises InputError
    for a target that cannot be one, DeviceFault where the device cannot be read, LackError
    where the disk is full.
    """
    target = target.absolute()
    if target.exists() or target.is_symlink():
        raise InputError("there is already something of that name", where=str(target))
    if not target.parent.is_dir():
        raise InputError("there is no such folder", where=str(target.parent))
    with ExitStack() as cleanup:
        device = cleanup.enter_context(open_device(identity, write=False))
        try:
            descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
            partial = Path(name)
            cleanup.callback(partial.unlink, missing_ok=True)
            mapped = _copy(device, descriptor, progress)
            partial.chmod(0o666 & ~current_umask())
            block_map = bmap.make(partial, mapped, image_size=device.size_bytes)
            map_path = target.with_name(f"{target.name}.bmap")
            write_atomically(map_path, block_map)
            partial.rename(target)
        except OSError as error:
            raise LackError(
                f"cannot write the image: {error.strerror}", where=str(target)
            ) from error
        return Backup(target, map_path, device.size_bytes, total(mapped))


def _copy(device: BlockDevice, descriptor: int, progress: Progress) -> tuple[Range, ...]:
    mapped: list[Range] = []
    task = progress.start(f"reading {device.path}", total=device.size_bytes, unit="bytes")
    try:
        os.ftruncate(descriptor, device.size_bytes)
        for offset, view in _read_ahead(device):
            for start in range(0, len(view), _BLOCK):
                part = bytes(view[start : start + _BLOCK])
                if part != _ZEROS[: len(part)]:
                    os.pwrite(descriptor, part, offset + start)
                    mapped.append(Range(offset + start, len(part)))
            task.advance(len(view))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
        task.finish()
    return merge(mapped)


def _read_ahead(device: BlockDevice) -> Iterator[tuple[int, memoryview]]:
    """The device's bytes in order, some requests ahead."""
    free = deque(memoryview(aligned_buffer(BATCH_BYTES)) for _ in range(_AHEAD))
    running: deque[tuple[int, memoryview, memoryview, Future[None]]] = deque()
    offset = 0
    with ThreadPoolExecutor(_AHEAD - 1) as pool:
        while offset < device.size_bytes or running:
            while free and offset < device.size_bytes:
                buffer = free.popleft()
                view = buffer[: min(BATCH_BYTES, device.size_bytes - offset)]
                running.append((offset, view, buffer, pool.submit(device.read_into, view, offset)))
                offset += len(view)
            at, view, buffer, future = running.popleft()
            future.result()
            yield at, view
            free.append(buffer)
