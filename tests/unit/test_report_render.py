"""Choosing a renderer, and the model they all read."""

from __future__ import annotations

import pytest
from support.sample_report import one_finding, sample

from embedkit.errors import InputError
from embedkit.report.model import (
    Finding,
    Report,
    Section,
    Status,
    Table,
    count_findings,
    summary,
    walk_findings,
    walk_sections,
)
from embedkit.report.render import FORMATS, check_format, render


@pytest.mark.parametrize("format", FORMATS)
def test_every_format_has_a_renderer(format: str) -> None:
    assert "CONFIG_VETH" in render(one_finding(), format)
    # Pure: the same report is always the same text.
    assert render(sample(), format) == render(sample(), format)


def test_a_reports_own_rendering_is_made_when_it_is_asked_for() -> None:
    calls: list[int] = []

    def own() -> str:
        calls.append(1)
        return "own\n"

    report = Report("c", "t", "v", Status.OK, renderings={"checkconfig": own})
    render(report, "text")
    assert calls == []
    assert render(report, "checkconfig") == "own\n"


@pytest.mark.parametrize("format", ["nope", "model", "render", "../text", ""])
def test_other_formats_are_refused(format: str) -> None:
    with pytest.raises(InputError, match="is not a format of this command"):
        render(one_finding(), format)
    with pytest.raises(InputError):
        check_format(format)


def test_guesses() -> None:
    with pytest.raises(InputError) as caught:
        check_format("markdwn")
    assert caught.value.hint == "did you mean 'markdown'?"
    with pytest.raises(InputError) as caught:
        check_format("zzz", ("checkconfig",))
    assert str(caught.value.hint).endswith("sarif, checkconfig")
    check_format("checkconfig", ("checkconfig",))


def test_walking() -> None:
    finding = Finding("a", Status.OK, "a")
    inner = Section("inner", findings=(finding,))
    outer = Section("outer", findings=(finding,), sections=(inner,))
    report = Report("c", "t", "v", Status.OK, sections=(outer, inner))
    assert [path for path, _ in walk_findings(report)] == ["outer", "outer / inner", "inner"]
    assert [section for _, section in walk_sections(report)] == [outer, inner, inner]


def test_counting() -> None:
    assert list(count_findings(sample())) == [
        Status.FAIL,
        Status.WARN,
        Status.UNKNOWN,
        Status.OK,
        Status.INFO,
        Status.SKIP,
    ]
    assert summary(one_finding(status=Status.WARN)) == "1 warning"
    assert summary(Report("c", "t", "v", Status.OK)) == ""


def test_a_tables_lines_are_of_one_length() -> None:
    assert Table(("a", "b"), (("1",), ("1", "2", "3"))).lines() == [
        ("a", "b", ""),
        ("1", "", ""),
        ("1", "2", "3"),
    ]
    assert Table((), ()).lines() == [()]
