"""The report of a bringup, in each shape that a run can end in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from embedkit.bringup.run import Ended
from embedkit.bringup.settings import Card, Settings
from embedkit.bringup.stages import Result, Standing, Todo, Tone
from embedkit.commands import bringup_report
from embedkit.errors import LackError, TargetError
from embedkit.report.model import Finding, Report, Section, Status
from embedkit.report.plain import to_plain
from embedkit.report.render import FORMATS, render

_SHOWN = {
    "sections": [
        to_plain(Section("Inner", findings=(Finding("x", Status.OK, "a thing", "well"),)))
    ],
    "data": {"number": 3},
}
_CHECK = Result("check", "Check", Standing.DONE, "all there", Tone.OK, 1.5, 1e9, shown=_SHOWN)
_KEPT = Result("compose", "Compose", Standing.KEPT, "card.img", Tone.OK, 20.0, 1e9)
_ABSENT = Result("flash", "Flash", Standing.ABSENT, "no device")
_PROOF = Result("proof", "Prove", Standing.DONE, "a container ran on the board", Tone.OK, 9.0, 1e9)


def _report(*results: Result, interrupted: str = "") -> Report:
    settings = Settings(
        "name", "odroid-xu3", Path("/w"), device="file:/c.img", card=Card(artifacts=Path("/a"))
    )
    return bringup_report.build(
        Ended(settings, results, interrupted, 31.0),
        title="Odroid",
        command="embedkit bringup board.toml",
        files=[Path("/w/report.html")],
        emulation="",
    )


def test_all_is_well() -> None:
    report = _report(_CHECK, _KEPT, _ABSENT, _PROOF)
    assert report.status is Status.OK
    assert report.exit_code == 0
    assert report.verdict == "a container ran on the board"
    states = {finding.id: finding.state for finding in report.sections[0].findings}
    assert states["check"] == "all there (1.5 s)"
    assert states["compose"].startswith("unchanged since 2001-09-09")
    assert states["flash"] == "no device"
    assert report.sections[1].title == "Check"
    assert report.sections[1].sections[0].findings[0].label == "a thing"
    assert report.data["stages"][0]["details"] == {"number": 3}


@pytest.mark.parametrize(
    ("error", "code"),
    [(None, 1), (TargetError("it broke", where="board"), 4), (LackError("no program"), 3)],
)
def test_a_failure_says_where_and_what_next(error: TargetError | None, code: int) -> None:
    failed = Result(
        "deploy", "Deploy", Standing.FAILED, "it broke", Tone.FAIL, 3.0, 1e9, error, "mend it"
    )
    missed = Result("proof", "Prove", Standing.NOT_REACHED)
    report = _report(_CHECK, failed, missed)
    assert report.exit_code == code
    assert report.status is Status.FAIL
    assert report.verdict == "Deploy: it broke"
    assert report.sections[0].findings[1].hint == "mend it"
    assert "not reached: proof" in report.notes
    assert any("embedkit bringup board.toml" in note for note in report.notes)
    assert report.sections[0].findings[2].state == "not reached"


def test_an_interruption_before_is_told() -> None:
    assert any(
        "interrupted in 'compose'" in note for note in _report(_CHECK, interrupted="compose").notes
    )


def test_a_board_that_goes_on_is_named() -> None:
    ended = Ended(Settings("n", "", Path("/w")), (_PROOF,), "", 1.0, "qemu:n")
    report = bringup_report.build(ended, title="x", command="c", files=[], emulation="")
    assert "qemu:n goes on; 'embedkit emulate stop n' ends it" in report.notes


def test_a_dry_run_lists_the_steps() -> None:
    planned = Result(
        "flash", "Flash", Standing.PLANNED, todos=(Todo("write it", "/dev/sdx", "none"),)
    )
    report = _report(planned)
    assert report.status is Status.INFO
    assert report.exit_code == 0
    assert report.sections[1].steps[0].touches == "/dev/sdx"
    assert "nothing was" in report.verdict


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_takes_it(format: str) -> None:
    text = render(_report(_CHECK, _KEPT, _ABSENT, _PROOF), format)
    # Those two carry findings alone.
    assert ("a thing" if format in ("junit", "sarif") else "a container ran on the board") in text
    if format == "json":
        assert json.loads(text)["data"]["stages"][3]["stage"] == "proof"


def test_the_timeline_has_a_bar_for_each_stage_that_ran() -> None:
    drawing = bringup_report.timeline([_CHECK, _KEPT, _ABSENT, _PROOF])
    assert drawing.count("fill-ok") == 2
    assert "Check" in drawing
    assert bringup_report.timeline([_KEPT, _ABSENT]) == ""


def test_a_page_draws_the_timeline_with_odd_titles() -> None:
    odd = Result("x", "<b>&amp;", Standing.DONE, "fine", Tone.OK, 0.0, 1e9)
    assert "&lt;b&gt;&amp;amp;" in render(_report(odd), "html")
