"""What each stage of a bringup has to show, as sections of the report."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from embedkit.bringup.boot import Hung, Probed, Reached
from embedkit.bringup.build import Built
from embedkit.bringup.card import Composed, ReadBack
from embedkit.bringup.kernel import Patched
from embedkit.bringup.reference import Assembled
from embedkit.bringup.stages import Done, Tone
from embedkit.commands import (
    compose,
    deploy_report,
    flash,
    kernel_data,
    kernel_report,
    patch_report,
    probe,
)
from embedkit.docker.deploy import Deployment, Wish
from embedkit.docker.proof import Proof
from embedkit.kernel import fragment
from embedkit.kernel.audit import Audit
from embedkit.media import cardmap
from embedkit.media.outcome import Outcome
from embedkit.report.model import Finding, Section, Status, Step, Table
from embedkit.report.plain import to_plain
from embedkit.units import format_seconds, format_size

_FEATURES = "Features"
Parts = tuple[tuple[Section, ...], Mapping[str, Any]]


def describe(done: Done) -> dict[str, Any]:
    """The plain form of a stage's result: ``sections`` for people, ``data`` for programs."""
    for kind, tell in _TELLERS:
        if isinstance(done.value, kind):
            sections, data = tell(done.value)
            if done.tone is not Tone.FAIL:
                sections = tuple(_calmed(section) for section in sections)
            return {"sections": [to_plain(section) for section in sections], "data": dict(data)}
    return {"sections": [], "data": {}}


def _calmed(section: Section) -> Section:
    """What a stage that went on took note of is no failure of the bringup."""
    findings = tuple(
        finding._replace(status=Status.INFO) if finding.status is Status.FAIL else finding
        for finding in section.findings
    )
    children = tuple(_calmed(child) for child in section.sections)
    folded = section.folded or section.title == _FEATURES
    return section._replace(findings=findings, sections=children, folded=folded)


def _assembled(value: Assembled) -> Parts:
    table = Table(("package", "version"), value.packages)
    section = Section(f"{len(value.packages)} Debian packages", table=table, folded=True)
    return (section,), {"kind": value.kind, "packages": dict(value.packages)}


def _audit(value: Audit) -> Parts:
    return _audited(value), kernel_data.build(value, (), None)


def _audited(value: Audit) -> tuple[Section, ...]:
    features, *rest = kernel_report.requirements(value)
    every = Section("Every requirement", sections=tuple(rest), folded=True)
    return (kernel_report.summary(value), features._replace(title=_FEATURES), every)


def _patched(value: Patched) -> Parts:
    resolution = value.resolution
    report = patch_report.build(
        value.tree, value.source, value.before, resolution, value.profile,
        written=value.written, dry_run=False, held_back=False, exit_code=0,
    )  # fmt: skip
    sections = tuple(
        section._replace(folded=section.title in ("Plan", "Side effects"))
        for section in report.sections
    )
    _, features, every = _audited(value.after)
    return (*sections, features, every), {
        "release": value.tree.release,
        "plan": fragment.data(resolution),
        "written": [{"what": what, "path": str(path)} for what, path in value.written],
    }


def _built(value: Built) -> Parts:
    rows = tuple((str(path), format_size(path.stat().st_size)) for path in value.made if
                 path.is_file())  # fmt: skip
    sections = [Section("Made", table=Table(("file", "size"), rows))] if rows else []
    if value.last_lines:
        lines = "\n".join(value.last_lines)
        sections.append(Section(f"The end of {value.log.name}", text=f"{lines}\n"))
    data = {"command": value.command, "log": str(value.log), "last_lines": list(value.last_lines)}
    return tuple(sections), data


def _composed(value: Composed) -> Parts:
    drawing = cardmap.of_plan(value.plan)
    facts = Table(("", ""), compose.published_facts(value.published))
    return (
        Section("The card's map", text=cardmap.text(drawing), svg=cardmap.svg(drawing)),
        Section("The image", table=facts, folded=True),
        Section("What was written", steps=compose.steps(value.plan), folded=True),
    ), {
        "layout": value.plan.layout,
        "image": str(value.published.image),
        "sha256": value.published.sha256,
        "size_bytes": value.published.size_bytes,
        "mapped_bytes": value.published.mapped_bytes,
    }


def _read_back(value: ReadBack) -> Parts:
    return (), {"image": str(value.image), "compared_bytes": value.compared_bytes}


def _outcome(value: Outcome) -> Parts:
    data = {
        "device": str(value.identity.path),
        "state": value.state.value,
        "written_bytes": value.written_bytes,
        "verified_bytes": value.verified_bytes,
    }
    return (Section("Device", findings=(flash.finding_of(value),)),), data


def _reached(value: Reached) -> Parts:
    rows = [("address", value.address), ("answers after", format_seconds(value.seconds))]
    if value.command:
        rows.append(("emulated by", f"{value.command[0]}, {value.accelerator}"))
    steps = tuple(
        Step(name, status=Status.OK, seconds=at) for name, at in value.milestones if name != "up"
    )
    sections = [Section("How it is reached", table=Table(("", ""), tuple(rows)), folded=True)]
    if steps:
        sections.insert(0, Section("Since power-on", steps=steps))
    if value.command:
        sections.append(Section("QEMU's command", text=shlex.join(value.command), folded=True))
    return tuple(sections), {
        "address": value.address,
        "seconds": round(value.seconds, 1),
        "accelerator": value.accelerator or None,
        "milestones": {name: round(at, 2) for name, at in value.milestones},
    }


def _hung(value: Hung) -> Parts:
    guess = Finding("boot", Status.FAIL, "the boot hangs", value.diagnosis)
    lines = "\n".join(value.last_lines) + "\n"
    return (
        Section("Diagnosis", findings=(guess,)),
        Section("The end of the serial line's log", text=lines),
    ), {"diagnosis": value.diagnosis, "last_lines": list(value.last_lines)}


def _probed(value: Probed) -> Parts:
    report = probe.build(value.name, value.address, value.facts, value.audit)
    about = Section("The system", table=Table(("", ""), report.facts))
    rest = tuple(section._replace(folded=True) for section in report.sections)
    return (about, *rest), {"verdict": report.verdict, **report.data}


def _deployed(value: Deployment) -> Parts:
    told = deploy_report.Told("", "", replace(value, proof=None))
    sections = tuple(
        section._replace(folded=section.title == "Before" or _all_well(section))
        for section in deploy_report.sections_of(told, Wish())
    )
    version = value.generation.version if value.generation is not None else None
    outcome = value.outcome
    return sections, {
        "version": version,
        "changed": bool(outcome is not None and outcome.done),
        "blocked": value.blocked,
    }


def _all_well(section: Section) -> bool:
    """Whether it is a list of steps of which none failed."""
    return bool(section.steps) and all(step.status is Status.OK for step in section.steps)


def _proof(value: Proof) -> Parts:
    checks = [
        {"id": c.id, "ok": c.ok, "state": c.state, "error": c.error, "seconds": round(c.seconds, 3)}
        for c in value.checks
    ]
    data = {"ok": value.ok, "version": value.version, "arch": value.arch, "checks": checks}
    return (deploy_report.proof_section(value),), data


_TELLERS: tuple[tuple[type, Callable[[Any], Parts]], ...] = (
    (Assembled, _assembled),
    (Audit, _audit),
    (Patched, _patched),
    (Built, _built),
    (Composed, _composed),
    (ReadBack, _read_back),
    (Outcome, _outcome),
    (Reached, _reached),
    (Hung, _hung),
    (Probed, _probed),
    (Deployment, _deployed),
    (Proof, _proof),
)
