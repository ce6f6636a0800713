"""What all commands that reach a board share: the TARGET argument and how to get in."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from embedkit.target.base import Target
    from embedkit.target.opening import Access
    from embedkit.ui import Ui

TARGET_HELP = (
    "ssh://[user@]host[:port] (or just host), serial:///dev/ttyUSB0?baud=115200, "
    "serial+tcp://host:port, serial+rfc2217://host:port, serial+unix:///path, qemu:NAME, local:; "
    "uboot://… for a U-Boot prompt"
)


def add_target_arguments(parser: argparse.ArgumentParser) -> None:
    """TARGET and the options of the connection."""
    parser.add_argument("target", metavar="TARGET", help=TARGET_HELP)
    add_access_arguments(parser)


def add_access_arguments(parser: argparse.ArgumentParser) -> None:
    """Only the options of the connection, for commands with several targets."""
    group = parser.add_argument_group("connection")
    group.add_argument(
        "--wait",
        type=seconds,
        metavar="SECONDS",
        help="keep trying to connect for so long, as while the board boots",
    )
    group.add_argument(
        "--accept-new-host-key",
        action="store_true",
        help="store the SSH host key of a board that is not known yet; a changed key is refused "
        "all the same",
    )
    group.add_argument(
        "--legacy-ssh",
        action="store_true",
        help="allow SSH algorithms that are no longer safe, for old dropbear and OpenSSH servers",
    )


def seconds(text: str) -> float:
    """For argparse: a number of seconds above 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"'{text}' is not a number of seconds")
    return value


def access(args: argparse.Namespace, ui: Ui) -> Access:
    """What the options allow, with passwords from the environment or the terminal."""
    from embedkit.target.opening import Access

    return Access(
        ask=ask_secret,
        accept_new_host_key=args.accept_new_host_key,
        legacy=args.legacy_ssh,
        say=ui.say,
    )


def ask_secret(what: str) -> str | None:
    """The secret for ``what``: from EMBEDKIT_PASSWORD or EMBEDKIT_PASSPHRASE, else typed in on
    the terminal, unseen; None where there is neither. Never an argument: those are public."""
    variable = "EMBEDKIT_PASSPHRASE" if what.startswith("passphrase") else "EMBEDKIT_PASSWORD"
    given = os.environ.get(variable)
    if given is not None:
        return given
    if not sys.stdin.isatty():
        return None
    import getpass

    from embedkit.report.text import safe

    return getpass.getpass(f"{safe(what)}: ", stream=sys.stderr)


@contextmanager
def connected(args: argparse.Namespace, ui: Ui) -> Iterator[Target]:
    """The target that ``args`` name, connected; closed at the end."""
    from embedkit.target.opening import open_target

    target = open_target(args.target, access(args, ui))
    with target:
        target.connect(deadline_seconds=args.wait)
        yield target
