"""Every error that a user, a machine or a board can cause.

An error says what is wrong, where, and what to do next. Which exit code belongs to which
class is decided in one place: :func:`exit_code`.
"""

from __future__ import annotations

EXIT_OK = 0
EXIT_NO = 1
EXIT_USAGE = 2
EXIT_LACKS = 3
EXIT_TARGET = 4
EXIT_BUG = 70
EXIT_INTERRUPTED = 130


class EmbedkitError(Exception):
    """The base of all errors that are shown as a message and not as a traceback.

    ``message`` is one sentence without a full stop, ``where`` a place such as ``file:line``,
    a sector or a symbol, ``hint`` the next step for the user.
    """

    def __init__(self, message: str, *, hint: str | None = None, where: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        return f"{self.message} ({self.where})" if self.where else self.message


class InputError(EmbedkitError):
    """What the user gave (an option, a file, a config) cannot be used. Exit code 2."""


class LackError(EmbedkitError):
    """This machine lacks something: a program, a permission, a device. Exit code 3."""


class TargetError(EmbedkitError):
    """A board or a device failed on the way. Exit code 4."""


def exit_code(error: BaseException) -> int:
    """The exit code for ``error``; anything that is not ours is a bug (70)."""
    if isinstance(error, LackError):
        return EXIT_LACKS
    if isinstance(error, TargetError):
        return EXIT_TARGET
    if isinstance(error, EmbedkitError):
        return EXIT_USAGE
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED
    return EXIT_BUG


def did_you_mean(word: str, known: object) -> str | None:
    """``did you mean 'X'?`` for the closest of ``known`` (any iterable of str), or None."""
    from difflib import get_close_matches

    matches = get_close_matches(word, list(known), n=3, cutoff=0.6)  # type: ignore[call-overload]
    if not matches:
        return None
    return "did you mean " + " or ".join(f"'{match}'" for match in matches) + "?"
