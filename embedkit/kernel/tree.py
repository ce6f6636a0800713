"""The Kconfig tree of a real kernel source: load it, give it a config, read what it makes of it.

Any folder with a top ``Kconfig`` from 3.10 to the newest will do. What make would have exported
(ARCH, SRCARCH, KERNELVERSION, CC…) is given to this tree alone; nothing reaches ``os.environ``.
"""

from __future__ import annotations

import gc
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from embedkit.errors import EmbedkitError, InputError, did_you_mean
from embedkit.kernel import _kconfiglib
from embedkit.kernel.config import KernelConfig, KernelVersion, canonical_arch
from embedkit.kernel.protected import Protection, protection
from embedkit.kernel.toolchain import Prober, Toolchain, choose

_MAKE_VARIABLE = re.compile(
    r"^(VERSION|PATCHLEVEL|SUBLEVEL|EXTRAVERSION)[ \t]*=[ \t]*(\S*)[ \t]*$", re.MULTILINE
)
_HEADER_ARCH = re.compile(r"^#\s*Linux/(\S+)\s", re.MULTILINE)
_PLACE = re.compile(r"^\s*(?P<place>[^\s:]+:\d+): (?:error: )?(?P<what>.*)", re.DOTALL)
# make's ARCH → the folder under arch/ (the kernel's top Makefile, "Additional ARCH settings").
_SRCARCH = {
    "i386": "x86",
    "x86_64": "x86",
    "sparc32": "sparc",
    "sparc64": "sparc",
    "parisc64": "parisc",
    "sh64": "sh",
}
# "kconfig: make 'imply' obey the direct dependency" and its neighbour came with this release.
_MODERN_IMPLY = KernelVersion(5, 7)
_MODERN_CHOICES = KernelVersion(6, 11)
_ZERO_NUMBERS = KernelVersion(6, 9)


@dataclass(frozen=True)
class Defconfig:
    """One ``arch/*/configs/*_defconfig`` (or ``.config`` fragment) of a tree."""

    name: str
    arch: str
    path: Path


class KernelTree:
    """A loaded tree with one configuration in it.

    ``kconf`` is kconfiglib's object; the rooms above use it through this class and the
    resolver only. Not thread-safe: one configuration at a time.
    """

    def __init__(
        self, path: Path, arch: str, release: str, toolchain: Toolchain, kconf: Any, assumed: int
    ) -> None:
        self.path = path
        self.arch = arch
        self.srcarch = _SRCARCH.get(arch, arch)
        self.release = release
        self.toolchain = toolchain
        self.kconf = kconf
        self.assumed_probes = assumed

    @property
    def version(self) -> KernelVersion | None:
        """The kernel's version, where the tree's Makefile or the config says it."""
        return KernelVersion.parse(self.release)

    @property
    def notes(self) -> tuple[str, ...]:
        """What a reader of any result from this tree must know."""
        return (self.toolchain.description,) if self.assumed_probes else ()

    def protection(self, name: str, files: tuple[str, ...]) -> Protection | None:
        """Whether the symbol ``name``, defined in ``files``, is changed only on the user's word."""
        return protection(name, files)

    def load(self, config: KernelConfig) -> None:
        """Makes ``config`` the tree's configuration, as ``conf --olddefconfig`` reads it."""
        with as_input_error(self.path):
            self.kconf.load_text(config.text)

    def full_config(self) -> KernelConfig:
        """The whole ``.config``, under the kernel's own header."""
        header = f"#\n# Automatically generated file; DO NOT EDIT.\n# {self.title}\n#\n"
        return KernelConfig(header + self.kconf._config_contents(""), f"{self.path}/.config")

    def minimal_config(self) -> KernelConfig:
        """The defconfig, as ``make savedefconfig`` writes it."""
        return KernelConfig(self.kconf._min_config_contents(""), f"{self.path}/defconfig")

    @property
    def title(self) -> str:
        """The main menu's title: ``Linux/arm 6.1.192 Kernel Configuration``."""
        text = str(self.kconf.mainmenu_text)
        if "Linux/" in text:
            return text
        return f"Linux/{self.arch} {self.release} Kernel Configuration"

    @cached_property
    def symbols(self) -> tuple[str, ...]:
        """Every symbol that the tree defines, sorted."""
        return tuple(sorted(symbol.name for symbol in self.kconf.unique_defined_syms))

    def has(self, symbol: str) -> bool:
        """Whether the tree defines ``symbol``."""
        found = self.kconf.syms.get(symbol)
        return found is not None and bool(found.nodes)

    def value(self, symbol: str) -> str:
        """What ``symbol`` evaluates to now; ``n`` where the tree does not define it."""
        found = self.kconf.syms.get(symbol)
        return str(found.str_value) if found is not None and found.nodes else "n"

    def where(self, symbol: str) -> str:
        """``file:line`` of the first definition, relative to the tree; empty if undefined."""
        found = self.kconf.syms.get(symbol)
        if found is None or not found.nodes:
            return ""
        return f"{found.nodes[0].filename}:{found.nodes[0].linenr}"


