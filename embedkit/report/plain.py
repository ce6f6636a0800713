"""Sections as plain data and back, for results that are shown again by a later run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from embedkit.report.model import Finding, Section, Status, Step, Table


def to_plain(section: Section) -> dict[str, Any]:
    """``section`` in JSON's own types; what a finding keeps for machines is left out."""
    return {
        "title": section.title,
        "text": section.text,
        "findings": [
            [f.id, f.status.value, f.label, f.state, f.detail, f.hint, f.where, f.level]
            for f in section.findings
        ],
        "table": None
        if section.table is None
        else [list(section.table.columns), [list(row) for row in section.table.rows]],
        "steps": [[s.title, s.touches, s.undo, s.status.value, s.seconds] for s in section.steps],
        "svg": section.svg,
        "sections": [to_plain(child) for child in section.sections],
        "folded": section.folded,
    }


def from_plain(plain: Mapping[str, Any]) -> Section:
    """What :func:`to_plain` was given. Raises KeyError, TypeError or ValueError for other data."""
    table = plain["table"]
    return Section(
        plain["title"],
        plain["text"],
        tuple(Finding(id, Status(status), *rest) for id, status, *rest in plain["findings"]),
        None if table is None else Table(tuple(table[0]), tuple(tuple(row) for row in table[1])),
        tuple(
            Step(title, touches, undo, Status(status), seconds)
            for title, touches, undo, status, seconds in plain["steps"]
        ),
        plain["svg"],
        tuple(from_plain(child) for child in plain["sections"]),
        plain["folded"],
    )
