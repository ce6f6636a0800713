"""``embedkit emulate``: a board under QEMU, from a card image or a kernel."""

from __future__ import annotations

import argparse
import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit import board
from embedkit.commands.targeting import seconds
from embedkit.errors import InputError, did_you_mean
from embedkit.report.model import Report, Section, Status, Step
from embedkit.ui import Ui
from embedkit.units import format_seconds, format_size, parse_size

if TYPE_CHECKING:
    from embedkit.emulate.machine import Booted, Machine, MachinePlan, Medium

_CARD_SECONDS, _KERNEL_SECONDS = 240.0, 180.0
_WATCH_SECONDS = 2.0


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to boot, and how."""
    parser.epilog = (
        "Other verbs: 'embedkit emulate list', 'stop', 'console' and 'log'. Everything that takes "
        "a TARGET takes qemu:NAME. The card's image is never written to."
    )
    parser.add_argument(
        "what", metavar="BOARD|IMAGE", nargs="?",
        help="a board's name, a board.toml, or a card image that 'embedkit compose' made",
    )  # fmt: skip
    boot = parser.add_argument_group("what to boot")
    boot.add_argument(
        "--reference", metavar="KIND", help="a little system that embedkit assembles from "
        "Debian's packages: arm, arm64, x86_64 or orangepi-pc",
    )  # fmt: skip
    boot.add_argument(
        "--debs", type=Path, metavar="DIR", help="with --reference: take the packages from here"
    )
    boot.add_argument("--board", metavar="BOARD", help="the board that the IMAGE is for")
    boot.add_argument("--card", type=Path, metavar="IMAGE", help="the raw image of its card")
    boot.add_argument("--kernel", type=Path, metavar="FILE", help="zImage, Image or bzImage")
    boot.add_argument("--initrd", type=Path, metavar="FILE", help="the initramfs for --kernel")
    boot.add_argument("--dtb", type=Path, metavar="FILE", help="the device tree for --kernel")
    boot.add_argument(
        "--append", metavar="ARGUMENTS", help="the kernel's command line (default: the board's)"
    )
    how = parser.add_argument_group("how")
    how.add_argument("--name", metavar="NAME", help="what it is called (default: the board's name)")
    how.add_argument("--detach", action="store_true", help="leave it running, once it is up")
    how.add_argument(
        "--deadline", type=seconds, metavar="SECONDS", help="the time to be up in (default: 180; "
        "240 from a card)",
    )  # fmt: skip
    how.add_argument(
        "--until", choices=("any", "ssh", "login"), default="any",
        help="what counts as up: an SSH login, a login prompt on the serial line, or (any) SSH, "
        "else the prompt",
    )  # fmt: skip
    how.add_argument(
        "--keep", action="store_true", help="keep what the board wrote to its card, for the next "
        "start under this name",
    )  # fmt: skip
    how.add_argument("--memory", metavar="SIZE", help="such as 512MiB (default: the board's)")
    how.add_argument("--processors", type=int, metavar="N", help="default: the board's")
    how.add_argument("--accelerator", choices=("auto", "kvm", "tcg"), default="auto")
    how.add_argument(
        "--ssh-port", type=int, metavar="PORT", help="this machine's port that leads to the "
        "board's 22 (default: a free one)",
    )  # fmt: skip
    how.add_argument("--no-network", action="store_true", help="without network")
    how.add_argument("--dry-run", action="store_true", help="show the steps, start nothing")


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Boots and waits; then stays until Ctrl-C or until the board powers off, or detaches."""
    from embedkit.emulate import machine

    plan = _plan(args, ui)
    if args.dry_run:
        return _planned(plan)
    deadline = args.deadline or (_CARD_SECONDS if plan.from_card else _KERNEL_SECONDS)
    with machine.start(plan, ui) as running:
        booted = running.wait(deadline, args.until)
        if booted.note:
            ui.warn(booted.note)
        report = _booted(running, booted, args.detach)
        if args.detach:
            running.release()
            return report
        return _stay(running, report, ui)


def _plan(args: argparse.Namespace, ui: Ui) -> MachinePlan:
    from embedkit.emulate.machine import plan

    chosen, medium = _reference(args, ui) if args.reference else _chosen(args)
    if args.ssh_port is not None and not 0 < args.ssh_port < 65536:
        raise InputError(f"--ssh-port {args.ssh_port} is no port")
    return plan(
        chosen,
        medium,
        name=args.name,
        memory=None if args.memory is None else parse_size(args.memory),
        processors=args.processors,
        accelerator=args.accelerator,
        ssh_port=args.ssh_port,
        network=not args.no_network,
        keep=args.keep,
    )


def _reference(args: argparse.Namespace, ui: Ui) -> tuple[board.Board, Medium]:
    from embedkit.commands import emulate_reference

    given = (args.what, args.board, args.card, args.kernel, args.initrd, args.dtb, args.append)
    if any(word is not None for word in given):
        raise InputError(
            "a reference board brings card and kernel along", hint="leave all but its kind out"
        )
    return emulate_reference.make(args.reference, args.debs, ui)


