"""An audit as a report: the person's half and the machine's half."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from embedkit.commands import kernel_data
from embedkit.kernel import checkconfig, profile_file
from embedkit.kernel.audit import Audit, Check, FeatureResult, State, Verdict, applies
from embedkit.kernel.expression import Grade
from embedkit.kernel.profile import Feature, Group, Level, Subject, Weight
from embedkit.kernel.profile import Section as ProfileSection
from embedkit.report.model import Finding, Report, Section, Status, Table

if TYPE_CHECKING:
    from embedkit.kernel.compare import Comparison, FeatureChange, SymbolChange
    from embedkit.kernel.runtime import RuntimeCheck

# Symbol → the features that it serves.
Uses = dict[str, list[Feature]]

VERDICT_STATUS = {
    Verdict.RUNS: Status.OK,
    Verdict.LIMITS: Status.WARN,
    Verdict.FAILS: Status.FAIL,
    Verdict.UNDECIDED: Status.UNKNOWN,
}
_LACKING_STATUS = {
    Level.NECESSARY: Status.FAIL,
    Level.RECOMMENDED: Status.WARN,
    Level.OPTIONAL: Status.INFO,
}


def build(
    audit: Audit,
    bar: Level,
    *,
    runtime: tuple[RuntimeCheck, ...] = (),
    comparison: Comparison | None = None,
    fail_on_worse: bool = False,
    source: str = "",
) -> Report:
    """The report of an audit, of the running system where given, and of what changed.

    ``source`` is the config's file, for those who show findings beside it.
    """
    failed = audit.failed(bar) or any(not check.good and check.counts for check in runtime)
    if fail_on_worse and comparison is not None:
        failed = comparison.worse
    sections = requirements(audit)
    if runtime:
        findings = tuple(_runtime(check) for check in runtime)
        sections.append(Section("Running system", findings=findings))
    if comparison is not None:
        sections.append(_comparison(comparison))
    sections.append(summary(audit))
    return Report(
        command="check-kernel",
        title=f"Kernel audit for {audit.question.profile.title}",
        verdict=verdict(audit),
        status=VERDICT_STATUS[audit.verdict],
        exit_code=1 if failed else 0,
        facts=tuple(_facts(audit)),
        sections=tuple(section for section in sections if _has_content(section)),
        notes=tuple(_notes(audit)),
        data=kernel_data.build(audit, runtime, comparison),
        source=source,
        renderings={"checkconfig": lambda: checkconfig.render(audit)},
    )


def requirements(audit: Audit) -> list[Section]:
    """The features, and the profile's sections with every requirement."""
    features = tuple(_feature(result, audit) for result in audit.features)
    profile = audit.question.profile
    uses = profile.uses()
    sections = [_section(section, audit, uses) for section in profile.sections]
    return [Section("Features", findings=features), *sections]


def profile_list(subject: Subject = Subject.KERNEL) -> Report:
    """The profiles there are."""
    rows = []
    for name, path in profile_file.available(subject).items():
        profile = profile_file.load(name, subject)
        rows.append((name, profile.title, str(path)))
    return Report(
        command="check-kernel",
        title="Profiles",
        verdict=f"{len(rows)} profiles",
        status=Status.OK,
        sections=(Section("Profiles", table=Table(("name", "for", "file"), tuple(rows))),),
        data={"profiles": [{"name": r[0], "title": r[1], "path": r[2]} for r in rows]},
    )


def _has_content(section: Section) -> bool:
    return bool(section.findings or section.sections or section.text or section.table)


def verdict(audit: Audit) -> str:
    """The answer in one sentence."""
    title = audit.question.profile.title
    fatal = audit.verdict is Verdict.FAILS
    blocked = [
        result.feature.title
        for result in audit.features
        if result.grade is Grade.NO
        and result.weight is not Weight.EXTRA
        and (result.weight is Weight.CORE or not fatal)
    ]
    if not blocked:
        prefix = audit.question.config.prefix
        blocked = [f"{prefix}{check.symbol.name}" for check in audit.lacking(Level.NECESSARY)]
    match audit.verdict:
        case Verdict.RUNS:
            return f"{title} will run"
        case Verdict.LIMITS:
            return f"{title} will run with limits; lacking: {_listed(blocked)}"
        case Verdict.FAILS:
            return f"{title} will not run; lacking: {_listed(blocked)}"
        case Verdict.UNDECIDED:
            return f"undecided: this config does not tell whether {title} will run"


