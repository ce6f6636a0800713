"""Writes initramfs archives: cpio in the newc format, gzip-compressed.

Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

import gzip
import stat
from collections.abc import Sequence


class Initramfs:
    """Collects files, all root's; :meth:`compressed` gives the archive. The same files give the
    same bytes."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = 0

    def folder(self, path: str) -> None:
        """A folder; those above it come before it."""
        self._add(path, stat.S_IFDIR | 0o755, b"")

    def file(self, path: str, content: bytes, mode: int = 0o644) -> None:
        """A regular file."""
        self._add(path, stat.S_IFREG | mode, content)

    def link(self, path: str, target: str) -> None:
        """A symbolic link."""
        self._add(path, stat.S_IFLNK | 0o777, target.encode())

    def device(self, path: str, major: int, minor: int) -> None:
        """A character device."""
        self._add(path, stat.S_IFCHR | 0o600, b"", (major, minor))

    def _add(self, path: str, mode: int, content: bytes, device: tuple[int, int] = (0, 0)) -> None:
        self._count += 1
        name = path.encode() + b"\0"
        numbers = (
            self._count, mode, 0, 0, 1, 0, len(content), 0, 0, *device, len(name), 0,
        )  # fmt: skip
        head = b"070701" + b"".join(f"{number:08x}".encode() for number in numbers)
        self._parts += [_padded(head + name), _padded(content)]

    def compressed(self) -> bytes:
        """The whole archive. Call it once, at the end."""
        self._add("TRAILER!!!", 0, b"")
        return gzip.compress(b"".join(self._parts), 6, mtime=0)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def boot_archive(busybox: bytes, modules: Sequence[tuple[str, bytes]]) -> bytes:
    """An archive that loads ``modules`` (file name, content) in their order, waits for the
    device that the kernel's ``root=`` names, and goes on there."""
    archive = Initramfs()
    for folder in ("bin", "dev", "proc", "sys", "root", "lib"):
        archive.folder(folder)
    archive.device("dev/console", 5, 1)
    archive.file("bin/busybox", busybox, 0o755)
    for applet in _APPLETS:
        archive.link(f"bin/{applet}", "busybox")
    for name, content in modules:
        archive.file(f"lib/{name}", content)
    archive.file("lib/order", "".join(f"{name}\n" for name, _ in modules).encode())
    archive.file("init", _INIT.encode(), 0o755)
    return archive.compressed()


_APPLETS = ("sh", "mount", "insmod", "sleep", "switch_root", "findfs", "umount")
# What cannot be mounted ends this process, and with it the kernel: the last lines tell why.
_INIT = r"""#!/bin/sh
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sysfs /sys
while read -r module; do
	insmod /lib/"$module"
done </lib/order
root= type= init=/sbin/init
read -r words </proc/cmdline
for word in $words; do
	case $word in
	root=*) root=${word#root=} ;;
	rootfstype=*) type="-t ${word#rootfstype=}" ;;
	init=*) init=${word#init=} ;;
	esac
done
tries=0
while :; do
	case $root in
	*=*) device=$(findfs "$root" 2>/dev/null) ;;
	*) device=$root ;;
	esac
	[ -b "$device" ] && break
	tries=$((tries + 1))
	[ $tries = 20 ] && echo "initramfs: waiting for the root device $root"
	if [ $tries -gt 300 ]; then
		echo "initramfs: the root device '$root' did not come within 30 s; there are:"
		while read -r line; do echo "initramfs: $line"; done </proc/partitions
		exit 1
	fi
	sleep 0.1
done
[ $tries -lt 20 ] || echo "initramfs: $device is there"
if ! mount $type -o rw "$device" /root; then
	echo "initramfs: $device cannot be mounted"
	exit 1
fi
mount -o move /dev /root/dev
umount /sys /proc
exec switch_root /root "$init"
"""
