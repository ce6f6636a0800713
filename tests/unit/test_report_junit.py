"""The JUnit form: XML that any reader takes, and the same answer as the exit code."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from support.reports import PAYLOADS, reports
from support.sample_report import one_finding, sample

from embedkit.report.junit import render
from embedkit.report.model import Report, Status, count_findings, walk_findings


def _read(report: Report) -> ElementTree.Element:
    return ElementTree.fromstring(render(report).encode("utf-8"))


@given(reports)
def test_any_report_is_xml_with_one_case_a_finding(report: Report) -> None:
    root = _read(report)
    counts = count_findings(report)
    failed = counts.get(Status.FAIL, 0)
    extra = 1 if report.exit_code != 0 and not failed else 0
    cases = len(walk_findings(report))
    assert len(root.findall(".//testcase")) == max(cases + extra, 1)
    assert len(root.findall(".//failure")) == failed + extra
    skipped = counts.get(Status.SKIP, 0) + counts.get(Status.UNKNOWN, 0)
    assert len(root.findall(".//skipped")) == skipped
    assert root.get("failures") == str(failed + extra)
    assert root.get("skipped") == str(skipped)


@pytest.mark.parametrize("payload", PAYLOADS)
def test_a_payload_stays_text(payload: str) -> None:
    root = _read(one_finding(label=payload, detail=payload, state=payload, level=payload))
    assert [child.tag for child in root.iter()] == [
        "testsuites",
        "testsuite",
        "testcase",
        "failure",
    ]


def test_a_failure_tells_why_and_what_to_do() -> None:
    root = _read(one_finding(detail="because", hint="do this", where="x:1", level="necessary"))
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.attrib == {"message": "missing", "type": "necessary"}
    assert failure.text == "because\n→ do this\nat x:1"


def test_a_case_is_found_by_its_section() -> None:
    root = _read(sample())
    case = root.find(".//testcase[@name='CONFIG_MEMCG']")
    assert case is not None
    assert case.get("classname") == "Generally necessary / Control groups"
    assert [suite.get("name") for suite in root] == [
        "Generally necessary",
        "Optional features",
        "Storage",
        "Network drivers",
    ]


def test_facts_are_properties_even_where_the_first_section_has_no_finding() -> None:
    found = _read(sample()).find("testsuite/properties/property[@name='Kernel']")
    assert found is not None
    assert found.get("value") == "6.1.55, from the config's header"


def test_a_warning_passes_and_says_itself() -> None:
    root = _read(one_finding(status=Status.WARN, detail="because")._replace(exit_code=0))
    assert root.get("failures") == "0"
    assert root.findtext(".//system-out") == "warning: missing\nbecause"


def test_a_no_without_a_failed_finding_still_fails() -> None:
    """`--fail-on recommended` makes warnings count, and plans have no findings at all."""
    root = _read(one_finding(status=Status.WARN))
    failure = root.find(".//testcase[@name='verdict']/failure")
    assert failure is not None
    assert failure.get("message") == "a verdict"
    assert _read(Report("flash", "t", "it differs", Status.FAIL, 1)).get("failures") == "1"


def test_a_yes_without_findings_is_one_passed_case() -> None:
    root = _read(Report("flash", "t", "all is well", Status.OK))
    assert root.attrib["tests"] == "1"
    assert root.attrib["failures"] == "0"
