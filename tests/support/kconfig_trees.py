"""Small Kconfig trees for tests: written by hand, or made up by hypothesis."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis import strategies as st

from embedkit.kernel.config import KernelConfig
from embedkit.kernel.tree import KernelTree, open_tree
from embedkit.kernel.wants import Want

MAKEFILE = "VERSION = {}\nPATCHLEVEL = {}\nSUBLEVEL = {}\nEXTRAVERSION =\n"


def write_tree(folder: Path, kconfig: str, release: str = "6.1.0", **files: str) -> Path:
    """A folder with a top Kconfig, a Makefile and ``files`` (``__`` in names is ``/``)."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Kconfig").write_text(kconfig)
    (folder / "Makefile").write_text(MAKEFILE.format(*release.split(".")))
    for name, text in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def load_tree(folder: Path, kconfig: str, release: str = "6.1.0", **files: str) -> KernelTree:
    """write_tree() and open it, with assumed compiler answers."""
    return open_tree(write_tree(folder, kconfig, release, **files), assume_compiler=True)


@dataclass(frozen=True)
class Case:
    """A made-up tree, a config for it, and what is wanted."""

    kconfig: str
    config: str
    wants: tuple[Want, ...]
    prompts: tuple[tuple[str, str], ...]
    release: str = "6.1.0"


@st.composite
def _expression(draw: st.DrawFn, names: list[str], depth: int = 2) -> str:
    kind = draw(st.sampled_from(["symbol", "symbol", "not", "and", "or", "equal"]))
    if depth == 0 or kind == "symbol":
        return draw(st.sampled_from(names))
    if kind == "equal":
        sign = draw(st.sampled_from(["=", "!="]))
        return f"{draw(st.sampled_from(names))} {sign} {draw(st.sampled_from('nmy'))}"
    if kind == "not":
        return f"!({draw(_expression(names, depth - 1))})"
    sign = "&&" if kind == "and" else "||"
    left, right = (draw(_expression(names, depth - 1)) for _ in range(2))
    return f"({left} {sign} {right})"


@st.composite
def cases(draw: st.DrawFn, most: int = 6) -> Case:
    """Trees with dependencies, selects, implies, defaults, choices, tristates, SMP protected.

    A symbol speaks of earlier ones only and selects later ones, so that there are no loops.
    """
    count = draw(st.integers(2, most))
    names = [f"S{index}" for index in range(count)]
    if draw(st.booleans()):
        names[draw(st.integers(0, count - 1))] = "SMP"
    lines = []
    prompts: list[tuple[str, str]] = []
    # Before 5.7 an imply, before 6.11 a choice was worked out in another way.
    release = draw(st.sampled_from(["5.4.0", "6.1.0", "6.12.0"]))
    modules = draw(st.sampled_from(["y", "n", None]))
    if modules is not None:
        lines += ["config MODULES", '\tbool "modules"', "\tmodules", f"\tdefault {modules}", ""]
    sizes = _sizes(draw, names)
    # Kconfig ignores a select of a choice's member and warns: nobody writes one.
    alone = {name for name, size in zip(names, sizes, strict=True) if size == 1}
    index = 0
    while index < count:
        if sizes[index] > 1:
            lines += _choice(draw, names, index, sizes[index])
            prompts += [(name, "bool") for name in names[index : index + sizes[index]]]
        else:
            lines += _symbol(draw, names, index, prompts, alone)
        index += sizes[index]
    config = []
    for name, kind in prompts:
        value = draw(st.sampled_from([None, None, "y", "n", "m" if kind == "tristate" else "y"]))
        if value is not None:
            config.append(
                f"# CONFIG_{name} is not set" if value == "n" else f"CONFIG_{name}={value}"
            )
    wanted = draw(
        st.lists(
            st.sampled_from([n for n in names if n != "SMP"] or names),
            min_size=1,
            max_size=3,
            unique=True,
        )
    )
    wants = tuple(
        Want(
            name,
            draw(st.sampled_from(["on", "on", "y", "m", "n"])),
            level=draw(st.sampled_from(["necessary", "optional"])),
        )
        for name in wanted
    )
    return Case("\n".join(lines) + "\n", "\n".join(config) + "\n", wants, tuple(prompts), release)


def _sizes(draw: st.DrawFn, names: list[str]) -> list[int]:
    """For each symbol how many share its choice; 1 for those that stand alone."""
    sizes: list[int] = []
    while len(sizes) < len(names):
        size = min(draw(st.sampled_from([1, 1, 1, 2, 3])), len(names) - len(sizes))
        if "SMP" in names[len(sizes) : len(sizes) + size]:
            size = 1
        sizes += [size] * size
    return sizes


