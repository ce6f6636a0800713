"""A block device, opened so that nobody else uses it and no cache stands before it.

ioctl numbers and their arguments: include/uapi/linux/fs.h of the Linux kernel. Everything
that can fail here is a DeviceFault, which knows the byte at which it happened.
"""

from __future__ import annotations

import errno
import fcntl
import mmap
import os
import stat
import struct
import time
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import InputError, LackError, TargetError

_BLKROGET = 0x125E
_BLKRRPART = 0x125F
_BLKFLSBUF = 0x1261
_BLKSSZGET = 0x1268
_BLKDISCARD = 0x1277
_BLKZEROOUT = 0x127F
_BLKGETDISKSEQ = 0x80081280
# A device that is asked to zero or discard gigabytes at once cannot be interrupted meanwhile.
_STEP = 256 << 20
_LOCK_SECONDS = 5.0
_GONE = (errno.ENXIO, errno.ENODEV, errno.ENOMEDIUM, errno.ESHUTDOWN)


@dataclass(frozen=True)
class Identity:
    """What makes this device this device and no other that later has its name.

    ``diskseq`` is the kernel's count of disks that appeared since it booted (Linux 5.15 on,
    None before); ``serial`` is the card's or reader's own, empty where it has none.
    """

    path: Path
    number: tuple[int, int]
    size_bytes: int
    diskseq: int | None
    serial: str
    model: str = ""


class DeviceFault(TargetError):
    """The device failed at ``offset`` (bytes), or None where no place can be named."""

    def __init__(self, message: str, offset: int | None, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.offset = offset


class BlockDevice:
    """An open block device. Offsets and lengths are bytes, in whole sectors of the device.

    ``direct`` is off only in the test that shows why it must be on.
    """

    def __init__(self, descriptor: int, path: Path) -> None:
        self.descriptor = descriptor
        self.path = path
        self.size_bytes = device_size(descriptor)
        self.sector_bytes = sector_size(descriptor)

    def read_into(self, view: memoryview, offset: int) -> None:
        """Fills ``view`` (page-aligned memory) from the device, past the page cache."""
        done = 0
        while done < len(view):
            try:
                count = os.preadv(self.descriptor, [view[done:]], offset + done)
            except OSError as error:
                raise _fault("read", error, offset + done) from error
            if count <= 0 or (count % self.sector_bytes and done + count < len(view)):
                raise DeviceFault("the device ends before its size", offset + done)
            done += count

    def write_from(self, view: memoryview, offset: int) -> None:
        """Writes all of ``view`` (page-aligned memory), however short each write falls."""
        done = 0
        while done < len(view):
            try:
                count = os.pwritev(self.descriptor, [view[done:]], offset + done)
            except OSError as error:
                raise _fault("write", error, offset + done) from error
            if count <= 0 or count % self.sector_bytes:
                raise DeviceFault("the device took only a part of a sector", offset + done)
            done += count

    def zero(self, offset: int, length: int) -> None:
        """Makes the range read as zeros: by the device itself where it can, else by writing."""
        self._range_ioctl(_BLKZEROOUT, "zero", offset, length)

    def discard(self, offset: int, length: int) -> bool:
        """Tells the device that the range's content is of no use; False where it cannot know."""
        try:
            self._range_ioctl(_BLKDISCARD, "discard", offset, length)
        except DeviceFault as fault:
            if isinstance(fault.__cause__, OSError) and fault.__cause__.errno not in _GONE:
                return False
            raise
        return True

    def flush(self) -> None:
        """Returns once the device says that everything is on its medium."""
        try:
            os.fsync(self.descriptor)
        except OSError as error:
            raise _fault("flush", error, None) from error

    def drop_cache(self) -> None:
        """Forgets what the kernel holds of the device, after others wrote to it buffered."""
        try:
            fcntl.ioctl(self.descriptor, _BLKFLSBUF)
        except OSError as error:
            raise _fault("flush", error, None) from error

    def reread_partitions(self) -> bool:
        """Asks the kernel to read the partition table again; False where it does not."""
        for _ in range(10):
            try:
                fcntl.ioctl(self.descriptor, _BLKRRPART)
                return True
            except OSError as error:
                if error.errno != errno.EBUSY:
                    return False
                time.sleep(0.2)
        return False

    def close(self) -> None:
        os.close(self.descriptor)

    def __enter__(self) -> BlockDevice:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _range_ioctl(self, number: int, verb: str, offset: int, length: int) -> None:
        end = offset + length
        while offset < end:
            step = min(_STEP, end - offset)
            try:
                fcntl.ioctl(self.descriptor, number, struct.pack("=QQ", offset, step))
            except OSError as error:
                raise _fault(verb, error, offset) from error
            offset += step


def open_device(identity: Identity, *, write: bool, direct: bool = True) -> BlockDevice:
    """Opens the device that ``identity`` names, and no other.

    For writing it is opened exclusively (the kernel then refuses while it or a partition of it
    is mounted or held), locked against udev, and compared with ``identity``. A path that is
    no longer there is never created. Raises InputError where it is another device, in use or
    read-only, LackError without the permission.
    """
    path = identity.path
    flags = os.O_CLOEXEC | (os.O_DIRECT if direct else 0)
    flags |= os.O_RDWR | os.O_EXCL if write else os.O_RDONLY
    descriptor = _open(path, flags)
    try:
        check_identity(descriptor, identity)
        if write:
            _lock(descriptor, path)
            if struct.unpack("i", fcntl.ioctl(descriptor, _BLKROGET, b"\0" * 4))[0]:
                raise InputError("the device is read-only", where=str(path), hint=_READ_ONLY_HINT)
        return BlockDevice(descriptor, path)
    except BaseException:
        os.close(descriptor)
        raise


def check_identity(descriptor: int, identity: Identity) -> None:
    """Raises InputError where the open device is not the one that ``identity`` was taken from."""
    where = str(identity.path)
    status = os.fstat(descriptor)
    if not stat.S_ISBLK(status.st_mode):
        raise InputError("this is not a block device", where=where)
    number = (os.major(status.st_rdev), os.minor(status.st_rdev))
    diskseq = disk_sequence(descriptor)
    size = device_size(descriptor)
    changed = []
    if number != identity.number:
        changed.append(
            f"number {identity.number[0]}:{identity.number[1]} is {number[0]}:{number[1]}"
        )
    if None not in (diskseq, identity.diskseq) and diskseq != identity.diskseq:
        changed.append(f"disk sequence {identity.diskseq} is {diskseq}")
    if size != identity.size_bytes:
        changed.append(f"size {identity.size_bytes} is {size}")
    if changed:
        raise InputError(
            f"another device took this name since it was chosen: {', '.join(changed)}",
            where=where,
            hint="look at 'embedkit devices' again",
        )


def device_size(descriptor: int) -> int:
    """Bytes. Raises DeviceFault where there is no medium."""
    try:
        # Not BLKGETSIZE64: its number depends on the machine's word.
        return os.lseek(descriptor, 0, os.SEEK_END)
    except OSError as error:
        raise _fault("tell its size", error, None) from error


def sector_size(descriptor: int) -> int:
    """The logical sector, 512 or 4096 bytes: the unit of direct I/O."""
    try:
        answer = fcntl.ioctl(descriptor, _BLKSSZGET, b"\0" * 4)
    except OSError as error:
        raise _fault("tell its sector size", error, None) from error
    return int(struct.unpack("i", answer)[0])


def disk_sequence(descriptor: int) -> int | None:
    """The kernel's number for this disk since it appeared; None before Linux 5.15."""
    try:
        answer = fcntl.ioctl(descriptor, _BLKGETDISKSEQ, b"\0" * 8)
    except OSError:
        return None
    return int(struct.unpack("Q", answer)[0])


def aligned_buffer(length: int) -> mmap.mmap:
    """Page-aligned memory, as direct I/O needs it. It is taken when first touched."""
    return mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)


