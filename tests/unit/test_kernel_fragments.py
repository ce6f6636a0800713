"""The hand-usable fragments and the profiles say the same."""

from __future__ import annotations

import re
from collections import defaultdict
from pathlib import Path

import pytest
from support import fragments
from support.fragments import Fragment, Line

from embedkit import data
from embedkit.kernel import profile_file
from embedkit.kernel.audit import Question, Verdict, audit
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.expression import Grade
from embedkit.kernel.profile import Level, Weight

FRAGMENTS = fragments.every()
DOCKER = [fragment for fragment in FRAGMENTS if fragment.name.startswith("docker/")]
PROFILE = profile_file.load("docker")
# Asked for by the profile and in no fragment, each for a reason.
LEFT_OUT = {
    **dict.fromkeys(
        ("LEGACY_VSYSCALL_NATIVE", "LEGACY_VSYSCALL_EMULATE", "LEGACY_VSYSCALL_NONE"),
        "a choice of x86 that the user's images decide",
    ),
    **dict.fromkeys(
        ("EXT3_FS", "EXT3_FS_XATTR", "EXT3_FS_POSIX_ACL", "EXT3_FS_SECURITY"),
        "only for a data folder on ext3, which the driver of ext4 serves",
    ),
}
# Prerequisites that no profile speaks of: a real tree proves that they exist.
PREREQUISITES = {
    *("AUDIT", "BLOCK", "HUGETLBFS", "NET", "NETDEVICES", "NET_CORE", "NET_SCHED", "PERF_EVENTS"),
    *("NETFILTER_ADVANCED", "NETFILTER_XTABLES", "NF_TABLES_INET"),
    *("SECURITY", "SECURITY_NETWORK", "VLAN_8021Q"),
}
BASE = ["core", "bridge-networking", "overlay2"]
KERNELS = ["3.10", "3.18", "4.4", "4.14", "4.19", "5.4", "5.10", "6.1", "6.12", "6.18", "7.2"]


def required(fragment: Fragment) -> list[Line]:
    """The lines that are there for their own sake, not for another's."""
    return [line for line in fragment.lines if not line.needed_by]


def full(names: list[str], kernel: str, arch: str = "arm64") -> KernelConfig:
    """A config of just these fragments, as the kernel would head it."""
    header = f"#\n# Automatically generated file; DO NOT EDIT.\n# Linux/{arch} {kernel}.0 Kernel"
    chosen = [item.text for item in DOCKER if item.path.stem in names or not names]
    return KernelConfig(f"{header} Configuration\n#\n" + "".join(chosen))


def test_the_fragments_are_found_where_the_package_ships_them() -> None:
    assert len(DOCKER) >= 10
    assert {fragment.name for fragment in FRAGMENTS} >= {
        "docker/core.config",
        "docker/bridge-networking.config",
        "docker/overlay2.config",
        "docker/cgroup-v1.config",
        "docker/cgroup-v2.config",
        "docker/swarm.config",
        "docker/limits.config",
        "docker/nftables.config",
        "docker/iptables-legacy.config",
        "docker/security.config",
        "docker/ipv6.config",
    }


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda fragment: fragment.name)
def test_every_line_has_its_reason(fragment: Fragment) -> None:
    assert fragment.title.endswith(".")
    names = [line.symbol for line in fragment.lines]
    assert len(names) == len(set(names))
    for line in fragment.lines:
        assert line.value == "y"
        assert line.reason.endswith("."), line.symbol
        for name in line.needed_by:
            # A prerequisite comes before what needs it, in the same file.
            assert name in names[names.index(line.symbol) + 1 :], (line.symbol, name)


@pytest.mark.parametrize("fragment", DOCKER, ids=lambda fragment: fragment.name)
def test_nothing_is_unknown_and_the_reasons_are_the_profiles(fragment: Fragment) -> None:
    for line in fragment.lines:
        known = PROFILE.symbols.get(line.symbol)
        if known is None:
            assert line.symbol in PREREQUISITES
        elif not line.needed_by:
            assert line.reason == known.why


def test_every_prerequisite_is_used() -> None:
    assert {line.symbol for item in DOCKER for line in item.lines} >= PREREQUISITES
    assert not PREREQUISITES & PROFILE.symbols.keys()


def test_each_requirement_is_in_exactly_one_fragment() -> None:
    places = defaultdict(list)
    for fragment in DOCKER:
        for line in required(fragment):
            places[line.symbol].append(fragment.name)
    assert {symbol: names for symbol, names in places.items() if len(names) > 1} == {}
    asked = {
        symbol
        for section in PROFILE.sections
        for group in section.groups
        for symbol in group.symbols
    }
    assert asked - places.keys() == LEFT_OUT.keys()


@pytest.mark.parametrize("kernel", KERNELS)
def test_all_together_leave_nothing_to_wish_for(kernel: str) -> None:
    result = audit(Question(full([], kernel), PROFILE))
    lacking = {check.symbol.name for level in Level for check in result.lacking(level)}
    assert lacking <= LEFT_OUT.keys()
    assert result.verdict is Verdict.RUNS


def _ways() -> list[tuple[str, str, str]]:
    """Kernel, control groups and packet filter, where the kernel is new enough for them."""
    found = []
    for kernel in KERNELS:
        number = tuple(int(part) for part in kernel.split("."))
        for cgroup in ["cgroup-v1", *(["cgroup-v2"] if number >= (4, 15) else [])]:
            for packets in ["iptables-legacy", *(["nftables"] if number >= (5, 2) else [])]:
                found.append((kernel, cgroup, packets))
    return found


@pytest.mark.parametrize(("kernel", "cgroup", "packets"), _ways())
def test_the_base_set_runs_docker(kernel: str, cgroup: str, packets: str) -> None:
    chosen = [*BASE, packets, cgroup, "old-kernels"]
    result = audit(Question(full(chosen, kernel), PROFILE))
    stopped = [
        item.feature.name
        for item in result.features
        if item.weight in (Weight.CORE, Weight.NECESSARY) and item.grade is Grade.NO
    ]
    assert stopped == []


def test_leaving_one_of_the_base_set_out_shows() -> None:
    for name in [*BASE, "iptables-legacy", "cgroup-v2"]:
        chosen = {*BASE, "iptables-legacy", "cgroup-v2"} - {name}
        result = audit(Question(full(sorted(chosen), "6.1"), PROFILE))
        assert result.failed(), name


def test_the_readme_names_every_fragment() -> None:
    folder = data.shipped_folder("kernel_fragments")
    text = Path(folder, "README.md").read_text()
    named = set(re.findall(r"`((?:docker|board)/[\w-]+\.config)`", text))
    assert named == {fragment.name for fragment in FRAGMENTS}
