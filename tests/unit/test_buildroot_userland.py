"""check-buildroot and patch-buildroot: Buildroot's own configuration for a Docker target."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.buildroot_configs import write_configurable

from embedkit import cli
from embedkit.errors import InputError
from embedkit.kernel import buildroot, profile_file
from embedkit.kernel.buildroot import BuildrootConfig, read_config
from embedkit.kernel.buildroot_tree import open_buildroot
from embedkit.kernel.expression import Grade, names
from embedkit.kernel.profile import Level, Subject
from embedkit.kernel.userland import Source, check, parse_size

PROFILE = profile_file.load("buildroot-docker", Subject.BUILDROOT)
BOARD = "BR2_arm=y\nBR2_cortex_a15=y\nBR2_TARGET_ROOTFS_EXT2=y\n"
HEADER = "#\n# Automatically generated file; DO NOT EDIT.\n# Buildroot {} Configuration\n#\n"
# All that a good target has, for tests that take one thing away.
GOOD = {
    "BR2_HAVE_DOT_CONFIG": "y",
    "BR2_USE_MMU": "y",
    "BR2_arm": "y",
    "BR2_ARM_CPU_ARMV7A": "y",
    "BR2_TOOLCHAIN_USES_GLIBC": "y",
    "BR2_INIT_BUSYBOX": "y",
    "BR2_ROOTFS_DEVICE_CREATION_DYNAMIC_MDEV": "y",
    "BR2_PACKAGE_SKELETON_INIT_SYSV": "y",
    "BR2_TARGET_GENERIC_REMOUNT_ROOTFS_RW": "y",
    "BR2_PACKAGE_CGROUPFS_V2_MOUNT": "y",
    "BR2_PACKAGE_IPTABLES": "y",
    "BR2_PACKAGE_BUSYBOX": "y",
    "BR2_PACKAGE_CA_CERTIFICATES": "y",
    "BR2_PACKAGE_DROPBEAR": "y",
}


def config(release: str = "2026.02", **changes: str) -> BuildrootConfig:
    values = {**GOOD, **changes}
    lines = [f"{name}={value}\n" for name, value in values.items() if value != "n"]
    return BuildrootConfig(HEADER.format(release) + "".join(lines))


def grade(result: object, name: str) -> Grade:
    features = result.audit.features  # type: ignore[attr-defined]
    return next(item.grade for item in features if item.feature.name == name)


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    code = cli.main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_good_target_passes() -> None:
    result = check(config(), PROFILE)
    assert not result.failed(Level.RECOMMENDED)


@pytest.mark.parametrize(
    ("lost", "feature"),
    [
        ("BR2_USE_MMU", "mmu"),
        ("BR2_ROOTFS_DEVICE_CREATION_DYNAMIC_MDEV", "devices"),
        ("BR2_PACKAGE_CGROUPFS_V2_MOUNT", "cgroup-mounts"),
        ("BR2_PACKAGE_IPTABLES", "packet-filter"),
        ("BR2_PACKAGE_CA_CERTIFICATES", "certificates"),
        ("BR2_PACKAGE_BUSYBOX", "modprobe"),
        ("BR2_PACKAGE_SKELETON_INIT_SYSV", "dev-mounts"),
    ],
)
def test_each_necessary_thing_is_missed(lost: str, feature: str) -> None:
    result = check(config(**{lost: "n"}), PROFILE)
    assert grade(result, feature) is Grade.NO
    assert result.failed(Level.NECESSARY)


def test_an_ssh_server_is_recommended_only() -> None:
    result = check(config(BR2_PACKAGE_DROPBEAR="n"), PROFILE)
    assert not result.failed(Level.NECESSARY)
    assert result.failed(Level.RECOMMENDED)


@pytest.mark.parametrize(
    ("changes", "release"),
    [
        # What one thing does, another may do: another SSH server, another cgroup mount…
        ({"BR2_PACKAGE_DROPBEAR": "n", "BR2_PACKAGE_OPENSSH": "y"}, "2019.02"),
        (
            {
                "BR2_PACKAGE_DROPBEAR": "n",
                "BR2_PACKAGE_OPENSSH": "y",
                "BR2_PACKAGE_OPENSSH_SERVER": "y",
            },
            "2026.02",
        ),
        ({"BR2_PACKAGE_CGROUPFS_V2_MOUNT": "n", "BR2_PACKAGE_CGROUPFS_MOUNT": "y"}, "2026.02"),
        ({"BR2_PACKAGE_CGROUPFS_V2_MOUNT": "n", "BR2_PACKAGE_CGROUPFS_MOUNT": "y"}, "2018.02"),
        (
            {
                "BR2_PACKAGE_CGROUPFS_V2_MOUNT": "n",
                "BR2_INIT_BUSYBOX": "n",
                "BR2_INIT_SYSTEMD": "y",
                "BR2_PACKAGE_SKELETON_INIT_SYSV": "n",
                "BR2_PACKAGE_SKELETON_INIT_SYSTEMD": "y",
                "BR2_ROOTFS_DEVICE_CREATION_DYNAMIC_MDEV": "n",
            },
            "2026.02",
        ),
        ({"BR2_PACKAGE_IPTABLES": "n", "BR2_PACKAGE_NFTABLES": "y"}, "2026.02"),
        (
            {
                "BR2_PACKAGE_BUSYBOX": "n",
                "BR2_PACKAGE_KMOD": "y",
                "BR2_PACKAGE_KMOD_TOOLS": "y",
            },
            "2026.02",
        ),
        ({"BR2_TOOLCHAIN_USES_GLIBC": "n", "BR2_TOOLCHAIN_USES_UCLIBC": "y"}, "2026.02"),
    ],
)
def test_any_way_that_works_is_taken(changes: dict[str, str], release: str) -> None:
    assert not check(config(release, **changes), PROFILE).failed(Level.RECOMMENDED)


def test_openssh_without_its_server_is_no_way_in() -> None:
    result = check(config(BR2_PACKAGE_DROPBEAR="n", BR2_PACKAGE_OPENSSH="y"), PROFILE)
    assert grade(result, "ssh") is Grade.NO


PACKAGES = {
    "BR2_PACKAGE_DOCKER_ENGINE": "y",
    "BR2_PACKAGE_DOCKER_CLI": "y",
    "BR2_PACKAGE_CONTAINERD": "y",
    "BR2_PACKAGE_CRUN": "y",
}


def test_packages_count_where_they_are_the_way() -> None:
    assert check(config(), PROFILE).source is Source.BUNDLE
    assert check(config(), PROFILE, source=Source.PACKAGES).failed(Level.NECESSARY)
    result = check(config(**PACKAGES), PROFILE)
    assert result.source is Source.PACKAGES
    assert not result.failed(Level.NECESSARY)
    without = check(config(**{**PACKAGES, "BR2_PACKAGE_DOCKER_CLI": "n"}), PROFILE)
    assert without.failed(Level.NECESSARY)
    old = {**PACKAGES, "BR2_PACKAGE_CONTAINERD": "n", "BR2_PACKAGE_DOCKER_CONTAINERD": "y"}
    old |= {"BR2_PACKAGE_CGROUPFS_V2_MOUNT": "n", "BR2_PACKAGE_CGROUPFS_MOUNT": "y"}
    old |= {"BR2_PACKAGE_RUNC": "y"}
    assert "BR2_PACKAGE_CONTAINERD" not in {
        item.symbol.name
        for item in check(config("2020.02", **old), PROFILE).audit.lacking(Level.NECESSARY)
    }


def test_uclibc_takes_a_bundle_but_not_the_packages() -> None:
    libc = {"BR2_TOOLCHAIN_USES_GLIBC": "n", "BR2_TOOLCHAIN_USES_UCLIBC": "y"}
    assert not check(config(**libc), PROFILE).failed(Level.NECESSARY)
    assert check(config(**libc, **PACKAGES), PROFILE).failed(Level.NECESSARY)


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("60M", 60 << 20),
        ("512m", 512 << 20),
        ("1G", 1 << 30),
        ("61440", 60 << 20),
        ("65536k", 64 << 20),
        ("", None),
        ("60 M", None),
        ("60MB", None),
        ("-1", None),
        ("9" * 40, None),
    ],
)
def test_sizes_are_read_as_mke2fs_reads_them(text: str, number: int | None) -> None:
    assert parse_size(text) == number


def test_the_root_file_system_must_hold_a_bundle() -> None:
    small = {"BR2_TARGET_ROOTFS_EXT2": "y", "BR2_TARGET_ROOTFS_EXT2_SIZE": '"60M"'}
    assert check(config(**small), PROFILE).failed(Level.NECESSARY)
    assert not check(config(**small), PROFILE, root_grows=True).failed(Level.NECESSARY)
    big = {**small, "BR2_TARGET_ROOTFS_EXT2_SIZE": '"1G"'}
    assert not check(config(**big), PROFILE).failed(Level.NECESSARY)
    assert not check(config(BR2_TARGET_ROOTFS_EXT2_SIZE='"60M"'), PROFILE).sizes


@given(st.dictionaries(st.sampled_from(sorted(PROFILE.symbols)), st.sampled_from("yn")))
def test_more_is_never_worse(extra: dict[str, str]) -> None:
    """Turning on what the profile knows of never breaks a good target."""
    more = {name: "y" for name, value in extra.items() if value == "y"}
    more.pop("BR2_PACKAGE_DOCKER_ENGINE", None)
    assert not check(config(**more), PROFILE).failed(Level.NECESSARY)


# --- the profile and the commands ---------------------------------------------------------


def test_every_symbol_of_the_profile_is_buildroots_and_explained() -> None:
    asked = {
        symbol
        for section in PROFILE.sections
        for group in section.groups
        for symbol in group.symbols
    }
    assert asked <= PROFILE.symbols.keys()
    for name in asked:
        assert PROFILE.symbol(name).why
        assert PROFILE.symbol(name).symptom or name.endswith("IPTABLES_NFTABLES")
    spoken = {
        term.name
        for feature in PROFILE.features.values()
        for term in names(feature.needs)
        if not term.feature
    }
    assert all(name.startswith("BR2_") for name in asked | spoken | PROFILE.symbols.keys())


def test_it_is_no_kernel_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert "buildroot-docker" not in profile_file.available()
    assert list(profile_file.available(Subject.BUILDROOT)) == ["buildroot-docker"]
    with pytest.raises(InputError, match="about a Buildroot config"):
        profile_file.load("buildroot-docker")
    with pytest.raises(InputError, match="about a kernel config"):
        profile_file.load("docker", Subject.BUILDROOT)
    assert cli.main(["check-buildroot", "--profile", "list"]) == 0
    said = capsys.readouterr().out
    assert "buildroot-docker" in said
    assert "docker-swarm" not in said


@pytest.mark.parametrize("place", ["output", ".config"])
def test_the_report_speaks_of_buildroot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], place: str
) -> None:
    build = write_configurable(tmp_path, BOARD)
    source = build.output if place == "output" else build.config
    assert cli.main(["check-buildroot", str(source), "-v"]) == 1
    said = capsys.readouterr().out
    assert "CONFIG_" not in said
    assert "Linux arm" not in said
    assert "BR2_PACKAGE_IPTABLES: missing" in said
    assert "60M, needs 512 MiB" in said


def test_versions_are_buildroots() -> None:
    result = check(config("2018.02", BR2_PACKAGE_CGROUPFS_V2_MOUNT="n"), PROFILE)
    lacking = [item.symbol.name for item in result.audit.lacking(Level.NECESSARY)]
    assert "BR2_PACKAGE_CGROUPFS_MOUNT" in lacking
    assert "BR2_PACKAGE_CGROUPFS_V2_MOUNT" not in lacking
    mounts = next(i for i in result.audit.features if i.feature.name == "cgroup-mounts")
    assert "exists from Buildroot 2025.05 on" in mounts.remark


def test_a_defconfig_is_expanded_where_its_tree_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = write_configurable(tmp_path, BOARD)
    inside = build.tree / "configs" / "xu4_defconfig"
    inside.write_text(BOARD)
    code, told = run(capsys, "check-buildroot", str(inside))
    assert code == 1
    assert told["data"]["config"]["kind"] == "full"  # type: ignore[index]
    alone = tmp_path / "alone_defconfig"
    alone.write_text(BOARD)
    code, told = run(capsys, "check-buildroot", str(alone))
    assert code == 1
    assert told["data"]["verdict"] == "undecided"  # type: ignore[index]
    code, told = run(capsys, "check-buildroot", str(alone), "--tree", str(build.tree))
    assert told["data"]["verdict"] == "fails"  # type: ignore[index]


def test_patching_makes_it_pass_and_leaves_nothing_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = write_configurable(tmp_path, BOARD)
    old = build.config.read_bytes()
    code, told = run(capsys, "patch-buildroot", str(build.output), "--board", "xu4")
    assert code == 0
    assert (build.output / ".config.bak").read_bytes() == old
    assert cli.main(["check-buildroot", str(build.output), "-q"]) == 0
    tree = open_buildroot(buildroot.find(build.output))
    written = read_config(build.config)
    tree.load(written)
    # Just what Buildroot itself would write: its next make has nothing to ask.
    assert tree.full_config().values == written.values
    assert written.values["BR2_PACKAGE_DROPBEAR_CLIENT"] == "y"
    assert written.string("BR2_DL_DIR") == "$(TOPDIR)/dl"
    # The defconfig stays minimal, and gives the same.
    board = read_config(build.defconfig)
    assert "BR2_PACKAGE_DROPBEAR_CLIENT" not in board.values
    tree.load(board)
    assert tree.full_config().values == written.values
    changed = {item["symbol"] for item in told["data"]["plan"]["assignments"]}  # type: ignore[index]
    assert changed == {
        "BR2_PACKAGE_CGROUPFS_V2_MOUNT",
        "BR2_PACKAGE_IPTABLES",
        "BR2_PACKAGE_CA_CERTIFICATES",
        "BR2_PACKAGE_DROPBEAR",
        "BR2_TARGET_ROOTFS_EXT2_SIZE",
    }
    capsys.readouterr()
    first = (build.config.read_bytes(), build.defconfig.read_bytes())
    assert cli.main(["patch-buildroot", str(build.output), "--board", "xu4", "-q"]) == 0
    assert (build.config.read_bytes(), build.defconfig.read_bytes()) == first


def test_packages_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = write_configurable(tmp_path, BOARD)
    assert cli.main(["patch-buildroot", str(build.output), "--packages", "-q"]) == 0
    written = read_config(build.config)
    for name in ("DOCKER_ENGINE", "DOCKER_CLI", "CONTAINERD", "RUNC", "CGROUPFS_V2_MOUNT"):
        assert written.enabled(f"BR2_PACKAGE_{name}")


def test_systemd_brings_its_own_mounts(tmp_path: Path) -> None:
    build = write_configurable(tmp_path, BOARD + "BR2_INIT_SYSTEMD=y\n")
    assert cli.main(["patch-buildroot", str(build.output), "-q"]) == 0
    assert read_config(build.config).values.get("BR2_PACKAGE_CGROUPFS_V2_MOUNT", "n") == "n"


@pytest.mark.parametrize(
    ("more", "symbol", "hint"),
    [
        ("BR2_TOOLCHAIN_BUILDROOT_UCLIBC=y\n", "BR2_PACKAGE_DOCKER_ENGINE", "--allow BR2_TOOL"),
        ("BR2_cortex_m4=y\n", "BR2_USE_MMU", "protected"),
    ],
)
def test_what_the_user_chose_is_not_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, symbol: str, hint: str
) -> None:
    build = write_configurable(tmp_path, BOARD + more)
    old = build.config.read_bytes()
    assert cli.main(["patch-buildroot", str(build.output), "--packages"]) == 1
    said = capsys.readouterr().out
    assert build.config.read_bytes() == old
    refused = said[said.index("Not to be had") :]
    assert symbol in refused
    assert hint in refused
    # Nobody's board becomes another one.
    assert "--allow BR2_cortex" not in refused
    assert "--allow BR2_a" not in refused


@pytest.mark.parametrize("step", range(4))
def test_killed_between_the_steps(tmp_path: Path, step: int) -> None:
    build = write_configurable(tmp_path, BOARD)
    old = {path: path.read_bytes() for path in (build.config, build.defconfig)}
    child = os.fork()
    if child == 0:
        real, count = Path.replace, 0

        def replace(self: Path, target: Path) -> Path:
            nonlocal count
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return real(self, target)

        Path.replace = replace  # type: ignore[method-assign]
        cli.main(["patch-buildroot", str(build.output), "--board", "xu4", "-q"])
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    cut = {path: path.read_bytes() for path in old}
    assert cli.main(["patch-buildroot", str(build.output), "--board", "xu4", "-q"]) == 0
    for path, content in cut.items():
        assert content in (old[path], path.read_bytes())


def test_bad_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = write_configurable(tmp_path, BOARD)
    (build.tree / "package" / "Config.in").write_text("config BR2_X\n\tboool\n")
    for words, expected in (
        (["patch-buildroot", str(build.output)], "package/Config.in:2"),
        (["check-buildroot", str(tmp_path / "none")], "no such file"),
        (["check-buildroot", str(tmp_path)], "neither a Buildroot tree"),
        (["check-buildroot", str(build.external / "external.desc")], "no Buildroot config"),
        (["check-buildroot", str(build.output), "--profile", "docker"], "check-kernel"),
        (["check-buildroot", str(build.output), "--tree", str(tmp_path)], "no Config.in"),
    ):
        assert cli.main(words) == 2
        said = capsys.readouterr().err
        assert expected in said
        assert "Traceback" not in said


def test_a_tree_that_was_never_configured(tmp_path: Path) -> None:
    build = write_configurable(tmp_path, BOARD)
    for part in build.output.glob(".br2-external*"):
        part.unlink()
    tree = open_buildroot(buildroot.find(build.output))
    tree.load(BuildrootConfig(BOARD))
    assert tree.value("BR2_ARCH") == "arm"


def test_a_gcc_newer_than_the_tree_counts_as_its_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = write_configurable(tmp_path, BOARD)
    build.config.unlink()
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gcc").write_text("#!/bin/sh\necho 15.2.0\n")
    (programs / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    tree = open_buildroot(buildroot.find(build.output))
    tree.load(BuildrootConfig(BOARD))
    assert tree.value("BR2_HOST_GCC_AT_LEAST_11") == "y"
    assert tree.value("BR2_HOST_GCC_AT_LEAST_8") == "y"
