"""The SARIF form against the parts of the SARIF 2.1.0 schema and prose that it uses."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest
from hypothesis import given
from support.reports import reports
from support.sample_report import one_finding, sample

from embedkit.report.model import Finding, Report, Section, Status, walk_findings
from embedkit.report.sarif import render


def _object(required: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": required.split(),
        "properties": properties,
    }


def _list(of: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"type": "array", "items": of, **more}


_TEXT = {"type": "string"}
_MESSAGE = _object("text", text={"type": "string", "minLength": 1})
_LEVEL = {"enum": ["none", "note", "warning", "error"]}
_POSITIVE = {"type": "integer", "minimum": 1}
# Sections 3.13 to 3.52 of the standard, each object closed, so that a misspelt property fails.
_RULE = _object(
    "id shortDescription fullDescription help defaultConfiguration",
    id={"type": "string", "minLength": 1},
    shortDescription=_MESSAGE,
    fullDescription=_MESSAGE,
    help=_MESSAGE,
    defaultConfiguration=_object("level", level=_LEVEL),
    properties=_object("tags", tags=_list(_TEXT, uniqueItems=True)),
)
_ARTIFACT = _object("uri", uri={"type": "string", "pattern": r"^[A-Za-z0-9%/._~:-]*$"})
_LOCATION = _object(
    "logicalLocations",
    logicalLocations=_list(
        _object("name fullyQualifiedName", name=_TEXT, fullyQualifiedName=_TEXT)
    ),
    physicalLocation=_object(
        "artifactLocation",
        artifactLocation=_ARTIFACT,
        region=_object("startLine", startLine=_POSITIVE, startColumn=_POSITIVE),
    ),
)
_RESULT = _object(
    "ruleId ruleIndex level message locations partialFingerprints",
    ruleId=_TEXT,
    ruleIndex={"type": "integer", "minimum": 0},
    level={"enum": ["note", "warning", "error"]},
    message=_MESSAGE,
    locations=_list(_LOCATION, minItems=1),
    partialFingerprints={"type": "object", "additionalProperties": _TEXT},
)
_DRIVER = _object("name version rules", name=_TEXT, version=_TEXT, rules=_list(_RULE))
_INVOCATION = _object(
    "executionSuccessful",
    executionSuccessful={"type": "boolean"},
    exitCode={"type": "integer"},
    exitCodeDescription=_TEXT,
)
_RUN = _object(
    "tool results",
    tool=_object("driver", driver=_DRIVER),
    automationDetails=_object("id", id=_TEXT),
    invocations=_list(_INVOCATION),
    results=_list(_RESULT),
    properties={"type": "object"},
)
_LOG = _object(
    "version runs",
    **{"$schema": {"type": "string", "format": "uri"}},
    version={"const": "2.1.0"},
    runs=_list(_RUN, minItems=1, maxItems=1),
)
_VALIDATOR = jsonschema.Draft202012Validator(_LOG)


def _run(report: Report) -> dict[str, Any]:
    text = render(report)
    text.encode("utf-8")
    log = json.loads(text)
    _VALIDATOR.validate(log)
    run: dict[str, Any] = log["runs"][0]
    rules = run["tool"]["driver"]["rules"]
    assert len({rule["id"] for rule in rules}) == len(rules)
    assert all(rules[result["ruleIndex"]]["id"] == result["ruleId"] for result in run["results"])
    return run


@given(reports)
def test_any_report_is_valid(report: Report) -> None:
    problems = [finding for _, finding in walk_findings(report) if finding.status.is_problem]
    assert len(_run(report)["results"]) == len(problems)


def test_the_check_itself_sees_a_wrong_property() -> None:
    log = json.loads(render(one_finding()))
    log["runs"][0]["results"][0]["levle"] = "error"
    with pytest.raises(jsonschema.ValidationError):
        _VALIDATOR.validate(log)


@pytest.mark.parametrize(
    ("status", "level"),
    [(Status.FAIL, "error"), (Status.WARN, "warning"), (Status.UNKNOWN, "note")],
)
def test_levels(status: Status, level: str) -> None:
    assert _run(one_finding(status=status))["results"][0]["level"] == level


@pytest.mark.parametrize("status", [Status.OK, Status.INFO, Status.SKIP])
def test_what_is_no_problem_is_a_rule_and_no_result(status: Status) -> None:
    run = _run(one_finding(status=status))
    assert run["results"] == []
    rule = run["tool"]["driver"]["rules"][0]
    assert rule["defaultConfiguration"]["level"] == ("note" if status is Status.INFO else "none")


@pytest.mark.parametrize(
    ("where", "uri", "region"),
    [
        ("linux/.config:12", "linux/.config", {"startLine": 12}),
        ("a b.config:3:7", "a%20b.config", {"startLine": 3, "startColumn": 7}),
        ("/boot/config-6.1:9", "file:///boot/config-6.1", {"startLine": 9}),
        ("\udcff.config:1", "%FF.config", {"startLine": 1}),
    ],
)
def test_a_place_in_a_file(where: str, uri: str, region: dict[str, int]) -> None:
    place = _run(one_finding(where=where))["results"][0]["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": uri}, "region": region}


@pytest.mark.parametrize("where", ["", "sector 63", "a.config", "x:0", "http://host:80", ":3"])
def test_other_places_fall_back_to_the_file_looked_at(where: str) -> None:
    plain = _run(one_finding(where=where))["results"][0]["locations"][0]
    assert "physicalLocation" not in plain
    assert plain["logicalLocations"][0]["fullyQualifiedName"] == "Network / CONFIG_VETH"
    about = one_finding(where=where)._replace(source="linux/.config")
    place = _run(about)["results"][0]["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "linux/.config"}}


def test_the_same_rule_twice_is_one_rule_told_by_its_problem() -> None:
    both = (
        Finding("NF_NAT", Status.OK, "NF_NAT"),
        Finding("NF_NAT", Status.FAIL, "NF_NAT", "missing", "because", "set it"),
    )
    run = _run(Report("c", "t", "v", Status.FAIL, 1, sections=(Section("s", findings=both),)))
    (rule,) = run["tool"]["driver"]["rules"]
    assert rule["help"]["text"] == "because\n\nset it"
    assert run["results"][0]["message"]["text"] == "NF_NAT: missing\n\nbecause\n\nset it"


def test_the_same_finding_has_the_same_fingerprint_in_the_next_run() -> None:
    first = [result["partialFingerprints"] for result in _run(sample())["results"]]
    changed = one_finding(state="as module", where="moved:99")
    assert first == [result["partialFingerprints"] for result in _run(sample())["results"]]
    assert len({str(print_) for print_ in first}) == len(first)
    same = _run(one_finding())["results"][0]["partialFingerprints"]
    assert _run(changed)["results"][0]["partialFingerprints"] == same
