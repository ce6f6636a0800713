"""The JSON envelope, version 1: a change that fails here breaks somebody's program."""

from __future__ import annotations

import json
from enum import Enum
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from support.reports import reports, texts
from support.sample_report import one_finding, sample

from embedkit import __version__
from embedkit.errors import EmbedkitError, InputError, LackError, TargetError, exit_code
from embedkit.report.json import dump, render, render_error
from embedkit.report.model import Report, Status

_SCHEMA = json.loads(files("embedkit.report").joinpath("schema/report-1.json").read_text("utf-8"))
jsonschema.Draft202012Validator.check_schema(_SCHEMA)
_VALIDATOR = jsonschema.Draft202012Validator(_SCHEMA)

_ENVELOPE = [
    "schema",
    "embedkit",
    "command",
    "ok",
    "exit_code",
    "status",
    "verdict",
    "facts",
    "findings",
    "steps",
    "notes",
    "data",
    "error",
]
_FINDING = [
    "section",
    "id",
    "status",
    "label",
    "state",
    "level",
    "detail",
    "hint",
    "where",
    "data",
]
_STEP = ["section", "title", "status", "touches", "undo", "seconds"]
_ERROR = ["kind", "message", "where", "hint"]


def _no_constant(name: str) -> Any:
    raise AssertionError(f"{name} is not JSON")


def _read(text: str) -> dict[str, Any]:
    text.encode("utf-8")
    value: dict[str, Any] = json.loads(text, parse_constant=_no_constant)
    _VALIDATOR.validate(value)
    return value


def test_the_names_of_version_one() -> None:
    result = _read(render(sample()))
    assert list(result) == _ENVELOPE
    assert list(result["findings"][0]) == _FINDING
    assert list(result["steps"][0]) == _STEP
    error = _read(render_error("check-kernel", InputError("no"), 2))
    assert list(error) == _ENVELOPE
    assert list(error["error"]) == _ERROR


def test_the_schema_requires_these_names_and_describes_no_others() -> None:
    definitions = _SCHEMA["$defs"]
    for part, names in (
        (_SCHEMA, _ENVELOPE),
        (definitions["finding"], _FINDING),
        (definitions["step"], _STEP),
        (definitions["error"], _ERROR),
    ):
        assert part["required"] == names
        assert list(part["properties"]) == names
    assert definitions["status"]["enum"] == [status.value for status in Status]


def test_a_result_word_for_word() -> None:
    result = _read(render(one_finding(detail="why", hint="do", where="a:1", level="necessary")))
    assert result == {
        "schema": "embedkit.report/1",
        "embedkit": __version__,
        "command": "check-kernel",
        "ok": False,
        "exit_code": 1,
        "status": "fail",
        "verdict": "a verdict",
        "facts": [],
        "findings": [
            {
                "section": "Network",
                "id": "CONFIG_VETH",
                "status": "fail",
                "label": "CONFIG_VETH",
                "state": "missing",
                "level": "necessary",
                "detail": "why",
                "hint": "do",
                "where": "a:1",
                "data": {},
            }
        ],
        "steps": [],
        "notes": [],
        "data": {},
        "error": None,
    }


@pytest.mark.parametrize(
    "error",
    [
        InputError("no such file", where="a.toml:3", hint="look again"),
        LackError("no xz"),
        TargetError("the board went away"),
        EmbedkitError("plain"),
        ValueError("a bug"),
        KeyboardInterrupt(),
    ],
)
def test_errors_come_in_the_same_envelope(error: BaseException) -> None:
    code = exit_code(error)
    result = _read(render_error("flash", error, code))
    assert result["ok"] is False
    assert result["exit_code"] == code
    assert result["data"] is None
    assert result["error"]["kind"] == type(error).__name__
    assert result["error"]["message"]
    if isinstance(error, EmbedkitError):
        assert result["error"]["where"] == error.where
        assert result["error"]["hint"] == error.hint


def test_an_error_without_a_verdict_is_not_taken_for_a_result() -> None:
    mixed = _read(render(one_finding())) | {
        "error": _read(render_error("", KeyError(), 70))["error"]
    }
    with pytest.raises(jsonschema.ValidationError):
        _VALIDATOR.validate(mixed)


@given(reports)
def test_any_report_is_valid_utf8_and_keeps_to_the_schema(report: Report) -> None:
    _read(render(report))


@given(texts, texts)
def test_any_error_is_valid(message: str, hint: str) -> None:
    _read(render_error(message, InputError(message, hint=hint, where=hint), 2))


class _Colour(Enum):
    RED = 1


def test_values_without_a_json_type_become_text() -> None:
    value = {"path": Path("/a"), "bytes": b"\xff", 3: {1, 2}, "e": _Colour.RED, "s": Status.OK}
    assert json.loads(dump(value | {"nan": float("nan"), "odd\udcff": (1, None, True)})) == {
        "path": "/a",
        "bytes": "\\xff",
        "3": [1, 2],
        "e": "_Colour.RED",
        "s": "ok",
        "nan": None,
        "odd\\xff": [1, None, True],
    }


def test_the_documentation_names_every_field() -> None:
    text = (Path(__file__).parents[2] / "docs" / "json.md").read_text("utf-8")
    for name in {*_ENVELOPE, *_FINDING, *_STEP, *_ERROR}:
        assert f"`{name}`" in text
