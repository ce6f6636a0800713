"""``embedkit emulate list``: the emulated boards of this user."""

from __future__ import annotations

import argparse
import time

from embedkit.report.model import Finding, Report, Section, Status, Table
from embedkit.ui import Ui
from embedkit.units import format_seconds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """A row for each; what boards left that ended without a goodbye is cleared away."""
    from embedkit.emulate import states
    from embedkit.emulate.watch import trouble
    from embedkit.target import emulated

    cleared = states.clear_stale() if emulated.emulations_folder().is_dir() else ()
    rows, findings, data = [], [], []
    for name in emulated.names():
        state = emulated.read(name)
        if state is None:
            continue
        found = trouble(state) if state.alive else None
        phase = "stopped" if found else state.phase
        age = format_seconds(max(0.0, time.time() - state.started)) if state.alive else ""
        port = str(state.ssh_port or "")
        rows.append((state.url, state.board, phase, age, state.accelerator, port, state.card))
        if found is not None:
            findings.append(Finding(name, Status.FAIL, name, found.kind, found.guess, found.advice))
        data.append(
            {
                "name": name,
                "target": state.url,
                "board": state.board,
                "phase": phase,
                "pid": state.pid,
                "started": state.started,
                "accelerator": state.accelerator,
                "ssh_port": state.ssh_port,
                "way": state.way,
                "card": state.card,
                "console": str(state.console),
                "log": str(state.log),
                "trouble": found.guess if found else "",
            }
        )
    columns = ("TARGET", "BOARD", "STATE", "FOR", "BY", "SSH PORT", "CARD")
    sections = [Section("emulated boards", table=Table(columns, tuple(rows)))] if rows else []
    if findings:
        sections.append(Section("trouble", findings=tuple(findings)))
    alive = sum(row[2] != "off" for row in rows)
    return Report(
        command="emulate list",
        title="Emulated boards",
        verdict=f"{alive} running" + (f", {len(findings)} stopped" if findings else ""),
        status=Status.WARN if findings else Status.OK,
        sections=tuple(sections),
        notes=tuple(f"{name} had ended: cleared away" for name in cleared),
        data={"boards": data, "cleared": list(cleared)},
    )
