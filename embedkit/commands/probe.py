"""``embedkit probe``: what a target is, and whether Docker will run on it."""

from __future__ import annotations

import argparse
import dataclasses
from typing import TYPE_CHECKING, Any

from embedkit.commands.targeting import add_target_arguments, connected
from embedkit.report.model import Finding, Report, Section, Status, Table
from embedkit.target.facts import Facts
from embedkit.target.preflight import Concern, Weight, judge
from embedkit.ui import Ui
from embedkit.units import format_size

if TYPE_CHECKING:
    from embedkit.kernel.audit import Audit


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    add_target_arguments(parser)
    parser.add_argument(
        "--profile",
        default="docker",
        metavar="NAME",
        help="the profile that the board's kernel config is audited against (default: docker)",
    )
    parser.add_argument("--no-audit", action="store_true", help="leave the kernel config alone")


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Asks, judges and reports. Exit code 1 where something speaks against Docker."""
    from embedkit.kernel import profile_file
    from embedkit.kernel.running import audit_running

    with connected(args, ui) as target:
        facts = target.facts()
        profile = None if args.no_audit else profile_file.load(args.profile)
        audit = None if profile is None else audit_running(target, facts, profile)
        name, address = target.name, target.address
    return build(name, address, facts, audit)


def build(name: str, address: str, facts: Facts, audit: Audit | None) -> Report:
    """The report of a probe."""
    concerns = judge(facts)
    weights = {concern.weight for concern in concerns}
    kernel = audit.verdict.value if audit is not None else ""
    if Weight.FAIL in weights or kernel == "fails":
        status, verdict = Status.FAIL, "Docker will not run here as it is"
    elif Weight.WARN in weights or kernel == "limits":
        status, verdict = Status.WARN, "Docker will run here, with limits"
    else:
        status, verdict = Status.OK, "ready for Docker"
    bad = [c.label for c in concerns if c.weight is Weight.FAIL]
    if kernel == "fails":
        bad.append("kernel config")
    if bad:
        verdict += f": {', '.join(bad)}"
    sections = [Section("Preflight", findings=tuple(_finding(concern) for concern in concerns))]
    if audit is not None:
        sections.append(_kernel(audit))
    sections.append(_filesystems(facts))
    return Report(
        command="probe",
        title=f"Probe of {name}",
        verdict=verdict,
        status=status,
        exit_code=1 if status is Status.FAIL else 0,
        facts=tuple(_facts(address, facts)),
        sections=tuple(sections),
        data=_data(address, facts, concerns, audit),
    )


def _facts(address: str, facts: Facts) -> list[tuple[str, str]]:
    platform = facts.platform
    arch = f"{platform.arch}/{platform.variant}" if platform.variant else platform.arch
    floats = {True: ", hard float", False: ", soft float", None: ""}[platform.hard_float]
    memory = "unknown" if facts.memory_bytes is None else format_size(facts.memory_bytes)
    if facts.memory_available_bytes is not None:
        memory += f", {format_size(facts.memory_available_bytes)} available"
    rows = [
        ("target", f"{address} ({facts.hostname or 'no host name'})"),
        ("system", facts.os_name or "unknown"),
        ("kernel", f"Linux {facts.kernel_release or '?'} {platform.machine}"),
        (
            "processor",
            f"{arch or 'unknown'}{floats}, {platform.cpus or '?'} × {platform.cpu or '?'}",
        ),
        ("memory", memory),
        ("init", facts.init.value),
        ("cgroups", facts.cgroups.version.value),
    ]
    if facts.docker.dockerd:
        rows.append(("Docker", f"{facts.docker.version} ({facts.docker.dockerd})"))
    return rows


def _finding(concern: Concern) -> Finding:
    return Finding(
        id=concern.id,
        status=Status(concern.weight.value),
        label=concern.label,
        state=concern.state,
        detail=concern.detail,
        hint=concern.hint,
    )


def _kernel(audit: Audit) -> Section:
    """Only what is missing: the whole audit is ``check-kernel``'s."""
    from embedkit.commands.kernel_report import build as build_kernel
    from embedkit.kernel.profile import Level
    from embedkit.report.model import walk_findings

    report = build_kernel(audit, Level.NECESSARY)
    bad: dict[str, Finding] = {}
    for _, finding in walk_findings(report):
        if finding.status in (Status.FAIL, Status.WARN) and finding.id.startswith("CONFIG_"):
            bad.setdefault(finding.id, finding)
    order = {Status.FAIL: 0, Status.WARN: 1}
    findings = (
        Finding("kernel", report.status, "kernel config", report.verdict),
        *sorted(bad.values(), key=lambda finding: order[finding.status]),
    )
    return Section(f"Kernel ({audit.question.profile.title})", findings=findings)


def _filesystems(facts: Facts) -> Section:
    rows = []
    for fs in facts.filesystems:
        if fs.size_bytes:
            rows.append(
                (
                    fs.mount,
                    fs.type + (" (read-only)" if fs.read_only else ""),
                    format_size(fs.size_bytes),
                    "?" if fs.available_bytes is None else format_size(fs.available_bytes),
                    "?" if fs.inodes_free is None else str(fs.inodes_free),
                )
            )
    columns = ("mounted on", "type", "size", "free", "inodes free")
    return Section("Filesystems", table=Table(columns, tuple(rows)))


def _data(
    address: str, facts: Facts, concerns: tuple[Concern, ...], audit: Audit | None
) -> dict[str, Any]:
    plain = dataclasses.asdict(facts)
    plain["tools"] = sorted(facts.tools)
    plain["devices"] = sorted(facts.devices)
    plain["platform"]["static_arch"] = facts.platform.static_arch
    data: dict[str, Any] = {
        "target": address,
        "facts": plain,
        "concerns": [dataclasses.asdict(concern) for concern in concerns],
        "kernel": None,
    }
    if audit is not None:
        from embedkit.commands import kernel_data

        data["kernel"] = kernel_data.build(audit, (), None)
    return data
