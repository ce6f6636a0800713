"""A small tree in the manner of a 4.9 kernel for an ARM board: old spellings, old symbols."""

from __future__ import annotations

from pathlib import Path

from support.kconfig_trees import write_tree

TOP = """
mainmenu "Linux/$ARCH $KERNELVERSION Kernel Configuration"

config SRCARCH
	string
	option env="SRCARCH"

source "arch/$SRCARCH/Kconfig"
source "init/Kconfig"
source "net/Kconfig"
source "fs/Kconfig"
"""

ARM = """
config ARM
	bool
	default y
	select HAVE_ARCH_SECCOMP_FILTER

config HAVE_ARCH_SECCOMP_FILTER
	bool

config SMP
	bool "Symmetric multi-processing"

config ARM_LPAE
	bool "Large physical addresses"

config HUGETLB_PAGE
	def_bool ARM_LPAE

config SECCOMP
	bool "Secure computing"

config SECCOMP_FILTER
	def_bool y
	depends on HAVE_ARCH_SECCOMP_FILTER && SECCOMP

choice
	prompt "Preemption model"
	default PREEMPT_NONE

config PREEMPT_NONE
	bool "none"

config PREEMPT
	bool "full"

endchoice

config LATENCY
	bool "latency, for fully preemptible kernels"
	depends on PREEMPT
"""

X86 = """
config X86
	def_bool y

config LEGACY_VSYSCALL_EMULATE
	bool "vsyscall"
"""

INIT = """
config MODULES
	bool "loadable modules"
	option modules

config EXPERT
	bool "expert"

menuconfig CGROUPS
	boolean "control groups"

if CGROUPS

config MEMCG
	bool "memory"
	select PAGE_COUNTER

config CPUSETS
	bool "cpusets"
	depends on SMP

config CGROUP_HUGETLB
	bool "huge pages"
	depends on HUGETLB_PAGE

endif

config PAGE_COUNTER
	bool

config SLAB_SIZE
	int "a number"
	range 4 64
	default 8
	depends on EXPERT

config GREETING
	string "a text"
	default "hi"

choice
	prompt "Allocator"
	default SLUB

config SLAB
	bool "slab"

config SLUB
	bool "slub"

endchoice

config SLAB_ONLY
	bool "only with slab"
	depends on SLAB
"""

NET = """
menuconfig NET
	bool "networking"

if NET

config VETH
	tristate "virtual ethernet"

config BRIDGE
	tristate "bridge"
	depends on IPV6 || IPV6=n

config IPV6
	tristate "IPv6"
	default y

menuconfig NETFILTER
	bool "packet filter"

config NETFILTER_ADVANCED
	bool "advanced"
	depends on NETFILTER
	---help---
		If in doubt, N.

config NF_LOG
	tristate "logging"
	depends on NETFILTER
	default m if NETFILTER_ADVANCED=n

config BRIDGE_NETFILTER
	tristate "bridged traffic"
	depends on BRIDGE && NETFILTER && NETFILTER_ADVANCED

config XFRM
	bool

config XFRM_USER
	tristate "IPsec"
	select XFRM

config NFT_FIB
	tristate

config NFT_FIB_IPV4
	tristate "fib"
	depends on NETFILTER
	select NFT_FIB

config WIRELESS
	bool "wireless"
	depends on BRIDGE=n

endif
"""

FS = """
config OVERLAY_FS
	tristate "overlay"

config EXT4_FS
	tristate "ext4"
"""


def write(folder: Path) -> Path:
    """The tree, with defconfigs for two boards."""
    return write_tree(
        folder,
        TOP,
        "4.9.241",
        arch__arm__Kconfig=ARM,
        arch__x86__Kconfig=X86,
        init__Kconfig=INIT,
        net__Kconfig=NET,
        fs__Kconfig=FS,
        arch__arm__configs__board_defconfig=(
            "CONFIG_MODULES=y\nCONFIG_SMP=y\nCONFIG_NET=y\nCONFIG_NETFILTER=y\n"
        ),
        arch__arm__configs__single_defconfig="CONFIG_NET=y\n",
    )
