"""Buildroot's Config.in in small: the choices and dependencies that a Docker target meets."""

from __future__ import annotations

from pathlib import Path

from support.buildroot_trees import Build, write_build

CONFIG_IN = """\
mainmenu "Buildroot $BR2_VERSION Configuration"

config BR2_HAVE_DOT_CONFIG
	bool
	default y

config BR2_VERSION
	string
	option env="BR2_VERSION_FULL"

config BR2_HOST_GCC_VERSION
	string
	option env="HOST_GCC_VERSION"

config BR2_HOST_GCC_AT_LEAST_8
	bool
	default y if BR2_HOST_GCC_VERSION = "8"

config BR2_HOST_GCC_AT_LEAST_11
	bool
	default y if BR2_HOST_GCC_VERSION = "11"
	select BR2_HOST_GCC_AT_LEAST_8

config BR2_BASE_DIR
	string
	option env="BASE_DIR"

source "$BR2_BASE_DIR/.br2-external.in.paths"

config BR2_DL_DIR
	string "Download dir"
	default "$(TOPDIR)/dl"

source "arch/Config.in"
source "toolchain/Config.in"
source "system/Config.in"
source "package/Config.in"
source "$BR2_BASE_DIR/.br2-external.in.menus"
"""
ARCH = """\
choice
	prompt "Target architecture"

config BR2_arm
	bool "ARM"

config BR2_aarch64
	bool "AArch64"

endchoice

choice
	prompt "Processor"
	depends on BR2_arm

config BR2_cortex_a15
	bool "cortex-A15"
	select BR2_ARM_CPU_ARMV7A
	select BR2_USE_MMU

config BR2_cortex_m4
	bool "cortex-M4"

endchoice

config BR2_USE_MMU
	bool
	default y if BR2_aarch64

config BR2_ARM_CPU_ARMV7A
	bool

config BR2_ARCH
	string
	default "arm" if BR2_arm
	default "aarch64" if BR2_aarch64

config BR2_NORMALIZED_ARCH
	string
	default "arm" if BR2_arm
	default "arm64" if BR2_aarch64
"""
TOOLCHAIN = """\
choice
	prompt "C library"
	default BR2_TOOLCHAIN_BUILDROOT_GLIBC

config BR2_TOOLCHAIN_BUILDROOT_UCLIBC
	bool "uClibc-ng"
	select BR2_TOOLCHAIN_USES_UCLIBC

config BR2_TOOLCHAIN_BUILDROOT_GLIBC
	bool "glibc"
	depends on BR2_USE_MMU
	select BR2_TOOLCHAIN_USES_GLIBC

config BR2_TOOLCHAIN_BUILDROOT_MUSL
	bool "musl"
	depends on BR2_USE_MMU
	select BR2_TOOLCHAIN_USES_MUSL

endchoice

config BR2_TOOLCHAIN_USES_UCLIBC
	bool

config BR2_TOOLCHAIN_USES_GLIBC
	bool

config BR2_TOOLCHAIN_USES_MUSL
	bool
"""
SYSTEM = """\
choice
	prompt "Root FS skeleton"

config BR2_ROOTFS_SKELETON_DEFAULT
	bool "default target skeleton"

config BR2_ROOTFS_SKELETON_CUSTOM
	bool "custom target skeleton"

endchoice

choice
	prompt "Init system"
	default BR2_INIT_BUSYBOX

config BR2_INIT_BUSYBOX
	bool "BusyBox"
	select BR2_PACKAGE_BUSYBOX
	select BR2_PACKAGE_SKELETON_INIT_SYSV if BR2_ROOTFS_SKELETON_DEFAULT

config BR2_INIT_SYSTEMD
	bool "systemd"
	depends on BR2_TOOLCHAIN_USES_GLIBC
	select BR2_PACKAGE_SKELETON_INIT_SYSTEMD if BR2_ROOTFS_SKELETON_DEFAULT

config BR2_INIT_NONE
	bool "none"

endchoice

choice
	prompt "/dev management" if !BR2_INIT_SYSTEMD
	default BR2_ROOTFS_DEVICE_CREATION_DYNAMIC_DEVTMPFS

config BR2_ROOTFS_DEVICE_CREATION_STATIC
	bool "Static using device table"

config BR2_ROOTFS_DEVICE_CREATION_DYNAMIC_DEVTMPFS
	bool "devtmpfs"

config BR2_ROOTFS_DEVICE_CREATION_DYNAMIC_MDEV
	bool "devtmpfs + mdev"
	select BR2_PACKAGE_BUSYBOX

endchoice

config BR2_TARGET_GENERIC_REMOUNT_ROOTFS_RW
	bool "remount read-write"
	default y

config BR2_PACKAGE_SKELETON_INIT_SYSV
	bool

config BR2_PACKAGE_SKELETON_INIT_SYSTEMD
	bool

config BR2_TARGET_ROOTFS_EXT2
	bool "ext2/3/4 root filesystem"

config BR2_TARGET_ROOTFS_EXT2_SIZE
	string "exact size"
	depends on BR2_TARGET_ROOTFS_EXT2
	default "60M"
"""
PACKAGE = """\
config BR2_PACKAGE_BUSYBOX
	bool "busybox"
	default y

config BR2_PACKAGE_IPTABLES
	bool "iptables"

config BR2_PACKAGE_IPTABLES_NFTABLES
	bool "nftables compat"
	depends on BR2_PACKAGE_IPTABLES

config BR2_PACKAGE_NFTABLES
	bool "nftables"
	depends on !BR2_TOOLCHAIN_USES_UCLIBC

config BR2_PACKAGE_CA_CERTIFICATES
	bool "CA Certificates"

config BR2_PACKAGE_KMOD
	bool "kmod"

config BR2_PACKAGE_KMOD_TOOLS
	bool "kmod utilities"
	depends on BR2_PACKAGE_KMOD

config BR2_PACKAGE_DROPBEAR
	bool "dropbear"

config BR2_PACKAGE_DROPBEAR_CLIENT
	bool "client programs"
	default y
	depends on BR2_PACKAGE_DROPBEAR

config BR2_PACKAGE_OPENSSH
	bool "openssh"
	depends on BR2_USE_MMU

config BR2_PACKAGE_OPENSSH_SERVER
	bool "server"
	default y
	depends on BR2_PACKAGE_OPENSSH

config BR2_PACKAGE_CHRONY
	bool "chrony"

config BR2_PACKAGE_CGROUPFS_MOUNT
	bool "cgroupfs-mount"
	depends on !BR2_INIT_SYSTEMD

config BR2_PACKAGE_CGROUPFS_V2_MOUNT
	bool "cgroupfs-v2-mount"
	depends on !BR2_INIT_SYSTEMD
	depends on !BR2_PACKAGE_CGROUPFS_MOUNT

config BR2_PACKAGE_RUNC
	bool "runc"
	depends on !BR2_TOOLCHAIN_USES_UCLIBC

config BR2_PACKAGE_CONTAINERD
	bool "containerd"
	depends on BR2_USE_MMU && !BR2_TOOLCHAIN_USES_UCLIBC
	select BR2_PACKAGE_RUNC

config BR2_PACKAGE_DOCKER_CLI
	bool "docker-cli"

config BR2_PACKAGE_DOCKER_ENGINE
	bool "docker-engine"
	depends on BR2_USE_MMU && !BR2_TOOLCHAIN_USES_UCLIBC
	depends on !BR2_PACKAGE_CGROUPFS_MOUNT
	select BR2_PACKAGE_CGROUPFS_V2_MOUNT if !BR2_INIT_SYSTEMD
	select BR2_PACKAGE_CONTAINERD
	select BR2_PACKAGE_IPTABLES
"""
# A board of this tree, as its defconfig says it.
BOARD = "BR2_arm=y\nBR2_cortex_a15=y\nBR2_TARGET_ROOTFS_EXT2=y\n"
PARTS = ("paths", "menus", "toolchains", "jpeg", "openssl", "skeleton", "init", "linux")


