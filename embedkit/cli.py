"""The command line: the table of commands, lazy dispatch, errors to exit codes.

Only the chosen command's module is imported; ``embedkit --help`` imports none.
"""

from __future__ import annotations

import os
import sys

from embedkit import __version__
from embedkit.errors import (
    EXIT_BUG,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_USAGE,
    EmbedkitError,
    InputError,
    LackError,
    did_you_mean,
    exit_code,
)

# typing, argparse and dataclasses cost more than a bare Python start together: what `--help`
# and the dispatch do not need is imported where it is used.
TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse
    from pathlib import Path
    from typing import Protocol

    from embedkit.report.model import Report
    from embedkit.ui import Ui

    class CommandModule(Protocol):
        """What a module under ``embedkit.commands`` offers.

        A command with renderings of its own names them in ``FORMATS``, a tuple of str.
        """

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
    Command("patch-kernel", "patch_kernel", "make a kernel config Docker-ready, on its tree"),
    Command("check-buildroot", "check_buildroot", "audit Buildroot's own config for Docker"),
    Command("patch-buildroot", "patch_buildroot", "make Buildroot's own config Docker-ready"),
    Command("probe", "probe", "what a board is and has, and whether Docker will run on it"),
    Command("run", "run", "run a command on a board"),
    Command("put", "put", "send files to a board, compared and resumed"),
    Command("get", "get", "fetch files from a board, compared and resumed"),
    Command("console", "console", "a board's shell or serial console, by hand or by a script"),
    Command("deploy", "deploy", "install Docker on boards, start it and prove that it works"),
    Command("bringup", "bringup", "the whole chain: kernel, card, boot, Docker, proof, one report"),
    Command("bundle inspect", "bundle_inspect", "what a Docker bundle holds, before it is sent"),
    Command("bundle fetch", "bundle_fetch", "download Docker's static archive for a board"),
    Command("explain", "explain", "what a kernel symbol or a Docker error message means"),
    Command("oci build", "oci_build", "make an image from programs, folders or root filesystems"),
    Command("oci merge", "oci_merge", "merge images of several platforms into one"),
    Command("oci inspect", "oci_inspect", "layers, waste, programs and oddities of an image"),
    Command("oci resolve", "oci_resolve", "which entry each client takes for a platform"),
    Command("oci load", "oci_load", "bring an image onto a board, and run it there"),
    Command("oci copy", "oci_copy", "copy an image between archive, layout and registry"),
    Command("oci push", "oci_push", "copy an image into a registry"),
    Command("oci pull", "oci_pull", "copy an image out of a registry"),
    Command("oci list", "oci_list", "the images of a file, or the tags of a repository"),
    Command("oci delete", "oci_delete", "remove an image from a registry"),
    Command("oci static export", "oci_static_export", "write a registry made of plain files"),
    Command("oci static serve", "oci_static_serve", "serve such a registry, read-only"),
    Command("binfmt status", "binfmt_status", "which foreign programs this machine runs, and how"),
    Command("binfmt register", "binfmt_register", "let this machine run foreign programs"),
    Command("binfmt unregister", "binfmt_unregister", "stop this machine running foreign programs"),
    Command("emulate", "emulate", "boot a board under QEMU, from its card image or a kernel"),
    Command("emulate list", "emulate_list", "the emulated boards that run"),
    Command("emulate stop", "emulate_stop", "shut an emulated board down"),
    Command("emulate console", "emulate_console", "an emulated board's serial console"),
    Command("emulate log", "emulate_log", "what an emulated board said on its serial line"),
    Command("chroot", "chroot", "run a command in another architecture's root file system"),
)


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    asked_json = _asks_json(words)
    try:
        _allow_any_text()
        return _main(words, asked_json)
    except KeyboardInterrupt as interrupt:
        if asked_json:
            return _fail(_name(words), interrupt, asked_json, debug=False)
        print("interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        _drop_output()
        return EXIT_OK


def program() -> int:
    """``main`` as all that this process does: the console script's entry."""
    import gc

    code = main()
    # At its end Python looks through all that lives for cycles, a sixth of an audit's time, and
    # the kernel takes the memory back anyway.
    gc.freeze()
    return code


def _main(words: list[str], asked_json: bool) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        _write(_help())
        return EXIT_OK if words else EXIT_USAGE
    if words[0] == "--version":
        _write(f"embedkit {__version__}\n")
        return EXIT_OK
    try:
        command, rest = _choose(words)
        return EXIT_OK if command is None else _run(command, rest)
    except BrokenPipeError:
        raise
    except Exception as error:
        return _fail(_name(words), error, asked_json, debug="--debug" in words)


def _run(command: Command, words: list[str]) -> int:
    import gc
    import importlib

    # A config or a profile is thousands of small values that live until the end: looking through
    # them for cycles again and again takes 7 % of an audit.
    gc.set_threshold(100_000, 20, 20)

    from embedkit.arguments import Parser, add_common_arguments
    from embedkit.report.render import check_format, render
    from embedkit.ui import Ui, terminal_width, wants_color

    module: CommandModule = importlib.import_module(f"embedkit.commands.{command.module}")
    own = tuple(getattr(module, "FORMATS", ()))
    parser = Parser(prog=f"embedkit {command.name}", description=command.summary)
    module.add_arguments(parser)
    add_common_arguments(parser, own)
    args = parser.parse_args(words)
    # Whatever can be refused is refused before a disk or a board is touched.
    check_format(args.format, own)
    _check_output(args.output)
    ui = Ui(verbosity=args.verbose - args.quiet, no_color=args.no_color, yes=args.yes)
    try:
        report = module.run(args, ui)
    finally:
        ui.close()
    to_stream = args.output is None
    shown = render(
        report,
        args.format,
        color=to_stream and wants_color(sys.stdout, args.no_color),
        verbose=args.verbose > 0,
        width=terminal_width(sys.stdout) if to_stream else None,
    )
    if to_stream:
        try:
            _write(shown, utf8=args.format not in ("text", *own))
        except BrokenPipeError:
            # The reader went away (`| head`); the answer is still the answer.
            _drop_output()
    else:
        from embedkit.files import write_atomically

        write_atomically(args.output, shown.encode("utf-8", "backslashreplace"))
        ui.say(f"wrote {args.output}")
    return report.exit_code


def _check_output(path: Path | None) -> None:
    if path is None:
        return
    if path.is_dir():
        raise InputError("--output needs a file, and this is a folder", where=str(path))
    if not path.parent.is_dir():
        raise InputError("--output: there is no such folder", where=str(path.parent))


def _allow_any_text() -> None:
    """No text fails to print, whatever the locale: what its encoding lacks is escaped."""
    reconfigure = getattr(sys.stdout, "reconfigure", None)
    if reconfigure is not None:
        reconfigure(errors="backslashreplace")


# For encodings without them (LC_ALL=C, latin1): the few signs that our own text uses.
_PLAIN = str.maketrans({"→": "->", "—": "-", "–": "-", "…": "...", "’": "'"})


def _write(text: str, *, utf8: bool = False) -> None:
    """To standard output at once. ``utf8``: a format that says or implies its encoding."""
    stream = sys.stdout
    if stream is None:  # closed by the caller (`>&-`)
        return
    encoding = (stream.encoding or "utf-8").lower().replace("-", "")
    if encoding != "utf8":
        reconfigure = getattr(stream, "reconfigure", None)
        if utf8 and reconfigure is not None:
            reconfigure(encoding="utf-8")
        else:
            text = text.translate(_PLAIN)
    try:
        stream.write(text)
        stream.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        _drop_output()
        raise LackError(f"cannot write to standard output: {error.strerror}") from error


def _drop_output() -> None:
    """Sends what is still buffered nowhere: Python flushes it at its end, and would complain."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):
        pass


def _choose(words: list[str]) -> tuple[Command | None, list[str]]:
    """The command that ``words`` begin with, and the words after it."""
    for length in (3, 2, 1):
        name = " ".join(words[:length])
        for command in COMMANDS:
            if command.name == name:
                return command, words[length:]
    group = [command for command in COMMANDS if command.name.startswith(words[0] + " ")]
    if group:
        if len(words) > 1 and words[1] in ("-h", "--help"):
            _write(_help(words[0]))
            return None, []
        verbs = [command.name.split(" ", 1)[1] for command in group]
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


def _name(words: list[str]) -> str:
    """The command that the words name, for the envelope; "" where there is none."""
    for length in (2, 1):
        if any(command.name == " ".join(words[:length]) for command in COMMANDS):
            return " ".join(words[:length])
    return ""


def _asks_json(words: list[str]) -> bool:
    """Whether JSON was asked for, known even where the arguments cannot be parsed."""
    asked = "text"
    for index, word in enumerate(words):
        if word == "--":
            break
        if word == "--json":
            asked = "json"
        elif word == "--format":
            asked = (words[index + 1 : index + 2] or [""])[0]
        elif word.startswith("--format="):
            asked = word.removeprefix("--format=")
    return asked == "json"


def _fail(command: str, error: BaseException, asked_json: bool, *, debug: bool) -> int:
    code = exit_code(error)
    if debug:
        import traceback

        traceback.print_exception(error)
    if asked_json:
        from embedkit.report import json

        _write(json.render_error(command, error, code), utf8=True)
        return code
    from embedkit.report.clean import safe

    if isinstance(error, EmbedkitError):
        print(f"error: {safe(str(error))}", file=sys.stderr)
        if error.hint:
            print(f"hint: {safe(error.hint)}", file=sys.stderr)
    else:
        what = safe(f"{type(error).__name__}: {error}")
        print(f"error: a bug in embedkit: {what}", file=sys.stderr)
        if not debug:
            print("hint: run it again with --debug and report the traceback", file=sys.stderr)
        assert code == EXIT_BUG
    return code


if __name__ == "__main__":
    sys.exit(program())
