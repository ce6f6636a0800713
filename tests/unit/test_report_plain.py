"""Sections survive the way through plain data, and folded ones are shown only where asked."""

from __future__ import annotations

import json

from hypothesis import given
from support.reports import reports
from support.sample_report import sample

from embedkit.report.json import dump
from embedkit.report.model import Finding, Report, Section, Status
from embedkit.report.plain import from_plain, to_plain
from embedkit.report.render import render


def _without_data(section: Section) -> Section:
    return section._replace(
        findings=tuple(finding._replace(data={}) for finding in section.findings),
        sections=tuple(_without_data(child) for child in section.sections),
    )


def test_sections_come_back_as_they_were() -> None:
    for section in sample().sections:
        there = json.loads(json.dumps(to_plain(section)))
        assert from_plain(there) == from_plain(to_plain(section))
        assert render(sample()._replace(sections=(from_plain(there),)), "text") == render(
            sample()._replace(sections=(section,)), "text"
        )


@given(reports)
def test_any_report_can_be_shown_again(report: Report) -> None:
    plain = [json.loads(dump(to_plain(section))) for section in report.sections]
    again = report._replace(sections=tuple(from_plain(item) for item in plain))
    for format in ("html", "markdown"):
        assert render(again, format)


def _folded(status: Status) -> Report:
    inner = Section("Details", findings=(Finding("x", status, "a thing", "state"),), folded=True)
    return Report(
        "try", "title", "verdict", Status.OK, sections=(Section("Part", sections=(inner,)),)
    )


def test_text_shows_what_is_folded_only_when_asked() -> None:
    assert "Details" not in render(_folded(Status.OK), "text")
    assert "a thing" in render(_folded(Status.OK), "text", verbose=True)


def test_a_failure_is_never_folded_away() -> None:
    assert "a thing" in render(_folded(Status.FAIL), "text")
    assert '<details class="fold" open>' in render(_folded(Status.FAIL), "html")


def test_a_page_and_markdown_fold_it() -> None:
    page = render(_folded(Status.OK), "html")
    assert '<details class="fold"><summary><h3' in page
    assert page.count("<details") == page.count("</details>")
    assert "<details><summary>Details</summary>" in render(_folded(Status.OK), "markdown")
