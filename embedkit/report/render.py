"""Format name → renderer; each renderer's module is imported when it is asked for."""

from __future__ import annotations

import importlib
from collections.abc import Iterable

from embedkit.errors import InputError, did_you_mean
from embedkit.report.model import Report

FORMATS = ("text", "json", "html", "markdown", "junit", "sarif")


def check_format(format: str, own: Iterable[str] = ()) -> None:
    """Raises InputError unless ``format`` is one of FORMATS or of the command's ``own``."""
    known = [*FORMATS, *own]
    if format not in known:
        raise InputError(
            f"'{format}' is not a format of this command",
            hint=did_you_mean(format, known) or f"known: {', '.join(known)}",
        )


def render(
    report: Report,
    format: str,
    *,
    color: bool = False,
    verbose: bool = False,
    width: int | None = None,
) -> str:
    """``report`` in ``format``: one of FORMATS or of the report's own renderings.

    ``color``, ``verbose`` and ``width`` (columns) are for text alone. Raises InputError for
    a format that this report does not have.
    """
    if format in report.renderings:
        return report.renderings[format]()
    check_format(format, report.renderings)
    if format == "text":
        from embedkit.report import text

        return text.render(report, color=color, verbose=verbose, width=width)
    module = importlib.import_module(f"embedkit.report.{format}")
    return str(module.render(report))
