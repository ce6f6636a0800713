"""``embedkit patch-buildroot``: make Buildroot's own config fulfil what Docker needs of it."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path

from embedkit.commands import buildroot_report
from embedkit.commands.check_buildroot import add_source, read_source
from embedkit.errors import EXIT_NO, InputError, TargetError
from embedkit.files import backup_path
from embedkit.kernel import buildroot_register, goals, profile_file
from embedkit.kernel.buildroot import Buildroot, BuildrootConfig, read_config
from embedkit.kernel.buildroot_kernel import same
from embedkit.kernel.buildroot_register import Edit
from embedkit.kernel.buildroot_tree import BuildrootTree, open_buildroot
from embedkit.kernel.expression import Grade
from embedkit.kernel.profile import Level, Profile, Subject
from embedkit.kernel.userland import PACKAGES, Source, Userland, check
from embedkit.kernel.wants import Refused, Resolution, Want, parse_disable, parse_enable
from embedkit.report.model import Finding, Report, Section, Status, Step
from embedkit.ui import Ui

_SSH = "ssh"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_source(parser)
    parser.add_argument(
        "--board", metavar="DEFCONFIG", help="change this defconfig of Buildroot's as well"
    )
    parser.add_argument(
        "--features", metavar="NAME,…", help="more features of the profile (clock, …), or 'all'"
    )
    parser.add_argument(
        "--enable", action="append", default=[], metavar="SYM[=VALUE]", help="turn on, or set"
    )
    parser.add_argument("--disable", action="append", default=[], metavar="SYM", help="turn off")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="SYM",
        help="let a protected symbol (toolchain, C library, init system) change",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the plan, write nothing")
    parser.add_argument(
        "--keep-going",
        action="store_true",
        help="write what can be had even where something cannot (exit code 1 all the same)",
    )


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Plans, writes, reads back. Exit code 1 where something wanted could not be had."""
    profile = profile_file.load(args.profile, Subject.BUILDROOT)
    build, config = read_source(args.source, args.tree)
    if build is None:
        raise InputError(
            "which Buildroot is this config for?",
            where=config.origin,
            hint="give its output folder, or --tree BUILDROOT",
        )
    if args.source.is_file():
        build = replace(build, config_file=args.source)
    board = buildroot_register.find_board(build, args.board) if args.board else None
    tree = open_buildroot(build)
    tree.load(config)
    before = BuildrootConfig(tree.full_config().text, config.origin)
    state = _check(args, before, profile)
    wants = [*parse_disable(args.disable), *parse_enable(args.enable), *_sizes(state)]
    resolution = goals.plan(
        tree, config, profile, features=_features(args, state), more=wants, allow=args.allow
    )
    edits = _edits(config, before, resolution, build.config_file, board)
    held_back = not resolution.complete and not args.keep_going
    if not args.dry_run and not held_back:
        for path in buildroot_register.write_edits(edits):
            ui.say(f"wrote {path}")
        _prove(tree, build, resolution, edits)
    after = BuildrootConfig(resolution.full.text, f"{config.origin}, patched")
    shown = buildroot_report.build(_check(args, after, profile), Level.NECESSARY, build)
    return _report(shown, tree, resolution, edits, held_back=held_back, dry_run=args.dry_run)


def _check(args: argparse.Namespace, config: BuildrootConfig, profile: Profile) -> Userland:
    return check(config, profile, source=args.docker_from, root_grows=args.root_grows)


def _features(args: argparse.Namespace, state: Userland) -> list[str]:
    """What was asked for; an SSH server, unless there is one; packages if that is the way."""
    names = [name for name in (args.features or "").split(",") if name]
    grades = {result.feature.name: result.grade for result in state.audit.features}
    if grades.get(_SSH) is Grade.NO:
        names.append(_SSH)
    if state.source is Source.PACKAGES:
        names.append(PACKAGES)
    return names


def _sizes(state: Userland) -> list[Want]:
    return [
        Want(
            item.size.symbol,
            f"{item.size.at_least_bytes >> 20}M",
            item.size.why,
            "Sizes",
            item.size.level.value,
        )
        for item in state.sizes
        if not item.good
    ]


def _edits(
    config: BuildrootConfig,
    before: BuildrootConfig,
    resolution: Resolution,
    config_file: Path,
    board: Path | None,
) -> tuple[Edit, ...]:
    assigned = {item.symbol: item.raw for item in resolution.assignments}
    changed = dict(assigned)
    if config.is_full:
        # A .config that leaves nothing open: else Buildroot's next make would stop and ask.
        after = resolution.full.values
        changed |= {
            name: value for name, value in after.items() if before.values.get(name) != value
        }
        changed |= {
            name: "n" for name, value in before.values.items() if _vanished(name, value, after)
        }
    edits = [_edit("Buildroot's configuration", config, changed, config_file)]
    if board is not None and not same(board, config_file):
        edits.append(_edit("the board's defconfig", read_config(board), assigned, board))
    return tuple(edits)


