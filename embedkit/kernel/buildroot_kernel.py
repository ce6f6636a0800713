"""The kernel config that a Buildroot build uses: what it starts from, and what is merged into it.

As linux/linux.mk and package/pkg-kconfig.mk do it: the defconfig of the kernel tree or a custom
file, then every file of BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES in its order (the later line
wins), then ``make olddefconfig``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import InputError, LackError
from embedkit.kernel import makelist
from embedkit.kernel.buildroot import Buildroot
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.tree import find_defconfig

FRAGMENTS = "BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES"
_CUSTOM = "BR2_LINUX_KERNEL_CUSTOM_CONFIG_FILE"
_DEFAULT_MAKE = re.compile(r"^KBUILD_DEFCONFIG\s*:?=\s*(\w+)\s*$", re.MULTILINE)
# What linux.mk and the kernel's own arch/x86/Makefile take where none is named.
_DEFAULTS = {
    "x86_64": "x86_64_defconfig",
    "i386": "i386_defconfig",
    "BR2_powerpc64le": "ppc64le_defconfig",
    "BR2_powerpc64": "ppc64_defconfig",
    "BR2_powerpc": "ppc_defconfig",
}


@dataclass(frozen=True)
class Part:
    """One word of the fragment list, and the file that it means."""

    word: str
    path: Path


@dataclass(frozen=True)
class KernelUse:
    """What the build makes its kernel's .config of.

    ``kind`` and ``name`` say it in words, ``base`` is the file that it starts from, ``built`` the
    .config of a kernel that is configured already.
    """

    kind: str
    name: str
    base: Path
    arch: str
    tree: Path
    fragments: tuple[Part, ...]
    built: Path | None

    def combined(self, without: Path | None = None) -> KernelConfig:
        """The base with the fragments after it, as merge_config.sh -m puts them together.

        ``without`` leaves out one of them. Raises InputError where a file is missing.
        """
        parts = [part for part in self.fragments if without is None or not same(part.path, without)]
        text = _read(self.base, f"the kernel config '{self.name}'")
        for part in parts:
            more = _read(part.path, f"the fragment '{part.word}'")
            text += ("" if not text or text.endswith("\n") else "\n") + more
        origin = " + ".join([self.name, *(part.word for part in parts)])
        return KernelConfig(text, origin)


def in_use(build: Buildroot, tree: Path | None = None) -> KernelUse:
    """How ``build`` configures its kernel; ``tree`` stands in for the unpacked kernel source.

    Raises InputError where it builds no kernel or names a file that is not there, LackError
    where the kernel's source is not unpacked yet.
    """
    config = build.config
    if config.values.get("BR2_LINUX_KERNEL") != "y":
        raise InputError(
            "this Buildroot config builds no kernel: BR2_LINUX_KERNEL is off",
            where=config.origin,
            hint="turn it on under 'Kernel' in make menuconfig, or patch the kernel's own config",
        )
    folder = tree or build.linux_folder
    if folder is None:
        raise LackError(
            "the kernel's source is not unpacked yet",
            where=str(build.output / "build"),
            hint="run 'make linux-patch' (it downloads, unpacks and patches), or give --tree DIR",
        )
    arch = config.make_arch
    if not arch:
        raise InputError(
            "this config does not say the architecture",
            where=config.origin,
            hint="give a .config that 'make NAME_defconfig' wrote",
        )
    kind, name, base = _base(build, folder, arch)
    built = folder / ".config"
    return KernelUse(
        kind,
        name,
        base,
        arch,
        folder,
        fragments(build, config.text_value(FRAGMENTS), folder),
        built if built.is_file() else None,
    )


def fragments(build: Buildroot, value: str, linux: Path | None) -> tuple[Part, ...]:
    """The files that a fragment list names.

    Raises InputError for a word that only make itself could resolve.
    """
    more = {"LINUX_DIR": str(linux)} if linux else {}
    found = []
    for word in makelist.split(value):
        path = build.expand(word, more)
        if path is None:
            raise InputError(
                f"'{word}' holds a variable that only Buildroot's make knows",
                where=f"{FRAGMENTS} in {build.config_file}",
                hint="name the file with $(TOPDIR) or $(BR2_EXTERNAL_NAME_PATH) instead",
            )
        found.append(Part(word, path))
    return tuple(found)


def _base(build: Buildroot, folder: Path, arch: str) -> tuple[str, str, Path]:
    config = build.config
    if config.values.get("BR2_LINUX_KERNEL_USE_CUSTOM_CONFIG") == "y":
        word = config.text_value(_CUSTOM)
        path = build.expand(word, {"LINUX_DIR": str(folder)}) if word else None
        if path is None:
            raise InputError(
                f"{_CUSTOM} names no file: '{word}'",
                where=config.origin,
                hint="set the path of the kernel's config under 'Kernel' in make menuconfig",
            )
        return "custom config file", word, path
    if config.values.get("BR2_LINUX_KERNEL_USE_ARCH_DEFAULT_CONFIG") == "y":
        name = _default(build, folder, arch)
        return "architecture's default config", name, find_defconfig(folder, name, arch).path
    told = config.text_value("BR2_LINUX_KERNEL_DEFCONFIG")
    if not told:
        raise InputError(
            "BR2_LINUX_KERNEL_DEFCONFIG names no defconfig",
            where=config.origin,
            hint="set it under 'Kernel' in make menuconfig",
        )
    name = f"{told}_defconfig"
    return "defconfig of the kernel", name, find_defconfig(folder, name, arch).path


def _default(build: Buildroot, folder: Path, arch: str) -> str:
    """The name that ``make defconfig`` takes (KBUILD_DEFCONFIG)."""
    for symbol, name in _DEFAULTS.items():
        if symbol == arch or build.config.values.get(symbol) == "y":
            return name
    if (folder / "arch" / arch / "configs" / "defconfig").is_file():
        return "defconfig"
    makefile = folder / "arch" / arch / "Makefile"
    match = _DEFAULT_MAKE.search(
        makefile.read_text(encoding="utf-8", errors="replace") if makefile.is_file() else ""
    )
    return match.group(1) if match else "defconfig"


def same(one: Path, other: Path) -> bool:
    """Whether two names mean one file, be it there or not."""
    return one.resolve() == other.resolve()


def _read(path: Path, what: str) -> str:
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape")
    except PermissionError as error:
        raise LackError(f"{what} may not be read", where=str(path)) from error
    except OSError as error:
        raise InputError(
            f"{what} cannot be read: {(error.strerror or str(error)).lower()}",
            where=str(path),
            hint="Buildroot's own build would stop there too",
        ) from error
