"""The options that every command has, and argparse's complaints as errors of embedkit."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any, NoReturn

from embedkit.errors import InputError


class _Formatter(argparse.HelpFormatter):
    """argparse makes a formatter for every argument, and asks shutil, which imports all the
    compression modules, for the terminal's width each time.
    """

    def __init__(self, prog: str) -> None:
        super().__init__(prog, width=_width())


def _width() -> int:
    try:
        return min(os.get_terminal_size().columns, 110) - 2
    except OSError:
        return 98


class Parser(argparse.ArgumentParser):
    """argparse whose complaints look like all other errors of embedkit."""

    def __init__(self, prog: str, description: str) -> None:
        # Abbreviated options would change their meaning whenever an option is added.
        super().__init__(
            prog=prog, description=description, formatter_class=_Formatter, allow_abbrev=False
        )

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        """As ever; a command that sets the default ``after_dashes`` finds the words behind the
        first ``--`` there: argparse itself would mix them with the command's own."""
        words = list(args or ())
        if self.get_default("after_dashes") is None or "--" not in words:
            return super().parse_args(words, namespace)
        at = words.index("--")
        found = super().parse_args(words[:at], namespace)
        found.after_dashes = tuple(words[at + 1 :])
        return found

    def error(self, message: str) -> NoReturn:
        raise InputError(message, hint=f"{self.prog} --help")


def add_common_arguments(parser: argparse.ArgumentParser, own: tuple[str, ...] = ()) -> None:
    """The options that every command has; ``own`` are the command's further formats."""
    group = parser.add_argument_group("common options")
    group.add_argument(
        "--format",
        default="text",
        metavar="FORMAT",
        help=", ".join(("text (the default), json, html, markdown, junit, sarif", *own)),
    )
    group.add_argument(
        "--json", dest="format", action="store_const", const="json", help="same as --format json"
    )
    group.add_argument("--output", type=Path, metavar="FILE", help="write the result to FILE")
    group.add_argument("-v", "--verbose", action="count", default=0, help="say more")
    group.add_argument("-q", "--quiet", action="count", default=0, help="say less")
    group.add_argument("--no-color", action="store_true", help="no colours (also: NO_COLOR)")
    group.add_argument("--yes", action="store_true", help="do not ask for confirmation")
    group.add_argument("--debug", action="store_true", help="show a traceback on errors")
