"""``embedkit boards validate``: holds board files against the schema and against sense."""

from __future__ import annotations

import argparse

from embedkit import board
from embedkit.board.model import Board
from embedkit.errors import EXIT_NO, EXIT_OK, InputError
from embedkit.media import cardmap
from embedkit.report.model import Finding, Report, Section, Status
from embedkit.ui import Ui


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Boards or files; none means all that are known."""
    parser.add_argument("board", metavar="BOARD", nargs="*", help="a name or a board.toml")


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """A finding for each board: exit code 1 where one has problems."""
    findings = []
    for name in args.board or board.names():
        path = board.board_file(name)
        try:
            found = board.load(name)
        except InputError as error:
            findings.append(
                Finding(name, Status.FAIL, name, "has problems", detail=str(error), where=str(path))
            )
            continue
        findings.append(_finding(name, found))
    bad = sum(finding.status is Status.FAIL for finding in findings)
    return Report(
        command="boards validate",
        title="Board files",
        verdict=f"{bad} of {len(findings)} board files have problems"
        if bad
        else f"{len(findings)} board files are well",
        status=Status.FAIL if bad else Status.OK,
        exit_code=EXIT_NO if bad else EXIT_OK,
        sections=(Section("boards", findings=tuple(findings)),),
        data={
            "boards": [
                {"name": f.id, "ok": f.status is not Status.FAIL, "problems": f.detail}
                for f in findings
            ]
        },
    )


def _finding(name: str, found: Board) -> Finding:
    count = len(found.layouts)
    lines = [*found.advice]
    for layout in found.layouts:
        for one, other, shared in cardmap.of_layout(layout).overlaps:
            lines.append(f"{layout.name}: {one} and {other} share {shared} bytes, on purpose")
    return Finding(
        name,
        Status.WARN if found.advice else Status.OK,
        name,
        f"{count} layout{'s' if count > 1 else ''}",
        detail="\n".join(lines),
    )
