"""``embedkit explain SYMBOL --tree DIR``: the part of explain that looks into a kernel source."""

from __future__ import annotations

import argparse
from pathlib import Path

from embedkit.errors import InputError
from embedkit.kernel.config import KernelConfig
from embedkit.report.model import Report


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options that explain has for it."""
    group = parser.add_argument_group("on a kernel source")
    group.add_argument(
        "--tree", type=Path, metavar="DIR", help="a kernel's source folder: tell what holds SYMBOL"
    )
    group.add_argument(
        "--config",
        metavar="SOURCE",
        help="with --tree: the config to look at, or a defconfig's name (default: DIR/.config, "
        "else what the tree's own defaults give)",
    )
    group.add_argument("--arch", metavar="ARCH", help="with --tree: make's ARCH")


def run(args: argparse.Namespace, symbol: str) -> Report:
    """Explains ``symbol`` on ``args.tree``.

    Raises InputError for what is not a symbol, or not one of this kernel.
    """
    from embedkit.commands import symbol_report
    from embedkit.kernel.symbol import view
    from embedkit.kernel.tree import open_tree

    name = symbol.strip().removeprefix("CONFIG_")
    if not name.replace("_", "").isalnum() or not name.isascii():
        raise InputError(f"'{symbol}' names no kernel symbol", hint="--tree explains symbols only")
    config, arch = _config(args)
    # Nothing is written, so assumed compiler answers will do, and nothing of the tree is run.
    tree = open_tree(args.tree, arch=arch, config=config, assume_compiler=True)
    known = tree.has(name) or not tree.has(name.upper())
    return symbol_report.build(tree, config, view(tree, config, name if known else name.upper()))


def _config(args: argparse.Namespace) -> tuple[KernelConfig, str | None]:
    """The config to look at, and the architecture as far as the options say it."""
    from embedkit.kernel import sources
    from embedkit.kernel.tree import defconfigs, find_defconfig

    if args.config is None:
        built = args.tree / ".config"
        if built.is_file():
            return sources.load(str(built)), args.arch
        return KernelConfig("", "the tree's defaults"), args.arch
    if not Path(args.config).exists() and any(
        item.name == args.config for item in defconfigs(args.tree)
    ):
        found = find_defconfig(args.tree, args.config, args.arch)
        return sources.load(str(found.path)), args.arch or found.arch
    return sources.load(args.config), args.arch
