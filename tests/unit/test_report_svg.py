"""Drawings: shapes come through, and nothing that runs or fetches."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.report.svg import cleaned

_NS = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'


def test_shapes_texts_and_their_order_come_through() -> None:
    inner = '<g class="fill-1"><text x="1">a<tspan>b</tspan>c</text></g></svg>'
    assert cleaned(f'<svg {_NS} viewBox="0 0 9 9">{inner}', 'the "card"') == (
        '<svg viewBox="0 0 9 9" role="img" aria-label="the &quot;card&quot;">' + inner
    )


def test_inline_style_becomes_attributes() -> None:
    made = cleaned('<svg><rect style="fill: #eee; stroke:red; behavior: url(x)"/></svg>', "x")
    assert 'fill="#eee"' in made
    assert 'stroke="red"' in made
    assert "behavior" not in made


@pytest.mark.parametrize(
    "inner",
    [
        "<script>alert(1)</script>",
        '<rect onclick="alert(1)"/>',
        '<a href="javascript:alert(1)"><text>x</text></a>',
        '<image href="http://example.org/x.png"/>',
        '<use href="http://example.org/x.svg#a"/>',
        '<image xlink:href="http://example.org/x.png"/>',
        "<foreignObject><iframe/></foreignObject>",
        '<rect fill="url(http://example.org/x)"/>',
        '<rect style="fill:url(http://example.org/x)"/>',
        "<style>@import 'http://example.org'</style>",
        '<animate attributeName="href" to="x"/>',
        "<!-- a comment --><?php x?>",
        '<h:script xmlns:h="http://www.w3.org/1999/xhtml">alert(1)</h:script>',
    ],
)
def test_nothing_that_runs_or_fetches_comes_through(inner: str) -> None:
    made = cleaned(f"<svg {_NS}>{inner}<text>kept</text></svg>", "x")
    for bad in ("alert", "example", "href", "script", "<!--", "<?", "onclick", "iframe"):
        assert bad not in made
    assert "kept" in made


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "  ",
        "<svg",
        "<html/>",
        '<!DOCTYPE svg [<!ENTITY a "aaaaaaaa">]><svg><text>&a;</text></svg>',
        '<h:svg xmlns:h="http://example.org"/>',
    ],
)
def test_what_is_no_drawing_is_left_out(bad: str) -> None:
    assert cleaned(bad, "x") == ""


def test_nesting_has_an_end() -> None:
    deep = "<svg>" + "<g>" * 5000 + "</g>" * 5000 + "</svg>"
    assert len(cleaned(deep, "x")) < 1000


@given(st.text(max_size=60))
def test_any_text_is_survived(text: str) -> None:
    cleaned(text, text)
    cleaned(f"<svg><text>{text}</text></svg>", text)
