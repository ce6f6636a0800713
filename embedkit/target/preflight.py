"""Whether Docker will run on a target, said before anything is copied: facts in, concerns out.

What the kernel config must hold is the kernel audit's business and not repeated here; this is
everything around it. Sources: moby's ``contrib/check-config.sh`` and daemon sources, and the
failures that users of boards reported.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum

from embedkit.target.facts import CgroupVersion, Facts, Filesystem, Init
from embedkit.units import format_size

MIB = 1 << 20
# docker-29's static archive unpacks to some 230 MB; with images below 300 MB nothing fits.
_ROOM_BYTES = 300 * MIB
_MINIMAL_ROOM_BYTES = 120 * MIB
_INODES = 10_000
# dockerd and containerd together take some 90 MB; a board of 128 MB runs one small container.
_MEMORY_BYTES = 120 * MIB
_MEMORY_COMFORT_BYTES = 250 * MIB
_CLOCK_SECONDS = 300
_DATA_ROOT = "/var/lib/docker"
# Filesystems that overlay2 and dockerd's data root cannot live on (moby, daemon/graphdriver).
_UNFIT = {
    "overlay": "overlay on overlay does not work",
    "nfs": "overlay needs features that NFS lacks",
    "nfs4": "overlay needs features that NFS lacks",
    "cifs": "overlay needs features that CIFS lacks",
    "vfat": "FAT has no permissions, links or extended attributes",
    "exfat": "exFAT has no permissions, links or extended attributes",
    "msdos": "FAT has no permissions, links or extended attributes",
    "fuseblk": "FUSE filesystems cannot be overlaid",
    "squashfs": "it cannot be written",
    "iso9660": "it cannot be written",
    "ecryptfs": "overlay does not work on it",
    "aufs": "overlay does not work on it",
}
_VOLATILE = ("tmpfs", "ramfs", "rootfs")
_ON_DISK = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs", "ubifs", "jffs2", "zfs", "nilfs2")


class Weight(StrEnum):
    """How a concern stands."""

    OK = "ok"
    INFO = "info"
    WARN = "warn"
    FAIL = "fail"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Concern:
    """One thing that was judged: ``state`` is what is, ``detail`` why it matters, ``hint`` what
    to do."""

    id: str
    weight: Weight
    label: str
    state: str
    detail: str = ""
    hint: str = ""


def judge(facts: Facts) -> tuple[Concern, ...]:
    """Every concern, well or not, in the order in which they are dealt with."""
    return tuple(concern for check in _CHECKS for concern in check(facts))


def data_root_problem(filesystem: Filesystem | None) -> str | None:
    """Why Docker's data cannot live on ``filesystem``, or None where it can."""
    if filesystem is None:
        return None
    if filesystem.read_only:
        return f"{filesystem.mount} is mounted read-only"
    if filesystem.type in _UNFIT:
        return f"{filesystem.mount} is {filesystem.type}: {_UNFIT[filesystem.type]}"
    return None


def data_root_candidates(facts: Facts) -> tuple[Filesystem, ...]:
    """Filesystems that Docker's data could live on, the roomiest first; RAM disks last."""
    fit = [
        fs
        for fs in facts.filesystems
        if fs.type in (*_ON_DISK, *_VOLATILE)
        and not fs.read_only
        and not fs.mount.startswith(("/proc", "/sys", "/dev", "/run", "/boot"))
    ]
    return tuple(sorted(fit, key=lambda fs: (fs.type in _VOLATILE, -(fs.available_bytes or 0))))


def _platform(facts: Facts) -> Iterator[Concern]:
    platform = facts.platform
    shown = f"{platform.arch}{'/' + platform.variant if platform.variant else ''}"
    if not platform.arch:
        yield Concern(
            "platform", Weight.UNKNOWN, "processor", "could not be told",
            "neither uname nor a readable program header is there", "name it with --arch",
        )  # fmt: skip
    elif platform.static_arch is None:
        yield Concern(
            "platform", Weight.WARN, "processor", shown,
            "Docker publishes no static binaries for it",
            "give a bundle of your own, built or taken from a distribution",
        )  # fmt: skip
    elif platform.arch == "arm" and platform.variant in ("v5", "v6"):
        yield Concern(
            "platform", Weight.WARN, "processor", shown,
            "from Docker 29 on the armhf binaries need ARMv7 and die here with an illegal "
            "instruction",
            "use a bundle of Docker 28 or older"
            + (" (armel)" if platform.static_arch == "armel" else ""),
        )  # fmt: skip
    else:
        yield Concern("platform", Weight.OK, "processor", f"{shown} ({platform.static_arch})")
    if platform.userland_arch and platform.userland_arch != platform.arch:
        yield Concern(
            "userland", Weight.INFO, "programs", f"{platform.userland_arch} under a "
            f"{platform.arch} kernel",
            "static Docker binaries of either kind run; images default to the daemon's",
        )  # fmt: skip


