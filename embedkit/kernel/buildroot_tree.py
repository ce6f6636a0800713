"""Buildroot's own Kconfig tree (``Config.in``), for the resolver that kernels use.

Buildroot carries the kernel's kconfig of 4.17 with patches: no macros, no prefix, and the
environment that its Makefile gives as COMMON_CONFIG_ENV.
"""

from __future__ import annotations

import os
import re
import tempfile
from pathlib import Path

from embedkit import process
from embedkit.errors import InputError
from embedkit.kernel import _kconfiglib
from embedkit.kernel.buildroot import Buildroot, BuildrootConfig
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.protected import Protection
from embedkit.kernel.toolchain import Toolchain
from embedkit.kernel.tree import KernelTree, as_input_error

# What support/scripts/br2-external writes into an output folder, with or without externals.
_EXTERNAL = ("paths", "menus", "toolchains", "jpeg", "openssl", "skeleton", "init", "linux")
_OLD_EXTERNAL = ".br2-external.in"
_HOST_GCC = re.compile(r"^BR2_HOST_GCC_AT_LEAST_(\d+)=y$", re.MULTILINE)
_KNOWN_GCC = re.compile(r'BR2_HOST_GCC_VERSION = "(\d+)"')
_ASSUMED_GCC = "12"
# uname's word → Buildroot's HOSTARCH, as its Makefile maps it.
_HOSTS = {"i386": "x86", "i586": "x86", "i686": "x86", "armv7l": "arm", "ppc64le": "powerpc64le"}

_PROTECTED: tuple[tuple[re.Pattern[str], str], ...] = (
    (
        re.compile(r"BR2_TOOLCHAIN_\w+|BR2_(?:STATIC|SHARED)\w*_LIBS\w*|BR2_ENABLE_LOCALE\w*"),
        "it decides what every program is built with: a change rebuilds everything",
    ),
    (re.compile(r"BR2_INIT_\w+"), "it is the init system, on which services and scripts are built"),
    (re.compile(r"BR2_ROOTFS_SKELETON_\w+"), "it is the root file system's skeleton"),
)
_PROTECTED_FILES = re.compile(r"arch/Config\.in.*")
_PROCESSOR = "it decides which processors everything is built for"


class BuildrootTree(KernelTree):
    """A Buildroot source's Config.in files, loaded. ``release`` is Buildroot's version."""

    @property
    def notes(self) -> tuple[str, ...]:
        """Nothing is assumed that a reader must know."""
        return ()

    @property
    def title(self) -> str:
        """The main menu's title: ``Buildroot 2025.02 Configuration``."""
        return str(self.kconf.mainmenu_text)

    def full_config(self) -> KernelConfig:
        """The whole ``.config``, under Buildroot's own header."""
        header = f"#\n# Automatically generated file; DO NOT EDIT.\n# {self.title}\n#\n"
        return BuildrootConfig(header + self.kconf._config_contents(""), f"{self.path}/.config")

    def minimal_config(self) -> KernelConfig:
        """The defconfig, as ``make savedefconfig`` writes it."""
        text = re.sub(r"^BR2_DEFCONFIG=.*\n", "", self.kconf._min_config_contents(""), flags=re.M)
        return BuildrootConfig(text, f"{self.path}/defconfig")

    def protection(self, name: str, files: tuple[str, ...]) -> Protection | None:
        """Toolchain, C library, processor, init system and skeleton are the user's to choose."""
        for pattern, why in _PROTECTED:
            if pattern.fullmatch(name):
                return Protection(name, why)
        if any(_PROTECTED_FILES.fullmatch(file) for file in files):
            return Protection(name, _PROCESSOR)
        return None

    def is_processor(self, name: str) -> bool:
        """Whether the symbol says what the hardware is."""
        found = self.kconf.syms.get(name)
        files = tuple(node.filename for node in found.nodes) if found is not None else ()
        return any(_PROTECTED_FILES.fullmatch(file) for file in files)


def open_buildroot(build: Buildroot) -> BuildrootTree:
    """Loads the Config.in files of ``build``'s tree, and of its external trees.

    Raises InputError, with file:line where there is one, where they do not parse.
    """
    if not (build.tree / "Config.in").is_file():
        raise InputError("this is no Buildroot tree: it has no Config.in", where=str(build.tree))
    root = str(build.tree.resolve())
    version = build.version
    with tempfile.TemporaryDirectory(prefix="embedkit-") as empty:
        # Never configured: no external trees, which these files would name.
        for name in (_OLD_EXTERNAL, *(f"{_OLD_EXTERNAL}.{part}" for part in _EXTERNAL)):
            Path(empty, name).touch()
        made = (build.output / f"{_OLD_EXTERNAL}.paths").is_file()
        made_old = (build.output / "build" / _OLD_EXTERNAL).is_file()
        environment = {
            "BR2_BASE_DIR": str(build.output) if made else empty,
            # Until 2019.
            "BR2_BUILD_DIR": str(build.output / "build") if made_old else empty,
            "BUILD_DIR": str(build.output / "build"),
            "BASE_DIR": str(build.output),
            "BR2_VERSION": version,
            "BR2_VERSION_FULL": version,
            "HOSTARCH": _HOSTS.get(os.uname().machine, os.uname().machine),
            "HOST_GCC_VERSION": _host_gcc(build),
            "BR2_DEFCONFIG": "",
            "BR2_CONFIG": str(build.config_file),
            "SKIP_LEGACY": "",
            "BR2_HIDE_SECONDARY_TARGET_OPTIONS": "",
        }
        with as_input_error(build.tree):
            kconf = _kconfiglib.load().Kconfig(
                root,
                environment,
                lambda _command: "",
                modern_imply=False,
                modern_choices=False,
                zero_numbers=False,
                top="Config.in",
                prefix="",
                macros=False,
            )
    tools = Toolchain("", "", "gcc", True, "none")
    return BuildrootTree(build.tree, "", version, tools, kconf, 0)


def _host_gcc(build: Buildroot) -> str:
    """The major version of the machine's gcc: what the .config was made with, else what runs."""
    if build.config_file.is_file():
        found = [int(number) for number in _HOST_GCC.findall(build.config.text)]
        if found:
            return str(max(found))
    if process.find("gcc") is None:
        return _ASSUMED_GCC
    told = process.run(["gcc", "-dumpversion"], check=False, timeout=20).text.split(".")[0].strip()
    # As Buildroot's Makefile does: a newer gcc counts as the newest that the tree knows.
    known = _KNOWN_GCC.findall(_text(build.tree / "Config.in"))
    newest = max((int(number) for number in known), default=0)
    return str(min(int(told), newest)) if told.isdecimal() and newest else told or _ASSUMED_GCC


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
