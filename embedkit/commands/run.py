"""``embedkit run``: a command on a target, with its output and its exit code."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Iterator

from embedkit.commands.passing import Passing
from embedkit.commands.targeting import access, add_target_arguments, connected
from embedkit.report.model import Report, Status
from embedkit.target.base import Channel, Command, Output
from embedkit.ui import Ui

# U-Boot commands after which something else has the machine.
_LEAVES = re.compile(r"\s*(boot\w*|go|reset|run \w*boot\w*|distro_bootcmd)\b(?!.*[;&|])")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.epilog = (
        "The exit code is the command's own (128 + N where signal N ended it). Where embedkit "
        "itself fails it is 2, 3, 4 or 70 as everywhere, and a line 'error: …' says so on standard "
        "error; with --json 'exit_code' in the data is always the command's."
    )
    add_target_arguments(parser)
    parser.add_argument(
        "command",
        nargs=argparse.PARSER,
        metavar="COMMAND",
        help="several words are a command and its arguments, exactly as given; one word alone is "
        "a script for the target's sh. Put '--' before it",
    )
    parser.add_argument(
        "--stdin", action="store_true", help="pass standard input on to the command"
    )
    parser.add_argument(
        "--timeout", type=float, metavar="SECONDS", help="stop the command after so long"
    )


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Runs the command; its output passes through as it comes."""
    words = _words(args)
    command: Command = words[0] if len(words) == 1 else words
    output = Passing(args)
    if args.target.startswith("uboot"):
        code = _at_uboot(args, ui, output)
    else:
        with connected(args, ui) as target:
            code = target.stream(
                command,
                input=_standard_input() if args.stdin else None,
                output=output,
                timeout=args.timeout,
            )
    shown = output.gathered()
    # With text what there is to show was shown already.
    text = "" if output.through else shown["stdout"]
    return Report(
        command="run",
        title="run",
        verdict="the command ended well" if code == 0 else f"the command ended with {code}",
        status=Status.OK if code == 0 else Status.FAIL,
        exit_code=code,
        data={"exit_code": code, **shown},
        renderings={"text": lambda: text},
    )


def _words(args: argparse.Namespace) -> list[str]:
    words: list[str] = args.command
    # Only the first '--' is ours: a later one is an argument of the command.
    return words[1:] if words[0] == "--" else words


def _at_uboot(args: argparse.Namespace, ui: Ui, output: Output) -> int:
    from embedkit.target.uboot import open_uboot

    line = " ".join(_words(args))
    with open_uboot(args.target, access(args, ui), deadline_seconds=args.wait) as prompt:
        if _LEAVES.match(line):
            back = prompt.boot(line, timeout=args.timeout or 30.0)
            if back is None:
                ui.say(f"{prompt.name}: '{line}' was entered, and U-Boot did not come back from it")
                return 0
            result = back
        else:
            result = prompt.run(line, timeout=args.timeout or 60.0, check=False)
    output(Channel.STDOUT, result.stdout)
    return result.exit_code


def _standard_input() -> Iterator[bytes]:
    while data := os.read(sys.stdin.fileno(), 64 << 10):
        yield data
