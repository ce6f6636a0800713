"""Reports of ``deploy``, of one target or of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from embedkit.docker.apply import Done
from embedkit.docker.deploy import Deployment, Wish
from embedkit.docker.log import shortened
from embedkit.docker.proof import Cause, Check, Proof
from embedkit.errors import EXIT_NO, EXIT_OK, EXIT_TARGET, EmbedkitError, exit_code
from embedkit.report.model import Finding, Report, Section, Status, Step
from embedkit.target.preflight import Concern

_WORST = {Status.FAIL: 2, Status.WARN: 1}


@dataclass(frozen=True)
class Told:
    """One target's share: what came of it, or the error that kept it from beginning."""

    name: str
    address: str
    deployment: Deployment | None = None
    error: EmbedkitError | None = None


def build(wish: Wish, told: Sequence[Told]) -> Report:
    """The report of one run over all its targets."""
    verdicts = [_verdict(wish, one) for one in told]
    code = max((one[2] for one in verdicts), default=EXIT_OK)
    status = max((one[0] for one in verdicts), key=lambda s: _WORST.get(s, 0))
    if len(told) == 1:
        title = f"{wish.action.capitalize()} Docker on {told[0].name}"
        verdict, sections = verdicts[0][1], sections_of(told[0], wish)
    else:
        title = f"{wish.action.capitalize()} Docker on {len(told)} targets"
        good = sum(1 for one in verdicts if one[2] == EXIT_OK)
        verdict = f"{good} of {len(told)} well"
        sections = tuple(
            Section(
                one.name,
                findings=(Finding(f"target-{one.name}", of[0], one.address, of[1]),),
                sections=sections_of(one, wish),
            )
            for one, of in zip(told, verdicts, strict=True)
        )
    return Report(
        command="deploy",
        title=title,
        verdict=verdict,
        status=status,
        exit_code=code,
        sections=sections,
        data={
            "action": wish.action,
            "dry_run": wish.dry_run,
            "targets": [_data(one, of[0], of[1]) for one, of in zip(told, verdicts, strict=True)],
        },
    )


def _verdict(wish: Wish, told: Told) -> tuple[Status, str, int]:
    if told.error is not None or told.deployment is None:
        error = told.error or EmbedkitError("nothing was done")
        return Status.FAIL, str(error), exit_code(error)
    done = told.deployment
    version = done.generation.version or done.generation.folder if done.generation else ""
    if done.blocked:
        bad = [c.label for c in done.concerns if c.weight.value == "fail"]
        return Status.FAIL, f"nothing was changed: {', '.join(bad)}", EXIT_NO
    if wish.dry_run:
        count = len(done.plan.all_steps)
        return Status.INFO, f"would take {count} steps" if count else "nothing to do", EXIT_OK
    outcome = done.outcome
    if outcome is not None and outcome.failure is not None:
        after = {
            None: "nothing that ran was touched",
            True: "what was there before is back",
            False: "and what was before could not be put back: see the steps, then --rollback",
        }[outcome.recovered]
        proven = done.proof is not None and not done.proof.basic
        return Status.FAIL, f"{outcome.failure}; {after}", EXIT_NO if proven else EXIT_TARGET
    if done.proof is not None and not done.proof.ok:
        bad = [check.title for check in done.proof.checks if check.ok is False]
        return Status.FAIL, f"Docker {version} is installed, and fails: {', '.join(bad)}", EXIT_NO
    if wish.action == "rollback":
        return Status.OK, "rolled back", EXIT_OK
    if wish.action == "uninstall":
        return Status.OK, "uninstalled", EXIT_OK
    proven = done.proof is not None
    ending = ", and a container ran" if proven else ""
    if done.plan.empty:
        return Status.OK, f"Docker {version} is there already, nothing changed{ending}", EXIT_OK
    state = "runs" if wish.options.start else "is installed, not started"
    return Status.OK, f"Docker {version} {state}{ending}", EXIT_OK


