"""What the audit says of configs that lack something."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.configs import audited, check, everything, header, without

from embedkit.errors import InputError
from embedkit.kernel import profile_file
from embedkit.kernel.audit import State, Verdict
from embedkit.kernel.compare import compare
from embedkit.kernel.config import KernelConfig, KernelVersion
from embedkit.kernel.expression import Grade
from embedkit.kernel.modules import open_modules
from embedkit.kernel.profile import Level
from embedkit.kernel.runtime import check as runtime_check

V1_ONLY = ("CGROUP_CPUACCT", "CGROUP_DEVICE", "CGROUP_FREEZER")
LEGACY = (
    "IP_NF_FILTER",
    "IP_NF_NAT",
    "IP_NF_MANGLE",
    "IP_NF_RAW",
    "IP_NF_TARGET_MASQUERADE",
    "IP_NF_IPTABLES",
)
LEGACY6 = tuple(name.replace("IP_", "IP6_") for name in LEGACY)


def feature(result: object, name: str):  # type: ignore[no-untyped-def]
    return next(f for f in result.features if f.feature.name == name)  # type: ignore[attr-defined]


def test_a_kernel_with_everything_runs_docker() -> None:
    result = audited(everything())
    assert result.verdict is Verdict.RUNS
    assert not result.failed()
    assert not result.failed(Level.OPTIONAL)


@pytest.mark.parametrize("symbol", ["NET_NS", "VETH", "BRIDGE", "NF_NAT", "POSIX_MQUEUE"])
def test_without_a_core_symbol_docker_does_not_run(symbol: str) -> None:
    result = audited(without(everything(), [symbol]))
    assert result.verdict is Verdict.FAILS
    assert result.failed()
    assert [c.symbol.name for c in result.lacking(Level.NECESSARY)] == [symbol]


@pytest.mark.parametrize("symbol", ["KEYS", "BRIDGE_NETFILTER"])
def test_docker_runs_without_some_necessary_symbols_but_the_check_fails(symbol: str) -> None:
    result = audited(without(everything(), [symbol]))
    assert result.verdict is Verdict.LIMITS
    assert result.failed()


def test_an_optional_symbol_changes_neither_verdict_nor_exit_code() -> None:
    result = audited(without(everything(), ["MACVLAN"]))
    assert result.verdict is Verdict.RUNS
    assert not result.failed()
    assert result.failed(Level.OPTIONAL)
    assert feature(result, "macvlan").grade is Grade.NO


def test_a_recommended_symbol_means_limits() -> None:
    result = audited(without(everything(), ["CFS_BANDWIDTH"]))
    assert result.verdict is Verdict.LIMITS
    assert not result.failed()
    assert result.failed(Level.RECOMMENDED)


def test_without_any_storage_driver_the_check_fails_though_docker_starts() -> None:
    result = audited(without(everything(), ["OVERLAY_FS", "BTRFS_FS"]))
    assert result.verdict is Verdict.LIMITS
    assert result.failed()
    assert not audited(without(everything(), ["OVERLAY_FS"])).failed()


def test_a_kernel_for_cgroup_v2_only_is_not_blamed_for_lacking_v1() -> None:
    result = audited(without(everything(), V1_ONLY))
    assert result.verdict is Verdict.RUNS
    assert not result.failed()
    assert {check(result, symbol).state for symbol in V1_ONLY} == {State.COVERED}
    assert feature(result, "cgroup-v1").grade is Grade.NO


def test_cgroup_v1_can_be_insisted_on() -> None:
    result = audited(without(everything(), V1_ONLY), required_features=("cgroup-v1",))
    assert result.failed()
    assert check(result, "CGROUP_DEVICE").state is State.MISSING


def test_without_v2_the_v1_symbols_are_necessary() -> None:
    result = audited(without(everything(), ["CGROUP_BPF", "CGROUP_DEVICE"]))
    assert result.verdict is Verdict.FAILS
    assert check(result, "CGROUP_DEVICE").state is State.MISSING


def test_a_kernel_without_legacy_iptables_can_use_nftables() -> None:
    result = audited(
        without(everything(release="6.17.1"), [*LEGACY, *LEGACY6, "NETFILTER_XTABLES_LEGACY"])
    )
    assert result.verdict is Verdict.RUNS
    assert not result.failed()
    assert feature(result, "iptables-legacy").grade is Grade.NO
    assert feature(result, "iptables-nft").grade is Grade.YES


def test_neither_iptables_nor_nftables_means_no_bridge_network() -> None:
    gone = [*LEGACY, *LEGACY6, "NFT_COMPAT", "NFT_NAT"]
    result = audited(without(everything(), gone))
    assert result.verdict is Verdict.FAILS
    assert feature(result, "bridge").grade is Grade.NO


@pytest.mark.parametrize(
    ("symbol", "release"),
    [
        ("OVERLAY_FS", "3.10.98"),
        ("CGROUP_PIDS", "3.18.1"),
        ("NF_TABLES", "3.4.111"),
        ("CRYPTO_GHASH", "7.2.0"),
        ("EXT3_FS", "7.2.0"),
    ],
)
def test_what_a_kernel_version_does_not_have_is_never_missing(symbol: str, release: str) -> None:
    text = without(everything(release=release), [symbol, "EXT4_USE_FOR_EXT2"])
    result = audited(text)
    assert check(result, symbol).state is State.NOT_IN_KERNEL
    assert all(c.symbol.name != symbol for level in Level for c in result.lacking(level))


def test_a_backported_symbol_counts_whatever_the_version_says() -> None:
    result = audited(everything(release="3.10.98"))
    assert check(result, "OVERLAY_FS").state is State.BUILT_IN


def test_old_names_of_renamed_symbols_count() -> None:
    text = without(everything(release="3.4.111"), ["MEMCG"])
    assert check(audited(text), "MEMCG").state is State.MISSING
    old = text + "CONFIG_CGROUP_MEM_RES_CTLR=y\n"
    found = check(audited(old), "MEMCG")
    assert found.state is State.BUILT_IN
    assert "CGROUP_MEM_RES_CTLR" in found.remark


def test_version_gates_follow_the_config_and_can_be_overridden() -> None:
    text = everything(release="4.14.1")
    assert any(c.symbol.name == "NF_NAT_IPV4" for c in audited(text).checks)
    result = audited(text, version=KernelVersion(6, 1))
    assert not any(c.symbol.name == "NF_NAT_IPV4" for c in result.checks)


def test_an_unknown_version_leaves_gated_symbols_undecided() -> None:
    promptless = "".join(f"CONFIG_HAVE_{n}=y\n" for n in range(20))
    text = promptless + everything().split("#\n", 2)[2]
    text = without(text, ["DEVPTS_MULTIPLE_INSTANCES", "NF_NAT_IPV4", "NF_NAT_NEEDED"])
    result = audited(text)
    assert result.version is None
    assert check(result, "DEVPTS_MULTIPLE_INSTANCES").state is State.UNDECIDED
    assert "unknown" in check(result, "DEVPTS_MULTIPLE_INSTANCES").remark


def test_a_minimal_config_is_undecided_and_not_missing() -> None:
    result = audited("CONFIG_NAMESPACES=y\nCONFIG_VETH=m\n# CONFIG_MACVLAN is not set\n")
    assert result.verdict is Verdict.UNDECIDED
    assert check(result, "BRIDGE").state is State.UNDECIDED
    assert check(result, "MACVLAN").state is State.MISSING
    assert check(result, "VETH").state is State.MODULE
    assert result.failed()
    assert not result.lacking(Level.NECESSARY)


def test_modules_count_only_where_they_are(tmp_path: Path) -> None:
    folder = tmp_path / "lib/modules/6.1.55"
    (folder / "kernel/net").mkdir(parents=True)
    (folder / "kernel/net/veth.ko.xz").touch()
    (folder / "kernel/net/bridge.ko").touch()
    (folder / "modules.dep").write_text("kernel/net/veth.ko.xz:\nkernel/net/nf_nat.ko:\n")
    (folder / "modules.builtin").write_text("kernel/net/netfilter/xt_addrtype.ko\n")
    modules = open_modules(tmp_path)
    result = audited(everything(value="m"), modules=modules)
    assert check(result, "VETH").state is State.MODULE
    assert check(result, "NETFILTER_XT_MATCH_ADDRTYPE").state is State.MODULE
    assert check(result, "BRIDGE").state is State.MODULE_ABSENT, "modules.dep does not know it"
    assert check(result, "NF_NAT").state is State.MODULE_ABSENT, "the file is not there"
    assert modules.unlisted == {"bridge"}
    assert result.verdict is Verdict.FAILS


def test_module_folders_that_cannot_be_used(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no kernel modules"):
        open_modules(tmp_path)
    (tmp_path / "lib/modules/6.1.1/kernel").mkdir(parents=True)
    with pytest.raises(InputError, match=r"no modules\.dep"):
        open_modules(tmp_path)
    (tmp_path / "lib/modules/6.1.2/kernel").mkdir(parents=True)
    with pytest.raises(InputError, match="several kernels"):
        open_modules(tmp_path)
    (tmp_path / "lib/modules/6.1.2/modules.dep").touch()
    assert open_modules(tmp_path, "6.1.2").release == "6.1.2"


def test_the_legacy_vsyscall_rule_takes_the_first_and_warns() -> None:
    text = header(arch="x86") + "CONFIG_LEGACY_VSYSCALL_NONE=y\n"
    found = check(audited(text), "LEGACY_VSYSCALL_NONE")
    assert found.bad
    assert not any(c.symbol.name.startswith("LEGACY_VSYSCALL") for c in audited(header()).checks)


def test_an_unknown_feature_is_refused_with_a_guess() -> None:
    with pytest.raises(InputError, match="no feature 'swarn'") as caught:
        audited(everything(), required_features=("swarn",))
    assert caught.value.hint == "did you mean 'swarm'?"


def test_comparison_tells_better_from_worse() -> None:
    before = audited(without(everything(), ["VETH", "MACVLAN"]))
    after = audited(
        without(everything(), ["MACVLAN", "OVERLAY_FS"]).replace(
            "CONFIG_BRIDGE=y", "CONFIG_BRIDGE=m"
        )
    )
    found = compare(before, after)
    assert {c.after.symbol.name: c.direction for c in found.symbols} == {
        "VETH": 1,
        "OVERLAY_FS": -1,
        "BRIDGE": 0,
    }
    assert found.worse
    assert {c.after.feature.name: c.direction for c in found.features}["overlay2"] == -1
    assert not compare(after, after).worse


def test_the_running_system(tmp_path: Path) -> None:
    limits = profile_file.load("docker").limits
    states = {c.name: c for c in runtime_check(limits, tmp_path)}
    assert not states["cgroup hierarchy"].good
    keys = tmp_path / "proc/sys/kernel/keys"
    keys.mkdir(parents=True)
    (keys / "root_maxkeys").write_text("200\n")
    (tmp_path / "proc/mounts").write_text("cgroup2 /sys/fs/cgroup cgroup2 rw 0 0\n")
    states = {c.name: c for c in runtime_check(limits, tmp_path)}
    assert states["cgroup hierarchy"].state == "cgroup v2"
    assert not states["/proc/sys/kernel/keys/root_maxkeys"].good
    (keys / "root_maxkeys").write_text("1000000\n")
    states = {c.name: c for c in runtime_check(limits, tmp_path)}
    assert states["/proc/sys/kernel/keys/root_maxkeys"].good
    (tmp_path / "proc/mounts").write_text("none /cg cgroup rw,cpu,cpuacct,memory,devices 0 0\n")
    assert not {c.name: c for c in runtime_check(limits, tmp_path)}["cgroup hierarchy"].good


def test_the_docker_profile_holds_the_newest_scripts_symbols() -> None:
    """The counts that the model of the newest script records for a modern kernel."""
    profile = profile_file.load("docker")
    config = KernelConfig(header("6.12.1") + "CONFIG_EXT4_USE_FOR_EXT2=y\n")
    by_section: dict[str, set[str]] = {}
    for section in profile.sections:
        for group in section.groups:
            if group.kernel.holds(KernelVersion(6, 12)) and not (
                group.unless and config.enabled(group.unless)
            ):
                by_section.setdefault(section.title, set()).update(
                    [] if group.first else group.symbols
                )
    counts = {title: len(symbols) for title, symbols in by_section.items()}
    assert counts == {
        "Generally Necessary": 33,
        "Optional Features": 31,
        "Network Drivers": 19,
        "Storage Drivers": 3,
    }
