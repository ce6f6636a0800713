"""A block device with faults: a FUSE file with direct I/O under a loop device.

Run as a program it is the FUSE server; ``FaultyDisk`` starts it. The file's content lies in
memory-like backing file, and a control file says what goes wrong: it is read anew whenever
it changes. Direct I/O on both layers means that no cache of the kernel hides a fault.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

_NAME = "disk"


@dataclass(frozen=True)
class Fault:
    """What goes wrong between the bytes ``first`` and ``end`` of the disk.

    ``kind``: eio, eio-read, enospc, short (a write takes one sector less), drop, flip (one bit
    of each write), wrap (the disk has only ``end`` bytes and starts over), gone (the server
    kills itself once a write touches the range).
    """

    kind: str
    first: int = 0
    end: int = 1 << 62


class _Server:
    """The file system: one file. Methods are named as mfusepy wants them."""

    use_ns = True

    def __init__(self, backing: Path, control: Path) -> None:
        self._backing = os.open(backing, os.O_RDWR)
        self._size = os.fstat(self._backing).st_size
        self._control = control
        self._seen = 0
        self._fault: Fault | None = None

    def _current(self) -> Fault | None:
        changed = self._control.stat().st_mtime_ns
        if changed != self._seen:
            self._seen = changed
            value = json.loads(self._control.read_text() or "null")
            self._fault = Fault(**value) if value else None
        return self._fault

    def _hit(self, offset: int, length: int) -> Fault | None:
        fault = self._current()
        if fault is None or fault.kind == "wrap":
            return fault
        return fault if offset < fault.end and offset + length > fault.first else None

    def getattr(self, path: str, fh: object = None) -> dict[str, int]:
        if path == "/":
            return {"st_mode": 0o040755, "st_nlink": 2}
        if path != f"/{_NAME}":
            raise OSError(errno.ENOENT, "")
        return {"st_mode": 0o100600, "st_nlink": 1, "st_size": self._size}

    def readdir(self, path: str, fh: object) -> list[str]:
        return [".", "..", _NAME]

    def open(self, path: str, fi: object) -> int:
        fi.direct_io = 1  # type: ignore[attr-defined]
        return 0

    def read(self, path: str, size: int, offset: int, fi: object) -> bytes:
        fault = self._hit(offset, size)
        if fault is not None and fault.kind == "eio-read":
            raise OSError(errno.EIO, "")
        if fault is not None and fault.kind == "wrap":
            offset %= fault.end
        return os.pread(self._backing, size, offset)

    def write(self, path: str, data: bytes, offset: int, fi: object) -> int:
        fault = self._hit(offset, len(data))
        size = len(data)
        if fault is not None:
            if fault.kind == "eio":
                raise OSError(errno.EIO, "")
            if fault.kind == "enospc":
                raise OSError(errno.ENOSPC, "")
            if fault.kind == "gone":
                os._exit(1)
            if fault.kind == "drop":
                return size
            if fault.kind == "short":
                return os.pwrite(self._backing, data[: size - 512], offset)
            if fault.kind == "flip":
                place = max(0, fault.first - offset)
                data = data[:place] + bytes((data[place] ^ 0x10,)) + data[place + 1 :]
            if fault.kind == "wrap":
                offset %= fault.end
        return os.pwrite(self._backing, data, offset)

    def fallocate(self, path: str, mode: int, offset: int, length: int, fi: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "")

    def fsync(self, path: str, datasync: int, fi: object) -> int:
        return 0

    def flush(self, path: str, fi: object) -> int:
        return 0

    def release(self, path: str, fi: object) -> int:
        return 0


class FaultyDisk:
    """The server's other end: ``device`` is the loop device, ``backing`` what it holds."""

    def __init__(self, device: Path, backing: Path, control: Path) -> None:
        self.device = device
        self.backing = backing
        self._control = control

    def fail(self, fault: Fault | None) -> None:
        """From now on this goes wrong, or nothing for None."""
        temporary = self._control.with_suffix(".new")
        temporary.write_text(json.dumps(asdict(fault)) if fault else "")
        temporary.replace(self._control)


@contextlib.contextmanager
def faulty_disk(folder: Path, size: int, *, sector: int = 512) -> Iterator[FaultyDisk]:
    """A loop device of ``size`` bytes over a FUSE file; its content begins as 0xA5."""
    from support.loops import loop

    backing, control, mount = folder / "backing", folder / "control", folder / "mount"
    mount.mkdir()
    with backing.open("wb") as file:
        for _ in range(size >> 20):
            file.write(b"\xa5" * (1 << 20))
    control.write_text("")
    server = subprocess.Popen(
        [sys.executable, __file__, mount, backing, control],
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    try:
        _await(mount / _NAME, server)
        with loop(mount / _NAME, sector=sector, direct=True) as device:
            yield FaultyDisk(device, backing, control)
    finally:
        subprocess.run(["umount", "--lazy", mount], check=False, capture_output=True)
        server.kill()
        server.wait()


def _await(path: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            if path.exists():
                return
        if server.poll() is not None:
            raise RuntimeError(f"the FUSE server ended: {server.stderr.read().decode()}")  # type: ignore[union-attr]
        time.sleep(0.02)
    raise RuntimeError("the FUSE file did not appear")


def _serve(mount: str, backing: str, control: str) -> None:
    import mfusepy

    server = _Server(Path(backing), Path(control))
    mfusepy.FUSE(server, mount, raw_fi=True, foreground=True, nothreads=True, allow_other=False)


if __name__ == "__main__":
    _serve(*sys.argv[1:])
