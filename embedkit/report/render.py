"""Format name → renderer; each renderer's module is imported when it is asked for."""

from __future__ import annotations

from embedkit.errors import InputError
from embedkit.report.model import Report

FORMATS = ("text", "json", "html", "markdown", "junit", "sarif")


def render(report: Report, format: str, *, color: bool = False, verbose: bool = False) -> str:
    """``report`` in ``format``: one of FORMATS or of the report's own renderings.

    Raises InputError for a format that this report does not have.
    """
    if format in report.renderings:
        return report.renderings[format]()
    if format == "text":
        from embedkit.report import text

        return text.render(report, color=color, verbose=verbose)
    if format == "json":
        from embedkit.report import json

        return json.render(report)
    if format == "html":
        from embedkit.report import html

        return html.render(report)
    if format == "markdown":
        from embedkit.report import markdown

        return markdown.render(report)
    if format == "junit":
        from embedkit.report import junit

        return junit.render(report)
    if format == "sarif":
        from embedkit.report import sarif

        return sarif.render(report)
    known = [*FORMATS, *report.renderings]
    raise InputError(f"'{format}' is not a format of this command; known: {', '.join(known)}")
