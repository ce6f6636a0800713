"""The Markdown form, read back by a CommonMark parser with GitHub's tables."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from markdown_it import MarkdownIt
from support.reports import PAYLOADS, reports
from support.sample_report import one_finding, sample

from embedkit.report.markdown import render
from embedkit.report.model import Report, Section, Status, Table

_OURS = re.compile(r"<br>|<!-- -->|</?details>|<summary>[\w, ]*</summary>|\s")


def _tokens(text: str) -> list[tuple[str, str]]:
    """(type, content) of every token, inline ones after their block."""
    parser = MarkdownIt("commonmark").enable("table").enable("strikethrough")
    found = []
    for token in parser.parse(text):
        found.append((token.type, token.content))
        found += [(child.type, child.content) for child in token.children or []]
    return found


def _plain(text: str) -> str:
    """What a reader sees, without markup."""
    return "".join(content for kind, content in _tokens(text) if kind in ("text", "code_inline"))


@given(reports)
@example(one_finding(label="x", detail="__0__ ___a___ _b_ a__b_c"))
def test_any_report_makes_markup_of_ours_alone(report: Report) -> None:
    text = render(report)
    text.encode("utf-8")
    assert all(c.isprintable() or c in "\n\t" for c in text)
    for kind, content in _tokens(text):
        assert kind not in ("link_open", "image", "em_open", "s_open", "blockquote_open", "hr")
        assert kind != "code_block"
        if kind.startswith("html"):
            assert _OURS.sub("", content) == ""


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_payload_stays_in_its_cell(payload: str) -> None:
    report = one_finding(label=payload, state=payload, detail=payload, hint=payload, where=payload)
    kinds = [kind for kind, _ in _tokens(render(report))]
    # One row of headings and one row of five cells, whatever the text holds.
    assert kinds.count("tr_open") == 2
    assert kinds.count("td_open") == kinds.count("th_open")


def test_nobody_is_called_and_nothing_is_linked() -> None:
    text = render(one_finding(detail="ask @someone about #12 at https://example.org or GH-3"))
    for live in ("@someone", "#12", "https://", "GH-3"):
        assert live not in text
    assert "ask @someone about #12 at https://example.org or GH-3" in _plain(text)


@pytest.mark.parametrize(
    "prose",
    ["1. first", "- dash", "+ plus", "# hash", "> quote", "=====", "* star", "6.1.55", "~~a~~"],
)
def test_prose_reads_as_it_was_written(prose: str) -> None:
    text = render(Report("c", "t", "v", Status.OK, sections=(Section("s", prose),)))
    assert _plain(text).endswith(prose)


def test_a_fence_is_longer_than_any_inside() -> None:
    art = "a  b\n```\n````\nc  d"
    text = render(Report("c", "t", "v", Status.OK, sections=(Section("s", art),)))
    assert ("fence", art + "\n") in _tokens(text)


def test_problems_first_and_the_rest_folded() -> None:
    text = render(sample())
    assert text.startswith("# Kernel config of")
    assert "❌ **FAILED**: Docker will not run" in text
    cgroups = text.split("### Control groups")[1].split("### Network")[0]
    shown, folded = cgroups.split("<details>")
    assert "`CONFIG_MEMCG`" in shown
    assert "`CONFIG_CGROUPS`" not in shown
    assert "<summary>6 ok</summary>" in "<details>" + folded
    assert "`CONFIG_CGROUPS`" in folded


def test_columns_that_nobody_fills_are_left_out() -> None:
    assert "| Status | What | State |\n" in render(one_finding())


def test_ragged_and_empty_tables() -> None:
    table = Table(("a",), (("1", "2"), ()))
    text = render(Report("c", "t", "v", Status.OK, sections=(Section("s", table=table),)))
    assert "| a |  |\n| --- | --- |\n| 1 | 2 |\n|  |  |" in text
    render(Report("c", "t", "v", Status.OK, sections=(Section("s", table=Table((), ())),)))