def _facts(audit: Audit) -> list[tuple[str, str]]:
    config = audit.question.config
    version = config.release or "unknown version"
    if audit.question.version is not None:
        version = f"{audit.question.version} (as given)"
    arch = audit.arch or "unknown architecture"
    kind = "full" if config.is_full else "minimal (a defconfig or fragment)"
    profile = audit.question.profile
    return [
        ("config", config.origin),
        ("kernel", f"Linux {version}, {arch}"),
        ("kind", f"{kind}, {len(config.values)} symbols"),
        ("profile", f"{profile.name} ({profile.source})"),
    ]


def _notes(audit: Audit) -> list[str]:
    config = audit.question.config
    notes = []
    if not config.is_full:
        notes.append(
            "a minimal config decides only what it names; expand it on its kernel tree "
            "(make ARCH=… olddefconfig, or embedkit patch-kernel --tree DIR --config FILE) "
            "and audit the result"
        )
    if audit.version is None:
        notes.append(
            "this config does not say its kernel version, so what depends on the version is "
            "undecided; give --kernel-version X.Y"
        )
    for duplicate in config.duplicates[:5]:
        notes.append(
            f"CONFIG_{duplicate.symbol} is given twice: line {duplicate.line} "
            f"({duplicate.value}) wins over line {duplicate.earlier_line} "
            f"({duplicate.earlier_value})"
        )
    if len(config.duplicates) > 5:
        notes.append(f"{len(config.duplicates) - 5} more symbols are given twice")
    if any(c.state is State.MODULE for c in audit.checks) and audit.question.modules is None:
        notes.append(
            "options that are modules help only if the modules are on the board: "
            "--modules ROOTFS checks that they are"
        )
    return notes


def _feature(result: FeatureResult, audit: Audit) -> Finding:
    state = result.grade.word
    if result.lacking:
        missing = [symbol for symbol in result.lacking if symbol not in result.absent]
        word = "missing" if result.grade is Grade.NO else "not named in this config"
        parts = ((missing, word), (result.absent, _absent(audit)))
        state += " — " + "; ".join(f"{_listed(names)} {said}" for names, said in parts if names)
    if result.grade >= Grade.MODULE:
        status = Status.OK
    elif result.weight is Weight.EXTRA:
        status = Status.INFO
    elif result.grade is Grade.UNKNOWN:
        status = Status.UNKNOWN
    else:
        status = Status.FAIL if result.weight is Weight.CORE else Status.WARN
    return Finding(
        id=f"feature:{result.feature.name}",
        status=status,
        label=result.feature.title,
        state=state,
        detail=result.remark,
        level=result.weight.value,
    )


def _absent(audit: Audit) -> str:
    is_kernel = audit.question.profile.subject is Subject.KERNEL
    return State.NOT_IN_KERNEL.value if is_kernel else "not in this Buildroot"


def _listed(names: Sequence[str], most: int = 6) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _section(section: ProfileSection, audit: Audit, uses: Uses) -> Section:
    checks = [check for check in audit.checks if check.section is section]
    if not section.drivers:
        return Section(section.title, findings=_findings(section.groups, checks, audit, uses))
    drivers = dict.fromkeys(group.driver for group in section.groups)
    return Section(
        section.title,
        sections=tuple(
            Section(
                driver,
                findings=_findings(
                    tuple(group for group in section.groups if group.driver == driver),
                    checks,
                    audit,
                    uses,
                ),
            )
            for driver in drivers
        ),
    )