def write_configurable(folder: Path, defconfig: str, *, version: str = "2026.02") -> Build:
    """write_build() with Config.in files; its .config is what they make of ``defconfig``."""
    from embedkit.kernel import buildroot
    from embedkit.kernel.buildroot import BuildrootConfig
    from embedkit.kernel.buildroot_tree import open_buildroot

    build = write_build(folder)
    for name, text in (
        ("Config.in", CONFIG_IN),
        ("arch/Config.in", ARCH),
        ("toolchain/Config.in", TOOLCHAIN),
        ("system/Config.in", SYSTEM),
        ("package/Config.in", PACKAGE),
        ("Makefile", f"export BR2_VERSION := {version}\n"),
    ):
        (build.tree / name).parent.mkdir(exist_ok=True)
        (build.tree / name).write_text(text)
    for part in PARTS:
        (build.output / f".br2-external.in.{part}").write_text("")
    (build.output / ".br2-external.in.paths").write_text(
        f'config BR2_EXTERNAL_WORKS_PATH\n\tstring\n\tdefault "{build.external}"\n'
    )
    build.config.write_text("BR2_arm=y\n")
    tree = open_buildroot(buildroot.find(build.output))
    tree.load(BuildrootConfig(defconfig))
    build.config.write_text(tree.full_config().text)
    build.defconfig.write_text(defconfig)
    return build