def _user(facts: Facts) -> Iterator[Concern]:
    if facts.user_id is None:
        yield Concern("user", Weight.UNKNOWN, "user", "could not be told")
    elif facts.user_id != 0:
        yield Concern(
            "user", Weight.FAIL, "user", f"number {facts.user_id}, not root",
            "installing and starting a Docker daemon takes root", "connect as root@",
        )  # fmt: skip
    else:
        yield Concern("user", Weight.OK, "user", "root")


def _kernel(facts: Facts) -> Iterator[Concern]:
    if facts.kernel_config:
        yield Concern("kernel-config", Weight.OK, "kernel config", facts.kernel_config)
    else:
        yield Concern(
            "kernel-config", Weight.UNKNOWN, "kernel config", "not readable on the board",
            "the kernel lacks CONFIG_IKCONFIG_PROC, and there is no /boot/config-RELEASE",
            "audit the config that it was built from: embedkit check-kernel FILE",
        )  # fmt: skip
    modules = facts.modules
    if modules.supported and not modules.folder_exists:
        yield Concern(
            "modules", Weight.WARN, "kernel modules", "no folder for the running kernel",
            f"/lib/modules/{facts.kernel_release} is missing: whatever the config has as a module "
            "cannot be loaded",
            "install the modules of exactly this kernel (make modules_install)",
        )  # fmt: skip
    elif modules.supported:
        yield Concern(
            "modules", Weight.OK, "kernel modules",
            f"{len(modules.loadable)} of Docker's loadable, {len(modules.loaded)} loaded",
        )  # fmt: skip


def _overlay(facts: Facts) -> Iterator[Concern]:
    modules = facts.modules
    if "overlay" in facts.kernel_filesystems:
        yield Concern("overlay", Weight.OK, "overlay filesystem", "there")
    elif "overlay" in (*modules.loadable, *modules.builtin, *modules.loaded):
        yield Concern("overlay", Weight.OK, "overlay filesystem", "loadable")
    elif facts.kernel_filesystems:
        yield Concern(
            "overlay", Weight.WARN, "overlay filesystem", "missing",
            "without it Docker falls back to vfs, which copies every layer whole",
            "build the kernel with CONFIG_OVERLAY_FS",
        )  # fmt: skip
    else:
        yield Concern("overlay", Weight.UNKNOWN, "overlay filesystem", "could not be told")


def _cgroups(facts: Facts) -> Iterator[Concern]:
    cgroups = facts.cgroups
    if cgroups.version is CgroupVersion.NONE:
        in_kernel = bool(cgroups.known) or bool(
            {"cgroup", "cgroup2"} & set(facts.kernel_filesystems)
        )
        if in_kernel:
            yield Concern(
                "cgroups", Weight.WARN, "cgroups", "not mounted",
                "nothing mounted them at boot; Docker needs them before it starts",
                "the deployed service mounts them; by hand: mount -t cgroup2 none /sys/fs/cgroup",
            )  # fmt: skip
        else:
            yield Concern(
                "cgroups", Weight.FAIL, "cgroups", "not in this kernel",
                "no container can be started without them", "build the kernel with CONFIG_CGROUPS",
            )  # fmt: skip
        return
    yield Concern("cgroups", Weight.OK, "cgroups", f"{cgroups.version}, {cgroups.mounts[0]}")
    if "memory" not in cgroups.controllers:
        yield Concern(
            "cgroup-memory", Weight.WARN, "memory limits", "no memory controller",
            "docker run --memory has no effect",
            "build with CONFIG_MEMCG; where it is built in, boot with "
            "cgroup_enable=memory cgroup_memory=1",
        )  # fmt: skip
    if cgroups.version is CgroupVersion.V1 and "devices" not in cgroups.controllers:
        yield Concern(
            "cgroup-devices", Weight.FAIL, "device control", "no devices controller",
            "on cgroup v1 every container start fails without it",
            "build with CONFIG_CGROUP_DEVICE and mount it",
        )  # fmt: skip