def open_tree(
    path: Path,
    *,
    arch: str | None = None,
    config: KernelConfig | None = None,
    cross_compile: str | None = None,
    cc: str | None = None,
    assume_compiler: bool = False,
) -> KernelTree:
    """Loads the Kconfig tree under ``path``.

    ``arch`` is make's ARCH; without it the architecture comes from ``config``'s header or
    symbols. Raises InputError, with file:line where there is one, for a folder without Kconfig,
    an architecture that the tree lacks, a config of another architecture, or a file that does
    not parse; LackError where a compiler was asked for and is missing.
    """
    top = path / "Kconfig"
    if not top.is_file():
        raise InputError(
            "this folder is no kernel source: it has no top Kconfig file",
            where=str(path),
            hint="give the folder of an unpacked kernel source, such as output/build/linux-*",
        )
    arch = _architecture(path, arch, config)
    release = _release(path) or (config.release if config and config.release else "")
    version = KernelVersion.parse(release)
    srcarch = _SRCARCH.get(arch, arch)
    toolchain = choose(srcarch, cross_compile=cross_compile, cc=cc, assume=assume_compiler)
    # Kconfig sees "." and "/" differently in `source`: make gives an absolute folder, too.
    root = str(path.resolve())
    variables = {
        "ARCH": arch,
        "SRCARCH": srcarch,
        "KERNELVERSION": release,
        "srctree": root,
        **toolchain.variables(),
    }
    with as_input_error(path), _no_collector(), Prober(toolchain, variables) as prober:
        kconf = _kconfiglib.load().Kconfig(
            root,
            _Exported(variables, prober, root),
            prober.shell,
            modern_imply=version is None or version >= _MODERN_IMPLY,
            modern_choices=_says(
                path, "sym_calc_choice(struct menu", version, since=_MODERN_CHOICES
            ),
            zero_numbers=_says(path, 'newval.val = "0x0"', version, since=_ZERO_NUMBERS),
        )
        assumed = prober.assumed
    return KernelTree(path, arch, release, toolchain, kconf, assumed)


@contextmanager
def _no_collector() -> Iterator[None]:
    """A tree is a million small objects that all stay: looking for garbage costs a third more."""
    running = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if running:
            gc.enable()


class _Exported(dict[str, str]):
    """make's variables; those that cost a process are found out when a tree asks for them."""

    _SCRIPTS = (
        ("PAHOLE_VERSION", "pahole-version.sh", "PAHOLE"),
        ("RUSTC_VERSION", "rustc-version.sh", "RUSTC"),
        ("RUSTC_LLVM_VERSION", "rustc-llvm-version.sh", "RUSTC"),
    )

    def __init__(self, variables: dict[str, str], prober: Prober, root: str) -> None:
        super().__init__(variables)
        self._prober = prober
        self._root = root

    def get(self, name: str, default: Any = None) -> Any:
        if name not in self:
            for variable, script, tool in self._SCRIPTS:
                if name == variable and Path(self._root, "scripts", script).is_file():
                    command = f"{self._root}/scripts/{script} {self[tool]}"
                    self[name] = self._prober.shell(command)
        return super().get(name, default)


@contextmanager
def as_input_error(path: Path) -> Iterator[None]:
    """kconfiglib's complaints as one InputError with file:line."""
    try:
        yield
    except EmbedkitError:
        raise
    except OSError as error:
        raise InputError(f"the Kconfig tree cannot be read: {error}", where=str(path)) from error
    except RecursionError as error:
        raise InputError("the Kconfig tree is nested too deeply", where=str(path)) from error
    except Exception as error:
        if type(error).__name__ not in ("KconfigError", "InternalError"):
            raise
        text = str(error).strip()
        match = _PLACE.match(text)
        if match is None:
            raise InputError(
                f"the Kconfig tree does not parse: {_first(text)}", where=str(path)
            ) from error
        raise InputError(
            f"the Kconfig tree does not parse: {_first(match['what'])}",
            where=str(path / match["place"]),
        ) from error