_READ_ONLY_HINT = "an SD card or its adapter has a write-protect slide at its side"


def _open(path: Path, flags: int) -> int:
    try:
        # Without O_CREAT: a mistyped name must never become a file in /dev.
        return os.open(path, flags)
    except OSError as error:
        where = str(path)
        if error.errno == errno.EBUSY:
            raise InputError(
                "the device is in use: it or a partition of it is mounted or held",
                where=where,
                hint="'embedkit devices' says by what; --unmount unmounts it",
            ) from error
        if error.errno in (errno.EACCES, errno.EPERM):
            raise LackError(
                "no permission to open the device",
                where=where,
                hint="run it as root (sudo), or as a member of the group that owns it",
            ) from error
        if error.errno == errno.EROFS:
            raise InputError(
                "the device is read-only", where=where, hint=_READ_ONLY_HINT
            ) from error
        if error.errno == errno.ENOENT:
            raise InputError("there is no such device", where=where) from error
        if error.errno in _GONE:
            raise LackError("there is no medium in the device", where=where) from error
        raise LackError(f"the device cannot be opened: {error.strerror}", where=where) from error


def _lock(descriptor: int, path: Path) -> None:
    """systemd.io/BLOCK_DEVICE_LOCKING: while this is held, udev does not probe the device."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise InputError(
                    "another program holds a lock on the device",
                    where=str(path),
                    hint=f"'fuser -v {path}' says which",
                ) from None
            time.sleep(0.05)


def _fault(verb: str, error: OSError, offset: int | None) -> DeviceFault:
    code = error.errno
    if code in _GONE:
        return DeviceFault("the device went away (pulled out, or its reader failed)", offset)
    if code == errno.ENOSPC:
        return DeviceFault("the device says that it is full: it is smaller than it claims", offset)
    if code == errno.EIO:
        return DeviceFault(
            f"the device reports an input/output error (on {verb})",
            offset,
            hint="try another reader or port; a card that fails again is worn out or broken",
        )
    return DeviceFault(f"the device refuses to {verb}: {error.strerror}", offset)
