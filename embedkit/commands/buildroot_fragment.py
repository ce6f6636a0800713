"""``patch-kernel --buildroot``: the kernel config that a Buildroot build uses, patched.

Nothing of the kernel's own files is touched: the changes become a fragment beside the board's
files, registered in Buildroot's configuration.
"""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from embedkit.commands import patch_report
from embedkit.errors import EXIT_NO, InputError
from embedkit.kernel import buildroot_patch
from embedkit.kernel.buildroot import Buildroot
from embedkit.kernel.buildroot_kernel import KernelUse
from embedkit.kernel.buildroot_patch import BuildrootPatch, Request
from embedkit.kernel.buildroot_register import Registration
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.profile import Profile
from embedkit.kernel.wants import Prefer, Want
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
    patch = buildroot_patch.plan(
        Request(
            args.buildroot,
            profile,
            features,
            more,
            args.allow,
            Prefer(args.prefer) if args.prefer else Prefer.AUTO,
            board=args.board,
            linux=args.tree,
            fragment=args.fragment,
            arch=args.arch,
            cross_compile=args.cross_compile,
            assume_compiler=args.assume_compiler,
        )
    )
    resolution = patch.resolution
    held_back = not resolution.complete and not args.keep_going
    written: tuple[tuple[str, Path], ...] = ()
    if not args.dry_run and not held_back:
        written = buildroot_patch.write(patch)
        for what, path in written:
            ui.say(f"wrote {path} ({what})")
    report = patch_report.build(
        patch.tree,
        patch.base,
        patch.before,
        resolution,
        profile,
        written=written,
        dry_run=args.dry_run,
        held_back=held_back,
        exit_code=0 if resolution.complete else EXIT_NO,
    )
    return _with_buildroot(report, patch, done=bool(written))


def _with_buildroot(report: Report, patch: BuildrootPatch, *, done: bool) -> Report:
    build, use, registration = patch.build, patch.use, patch.registration
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
    notes += _warnings(build, use, patch.board, patch.before)
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
    build: Buildroot, use: KernelUse, board: Path | None, before: KernelConfig
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
