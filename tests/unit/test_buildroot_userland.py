"""check-buildroot and patch-buildroot: Buildroot's own configuration for a Docker target."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.buildroot_configs import BOARD, write_configurable

from embedkit import cli
from embedkit.errors import InputError
from embedkit.kernel import profile_file
from embedkit.kernel.buildroot import BuildrootConfig
from embedkit.kernel.expression import Grade, names
from embedkit.kernel.profile import Level, Subject
from embedkit.kernel.userland import Source, check, parse_size

PROFILE = profile_file.load("buildroot-docker", Subject.BUILDROOT)
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
