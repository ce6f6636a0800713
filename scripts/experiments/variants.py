"""Which symbols are taken away from a kernel that Docker runs on, and how each is looked at."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Variant:
    """A kernel without ``off``. ``cgroups`` is the version that the board mounts: some symbols
    matter on version 1 only. ``probes`` are tried beside the proof. ``apart``: the symbols have
    nothing to do with each other, and share a kernel to save time; each has its own row."""

    name: str
    off: tuple[str, ...] = ()
    cgroups: str = "v2"
    probes: tuple[str, ...] = ()
    apart: bool = False


# The kernel as embedkit patched it: what these say, every other kernel may say as well.
CONTROLS = (
    Variant("control-v2", probes=("limits", "icc", "ipv6")),
    Variant("control-v1", cgroups="v1", probes=("pause",)),
)

# Those first that rebuild little. A symbol alone, but where a second one hides what it does.
VARIANTS = (
    Variant("VETH", ("VETH",)),
    Variant("IP_NF_NAT", ("IP_NF_NAT",)),
    Variant("IP_NF_FILTER", ("IP_NF_FILTER",)),
    Variant("NETFILTER_XT_MATCH_ADDRTYPE", ("NETFILTER_XT_MATCH_ADDRTYPE",)),
    Variant("NETFILTER_XT_MATCH_CONNTRACK", ("NETFILTER_XT_MATCH_CONNTRACK",)),
    Variant("OVERLAY_FS", ("OVERLAY_FS",)),
    Variant("BRIDGE", ("BRIDGE",)),
    Variant("POSIX_MQUEUE", ("POSIX_MQUEUE",)),
    Variant("CGROUP_BPF", ("CGROUP_BPF",)),
    Variant("UTS_NS", ("UTS_NS",)),
    Variant("IPC_NS", ("IPC_NS",)),
    Variant("PID_NS", ("PID_NS",)),
    Variant("IP_NF_TARGET_MASQUERADE", ("IP_NF_TARGET_MASQUERADE",)),
    Variant(
        "rules",
        (
            "NETFILTER_XT_MARK",
            "NETFILTER_XT_MATCH_IPVS",
            "IP_NF_RAW",
            "IP6_NF_FILTER",
            "IP6_NF_NAT",
        ),
        apart=True,
    ),
    Variant("IP_NF_MANGLE", ("IP_NF_MANGLE",)),
    Variant("both MASQUERADE", ("IP_NF_TARGET_MASQUERADE", "IP6_NF_TARGET_MASQUERADE")),
    Variant("BRIDGE_NETFILTER", ("BRIDGE_NETFILTER",), probes=("icc",)),
    Variant("KEYS", ("KEYS",)),
    Variant("CGROUPS", ("CGROUPS",)),
    Variant("MEMCG", ("MEMCG",), probes=("limits",)),
    Variant("CGROUP_SCHED", ("CGROUP_SCHED",), probes=("limits",)),
    Variant("CPUSETS", ("CPUSETS",), probes=("limits",)),
    Variant("CGROUP_DEVICE", ("CGROUP_DEVICE",), "v1"),
    Variant("NET_NS", ("NET_NS",)),
    Variant("NF_NAT", ("NF_NAT",)),
    Variant("CGROUP_FREEZER", ("CGROUP_FREEZER",), "v1", ("pause",)),
    Variant("CGROUP_CPUACCT", ("CGROUP_CPUACCT",), "v1", ("pause",)),
    Variant("NAMESPACES", ("NAMESPACES",)),
)


def without(variant: Variant) -> str:
    """The kernel's name: what is off, so that variants that differ in cgroups share a build."""
    return "+".join(variant.off) or "docker"
