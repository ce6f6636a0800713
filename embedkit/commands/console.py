"""``embedkit console``: a board's shell or serial console, by hand or by a script."""

from __future__ import annotations

import argparse
import contextlib
import os
import select
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from embedkit.commands.targeting import access, add_target_arguments, ask_secret
from embedkit.errors import InputError
from embedkit.report.model import Report, Section, Status, Step
from embedkit.target.base import ConnectionLost
from embedkit.target.console import Console, Log, Played, Player, open_console, read_script
from embedkit.ui import Ui

_HELP = b"\r\n[q quit, b send a break, ] send the escape key itself, ? this]\r\n"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.epilog = (
        "A script has one instruction a line: send TEXT, sendline TEXT, expect REGEX, fail REGEX, "
        "timeout SECONDS, sleep SECONDS, secret, break. Exit code 1 where one fails."
    )
    add_target_arguments(parser)
    parser.add_argument(
        "--log", type=Path, metavar="FILE", help="add what the board says to FILE, with times"
    )
    parser.add_argument(
        "--script", type=Path, metavar="FILE", help="play expect and send steps from FILE"
    )
    parser.add_argument(
        "--escape",
        type=_control_key,
        default=b"\x1d",
        metavar="KEY",
        help="the key that is kept from the board, such as ^A (default: ^], then q quits)",
    )


def _control_key(text: str) -> bytes:
    if len(text) == 2 and text[0] == "^" and "@" <= text[1].upper() <= "_":
        return bytes((ord(text[1].upper()) - 64,))
    raise argparse.ArgumentTypeError(f"'{text}' is not a control key such as ^]")


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Talks until the escape key, the end of the script, or the end of the line."""
    script = read_script(args.script) if args.script else None
    if script is None and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InputError(
            "a console by hand needs a terminal", hint="give --script FILE, or use 'embedkit run'"
        )
    size = _window()
    with contextlib.ExitStack() as stack:
        log = stack.enter_context(Log(args.log)) if args.log else None
        console = open_console(
            args.target, access(args, ui), columns=size.columns, rows=size.lines, wait=args.wait
        )
        stack.callback(console.close)
        if script is not None:
            show = args.format == "text" and ui.verbosity >= 0

            def heard(data: bytes) -> None:
                if log is not None:
                    log.write(data)
                if show:
                    _show(data)

            return _report(args.target, Player(console, heard, ask_secret).play(script))
        ui.say(f"connected; {_name(args.escape)} then q quits")
        _by_hand(console, args.escape, log.write if log is not None else None)
    return Report("console", "console", "closed", Status.OK, renderings={"text": lambda: ""})


def _name(key: bytes) -> str:
    return f"^{chr(key[0] + 64)}"


def _show(data: bytes) -> None:
    """A script's console on standard error, harmless: nobody sits there to see a picture."""
    from embedkit.report.text import safe
    from embedkit.target.noise import without_ansi

    sys.stderr.write(safe(without_ansi(data).decode("utf-8", "replace")))
    sys.stderr.flush()


def _report(target: str, done: list[Played]) -> Report:
    failed = next((played for played in done if not played.ok), None)
    steps = tuple(
        Step(
            _title(played),
            status=Status.OK if played.ok else Status.FAIL,
            seconds=played.seconds,
        )
        for played in done
    )
    verdict = f"all {len(done)} steps went well"
    if failed is not None:
        verdict = f"{failed.instruction.where}: {failed.detail}"
    return Report(
        command="console",
        title=f"Script on {target}",
        verdict=verdict,
        status=Status.OK if failed is None else Status.FAIL,
        exit_code=0 if failed is None else 1,
        sections=(Section("Steps", steps=steps),),
        data={
            "steps": [
                {
                    "verb": played.instruction.verb,
                    "where": played.instruction.where,
                    "ok": played.ok,
                    "seconds": round(played.seconds, 3),
                    "detail": played.detail,
                }
                for played in done
            ]
        },
    )


def _title(played: Played) -> str:
    verb, text = played.instruction.verb, played.instruction.text
    return f"{verb} {text!r}" if text else verb


@contextlib.contextmanager
def _raw_terminal() -> Iterator[None]:
    import termios
    import tty

    fd = sys.stdin.fileno()
    before = termios.tcgetattr(fd)
    # Not the default, which throws away what was typed while connecting.
    tty.setraw(fd, termios.TCSADRAIN)
    try:
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def _window() -> os.terminal_size:
    """The terminal's size as it is; COLUMNS and LINES may be what they were, or somebody else's."""
    with contextlib.suppress(OSError, ValueError):
        size = os.get_terminal_size(sys.stdout.fileno())
        if size.columns and size.lines:
            return size
    return shutil.get_terminal_size()


def _by_hand(console: Console, escape: bytes, log: Callable[[bytes], None] | None) -> None:
    """Bytes both ways until the escape key and q, or the end of the line."""
    import signal

    stopped = threading.Event()

    def resized(number: int, frame: object) -> None:
        size = _window()
        console.resize(size.columns, size.lines)

    def listen() -> None:
        try:
            while not stopped.is_set():
                data = console.read(0.2)
                if data:
                    os.write(sys.stdout.fileno(), data)
                    if log is not None:
                        log(data)
        except ConnectionLost:
            pass
        finally:
            stopped.set()

    signal.signal(signal.SIGWINCH, resized)
    resized(0, None)  # the window may have changed while the board was connected to
    listener = threading.Thread(target=listen, daemon=True)
    with _raw_terminal():
        listener.start()
        try:
            _type(console, escape, stopped)
        finally:
            stopped.set()
            listener.join(2)
    sys.stdout.write("\n")


def _type(console: Console, escape: bytes, stopped: threading.Event) -> None:
    escaped = False
    while not stopped.is_set():
        if not select.select([sys.stdin], [], [], 0.2)[0]:
            continue
        data = os.read(sys.stdin.fileno(), 1024)
        if not data:
            return
        for value in data:
            key = bytes((value,))
            if not escaped:
                escaped = key == escape
                if not escaped:
                    console.write(key)
                continue
            escaped = False
            if key in (b"q", b"Q", b"."):
                return
            if key in (b"b", b"B"):
                console.send_break()
            elif key in (b"]", escape):
                console.write(escape)
            else:
                os.write(sys.stdout.fileno(), _HELP)
