"""The resolver on a small tree in the manner of a 4.9 kernel."""

from __future__ import annotations

import pytest
from support import old_kernel

from embedkit.errors import InputError
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.fragment import diff, fragment
from embedkit.kernel.resolve import resolve
from embedkit.kernel.tree import KernelTree, open_tree
from embedkit.kernel.wants import (
    Obstacle,
    Prefer,
    Refused,
    Resolution,
    Want,
    parse_disable,
    parse_enable,
)

BOARD = "CONFIG_MODULES=y\nCONFIG_SMP=y\nCONFIG_NET=y\nCONFIG_NETFILTER=y\n"


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> KernelTree:
    folder = old_kernel.write(tmp_path_factory.mktemp("tree"))
    return open_tree(folder, arch="arm", assume_compiler=True)


def _set(plan: Resolution) -> dict[str, str]:
    return {item.symbol: item.value for item in plan.assignments}


def _plan(tree: KernelTree, *wants: Want, config: str = BOARD, **options: object) -> Resolution:
    return resolve(tree, KernelConfig(config), wants, **options)  # type: ignore[arg-type]


def _refused(plan: Resolution) -> Refused:
    assert len(plan.refused) == 1
    return plan.refused[0]


def test_dependencies_come_along_with_their_reasons(tree: KernelTree) -> None:
    plan = _plan(tree, Want("BRIDGE_NETFILTER", reason="isolation", feature="bridge"))
    assert _set(plan) == {
        "BRIDGE": "m",
        "NETFILTER_ADVANCED": "y",
        "BRIDGE_NETFILTER": "m",
        "NF_LOG": "m",
    }
    said = {item.symbol: item.because for item in plan.assignments}
    assert said["NETFILTER_ADVANCED"] == "BRIDGE_NETFILTER needs NETFILTER_ADVANCED, which was off"
    assert said["BRIDGE_NETFILTER"] == "isolation"
    assert {item.symbol: item.feature for item in plan.assignments}["BRIDGE"] == "bridge"
    assert plan.complete
    assert plan.lost == ()


def test_what_would_be_lost_on_the_way_is_kept(tree: KernelTree) -> None:
    plan = _plan(tree, Want("NETFILTER_ADVANCED"))
    assert _set(plan) == {"NETFILTER_ADVANCED": "y", "NF_LOG": "m"}
    kept = plan.assignments[-1]
    assert "would be lost" in kept.because
    assert [want.level for want in plan.satisfied] == ["necessary", "keep"]


def test_what_is_on_is_left_alone(tree: KernelTree) -> None:
    config = BOARD + "CONFIG_VETH=m\nCONFIG_OVERLAY_FS=y\n"
    plan = _plan(tree, Want("VETH"), Want("OVERLAY_FS"), config=config, prefer=Prefer.BUILT_IN)
    assert plan.assignments == ()
    assert len(plan.already) == 2
    assert plan.patched.text == config


@pytest.mark.parametrize(
    ("prefer", "early", "value"),
    [
        (Prefer.AUTO, False, "m"),
        (Prefer.AUTO, True, "y"),
        (Prefer.BUILT_IN, False, "y"),
        (Prefer.MODULE, True, "m"),
    ],
)
def test_module_or_built_in(tree: KernelTree, prefer: Prefer, early: bool, value: str) -> None:
    assert _set(_plan(tree, Want("EXT4_FS", early=early), prefer=prefer)) == {"EXT4_FS": value}


def test_without_modules_everything_is_built_in(tree: KernelTree) -> None:
    assert _set(_plan(tree, Want("VETH"), config="CONFIG_NET=y\n")) == {"VETH": "y"}


def test_a_module_becomes_built_in_where_y_is_wanted(tree: KernelTree) -> None:
    plan = _plan(tree, Want("BRIDGE", "y"), config=BOARD + "CONFIG_IPV6=m\nCONFIG_BRIDGE=m\n")
    assert plan.full.values["BRIDGE"] == "y"
    assert _set(plan) == {"IPV6": "y", "BRIDGE": "y"}
    assert "built in, which was a module" in plan.assignments[0].because


def test_promptless_symbols_through_what_turns_them_on(tree: KernelTree) -> None:
    plan = _plan(tree, Want("SECCOMP_FILTER"), Want("XFRM"), Want("NFT_FIB"))
    assert _set(plan) == {"SECCOMP": "y", "XFRM_USER": "m", "NFT_FIB_IPV4": "m"}
    said = {item.symbol: item.because for item in plan.assignments}
    assert said["SECCOMP"] == "SECCOMP_FILTER needs SECCOMP, which was off"
    assert "no other way" in said["XFRM_USER"]


def test_a_choice_is_changed_for_what_depends_on_it(tree: KernelTree) -> None:
    plan = _plan(tree, Want("SLAB_ONLY"))
    assert _set(plan) == {"SLAB": "y", "SLAB_ONLY": "y"}
    assert not plan.full.enabled("SLUB")
    explicit = _plan(tree, Want("SLAB_ONLY"), config=BOARD + "CONFIG_SLUB=y\n")
    assert explicit.full.enabled("SLAB")
    assert "# CONFIG_SLUB is not set" in explicit.patched.text


def test_turning_off(tree: KernelTree) -> None:
    config = BOARD + "CONFIG_XFRM_USER=y\n"
    assert _set(_plan(tree, Want("XFRM", "n"), config=config)) == {"XFRM_USER": "n"}
    plan = _plan(tree, Want("SECCOMP_FILTER", "n"), config=BOARD + "CONFIG_SECCOMP=y\n")
    assert _set(plan) == {"SECCOMP": "n"}


