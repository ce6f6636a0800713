"""A report as one self-contained page that a person can mail.

Nothing is fetched and nothing runs: the policy in the page's head forbids both, and allows
just the one style sheet that it carries (by its hash). The switches that hide rows are
check boxes which the style sheet reads.
"""

from __future__ import annotations

import base64
import functools
import hashlib
from html import escape
from importlib.resources import files

from embedkit import __version__
from embedkit.report import svg
from embedkit.report.clean import is_preformatted, one_line, safe
from embedkit.report.model import (
    Finding,
    Report,
    Section,
    Status,
    Step,
    Table,
    count_findings,
    counted,
    summary,
)

_ICONS = {
    Status.OK: "✓",
    Status.WARN: "!",
    Status.FAIL: "✕",
    Status.INFO: "i",
    Status.UNKNOWN: "?",
    Status.SKIP: "–",
}
# More than this many sections get a table of contents.
_FEW_SECTIONS = 3
# A drawing of so few units (pixels, as it was made) is shown as it is, and shrinks on a telephone.
_NARROW = 540


@functools.cache
def style() -> str:
    """The page's style sheet."""
    return files("embedkit.report").joinpath("style.css").read_text("utf-8")


def render(report: Report) -> str:
    """``report`` as an HTML document."""
    title = f"{report.status.word.upper()}: {_line(report.title)}"
    body = [
        _header(report),
        "<main>",
        _facts(report),
        _switches(report),
        _urgent(report),
        _contents(report),
        *(_section(section, f"s{index}", 2) for index, section in enumerate(report.sections, 1)),
        _notes(report),
        "</main>",
        f"<footer>embedkit {_text(__version__)}, <code>{_line(report.command)}</code></footer>",
    ]
    css = style()
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{escape(_policy(css))}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        '<meta name="referrer" content="no-referrer">\n'
        f'<meta name="generator" content="embedkit {_text(__version__)}">\n'
        f"<title>{title}</title>\n"
        # Without this a browser asks the server for /favicon.ico.
        '<link rel="icon" href="data:,">\n'
        f"<style>{css}</style>\n</head>\n<body>\n"
        + "\n".join(part for part in body if part)
        + "\n</body>\n</html>\n"
    )


