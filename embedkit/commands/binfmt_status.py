"""``embedkit binfmt status``: which foreign programs this machine runs, and how."""

from __future__ import annotations

import argparse

from embedkit.commands.binfmt_report import entry_data
from embedkit.emulate import binfmt
from embedkit.emulate.magic import Architecture, architecture, native
from embedkit.report.model import Finding, Report, Section, Status
from embedkit.ui import Ui

_LETTERS = "F works in containers, P keeps argv[0], O passes the open file, C setuid programs work"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "arch",
        nargs="*",
        metavar="ARCH",
        help="only these, and exit code 1 where the programs of one do not run in containers",
    )


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Reports. Exit code 1 where an architecture that was asked for does not run."""
    asked = tuple(dict.fromkeys(architecture(name) for name in args.arch))
    status = binfmt.status()
    shown = asked or binfmt.foreign()
    findings = tuple(_architecture(each, status, bool(asked)) for each in shown)
    lacking = [each for each in shown if not _runs(each, status)]
    if asked:
        names = ", ".join(each.name for each in lacking)
        verdict = f"not in containers: {names}" if lacking else "these run, also in containers"
    else:
        running = [each.name for each in shown if each not in lacking]
        verdict = f"run in containers: {', '.join(running)}" if running else "nothing foreign runs"
    others = tuple(_other(each) for each in status.entries if not each.architectures)
    sections = [Section("Architectures", findings=findings)]
    if others and not asked:
        sections.append(Section("Other entries", findings=others))
    state = "not in this kernel"
    if status.mounted:
        state = "mounted, enabled" if status.enabled else "mounted, DISABLED as a whole"
    elif status.supported:
        state = "not mounted: nothing is registered"
    return Report(
        command="binfmt status",
        title="Foreign programs on this machine",
        verdict=verdict,
        status=Status.FAIL if asked and lacking else Status.OK,
        exit_code=1 if asked and lacking else 0,
        facts=(
            ("binfmt_misc", state),
            ("instance", "the machine's" if status.machine_wide else "a user namespace's own"),
            ("this machine runs", ", ".join(each.name for each in native())),
            (
                "without root",
                "possible: a user namespace can have its own (register --run, chroot)"
                if status.private_possible
                else "not possible: that needs Linux 6.7 and user namespaces",
            ),
        ),
        sections=tuple(sections),
        notes=(f"flags: {_LETTERS}",) if status.entries else (),
        data={
            "supported": status.supported,
            "mounted": status.mounted,
            "enabled": status.enabled,
            "machine_wide": status.machine_wide,
            "private_possible": status.private_possible,
            "native": [each.name for each in native()],
            "runs_in_containers": [each.name for each in shown if _runs(each, status)],
            "entries": [entry_data(each) for each in status.entries],
        },
    )


def _runs(each: Architecture, status: binfmt.Status) -> bool:
    return each in native() or status.usable(each) is not None


def _architecture(each: Architecture, status: binfmt.Status, asked: bool) -> Finding:
    if each in native():
        return Finding(each.name, Status.OK, each.name, "runs without emulation")
    entries = status.of(each)
    if not entries:
        hint = f"embedkit binfmt register {each.name}" if asked else ""
        weight = Status.FAIL if asked else Status.SKIP
        return Finding(each.name, weight, each.name, "not registered", hint=hint)
    found = entries[0]
    words = [f"{found.entry.interpreter}, flags {found.entry.flags or 'none'}"]
    if found.interpreter.static is not None:
        words.append("static" if found.interpreter.static else "dynamic")
    elif not found.interpreter.exists:
        words.append("no longer there" + (", still held open" if found.entry.is_fixed else ""))
    detail = f"entry {found.entry.name}, registered by {found.owner}"
    if len(entries) > 1:
        detail += "; also taken by " + ", ".join(other.entry.name for other in entries[1:])
    troubles = [other.trouble for other in entries if other.trouble]
    if not status.enabled:
        troubles.insert(0, "binfmt_misc as a whole is disabled")
    if troubles:
        return Finding(
            each.name,
            Status.FAIL if asked else Status.WARN,
            each.name,
            ", ".join(words),
            detail=f"{troubles[0]}\n{detail}",
            hint=f"embedkit binfmt register {each.name} --replace",
        )
    return Finding(each.name, Status.OK, each.name, ", ".join(words), detail=detail)


def _other(found: binfmt.Found) -> Finding:
    entry = found.entry
    state = f"{entry.interpreter}, flags {entry.flags or 'none'}"
    if not entry.enabled:
        state += ", disabled"
    return Finding(
        entry.name, Status.INFO, entry.name, state, detail=f"registered by {found.owner}"
    )
