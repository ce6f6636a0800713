"""A report as SARIF 2.1.0 (OASIS), which code hosts and editors show beside the code.

Every finding's id is a rule; what failed, warns or could not be decided is a result. A
finding without a place of its own is pinned to the file that the report is about.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any
from urllib.parse import quote

from embedkit import __version__
from embedkit.report.clean import one_line, safe
from embedkit.report.json import dump
from embedkit.report.model import Finding, Report, Status, walk_findings

_LEVELS = {
    Status.FAIL: "error",
    Status.WARN: "warning",
    Status.UNKNOWN: "note",
    Status.INFO: "note",
    Status.OK: "none",
    Status.SKIP: "none",
}
_SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
_PLACE = re.compile(r"(?P<file>[^:].*?):(?P<line>[1-9]\d{0,8})(?::(?P<column>[1-9]\d{0,8}))?")


def render(report: Report) -> str:
    """``report`` as one SARIF log with one run."""
    found = walk_findings(report)
    rules: dict[str, Finding] = {}
    for _, finding in found:
        known = rules.get(_rule_id(finding))
        # The same rule may be met twice; its worst finding tells most about it.
        if known is None or (finding.status.is_problem and not known.status.is_problem):
            rules[_rule_id(finding)] = finding
    indexes = {name: index for index, name in enumerate(rules)}
    return dump(
        {
            "$schema": _SCHEMA,
            "version": "2.1.0",
            "runs": [
                {
                    "tool": {
                        "driver": {
                            "name": "embedkit",
                            "version": __version__,
                            "rules": [_rule(name, finding) for name, finding in rules.items()],
                        }
                    },
                    "automationDetails": {"id": f"embedkit/{one_line(report.command)}/"},
                    "invocations": [
                        {
                            # It says that the tool ran, not what it found.
                            "executionSuccessful": True,
                            "exitCode": report.exit_code,
                            "exitCodeDescription": safe(report.verdict),
                        }
                    ],
                    "results": [
                        _result(report, path, finding, indexes[_rule_id(finding)])
                        for path, finding in found
                        if finding.status.is_problem
                    ],
                    "properties": {one_line(name): safe(value) for name, value in report.facts},
                }
            ],
        }
    )


def _rule_id(finding: Finding) -> str:
    return one_line(finding.id) or one_line(finding.label) or "finding"


def _rule(name: str, finding: Finding) -> dict[str, Any]:
    label = one_line(finding.label) or name
    level = _LEVELS[finding.status]
    rule: dict[str, Any] = {
        "id": name,
        "shortDescription": {"text": label},
        "fullDescription": {"text": safe(finding.detail) or label},
        "help": {"text": _help(finding) or label},
        "defaultConfiguration": {"level": level},
    }
    if finding.level:
        rule["properties"] = {"tags": [one_line(finding.level)]}
    return rule


def _help(finding: Finding) -> str:
    return safe("\n\n".join(part for part in (finding.detail, finding.hint) if part))


def _result(report: Report, path: str, finding: Finding, index: int) -> dict[str, Any]:
    label = one_line(finding.label) or _rule_id(finding)
    said = f"{label}: {one_line(finding.state)}" if finding.state else label
    more = _help(finding)
    key = "\0".join((report.command, path, _rule_id(finding)))
    return {
        "ruleId": _rule_id(finding),
        "ruleIndex": index,
        "level": _LEVELS[finding.status],
        "message": {"text": f"{said}\n\n{more}" if more else said},
        "locations": [_location(report, path, finding)],
        # Code hosts tell by it that a result of the next run is the same one.
        "partialFingerprints": {
            "embedkitFinding/v1": hashlib.sha256(key.encode("utf-8", "replace")).hexdigest()[:32]
        },
    }


def _location(report: Report, path: str, finding: Finding) -> dict[str, Any]:
    logical = {
        "name": _rule_id(finding),
        "fullyQualifiedName": f"{one_line(path)} / {_rule_id(finding)}",
    }
    location: dict[str, Any] = {"logicalLocations": [logical]}
    physical = _physical(finding.where)
    if physical is None and report.source:
        physical = {"artifactLocation": {"uri": _uri(report.source)}}
    if physical is not None:
        location["physicalLocation"] = physical
    return location


def _physical(where: str) -> dict[str, Any] | None:
    """The place that ``file:line`` or ``file:line:column`` names; None for any other."""
    match = _PLACE.fullmatch(where)
    if match is None or "://" in where:
        return None
    region = {"startLine": int(match["line"])}
    if match["column"]:
        region["startColumn"] = int(match["column"])
    return {"artifactLocation": {"uri": _uri(match["file"])}, "region": region}


def _uri(path: str) -> str:
    """A path as a URI reference: an absolute one under ``file:``, others relative."""
    encoded = quote(path.encode("utf-8", "surrogatepass" if _odd(path) else "surrogateescape"))
    return f"file://{encoded}" if path.startswith("/") else encoded


def _odd(path: str) -> bool:
    """Whether it has surrogates that are no escaped bytes."""
    return any("\ud800" <= c <= "\udfff" and not "\udc80" <= c <= "\udcff" for c in path)
