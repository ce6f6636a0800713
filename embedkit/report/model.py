"""What every command ends in: one report that any renderer can show.

A report is plain data. ``data`` is the machine's half (it goes into the JSON envelope as it
is); verdict, sections and notes are the person's half.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import Any, NamedTuple


class Status(StrEnum):
    """How something stands."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"
    INFO = "info"
    UNKNOWN = "unknown"
    SKIP = "skip"


class Finding(NamedTuple):
    """One thing that was looked at.

    ``id`` is stable (a symbol, a check's name); ``label`` and ``state`` make the line that a
    person reads ("CONFIG_VETH", "missing"); ``detail`` says why it matters, ``hint`` what to
    do; ``where`` is a place (``file:line``, a sector). ``level`` names the requirement's
    weight where it has one. ``data`` is for machines.
    """

    id: str
    status: Status
    label: str
    state: str = ""
    detail: str = ""
    hint: str = ""
    where: str = ""
    level: str = ""
    data: Mapping[str, Any] = MappingProxyType({})


class Step(NamedTuple):
    """One step of a plan, or of what was done: what it touches and how it is undone."""

    title: str
    touches: str = ""
    undo: str = ""
    status: Status = Status.INFO
    seconds: float | None = None


class Table(NamedTuple):
    """Rows under column headings, all text."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


class Section(NamedTuple):
    """A titled part of a report; only what it has is shown, in the order of the fields.

    ``text`` is prose or preformatted lines, ``svg`` a drawing for HTML (``text`` then stands
    for it elsewhere). ``sections`` nest.
    """

    title: str
    text: str = ""
    findings: tuple[Finding, ...] = ()
    table: Table | None = None
    steps: tuple[Step, ...] = ()
    svg: str = ""
    sections: tuple[Section, ...] = ()


class Report(NamedTuple):
    """The result of one command.

    ``verdict`` is one sentence, ``status`` its colour; ``exit_code`` was decided by the
    command and no renderer changes it. ``renderings`` are further formats that only this
    command has (``--format NAME``), each made when it is asked for.
    """

    command: str
    title: str
    verdict: str
    status: Status
    exit_code: int = 0
    facts: tuple[tuple[str, str], ...] = ()
    sections: tuple[Section, ...] = ()
    notes: tuple[str, ...] = ()
    data: Mapping[str, Any] = MappingProxyType({})
    renderings: Mapping[str, Callable[[], str]] = MappingProxyType({})


def walk_findings(report: Report) -> list[tuple[str, Finding]]:
    """Every finding with the titles of the sections around it, joined by `` / ``."""
    found: list[tuple[str, Finding]] = []

    def visit(section: Section, path: str) -> None:
        title = f"{path} / {section.title}" if path else section.title
        found.extend((title, finding) for finding in section.findings)
        for child in section.sections:
            visit(child, title)

    for section in report.sections:
        visit(section, "")
    return found
