"""``embedkit binfmt register``: let this machine, or one command, run foreign programs."""

from __future__ import annotations

import argparse
from pathlib import Path

from embedkit.commands.binfmt_report import add_plan_arguments, asked, do
from embedkit.emulate import binfmt
from embedkit.emulate.magic import native
from embedkit.emulate.register import plan_register, wanted
from embedkit.errors import InputError, LackError
from embedkit.report.model import Report
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_plan_arguments(parser)
    parser.epilog = (
        "Until reboot, unless --persistent. The flag F is always set, so that programs run in "
        "containers and chroots too, and so QEMU must be static (Debian: qemu-user-static)."
    )
    parser.add_argument(
        "--persistent",
        action="store_true",
        help="also write /etc/binfmt.d, so that it is registered after every boot (systemd)",
    )
    parser.add_argument(
        "--replace", action="store_true", help="put it in the place of an entry that is there"
    )
    parser.add_argument(
        "--qemu", type=Path, metavar="FILE", help="this static QEMU user emulator (one ARCH only)"
    )
    parser.add_argument(
        "--credentials",
        action="store_true",
        help="flag C: foreign setuid programs (sudo, su) work, with root's rights",
    )
    parser.add_argument(
        "--cpu", metavar="CPU", help="with --run: a CPU of QEMU's, such as arm1176 or cortex-a15"
    )
    parser.add_argument(
        "--run",
        nargs=argparse.REMAINDER,
        metavar="COMMAND",
        help="register for this command alone, in a user namespace of its own, without root "
        "(Linux 6.7 and newer); all words after it are the command's, and its exit code is "
        "embedkit's",
    )


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Registers, and reads it back."""
    architectures = asked(args)
    if args.qemu and len(architectures) > 1:
        raise InputError("--qemu is one architecture's emulator; give one ARCH with it")
    for each in architectures:
        if each in native():
            raise InputError(f"{each.name} programs run on this machine as they are")
    if args.cpu and args.run is None:
        raise InputError(
            "--cpu is for --run: the kernel's entry cannot name a CPU",
            hint="or give each program QEMU_CPU in its environment",
        )
    entries = tuple(
        (each, wanted(each, args.qemu, credentials=args.credentials)) for each in architectures
    )
    status = binfmt.status()
    if args.run is not None:
        if not args.run:
            raise InputError("--run needs a command")
        if args.persistent or args.replace:
            raise InputError("--run registers for one command, so nothing persists or is replaced")
        if not status.private_possible:
            raise LackError(
                "this kernel gives no user namespace a binfmt_misc of its own",
                hint="Linux 6.7 and newer do; as root: embedkit binfmt register ARCH",
            )
        from embedkit.commands.chroot import run_session
        from embedkit.emulate.chroot import plan_private

        session = plan_private(
            tuple(entry for _, entry in entries), tuple(args.run), cpu=args.cpu or ""
        )
        return run_session("binfmt register", session, args, ui)
    instance = binfmt.Instance()
    plan = plan_register(
        status, entries, instance=instance, persistent=args.persistent, replace=args.replace
    )
    names = ", ".join(each.name for each in architectures)
    until = "and after every boot" if args.persistent else "until the next boot"
    return do(
        "binfmt register", plan, args, ui, lambda: f"programs for {names} run here now, {until}"
    )
