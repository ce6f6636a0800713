"""The command line: the table of commands, lazy dispatch, errors to exit codes.

Only the chosen command's module is imported; ``embedkit --help`` imports none.
"""

from __future__ import annotations

import sys

from embedkit import __version__
from embedkit.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_USAGE,
    EmbedkitError,
    InputError,
    did_you_mean,
    exit_code,
)

# typing, argparse and dataclasses cost more than a bare Python start together: what `--help`
# and the dispatch do not need is imported where it is used.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from typing import Protocol

    from embedkit.report.model import Report
    from embedkit.ui import Ui

    class CommandModule(Protocol):
        """What a module under ``embedkit.commands`` offers."""

        def add_arguments(self, parser: argparse.ArgumentParser) -> None: ...

        def run(self, args: argparse.Namespace, ui: Ui) -> Report: ...


class Command:
    """One verb: its words on the command line, its module, one line of what it does."""

    def __init__(self, name: str, module: str, summary: str) -> None:
        self.name = name
        self.module = module
        self.summary = summary


COMMANDS = (
    Command("boards list", "boards_list", "the boards that embedkit knows"),
    Command("boards show", "boards_show", "one board, its card's map, the source of each number"),
    Command("boards validate", "boards_validate", "check board files"),
    Command("compose", "compose", "make a card image for a board, without root"),
    Command("devices", "devices", "the block devices of this machine, and which may be flashed"),
    Command("flash", "flash", "write an image or a board's card, and read it back"),
    Command("verify", "verify", "compare a card with an image or a board's card"),
    Command("read", "read", "save a card as a sparse image with a block map"),
    Command("check-kernel", "check_kernel", "audit a kernel config for Docker"),
    Command("explain", "explain", "what a kernel symbol or a Docker error message means"),
)


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code. The console script's entry."""
    words = sys.argv[1:] if argv is None else argv
    try:
        return _main(words)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        # The reader of our output went away (`| head`): not an error, and nobody to tell.
        sys.stdout = None
        return 0


def _main(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        sys.stdout.write(_help())
        return 0 if words else EXIT_USAGE
    if words[0] == "--version":
        sys.stdout.write(f"embedkit {__version__}\n")
        return 0
    command: Command | None = None
    debug = "--debug" in words
    try:
        command, rest = _choose(words)
        if command is None:
            return 0
        return _run(command, rest)
    except (KeyboardInterrupt, BrokenPipeError):
        raise
    except Exception as error:
        return _fail(command.name if command else "", error, _asked_format(words), debug)


def _run(command: Command, words: list[str]) -> int:
    import importlib

    from embedkit.arguments import Parser, add_common_arguments
    from embedkit.report.render import render
    from embedkit.ui import Ui, wants_color

    module: CommandModule = importlib.import_module(f"embedkit.commands.{command.module}")
    parser = Parser(prog=f"embedkit {command.name}", description=command.summary)
    module.add_arguments(parser)
    add_common_arguments(parser)
    args = parser.parse_args(words)
    ui = Ui(verbosity=args.verbose - args.quiet, no_color=args.no_color, yes=args.yes)
    report = module.run(args, ui)
    color = args.output is None and wants_color(sys.stdout, args.no_color)
    shown = render(report, args.format, color=color, verbose=args.verbose > 0)
    if args.output is None:
        sys.stdout.write(shown)
        sys.stdout.flush()
    else:
        from embedkit.files import write_atomically

        write_atomically(args.output, shown.encode("utf-8"))
        ui.say(f"wrote {args.output}")
    return report.exit_code


def _choose(words: list[str]) -> tuple[Command | None, list[str]]:
    """The command that ``words`` begin with, and the words after it."""
    for length in (2, 1):
        name = " ".join(words[:length])
        for command in COMMANDS:
            if command.name == name:
                return command, words[length:]
    group = [command for command in COMMANDS if command.name.startswith(words[0] + " ")]
    if group:
        if len(words) > 1 and words[1] in ("-h", "--help"):
            sys.stdout.write(_help(words[0]))
            return None, []
        verbs = [command.name.split()[1] for command in group]
        guess = did_you_mean(words[1], verbs) if len(words) > 1 else None
        raise InputError(
            f"'embedkit {words[0]}' takes one of: {', '.join(verbs)}",
            hint=guess or f"embedkit {words[0]} --help",
        )
    names = [command.name for command in COMMANDS]
    raise InputError(
        f"there is no command '{words[0]}'",
        hint=did_you_mean(words[0], names) or "embedkit --help lists the commands",
    )


def _help(group: str | None = None) -> str:
    shown = [c for c in COMMANDS if group is None or c.name.split()[0] == group]
    width = max(len(command.name) for command in shown)
    lines = [
        f"usage: embedkit {group or 'COMMAND'} {'VERB ' if group else ''}[options]",
        "",
        "Make an embedded board Docker-ready, and prove it.",
        "",
        "commands:",
        *(f"  {command.name:<{width}}  {command.summary}" for command in shown),
        "",
        "'embedkit COMMAND --help' tells a command's options; 'embedkit --version' the version.",
        "Exit codes: 0 all well, 1 the answer is no, 2 bad input, 3 this machine lacks something,",
        "4 the board or device failed, 70 a bug in embedkit, 130 interrupted.",
    ]
    return "\n".join(lines) + "\n"


def _asked_format(words: list[str]) -> str:
    """Whether JSON was asked for, known even where the arguments cannot be parsed."""
    joined = " ".join(words)
    return "json" if "--json" in words or "--format json" in joined.replace("=", " ") else "text"


def _fail(command: str, error: Exception, format: str, debug: bool) -> int:
    code = exit_code(error)
    if debug:
        import traceback

        traceback.print_exception(error)
    if format == "json":
        from embedkit.report import json

        sys.stdout.write(json.render_error(command, error, code))
        return code
    from embedkit.report.text import safe

    if isinstance(error, EmbedkitError):
        print(f"error: {safe(str(error))}", file=sys.stderr)
        if error.hint:
            print(f"hint: {safe(error.hint)}", file=sys.stderr)
    else:
        print(f"error: a bug in embedkit: {type(error).__name__}: {error}", file=sys.stderr)
        if not debug:
            print("hint: run it again with --debug and report the traceback", file=sys.stderr)
        assert code == EXIT_BUG
    return code


if __name__ == "__main__":
    sys.exit(main())
