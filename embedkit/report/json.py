"""The versioned JSON envelope around every result and every error.

Its shape is documented in ``docs/json.md`` and pinned by a contract test: fields may be
added within a version, never renamed, removed or given another meaning.
"""

from __future__ import annotations

import json
from typing import Any

from embedkit import __version__
from embedkit.errors import EmbedkitError
from embedkit.report.model import Report

SCHEMA = "embedkit.report/1"


def render(report: Report) -> str:
    """``report`` as one JSON document."""
    return _dump(
        {
            **_envelope(report.command),
            "ok": report.exit_code == 0,
            "exit_code": report.exit_code,
            "status": report.status.value,
            "verdict": report.verdict,
            "notes": list(report.notes),
            "data": dict(report.data),
            "error": None,
        }
    )


def render_error(command: str, error: BaseException, exit_code: int) -> str:
    """An error in the same envelope."""
    known = isinstance(error, EmbedkitError)
    return _dump(
        {
            **_envelope(command),
            "ok": False,
            "exit_code": exit_code,
            "status": "fail",
            "verdict": None,
            "notes": [],
            "data": None,
            "error": {
                "kind": type(error).__name__,
                "message": error.message if isinstance(error, EmbedkitError) else str(error),
                "where": getattr(error, "where", None) if known else None,
                "hint": getattr(error, "hint", None) if known else None,
            },
        }
    )


def _envelope(command: str) -> dict[str, Any]:
    return {"schema": SCHEMA, "embedkit": __version__, "command": command}


def _dump(value: dict[str, Any]) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"
