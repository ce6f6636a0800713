"""``embedkit boards list``: the boards that embedkit knows."""

from __future__ import annotations

import argparse

from embedkit import board
from embedkit.errors import EmbedkitError
from embedkit.report.model import Finding, Report, Section, Status, Table
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """None of its own."""


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """A row for each board; a user's broken file is a finding, not the end of the list."""
    rows, broken, data = [], [], []
    for name in board.names():
        try:
            found = board.load(name)
        except EmbedkitError as error:
            broken.append(Finding(name, Status.FAIL, name, "cannot be read", detail=str(error)))
            continue
        layouts = ", ".join(
            f"{layout.name}*" if layout is found.default_layout else layout.name
            for layout in found.layouts
        )
        rows.append((name, found.title, found.soc, found.arch, layouts))
        data.append(
            {
                "name": name,
                "title": found.title,
                "soc": found.soc,
                "arch": found.arch,
                "layouts": [layout.name for layout in found.layouts],
                "default_layout": found.default_layout.name,
                "file": str(found.path),
            }
        )
    sections = [
        Section("boards", table=Table(("NAME", "BOARD", "SOC", "ARCH", "LAYOUTS"), tuple(rows)))
    ]
    if broken:
        sections.append(Section("board files with problems", findings=tuple(broken)))
    return Report(
        command="boards list",
        title="Boards",
        verdict=f"{len(rows)} boards" + (f", {len(broken)} cannot be read" if broken else ""),
        status=Status.WARN if broken else Status.OK,
        sections=tuple(sections),
        notes=("* is the layout that is taken where none is named",),
        data={"boards": data},
    )
