"""The hand-usable fragments on a real kernel tree, merged by the kernel's own tools."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest
from support import debian, fragments
from support.linux_trees import KernelMake, source

from embedkit.kernel import profile_file
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.resolve import resolve
from embedkit.kernel.tree import KernelTree, find_defconfig, open_tree
from embedkit.kernel.wants import Obstacle, Want

pytestmark = pytest.mark.needs(
    *("debian", "program:dpkg-deb", "program:gcc", "program:make", "program:bash"),
    *("program:flex", "program:bison", "program:bc"),
)

KERNEL = "6.1"
FRAGMENTS = fragments.every()
PROFILE = profile_file.load("docker")
BOARDS = (("arm", "exynos_defconfig"), ("arm64", "defconfig"), ("arm", "bcm2835_defconfig"))
# What hardware decides, and no fragment can turn on: the symbol → what it hangs on.
HARDWARE = {
    ("arm", "exynos_defconfig"): {"CGROUP_HUGETLB": "ARM_LPAE", "HUGETLBFS": "ARM_LPAE"},
    ("arm64", "defconfig"): {},
    ("arm", "bcm2835_defconfig"): {
        "CGROUP_HUGETLB": "ARM_LPAE",
        "HUGETLBFS": "ARM_LPAE",
        # One core.
        "CPUSETS": "SMP",
    },
}


@cache
def _tree(arch: str) -> KernelTree:
    try:
        folder = source(KERNEL)
    except debian.NotToBeHad as error:
        debian.give_up(str(error))
        raise
    return open_tree(folder, arch=arch, cross_compile="", cc="gcc")


def _base(arch: str, defconfig: str) -> str:
    return find_defconfig(_tree(arch).path, defconfig, arch).path.read_text()


def _merged(tree: Path, arch: str, base: str, output: Path) -> tuple[KernelConfig, str]:
    """``merge_config.sh -m`` of all fragments, as Buildroot calls it, and ``make olddefconfig``."""
    make = KernelMake(tree, arch, output)
    (output / "base").write_text(base)
    ended = subprocess.run(
        ["bash", tree / "scripts/kconfig/merge_config.sh", "-m", "-O", ".", "base"]
        + [str(fragment.path) for fragment in FRAGMENTS],
        cwd=output,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return make.olddefconfig((output / ".config").read_text()), ended.stdout


@pytest.mark.parametrize(("arch", "defconfig"), BOARDS)
def test_all_together_keep_every_symbol(
    arch: str, defconfig: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    tree = _tree(arch)
    base = _base(arch, defconfig)
    # The tools are compiled into the output folder: once for all boards.
    output = tmp_path_factory.getbasetemp() / "fragments"
    final, _ = _merged(tree.path, arch, base, output)
    lost = {
        line.symbol
        for fragment in FRAGMENTS
        for line in fragment.lines
        if final.values.get(line.symbol) != line.value
        and not _not_in_this_kernel(line.symbol, tree)
    }
    assert lost == HARDWARE[arch, defconfig].keys()
    together = KernelConfig(base + "".join(fragment.text for fragment in FRAGMENTS))
    refused = resolve(tree, together, [Want(symbol) for symbol in sorted(lost)]).refused
    assert {item.want.symbol: item.allow for item in refused} == {
        symbol: (protected,) for symbol, protected in HARDWARE[arch, defconfig].items()
    }
    assert all(item.obstacle is Obstacle.PROTECTED for item in refused)


def _not_in_this_kernel(symbol: str, tree: KernelTree) -> bool:
    """Whether the tree lacks the symbol, and the profile says that it must."""
    if tree.has(symbol):
        return False
    exists = PROFILE.symbol(symbol).exists
    assert tree.version is not None
    assert exists and not exists.holds(tree.version), symbol
    return True


@pytest.mark.parametrize(("arch", "defconfig"), BOARDS)
@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda fragment: fragment.name)
def test_each_stands_by_itself(fragment: fragments.Fragment, arch: str, defconfig: str) -> None:
    """It sets all that its own lines depend on; y may become m where the base has modules."""
    tree = _tree(arch)
    tree.load(KernelConfig(_base(arch, defconfig) + fragment.text))
    lost = {
        line.symbol
        for line in fragment.lines
        if tree.value(line.symbol) not in ("y", "m") and tree.has(line.symbol)
    }
    assert lost <= HARDWARE[arch, defconfig].keys()