def _firewall(facts: Facts) -> Iterator[Concern]:
    firewall = facts.firewall
    if not firewall.iptables and not firewall.nft:
        yield Concern(
            "iptables", Weight.FAIL, "iptables", "missing",
            "dockerd ends at once with 'Iptables not found'",
            "install iptables, or run without Docker's networks: \"iptables\": false and "
            "\"bridge\": \"none\" in daemon.json",
        )  # fmt: skip
    elif not firewall.iptables:
        yield Concern(
            "iptables", Weight.WARN, "iptables", "missing, nft is there",
            "only Docker 29 and later can use nft alone, and call that experimental",
            'install iptables, or set "firewall-backend": "nftables" in daemon.json',
        )  # fmt: skip
    elif firewall.usable is False:
        yield Concern(
            "iptables", Weight.FAIL, "iptables", f"{firewall.iptables_version}: nat table unusable",
            "the program does not find its kernel part, so no bridge network can be set up",
            "build the kernel with "
            + (
                "CONFIG_NF_TABLES, CONFIG_NFT_COMPAT and CONFIG_NFT_NAT"
                if firewall.iptables_backend == "nf_tables"
                else "CONFIG_IP_NF_IPTABLES, CONFIG_IP_NF_NAT and CONFIG_IP_NF_FILTER"
            )
            + ", or switch to the other backend (update-alternatives --config iptables)",
        )  # fmt: skip
    else:
        state = f"{firewall.iptables_version or firewall.iptables}"
        yield Concern("iptables", Weight.OK, "iptables", state)


def _data_root(facts: Facts) -> Iterator[Concern]:
    here = facts.filesystem_of(_DATA_ROOT)
    problem = data_root_problem(here)
    others = data_root_candidates(facts)
    best = f"; {others[0].mount} would do (--data-root)" if others else ""
    if here is None:
        yield Concern("data-root", Weight.UNKNOWN, "data root", "no mounts could be read")
    elif problem is not None:
        yield Concern(
            "data-root", Weight.WARN if others else Weight.FAIL, "data root", problem,
            f"Docker's data would be in {_DATA_ROOT}",
            f"put it on another filesystem{best}" if others else "mount a writable ext4 there",
        )  # fmt: skip
    else:
        kind = "in memory, lost at reboot" if here.type in _VOLATILE else here.type
        weight = Weight.WARN if here.type in _VOLATILE else Weight.OK
        # A RAM disk as root also needs DOCKER_RAMDISK, since runc cannot pivot_root there.
        yield Concern(
            "data-root", weight, "data root", f"{here.mount}: {kind}",
            "images and containers vanish with the power" if weight is Weight.WARN else "",
            f"give a disk{best}" if weight is Weight.WARN else "",
        )  # fmt: skip
    if here is not None and problem is None:
        yield from _room(here)


def _room(here: Filesystem) -> Iterator[Concern]:
    free = here.available_bytes
    if free is None:
        yield Concern("room", Weight.UNKNOWN, "room", f"could not be told for {here.mount}")
    elif free < _MINIMAL_ROOM_BYTES:
        yield Concern(
            "room", Weight.FAIL, "room", f"{format_size(free)} free on {here.mount}",
            f"even a minimal bundle needs {format_size(_MINIMAL_ROOM_BYTES)}",
            "make room, or grow the partition",
        )  # fmt: skip
    elif free < _ROOM_BYTES:
        yield Concern(
            "room", Weight.WARN, "room", f"{format_size(free)} free on {here.mount}",
            "the full bundle leaves no room for images", "deploy with --minimal, or make room",
        )  # fmt: skip
    else:
        yield Concern("room", Weight.OK, "room", f"{format_size(free)} free on {here.mount}")
    if here.inodes_free is not None and here.inodes_free < _INODES:
        yield Concern(
            "inodes", Weight.WARN, "inodes", f"{here.inodes_free} free on {here.mount}",
            "one distribution image has tens of thousands of files",
            "make the filesystem with more inodes (mkfs.ext4 -i 8192)",
        )  # fmt: skip


