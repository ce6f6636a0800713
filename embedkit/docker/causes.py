"""What a daemon's complaint comes from, where it is not a kernel option: disk, clock, programs.

Kernel options are the profiles' knowledge; whoever calls joins both (see ``joined``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from embedkit.docker.proof import Cause, Explain
from embedkit.target.facts import Cgroups, CgroupVersion, Facts

# Messages of dockerd, containerd and runc (their sources, 20.10 to 29), lower case.
_KNOWN: tuple[tuple[str, Cause], ...] = (
    (
        r"iptables not found|failed to find iptables|\"iptables\": executable file not found",
        Cause("iptables", "the program iptables is not installed",
              "install it, or deploy with --iptables off"),
    ),
    (
        (
            r"can't initialize iptables table|iptables: no chain/target"
            r"|iptables v[\d.]+ \((?:legacy|nf_tables)\)|could not fetch rule set generation id"
            r"|table does not exist \(do you need to insmod\?\)"
        ),
        Cause("iptables-kernel", "iptables and the kernel do not fit each other",
              "switch its backend (update-alternatives --config iptables), add the kernel's "
              "netfilter options, or deploy with --iptables off"),
    ),
    (
        r"no space left on device|disk quota exceeded",
        Cause("disk", "the filesystem is full, in bytes or in inodes",
              "make room, or put the data elsewhere: --data-root"),
    ),
    (
        r"read-only file system",
        Cause("read-only", "the filesystem cannot be written",
              "mount it read-write, or put the data elsewhere: --data-root"),
    ),
    (
        r"certificate has expired or is not yet valid|certificate is not yet valid",
        Cause("clock", "the board's clock is wrong", "set it, then run ntpd or chronyd"),
    ),
    (
        r"exec format error|cannot execute binary file|built for another architecture",
        Cause("arch", "a program is for another processor", "take a bundle for this board"),
    ),
    (
        r"illegal instruction",
        Cause("cpu", "a program was built for a newer processor",
              "take an older bundle, or armel in place of armhf"),
    ),
    (
        (
            r"devices cgroup isn't mounted|cgroup mountpoint does not exist|no cgroup mount found"
            r"|cgroups: cannot find cgroup mount|cgroup.*: no such file or directory"
        ),
        Cause("cgroups", "the cgroups are not mounted, or one that is needed is missing",
              "let the deployed service mount them (restart it), and see embedkit probe"),
    ),
    (
        r"pid file found, ensure docker is not running|process with pid \d+ is still running",
        Cause("stale-pid", "a process id file of an earlier run is left",
              "remove /var/run/docker.pid"),
    ),
    (
        r"address already in use|port is already allocated",
        Cause("port", "another program has that port or socket", "stop it"),
    ),
    (
        r"unable to configure the docker daemon with file|configured using .*daemon\.json",
        Cause("daemon.json", "dockerd does not take its configuration",
              "mend /etc/docker/daemon.json"),
    ),
    (
        r"cannot allocate memory|out of memory",
        Cause("memory", "the board has too little memory", "add swap or zram"),
    ),
    (
        r"timeout waiting for containerd to start",
        Cause("slow", "the board took longer to start containerd than dockerd waits",
              "deploy again: what was read from its card is in memory now"),
    ),
    (
        r"could not find an available, non-overlapping ipv4 address pool",
        Cause("addresses", "every private network is in use on the board",
              "choose one: --set bip=192.168.99.1/24"),
    ),
    (
        r"executable file not found in \$path",
        Cause("program", "a program that Docker starts is missing",
              "take a complete bundle"),
    ),
)  # fmt: skip


def from_table(text: str) -> tuple[Cause, ...]:
    """Causes that the message itself names."""
    simple = text.lower()
    return tuple(cause for pattern, cause in _KNOWN if re.search(pattern, simple))


def from_facts(facts: Facts) -> Explain:
    """Causes that only the board's facts show: a message is the same with or without them."""

    def explain(text: str) -> tuple[Cause, ...]:
        found = []
        simple = text.lower()
        if "overlay" in simple and "overlay" not in facts.kernel_filesystems:
            found.append(
                Cause("CONFIG_OVERLAY_FS", "the kernel knows no overlay filesystem",
                      "build it in, or load the module overlay")
            )  # fmt: skip
        if "memory limit" in simple and "memory" not in facts.cgroups.controllers:
            found.append(_memory(facts.cgroups))
        return tuple(found)

    return explain


def _memory(cgroups: Cgroups) -> Cause:
    if "memory" in cgroups.known or cgroups.version is CgroupVersion.V2:
        return Cause("cgroup-memory", "the memory controller is in the kernel and not enabled",
                     "boot with cgroup_enable=memory cgroup_memory=1")  # fmt: skip
    return Cause("CONFIG_MEMCG", "the kernel has no memory controller", "build it in")


def joined(explains: Sequence[Callable[[str], tuple[Cause, ...]]]) -> Explain:
    """All that any of ``explains`` says, each cause once."""

    def explain(text: str) -> tuple[Cause, ...]:
        found: dict[str, Cause] = {}
        for one in explains:
            for cause in one(text):
                found.setdefault(cause.name, cause)
        return tuple(found.values())

    return explain
