"""A report in GitHub's Markdown: for pull requests, issues and job summaries."""

from __future__ import annotations

import re
from collections.abc import Sequence

from embedkit.report.clean import is_preformatted, one_line, safe
from embedkit.report.model import (
    SEVERITY,
    Finding,
    Report,
    Section,
    Status,
    Step,
    counted,
    summary,
)

_ICONS = {
    Status.OK: "✅",
    Status.WARN: "⚠️",
    Status.FAIL: "❌",
    Status.INFO: "ℹ️",
    Status.UNKNOWN: "❔",
    Status.SKIP: "➖",
}
# What GitHub makes a mention, a reference or a link of even where it is escaped: such text is
# broken up by an empty comment. Then what begins a block, and what begins markup in a line.
_LIVE = r"@(?=\w)|\#(?=\d)|GH-(?=\d)|:(?=//)|www(?=\.)"
_BLOCK = r"^[>\#+=-]|(?<=^\d)[.)](?=\s|$)|(?<=^\d\d)[.)](?=\s|$)"
_MARKUP = r"[\\`*\[\]<|~$]|(?<![^\W_])_|_(?![^\W_])|&(?=[\#\w])"
_SPECIAL = re.compile(f"(?P<live>{_LIVE})|{_BLOCK}|{_MARKUP}", re.IGNORECASE)
_IDENTIFIER = re.compile(r"[\w./:=+-]+")
_BACKTICKS = re.compile(r"`+")


def render(report: Report) -> str:
    """``report`` as Markdown."""
    word = report.status.word.upper()
    blocks = [
        f"# {_line(report.title)}",
        f"{_ICONS[report.status]} **{word}**: {_inline(report.verdict)}",
    ]
    if counts := summary(report):
        blocks.append(counts)
    if report.facts:
        rows = [(_line(name), _cell(value)) for name, value in report.facts]
        blocks.append(_table(("Fact", "Value"), rows))
    for section in report.sections:
        blocks += _section(section, 2)
    if report.notes:
        blocks.append("\n".join(f"- {_inline(note)}" for note in report.notes))
    return "\n\n".join(blocks) + "\n"


def _escaped(text: str) -> str:
    return _SPECIAL.sub(
        lambda match: f"{match[0]}<!-- -->" if match["live"] else f"\\{match[0]}", text
    )


def _line(text: str) -> str:
    return _escaped(one_line(text))


def _inline(text: str) -> str:
    """``text`` in a paragraph, its lines kept apart, and none of them an indented block."""
    lines = [_escaped(line.strip()) for line in safe(text).strip().split("\n")]
    return "<br>".join(lines)


# A table's cell is one line of the file, as a paragraph here is.
_cell = _inline


def _code(text: str) -> str:
    """A symbol or path in code; other text escaped. For a table's cell."""
    text = one_line(text)
    return f"`{text}`" if _IDENTIFIER.fullmatch(text) else _escaped(text)


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _section(section: Section, level: int) -> list[str]:
    title = _line(section.title)
    if section.folded:
        inner = _section(section._replace(folded=False), level)[1:]
        return [f"<details><summary>{title}</summary>", *inner, "</details>"]
    blocks = [f"{'#' * level} {title}" if level <= 6 else f"**{title}**"]
    if section.text:
        text = section.text.strip("\n")
        blocks.append(_fenced(text) if is_preformatted(text) else _inline(text))
    problems = [finding for finding in section.findings if finding.status.is_problem]
    others = [finding for finding in section.findings if not finding.status.is_problem]
    if problems:
        blocks.append(_findings(problems))
    if others:
        counts = ((status, [f.status for f in others].count(status)) for status in SEVERITY)
        said = ", ".join(counted(status, count) for status, count in counts if count)
        blocks += [
            f"<details><summary>{said}</summary>",
            _findings(others),
            "</details>",
        ]
    if section.table is not None:
        columns, *rows = section.table.lines()
        if columns:
            cells = [[_cell(cell) for cell in row] for row in rows]
            blocks.append(_table([_line(cell) for cell in columns], cells))
    if section.steps:
        blocks.append("\n".join(_step(step, index) for index, step in enumerate(section.steps, 1)))
    for child in section.sections:
        blocks += _section(child, level + 1)
    return blocks


def _fenced(text: str) -> str:
    text = safe(text)
    longest = max((len(run) for run in _BACKTICKS.findall(text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}text\n{text}\n{fence}"


def _findings(findings: Sequence[Finding]) -> str:
    """The findings as a table, without the columns that none of them fills."""
    rows = [
        (
            f"{_ICONS[finding.status]} {finding.status.word}",
            _code(finding.label),
            _line(finding.state),
            _line(finding.level),
            _why(finding),
        )
        for finding in findings
    ]
    names = ("Status", "What", "State", "Level", "Why, and what to do")
    filled = [index for index in range(len(names)) if index < 2 or any(row[index] for row in rows)]
    return _table(
        [names[index] for index in filled], [[row[index] for index in filled] for row in rows]
    )


def _why(finding: Finding) -> str:
    parts = [_cell(finding.detail)] if finding.detail else []
    if finding.hint:
        parts.append(f"**→** {_cell(finding.hint)}")
    if finding.where:
        parts.append(f"at {_code(finding.where)}")
    return "<br>".join(parts)


def _step(step: Step, index: int) -> str:
    line = f"{index}. **{_line(step.title) or 'step'}**"
    if step.status is not Status.INFO:
        line += f" {_ICONS[step.status]} {step.status.word}"
    if step.seconds is not None:
        line += f" ({step.seconds:.1f} s)"
    if step.touches:
        line += f"<br>touches: {_inline(step.touches)}"
    if step.undo:
        line += f"<br>undo: {_inline(step.undo)}"
    return line