def _memory(facts: Facts) -> Iterator[Concern]:
    total = facts.memory_bytes
    if total is None:
        yield Concern("memory", Weight.UNKNOWN, "memory", "could not be told")
    elif total < _MEMORY_BYTES:
        yield Concern(
            "memory", Weight.FAIL, "memory", format_size(total),
            "dockerd and containerd alone take some 90 MB",
            "add swap or zram, or use a bigger board",
        )  # fmt: skip
    elif total < _MEMORY_COMFORT_BYTES:
        yield Concern(
            "memory", Weight.WARN, "memory", format_size(total),
            "little is left for containers beside the daemon", "add swap or zram",
        )  # fmt: skip
    else:
        yield Concern("memory", Weight.OK, "memory", format_size(total))


def _clock(facts: Facts) -> Iterator[Concern]:
    offset = facts.clock_offset_seconds
    if offset is None:
        yield Concern("clock", Weight.UNKNOWN, "clock", "could not be told")
    elif abs(offset) > _CLOCK_SECONDS:
        days = abs(offset) / 86400
        apart = f"{days:.0f} days" if days >= 2 else f"{abs(offset) // 60} minutes"
        yield Concern(
            "clock", Weight.WARN, "clock", f"{apart} {'behind' if offset < 0 else 'ahead'}",
            "certificates are not valid at that time, so no image can be pulled",
            "set it: embedkit run TARGET -- date -s @$(date +%s); then run ntpd or chronyd",
        )  # fmt: skip
    else:
        yield Concern("clock", Weight.OK, "clock", "right")


def _network(facts: Facts) -> Iterator[Concern]:
    if facts.nameservers:
        yield Concern("dns", Weight.OK, "name servers", ", ".join(facts.nameservers))
    else:
        yield Concern(
            "dns", Weight.WARN, "name servers", "none in /etc/resolv.conf",
            "no registry can be found by name", "write 'nameserver ADDRESS' there, or load images "
            "from files (embedkit oci)",
        )  # fmt: skip
    if facts.ca_bundle:
        yield Concern("ca", Weight.OK, "CA certificates", facts.ca_bundle)
    else:
        yield Concern(
            "ca", Weight.WARN, "CA certificates", "none",
            "no registry can be trusted, so no image can be pulled",
            "install ca-certificates, or put a bundle at /etc/ssl/certs/ca-certificates.crt",
        )  # fmt: skip


def _devices(facts: Facts) -> Iterator[Concern]:
    for device, how in (
        ("/dev/pts", "mkdir -p /dev/pts && mount -t devpts devpts /dev/pts"),
        ("/dev/shm", "mkdir -p /dev/shm && mount -t tmpfs shm /dev/shm"),
    ):
        if device not in facts.devices:
            yield Concern(
                device.rpartition("/")[2], Weight.WARN, device, "missing",
                "docker exec -t and some programs on the board need it", how,
            )  # fmt: skip


def _init(facts: Facts) -> Iterator[Concern]:
    if facts.init in (Init.NONE, Init.UNKNOWN):
        what = f"process 1 is {facts.init_detail}" if facts.init_detail else "could not be told"
        yield Concern(
            "init", Weight.WARN, "init system", f"none that is known ({what})",
            "nothing would start Docker at boot", "start it yourself: deploy leaves a start script",
        )  # fmt: skip
    else:
        yield Concern("init", Weight.OK, "init system", facts.init.value)


def _docker(facts: Facts) -> Iterator[Concern]:
    docker = facts.docker
    if docker.dockerd:
        state = f"{docker.version or 'version unknown'} in {docker.dockerd}"
        running = "; it is running" if docker.running else "; it is not running"
        yield Concern("docker", Weight.INFO, "Docker", state + running)
    elif docker.running or docker.socket:
        yield Concern("docker", Weight.INFO, "Docker", "a daemon runs from somewhere else")


_CHECKS: tuple[Callable[[Facts], Iterator[Concern]], ...] = (
    _platform, _user, _kernel, _overlay, _cgroups, _firewall, _data_root, _memory, _clock,
    _network, _devices, _init, _docker,
)  # fmt: skip
