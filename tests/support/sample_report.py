"""A report as large and as nested as a real kernel audit's, for tests of the renderers."""

# ruff: noqa: E501 (one requirement a line)

from __future__ import annotations

from embedkit.report.model import Finding, Report, Section, Status, Step, Table

_STATUSES = {
    "y": (Status.OK, "built in"),
    "m": (Status.OK, "as module"),
    "n": (Status.FAIL, "missing"),
    "w": (Status.WARN, "missing"),
    "k": (Status.WARN, "as module, and the root filesystem has no such module"),
    "?": (Status.UNKNOWN, "not in this defconfig"),
    "-": (Status.SKIP, "this kernel does not have it"),
    "i": (Status.INFO, "set"),
}

_NAMESPACES = """
NAMESPACES y|Processes of a container see their own process ids, mounts, host name and network.
NET_NS y|Every container gets a network stack of its own, with its own addresses and ports.
PID_NS y|The first process of a container is number 1 there, and sees none of the host's.
IPC_NS y|Shared memory and semaphores of a container are kept apart from the host's.
UTS_NS y|A container has a host name of its own.
"""
_CGROUPS = """
CGROUPS y|Limits and accounts for what the processes of a container use together.
CGROUP_CPUACCT y|docker stats reads the processor time of a container from here.
CGROUP_DEVICE y|Decides which device nodes a container may open.
CGROUP_FREEZER n|docker pause stops all processes of a container at once with it.
CGROUP_SCHED y|Shares of the processor among containers (--cpu-shares).
CPUSETS y|Binds a container to some of the processor cores (--cpuset-cpus).
MEMCG n|Without it no memory limit can be set and one container can take all of the board's memory.
CGROUP_BPF y|With version 2 of control groups the device rules of a container are a BPF program.
"""
_NETWORK = """
KEYS y|runc gives every container a session keyring of its own.
VETH k|A pair of virtual network cards: one end lies in the container, the other on the bridge.
BRIDGE y|docker0 is a bridge: all containers of a network are plugged into it.
BRIDGE_NETFILTER n|Packets that cross the bridge go past iptables only with it, so that published ports work between containers.
IP_NF_FILTER y|dockerd puts its rules for forwarding into this table when it starts.
IP_NF_MANGLE y|Swarm marks the packets of its published ports in this table.
IP_NF_TARGET_MASQUERADE n|Gives packets that leave the board the board's own address; without it no container reaches the network.
IP_NF_RAW m|Keeps packets that come from outside off the bridge's own addresses.
IP_NF_NAT y|Published ports (-p 80:8080) are rules in this table.
IP6_NF_FILTER y|The same table for IPv6.
IP6_NF_MANGLE w|The same table for IPv6.
IP6_NF_TARGET_MASQUERADE w|Masquerading for IPv6.
IP6_NF_RAW y|The same table for IPv6.
IP6_NF_NAT y|The same table for IPv6.
NETFILTER_XT_MATCH_ADDRTYPE n|dockerd's own rules ask whether an address is local; it ends at once where it cannot add them.
NETFILTER_XT_MATCH_CONNTRACK y|Answers find their way back into a container through connection tracking.
NETFILTER_XT_MATCH_IPVS m|Swarm balances the load of its services with it.
NETFILTER_XT_MARK y|Marks packets for Swarm's load balancer.
NF_NAT y|The core that all address translation rests on.
NF_NAT_IPV4 -|The IPv4 half of address translation, part of NF_NAT since Linux 5.1.
NF_NAT_NEEDED -|A helper symbol that went away with Linux 5.2.
POSIX_MQUEUE y|runc mounts /dev/mqueue into every container.
"""
_SECURITY = """
USER_NS y|Rootless mode and --userns-remap map root in a container to a plain user outside.
SECCOMP y|The default profile keeps some sixty system calls from containers.
SECCOMP_FILTER y|The profile is a filter program that this symbol makes possible.
CGROUP_PIDS w|A fork bomb in a container is stopped by --pids-limit only with it.
SECURITY_SELINUX -|Labels for containers where the root filesystem uses SELinux.
SECURITY_APPARMOR ?|The docker-default profile, where the root filesystem uses AppArmor.
CHECKPOINT_RESTORE i|docker checkpoint stores a running container and CRIU brings it back.
LEGACY_VSYSCALL_NONE -|Only on x86: very old C libraries crash with it.
"""
_RESOURCES = """
MEMCG_SWAP -|Folded into MEMCG in Linux 6.1.
MEMCG_KMEM -|Always on since Linux 4.5.
RESOURCE_COUNTERS -|Went away in Linux 3.19.
BLK_CGROUP y|Limits for reading and writing of disks.
BLK_DEV_THROTTLING y|--device-read-bps and its like.
CGROUP_PERF y|perf can count the events of one container.
CGROUP_HUGETLB w|Limits for huge pages.
NET_CLS_CGROUP m|Marks the packets of a container for traffic control.
CGROUP_NET_PRIO m|Priorities of a container's packets for each network card.
CFS_BANDWIDTH w|docker run --cpus=1.5 needs it; without it dockerd refuses to start such a container.
FAIR_GROUP_SCHED y|Shares of the processor among groups.
RT_GROUP_SCHED ?|--cpu-rt-runtime; on most boards it is better off.
IP_NF_TARGET_REDIRECT m|Swarm's ingress network redirects published ports with it.
IP_VS m|Swarm's load balancer.
IP_VS_NFCT y|Connection tracking for the load balancer.
IP_VS_PROTO_TCP y|Its TCP half.
IP_VS_PROTO_UDP y|Its UDP half.
IP_VS_RR m|Its round-robin scheduler.
IP_SCTP m|Containers that speak SCTP.
"""
_NFTABLES = """
NF_TABLES y|What iptables-nft and dockerd's own nftables mode talk to.
NFT_CT m|Connection tracking from nftables.
NFT_FIB m|Asks the routing table about an address.
NFT_FIB_IPV4 m|The same for IPv4.
NFT_FIB_IPV6 w|The same for IPv6.
NFT_MASQ m|Masquerading with nftables.
NFT_NAT m|Address translation with nftables.
"""
_FILES = """
EXT4_FS y|Where /var/lib/docker mostly lies.
EXT4_FS_POSIX_ACL y|Images may carry access lists.
EXT4_FS_SECURITY y|Images may carry security labels and file capabilities.
OVERLAY_FS k|The layers of an image are laid over one another with it; it is Docker's default storage driver.
BTRFS_FS -|A storage driver of its own where the data lies on btrfs.
BTRFS_FS_POSIX_ACL -|The same.
BLK_DEV_DM m|Needed by the devicemapper driver, which Docker dropped in version 25.
DM_THIN_PROVISIONING w|The same.
"""
_DRIVERS = """
VXLAN w|The overlay network of Swarm wraps packets in VXLAN.
BRIDGE_VLAN_FILTERING w|The overlay network keeps its networks apart with it.
CRYPTO y|Encrypted overlay networks.
CRYPTO_AEAD y|Encrypted overlay networks.
CRYPTO_GCM y|Encrypted overlay networks.
CRYPTO_SEQIV m|Encrypted overlay networks.
CRYPTO_GHASH y|Encrypted overlay networks.
XFRM y|Encrypted overlay networks.
XFRM_USER m|Encrypted overlay networks.
XFRM_ALGO m|Encrypted overlay networks.
INET_ESP m|Encrypted overlay networks.
IPVLAN w|Networks whose containers share the board's hardware address.
MACVLAN m|Networks whose containers appear on the wire with addresses of their own.
DUMMY m|Internal networks.
NF_NAT_FTP m|Active FTP out of a container.
NF_CONNTRACK_TFTP m|TFTP out of a container.
"""
_SYMPTOMS = {
    "CGROUP_FREEZER": "docker: Error response from daemon: cgroups: cannot pause container: freezer controller is not there",
    "MEMCG": "WARNING: Your kernel does not support memory limit capabilities or the cgroup is not mounted. Limitation discarded.",
    "NETFILTER_XT_MATCH_ADDRTYPE": 'failed to start daemon: Error initializing network controller: error creating default "bridge" network: Failed to program NAT chain: Failed to inject DOCKER in PREROUTING chain: iptables failed: iptables --wait -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER: iptables: No chain/target/match by that name.',
    "IP_NF_TARGET_MASQUERADE": "iptables v1.8.9 (legacy): Couldn't load target `MASQUERADE':No such file or directory",
    "OVERLAY_FS": 'failed to mount overlay: no such device; storage-driver=overlay2; graphdriver: error initializing graphdriver: driver "overlay2" not supported',
    "VETH": "failed to add the host (veth6f1c2d3) <=> sandbox (veth9b8a7c6) pair interfaces: operation not supported",
}


