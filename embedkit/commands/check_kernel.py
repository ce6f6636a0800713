"""``embedkit check-kernel``: audit a kernel config."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.commands.targeting import add_access_arguments
from embedkit.errors import InputError
from embedkit.kernel import profile_file, sources
from embedkit.kernel.audit import Audit, Question, audit
from embedkit.kernel.config import KernelConfig, KernelVersion, canonical_arch
from embedkit.kernel.profile import Level, Profile
from embedkit.report.model import Report
from embedkit.ui import Ui

if TYPE_CHECKING:
    from embedkit.kernel.runtime import RuntimeCheck

FORMATS = ("checkconfig",)
_WORSE = "worse"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "source",
        nargs="?",
        metavar="SOURCE",
        help="a config, a kernel image with its config inside, a kernel or Buildroot tree, "
        "'-' for standard input, a board (ssh://root@board, serial:///dev/ttyUSB0); without it, "
        "the running kernel",
    )
    parser.add_argument(
        "--profile",
        default="docker",
        metavar="NAME",
        help="what to audit for: a name, or a .toml file ('list' lists the names)",
    )
    parser.add_argument(
        "--kernel-version", metavar="X.Y", help="the kernel version, where the config is silent"
    )
    parser.add_argument("--arch", metavar="ARCH", help="the architecture (arm, arm64, x86, riscv)")
    parser.add_argument(
        "--modules",
        type=Path,
        metavar="DIR",
        help="a root file system, Buildroot's output/target or /lib/modules/RELEASE: options that "
        "are modules count only if their module is there",
    )
    parser.add_argument(
        "--require",
        metavar="FEATURE,…",
        help="features that must be there (cgroup-v1, swarm, …): their symbols become necessary",
    )
    parser.add_argument(
        "--against", metavar="OTHER", help="compare with another config: what got better, worse"
    )
    parser.add_argument(
        "--fail-on",
        choices=[*(level.value for level in Level), _WORSE],
        default=Level.NECESSARY.value,
        help="exit with 1 where something of this level is missing (default: necessary); "
        "'worse': where anything got worse --against the other config",
    )
    add_access_arguments(parser)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Audits and reports. Exit code 1 where the bar of ``--fail-on`` is not reached."""
    from embedkit.commands import kernel_report

    if args.profile == "list":
        return kernel_report.profile_list()
    if args.fail_on == _WORSE and not args.against:
        raise InputError("--fail-on worse needs --against OTHER to compare with")
    profile = profile_file.load(args.profile)
    with ExitStack() as stack:
        opened = partial(_target_files, args, ui, stack)
        config = sources.load(args.source, target=opened)
    result = _audit(args, config, profile)
    comparison = None
    if args.against:
        from embedkit.kernel.compare import compare

        comparison = compare(_audit(args, sources.load(args.against), profile), result)
    runtime: tuple[RuntimeCheck, ...] = ()
    if args.source is None:
        from embedkit.kernel.runtime import check

        runtime = check(profile.limits)
    bar = Level.NECESSARY if args.fail_on == _WORSE else Level(args.fail_on)
    return kernel_report.build(
        result,
        bar,
        runtime=runtime,
        comparison=comparison,
        fail_on_worse=args.fail_on == _WORSE,
        source=args.source if args.source and Path(args.source).is_file() else "",
    )


def _target_files(
    args: argparse.Namespace, ui: Ui, stack: ExitStack, url: str
) -> sources.FileReader:
    """A board's files, for the config that its running kernel was built with."""
    from embedkit.commands.targeting import access
    from embedkit.target.files import TargetFiles
    from embedkit.target.opening import open_target

    target = stack.enter_context(open_target(url, access(args, ui)))
    target.connect(deadline_seconds=args.wait)
    return TargetFiles(target)


def _audit(args: argparse.Namespace, config: KernelConfig, profile: Profile) -> Audit:
    version = None
    if args.kernel_version:
        version = KernelVersion.parse(args.kernel_version)
        if version is None:
            raise InputError(
                f"'{args.kernel_version}' is not a kernel version",
                hint="write it as 5.10 or 6.1.55",
            )
    modules = None
    if args.modules:
        from embedkit.kernel.modules import open_modules

        modules = open_modules(args.modules, config.release)
    required = tuple(name for name in (args.require or "").split(",") if name)
    return audit(
        Question(
            config,
            profile,
            version,
            canonical_arch(args.arch) if args.arch else None,
            modules,
            required,
        )
    )
