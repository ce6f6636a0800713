"""The page: nothing gets out of its place, nothing is fetched, everything can be read."""

from __future__ import annotations

import base64
import hashlib
import itertools
import re
from html import unescape
from html.parser import HTMLParser

import pytest
from hypothesis import given
from support.reports import PAYLOADS, reports
from support.sample_report import one_finding, sample

from embedkit.report.html import render, style
from embedkit.report.model import Report, Section, Status

_VOID = {"meta", "link", "input", "img", "br"}
# All that the page's own template uses; whatever else turns up came in through a string.
_TAG_NAMES = """
html head meta title link style body header main footer nav section fieldset legend label
input h1 h2 h3 h4 h5 h6 p strong span small code pre dl div dt dd ul ol li a details summary
figure table thead tbody tr th td svg g rect text tspan
"""
_ATTRIBUTE_NAMES = """
lang charset http-equiv content name rel href class id aria-hidden aria-labelledby aria-label
type checked role tabindex open scope viewbox font-size x y width height
"""
_TAGS = frozenset(_TAG_NAMES.split())
_ATTRIBUTES = frozenset(_ATTRIBUTE_NAMES.split())


class _Reader(HTMLParser):
    """Reads strictly: tags balanced, no id twice."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.stack: list[str] = []
        self.tags: set[str] = set()
        self.attributes: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.headings: list[int] = []
        self.text = ""
        self.comments: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.links += [value or "" for name, value in attrs if name in ("href", "src")]
        if re.fullmatch("h[1-6]", tag):
            self.headings.append(int(tag[1]))
        if tag not in _VOID:
            self.stack.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self.stack.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.stack.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.stack[-1:] != ["style"]:
            self.text += data

    def handle_comment(self, data: str) -> None:
        self.comments.append(data)


def _read(page: str) -> _Reader:
    reader = _Reader()
    reader.feed(page)
    reader.close()
    assert reader.stack == []
    return reader


@given(reports)
def test_any_report_makes_a_page_of_ours_alone(report: Report) -> None:
    page = render(report)
    page.encode("utf-8")
    read = _read(page)
    assert read.tags <= _TAGS
    assert read.attributes <= _ATTRIBUTES
    assert read.comments == []
    assert len(read.ids) == len(set(read.ids))
    assert all(link == "data:," or link.removeprefix("#") in read.ids for link in read.links)
    assert all(c.isprintable() or c in "\n\t" for c in page)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_payload_is_shown_and_not_obeyed(payload: str) -> None:
    report = one_finding(
        id=payload, label=payload, state=payload, detail=payload, hint=payload, where=payload
    )
    assert _read(render(report)).tags <= _TAGS
    if "<" in payload:
        assert payload not in render(report)


def test_the_check_itself_sees_a_payload() -> None:
    bad = render(one_finding(label="LABEL")).replace("LABEL", PAYLOADS[0])
    assert not _read(bad).tags <= _TAGS


def test_the_page_says_everything_that_the_report_says() -> None:
    report = sample()
    text = _read(render(report)).text
    for part in (report.title, report.verdict, *report.notes):
        assert part in text
    for section in report.sections:
        assert section.title in text
        for step in section.steps:
            assert step.title in text
            assert step.undo in text
    needle = "iptables: No chain/target/match by that name."
    assert needle in text
    assert text.index(report.verdict) < text.index("Generally necessary")


@pytest.mark.parametrize("status", list(Status))
def test_the_verdict_has_a_word_and_not_only_a_colour(status: Status) -> None:
    page = render(Report("c", "t", "v", status))
    assert f'<header class="verdict {status.value}">' in page
    assert f'<strong class="word">{status.word}</strong>' in page
    assert f"<title>{status.word.upper()}: t</title>" in page


def test_headings_go_down_one_at_a_time() -> None:
    levels = _read(render(sample())).headings
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after - before <= 1 for before, after in itertools.pairwise(levels))


def test_problems_are_unfolded_and_the_rest_is_not() -> None:
    assert "<details open>" in render(one_finding(detail="why"))
    assert "<details>" in render(one_finding(status=Status.OK, detail="why"))


def test_the_policy_allows_the_page_its_own_style_and_nothing_else() -> None:
    page = render(sample())
    inside = re.findall(r"<style>(.*?)</style>", page, re.DOTALL)
    assert len(inside) == 1
    digest = base64.b64encode(hashlib.sha256(inside[0].encode()).digest()).decode()
    policy = re.findall(r'Security-Policy" content="([^"]+)"', page)
    sources = f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:"
    expected = f"{sources}; base-uri 'none'; form-action 'none'"
    assert [unescape(text) for text in policy] == [expected]
    assert " style=" not in page.split("</style>")[1]
    assert "url(" not in style()
    assert "@import" not in style()


def test_a_drawing_is_shown_with_its_text_beside_it() -> None:
    svg = '<svg viewBox="0 0 9 9"><rect x="1" y="1" width="5" height="5"/></svg>'
    page = render(Report("c", "t", "v", Status.OK, sections=(Section("Card", "a  b", svg=svg),)))
    assert '<rect x="1" y="1" width="5" height="5"' in page
    assert 'role="img" aria-label="Card"' in page
    assert "<pre" in page
    broken = Report("c", "t", "v", Status.OK, sections=(Section("Card", "a  b", svg="<svg"),))
    assert "<figure" not in render(broken)
    assert "a  b" in render(broken)


def _palettes() -> dict[str, dict[str, str]]:
    light, dark = re.findall(r":root \{(.*?)\}", style(), re.DOTALL)[:2]
    return {
        name: dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
        for name, block in (("light", light), ("dark", dark))
    }


def _luminance(colour: str) -> float:
    parts = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("look", ["light", "dark"])
def test_contrast_is_at_least_double_a(look: str) -> None:
    """WCAG 2.2, success criterion 1.4.3: 4.5 to 1."""
    palette = _palettes()[look]
    pairs = [(ink, paper) for ink in ("ink", "quiet", "link") for paper in ("paper", "raised")]
    for status in Status:
        pairs += [(status.value, "paper"), (status.value, f"{status.value}-soft")]
        pairs += [("ink", f"{status.value}-soft"), ("paper", status.value)]
        pairs += [("quiet", f"{status.value}-soft")]
    for ink, paper in pairs:
        bright, dim = sorted((_luminance(palette[ink]), _luminance(palette[paper])), reverse=True)
        ratio = (bright + 0.05) / (dim + 0.05)
        assert ratio >= 4.5, f"{look}: {ink} on {paper} is {ratio:.2f}"