def _findings(text: str, level: str) -> tuple[Finding, ...]:
    found = []
    for line in text.strip().splitlines():
        head, _, why = line.partition("|")
        name, letter = head.split()
        status, state = _STATUSES[letter]
        symptom = _SYMPTOMS.get(name)
        hint = f"set CONFIG_{name}=y in a kernel config fragment and build the kernel again"
        found.append(
            Finding(
                f"CONFIG_{name}",
                status,
                f"CONFIG_{name}",
                state,
                f"{why}\nWithout it you see: {symptom}" if symptom else why,
                hint if status.is_problem else "",
                f"output/build/linux-6.1.55/.config:{100 + 37 * len(found)}"
                if letter in "ym"
                else "",
                level,
                {"value": letter},
            )
        )
    return tuple(found)


_CARD = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 800 90" font-size="13">
<rect class="fill-skip" x="1" y="20" width="90" height="44"/><text x="12" y="47">U-Boot</text>
<rect class="fill-1" x="91" y="20" width="200" height="44"/><text x="103" y="47">boot, vfat</text>
<rect class="fill-4" x="291" y="20" width="507" height="44"/><text x="303" y="47">root, ext4</text>
<text class="muted" x="1" y="84">0</text><text class="muted" x="91" y="84">4 MiB</text>
</svg>"""


def sample() -> Report:
    """About ninety findings in nested sections, with everything that a section can hold."""
    necessary = Section(
        "Generally necessary",
        "What dockerd needs to start and to run any container at all.",
        sections=(
            Section("Namespaces", findings=_findings(_NAMESPACES, "necessary")),
            Section("Control groups", findings=_findings(_CGROUPS, "necessary")),
            Section("Network", findings=_findings(_NETWORK, "necessary")),
        ),
    )
    optional = Section(
        "Optional features",
        sections=(
            Section("Security", findings=_findings(_SECURITY, "recommended")),
            Section("Resources", findings=_findings(_RESOURCES, "optional")),
            Section("nftables", findings=_findings(_NFTABLES, "optional")),
        ),
    )
    features = Table(
        ("Feature", "Answer", "Because of"),
        (
            ("run a container", "no", "NETFILTER_XT_MATCH_ADDRTYPE, IP_NF_TARGET_MASQUERADE"),
            ("memory limits", "no", "MEMCG"),
            ("overlay2", "no", "OVERLAY_FS is a module that the root filesystem lacks"),
            ("bridge network", "no", "BRIDGE_NETFILTER, NETFILTER_XT_MATCH_ADDRTYPE, VETH"),
            ("Swarm", "no", "VXLAN, BRIDGE_VLAN_FILTERING"),
            ("seccomp", "yes", ""),
        ),
    )
    steps = (
        Step("Write docker.fragment", "docker.fragment", "rm docker.fragment", Status.OK, 0.02),
        Step(
            "Merge it and let kconfig settle what follows from it",
            "output/build/linux-6.1.55/.config",
            "cp .config.before-embedkit .config",
        ),
        Step("Build the kernel again: make linux-rebuild", "output/images/zImage"),
    )
    return Report(
        command="check-kernel",
        title="Kernel config of output/build/linux-6.1.55/.config, profile docker",
        verdict="Docker will not run: 5 necessary symbols are missing and "
        "2 more are modules that the root filesystem does not have.",
        status=Status.FAIL,
        exit_code=1,
        facts=(
            ("Config", "output/build/linux-6.1.55/.config (2,214 symbols)"),
            ("Kernel", "6.1.55, from the config's header"),
            ("Architecture", "arm"),
            ("Profile", "docker, mirrors check-config.sh of 2026-06"),
            ("Modules", "output/target/lib/modules/6.1.55 (143 modules)"),
        ),
        sections=(
            Section("Features", table=features),
            necessary,
            optional,
            Section("Storage", findings=_findings(_FILES, "one of them")),
            Section("Network drivers", findings=_findings(_DRIVERS, "optional")),
            Section("Card", "0      U-Boot\n4 MiB  boot, vfat\n68 MiB root, ext4", svg=_CARD),
            Section("What to do", steps=steps),
        ),
        notes=(
            "The config has CONFIG_CGROUPS twice (lines 118 and 2031); the last one counts.",
            "The host's own kernel was not looked at.",
        ),
        data={"missing": ["CONFIG_MEMCG"]},
        source="output/build/linux-6.1.55/.config",
    )


def one_finding(**fields: object) -> Report:
    """The smallest report with a finding: ``fields`` over FAIL ``CONFIG_VETH: missing``."""
    given = {"id": "CONFIG_VETH", "status": Status.FAIL, "label": "CONFIG_VETH", "state": "missing"}
    finding = Finding(**(given | fields))  # type: ignore[arg-type]
    section = Section("Network", findings=(finding,))
    return Report("check-kernel", "a title", "a verdict", Status.FAIL, 1, sections=(section,))
