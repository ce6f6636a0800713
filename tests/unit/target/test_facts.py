"""What a board says of itself, read and judged."""

from __future__ import annotations

import dataclasses
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.target.facts import CgroupVersion, Facts, Init
from embedkit.target.gather import read_facts, split_sections
from embedkit.target.local import LocalTarget
from embedkit.target.platform import parse_elf, read_platform
from embedkit.target.preflight import Weight, data_root_candidates, judge

NOW = 1_700_000_000.0
XU4 = {
    "tools": "sh\ncat\niptables",
    "user": "0",
    "hostname": "odroid",
    "release": "4.14.222",
    "machine": "armv7l",
    "cpuinfo": "processor\t: 0\nmodel name\t: ARMv7 Processor rev 3 (v7l)\n"
    "Features\t: half thumb vfpv3 neon\nprocessor\t: 1\n",
    "meminfo": "MemTotal:        2042752 kB\nMemFree:  1000 kB\nMemAvailable:    1900000 kB\n",
    "filesystems": "nodev\tproc\nnodev\tcgroup\nnodev\toverlay\n\text4",
    "mounts": "/dev/mmcblk1p2 / ext4 rw,noatime 0 0\n"
    "cgroup /sys/fs/cgroup/memory cgroup rw,memory 0 0\n"
    "cgroup /sys/fs/cgroup/devices cgroup rw,devices 0 0\n"
    "/dev/sda1 /media/My\\040Disk ext4 rw 0 0\n",
    "df": "Filesystem 1024-blocks Used Available Capacity Mounted on\n"
    "/dev/mmcblk1p2 7000000 1000000 6000000 15% /\n"
    "/dev/sda1 70000000 1000000 60000000 2% /media/My Disk",
    "dfi": "Filesystem Inodes IUsed IFree IUse% Mounted on\n/dev/mmcblk1p2 500000 1 499999 1% /",
    "cgroups": "#subsys_name\thierarchy\tnum_cgroups\tenabled\nmemory\t1\t1\t1\ndevices\t2\t1\t1",
    "kconfig": "/proc/config.gz",
    "modules": "supported\nbridge 100 0 - Live 0x0",
    "moduledir": "/lib/modules/4.14.222",
    "depend": "veth\nbr_netfilter",
    "pid1": "init\n/bin/busybox",
    "init": "inittab\nsnn",
    "iptables": "/sbin/iptables\niptables v1.8.9 (legacy)",
    "natlist": "0",
    "clock": "1700000005",
    "resolv": "nameserver 192.168.1.1\n",
    "ca": "/etc/ssl/certs/ca-certificates.crt",
    "dev": "/dev/pts\n/dev/shm",
    "docker": "",
    "elf": "/bin/busybox\n"
    " 7f 45 4c 46 01 01 01" + " 00" * 9 + " 02 00 28 00" + " 00" * 16 + " 00 04 00 05" + " 00" * 12,
}


def facts(**changes: str) -> Facts:
    return read_facts({**XU4, **changes}, NOW)


def weights(found: Facts) -> dict[str, Weight]:
    return {concern.id: concern.weight for concern in judge(found)}


def test_a_good_board() -> None:
    found = facts()
    assert (found.platform.arch, found.platform.variant) == ("arm", "v7")
    assert found.platform.hard_float is True
    assert found.platform.static_arch == "armhf"
    assert found.platform.cpus == 2
    assert found.memory_available_bytes == 1_900_000 * 1024
    assert found.init is Init.BUSYBOX
    assert found.cgroups.version is CgroupVersion.V1
    assert found.cgroups.controllers == ("memory", "devices")
    assert found.firewall.iptables_backend == "legacy"
    assert found.clock_offset_seconds == 5
    disk = found.filesystem_of("/media/My Disk/docker")
    assert disk is not None and disk.available_bytes == 60_000_000 * 1024
    assert not {Weight.FAIL, Weight.WARN} & set(weights(found).values())
    assert data_root_candidates(found)[0].mount == "/media/My Disk"


