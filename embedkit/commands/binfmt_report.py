"""What the commands on binfmt_misc share: plans and entries as report."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

from embedkit.emulate.binfmt import Found, Instance
from embedkit.emulate.magic import Architecture, architecture
from embedkit.emulate.register import Plan, carry_out, need_root
from embedkit.report.model import Report, Section, Status, Step
from embedkit.ui import Ui


def add_plan_arguments(parser: argparse.ArgumentParser) -> None:
    """The architectures, and --dry-run."""
    parser.add_argument(
        "arch",
        nargs="+",
        metavar="ARCH",
        help="arm, arm64, riscv64, … also as Debian (armhf), the kernel (aarch64) or an image's "
        "platform (linux/arm/v7) says it",
    )
    parser.add_argument("--dry-run", action="store_true", help="show the steps, and change nothing")


def asked(args: argparse.Namespace) -> tuple[Architecture, ...]:
    """The architectures that were asked for, each once."""
    return tuple(dict.fromkeys(architecture(name) for name in args.arch))


def do(
    command: str, plan: Plan, args: argparse.Namespace, ui: Ui, verdict: Callable[[], str]
) -> Report:
    """Carries a plan out (unless --dry-run) and reports its steps."""
    instance = Instance()
    dry: bool = args.dry_run
    if plan.steps and not dry:
        need_root(instance)
        for step in plan.steps:
            ui.detail(step.title)
        carry_out(plan, instance)
    if dry:
        count = len(plan.steps)
        said = f"nothing was changed; a run would take {count} step{'' if count == 1 else 's'}"
    elif plan.steps:
        said = verdict()
    else:
        said = "nothing to do"
    state = Status.INFO if dry else Status.OK
    steps = tuple(Step(each.title, each.touches, each.undo, state) for each in plan.steps)
    return Report(
        command=command,
        title=command,
        verdict=said,
        status=Status.OK,
        sections=(Section("Steps", steps=steps),) if steps else (),
        notes=plan.remarks,
        data={
            "dry_run": dry,
            "changed": bool(plan.steps) and not dry,
            "steps": [
                {
                    "act": each.act.value,
                    "title": each.title,
                    "touches": each.touches,
                    "undo": each.undo,
                }
                for each in plan.steps
            ],
        },
    )


def entry_data(found: Found) -> dict[str, Any]:
    """An entry for machines."""
    entry = found.entry
    return {
        "name": entry.name,
        "enabled": entry.enabled,
        "architectures": [each.name for each in found.architectures],
        "interpreter": entry.interpreter,
        "interpreter_exists": found.interpreter.exists,
        "interpreter_static": found.interpreter.static,
        "flags": entry.flags,
        "offset": entry.offset,
        "magic": entry.magic.hex(),
        "mask": entry.mask.hex(),
        "extension": entry.extension or None,
        "owner": found.owner.kind,
        "owner_file": found.owner.where or None,
        "owner_package": found.owner.package or None,
        "works_in_containers": not found.trouble,
        "trouble": found.trouble or None,
    }
