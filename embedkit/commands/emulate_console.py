"""``embedkit emulate console``: the serial console of an emulated board."""

from __future__ import annotations

import argparse

from embedkit.commands import console
from embedkit.report.model import Report
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """As for ``embedkit console``."""
    console.add_arguments(parser)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """``embedkit console qemu:NAME``."""
    args.target = f"qemu:{args.target.removeprefix('qemu:')}"
    return console.run(args, ui)._replace(command="emulate console")
