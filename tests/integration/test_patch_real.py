"""patch-kernel on Debian's kernel sources, against the kernel's own configuration tools."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from support import checkconfig, debian
from support.linux_trees import KernelMake, differences, source

from embedkit.kernel import profile_file
from embedkit.kernel.audit import Question, audit
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.fragment import fragment
from embedkit.kernel.goals import plan, wants_for
from embedkit.kernel.profile import Level
from embedkit.kernel.tree import KernelTree, defconfigs, find_defconfig, open_tree
from embedkit.kernel.wants import Obstacle, Resolution, Want
from embedkit.kernel.world import World

pytestmark = pytest.mark.needs(
    "debian",
    "program:dpkg-deb",
    "program:gcc",
    "program:make",
    "program:flex",
    "program:bison",
    "program:bc",
)

OLD, NEW = "6.1", "6.12"


@dataclass(frozen=True)
class Board:
    """One defconfig of one kernel; ``lacking`` are symbols that its hardware cannot have."""

    kernel: str
    arch: str
    defconfig: str
    lacking: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.kernel}-{self.arch}-{self.defconfig}"


BOARDS = (
    Board(OLD, "arm", "exynos_defconfig"),
    Board(OLD, "arm", "multi_v7_defconfig"),
    # One core, and CPUSETS depends on SMP.
    Board(OLD, "arm", "bcm2835_defconfig", ("CPUSETS",)),
    Board(OLD, "arm64", "defconfig"),
    Board(OLD, "riscv", "defconfig"),
    Board(OLD, "x86", "x86_64_defconfig"),
    Board(NEW, "arm", "exynos_defconfig"),
    Board(NEW, "x86", "x86_64_defconfig"),
)
EXYNOS = BOARDS[0]
# A run of make costs seconds: old and new rules, and the board with the most side effects.
SOME = (EXYNOS, BOARDS[5], BOARDS[6])


@cache
def _tree(kernel: str, arch: str) -> KernelTree:
    try:
        folder = source(kernel)
    except debian.NotToBeHad as error:
        debian.give_up(str(error))
        raise
    return open_tree(folder, arch=arch, cross_compile="", cc="gcc")


def _source(board: Board) -> KernelConfig:
    tree = _tree(board.kernel, board.arch)
    path = find_defconfig(tree.path, board.defconfig, board.arch).path
    return KernelConfig(path.read_text(), str(path))


@cache
def _plan(board: Board, features: tuple[str, ...] = ()) -> Resolution:
    tree = _tree(board.kernel, board.arch)
    return plan(tree, _source(board), profile_file.load("docker"), features=features)


@pytest.fixture(scope="module")
def output(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernel-build")


def _make(board: Board, output: Path) -> KernelMake:
    return KernelMake(_tree(board.kernel, board.arch).path, board.arch, output / board.kernel)


@pytest.mark.parametrize("board", BOARDS, ids=str)
@pytest.mark.parametrize("features", [(), ("all",)], ids=["necessary", "all"])
def test_the_kernels_own_tools_keep_every_symbol(
    board: Board, features: tuple[str, ...], output: Path
) -> None:
    resolution = _plan(board, features)
    theirs = _make(board, output).olddefconfig(resolution.full.text)
    assert differences(resolution.full, theirs) == {}
    for item in resolution.assignments:
        assert theirs.values.get(item.symbol, "n") == item.raw, item
    for want in resolution.satisfied:
        if want.value == "on":
            assert theirs.enabled(want.symbol), want
    necessary = [item for item in resolution.refused if item.want.level == "necessary"]
    assert {item.want.symbol for item in necessary} == set(board.lacking)


@pytest.mark.parametrize("board", SOME, ids=str)
def test_fragment_and_defconfig_come_to_the_same(board: Board, output: Path) -> None:
    resolution = _plan(board)
    make = _make(board, output)
    appended = _source(board).text + fragment(resolution, "test", "test")
    assert differences(resolution.full, make.olddefconfig(appended)) == {}
    assert differences(resolution.full, make.olddefconfig(resolution.patched.text)) == {}
    assert differences(resolution.full, make.olddefconfig(resolution.minimal.text)) == {}
    assert resolution.minimal.text == make.savedefconfig(resolution.full.text).text


@pytest.mark.parametrize("board", BOARDS, ids=str)
def test_the_audit_finds_nothing_necessary_missing(board: Board) -> None:
    tree = _tree(board.kernel, board.arch)
    profile = profile_file.load("docker")
    result = audit(Question(_plan(board).full, profile, tree.version, tree.srcarch))
    assert {check.symbol.name for check in result.lacking(Level.NECESSARY)} == set(board.lacking)


@pytest.mark.needs("program:bash")
@pytest.mark.parametrize("board", BOARDS, ids=str)
def test_dockers_own_script_finds_nothing_necessary_missing(board: Board, tmp_path: Path) -> None:
    full = _plan(board).full
    config = tmp_path / ".config"
    config.write_text(full.text)
    assert full.release
    said = checkconfig.run(config, full.release, tmp_path)
    necessary = re.split(r"^Optional Features:", said, flags=re.MULTILINE)[0]
    states = checkconfig.symbol_lines(necessary)
    assert len(states) > 20
    assert {symbol for symbol, state in states if "missing" in state} == set(board.lacking)


@pytest.mark.parametrize("board", BOARDS, ids=str)
def test_no_assignment_can_be_left_out(board: Board) -> None:
    resolution = _plan(board)
    world = World(_tree(board.kernel, board.arch), _source(board))
    decisions = {item.symbol: item.value for item in resolution.assignments}
    world.keep(decisions)
    assert all(world.holds(want) for want in resolution.satisfied)
    for name in decisions:
        world.keep({symbol: value for symbol, value in decisions.items() if symbol != name})
        lost = [want for want in resolution.satisfied if not world.holds(want)]
        assert lost or not world.legal(), f"{name} is not needed"


def test_how_many_merge_config_loses(output: Path) -> None:
    """The same requests given to merge_config.sh, which does not look after dependencies."""
    tree = _tree(EXYNOS.kernel, EXYNOS.arch)
    base = _source(EXYNOS)
    tree.load(base)
    wants = wants_for(tree, tree.full_config(), profile_file.load("docker"), ("all",))
    names = dict.fromkeys(want.symbol for want in wants if tree.has(want.symbol))
    asked = "".join(f"CONFIG_{name}=y\n" for name in names)
    merged, _ = _make(EXYNOS, output).merge(base.text, asked)
    lost = [name for name in names if not merged.enabled(name)]
    ours = [item.want.symbol for item in _plan(EXYNOS, ("all",)).refused]
    print(f"merge_config.sh loses {len(lost)} of {len(names)}; embedkit {len(ours)}: {ours}")
    assert len(lost) >= 30
    assert len(ours) <= 1


def test_what_hardware_forbids_is_told_with_the_way_out() -> None:
    resolution = _plan(EXYNOS, ("all",))
    assert [item.want.symbol for item in resolution.refused] == ["CGROUP_HUGETLB"]
    refused = resolution.refused[0]
    assert refused.obstacle is Obstacle.PROTECTED
    assert refused.allow == ("ARM_LPAE",)
    assert "ARM_LPAE" in refused.reason
    tree = _tree(EXYNOS.kernel, EXYNOS.arch)
    allowed = plan(
        tree,
        _source(EXYNOS),
        profile_file.load("docker"),
        more=[Want("CGROUP_HUGETLB")],
        allow=["ARM_LPAE"],
    )
    assert allowed.complete
    assert allowed.full.enabled("CGROUP_HUGETLB")


def test_nothing_that_was_on_is_lost() -> None:
    """NETFILTER_ADVANCED takes the defaults of the LOG targets away; they stay all the same."""
    board = BOARDS[5]
    resolution = _plan(board)
    tree = _tree(board.kernel, board.arch)
    tree.load(_source(board))
    before = tree.full_config()
    lost = [
        name for name in before.values if before.enabled(name) and not resolution.full.enabled(name)
    ]
    assert lost == []


@pytest.mark.parametrize("kernel", [OLD, NEW])
def test_every_defconfig_evaluates_as_the_kernel_does(kernel: str, output: Path) -> None:
    """A sample of boards, untouched: the evaluation itself, choices, implies and numbers."""
    tree = _tree(kernel, "arm")
    make = KernelMake(tree.path, "arm", output / kernel)
    names = ["rpc_defconfig", "imx_v6_v7_defconfig"]
    sample = [item for item in defconfigs(tree.path) if item.arch == "arm" and item.name in names]
    assert len(sample) == len(names)
    for item in sample:
        text = item.path.read_text()
        tree.load(KernelConfig(text))
        assert differences(tree.full_config(), make.olddefconfig(text)) == {}, item.name
