"""``embedkit bundle inspect``: what a Docker bundle holds, and whether it can run."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embedkit.report.model import Finding, Report, Section, Status, Table
from embedkit.units import format_size

if TYPE_CHECKING:
    from embedkit.docker.bundle import Bundle, Program
    from embedkit.target.preflight import Concern
    from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "bundle", type=Path, metavar="FILE",
        help="docker-VERSION.tgz, a folder with dockerd, or a single docker binary",
    )  # fmt: skip
    parser.add_argument("--minimal", action="store_true", help="as deploy --minimal would send it")
    parser.add_argument(
        "--allow-dynamic", action="store_true", help="programs that need libraries are no failure"
    )


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Reads it without unpacking. Exit code 1 where it cannot work on any board."""
    from embedkit.docker.bundle import open_bundle
    from embedkit.docker.fit import Allowed, check_bundle

    bundle = open_bundle(args.bundle)
    if args.minimal:
        bundle = bundle.minimal()
    return build("bundle inspect", bundle, check_bundle(bundle, Allowed(args.allow_dynamic)))


def build(
    command: str,
    bundle: Bundle,
    concerns: tuple[Concern, ...],
    facts: tuple[tuple[str, str], ...] = (),
) -> Report:
    """The report about a bundle."""
    bad = [c for c in concerns if c.weight.value == "fail"]
    warned = any(c.weight.value == "warn" for c in concerns)
    status = Status.FAIL if bad else Status.WARN if warned else Status.OK
    version = f"Docker {bundle.version}" if bundle.version else "a Docker of unknown version"
    verdict = f"{version} for {bundle.arch or 'an unknown processor'}, "
    verdict += f"{len(bundle.programs)} programs, {format_size(bundle.size_bytes)}"
    if bad:
        verdict += f"; it cannot work: {', '.join(c.label for c in bad)}"
    rows = tuple(
        (
            program.name,
            program.arch or "?",
            {True: "hard", False: "soft", None: ""}[program.hard_float],
            ("yes" if program.header.static else "no") if program.header else "?",
            format_size(program.size_bytes),
            program.sha256[:16],
        )
        for program in bundle.programs
    )
    columns = ("program", "for", "float", "static", "size", "sha256")
    shown = tuple(
        Finding(c.id, Status(c.weight.value), c.label, c.state, c.detail, c.hint)
        for c in concerns
        if c.weight.value != "ok"
    )
    notes = (f"left aside: {', '.join(bundle.ignored)}",) if bundle.ignored else ()
    return Report(
        command=command,
        title=f"Bundle {bundle.path.name}",
        verdict=verdict,
        status=status,
        exit_code=1 if bad else 0,
        facts=(*facts, ("kind", bundle.kind.value)),
        sections=(
            Section("Programs", table=Table(columns, rows)),
            *((Section("Findings", findings=shown),) if shown else ()),
        ),
        notes=notes,
        data={
            "path": str(bundle.path),
            "kind": bundle.kind.value,
            "version": bundle.version,
            "arch": bundle.arch,
            "size_bytes": bundle.size_bytes,
            "digest": bundle.digest,
            "programs": [_plain(program) for program in bundle.programs],
            "ignored": list(bundle.ignored),
            "concerns": [
                {"id": c.id, "weight": c.weight.value, "label": c.label, "state": c.state,
                 "detail": c.detail, "hint": c.hint}
                for c in concerns
            ],
        },
    )  # fmt: skip


def _plain(program: Program) -> dict[str, Any]:
    header = program.header and {
        "arch": program.arch,
        "bits": program.header.bits,
        "hard_float": program.hard_float,
        "interpreter": program.header.interpreter,
        "needed_bytes": program.header.end_bytes,
    }
    return {
        "name": program.name,
        "size_bytes": program.size_bytes,
        "sha256": program.sha256,
        "header": header,
    }