def _findings(
    groups: tuple[Group, ...], checks: list[Check], audit: Audit, uses: Uses
) -> tuple[Finding, ...]:
    found: dict[str, Finding] = {}
    for group in groups:
        mine = [check for check in checks if check.group is group]
        remark = " ".join(
            line
            for note in group.notes
            if mine and applies(note, audit.question.config)
            for line in note.text
        )
        for check in mine:
            last = check is mine[-1]
            found.setdefault(
                check.symbol.name, _finding(check, audit, uses, remark if last else "")
            )
    return tuple(found.values())


def _finding(check: Check, audit: Audit, uses: Uses, remark: str) -> Finding:
    symbol = check.symbol
    name = f"{audit.question.config.prefix}{symbol.name}"
    state = _absent(audit) if check.state is State.NOT_IN_KERNEL else check.state.value
    state += f" ({check.remark})" if check.remark else ""
    if check.lacking:
        status = _LACKING_STATUS[check.level]
    elif check.undecided:
        status = Status.UNKNOWN if check.level is Level.NECESSARY else Status.INFO
    elif check.bad:
        status = Status.WARN
    elif check.state in (State.NOT_IN_KERNEL, State.COVERED):
        status = Status.SKIP
    else:
        status = Status.OK
    detail = symbol.why
    if symbol.symptom:
        detail += f"\nWithout it: {symbol.symptom}"
    if symbol.security:
        detail += "\nThis is about security, not about whether containers run."
    if remark:
        detail += f"\n{remark}"
    return Finding(
        id=name,
        status=status,
        label=name,
        state=state,
        detail=detail.strip(),
        hint=_hint(check, audit, uses),
        level=check.level.value,
    )


def _hint(check: Check, audit: Audit, uses: Uses) -> str:
    name = f"{audit.question.config.prefix}{check.symbol.name}"
    if check.state is State.MODULE_ABSENT:
        return f"install the modules of this very kernel, or set {name}=y"
    if check.state is not State.MISSING:
        return ""
    features = [feature.title for feature in uses.get(check.symbol.name, ())]
    used = f" (for {', '.join(features[:3])})" if features else ""
    return f"set {name}=y{used}"


def _runtime(check: RuntimeCheck) -> Finding:
    bad = Status.FAIL if check.counts else Status.INFO
    return Finding(
        id=f"runtime:{check.name}",
        status=Status.OK if check.good else bad,
        label=check.name,
        state=check.state,
        detail=check.detail,
        hint="" if check.good else check.hint,
    )


def summary(audit: Audit) -> Section:
    """How many of each level stand how."""
    rows = []
    for level in Level:
        checks = {c.symbol.name: c for c in audit.checks if c.level is level}
        if not checks:
            continue
        states = [check.state for check in checks.values()]
        there = sum(state in (State.BUILT_IN, State.MODULE) for state in states)
        needless = sum(state in (State.COVERED, State.NOT_IN_KERNEL) for state in states)
        row = (there, len(audit.lacking(level)), len(audit.undecided(level)), needless)
        rows.append((level.value, *(str(number) for number in row)))
    return Section(
        "Summary",
        table=Table(("", "there", "missing", "undecided", "not needed here"), tuple(rows)),
    )


def _comparison(comparison: Comparison) -> Section:
    status = {1: Status.OK, 0: Status.INFO, -1: Status.WARN}

    def finding(change: SymbolChange | FeatureChange) -> Finding:
        id = f"change:{change.name}"
        return Finding(id, status[change.direction], change.name, f"{change.was} → {change.now}")

    changes: tuple[SymbolChange | FeatureChange, ...] = (
        *comparison.features,
        *comparison.symbols,
    )
    titles = ((1, "Better"), (-1, "Worse"), (0, "Different"))
    parts = tuple(
        Section(title, findings=tuple(finding(c) for c in changes if c.direction == direction))
        for direction, title in titles
    )
    origin = comparison.before.question.config.origin
    return Section(
        f"Against {origin}",
        text="" if changes else "nothing that this profile asks for stands otherwise",
        sections=tuple(part for part in parts if part.findings),
    )