def _vanished(name: str, value: str, after: dict[str, str]) -> bool:
    return value == "y" and name not in after


def _edit(what: str, config: BuildrootConfig, changes: dict[str, str], path: Path) -> Edit:
    changes = {name: value for name, value in changes.items() if config.values.get(name) != value}
    after = config.with_values(changes).to_bytes() if changes else config.to_bytes()
    return Edit(what, path, config.to_bytes(), after, backup_path(path))


def _prove(
    tree: BuildrootTree, build: Buildroot, resolution: Resolution, edits: tuple[Edit, ...]
) -> None:
    """Reads the files anew: what was wanted is kept when Buildroot evaluates them."""
    for edit in edits:
        tree.load(read_config(edit.path))
        lost = [
            want.symbol
            for want in resolution.satisfied
            if want.value != "n" and not any(want.accepts(tree.value(s)) for s in want.symbols)
        ]
        if lost and edit is edits[0]:
            raise TargetError(
                f"what was written does not keep {', '.join(lost)} when it is read again",
                where=str(edit.path),
            )


def _report(
    shown: Report,
    tree: BuildrootTree,
    resolution: Resolution,
    edits: tuple[Edit, ...],
    *,
    held_back: bool,
    dry_run: bool,
) -> Report:
    sections = []
    if resolution.assignments:
        findings = tuple(
            Finding(
                item.symbol,
                Status.OK if item.want is not None else Status.INFO,
                f"{item.symbol}={item.raw}",
                f"was {item.before or 'not set'}",
                item.because,
                where=item.where,
            )
            for item in resolution.assignments
        )
        sections.append(Section("Plan", findings=findings))
    if resolution.refused:
        sections.append(
            Section("Not to be had", findings=tuple(_refusal(r, tree) for r in resolution.refused))
        )
    changed = [edit for edit in edits if edit.changes]
    if changed:
        steps = tuple(
            Step(
                f"change {edit.what}",
                str(edit.path),
                shlex.join(["mv", str(edit.backup), str(edit.path)]),
            )
            for edit in changed
        )
        sections.append(Section("Files", steps=steps))
    count = len(resolution.assignments)
    verdict = f"{count} options {'would be ' if dry_run or held_back else ''}set"
    if not count and resolution.complete:
        verdict = "nothing to change"
    if resolution.refused:
        names = ", ".join(item.want.symbol for item in resolution.refused[:6])
        verdict += f"; not to be had: {names}"
    notes = [*shown.notes]
    if dry_run:
        notes.append("dry run: nothing was written")
    elif held_back:
        notes.append("nothing was written; --keep-going writes what can be had")
    elif changed:
        notes.append(
            "next: 'make' builds what is new; a change of the skeleton needs a clean build"
        )
    return shown._replace(
        command="patch-buildroot",
        title="Buildroot config patch for Docker",
        verdict=f"{verdict}. After it: {shown.verdict}",
        status=shown.status if resolution.complete else Status.FAIL,
        exit_code=shown.exit_code if resolution.complete else EXIT_NO,
        sections=(*sections, *shown.sections),
        notes=tuple(notes),
        data={
            **shown.data,
            "plan": {
                "complete": resolution.complete,
                "assignments": [
                    {
                        "symbol": item.symbol,
                        "value": item.value,
                        "before": item.before,
                        "wanted": item.want is not None,
                        "because": item.because,
                    }
                    for item in resolution.assignments
                ],
                "refused": [
                    {
                        "symbol": item.want.symbol,
                        "value": item.want.value,
                        "obstacle": item.obstacle.value,
                        "reason": item.reason,
                        "allow": list(item.allow),
                    }
                    for item in resolution.refused
                ],
            },
            "edits": [
                {"what": edit.what, "path": str(edit.path), "changes": edit.changes}
                for edit in edits
            ],
            "dry_run": dry_run,
        },
    )


def _refusal(refused: Refused, tree: BuildrootTree) -> Finding:
    # Another processor is no way out: nobody's board turns into one.
    allowed = refused.allow and not any(tree.is_processor(name) for name in refused.allow)
    allow = " ".join(f"--allow {name}" for name in refused.allow)
    return Finding(
        refused.want.symbol,
        Status.FAIL,
        refused.want.symbol,
        refused.reason,
        hint=f"if that is what you want: {allow}" if allowed else "",
    )
