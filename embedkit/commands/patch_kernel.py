"""``embedkit patch-kernel``: make a kernel config fulfil a profile, dependencies included."""

from __future__ import annotations

import argparse
from pathlib import Path

from embedkit.commands import buildroot_fragment
from embedkit.errors import EXIT_NO, InputError
from embedkit.files import backup_path, write_atomically
from embedkit.kernel import fragment, goals, profile_file, sources
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.origin import arch_of, named_config
from embedkit.kernel.resolve import resolve
from embedkit.kernel.tree import KernelTree, open_tree
from embedkit.kernel.wants import Prefer, Resolution, parse_disable, parse_enable
from embedkit.report.model import Report
from embedkit.ui import Ui

FORMATS = ("fragment", "diff")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="a config in any form that check-kernel reads, or the name of a defconfig of the tree",
    )
    parser.add_argument("--tree", type=Path, metavar="DIR", help="the kernel's source folder")
    buildroot_fragment.add_arguments(parser)
    wishes = parser.add_argument_group("what is wanted")
    wishes.add_argument(
        "--profile",
        default="docker",
        metavar="NAME",
        help="what to patch for: a name, a .toml file, or 'none' for only --enable and --disable",
    )
    wishes.add_argument(
        "--features",
        metavar="NAME,…",
        help="more than what is necessary: features of the profile (swarm, …), or 'all'",
    )
    wishes.add_argument(
        "--enable", action="append", default=[], metavar="SYM[=VALUE]", help="turn on, or set"
    )
    wishes.add_argument("--disable", action="append", default=[], metavar="SYM", help="turn off")
    wishes.add_argument(
        "--prefer",
        choices=[Prefer.BUILT_IN.value, Prefer.MODULE.value],
        help="y or m where both will do (default: m where the config has modules, y for what a "
        "board needs before its root file system)",
    )
    wishes.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="SYM",
        help="let a protected symbol (SMP, ARM_LPAE, page size, …) change",
    )
    tree = parser.add_argument_group("the kernel tree")
    tree.add_argument("--arch", metavar="ARCH", help="make's ARCH, where the config does not say")
    tree.add_argument("--cross-compile", metavar="PREFIX", help="make's CROSS_COMPILE")
    tree.add_argument("--cc", metavar="PROGRAM", help="make's CC")
    tree.add_argument(
        "--assume-compiler",
        action="store_true",
        help="answer the tree's compiler probes as a modern GCC would, without running one",
    )
    files = parser.add_argument_group("files to write")
    files.add_argument("--fragment", type=Path, metavar="FILE", help="only what must be set")
    files.add_argument("--config", type=Path, metavar="FILE", help="the full .config")
    files.add_argument("--defconfig", type=Path, metavar="FILE", help="the minimal defconfig")
    files.add_argument("--diff", type=Path, metavar="FILE", help="a unified diff of the source")
    files.add_argument(
        "-o",
        dest="patched",
        type=Path,
        metavar="FILE",
        help="the source config with the changes made in its text",
    )
    files.add_argument(
        "--in-place", action="store_true", help="change SOURCE itself; the old one stays as .bak"
    )
    files.add_argument("--dry-run", action="store_true", help="show the plan, write nothing")
    files.add_argument(
        "--keep-going",
        action="store_true",
        help="write what can be had even where something cannot (exit code 1 all the same)",
    )


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Plans, writes, audits again. Exit code 1 where something wanted could not be had."""
    from embedkit.commands import patch_report

    prefer = Prefer(args.prefer) if args.prefer else Prefer.AUTO
    more = [*parse_disable(args.disable), *parse_enable(args.enable)]
    profile = None if args.profile == "none" else profile_file.load(args.profile)
    features = [name for name in (args.features or "").split(",") if name]
    if profile is None and features:
        raise InputError("--features needs a profile", hint="leave out '--profile none'")
    if args.buildroot is not None:
        return buildroot_fragment.run(args, ui, profile, more, features)
    _check_given(args)
    source = named_config(args.source, args.tree, args.arch)
    config = source if isinstance(source, KernelConfig) else _read(source)
    _check_targets(args, source)
    tree = open_tree(
        args.tree,
        arch=args.arch or arch_of(args.source, args.tree),
        config=config,
        cross_compile=args.cross_compile,
        cc=args.cc,
        assume_compiler=args.assume_compiler,
    )
    tree.load(config)
    before = tree.full_config()
    if profile is not None:
        resolution = goals.plan(
            tree, config, profile, features=features, more=more, allow=args.allow, prefer=prefer
        )
    else:
        resolution = resolve(tree, config, more, allow=args.allow, prefer=prefer)
    written: tuple[tuple[str, Path], ...] = ()
    held_back = not resolution.complete and not args.keep_going
    if not args.dry_run and not held_back:
        written = _write(args, source, config, tree, resolution, profile.title if profile else "")
        for what, path in written:
            ui.say(f"wrote {path} ({what})")
    return patch_report.build(
        tree,
        config,
        before,
        resolution,
        profile,
        written=written,
        dry_run=args.dry_run,
        held_back=held_back and _asks_for_files(args),
        exit_code=0 if resolution.complete else EXIT_NO,
    )


def _check_given(args: argparse.Namespace) -> None:
    """What argparse cannot say: without --buildroot, a config and a tree are needed."""
    for name, value in (("SOURCE", args.source), ("--tree", args.tree)):
        if value is None:
            raise InputError(
                f"{name} is missing",
                hint="give a config and the kernel's folder (CONFIG --tree DIR), "
                "or a Buildroot (--buildroot DIR)",
            )
    if args.board:
        raise InputError("--board goes with --buildroot", hint="--buildroot DIR --board NAME")


def _read(path: Path) -> KernelConfig:
    return sources.load(str(path))


def _asks_for_files(args: argparse.Namespace) -> bool:
    paths = (args.fragment, args.config, args.defconfig, args.diff, args.patched)
    return args.in_place or any(path is not None for path in paths)


def _check_targets(args: argparse.Namespace, source: KernelConfig | Path) -> None:
    """Nothing is written over the source by accident."""
    if args.in_place:
        if not isinstance(source, Path) or not source.is_file():
            raise InputError("--in-place needs a config file as SOURCE")
        if not _is_plain(source):
            raise InputError(
                "--in-place changes only a plain config file",
                where=str(source),
                hint="write a new file with -o, --config or --fragment",
            )
    if isinstance(source, Path):
        for path in (args.fragment, args.config, args.defconfig, args.diff, args.patched):
            if path is not None and path.exists() and path.resolve() == source.resolve():
                raise InputError(
                    f"{path} is the source itself", hint="--in-place changes it and keeps a backup"
                )


def _is_plain(path: Path) -> bool:
    with path.open("rb") as file:
        head = file.read(4096)
    return b"\0" not in head and not head.startswith(
        (b"\x1f\x8b", b"\xfd7zXZ", b"\x28\xb5\x2f\xfd")
    )


def _write(
    args: argparse.Namespace,
    source: KernelConfig | Path,
    config: KernelConfig,
    tree: KernelTree,
    resolution: Resolution,
    profile: str,
) -> tuple[tuple[str, Path], ...]:
    """Writes what was asked for; each file whole or not at all."""
    title = f"{profile or 'Chosen options'}: kernel config fragment"
    kernel = f"Linux {tree.release} ({tree.arch})"
    patched = resolution.patched.to_bytes()
    files: list[tuple[str, Path, bytes]] = []
    if args.fragment:
        text = fragment.fragment(resolution, title, kernel)
        files.append(("fragment", args.fragment, text.encode()))
    if args.config:
        files.append(("full config", args.config, resolution.full.to_bytes()))
    if args.defconfig:
        files.append(("defconfig", args.defconfig, resolution.minimal.to_bytes()))
    if args.diff:
        text = fragment.diff(config, resolution.patched, Path(config.origin).name)
        files.append(("diff", args.diff, text.encode("utf-8", "surrogateescape")))
    if args.patched:
        files.append(("patched config", args.patched, patched))
    if args.in_place and isinstance(source, Path) and patched != config.to_bytes():
        files.append(("the old config", backup_path(source), config.to_bytes()))
        files.append(("patched config", source, patched))
    for _, path, content in files:
        write_atomically(path, content)
    return tuple((what, path) for what, path, _ in files)
