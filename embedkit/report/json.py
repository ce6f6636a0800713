"""The versioned JSON envelope around every result and every error.

Its shape is documented in ``docs/json.md``, given as a JSON Schema in
``embedkit/report/schema/report-1.json`` and pinned by a contract test: fields may be added
within a version, never renamed, removed or given another meaning.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

from embedkit import __version__
from embedkit.errors import EmbedkitError
from embedkit.report.clean import encodable
from embedkit.report.model import Finding, Report, Step, walk_findings, walk_sections

SCHEMA = "embedkit.report/1"
# What JSON does not escape by itself: C1 controls (a terminal's CSI is one), and the controls that
# turn the reading direction.
_STEERING = re.compile("[\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069]")

_SILENT: dict[type[BaseException], str] = {KeyboardInterrupt: "interrupted"}


def render(report: Report) -> str:
    """``report`` as one JSON document."""
    return dump(
        {
            **_envelope(report.command),
            "ok": report.exit_code == 0,
            "exit_code": report.exit_code,
            "status": report.status.value,
            "verdict": report.verdict,
            "facts": [{"name": name, "value": value} for name, value in report.facts],
            "findings": [_finding(path, finding) for path, finding in walk_findings(report)],
            "steps": [
                _step(path, step)
                for path, section in walk_sections(report)
                for step in section.steps
            ],
            "notes": list(report.notes),
            "data": report.data,
            "error": None,
        }
    )


def render_error(command: str, error: BaseException, exit_code: int) -> str:
    """An error in the same envelope."""
    known = error if isinstance(error, EmbedkitError) else None
    return dump(
        {
            **_envelope(command),
            "ok": False,
            "exit_code": exit_code,
            "status": "fail",
            "verdict": None,
            "facts": [],
            "findings": [],
            "steps": [],
            "notes": [],
            "data": None,
            "error": {
                "kind": type(error).__name__,
                "message": known.message if known else str(error) or _SILENT.get(type(error), ""),
                "where": known.where if known else None,
                "hint": known.hint if known else None,
            },
        }
    )


def dump(value: Any) -> str:
    """``value`` as JSON text that is always valid UTF-8 and never NaN or Infinity, and that
    steers no terminal that it is printed to."""
    text = json.dumps(_plain(value), indent=2, ensure_ascii=False, allow_nan=False)
    # They can only stand in strings.
    return _STEERING.sub(lambda match: f"\\u{ord(match[0]):04x}", text) + "\n"


def _envelope(command: str) -> dict[str, Any]:
    return {"schema": SCHEMA, "embedkit": __version__, "command": command}


def _finding(path: str, finding: Finding) -> dict[str, Any]:
    return {
        "section": path,
        "id": finding.id,
        "status": finding.status.value,
        "label": finding.label,
        "state": finding.state,
        "level": finding.level,
        "detail": finding.detail,
        "hint": finding.hint,
        "where": finding.where,
        "data": finding.data,
    }


def _step(path: str, step: Step) -> dict[str, Any]:
    return {
        "section": path,
        "title": step.title,
        "status": step.status.value,
        "touches": step.touches,
        "undo": step.undo,
        "seconds": step.seconds,
    }


def _plain(value: Any) -> Any:
    """``value`` in JSON's own types; what has none (a path, an enum's member) becomes text."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return encodable(str(value))
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {encodable(str(key)): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted((_plain(item) for item in value), key=repr)
    if isinstance(value, bytes):
        return encodable(value.decode("utf-8", "surrogateescape"))
    return encodable(str(value))
