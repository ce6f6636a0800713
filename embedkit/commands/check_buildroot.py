"""``embedkit check-buildroot``: audit Buildroot's own config for a Docker target's userland."""

from __future__ import annotations

import argparse
from pathlib import Path

from embedkit.commands import buildroot_report, kernel_report
from embedkit.errors import InputError
from embedkit.kernel import buildroot, profile_file
from embedkit.kernel.buildroot import Buildroot, BuildrootConfig
from embedkit.kernel.config import KernelVersion
from embedkit.kernel.profile import Level, Subject
from embedkit.kernel.userland import Source, check
from embedkit.report.model import Report
from embedkit.ui import Ui

PROFILE = "buildroot-docker"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_source(parser)
    parser.add_argument(
        "--fail-on",
        choices=[level.value for level in Level],
        default=Level.NECESSARY.value,
        help="exit with 1 where something of this level is missing (default: necessary)",
    )


def add_source(parser: argparse.ArgumentParser) -> None:
    """What check-buildroot and patch-buildroot share."""
    parser.add_argument(
        "source",
        nargs="?",
        type=Path,
        default=Path(),
        metavar="SOURCE",
        help="Buildroot's output folder (O=…), its tree, a .config or a defconfig "
        "(default: this folder)",
    )
    parser.add_argument(
        "--profile",
        default=PROFILE,
        metavar="NAME",
        help="what to audit for: a name, or a .toml file ('list' lists the names)",
    )
    ways = parser.add_mutually_exclusive_group()
    ways.add_argument(
        "--packages",
        action="store_const",
        const=Source.PACKAGES,
        dest="docker_from",
        help="Docker comes as Buildroot's own docker-engine, docker-cli and containerd",
    )
    ways.add_argument(
        "--bundle",
        action="store_const",
        const=Source.BUNDLE,
        dest="docker_from",
        help="Docker comes as a static bundle, even where docker-engine is chosen",
    )
    parser.add_argument(
        "--tree",
        type=Path,
        metavar="DIR",
        help="Buildroot's source, to expand a defconfig that lies outside of it",
    )
    parser.add_argument(
        "--root-grows",
        action="store_true",
        help="the root file system is enlarged later (on the card, at first boot)",
    )


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Audits and reports. Exit code 1 where the bar of ``--fail-on`` is not reached."""
    if args.profile == "list":
        return kernel_report.profile_list(Subject.BUILDROOT)
    profile = profile_file.load(args.profile, Subject.BUILDROOT)
    build, config = read_source(args.source, args.tree)
    notes: tuple[str, ...] = ()
    if not config.is_full and build is not None:
        from embedkit.kernel.buildroot_tree import open_buildroot

        tree = open_buildroot(build)
        tree.load(config)
        expanded = tree.full_config()
        notes = (f"expanded with the Config.in files of {build.tree}", *tree.notes)
        config = BuildrootConfig(expanded.text, config.origin)
    version = KernelVersion.parse(build.version) if build is not None else None
    result = check(
        config,
        profile,
        source=args.docker_from,
        version=config.version or version,
        root_grows=args.root_grows,
    )
    return buildroot_report.build(result, Level(args.fail_on), build, notes)


def read_source(source: Path, tree: Path | None) -> tuple[Buildroot | None, BuildrootConfig]:
    """The build, where SOURCE belongs to one, and the config to look at.

    Raises InputError where SOURCE holds no Buildroot config.
    """
    if tree is not None and not buildroot.is_tree(tree):
        raise InputError("this is no Buildroot tree: it has no Config.in", where=str(tree))
    if source.is_file():
        return _around(source, tree), buildroot.read_config(source)
    found = buildroot.find(source)
    return found, found.config


def _around(source: Path, tree: Path | None) -> Buildroot | None:
    """The build that a config file belongs to; a defconfig lies in ``configs`` of a tree."""
    above = source.resolve().parent.parent
    if tree is None and not buildroot.is_tree(above):
        try:
            return buildroot.find(source)
        except InputError:
            return None
    return buildroot.find(tree or above)
