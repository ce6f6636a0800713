"""A report as plain text, coloured where the stream is a terminal."""

from __future__ import annotations

from embedkit.report.clean import columns, is_preformatted, one_line, padded, safe
from embedkit.report.model import Finding, Report, Section, Status, Step, Table, summary

__all__ = ["render", "safe"]

_CODES = {
    Status.OK: "32",
    Status.WARN: "33",
    Status.FAIL: "1;31",
    Status.INFO: "36",
    Status.UNKNOWN: "35",
    Status.SKIP: "2",
}
_MARKS = {
    Status.OK: "ok",
    Status.WARN: "warn",
    Status.FAIL: "FAIL",
    Status.INFO: "info",
    Status.UNKNOWN: "?",
    Status.SKIP: "-",
}
# Prose wider than this is hard to read, however wide the terminal is.
_WIDEST = 110
_NARROWEST = 40


class _Page:
    """What every part of the text needs to know."""

    def __init__(self, color: bool, verbose: bool, width: int | None) -> None:
        self.color = color
        self.verbose = verbose
        self.width = None if width is None else max(min(width, _WIDEST), _NARROWEST)

    def paint(self, text: str, code: str) -> str:
        return f"\033[{code}m{text}\033[0m" if self.color and text else text

    def prose(self, text: str, pad: str, first: str = "") -> list[str]:
        """``text`` indented by ``pad``, its first line led by ``first``, long lines wrapped."""
        rest = pad + " " * columns(first)
        lines: list[str] = []
        keep = self.width is None or is_preformatted(text)
        for line in safe(text).split("\n"):
            lead = rest if lines else pad + first
            if keep or not line.strip():
                lines.append((lead + line).rstrip())
            else:
                lines += _wrapped(line, self.width or _WIDEST, lead, rest)
        return lines


def _wrapped(line: str, width: int, lead: str, rest: str) -> list[str]:
    import textwrap  # only where there is a terminal to wrap for

    # A symbol, path or command that is broken cannot be copied.
    return textwrap.wrap(
        line,
        width,
        initial_indent=lead,
        subsequent_indent=rest,
        break_long_words=False,
        break_on_hyphens=False,
    )


def render(
    report: Report, *, color: bool = False, verbose: bool = False, width: int | None = None
) -> str:
    """``report`` as lines, the verdict last.

    ``verbose`` adds the detail of findings that are well. ``width`` is the terminal's, in
    columns; without it nothing is wrapped (so that ``grep`` sees whole lines).
    """
    page = _Page(color, verbose, width)
    lines: list[str] = [page.paint(one_line(report.title), "1")]
    facts = [(one_line(name) + ":", value) for name, value in report.facts]
    names = max((columns(name) for name, _ in facts), default=0)
    for name, value in facts:
        lines += page.prose(value, "  ", padded(name, names) + " ")
    for section in report.sections:
        shown = _section(section, 0, page)
        lines += ["", *shown] if shown else []
    if report.notes:
        lines.append("")
    for note in report.notes:
        lines += page.prose(note, "", "note: ")
    lines.append("")
    if counts := summary(report):
        lines += page.prose(counts, "")
    code = _CODES[report.status]
    lines += [page.paint(line, code) for line in page.prose(report.verdict, "")]
    return "\n".join(lines) + "\n"


def _section(section: Section, depth: int, page: _Page) -> list[str]:
    pad = "  " * depth
    if section.folded and not page.verbose:
        problems = _problems(section)
        if not problems:
            return []
        section = Section(section.title, findings=problems)
    lines = [pad + page.paint(one_line(section.title), "1" if depth == 0 else "4")]
    if section.text:
        lines += page.prose(section.text.strip("\n"), pad + "  ")
    for finding in section.findings:
        lines += _finding(finding, pad + "  ", page)
    if section.table is not None:
        lines += [pad + "  " + line for line in _table(section.table)]
    for index, step in enumerate(section.steps, 1):
        lines += _step(step, index, pad + "  ", page)
    for child in section.sections:
        lines += _section(child, depth + 1, page)
    return lines


def _problems(section: Section) -> tuple[Finding, ...]:
    """What failed in a folded section, each thing once."""
    found = {f.id: f for f in section.findings if f.status is Status.FAIL}
    for child in section.sections:
        found = {f.id: f for f in _problems(child)} | found
    return tuple(found.values())


def _finding(finding: Finding, pad: str, page: _Page) -> list[str]:
    code = _CODES[finding.status]
    head = f"{pad}{page.paint(f'{_MARKS[finding.status]:>4}', code)}  {one_line(finding.label)}"
    if finding.state:
        head += f": {page.paint(one_line(finding.state), code)}"
    well = finding.status in (Status.OK, Status.SKIP)
    if finding.where and (page.verbose or not well):
        head += f" ({one_line(finding.where)})"
    lines = [head]
    if page.verbose or finding.status.is_problem:
        inner = pad + " " * 6
        if finding.detail:
            lines += page.prose(finding.detail, inner)
        if finding.hint:
            lines += page.prose(finding.hint, inner, "→ ")
    return lines


def _table(table: Table) -> list[str]:
    rows = [[one_line(cell) for cell in row] for row in table.lines()]
    if not any(rows[0]):
        rows = rows[1:]
    widths = [max(columns(cell) for cell in column) for column in zip(*rows, strict=True)]
    return [
        "  ".join(padded(cell, width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def _step(step: Step, index: int, pad: str, page: _Page) -> list[str]:
    number = f"{index}. "
    line = pad + number + one_line(step.title)
    if step.status is not Status.INFO:
        line += f"  [{page.paint(_MARKS[step.status], _CODES[step.status])}]"
    if step.seconds is not None:
        line += f"  {step.seconds:.1f} s"
    lines = [line]
    inner = pad + " " * len(number)
    if step.touches:
        lines += page.prose(step.touches, inner, "touches: ")
    if step.undo:
        lines += page.prose(step.undo, inner, "undo: ")
    return lines