def sections_of(told: Told, wish: Wish) -> tuple[Section, ...]:
    """What came of one target, part by part."""
    if told.error is not None:
        finding = Finding(
            "error", Status.FAIL, told.address, told.error.message, hint=told.error.hint or ""
        )
        return (Section("Error", findings=(finding,)),)
    done = told.deployment
    assert done is not None
    sections = []
    shown = [c for c in done.concerns if c.weight.value not in ("ok", "info")]
    if shown:
        sections.append(Section("Before", findings=tuple(map(_concern, shown))))
    if wish.dry_run or done.blocked:
        steps = tuple(Step(s.title, s.touches, s.undo) for s in done.plan.all_steps)
        if steps:
            sections.append(Section("Steps", steps=steps))
    elif done.outcome is not None and done.outcome.done:
        sections.append(Section("Steps", steps=tuple(map(_step, done.outcome.done))))
    if done.proof is not None:
        sections.append(proof_section(done.proof))
    if done.causes:
        sections.append(Section("Likely causes", findings=tuple(map(_cause, done.causes))))
    if done.outcome is not None and not done.outcome.ok and done.outcome.log:
        said = shortened(done.outcome.log, 15)
        sections.append(Section("End of the daemon's log", text="\n".join(said)))
    return tuple(sections)


def _concern(concern: Concern) -> Finding:
    return Finding(
        concern.id, Status(concern.weight.value), concern.label, concern.state, concern.detail,
        concern.hint,
    )  # fmt: skip


def _step(done: Done) -> Step:
    status = Status.FAIL if done.error else Status.OK
    return Step(done.step.title, done.step.touches, done.step.undo, status, round(done.seconds, 3))


def proof_section(proof: Proof) -> Section:
    """Every check of a proof."""
    return Section(
        f"Proof (linux/{proof.arch}, through {proof.way})",
        findings=tuple(_check(check) for check in proof.checks),
    )


def _check(check: Check) -> Finding:
    status = {True: Status.OK, False: Status.FAIL, None: Status.SKIP}[check.ok]
    hint = "; ".join(f"{cause.name}: {cause.why}. {cause.hint}" for cause in check.causes[:3])
    return Finding(check.id, status, check.title, check.state, check.error, hint)


def _cause(cause: Cause) -> Finding:
    return Finding(cause.name, Status.WARN, cause.name, cause.why, hint=cause.hint)


def _data(told: Told, status: Status, verdict: str) -> dict[str, Any]:
    data: dict[str, Any] = {
        "name": told.name,
        "address": told.address,
        "status": status.value,
        "verdict": verdict,
    }
    if told.error is not None:
        return {**data, "error": told.error.message}
    done = told.deployment
    assert done is not None
    outcome = done.outcome
    data |= {
        "blocked": done.blocked,
        "version": done.generation.version if done.generation else None,
        "data_root": done.generation.data_root if done.generation else None,
        "changed": bool(outcome is not None and outcome.done),
        "recovered": outcome.recovered if outcome is not None else None,
        "concerns": [
            {"id": c.id, "weight": c.weight.value, "label": c.label, "state": c.state,
             "detail": c.detail, "hint": c.hint}
            for c in done.concerns
        ],
        "plan": [
            {"id": s.id, "title": s.title, "touches": s.touches, "undo": s.undo}
            for s in done.plan.all_steps
        ],
        "done": [
            {"id": d.step.id, "seconds": round(d.seconds, 3), "error": d.error}
            for d in (outcome.done if outcome is not None else ())
        ],
        "causes": [c.__dict__ for c in done.causes],
        "log": list(outcome.log) if outcome is not None and not outcome.ok else [],
        "proof": None,
    }  # fmt: skip
    if done.proof is not None:
        data["proof"] = {
            "ok": done.proof.ok,
            "way": done.proof.way,
            "version": done.proof.version,
            "arch": done.proof.arch,
            "checks": [
                {"id": c.id, "ok": c.ok, "state": c.state, "error": c.error,
                 "seconds": round(c.seconds, 3), "causes": [one.__dict__ for one in c.causes]}
                for c in done.proof.checks
            ],
        }  # fmt: skip
    return data
