"""``embedkit chroot``: a command in another architecture's root file system."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.errors import InputError
from embedkit.report.model import Report, Section, Status, Step
from embedkit.ui import Ui

if TYPE_CHECKING:
    from embedkit.emulate.chroot import Session


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.epilog = (
        "The exit code is the command's own (128 + N where signal N ended it, 126 or 127 where it "
        "cannot be started). Where embedkit itself fails it is 2, 3, 4 or 70 as everywhere, and a "
        "line 'error: …' says so on standard error. With --json and the like the command's output "
        "goes to standard error."
    )
    parser.add_argument("rootfs", type=Path, metavar="ROOTFS", help="the root file system's folder")
    parser.add_argument(
        "command",
        nargs=argparse.PARSER,
        metavar="COMMAND",
        help="the command and its arguments; put '--' before it",
    )
    parser.add_argument(
        "--cpu",
        metavar="CPU",
        help="the board's CPU by QEMU's name (arm926, arm1176, cortex-a15, …): instructions that "
        "it lacks fail here as they do there",
    )
    parser.add_argument(
        "--bind",
        action="append",
        default=[],
        metavar="PATH[:INSIDE]",
        help="a folder or file of this machine that is to be seen inside",
    )
    parser.add_argument(
        "--env",
        action="append",
        default=[],
        metavar="NAME[=VALUE]",
        help="set in the command's environment; without =VALUE, as it is here",
    )
    parser.add_argument(
        "--qemu", type=Path, metavar="FILE", help="this static QEMU user emulator, for this command"
    )
    parser.add_argument("--dry-run", action="store_true", help="show what would be done")


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Runs the command; its exit code is the report's."""
    from embedkit.emulate import binfmt
    from embedkit.emulate.chroot import plan_chroot

    command = tuple(args.command[1:] if args.command[0] == "--" else args.command)
    if not command:
        raise InputError("there is no command", hint="embedkit chroot ROOTFS -- /bin/sh")
    session = plan_chroot(
        args.rootfs,
        command,
        binfmt.status(),
        cpu=args.cpu or "",
        qemu=args.qemu,
        binds=tuple(_bind(text) for text in args.bind),
        environment=dict(_variable(text) for text in args.env),
    )
    return run_session("chroot", session, args, ui)


def run_session(command: str, session: Session, args: argparse.Namespace, ui: Ui) -> Report:
    """Runs a session (or shows it, with --dry-run) and reports the command's exit code."""
    from embedkit.emulate import chroot

    ways = [str(way) for way in session.ways]
    if args.dry_run:
        return Report(
            command=command,
            title=command,
            verdict="nothing was done",
            status=Status.OK,
            facts=tuple(("emulation", way) for way in ways),
            sections=(Section("Steps", steps=tuple(Step(each) for each in session.sentences())),),
            notes=session.remarks,
            data={"dry_run": True, "steps": list(session.sentences())},
        )
    for line in (*ways, *session.remarks):
        ui.detail(line)
    passing = args.format == "text" and args.output is None
    code = chroot.run(session, stdout=None if passing else 2)
    signal = chroot.crash(code)
    if signal:
        cpu = f"; --cpu {args.cpu} may lack an instruction of it" if signal == "SIGILL" else ""
        ui.warn(f"the command crashed ({signal}){cpu if args.cpu else ''}")
    return Report(
        command=command,
        title=command,
        verdict="the command ended well" if code == 0 else f"the command ended with {code}",
        status=Status.OK if code == 0 else Status.FAIL,
        exit_code=code,
        data={
            "exit_code": code,
            "signal": signal or None,
            "architectures": [way.architecture.name for way in session.ways],
        },
        # What there is to show was shown already.
        renderings={"text": lambda: ""},
    )


def _bind(text: str) -> tuple[Path, str]:
    source, _, inside = text.partition(":")
    path = Path(source).resolve()
    if not path.exists():
        raise InputError("--bind: there is no such file or folder", where=source)
    return path, inside or str(path)


def _variable(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name:
        raise InputError(f"--env: '{text}' has no name")
    return name, value if equals else os.environ.get(name, "")
