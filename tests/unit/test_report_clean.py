"""Text from boards and files, made fit to show."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.reports import texts

from embedkit.report.clean import columns, encodable, is_preformatted, one_line, padded, safe
from embedkit.report.json import dump


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain", "plain"),
        ("a\tb\nc", "a\tb\nc"),
        ("a\r\nb", "a\nb"),
        ("a\rb", "a\\x0db"),
        ("\x1b[31m", "\\x1b[31m"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("\u202e\u2066", "\\u202e\\u2066"),
        ("\udcff", "\\xff"),
        ("\udcc3\udca9", "é"),
        ("\ud800", "\\ud800"),
        ("\U000e0041", "\\U000e0041"),
        ("no\u00a0break", "no break"),
        ("é漢", "é漢"),
    ],
)
def test_safe(raw: str, shown: str) -> None:
    assert safe(raw) == shown


@given(texts)
def test_safe_is_printable_encodable_and_stable(text: str) -> None:
    shown = safe(text)
    shown.encode("utf-8")
    assert all(c.isprintable() or c in "\n\t" for c in shown)
    assert safe(shown) == shown
    assert "\n" not in one_line(text)
    assert "\t" not in one_line(text)


@given(st.binary(max_size=40))
def test_encodable_keeps_what_is_utf8_and_spells_out_what_is_not(raw: bytes) -> None:
    shown = encodable(raw.decode("utf-8", "surrogateescape"))
    assert shown == raw.decode("utf-8", "backslashreplace")


def test_columns() -> None:
    assert columns("abc") == 3
    assert columns("漢字") == 4
    assert columns("e\u0301") == 1
    assert padded("漢", 4) == "漢  "


def test_preformatted() -> None:
    assert not is_preformatted("One sentence.\nAnother.")
    assert is_preformatted("a\n  b")
    assert is_preformatted("name  size")


def test_json_steers_no_terminal() -> None:
    text = "\x1b[2J \x9b5n \x7f \u202e \u2066 ünï ☃"
    shown = dump({"a": text})
    assert json.loads(shown) == {"a": text}
    assert not [one for one in shown if one != "\n" and not one.isprintable()]
    assert "ünï ☃" in shown
