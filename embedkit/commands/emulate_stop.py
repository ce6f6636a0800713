"""``embedkit emulate stop``: ends an emulated board."""

from __future__ import annotations

import argparse

from embedkit.commands.targeting import seconds
from embedkit.report.model import Report, Status
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Which, and how patient."""
    parser.add_argument("name", metavar="NAME", help="its name; 'embedkit emulate list' shows it")
    parser.add_argument(
        "--deadline", type=seconds, default=20.0, metavar="SECONDS",
        help="how long it may take to shut down by itself (default: 20)",
    )  # fmt: skip
    parser.add_argument("--now", action="store_true", help="pull the plug")


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Shuts it down; a name that only has a kept card loses that."""
    from embedkit.emulate import states
    from embedkit.emulate.machine import shut_down
    from embedkit.target import emulated

    name = args.name.removeprefix("qemu:")
    state = emulated.read(name)
    if state is not None and not state.alive and state.phase == "off":
        states.discard(name)
        return _report(name, f"the card that was kept for {name} is removed", True)
    state = emulated.find(name)
    clean = shut_down(state, deadline_seconds=0.0 if args.now else args.deadline)
    how = "shut down" if clean else "was switched off"
    kept = "; its card is kept" if state.keep else ""
    return _report(name, f"{name} {how}{kept}", clean)


def _report(name: str, verdict: str, clean: bool) -> Report:
    return Report(
        command="emulate stop",
        title=f"Stopping {name}",
        verdict=verdict,
        status=Status.OK,
        data={"name": name, "clean": clean},
    )
