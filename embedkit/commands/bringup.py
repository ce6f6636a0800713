"""``embedkit bringup``: from a kernel's config to a container that ran, in one command."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.data import state_folder
from embedkit.errors import InputError, did_you_mean
from embedkit.report.model import Report
from embedkit.units import format_seconds

if TYPE_CHECKING:
    from collections.abc import Callable

    from embedkit.bringup.run import Choice
    from embedkit.bringup.settings import Settings
    from embedkit.bringup.stages import Hands, Result, Stage
    from embedkit.ui import Ui

# Written into the work folder at the end of every run, also of one that failed.
_COPIES = ("html", "json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "file", nargs="?", type=Path, metavar="FILE.toml", help="the board, its parts, its place"
    )
    parser.add_argument(
        "--reference", metavar="KIND",
        help="instead of a file: a little board of embedkit's own in QEMU (arm, arm64, x86_64, "
        "orangepi-pc)",
    )  # fmt: skip
    parser.add_argument("--device", help="the card's device, in place of the file's")
    parser.add_argument("--target", metavar="TARGET", help="the board, in place of the file's")
    which = parser.add_argument_group(
        "stages", "reference, check, patch, build, compose, flash, boot, probe, deploy, proof"
    )
    which.add_argument("--skip", action="append", default=[], metavar="STAGE,…", help="leave out")
    which.add_argument("--only", action="append", default=[], metavar="STAGE,…", help="only these")
    which.add_argument("--from", dest="begin", default="", metavar="STAGE", help="begin there")
    which.add_argument(
        "--again", action="store_true", help="do even what is done and has not changed"
    )
    which.add_argument("--dry-run", action="store_true", help="show the steps, change nothing")
    parser.add_argument("--keep", action="store_true", help="leave an emulated board running")
    parser.add_argument("--unmount", action="store_true", help="unmount what is mounted from it")
    parser.add_argument(
        "--accept-suspicious", action="store_true",
        help="write a device that 'embedkit devices' calls suspicious",
    )  # fmt: skip


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Runs the chain. The exit code is that of the stage that ended it."""
    from embedkit.bringup import run as chain
    from embedkit.bringup.chain import stages
    from embedkit.commands import bringup_report
    from embedkit.commands.bringup_details import describe

    settings = _settings(args)
    choice = _choice(args)
    known = stages()
    chain.chosen(known, choice)
    told = Telling(ui)
    try:
        ended = chain.run(
            settings, known, choice, _hands(args, settings, ui), describe=describe, observer=told
        )
    except KeyboardInterrupt:
        where = f" in the stage '{told.stage}'" if told.stage else ""
        ui.warn(f"interrupted{where}; what is done stays done, to go on: {_command(args)}")
        raise
    copies = []
    if not choice.dry_run:
        copies = [settings.work / f"report.{format}" for format in _COPIES]
    report = bringup_report.build(
        ended,
        title=_title(ended.settings),
        command=_command(args),
        files=copies,
        emulation=_emulation() if settings.emulated else "",
    )
    _write(report, copies)
    return report


def _settings(args: argparse.Namespace) -> Settings:
    from embedkit.bringup.reader import read
    from embedkit.bringup.settings import of_reference

    kinds = _kinds()
    if (args.file is None) == (args.reference is None):
        raise InputError(
            "give either a bringup file or --reference KIND", hint="see docs/bringup.md"
        )
    if args.reference is not None:
        if args.reference not in kinds:
            raise InputError(
                f"there is no reference board '{args.reference}'",
                hint=did_you_mean(args.reference, kinds) or f"known: {', '.join(kinds)}",
            )
        for option in ("device", "target"):
            if getattr(args, option):
                raise InputError(f"--{option} does not go with --reference")
        work = state_folder() / "bringup" / f"reference-{args.reference}"
        return of_reference(args.reference, work)
    return read(args.file, kinds, device=args.device, target=args.target)


def _kinds() -> tuple[str, ...]:
    from embedkit.emulate.reference import KINDS

    return tuple(KINDS)


def _choice(args: argparse.Namespace) -> Choice:
    from embedkit.bringup.run import Choice

    return Choice(
        skip=_names(args.skip),
        only=_names(args.only),
        begin=args.begin,
        again=args.again,
        dry_run=args.dry_run,
        keep=args.keep,
    )


def _names(words: list[str]) -> tuple[str, ...]:
    return tuple(name for word in words for name in word.split(",") if name)


def _hands(args: argparse.Namespace, settings: Settings, ui: Ui) -> Hands:
    from embedkit.bringup.stages import Hands
    from embedkit.commands.targeting import ask_secret
    from embedkit.target.opening import Access

    return Hands(
        progress=ui,
        access=Access(
            ask=ask_secret,
            accept_new_host_key=settings.boot.accept_new_host_key,
            legacy=settings.boot.legacy_ssh,
            say=ui.say,
        ),
        confirm=_confirming(args, ui),
        accept_suspicious=args.accept_suspicious,
        unmount=args.unmount,
    )


def _confirming(args: argparse.Namespace, ui: Ui) -> Callable[[str, str], bool]:
    """--yes covers a device that the command line names: one in a file may be another's today."""

    def confirm(question: str, expected: str) -> bool:
        if not args.yes or args.device:
            return ui.confirm(question, expected)
        if not sys.stdin.isatty():
            raise InputError(
                f"--yes writes only a device that is named beside it, and {expected} is not",
                hint=f"add --device {expected}",
            )
        ui.yes = False
        return ui.confirm(question, expected)

    return confirm


class Telling:
    """Says each stage, numbered among those that are to come."""

    def __init__(self, ui: Ui) -> None:
        self._ui = ui
        self.stage = ""

    def started(self, stage: Stage) -> None:
        self.stage = stage.name
        self._ui.say(f"== {stage.title}")

    def ended(self, result: Result) -> None:
        from embedkit.bringup.stages import Standing

        self.stage = ""
        if result.standing in (Standing.DONE, Standing.FAILED):
            word = "failed: " if result.standing is Standing.FAILED else ""
            self._ui.say(f"   {word}{result.verdict} ({format_seconds(result.seconds)})")
        elif result.standing is Standing.KEPT:
            self._ui.say(f"   unchanged: {result.verdict}")


def _command(args: argparse.Namespace) -> str:
    """What goes on where this run stopped."""
    words = ["embedkit", "bringup"]
    words += ["--reference", args.reference] if args.reference else [str(args.file)]
    for option in ("device", "target"):
        value = getattr(args, option)
        words += [f"--{option}", value] if value else []
    return shlex.join(words)


def _title(settings: Settings) -> str:
    if not settings.board:
        return settings.name
    from embedkit import board

    return board.load(settings.board).title


def _emulation() -> str:
    """What the times were taken on."""
    machine = os.uname().machine
    count = len(os.sched_getaffinity(0))
    return f"QEMU on {count} {machine} core{'' if count == 1 else 's'}"


def _write(report: Report, copies: list[Path]) -> None:
    from embedkit.files import write_atomically
    from embedkit.report.render import render

    for path in copies:
        text = render(report, path.suffix[1:])
        write_atomically(path, text.encode("utf-8", "backslashreplace"))
