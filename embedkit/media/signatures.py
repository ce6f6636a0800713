"""What the first sectors of a device say it belongs to: a volume group, an array, a pool.

The kernel shows only members that are in use; a member whose group is not active looks free.
Offsets and magics: libblkid's superblock probes and the formats' own documents (LVM2
label_header, md superblock 1.x/0.90, LUKS1/2 header, ZFS on-disk format, swap header).
"""

from __future__ import annotations

import os
from pathlib import Path

_PROBES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"LUKS\xba\xbe", "crypto_LUKS"),
    (4096, b"\xfc\x4e\x2b\xa9", "linux_raid_member"),
    (0, b"\xfc\x4e\x2b\xa9", "linux_raid_member"),
    (4086, b"SWAPSPACE2", "swap"),
    (65526, b"SWAPSPACE2", "swap"),
    (4096 + 24, b"\xc6\x85\x73\xf6\x4e\x1a\x45\xca", "bcache"),
)
_LVM = b"LABELONE"
_ZFS_UBERBLOCK = (b"\x0c\xb1\xba\x00\x00\x00\x00\x00", b"\x00\x00\x00\x00\x00\xba\xb1\x0c")
_READ = 256 << 10

#: What a signature means to a person; signatures that are not here do not matter.
MEMBERS = {
    "LVM2_member": "an LVM physical volume",
    "linux_raid_member": "a member of a RAID array",
    "crypto_LUKS": "an encrypted (LUKS) volume",
    "zfs_member": "a member of a ZFS pool",
    "bcache": "a bcache device",
    "swap": "swap space",
    "ceph_bluestore": "a Ceph store",
    "drbd": "a DRBD volume",
    "VMFS_volume_member": "a VMware volume",
}


def sniff_path(path: Path) -> str:
    """The signature on a device, empty where there is none or it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        return sniff(os.pread(descriptor, _READ, 0))
    except OSError:
        return ""
    finally:
        os.close(descriptor)


def sniff(head: bytes) -> str:
    """The signature in a device's first 256 KiB, in blkid's words, or an empty text."""
    for sector in range(4):
        start = sector * 512
        if head[start : start + 8] == _LVM and head[start + 24 : start + 32] == b"LVM2 001":
            return "LVM2_member"
    for offset, magic, name in _PROBES:
        if head[offset : offset + len(magic)] == magic:
            return name
    # The first label's ring of uberblocks is its second half; one magic each 1 KiB.
    for offset in range(128 << 10, min(len(head), 256 << 10), 1024):
        if head[offset : offset + 8] in _ZFS_UBERBLOCK:
            return "zfs_member"
    return ""
