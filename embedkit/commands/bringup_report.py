"""The one report of a bringup: every stage with its time, and what it has to show."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from embedkit.bringup.run import Ended
from embedkit.bringup.settings import Settings
from embedkit.bringup.stages import Result, Standing
from embedkit.report.model import Finding, Report, Section, Status, Step
from embedkit.report.plain import from_plain
from embedkit.units import format_seconds

_STATUS = {
    Standing.KEPT: Status.OK,
    Standing.FAILED: Status.FAIL,
    Standing.SKIPPED: Status.SKIP,
    Standing.ABSENT: Status.SKIP,
    Standing.PLANNED: Status.INFO,
    Standing.NOT_REACHED: Status.SKIP,
}
_RAN = (Standing.DONE, Standing.FAILED)


def build(
    ended: Ended, *, title: str, command: str, files: Sequence[Path], emulation: str
) -> Report:
    """The report. ``title`` is the board's, ``command`` runs it again, ``files`` are the copies
    that lie in the work folder, ``emulation`` says what the times were taken on."""
    results = ended.results
    planned = any(result.standing is Standing.PLANNED for result in results)
    failed = ended.failed
    sections = [_overview(results, planned)]
    sections += [section for result in results if (section := _section(result)) is not None]
    return Report(
        command="bringup",
        title=f"Bringup of {title}",
        verdict=_verdict(ended, planned),
        status=_status(results, planned),
        exit_code=ended.exit_code,
        facts=tuple(_facts(ended, files, emulation, planned)),
        sections=tuple(sections),
        notes=tuple(_notes(ended, command, planned, failed)),
        data=_data(ended, files),
    )


def _verdict(ended: Ended, planned: bool) -> str:
    results = ended.results
    failed = ended.failed
    if failed is not None:
        return f"{failed.title}: {failed.verdict}"
    if planned:
        count = sum(result.standing is Standing.PLANNED for result in results)
        return f"{count} stages would be done; nothing was (--dry-run)"
    last = next(
        (r for r in reversed(results) if r.standing in (Standing.DONE, Standing.KEPT)), None
    )
    if last is None:
        return "nothing to do"
    return last.verdict


def _status(results: Sequence[Result], planned: bool) -> Status:
    statuses = {_status_of(result) for result in results}
    if Status.FAIL in statuses:
        return Status.FAIL
    if planned:
        return Status.INFO
    last = next(
        (r for r in reversed(results) if r.standing in (Standing.DONE, Standing.KEPT)), None
    )
    # A warning on the way does not take from what the last stage has shown.
    return _status_of(last) if last is not None else Status.SKIP


def _status_of(result: Result) -> Status:
    if result.standing in (Standing.DONE, Standing.KEPT):
        return Status(result.tone.value)
    return _STATUS[result.standing]


def _facts(
    ended: Ended, files: Sequence[Path], emulation: str, planned: bool
) -> list[tuple[str, str]]:
    settings = ended.settings
    rows = []
    if settings.board:
        rows.append(("board", settings.board))
    if settings.kernel.known:
        rows.append(("kernel", _kernel(ended)))
    if settings.composes and settings.board:
        rows.append(("card", str(settings.image)))
    if settings.device or settings.target:
        rows.append(("reached", _reached(settings)))
    if emulation:
        rows.append(("emulation", emulation))
    version = _details(ended, "deploy").get("version")
    if version:
        rows.append(("Docker", str(version)))
    if not planned:
        rows.append(("time", f"{format_seconds(ended.seconds)} in all, {_when(time.time())}"))
    if files:
        rows.append(("report", "\n".join(str(path) for path in files)))
    return rows


def _details(ended: Ended, stage: str) -> Mapping[str, Any]:
    """What a stage told programs; nothing where it was not done."""
    shown = next((result.shown for result in ended.results if result.stage == stage), {})
    data: Mapping[str, Any] = shown.get("data", {})
    return data


def _kernel(ended: Ended) -> str:
    kernel = ended.settings.kernel
    release = (_details(ended, "check").get("kernel") or {}).get("release")
    source = kernel.config or str(kernel.buildroot or kernel.tree)
    return f"Linux {release}, {source}" if release else source


def _reached(settings: Settings) -> str:
    if settings.emulated:
        return "emulated by QEMU"
    return settings.target or f"not at all; its card is {settings.device}"


def _when(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(seconds))


def _overview(results: Sequence[Result], planned: bool) -> Section:
    shown = [r for r in results if r.stage != "reference" or r.standing is not Standing.ABSENT]
    findings = tuple(_finding(result) for result in shown)
    if planned:
        return Section("Stages", findings=findings)
    return Section("Stages", findings=findings, svg=timeline(results), text=_bars(results))


def _finding(result: Result) -> Finding:
    state = result.verdict
    if result.standing is Standing.DONE or result.standing is Standing.FAILED:
        state = f"{state} ({format_seconds(result.seconds)})"
    elif result.standing is Standing.KEPT:
        state = f"unchanged since {_when(result.finished)}: {state}"
    elif result.standing in (Standing.SKIPPED, Standing.NOT_REACHED):
        state = result.standing.value + (f" ({state})" if state else "")
    elif result.standing is Standing.PLANNED:
        count = len(result.todos)
        state = f"{count} step{'' if count == 1 else 's'}"
    detail = ""
    if result.error is not None and result.error.where:
        detail = f"at {result.error.where}"
    return Finding(
        result.stage, _status_of(result), result.title, state, detail, result.hint
    )  # fmt: skip


def _section(result: Result) -> Section | None:
    if result.todos:
        steps = tuple(Step(todo.title, todo.touches, todo.undo) for todo in result.todos)
        return Section(result.title, steps=steps)
    sections = tuple(from_plain(plain) for plain in result.shown.get("sections", ()))
    if not sections:
        return None
    return Section(result.title, text=f"{result.verdict}.", sections=sections)


def _notes(ended: Ended, command: str, planned: bool, failed: Result | None) -> list[str]:
    notes = []
    if ended.interrupted and not planned:
        notes.append(f"an earlier run was interrupted in '{ended.interrupted}'; this one went on")
    if ended.left_on:
        name = ended.left_on.removeprefix("qemu:").partition("?")[0]
        notes.append(f"{ended.left_on} goes on; 'embedkit emulate stop {name}' ends it")
    if failed is not None:
        missed = [r.stage for r in ended.results if r.standing is Standing.NOT_REACHED]
        if missed:
            notes.append(f"not reached: {', '.join(missed)}")
        notes.append(f"what is done stays done; to go on: {command}")
    return notes


def _data(ended: Ended, files: Sequence[Path]) -> dict[str, Any]:
    settings = ended.settings
    return {
        "name": settings.name,
        "board": settings.board,
        "device": settings.device,
        "target": settings.target,
        "seconds": round(ended.seconds, 3),
        "interrupted": ended.interrupted or None,
        "reports": [str(path) for path in files],
        "stages": [
            {
                "stage": result.stage,
                "standing": result.standing.value,
                "status": _status_of(result).value,
                "verdict": result.verdict,
                "seconds": round(result.seconds, 3),
                "finished": round(result.finished, 3) or None,
                "hint": result.hint or None,
                "error": None
                if result.error is None
                else {
                    "kind": type(result.error).__name__,
                    "message": result.error.message,
                    "where": result.error.where,
                },
                "details": result.shown.get("data", {}),
            }
            for result in ended.results
        ],
    }


_BAR_COLUMNS = 40


def _bars(results: Sequence[Result]) -> str:
    ran = [result for result in results if result.standing in _RAN]
    if not ran:
        return ""
    longest = max(result.seconds for result in ran) or 1.0
    width = max(len(result.stage) for result in ran)
    lines = [
        f"{result.stage:<{width}}  {format_seconds(result.seconds):>12}  "
        + "█" * max(1, round(_BAR_COLUMNS * result.seconds / longest))
        for result in ran
    ]
    return "\n".join(lines) + "\n"


def timeline(results: Sequence[Result]) -> str:
    """A bar for each stage that ran, from when it began to when it ended; one scale for all."""
    ran = [result for result in results if result.standing in _RAN]
    if not ran:
        return ""
    width, row, tail = 520, 38, 4
    whole = sum(result.seconds for result in ran) or 1.0
    tones = {Status.OK: "fill-ok", Status.WARN: "fill-warn", Status.FAIL: "fill-fail"}
    parts = []
    at = 0.0
    for index, result in enumerate(ran):
        length = max((width - 2) * result.seconds / whole, 3.0)
        x = min(1 + (width - 2) * at / whole, width - 1 - length)
        y = row * index
        style = tones.get(_status_of(result), "fill-info")
        parts.append(
            f'<text x="0" y="{y + 15}">{escape(result.title)}</text>'
            f'<text x="{width}" y="{y + 15}" text-anchor="end" class="muted">'
            f"{escape(format_seconds(result.seconds))}</text>"
            f'<rect x="1" y="{y + 21}" width="{width - 2}" height="11" rx="3" class="line" '
            'fill="none" stroke="#cbd5e1"/>'
            f'<rect x="{x:.1f}" y="{y + 21}" width="{length:.1f}" height="11" rx="3" '
            f'class="{style}" fill="#bfdbfe" stroke="#64748b"/>'
        )
        at += result.seconds
    height = row * len(ran) + tail
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
        f'width="{width}" height="{height}" font-family="system-ui, sans-serif" font-size="14">'
        + "".join(parts)
        + "</svg>"
    )
