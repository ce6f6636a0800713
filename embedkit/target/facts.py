"""What is known of a target: plain data. :mod:`embedkit.target.gather` asks for it,
:mod:`embedkit.target.preflight` judges it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum


class Init(StrEnum):
    """What starts services on the target."""

    SYSTEMD = "systemd"
    OPENRC = "openrc"
    BUSYBOX = "busybox"  # BusyBox init with /etc/inittab, services as /etc/init.d/S??name
    SYSV = "sysv"
    NONE = "none"  # a shell or a single program as process 1
    UNKNOWN = "unknown"


class CgroupVersion(StrEnum):
    """Which cgroup hierarchy is mounted."""

    V1 = "v1"
    V2 = "v2"
    HYBRID = "hybrid"  # v1 controllers, with a v2 tree without controllers beside them
    NONE = "none"


@dataclass(frozen=True)
class Elf:
    """The header of a program of the target's own userland (ELF gABI, and AAELF for ARM)."""

    path: str
    bits: int
    little_endian: bool
    machine: int
    flags: int


@dataclass(frozen=True)
class Platform:
    """What programs can run. ``arch`` and ``variant`` are Docker's words for the kernel's CPU
    (``arm``/``v7``, ``arm64``, ``amd64``, ``386``, ``riscv64``); ``userland_arch`` is that of
    the programs installed, which may be 32-bit under a 64-bit kernel. ``hard_float`` is None
    where it could not be told. ``static_arch`` is Docker's name for its static builds."""

    arch: str
    variant: str
    userland_arch: str
    hard_float: bool | None
    machine: str
    cpu: str
    cpus: int
    features: tuple[str, ...]
    elf: Elf | None

    @property
    def static_arch(self) -> str | None:
        """The folder of Docker's static downloads that suits, or None where there is none."""
        if self.arch == "arm":
            if self.hard_float is False:
                return "armel" if self.variant in ("v5", "v6", "v7") else None
            # Since Docker 29 armhf means ARMv7; before, ARMv6 with VFP ran it too.
            return "armhf" if self.variant in ("v6", "v7", "v8") else "armel"
        return {"arm64": "aarch64", "amd64": "x86_64"}.get(self.arch)


@dataclass(frozen=True)
class Modules:
    """Kernel modules. ``loadable`` are those of the asked ones that are files in the running
    kernel's module folder, ``builtin`` those in its modules.builtin, ``loaded`` all that are."""

    supported: bool
    folder: str
    folder_exists: bool
    loaded: tuple[str, ...]
    loadable: tuple[str, ...]
    builtin: tuple[str, ...]


@dataclass(frozen=True)
class Cgroups:
    """Mounted cgroups. ``controllers`` are the usable ones; ``known`` what the kernel has."""

    version: CgroupVersion
    mounts: tuple[str, ...]
    controllers: tuple[str, ...]
    known: tuple[str, ...]


@dataclass(frozen=True)
class Filesystem:
    """One mounted filesystem; numbers are None where the target could not tell them."""

    mount: str
    device: str
    type: str
    read_only: bool
    size_bytes: int | None
    available_bytes: int | None
    inodes: int | None
    inodes_free: int | None


@dataclass(frozen=True)
class Firewall:
    """``iptables_backend`` is ``nf_tables``, ``legacy`` or empty. ``usable`` says whether
    ``iptables -t nat`` could list its rules (None: not root, or not there to try)."""

    iptables: str
    iptables_version: str
    iptables_backend: str
    nft: str
    usable: bool | None


@dataclass(frozen=True)
class DockerFacts:
    """A Docker that is there already."""

    dockerd: str
    version: str
    running: bool
    socket: bool


@dataclass(frozen=True)
class Facts:
    """All of it. Empty strings and tuples, and None, mean: could not be told."""

    hostname: str
    user_id: int | None
    os_name: str
    kernel_release: str
    kernel_version: str
    boot_id: str
    uptime_seconds: float | None
    platform: Platform
    memory_bytes: int | None
    memory_available_bytes: int | None
    swap_bytes: int | None
    kernel_config: str  # where it can be read: "/proc/config.gz", "/boot/config-…", or empty
    kernel_filesystems: tuple[str, ...]
    modules: Modules
    init: Init
    init_detail: str
    cgroups: Cgroups
    firewall: Firewall
    filesystems: tuple[Filesystem, ...]
    clock_seconds: int | None  # the target's, since 1970
    clock_offset_seconds: int | None  # the target's minus ours
    nameservers: tuple[str, ...]
    ca_bundle: str
    docker: DockerFacts
    tools: frozenset[str]
    devices: frozenset[str] = field(default_factory=frozenset)

    def filesystem_of(self, path: str) -> Filesystem | None:
        """The filesystem that holds ``path`` (absolute, normalised), by the longest mount."""
        around = [
            each
            for each in self.filesystems
            if path == each.mount or path.startswith(each.mount.rstrip("/") + "/")
        ]
        # Of two mounts on one folder the later one hides the earlier: sorting is stable.
        around.sort(key=lambda each: len(each.mount))
        if not around:
            return None
        best = around[-1]
        if best.available_bytes is not None:
            return best
        # df leaves out a folder that is bound to itself, as Docker binds its data-root.
        for each in reversed(around[:-1]):
            alike = (each.device, each.type) == (best.device, best.type)
            if alike and each.available_bytes is not None:
                return replace(each, mount=best.mount, read_only=best.read_only)
        return best
