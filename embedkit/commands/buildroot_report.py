"""An audit of Buildroot's configuration as a report."""

from __future__ import annotations

from typing import Any

from embedkit.commands import kernel_data, kernel_report
from embedkit.kernel.audit import Verdict
from embedkit.kernel.buildroot import Buildroot
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.profile import Level
from embedkit.kernel.userland import SizeCheck, Source, Userland
from embedkit.report.model import Finding, Report, Section, Status

_SMALL = {Level.NECESSARY: Status.FAIL, Level.RECOMMENDED: Status.WARN, Level.OPTIONAL: Status.INFO}
_WAY = {
    Source.BUNDLE: "a static bundle, installed on the running board",
    Source.PACKAGES: "Buildroot's own packages",
}


def build(
    result: Userland, bar: Level, build: Buildroot | None, notes: tuple[str, ...] = ()
) -> Report:
    """The report; exit code 1 where the bar is not reached."""
    audit = result.audit
    config = audit.question.config
    sections = kernel_report.requirements(audit)
    if result.sizes:
        sections.append(Section("Sizes", findings=tuple(_size(check) for check in result.sizes)))
    sections.append(kernel_report.summary(audit))
    verdict, status = kernel_report.verdict(audit), kernel_report.VERDICT_STATUS[audit.verdict]
    small = [check.size.symbol for check in result.sizes if not check.good]
    if small and audit.verdict in (Verdict.RUNS, Verdict.LIMITS):
        status = Status.FAIL
        verdict = f"{audit.question.profile.title} will not fit; too small: {', '.join(small)}"
    return Report(
        command="check-buildroot",
        title="Buildroot audit for Docker",
        verdict=verdict,
        status=status,
        exit_code=1 if result.failed(bar) else 0,
        facts=(
            ("config", config.origin),
            ("buildroot", config.release or (build.version if build else "") or "unknown version"),
            ("kind", "full" if config.is_full else "minimal (a defconfig)"),
            ("docker comes as", _WAY[result.source]),
            ("profile", f"{audit.question.profile.name} ({audit.question.profile.source})"),
        ),
        sections=tuple(s for s in sections if s.findings or s.sections or s.table),
        notes=(*_notes(config, build), *notes),
        data=_data(result),
    )


def _size(check: SizeCheck) -> Finding:
    needed = f"{check.size.at_least_bytes >> 20} MiB"
    if check.bytes is None:
        state = f"'{check.raw}' is not a size" if check.raw else "not given"
    else:
        state = check.raw if check.good else f"{check.raw}, needs {needed}"
    detail = check.size.why
    if check.size.symptom:
        detail += f"\nWithout it: {check.size.symptom}"
    return Finding(
        id=check.size.symbol,
        status=Status.OK if check.good else _SMALL[check.size.level],
        label=check.size.symbol,
        state=state,
        detail=detail,
        hint="" if check.good else check.size.hint,
        level=check.size.level.value,
    )


def _notes(config: KernelConfig, build: Buildroot | None) -> list[str]:
    found = []
    if not config.is_full:
        found.append(
            "a defconfig names only what is not default; check the .config that "
            "'make NAME_defconfig' writes, or give --tree BUILDROOT to have it expanded"
        )
    if build is not None and config.values.get("BR2_LINUX_KERNEL") == "y":
        found.append(
            f"the kernel has a config of its own: embedkit check-kernel {build.output}, and "
            f"embedkit patch-kernel --buildroot {build.output}"
        )
    return found


def _data(result: Userland) -> dict[str, Any]:
    data = kernel_data.build(result.audit, (), None)
    kernel = data.pop("kernel")
    data.pop("runtime")
    data["buildroot"] = {"release": kernel["release"], "arch": kernel["arch"]}
    data["docker_from"] = result.source.value
    data["sizes"] = [
        {
            "symbol": check.size.symbol,
            "value": check.raw or None,
            "bytes": check.bytes,
            "at_least_bytes": check.size.at_least_bytes,
            "level": check.size.level.value,
            "good": check.good,
        }
        for check in result.sizes
    ]
    return data
