"""``patch-kernel --buildroot``: the kernel config that a Buildroot build uses, patched.

Nothing of the kernel's own files is touched: the changes become a fragment beside the board's
files, registered in Buildroot's configuration.
"""

from __future__ import annotations

import argparse
import shlex
from dataclasses import replace
from pathlib import Path

from embedkit.commands import patch_report
from embedkit.errors import EXIT_NO, InputError, TargetError
from embedkit.kernel import buildroot, buildroot_kernel, buildroot_register, fragment, goals
from embedkit.kernel.buildroot import Buildroot
from embedkit.kernel.buildroot_kernel import KernelUse
from embedkit.kernel.buildroot_register import Registration
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.profile import Profile
from embedkit.kernel.resolve import resolve
from embedkit.kernel.tree import KernelTree, open_tree
from embedkit.kernel.wants import Prefer, Resolution, Want
from embedkit.report.model import Report, Section, Step
from embedkit.ui import Ui

_FOREIGN = ("source", "config", "defconfig", "diff", "patched", "in_place")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of patch-kernel that are about Buildroot."""
    group = parser.add_argument_group("Buildroot")
    group.add_argument(
        "--buildroot",
        type=Path,
        metavar="DIR",
        help="patch what this Buildroot builds: its output folder (O=…) or its tree; writes a "
        "fragment beside the board's files and registers it",
    )
    group.add_argument(
        "--board",
        metavar="DEFCONFIG",
        help="register the fragment in this defconfig of Buildroot's as well",
    )


def run(
    args: argparse.Namespace, ui: Ui, profile: Profile | None, more: list[Want], features: list[str]
) -> Report:
    """Plans, writes, reads back. Exit code 1 where something wanted could not be had."""
    for name in _FOREIGN:
        if getattr(args, name):
            option = {"source": "SOURCE", "patched": "-o"}.get(name, f"--{name.replace('_', '-')}")
            raise InputError(
                f"{option} does not go with --buildroot",
                hint="the changes become a fragment; --fragment FILE says where it shall be",
            )
    build = buildroot.find(args.buildroot)
    board = buildroot_register.find_board(build, args.board) if args.board else None
    if board is not None and not build.config_file.is_file():
        # Not configured yet: the defconfig says what the build will be.
        build = replace(build, config_file=board)
    use = buildroot_kernel.in_use(build, args.tree)
    name = f"linux-{profile.name if profile else 'options'}.config"
    place = args.fragment or buildroot_register.choose_place(build, board, name)
    base = use.combined(without=place)
    tree = _open(args, build, use, base)
    tree.load(base)
    before = tree.full_config()
    prefer = Prefer(args.prefer) if args.prefer else Prefer.AUTO
    if profile is not None:
        resolution = goals.plan(
            tree, base, profile, features=features, more=more, allow=args.allow, prefer=prefer
        )
    else:
        resolution = resolve(tree, base, more, allow=args.allow, prefer=prefer)
    title = f"{profile.title if profile else 'Chosen options'}: kernel config fragment"
    text = fragment.fragment(resolution, title, f"Linux {tree.release} ({tree.arch})")
    known = any(buildroot_kernel.same(part.path, place) for part in use.fragments)
    registration = None
    if resolution.assignments or known:
        registration = buildroot_register.plan(build, place, text, linux=use.tree, board=board)
    held_back = not resolution.complete and not args.keep_going
    written: tuple[tuple[str, Path], ...] = ()
    if registration is not None and not args.dry_run and not held_back:
        paths = buildroot_register.write(registration)
        written = tuple((e.what, e.path) for e in registration.edits if e.path in paths)
        _prove(build, use, registration, tree, resolution)
        for what, path in written:
            ui.say(f"wrote {path} ({what})")
    report = patch_report.build(
        tree,
        base,
        before,
        resolution,
        profile,
        written=written,
        dry_run=args.dry_run,
        held_back=held_back,
        exit_code=0 if resolution.complete else EXIT_NO,
    )
    return _with_buildroot(
        report, build, use, registration, board, before, done=bool(written), args=args
    )


def _open(
    args: argparse.Namespace, build: Buildroot, use: KernelUse, base: KernelConfig
) -> KernelTree:
    prefix = args.cross_compile
    if prefix is None and not args.assume_compiler:
        # The toolchain of this very build answers the tree's probes as the build will.
        prefix = build.compiler_prefix
    return open_tree(
        use.tree,
        arch=args.arch or use.arch,
        config=base,
        cross_compile=prefix,
        assume_compiler=args.assume_compiler,
    )


def _prove(
    build: Buildroot,
    use: KernelUse,
    registration: Registration,
    tree: KernelTree,
    resolution: Resolution,
) -> None:
    """Reads everything from disk as Buildroot will, and evaluates it on the kernel's tree."""
    buildroot_register.read_back(build, registration, use.tree)
    anew = buildroot_kernel.in_use(replace(build, config_file=registration.edits[1].path), use.tree)
    tree.load(anew.combined())
    lost = [
        want.symbol
        for want in resolution.satisfied
        if not any(want.accepts(tree.value(name)) for name in want.symbols) and want.value != "n"
    ]
    if lost:
        raise TargetError(
            f"what was written does not keep {', '.join(lost)} when it is read again",
            where=str(registration.fragment),
            hint="another fragment undoes it; report this with the list of fragments",
        )


