"""``embedkit get``: files from a target."""

from __future__ import annotations

import argparse
from pathlib import Path

from embedkit.commands.targeting import add_target_arguments, connected
from embedkit.commands.transfer_report import build
from embedkit.errors import InputError
from embedkit.report.model import Report
from embedkit.target.base import Transfer
from embedkit.target.receive import get
from embedkit.target.shell import ShellTarget
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_target_arguments(parser)
    parser.add_argument("files", nargs="+", metavar="FILE", help="what to fetch")
    parser.add_argument("destination", type=Path, metavar="DESTINATION", help="a file or a folder")
    parser.add_argument(
        "--way", metavar="WAY", help="exec, sftp, base64 or serial, instead of what is found best"
    )


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Fetches each file; the first failure ends it."""
    if len(args.files) > 1 and not args.destination.is_dir():
        raise InputError(f"several files need a folder, and {args.destination} is none")
    done: list[Transfer] = []
    with connected(args, ui) as target:
        assert isinstance(target, ShellTarget)
        for file in args.files:
            done.append(get(target, file, args.destination, progress=ui, way=args.way))
        return build("get", target.name, done)