def _chosen(args: argparse.Namespace) -> tuple[board.Board, Medium]:
    """The board and what it boots from. Raises InputError."""
    from embedkit.emulate.machine import Medium

    if args.what is None:
        raise InputError(
            "what is to be emulated? A board or an image is missing",
            hint="embedkit emulate BOARD --card IMAGE, or --reference arm for embedkit's own",
        )
    card, name = args.card, args.what
    path = Path(args.what)
    if args.what not in board.names() and path.is_file() and path.suffix != ".toml":
        if card is not None:
            raise InputError("the card's image is given twice", hint=f"leave out {args.what}")
        card, name = path, args.board or _board_of(path)
    elif args.board is not None:
        raise InputError("--board belongs to an image", hint=f"leave it out: {args.what} is one")
    medium = Medium(card, args.kernel, args.initrd, args.dtb, args.append)
    return board.load(name), medium


def _board_of(image: Path) -> str:
    """The board that an image is for, by the manifest that compose wrote. Raises InputError."""
    manifest = image.with_name(f"{image.name}.json")
    try:
        with manifest.open("rb") as file:
            value = json.loads(file.read(8 << 20))
        name = value["board"] if value["schema"] == "embedkit.card/1" else None
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        name = None
    if not isinstance(name, str):
        guess = did_you_mean(image.name.split(".")[0], board.names())
        raise InputError(
            f"nothing beside {image} tells which board it is for",
            hint="give --board BOARD" + (f"; {guess}" if guess else ""),
        )
    return name


def _planned(plan: MachinePlan) -> Report:
    steps = [Step(f"a state folder for '{plan.name}'", undo="removed at the end")]
    if plan.card:
        kept = "kept for the next start" if plan.keep else "removed at the end"
        title = f"an overlay over the card, {format_size(plan.card_bytes)}"
        steps.append(Step(title, touches=f"card.qcow2; {plan.card} stays as it is", undo=kept))
    for index, (accelerator, argv) in enumerate(plan.attempts):
        title = f"QEMU with {accelerator}" + (", where that does not start" if index else "")
        steps.append(Step(title, touches=shlex.join(argv)))
    steps.append(Step("wait for a login" + (" or SSH" if plan.network else "")))
    return Report(
        command="emulate",
        title=f"{plan.board}: {plan.title}",
        verdict="nothing was started: this is the plan",
        status=Status.OK,
        sections=(Section("steps", steps=tuple(steps)),),
        data={
            "name": plan.name,
            "board": plan.board,
            "attempts": [{"accelerator": name, "argv": list(argv)} for name, argv in plan.attempts],
            "card_bytes": plan.card_bytes,
            "arguments": plan.arguments,
        },
    )


def _booted(running: Machine, booted: Booted, detached: bool) -> Report:
    state = running.state
    facts = [
        ("target", state.url),
        ("QEMU", f"{running.plan.attempts[0][1][2]}, {state.accelerator}, process {state.pid}"),
        ("serial log", str(state.log)),
    ]
    if state.ssh_port is not None:
        facts.insert(1, ("SSH", f"127.0.0.1 port {state.ssh_port}"))
    steps = tuple(
        Step(name, status=Status.OK, seconds=at) for name, at in booted.milestones if name != "up"
    )
    data: dict[str, Any] = {
        "name": state.name,
        "target": state.url,
        "board": state.board,
        "pid": state.pid,
        "accelerator": state.accelerator,
        "ssh_port": state.ssh_port,
        "way": booted.way,
        "console": str(state.console),
        "log": str(state.log),
        "seconds": round(booted.seconds, 2),
        "milestones": {name: round(at, 2) for name, at in booted.milestones},
        "note": booted.note,
    }
    how = f"embedkit run {state.url} -- uname -a"
    return Report(
        command="emulate",
        title=f"{state.name}: {state.title}",
        verdict=f"{state.url} is up after {format_seconds(booted.seconds)}",
        status=Status.WARN if booted.note else Status.OK,
        facts=tuple(facts),
        sections=(Section("boot (since power-on)", steps=steps),),
        notes=tuple(
            filter(
                None,
                (booted.note, f"try: {how}; 'embedkit emulate stop {state.name}' ends it"
                 if detached else ""),
            )
        ),
        data=data,
    )  # fmt: skip


def _stay(running: Machine, report: Report, ui: Ui) -> Report:
    """Until Ctrl-C or the board's own end. Raises TargetError where QEMU had to stop it."""
    from embedkit.emulate.machine import trouble
    from embedkit.emulate.watch import BootFailed, Ended

    ui.say(f"{report.verdict}; Ctrl-C ends it")
    try:
        while True:
            running.hear(_WATCH_SECONDS)
            found = trouble(running.state)
            if found is not None:
                raise BootFailed(running.state.name, "was stopped", found, ())
    except Ended:
        return report._replace(verdict=f"{running.state.url} powered off")
    except KeyboardInterrupt:
        if running.plan.keep:
            ui.say("shutting down, to keep the card")
            running.stop()
        return report._replace(verdict=f"{running.state.url} was ended")
