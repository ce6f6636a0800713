"""A report as JUnit XML, as Jenkins, GitLab and pytest's own tools read it.

One test case a finding: what failed is a failure, what could not be decided or was left out
is skipped, a warning passes and says itself in ``system-out``.
"""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from embedkit.report.clean import one_line, safe
from embedkit.report.model import Finding, Report, Status, walk_findings


def render(report: Report) -> str:
    """``report`` as a JUnit document."""
    root = Element("testsuites", name=f"embedkit {one_line(report.command)}")
    for section in report.sections:
        found = walk_findings(Report("", "", "", Status.INFO, sections=(section,)))
        if found:
            _suite(root, section.title, found)
    statuses = [finding.status for _, finding in walk_findings(report)]
    no = report.exit_code != 0
    if not statuses or (no and Status.FAIL not in statuses):
        # A job that reads only this file must not take the answer for a yes, nor call an
        # empty list of tests an error.
        status = Status.FAIL if no else Status.OK
        verdict = Finding("verdict", status, "verdict", report.verdict)
        _suite(root, "verdict", [(one_line(report.title), verdict)])
    if report.facts and len(root):
        properties = Element("properties")
        for name, value in report.facts:
            SubElement(properties, "property", name=one_line(name), value=one_line(value))
        root[0].insert(0, properties)
    for name in ("tests", "failures", "errors", "skipped"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    indent(root)
    document = tostring(root, encoding="unicode")
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{document}\n'


def _suite(root: Element, title: str, found: list[tuple[str, Finding]]) -> None:
    suite = SubElement(root, "testsuite", name=one_line(title))
    for path, finding in found:
        _case(suite, path, finding)
    suite.set("tests", str(len(found)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("errors", "0")
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))


def _case(suite: Element, path: str, finding: Finding) -> None:
    case = SubElement(
        suite, "testcase", classname=one_line(path), name=one_line(finding.label or finding.id)
    )
    state = one_line(finding.state) or finding.status.word
    if finding.status is Status.FAIL:
        failure = SubElement(
            case, "failure", message=state, type=one_line(finding.level) or "check"
        )
        failure.text = _body(finding)
    elif finding.status in (Status.UNKNOWN, Status.SKIP):
        SubElement(case, "skipped", message=f"{finding.status.word}: {state}")
    elif finding.status is Status.WARN:
        SubElement(case, "system-out").text = f"warning: {state}\n{_body(finding)}".strip()


def _body(finding: Finding) -> str:
    parts = [finding.detail, f"→ {finding.hint}" if finding.hint else ""]
    parts.append(f"at {finding.where}" if finding.where else "")
    return safe("\n".join(part for part in parts if part))