@pytest.mark.parametrize(
    ("changes", "id", "weight"),
    [
        ({"user": "1000"}, "user", Weight.FAIL),
        ({"machine": "armv6l"}, "platform", Weight.WARN),
        ({"machine": "riscv64", "elf": ""}, "platform", Weight.WARN),
        ({"kconfig": ""}, "kernel-config", Weight.UNKNOWN),
        ({"moduledir": ""}, "modules", Weight.WARN),
        ({"filesystems": "\text4"}, "overlay", Weight.WARN),
        ({"mounts": "/dev/x / ext4 rw 0 0"}, "cgroups", Weight.WARN),
        (
            {"mounts": "/dev/x / ext4 rw 0 0", "cgroups": "", "filesystems": "\text4"},
            "cgroups",
            Weight.FAIL,
        ),
        ({"mounts": XU4["mounts"].replace("rw,devices", "rw,cpu")}, "cgroup-devices", Weight.FAIL),
        ({"mounts": XU4["mounts"].replace("rw,memory", "rw,cpu")}, "cgroup-memory", Weight.WARN),
        ({"iptables": "", "natlist": ""}, "iptables", Weight.FAIL),
        ({"iptables": "", "natlist": "", "nft": "/sbin/nft"}, "iptables", Weight.WARN),
        ({"natlist": "3"}, "iptables", Weight.FAIL),
        ({"mounts": "overlay / overlay rw 0 0"}, "data-root", Weight.FAIL),
        ({"mounts": "tmpfs / tmpfs rw 0 0"}, "data-root", Weight.WARN),
        ({"mounts": "/dev/x / ext4 ro 0 0"}, "data-root", Weight.FAIL),
        ({"mounts": "srv:/r / nfs rw 0 0\n/dev/a /data ext4 rw 0 0"}, "data-root", Weight.WARN),
        ({"df": XU4["df"].replace("6000000", "90000")}, "room", Weight.FAIL),
        ({"df": XU4["df"].replace("6000000", "250000")}, "room", Weight.WARN),
        ({"dfi": XU4["dfi"].replace("499999", "12")}, "inodes", Weight.WARN),
        ({"meminfo": "MemTotal: 60000 kB"}, "memory", Weight.FAIL),
        ({"meminfo": ""}, "memory", Weight.UNKNOWN),
        ({"clock": "100"}, "clock", Weight.WARN),
        ({"resolv": "search lan"}, "dns", Weight.WARN),
        ({"ca": ""}, "ca", Weight.WARN),
        ({"dev": "/dev/pts"}, "shm", Weight.WARN),
        ({"pid1": "bash"}, "init", Weight.WARN),
        (
            {"docker": "/bin/dockerd\nDocker version 28.1.0, build x\nrunning"},
            "docker",
            Weight.INFO,
        ),
    ],
)
def test_each_thing_that_can_be_wrong(changes: dict[str, str], id: str, weight: Weight) -> None:
    found = weights(facts(**changes))
    assert found[id] is weight
    bad = next(concern for concern in judge(facts(**changes)) if concern.id == id)
    assert weight not in (Weight.FAIL, Weight.WARN) or (bad.hint and bad.detail)


@pytest.mark.parametrize(
    ("pid1", "signs", "init"),
    [
        ("systemd\n/lib/systemd/systemd", "systemd\ninittab", Init.SYSTEMD),
        ("init\n/sbin/init", "openrc\ninittab", Init.OPENRC),
        ("init\n/bin/busybox", "inittab\nsnn", Init.BUSYBOX),
        ("init\n/sbin/init", "inittab\nrcd\ninitd", Init.SYSV),
        ("init", "link /bin/busybox", Init.BUSYBOX),
        ("bash\n/bin/bash", "initd", Init.NONE),
        ("", "", Init.UNKNOWN),
    ],
)
def test_init_systems(pid1: str, signs: str, init: Init) -> None:
    assert facts(pid1=pid1, init=signs).init is init


@pytest.mark.parametrize(
    ("machine", "flags", "arch", "variant", "hard"),
    [
        ("armv5tejl", 0x05000200, "arm", "v5", False),
        ("armv6l", 0x05000400, "arm", "v6", True),
        ("armv7l", 0x05000400, "arm", "v7", True),
        ("aarch64", 0x05000400, "arm64", "v8", True),
    ],
)
def test_arm_float_abi(machine: str, flags: int, arch: str, variant: str, hard: bool) -> None:
    head = b"\x7fELF\x01\x01\x01" + bytes(9) + b"\x02\0\x28\0" + bytes(16)
    elf = parse_elf("/bin/sh", head + flags.to_bytes(4, "little") + bytes(12))
    platform = read_platform(machine, [], elf, [])
    assert (platform.arch, platform.variant, platform.hard_float) == (arch, variant, hard)
    assert platform.userland_arch == "arm"


def test_a_bound_folder_has_the_room_of_what_it_lies_on() -> None:
    mounts = XU4["mounts"] + "/dev/mmcblk1p2 /var/lib/docker ext4 rw 0 0\ntmpfs /x tmpfs rw 0 0\n"
    found = facts(mounts=mounts).filesystem_of("/var/lib/docker/overlay2")
    assert found is not None and found.mount == "/var/lib/docker"
    assert found.available_bytes == 6_000_000 * 1024
    other = facts(mounts=mounts).filesystem_of("/x")
    assert other is not None and other.available_bytes is None


@given(st.dictionaries(st.sampled_from(sorted(XU4)), st.text(max_size=120)))
def test_nonsense_from_a_board_is_borne(sections: dict[str, str]) -> None:
    judge(read_facts({**XU4, **sections}, NOW))


@given(st.binary(max_size=300))
def test_any_output_is_split(output: bytes) -> None:
    split_sections(output, "@mark")


@given(st.binary(max_size=80))
def test_any_bytes_are_an_elf_or_not(data: bytes) -> None:
    parse_elf("/x", data)


def test_a_board_cannot_end_a_section() -> None:
    output = b"\n@m hostname\nevil\n@other release\n9\n\n@m release\n4.14\n\n@m end\n"
    found = split_sections(output, "@m")
    assert found["release"] == "4.14"
    assert found["hostname"] == "evil\n@other release\n9"


def test_this_machine_answers() -> None:
    begun = time.monotonic()
    found = LocalTarget().facts()
    taken = time.monotonic() - begun
    assert found.kernel_release and found.platform.arch
    assert found.memory_bytes and found.clock_offset_seconds is not None
    # The clock was read at some moment of the asking, of which the middle is taken; in seconds.
    assert abs(found.clock_offset_seconds) <= taken / 2 + 1.5
    assert dataclasses.asdict(found)
