"""A kernel patch plan as a report: what is set, why, what it brings along, what cannot be had."""

from __future__ import annotations

from pathlib import Path

from embedkit.kernel import fragment
from embedkit.kernel.audit import Audit, Question, audit
from embedkit.kernel.config import KernelConfig, canonical_arch
from embedkit.kernel.profile import Level, Profile
from embedkit.kernel.tree import KernelTree
from embedkit.kernel.wants import Assignment, Refused, Resolution
from embedkit.report.model import Finding, Report, Section, Status, Table

_STATE = {"n": "off", "m": "module", "y": "built in"}


def build(
    tree: KernelTree,
    source: KernelConfig,
    before: KernelConfig,
    resolution: Resolution,
    profile: Profile | None,
    *,
    written: tuple[tuple[str, Path], ...],
    dry_run: bool,
    held_back: bool,
    exit_code: int,
) -> Report:
    """The report of a run. ``before`` is the source's full config on the tree."""
    audits = _audits(tree, before, resolution, profile)
    sections = [*_plan(resolution), *_refused(resolution), *_side_effects(resolution)]
    if audits is not None:
        sections.append(_before_after(*audits))
    if written:
        rows = tuple((what, str(path)) for what, path in written)
        sections.append(Section("Written", table=Table(("what", "file"), rows)))
    notes = list(resolution.notes)
    if source.version is not None and tree.version not in (None, source.version):
        notes.append(
            f"the config is of Linux {source.release}, the tree is Linux {tree.release}: what the "
            "tree does not know was dropped, what is new in it has its default"
        )
    if dry_run:
        notes.append("dry run: nothing was written")
    elif held_back:
        notes.append("nothing was written; --keep-going writes what can be had")
    kind = "full" if source.is_full else "minimal (a defconfig or fragment)"
    data = {
        "kernel": {"release": tree.release, "arch": tree.arch, "tree": str(tree.path)},
        "toolchain": {"cc": tree.toolchain.cc, "assumed": tree.toolchain.assumed},
        "source": {"origin": source.origin, "kind": "full" if source.is_full else "minimal"},
        "profile": profile.name if profile else None,
        "plan": fragment.data(resolution),
        "audit": _audit_data(*audits) if audits is not None else None,
        "written": [{"what": what, "path": str(path)} for what, path in written],
        "dry_run": dry_run,
    }
    return Report(
        command="patch-kernel",
        title=f"Kernel config patch{f' for {profile.title}' if profile else ''}",
        verdict=_verdict(resolution, dry_run),
        status=Status.OK if resolution.complete else Status.FAIL,
        exit_code=exit_code,
        facts=(
            ("config", f"{source.origin}, {kind}"),
            ("kernel", f"Linux {tree.release}, {tree.arch} ({tree.path})"),
            ("compiler", tree.toolchain.cc if not tree.toolchain.assumed else "none: assumed"),
        ),
        sections=tuple(sections),
        notes=tuple(notes),
        data=data,
        source=source.origin,
        renderings={
            "fragment": lambda: fragment.fragment(
                resolution,
                f"{profile.title if profile else 'Chosen options'}: kernel config fragment",
                f"Linux {tree.release} ({tree.arch})",
            ),
            "diff": lambda: fragment.diff(source, resolution.patched, Path(source.origin).name),
        },
    )


def _verdict(resolution: Resolution, dry_run: bool) -> str:
    count = len(resolution.assignments)
    wanted = len(resolution.satisfied) + len(resolution.refused)
    held = len(resolution.satisfied)
    if not resolution.assignments and resolution.complete:
        return f"nothing to change: all {wanted} wanted options are there"
    word = "would be set" if dry_run else "set"
    verdict = f"{count} options {word}; {held} of {wanted} wanted are there after it"
    if resolution.refused:
        names = ", ".join(refused.want.symbol for refused in resolution.refused[:6])
        verdict += f"; not to be had: {names}"
    return verdict


def _plan(resolution: Resolution) -> list[Section]:
    groups = fragment.by_feature(resolution.assignments)
    if not groups:
        return []
    return [
        Section(
            "Plan",
            sections=tuple(
                Section(feature, findings=tuple(_assignment(item) for item in items))
                for feature, items in groups
            ),
        )
    ]


def _assignment(item: Assignment) -> Finding:
    before = _STATE.get(item.before, item.before or "unset")
    after = _STATE.get(item.value, item.value)
    because = f" — {item.because}" if item.because and item.want is None else ""
    return Finding(
        id=f"CONFIG_{item.symbol}",
        status=Status.OK if item.want is not None else Status.INFO,
        label=f"CONFIG_{item.symbol}={item.raw}",
        state=f"{before} → {after}{because}",
        detail=item.because if item.want is not None else "",
        where=item.where,
        level=item.want.level if item.want is not None else "prerequisite",
    )


def _refused(resolution: Resolution) -> list[Section]:
    if not resolution.refused:
        return []
    return [Section("Not to be had", findings=tuple(_refusal(r) for r in resolution.refused))]


def _refusal(refused: Refused) -> Finding:
    hint = ""
    if refused.allow:
        allow = " ".join(f"--allow {name}" for name in refused.allow)
        hint = f"if the board's hardware permits it: {allow}"
    return Finding(
        id=f"CONFIG_{refused.want.symbol}",
        status=Status.FAIL if refused.want.level in ("asked", "necessary") else Status.WARN,
        label=f"CONFIG_{refused.want.symbol}",
        state=refused.reason,
        detail="" if refused.proven else "The search gave up; this is no proof.",
        hint=hint,
        level=refused.want.level,
    )


def _side_effects(resolution: Resolution) -> list[Section]:
    if not resolution.changes:
        return []
    rows = [
        (f"CONFIG_{item.symbol}", item.before or '""', item.after or '""')
        for item in resolution.changes
        if item.lost
    ]
    others = len(resolution.changes) - len(rows)
    text = f"{others} more symbols follow from the plan (defaults, selects)" if others else ""
    return [
        Section(
            "Side effects",
            text=text,
            table=Table(("turned off", "before", "after"), tuple(rows)) if rows else None,
        )
    ]


def _audits(
    tree: KernelTree, before: KernelConfig, resolution: Resolution, profile: Profile | None
) -> tuple[Audit, Audit] | None:
    if profile is None:
        return None
    arch = canonical_arch(tree.srcarch) or None
    return (
        audit(Question(before, profile, tree.version, arch)),
        audit(Question(resolution.full, profile, tree.version, arch)),
    )


def _before_after(before: Audit, after: Audit) -> Section:
    rows = tuple(
        (
            f"{level.value} missing",
            str(len(before.lacking(level))),
            str(len(after.lacking(level))),
        )
        for level in Level
    )
    verdict = (("verdict", before.verdict.value, after.verdict.value),)
    return Section("Audit", table=Table(("", "before", "after"), rows + verdict))


def _audit_data(before: Audit, after: Audit) -> dict[str, object]:
    return {
        word: {
            "verdict": result.verdict.value,
            "missing": {
                level.value: [check.symbol.name for check in result.lacking(level)]
                for level in Level
            },
        }
        for word, result in (("before", before), ("after", after))
    }