def _first(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else "unknown error"
    return line.rstrip(".:")


def architectures(path: Path) -> tuple[str, ...]:
    """The folders under ``arch/`` that have a Kconfig, sorted."""
    return tuple(sorted(file.parent.name for file in path.glob("arch/*/Kconfig")))


def defconfigs(path: Path) -> tuple[Defconfig, ...]:
    """Every defconfig of the tree, sorted by architecture and name."""
    found = [
        Defconfig(file.name, file.parent.parent.name, file)
        for file in path.glob("arch/*/configs/**/*")
        if file.is_file() and (file.name.endswith("defconfig") or file.suffix == ".config")
    ]
    return tuple(sorted(found, key=lambda item: (item.arch, item.name, str(item.path))))


def find_defconfig(path: Path, name: str, arch: str | None = None) -> Defconfig:
    """The tree's defconfig called ``name``.

    Raises InputError where there is none, or several architectures have one.
    """
    known = defconfigs(path)
    wanted = _SRCARCH.get(arch, arch) if arch else None
    found = [
        item for item in known if item.name == name and (wanted is None or item.arch == wanted)
    ]
    if not found:
        raise InputError(
            f"this kernel has no defconfig called '{name}'" + (f" for {wanted}" if wanted else ""),
            where=f"{path}/arch/{wanted or '*'}/configs",
            hint=did_you_mean(name, sorted({item.name for item in known})),
        )
    if len({item.arch for item in found}) > 1:
        arches = ", ".join(item.arch for item in found)
        raise InputError(
            f"several architectures have a '{name}': {arches}",
            where=str(path),
            hint=f"say which with --arch, such as --arch {found[0].arch}",
        )
    return found[0]


def _says(path: Path, words: str, version: KernelVersion | None, since: KernelVersion) -> bool:
    """Whether the tree's own evaluator has ``words``; without its source, the version decides."""
    try:
        text = (path / "scripts/kconfig/symbol.c").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return version is None or version >= since
    return words in text


def _release(path: Path) -> str:
    """VERSION.PATCHLEVEL.SUBLEVEL and EXTRAVERSION of the top Makefile; empty if it has none."""
    try:
        with (path / "Makefile").open(encoding="utf-8", errors="replace") as file:
            head = file.read(4096)
    except OSError:
        return ""
    parts: dict[str, str] = dict(_MAKE_VARIABLE.findall(head))
    if "VERSION" not in parts:
        return ""
    numbers = [parts.get(name, "") for name in ("VERSION", "PATCHLEVEL", "SUBLEVEL")]
    return ".".join(number for number in numbers if number) + str(parts.get("EXTRAVERSION", ""))


def _architecture(path: Path, asked: str | None, config: KernelConfig | None) -> str:
    known = architectures(path)
    told = config.arch if config is not None else None
    header = _HEADER_ARCH.search(config.text, 0, 4096) if config is not None else None
    # ARCH=i386 and ARCH=x86 evaluate differently, so the header's own word counts.
    if header is not None and header.group(1) in _SRCARCH:
        arch = header.group(1)
    else:
        arch = told or ""
    if asked:
        asked = asked if asked in _SRCARCH else canonical_arch(asked)
        if told and canonical_arch(told) != canonical_arch(_SRCARCH.get(asked, asked)):
            raise InputError(
                f"the config is of another architecture: it is for {told}, not {asked}",
                where=config.origin if config else None,
                hint=f"leave out --arch, or give a config for {asked}",
            )
        arch = asked
    if not arch:
        if len(known) == 1:
            return known[0]
        if not known:
            return ""
        raise InputError(
            "which architecture is this for? The config does not say",
            where=config.origin if config else str(path),
            hint=f"give --arch; this kernel has: {', '.join(known)}",
        )
    folder = _SRCARCH.get(arch, arch)
    if known and folder not in known:
        raise InputError(
            f"this kernel has no architecture '{arch}'",
            where=f"{path}/arch",
            hint=did_you_mean(arch, known) or f"it has: {', '.join(known)}",
        )
    return arch
