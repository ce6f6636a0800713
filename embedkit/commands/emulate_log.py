"""``embedkit emulate log``: what an emulated board said on its serial line."""

from __future__ import annotations

import argparse
import sys
import time
from typing import BinaryIO

from embedkit.errors import InputError
from embedkit.report.model import Report, Status
from embedkit.ui import Ui

_LONGEST = 16 << 20
_POLL_SECONDS = 0.2


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which, and whether to go on."""
    parser.add_argument("name", metavar="NAME", help="its name; 'embedkit emulate list' shows it")
    parser.add_argument(
        "-f", "--follow", action="store_true", help="go on with what comes, until it ends"
    )


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """The log so far, harmless for a terminal; with ``-f`` all that comes."""
    from embedkit.target import emulated

    name = args.name.removeprefix("qemu:")
    state = emulated.read(name)
    if state is None or not (state.alive or state.phase == "off"):
        state = emulated.find(name)
    try:
        with state.log.open("rb") as file:
            text = _clean(file.read(_LONGEST))
            if args.follow and args.format == "text" and args.output is None:
                _show(text)
                text = ""
                while state.alive:
                    _show(_clean(_fresh(file)))
                _show(_clean(_fresh(file)))
    except OSError as error:
        raise InputError(f"there is no log of {name}: {error.strerror}") from error
    return Report(
        command="emulate log",
        title=f"Serial log of {name}",
        verdict=f"{len(text.splitlines())} lines",
        status=Status.OK,
        data={"name": name, "log": str(state.log), "text": text},
        renderings={"text": lambda: text},
    )


def _fresh(file: BinaryIO) -> bytes:
    data = file.read(_LONGEST)
    if not data:
        time.sleep(_POLL_SECONDS)
    return data


def _clean(data: bytes) -> str:
    from embedkit.report.text import safe
    from embedkit.target.noise import without_ansi

    return safe(without_ansi(data).decode("utf-8", "replace"))


def _show(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()
