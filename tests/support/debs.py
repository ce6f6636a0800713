"""Debian packages made for tests, and just enough ELF for what embedkit reads of their files."""

from __future__ import annotations

import struct
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

APPLETS = (
    *("[", "[[", "ash", "cat", "getty", "hostname", "init", "ip", "login", "modprobe", "mount"),
    *("sh", "udhcpc", "umount"),
)


def deb(
    folder: Path,
    name: str,
    files: Mapping[str, bytes | str] | None = None,
    *,
    version: str = "1.0-1",
    arch: str = "armhf",
    depends: str = "",
) -> Path:
    """Builds a package; a file whose content is a text is a symbolic link to it."""
    root = folder / "build" / f"{name}_{arch}_{version.replace(':', '')}"
    (root / "DEBIAN").mkdir(parents=True)
    control = f"Package: {name}\nVersion: {version}\nArchitecture: {arch}\n"
    control += f"Depends: {depends}\n" if depends else ""
    control += "Maintainer: Nobody <nobody@example.org>\nDescription: for tests\n"
    (root / "DEBIAN" / "control").write_text(control)
    for path, content in (files or {}).items():
        file = root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, str):
            file.symlink_to(content)
        else:
            file.write_bytes(content)
    packed = folder / "debs" / f"{name}_{version.replace(':', '%3a')}_{arch}.deb"
    packed.parent.mkdir(exist_ok=True)
    subprocess.run(
        ["dpkg-deb", "-b", "--root-owner-group", "-z1", root, packed],
        check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip
    return packed


def dynamic(needed: Sequence[str], loader: str = "") -> bytes:
    """A program or library that asks for ``needed`` and ``loader``."""
    names = b"\0" + b"".join(name.encode() + b"\0" for name in needed)
    base, begin = 0x10000, 52 + 3 * 32
    entries, at = [], 1
    for name in needed:
        entries.append((1, at))
        at += len(name) + 1
    entries += [(5, base + begin), (10, len(names)), (0, 0)]
    block = b"".join(struct.pack("<II", *entry) for entry in entries)
    loader_at = begin + len(names) + len(block)

    def segment(kind: int, offset: int, size: int) -> bytes:
        return struct.pack("<8I", kind, offset, base + offset, 0, size, size, 4, 1)

    segments = segment(1, 0, loader_at + len(loader) + 1)
    segments += segment(2, begin + len(names), len(block))
    segments += segment(3 if loader else 4, loader_at, len(loader) + 1)
    ident = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIIIIIHHHHHH", 3, 40, 1, 0, 52, 0, 0, 52, 32, 3, 0, 0, 0)
    return ident + header + segments + names + block + loader.encode() + b"\0"


def module(*pairs: str) -> bytes:
    """A kernel module with these ``key=value`` in its .modinfo."""
    info = b"".join(pair.encode() + b"\0" for pair in pairs)
    names = b"\0.modinfo\0.shstrtab\0"
    body = 52 + len(info) + len(names)
    sections = struct.pack("<10I", *[0] * 10)
    sections += struct.pack("<10I", 1, 1, 0, 0, 52, len(info), 0, 0, 1, 0)
    sections += struct.pack("<10I", 10, 3, 0, 0, 52 + len(info), len(names), 0, 0, 1, 0)
    ident = b"\x7fELF\x01\x01\x01".ljust(16, b"\0")
    header = struct.pack("<HHIIIIIHHHHHH", 1, 40, 1, 0, 0, body, 0, 52, 0, 0, 40, 3, 2)
    return ident + header + info + names + sections


def busybox(applets: Sequence[str] = APPLETS) -> bytes:
    """What has BusyBox's table of names in it."""
    return dynamic(()) + b"\0" + b"".join(name.encode() + b"\0" for name in applets) + b"\0rest"


def whole_folder(folder: Path) -> Path:
    """Packages that an ARM reference board can be assembled from, without the weight."""
    for name, (files, depends) in _PACKAGES.items():
        deb(folder, name, files, depends=depends)
    release = "6.1.0-9-armmp"
    files = {
        f"boot/vmlinuz-{release}": b"kernel",
        f"boot/config-{release}": b"CONFIG_NET=y\n",
        f"usr/lib/linux-image-{release}/sun8i-h3-orangepi-pc.dtb": b"tree",
    }
    files |= {f"lib/modules/{release}/{name}": content for name, content in _MODULES.items()}
    deb(folder, f"linux-image-{release}", files, version="6.1.9-1")
    deb(folder, "ca-certificates", _CERTIFICATES, arch="all", depends="openssl, debconf")
    return folder / "debs"


_LOADER = "/lib/ld-linux-armhf.so.3"
_PROGRAM = dynamic(("libc.so.6",), _LOADER)
_TRIPLET = "arm-linux-gnueabihf"
_CERTIFICATES = {
    "usr/share/ca-certificates/mozilla/A.crt": b"CERT A\n",
    "usr/share/ca-certificates/mozilla/B.crt": b"CERT B",
}
_MODULES = {
    "modules.builtin": b"kernel/fs/proc.ko\n",
    "kernel/fs/ext4/ext4.ko": module("depends=jbd2", "softdep=pre: crc32c"),
    "kernel/fs/jbd2/jbd2.ko": module("depends="),
    "kernel/drivers/block/virtio_blk.ko": module("alias=virtio:d2v*", "depends="),
    "kernel/drivers/gpu/drm.ko": module("depends="),
    "kernel/drivers/odd/stp.ko": module("depends="),
    "kernel/net/bridge/br_netfilter.ko": module("depends=stp"),
}
_PACKAGES: dict[str, tuple[dict[str, bytes | str], str]] = {
    "busybox-static": ({"bin/busybox": busybox()}, ""),
    "containerd": (
        {
            "usr/bin/containerd": _PROGRAM,
            "usr/bin/containerd-shim-runc-v2": _PROGRAM,
            "usr/bin/ctr": _PROGRAM,
        },
        "",
    ),
    "docker.io": (
        {
            "usr/bin/docker": _PROGRAM,
            "usr/sbin/dockerd": dynamic(("libdev.so.1", "libc.so.6"), _LOADER),
            "usr/sbin/docker-proxy": _PROGRAM,
        },
        "libc6 (>= 2.34), libdev1 | libdev0, adduser, tini",
    ),
    "dropbear-bin": ({"usr/sbin/dropbear": _PROGRAM, "usr/bin/dropbearkey": _PROGRAM}, "libc6"),
    "iptables": (
        {
            "usr/sbin/xtables-legacy-multi": _PROGRAM,
            "usr/sbin/iptables-legacy": "xtables-legacy-multi",
            "usr/sbin/ip6tables-legacy-save": "xtables-legacy-multi",
            f"usr/lib/{_TRIPLET}/xtables/libxt_nat.so": dynamic(("libc.so.6",)),
        },
        "",
    ),
    "runc": ({"usr/sbin/runc": _PROGRAM}, ""),
    "tini": ({"usr/bin/tini-static": dynamic(())}, ""),
    "libc6": (
        {
            f"lib/{_TRIPLET}/libc.so.6": dynamic(("ld-linux-armhf.so.3",)),
            f"lib/{_TRIPLET}/ld-linux-armhf.so.3": dynamic(()),
            "lib/ld-linux-armhf.so.3": f"/lib/{_TRIPLET}/ld-linux-armhf.so.3",
        },
        "libgcc-s1",
    ),
    "libgcc-s1": ({f"lib/{_TRIPLET}/libgcc_s.so.1": dynamic(())}, ""),
    "libdev1": (
        {
            f"usr/lib/{_TRIPLET}/libdev.so.1": "libdev.so.1.2",
            f"usr/lib/{_TRIPLET}/libdev.so.1.2": dynamic(("libc.so.6",)),
            f"usr/lib/{_TRIPLET}/libunused.so.9": dynamic(()),
        },
        "",
    ),
    "u-boot-sunxi": ({"usr/lib/u-boot/orangepi_plus/u-boot-sunxi-with-spl.bin": b"spl"}, ""),
}
