"""The checker of the README's commands notices what is wrong."""

from __future__ import annotations

from pathlib import Path

from support.readme import Command, commands, explain_mismatch


def test_commands_are_found_with_their_output(tmp_path: Path) -> None:
    document = tmp_path / "doc.md"
    document.write_text("x\n```console\n$ one \\\n    two\nout\n\n$ three\n```\n```sh\n$ no\n```\n")
    assert commands(document) == [Command("one two", ("out", ""), 3), Command("three", (), 7)]


def test_output_must_be_there_and_in_order() -> None:
    output = "a\nb\nsome 42 words\nd\n"
    assert explain_mismatch(("a", "b"), output) is None
    assert explain_mismatch(("a", "…", "some … words", "d"), output) is None
    assert explain_mismatch(("d",), output) is None
    assert explain_mismatch(("a", "d"), output) is not None
    assert explain_mismatch(("d", "…", "a"), output) is not None
    assert explain_mismatch(("some words",), output) is not None
