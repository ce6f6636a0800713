"""The text form: what it shows, and that nothing in it steers a terminal."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from support.reports import reports
from support.sample_report import one_finding, sample

from embedkit.report.model import Report, Section, Status, Step, Table
from embedkit.report.text import render

_COLOUR = re.compile(r"\x1b\[[0-9;]+m")


def _stray(text: str) -> set[str]:
    """Characters that a terminal might obey."""
    return {c for c in text if c not in "\n\t" and unicodedata.category(c) in ("Cc", "Cf", "Cs")}


@given(reports)
def test_any_report_is_plain_text(report: Report) -> None:
    plain = render(report, verbose=True)
    plain.encode("utf-8")
    assert not _stray(plain)
    # Our own colours are whole, and removing them leaves nothing else behind.
    assert _COLOUR.sub("", render(report, color=True, verbose=True)) == plain
    render(report, width=20)


def test_the_verdict_is_the_last_line_and_the_counts_are_before_it() -> None:
    lines = render(sample()).splitlines()
    assert lines[-1] == sample().verdict
    assert lines[-2] == "5 failed, 12 warnings, 2 undecided, 64 ok, 1 info, 9 skipped"


def test_a_problem_says_why_and_what_to_do_and_where() -> None:
    report = one_finding(detail="because", hint="do this", where="a.config:3")
    assert render(report).splitlines()[2:6] == [
        "Network",
        "  FAIL  CONFIG_VETH: missing (a.config:3)",
        "        because",
        "        → do this",
    ]


def test_what_is_well_says_more_only_when_asked() -> None:
    report = one_finding(status=Status.OK, state="built in", detail="because", where="x:1")
    assert "because" not in render(report)
    assert "x:1" not in render(report)
    assert "because" in render(report, verbose=True)
    assert "x:1" in render(report, verbose=True)


@pytest.mark.parametrize("width", [40, 60, 80, 100])
def test_prose_keeps_to_the_terminal(width: int) -> None:
    lines = render(sample(), width=width).splitlines()[1:]
    wide = [line for line in lines if len(line) > width]
    # Only what cannot be broken without harm is longer: rows, table lines and single words.
    assert all(
        re.match(r" *\d\. ", line) or re.search("CONFIG_|/|  ", line.strip()) for line in wide
    )
    assert not any(line.startswith("          Without it") for line in wide)


def test_wrapping_loses_no_word_and_does_not_happen_in_pipes() -> None:
    assert render(sample(), width=50).split() == render(sample()).split()
    long = "word " * 100
    assert long.strip() in render(one_finding(detail=long.strip()))


def test_a_line_end_in_a_label_does_not_make_a_row() -> None:
    report = one_finding(label="CONFIG_A\n    ok  CONFIG_B: built in")
    assert not any(line.lstrip().startswith("ok") for line in render(report).splitlines())


def test_columns_and_drawings_keep_their_spaces() -> None:
    art = "+--+   +--+\n|  |---|  |"
    report = Report("c", "t", "v", Status.OK, sections=(Section("art", art),))
    assert "  +--+   +--+\n  |  |---|  |\n" in render(report, width=40)


def test_tables_are_aligned_also_with_wide_characters_and_ragged_rows() -> None:
    table = Table(("name", "size"), (("漢字", "1"), ("ab",), ("c", "2", "extra")))
    report = Report("c", "t", "v", Status.OK, sections=(Section("s", table=table),))
    assert render(report).splitlines()[3:7] == [
        "  name  size",
        "  漢字  1",
        "  ab",
        "  c     2     extra",
    ]


def test_steps_say_what_they_touch_and_how_to_undo_it() -> None:
    steps = (Step("Write it", "/dev/sdz", "write the backup", Status.OK, 1.25), Step("Read it"))
    text = render(Report("c", "t", "v", Status.OK, sections=(Section("s", steps=steps),)))
    assert text.splitlines()[3:7] == [
        "  1. Write it  [ok]  1.2 s",
        "     touches: /dev/sdz",
        "     undo: write the backup",
        "  2. Read it",
    ]