def test_numbers_and_texts(tree: KernelTree) -> None:
    wants = parse_enable(["SLAB_SIZE=16", 'CONFIG_GREETING="say "hi""'])
    plan = _plan(tree, *wants)
    assert _set(plan) == {"EXPERT": "y", "SLAB_SIZE": "16", "GREETING": 'say "hi"'}
    assert plan.full.values["SLAB_SIZE"] == "16"
    assert plan.full.string("GREETING") == 'say "hi"'
    for value, reason in (("99", "must be from 4 to 64"), ("many", "is a number")):
        refused = _refused(_plan(tree, *parse_enable([f"SLAB_SIZE={value}"])))
        assert refused.obstacle is Obstacle.IMPOSSIBLE
        assert reason in refused.reason


# What cannot be had


def test_a_symbol_that_does_not_exist(tree: KernelTree) -> None:
    refused = _refused(_plan(tree, Want("OVERLAYFS"), Want("VETH")))
    assert refused.obstacle is Obstacle.UNKNOWN
    assert "OVERLAYFS does not exist in kernel 4.9.241" in refused.reason
    assert "OVERLAY_FS" in refused.reason


def test_a_symbol_of_another_architecture(tree: KernelTree) -> None:
    refused = _refused(_plan(tree, Want("LEGACY_VSYSCALL_EMULATE")))
    assert refused.obstacle is Obstacle.ARCHITECTURE
    assert "x86" in refused.reason


def test_a_protected_symbol_is_named_with_what_it_would_unlock(tree: KernelTree) -> None:
    plan = _plan(tree, Want("CGROUP_HUGETLB"), Want("VETH"))
    refused = _refused(plan)
    assert refused.obstacle is Obstacle.PROTECTED
    assert refused.allow == ("ARM_LPAE",)
    assert refused.reason == (
        "CGROUP_HUGETLB needs HUGETLB_PAGE, which follows ARM_LPAE, which is n and protected: "
        "it decides how memory is laid out and addressed"
    )
    assert _set(plan) == {"VETH": "m"}
    allowed = _plan(tree, Want("CGROUP_HUGETLB"), allow=["ARM_LPAE"])
    assert _set(allowed) == {"ARM_LPAE": "y", "CGROUPS": "y", "CGROUP_HUGETLB": "y"}


def test_what_the_user_asks_for_is_allowed(tree: KernelTree) -> None:
    plan = _plan(tree, *parse_enable(["SMP"]), Want("CPUSETS"), config="CONFIG_NET=y\n")
    assert _set(plan) == {"SMP": "y", "CGROUPS": "y", "CPUSETS": "y"}


def test_the_preemption_model_stays(tree: KernelTree) -> None:
    refused = _refused(_plan(tree, Want("LATENCY")))
    assert refused.obstacle is Obstacle.PROTECTED
    assert "PREEMPT" in refused.allow


def test_a_conflict_names_both_sides(tree: KernelTree) -> None:
    plan = _plan(tree, Want("BRIDGE"), Want("WIRELESS", level="optional"))
    refused = _refused(plan)
    assert refused.obstacle is Obstacle.CONFLICT
    assert refused.want.symbol == "WIRELESS"
    assert "BRIDGE=on" in refused.reason
    # The more important one wins, whatever the order.
    other = _plan(tree, Want("WIRELESS", level="optional"), Want("BRIDGE"))
    assert _refused(other).want.symbol == "WIRELESS"


def test_a_bool_cannot_be_a_module(tree: KernelTree) -> None:
    refused = _refused(_plan(tree, Want("MEMCG", "m")))
    assert "no module" in refused.reason


def test_alternatives_any_one_will_do(tree: KernelTree) -> None:
    plan = _plan(tree, Want("NO_SUCH", alternatives=("OVERLAY_FS",)))
    assert _set(plan) == {"OVERLAY_FS": "m"}


def test_allow_must_name_a_symbol(tree: KernelTree) -> None:
    with pytest.raises(InputError, match="no such symbol") as caught:
        _plan(tree, Want("VETH"), allow=["ARM_LPEA"])
    assert "ARM_LPAE" in (caught.value.hint or "")


def test_words_that_name_no_symbol() -> None:
    with pytest.raises(InputError, match="names no kernel symbol"):
        parse_enable(["A B"])
    assert parse_disable(["CONFIG_X"])[0].symbol == "X"


# What is written


def test_fragment_is_ordered_by_feature_and_commented(tree: KernelTree) -> None:
    plan = _plan(
        tree,
        Want("OVERLAY_FS", reason="Layers.", feature="storage"),
        Want("BRIDGE_NETFILTER", reason="Rules.", feature="bridge"),
        Want("NO_SUCH"),
    )
    text = fragment(plan, "Docker", "Linux 4.9")
    assert text.index("# storage") < text.index("# bridge") < text.index("# Not to be had")
    assert "# Layers.\nCONFIG_OVERLAY_FS=m\n" in text
    assert "#   NO_SUCH: " in text
    appended = KernelConfig(BOARD + text)
    tree.load(appended)
    assert tree.full_config().text == plan.full.text


def test_diff_applies(tree: KernelTree) -> None:
    plan = _plan(tree, Want("VETH"), config="CONFIG_MODULES=y\n# CONFIG_VETH is not set")
    text = diff(KernelConfig("CONFIG_MODULES=y\n# CONFIG_VETH is not set"), plan.patched, "c")
    assert "-# CONFIG_VETH is not set\n\\ No newline at end of file\n" in text
    assert "+CONFIG_VETH=m\n" in text


def test_minimal_config_leads_back_to_the_full_one(tree: KernelTree) -> None:
    plan = _plan(tree, Want("BRIDGE_NETFILTER"), Want("SLAB_ONLY"))
    tree.load(plan.minimal)
    assert tree.full_config().text == plan.full.text
    assert len(plan.minimal.values) < len(plan.full.values)