def _with_buildroot(
    report: Report,
    build: Buildroot,
    use: KernelUse,
    registration: Registration | None,
    board: Path | None,
    before: KernelConfig,
    *,
    done: bool,
    args: argparse.Namespace,
) -> Report:
    steps = tuple(_steps(registration)) if registration is not None else ()
    facts = (
        ("buildroot", f"{build.version or 'unknown version'} ({build.tree})"),
        ("output", str(build.output)),
        ("kernel config", f"{use.kind}: {use.name}"),
        ("fragments", ", ".join(part.word for part in use.fragments) or "none"),
    )
    notes = list(report.notes)
    if registration is not None and not registration.changes:
        notes.append(f"already registered as {registration.word}: nothing to write")
    if done:
        notes.append(
            "next: 'make linux-reconfigure' merges the fragment and builds the kernel, then 'make'"
        )
    notes += _warnings(build, use, board, before, registration)
    data = {
        **report.data,
        "buildroot": {
            "version": build.version,
            "tree": str(build.tree),
            "output": str(build.output),
            "kind": use.kind,
            "base": str(use.base),
            "fragments": [part.word for part in use.fragments],
            "fragment": str(registration.fragment) if registration else None,
            "registered_as": registration.word if registration else None,
            "edits": [
                {"what": edit.what, "path": str(edit.path), "changes": edit.changes}
                for edit in (registration.edits if registration else ())
            ],
        },
    }
    sections = report.sections
    if steps:
        sections = (*sections, Section("Files", steps=steps))
    return report._replace(
        facts=(*facts, *report.facts[1:]), sections=sections, notes=tuple(notes), data=data
    )


def _steps(registration: Registration) -> list[Step]:
    found = []
    for edit in registration.edits:
        if not edit.changes:
            found.append(Step(f"keep {edit.what} as it is", str(edit.path)))
        elif edit.path == registration.fragment:
            undo = "remove the file" if edit.before is None else "patch-kernel writes it anew"
            found.append(Step(f"write {edit.what}", str(edit.path), undo))
        else:
            undo = shlex.join(["mv", str(edit.backup), str(edit.path)])
            found.append(Step(f"add {registration.word} to {edit.what}", str(edit.path), undo))
    return found


def _warnings(
    build: Buildroot,
    use: KernelUse,
    board: Path | None,
    before: KernelConfig,
    registration: Registration | None,
) -> list[str]:
    found = []
    saved = build.config.text_value("BR2_DEFCONFIG")
    if board is None and saved and Path(saved).is_file():
        found.append(
            f"only .config names the fragment; --board {Path(saved).name} (or 'make "
            "savedefconfig') puts it into the defconfig as well"
        )
    if use.built is not None:
        made = KernelConfig.from_bytes(use.built.read_bytes())
        own = {name for name in made.values if made.enabled(name)}
        lost = sorted(name for name in own - set(before.values) if name in before.values)
        lost += sorted(name for name in own if before.values.get(name) == "n")
        if lost:
            shown = ", ".join(lost[:4]) + ("…" if len(lost) > 4 else "")
            found.append(
                f"the kernel under {use.tree} has {len(lost)} options that its config files do not "
                f"give it ({shown}): set by Buildroot's packages, by the fragment, or in "
                "linux-menuconfig, which 'make linux-update-defconfig' saves"
            )
    names = [build.tree, build.output, *(external.path for external in build.externals)]
    spaced = [str(path) for path in names if any(letter.isspace() for letter in str(path))]
    if spaced:
        found.append(f"Buildroot does not build in a path with spaces: {spaced[0]}")
    return found
