"""Hypothesis strategies for reports whose text no sane tool would write."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st

from embedkit.report.model import Finding, Report, Section, Status, Step, Table

# What a hostile board or file would send, and what a careless one does.
PAYLOADS = (
    "<script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    '" onmouseover="alert(1)',
    "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "a\x00b\x08\x7f\x9b31m",
    "stray \udcff\udc80 bytes",
    "lone \ud800 surrogate",
    "\u202eevil\u2066 order\u2069",
    "line\nbreak\r\nand\rreturn\ttab",
    "| a | b |\n|---|---|\n```\n# h",
    "]]> <!-- & &amp; &#x1b; --> <![CDATA[",
    "@someone #12 GH-3 http://example.org www.example.org",
    "\ufffe\uffff\U0001ffff\u2028\u2029\ufeff",
    "漢字 ééé e\u0301 👩‍💻",
    "   ",
)


def _made(kind: Callable[..., Any], *parts: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """st.builds makes up what a named tuple has defaults for, and cannot make these."""
    return st.tuples(*parts).map(lambda values: kind(*values))


texts = st.one_of(
    st.text(max_size=30),
    st.text(
        st.characters(categories=["Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Po", "Sm"]), max_size=8
    ),
    st.sampled_from(PAYLOADS),
)
statuses = st.sampled_from(Status)
_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | texts | st.binary(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
)
_data = st.dictionaries(texts, _values, max_size=3)
_wheres = texts | st.builds("{}:{}".format, texts, st.integers(-1, 10**12))
findings = _made(Finding, texts, statuses, texts, texts, texts, texts, _wheres, texts, _data)
_steps = _made(Step, texts, texts, texts, statuses, st.none() | st.floats(0, 1e6, allow_nan=False))
_rows = st.lists(texts, max_size=3).map(tuple)
_tables = _made(Table, _rows, st.lists(_rows, max_size=3).map(tuple))
_drawings = st.sampled_from(
    (
        "",
        "<svg",
        "<svg><script>alert(1)</script><rect onclick='x'/></svg>",
        "<svg><text>a \x1b \udcff \u202e</text><foreignObject><p>x</p></foreignObject></svg>",
    )
)


def _several(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    return st.lists(strategy, max_size=2).map(tuple)


_flat = _made(
    Section,
    texts,
    texts,
    _several(findings),
    st.none() | _tables,
    _several(_steps),
    _drawings | texts,
)
sections = st.recursive(
    _flat,
    lambda inner: st.builds(
        lambda one, inside: Section(one.title, one.text, one.findings, sections=inside),
        _flat,
        _several(inner),
    ),
    max_leaves=4,
)
reports = _made(
    Report,
    texts,
    texts,
    texts,
    statuses,
    st.sampled_from((0, 1)),
    _several(st.tuples(texts, texts)),
    _several(sections),
    _several(texts),
    _data,
    st.just({}),
    texts,
)