def _choice(draw: st.DrawFn, names: list[str], index: int, size: int) -> list[str]:
    condition = (
        f" if {draw(_expression(names[:index], 1))}" if index and draw(st.booleans()) else ""
    )
    lines = ["choice", f'\tprompt "a choice"{condition}']
    if index and draw(st.booleans()):
        lines.append(f"\tdepends on {draw(_expression(names[:index]))}")
    for name in names[index : index + size]:
        # The kernel gave up choices of tristates with 6.11.
        lines += [f"config {name}", f'\tbool "{name}"']
        if index and draw(st.booleans()):
            lines.append(f"\tdepends on {draw(_expression(names[:index], 1))}")
    return [*lines, "endchoice", ""]


def _symbol(
    draw: st.DrawFn,
    names: list[str],
    index: int,
    prompts: list[tuple[str, str]],
    alone: set[str],
) -> list[str]:
    name, earlier = names[index], names[:index]
    later = [other for other in names[index + 1 :] if other in alone]
    kind = draw(st.sampled_from(["bool", "tristate"]))
    lines = [f"config {name}"]
    if name == "SMP" or draw(st.integers(0, 3)):
        condition = (
            f" if {draw(_expression(earlier, 1))}" if earlier and draw(st.booleans()) else ""
        )
        lines.append(f'\t{kind} "{name}"{condition}')
        prompts.append((name, kind))
    else:
        lines.append(f"\t{kind}")
    if earlier and draw(st.booleans()):
        lines.append(f"\tdepends on {draw(_expression(earlier))}")
    for word, chance in (("select", 2), ("imply", 4)):
        if later and draw(st.integers(0, chance)) == 0:
            target = draw(st.sampled_from(later))
            condition = (
                f" if {draw(_expression(earlier, 1))}" if earlier and draw(st.booleans()) else ""
            )
            lines.append(f"\t{word} {target}{condition}")
    if draw(st.integers(0, 2)) == 0:
        value = draw(st.sampled_from(["y", "m", "n", *earlier]))
        condition = (
            f" if {draw(_expression(earlier, 1))}" if earlier and draw(st.booleans()) else ""
        )
        lines.append(f"\tdefault {value}{condition}")
    return [*lines, ""]


def accepts(want: Want, value: str) -> bool:
    """Whether a value is what is wanted, told apart from the product's own code."""
    return value in ("y", "m") if want.value == "on" else value == want.value


def unmet(tree: KernelTree) -> frozenset[str]:
    """Symbols selected beyond their dependencies, by the expressions themselves."""
    from embedkit.kernel import _kconfiglib

    lib = _kconfiglib.load()
    found = set()
    for symbol in tree.kconf.unique_defined_syms:
        selected, met = lib.expr_value(symbol.rev_dep), lib.expr_value(symbol.direct_dep)
        if symbol.orig_type == lib.BOOL:
            selected, met = (2 if selected else 0), (2 if met else 0)
        if selected > met:
            found.add(symbol.name)
    return frozenset(found)


class Referee:
    """Judges configs of one case by loading them as text, as the kernel would."""

    FIXED = ("SMP", "MODULES")

    def __init__(self, tree: KernelTree, case: Case) -> None:
        self.tree = tree
        self.case = case
        tree.load(KernelConfig(case.config))
        self.unmet = unmet(tree)
        self.fixed = {name: tree.value(name) for name in self.FIXED}

    def allows(self, config: KernelConfig, wants: tuple[Want, ...]) -> bool:
        """Whether the wants hold in ``config``, and nothing forbidden happened."""
        self.tree.load(config)
        return (
            all(accepts(want, self.tree.value(want.symbol)) for want in wants)
            and all(self.tree.value(name) == value for name, value in self.fixed.items())
            and unmet(self.tree) <= self.unmet
        )

    def possible(self, wants: tuple[Want, ...]) -> bool:
        """Whether any assignment of all prompts fulfils the wants: everything is tried."""
        return any(self.allows(config, wants) for config in self._all_configs())

    def _all_configs(self) -> Iterator[KernelConfig]:
        options = []
        for name, kind in self.case.prompts:
            values = [None, "n", "y"] + (["m"] if kind == "tristate" else [])
            options.append(
                [(name, value) for value in values if name not in self.FIXED or not value]
            )
        for combination in itertools.product(*options):
            # Set last, as a fragment is merged: the last line of a file wins.
            lines = [
                f"# CONFIG_{name} is not set" if value == "n" else f"CONFIG_{name}={value}"
                for name, value in combination
                if value is not None
            ]
            yield KernelConfig(self.case.config + "\n".join(lines) + "\n")
