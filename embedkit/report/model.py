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

    @property
    def word(self) -> str:
        """What a person reads: colour alone never tells a status."""
        return _WORDS[self]

    @property
    def is_problem(self) -> bool:
        """Whether a person should look at it."""
        return self in (Status.FAIL, Status.WARN, Status.UNKNOWN)


_WORDS = {
    Status.OK: "ok",
    Status.WARN: "warning",
    Status.FAIL: "failed",
    Status.INFO: "info",
    Status.UNKNOWN: "undecided",
    Status.SKIP: "skipped",
}
# Worst first: the order in which a summary counts.
SEVERITY = (Status.FAIL, Status.WARN, Status.UNKNOWN, Status.OK, Status.INFO, Status.SKIP)


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

    def lines(self) -> list[tuple[str, ...]]:
        """The headings and the rows, all of one length.

        A result must reach its reader even where a row has a cell too many or too few.
        """
        given = [self.columns, *self.rows]
        width = max(len(row) for row in given)
        return [row + ("",) * (width - len(row)) for row in given]


class Section(NamedTuple):
    """A titled part of a report; only what it has is shown, in the order of the fields.

    ``text`` is prose or preformatted lines, ``svg`` a drawing for HTML (``text`` then stands
    for it elsewhere; :mod:`embedkit.report.svg` says what a drawing may hold). ``sections``
    nest. A ``folded`` section is for those who ask: a page shows it shut, text only where it is
    to be verbose, or what failed in it.
    """

    title: str
    text: str = ""
    findings: tuple[Finding, ...] = ()
    table: Table | None = None
    steps: tuple[Step, ...] = ()
    svg: str = ""
    sections: tuple[Section, ...] = ()
    folded: bool = False


class Report(NamedTuple):
    """The result of one command.

    ``verdict`` is one sentence, ``status`` its colour; ``exit_code`` was decided by the
    command and no renderer changes it. ``renderings`` are further formats that only this
    command has (``--format NAME``), each made when it is asked for; the command's module
    names them in ``FORMATS``, so that a wrong name is refused before any work. ``source`` is
    the path of the file that was looked at, for machines that pin findings to a file.
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
    source: str = ""


def walk_sections(report: Report) -> list[tuple[str, Section]]:
    """Every section in reading order, with the titles that lead to it joined by `` / ``."""
    found: list[tuple[str, Section]] = []

    def visit(section: Section, path: str) -> None:
        title = f"{path} / {section.title}" if path else section.title
        found.append((title, section))
        for child in section.sections:
            visit(child, title)

    for section in report.sections:
        visit(section, "")
    return found


def walk_findings(report: Report) -> list[tuple[str, Finding]]:
    """Every finding with the titles of the sections around it, joined by `` / ``."""
    return [
        (path, finding) for path, section in walk_sections(report) for finding in section.findings
    ]


def count_findings(report: Report) -> dict[Status, int]:
    """How many findings stand how, worst first; a status that does not occur is left out."""
    statuses = [finding.status for _, finding in walk_findings(report)]
    return {status: statuses.count(status) for status in SEVERITY if status in statuses}


def summary(report: Report) -> str:
    """``2 failed, 1 warning, 40 ok``; empty for a report without findings."""
    return ", ".join(counted(status, count) for status, count in count_findings(report).items())


def counted(status: Status, count: int) -> str:
    """``1 warning``, ``2 warnings``, ``2 failed``."""
    plural = "s" if status is Status.WARN and count != 1 else ""
    return f"{count} {status.word}{plural}"
