"""``embedkit put``: files to a target."""

from __future__ import annotations

import argparse
from pathlib import Path

from embedkit.commands.targeting import access, add_target_arguments, connected
from embedkit.commands.transfer_report import build
from embedkit.errors import InputError
from embedkit.report.model import Report
from embedkit.target.base import Transfer
from embedkit.target.shell import ShellTarget
from embedkit.target.transfer import put
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_target_arguments(parser)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="what to send")
    parser.add_argument(
        "destination",
        metavar="DESTINATION",
        help="the file's name on the target, or a folder with '/' at its end; an address such as "
        "0x40200000 for the memory of a board at its U-Boot prompt",
    )
    parser.add_argument("--mode", type=_mode, metavar="MODE", help="permissions, such as 755")
    parser.add_argument(
        "--way",
        metavar="WAY",
        help="exec, sftp, scp, base64 or serial, instead of what is found best",
    )


def _mode(text: str) -> int:
    if not text.isascii() or not text.isdigit() or set(text) & set("89") or int(text, 8) > 0o7777:
        raise argparse.ArgumentTypeError(f"'{text}' is not a mode such as 755")
    return int(text, 8)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Sends each file; the first failure ends it."""
    if args.target.startswith("uboot"):
        return _to_memory(args, ui)
    folder: str = args.destination if args.destination.endswith("/") else ""
    if len(args.files) > 1 and not folder:
        raise InputError(
            "several files need a folder as their destination",
            hint=f"write it with a slash at its end: {args.destination}/",
        )
    done: list[Transfer] = []
    with connected(args, ui) as target:
        assert isinstance(target, ShellTarget)
        for file in args.files:
            path = f"{folder}{file.name}" if folder else args.destination
            done.append(put(target, file, path, mode=args.mode, progress=ui, way=args.way))
        return build("put", target.name, done)


def _to_memory(args: argparse.Namespace, ui: Ui) -> Report:
    from embedkit.target.uboot import open_uboot

    if len(args.files) != 1:
        raise InputError("one file at a time goes into the memory of a board")
    with open_uboot(args.target, access(args, ui), deadline_seconds=args.wait) as prompt:
        done = prompt.put(args.files[0], args.destination, progress=ui)
        return build("put", prompt.name, [done])