def _policy(css: str) -> str:
    digest = base64.b64encode(hashlib.sha256(css.encode()).digest()).decode()
    return (
        f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def _text(text: str) -> str:
    return escape(safe(text))


def _line(text: str) -> str:
    return escape(one_line(text))


def _badge(status: Status) -> str:
    return (
        f'<span class="badge {status.value}"><span aria-hidden="true">{_ICONS[status]}</span>'
        f"{escape(status.word)}</span>"
    )


def _header(report: Report) -> str:
    counts = summary(report)
    counted_line = f'<p class="counts">{escape(counts)}</p>' if counts else ""
    return (
        f'<header class="verdict {report.status.value}">\n'
        f"<h1>{_line(report.title)}</h1>\n"
        f'<p class="says"><span class="icon" aria-hidden="true">{_ICONS[report.status]}</span>'
        f'<strong class="word">{escape(report.status.word)}</strong>'
        f" {_text(report.verdict)}</p>\n{counted_line}\n</header>"
    )


def _facts(report: Report) -> str:
    if not report.facts:
        return ""
    rows = "".join(
        f"<div><dt>{_line(name)}</dt><dd>{_text(value)}</dd></div>" for name, value in report.facts
    )
    return f'<dl class="facts">{rows}</dl>'


def _switches(report: Report) -> str:
    counts = count_findings(report)
    if len(counts) < 2:
        return ""
    boxes = "".join(
        f'<label class="switch {status.value}"><input type="checkbox" '
        f'id="show-{status.value}" checked>{escape(counted(status, count))}</label>'
        for status, count in counts.items()
    )
    return f'<fieldset class="switches"><legend>Show</legend>{boxes}</fieldset>'


def _anchors(section: Section, anchor: str) -> list[tuple[str, Finding]]:
    found = [(f"{anchor}-{index}", finding) for index, finding in enumerate(section.findings, 1)]
    for index, child in enumerate(section.sections, 1):
        found += _anchors(child, f"{anchor}.{index}")
    return found


def _urgent(report: Report) -> str:
    """What failed, first, each with the way to its row."""
    failed = [
        (anchor, finding)
        for index, section in enumerate(report.sections, 1)
        for anchor, finding in _anchors(section, f"s{index}")
        if finding.status is Status.FAIL
    ]
    if not failed:
        return ""
    rows = []
    for anchor, finding in failed:
        state = f": {_line(finding.state)}" if finding.state else ""
        hint = f'<span class="next">{_text(finding.hint)}</span>' if finding.hint else ""
        rows.append(f'<li><a href="#{anchor}">{_label(finding)}</a>{state}{hint}</li>')
    return (
        '<section class="urgent" aria-labelledby="urgent"><h2 id="urgent">To fix first</h2>'
        f"<ul>{''.join(rows)}</ul></section>"
    )


def _contents(report: Report) -> str:
    if len(report.sections) <= _FEW_SECTIONS:
        return ""
    rows = []
    for index, section in enumerate(report.sections, 1):
        worst = _worst(section)
        tone = worst.value if worst else "none"
        mark = f'<span class="dot {tone}" aria-hidden="true"></span>'
        count = _section_counts(section)
        said = f' <span class="quiet">{escape(count)}</span>' if count else ""
        rows.append(f'<li>{mark}<a href="#s{index}">{_line(section.title)}</a>{said}</li>')
    return f'<nav aria-label="Sections"><ul>{"".join(rows)}</ul></nav>'


def _as_report(section: Section) -> Report:
    return Report("", "", "", Status.INFO, sections=(section,))


def _section_counts(section: Section) -> str:
    return summary(_as_report(section))


def _worst(section: Section) -> Status | None:
    return next(iter(count_findings(_as_report(section))), None)


def _section(section: Section, anchor: str, level: int) -> str:
    heading = min(level, 6)
    counts = _section_counts(section)
    said = f' <small class="quiet">{escape(counts)}</small>' if counts and level == 2 else ""
    title = f'<h{heading} id="{anchor}">{_line(section.title)}{said}</h{heading}>'
    parts = [f'<section class="part" aria-labelledby="{anchor}">']
    if section.folded:
        worst = _worst(section)
        open_ = " open" if worst is Status.FAIL else ""
        parts.append(f'<details class="fold"{open_}><summary>{title}</summary>')
    else:
        parts.append(title)
    drawing = svg.cleaned(section.svg, one_line(section.title)) if section.svg else ""
    if drawing:
        narrow = " narrow" if svg.width(drawing) <= _NARROW else ""
        parts.append(f'<figure class="drawing{narrow}" tabindex="0">{drawing}</figure>')
    if section.text:
        shown = _prose(section.text)
        if drawing:
            shown = f"<details><summary>The drawing as text</summary>{shown}</details>"
        parts.append(shown)
    if section.findings:
        rows = [
            _finding(finding, f"{anchor}-{index}")
            for index, finding in enumerate(section.findings, 1)
        ]
        # Safari forgets that a list without bullets is one, unless it is told.
        parts.append(f'<ul class="findings" role="list">{"".join(rows)}</ul>')
    if section.table is not None:
        parts.append(_table(section.table, one_line(section.title)))
    if section.steps:
        steps = "".join(_step(step) for step in section.steps)
        parts.append(f'<ol class="steps">{steps}</ol>')
    parts += [
        _section(child, f"{anchor}.{index}", level + 1)
        for index, child in enumerate(section.sections, 1)
    ]
    parts.append("</details></section>" if section.folded else "</section>")
    return "\n".join(parts)


def _prose(text: str) -> str:
    text = text.strip("\n")
    if is_preformatted(text):
        return f'<pre tabindex="0">{_text(text)}</pre>'
    return f'<p class="prose">{_text(text)}</p>'


def _label(finding: Finding, name: str = "") -> str:
    """A symbol or a path as code, words as words."""
    label = one_line(finding.label)
    tag = "span" if " " in label else "code"
    named = f' class="{name}"' if name else ""
    return f"<{tag}{named}>{escape(label)}</{tag}>"


def _finding(finding: Finding, anchor: str) -> str:
    what = _label(finding, "label")
    if finding.state:
        what += f' <span class="state">{_line(finding.state)}</span>'
    head = [_badge(finding.status), f'<span class="what">{what}</span>']
    if finding.level:
        head.append(f'<span class="level">{_line(finding.level)}</span>')
    inner = []
    if finding.detail:
        inner.append(_prose(finding.detail))
    if finding.hint:
        inner.append(
            f'<p class="prose hint"><strong>What to do:</strong> {_text(finding.hint)}</p>'
        )
    if finding.where:
        inner.append(f'<p class="where">at <code>{_line(finding.where)}</code></p>')
    row = "".join(head)
    if inner:
        shut = "" if not finding.status.is_problem else " open"
        row = f"<details{shut}><summary>{row}</summary>{''.join(inner)}</details>"
    else:
        row = f'<div class="row">{row}</div>'
    return f'<li id="{anchor}" class="finding {finding.status.value}">{row}</li>'


def _table(table: Table, name: str) -> str:
    columns, *rows = table.lines()
    head = "".join(f'<th scope="col">{_line(cell)}</th>' for cell in columns)
    head = f"<thead><tr>{head}</tr></thead>" if any(columns) else ""
    body = "".join(
        "<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(name)}">'
        f"<table>{head}<tbody>{body}</tbody></table></div>"
    )


def _step(step: Step) -> str:
    badge = "" if step.status is Status.INFO else _badge(step.status)
    took = f'<span class="quiet">{step.seconds:.1f} s</span>' if step.seconds is not None else ""
    more = "".join(
        f'<p class="quiet"><strong>{name}:</strong> {_text(value)}</p>'
        for name, value in (("Touches", step.touches), ("Undo", step.undo))
        if value
    )
    return f'<li><span class="do">{_line(step.title)}</span> {badge} {took}{more}</li>'


def _notes(report: Report) -> str:
    if not report.notes:
        return ""
    rows = "".join(f"<li>{_text(note)}</li>" for note in report.notes)
    return (
        '<section class="notes" aria-labelledby="notes"><h2 id="notes">Notes</h2>'
        f"<ul>{rows}</ul></section>"
    )
