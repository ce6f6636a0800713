"""A report as plain text, coloured where the stream is a terminal."""

from __future__ import annotations

from embedkit.report.model import Finding, Report, Section, Status, Step, Table

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


def render(report: Report, *, color: bool = False, verbose: bool = False) -> str:
    """``report`` as lines. ``verbose`` adds the detail of findings that are well."""
    lines: list[str] = [_paint(report.title, "1", color)]
    width = max((len(name) for name, _ in report.facts), default=0)
    lines += [f"  {name + ':':<{width + 1}} {safe(value)}" for name, value in report.facts]
    for section in report.sections:
        lines += ["", *_section(section, 0, color, verbose)]
    if report.notes:
        lines.append("")
        lines += [f"note: {safe(note)}" for note in report.notes]
    lines += ["", _paint(safe(report.verdict), _CODES[report.status], color)]
    return "\n".join(lines) + "\n"


def safe(text: str) -> str:
    """``text`` without control characters: what a board or a file says never steers a terminal."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() or character in "\n\t" else f"\\x{ord(character):02x}"
        for character in text
    )


def _paint(text: str, code: str, color: bool) -> str:
    return f"\033[{code}m{text}\033[0m" if color and text else text


def _section(section: Section, depth: int, color: bool, verbose: bool) -> list[str]:
    pad = "  " * depth
    lines = [pad + _paint(section.title, "1" if depth == 0 else "4", color)]
    if section.text:
        lines += [f"{pad}  {safe(line)}".rstrip() for line in section.text.splitlines()]
    for finding in section.findings:
        lines += _finding(finding, pad + "  ", color, verbose)
    if section.table is not None:
        lines += [pad + "  " + line for line in _table(section.table)]
    lines += [pad + "  " + _step(step, index, color) for index, step in enumerate(section.steps, 1)]
    for child in section.sections:
        lines += _section(child, depth + 1, color, verbose)
    return lines


def _finding(finding: Finding, pad: str, color: bool, verbose: bool) -> list[str]:
    mark = _paint(f"{_MARKS[finding.status]:>4}", _CODES[finding.status], color)
    head = f"{pad}{mark}  {safe(finding.label)}"
    if finding.state:
        head += f": {_paint(safe(finding.state), _CODES[finding.status], color)}"
    if finding.where:
        head += f" ({safe(finding.where)})"
    lines = [head]
    if verbose or finding.status in (Status.FAIL, Status.WARN, Status.UNKNOWN):
        inner = pad + " " * 6
        lines += [f"{inner}{safe(line)}" for line in finding.detail.splitlines()]
        lines += [f"{inner}→ {safe(line)}" for line in finding.hint.splitlines()]
    return lines


def _table(table: Table) -> list[str]:
    rows = [table.columns, *table.rows]
    cells = [[safe(cell) for cell in row] for row in rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(table.columns))]
    return [
        "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in cells
    ]


def _step(step: Step, index: int, color: bool) -> str:
    line = f"{index}. {safe(step.title)}"
    if step.status is not Status.INFO:
        line += f"  [{_paint(_MARKS[step.status], _CODES[step.status], color)}]"
    if step.touches:
        line += f"  (touches {safe(step.touches)})"
    if step.undo:
        line += f"  (undo: {safe(step.undo)})"
    if step.seconds is not None:
        line += f"  {step.seconds:.1f} s"
    return line
