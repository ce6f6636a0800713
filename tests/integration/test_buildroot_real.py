"""patch-kernel --buildroot with a real kernel source in the build, merged as Buildroot merges."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support import debian
from support.buildroot_trees import Build, write_build
from support.linux_trees import KernelMake, source

from embedkit import cli
from embedkit.kernel import buildroot, profile_file
from embedkit.kernel.audit import Question, audit
from embedkit.kernel.buildroot_kernel import in_use
from embedkit.kernel.config import KernelConfig, parse_line
from embedkit.kernel.profile import Level

pytestmark = pytest.mark.needs(
    *("debian", "program:dpkg-deb", "program:gcc", "program:make", "program:bash"),
    *("program:flex", "program:bison", "program:bc"),
)


@pytest.fixture(scope="module")
def build(tmp_path_factory: pytest.TempPathFactory) -> Build:
    """An Odroid XU3's build: exynos_defconfig, and a fragment of the board's own."""
    made = write_build(tmp_path_factory.mktemp("build"))
    (made.fragment.parent / "own.config").write_text(
        'CONFIG_LOCALVERSION="-works"\n# CONFIG_WLAN is not set\n'
    )
    try:
        tree = source("6.1")
    except debian.NotToBeHad as error:
        debian.give_up(str(error))
    made.linux.rename(made.linux.with_name("set-aside"))
    made.linux.symlink_to(tree)
    return made


def test_what_buildroot_merges_is_ready_for_docker(build: Build, tmp_path: Path) -> None:
    words = ["patch-kernel", "--buildroot", str(build.output), "--board", "xu4"]
    assert cli.main([*words, "--assume-compiler", "-q"]) == 0
    use = in_use(buildroot.find(build.output))
    assert [part.path.name for part in use.fragments] == ["own.config", "linux-docker.config"]
    # package/pkg-kconfig.mk: make NAME_defconfig, merge_config.sh -m, make olddefconfig.
    make = KernelMake(build.linux.resolve(), "arm", tmp_path)
    make.make("exynos_defconfig")
    config = tmp_path / ".config"
    merge = ["bash", str(build.linux / "scripts/kconfig/merge_config.sh"), "-m", "-O", "."]
    merge += [".config", *(str(part.path) for part in use.fragments)]
    subprocess.run(merge, cwd=tmp_path, check=True, capture_output=True)
    final = make.olddefconfig(config.read_text())
    assert final.string("LOCALVERSION") == "-works"
    fragment = KernelConfig(use.fragments[-1].path.read_text())
    lines = [parsed for line in fragment.text.splitlines() if (parsed := parse_line(line))]
    assert len(lines) > 20
    assert [name for name, value in lines if final.values.get(name, "n") != value] == []
    result = audit(Question(final, profile_file.load("docker")))
    assert result.lacking(Level.NECESSARY) == ()
    # Again, now that it is registered: not a byte changes.
    files = [build.config, build.defconfig, use.fragments[-1].path]
    before = [path.read_bytes() for path in files]
    assert cli.main([*words, "--assume-compiler", "-q"]) == 0
    assert [path.read_bytes() for path in files] == before
