"""Symbols that decide what hardware a kernel boots on, or what it is.

They are never changed on the way to something else: a config for a board that lost SMP, its
page size or its machine type boots no more, and nothing in a log would say why. Only the
user's word (``--allow SYM``, ``--enable SYM``) lets them change.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

_MEMORY = "it decides how memory is laid out and addressed"
_CPU = "it decides which processors the kernel runs on"
_MACHINE = "it decides which machines the kernel boots on"
_PREEMPT = "it is the preemption model, which changes latency and throughput of everything"
_TOOLS = "it decides whether the kernel loads modules at all"

# Whole names; the sentence says what is at stake. Sources: the help texts of arch/*/Kconfig,
# arch/arm/mm/Kconfig, arch/arm64/Kconfig, kernel/Kconfig.preempt, mm/Kconfig.
_NAMES: dict[str, str] = {
    **dict.fromkeys(
        (
            "ARM_LPAE",
            "MMU",
            "HIGHMEM",
            "HIGHMEM4G",
            "HIGHMEM64G",
            "NOHIGHMEM",
            "X86_PAE",
            "NUMA",
            "FLATMEM_MANUAL",
            "SPARSEMEM_MANUAL",
            "DISCONTIGMEM_MANUAL",
            "XIP_KERNEL",
            "THUMB2_KERNEL",
            "PHYS_OFFSET",
            "RELOCATABLE",
            "ARM_PATCH_PHYS_VIRT",
            "AUTO_ZRELADDR",
            "X86_5LEVEL",
            "PHYS_ADDR_T_64BIT",
            "CPU_DCACHE_DISABLE",
            "CPU_ICACHE_DISABLE",
            "HIGHPTE",
            "SPARSEMEM_VMEMMAP",
            "ARM_MODULE_PLTS",
        ),
        _MEMORY,
    ),
    **dict.fromkeys(
        (
            "SMP",
            "SMP_ON_UP",
            "64BIT",
            "32BIT",
            "X86_32",
            "X86_64",
            "CPU_BIG_ENDIAN",
            "CPU_LITTLE_ENDIAN",
            "CPU_ENDIAN_BE8",
            "NONPORTABLE",
            "AEABI",
            "OABI_COMPAT",
            "VFP",
            "VFPv3",
            "NEON",
            "FPU",
            "RISCV_ISA_C",
            "RISCV_ISA_V",
            "BIG_LITTLE",
            "MCPM",
            "NR_CPUS",
        ),
        _CPU,
    ),
    **dict.fromkeys(
        ("ACPI", "OF", "USE_OF", "ATAGS", "ARM_APPENDED_DTB", "EFI", "PCI", "XEN", "UML"),
        _MACHINE,
    ),
    **dict.fromkeys(
        (
            "PREEMPT",
            "PREEMPT_NONE",
            "PREEMPT_VOLUNTARY",
            "PREEMPT_RT",
            "PREEMPT_RT_FULL",
            "PREEMPT_LAZY",
            "PREEMPT_DYNAMIC",
            "PREEMPT__LL",
            "PREEMPT_RTB",
        ),
        _PREEMPT,
    ),
    "MODULES": _TOOLS,
    "COMPILE_TEST": "it offers code for hardware that this kernel does not run on",
    "BROKEN": "it offers code that is known not to work",
    "LTO_CLANG_FULL": "it changes how the kernel is built",
    "LTO_CLANG_THIN": "it changes how the kernel is built",
}
_PATTERNS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"VMSPLIT_\w+|ARM64_\d+K_PAGES|PAGE_SIZE_\w+|\w+_PAGE_SIZE_\d+\w*"), _MEMORY),
    (re.compile(r"ARM64_(?:VA|PA)_BITS(?:_\d+)?|PGTABLE_LEVELS|\w*PAGE_OFFSET"), _MEMORY),
    (re.compile(r"CPU_(?:V\d\w*|ARM\w+|SA\w+|XSC\w+|MIPS\w+|32v\w+|CAVIUM\w*|LOONGSON\w*)"), _CPU),
    (re.compile(r"ARCH_RV(?:32|64)I|CMODEL_\w+|M[3-6]86\w*|MK[678]\w*|MPENTIUM\w*|MATOM"), _CPU),
    (re.compile(r"MCORE2|GENERIC_CPU|MPSC|KERNEL_(?:GZIP|LZ\w+|XZ|ZSTD|BZIP2|UNCOMPRESSED)"), _CPU),
    (re.compile(r"HZ_\d+|HZ_PERIODIC|NO_HZ_(?:IDLE|FULL)"), "it sets the kernel's clock tick"),
)
# Where a symbol with a prompt stands: these files hold machine and processor types.
_FILES = re.compile(
    r"arch/[^/]+/(?:Kconfig\.(?:cpu|platforms|socs)|(?:mach|plat)-[^/]+/.*|mm/Kconfig"
    r"|platforms/.*|Kconfig\.cputype)"
)


@dataclass(frozen=True)
class Protection:
    """Why a symbol is protected."""

    symbol: str
    why: str


@cache
def _holds_machines(file: str) -> bool:
    return _FILES.fullmatch(file) is not None


def protection(name: str, files: tuple[str, ...] = ()) -> Protection | None:
    """Whether the symbol ``name``, defined in ``files`` (relative to the tree), is protected."""
    why = _NAMES.get(name)
    if why is None:
        why = next((text for pattern, text in _PATTERNS if pattern.fullmatch(name)), None)
    if why is None and any(_holds_machines(file) for file in files):
        why = _MACHINE
    return Protection(name, why) if why is not None else None
