"""Errors: what they say and which exit code they have."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.errors import (
    EmbedkitError,
    InputError,
    LackError,
    TargetError,
    did_you_mean,
    exit_code,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (InputError("x"), 2),
        (EmbedkitError("x"), 2),
        (LackError("x"), 3),
        (TargetError("x"), 4),
        (KeyboardInterrupt(), 130),
        (ValueError("x"), 70),
        (OSError("x"), 70),
    ],
)
def test_exit_codes(error: BaseException, code: int) -> None:
    assert exit_code(error) == code


def test_the_place_is_in_the_text_and_the_hint_is_not() -> None:
    error = InputError("no such key", where="a.toml:3", hint="mend it")
    assert str(error) == "no such key (a.toml:3)"
    assert (error.message, error.where, error.hint) == ("no such key", "a.toml:3", "mend it")
    assert str(InputError("plain")) == "plain"


def test_did_you_mean() -> None:
    known = {"check-kernel": 1, "patch-kernel": 2, "flash": 3}
    assert did_you_mean("chek-kernel", known) == "did you mean 'check-kernel' or 'patch-kernel'?"
    assert did_you_mean("flsh", known) == "did you mean 'flash'?"
    assert did_you_mean("zzz", known) is None
    assert did_you_mean("x", ()) is None


@given(st.text(max_size=20), st.lists(st.text(max_size=20), max_size=5))
def test_a_guess_never_fails(word: str, known: list[str]) -> None:
    did_you_mean(word, iter(known))
