"""What was transferred, as a report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

from embedkit.report.model import Finding, Report, Section, Status
from embedkit.target.base import Transfer
from embedkit.units import format_seconds, format_size


def build(command: str, name: str, done: Sequence[Transfer]) -> Report:
    """The report of ``put`` and ``get``."""
    findings = tuple(_finding(transfer) for transfer in done)
    sent = sum(not transfer.skipped for transfer in done)
    same = len(done) - sent
    verdict = f"{sent} moved and compared" if sent else "nothing to do"
    if same:
        verdict += f", {same} there already"
    return Report(
        command=command,
        title=f"{command} {name}",
        verdict=verdict,
        status=Status.OK,
        sections=(Section("Files", findings=findings),),
        data={"target": name, "files": [asdict(transfer) for transfer in done]},
    )


def _finding(transfer: Transfer) -> Finding:
    if transfer.skipped:
        state = f"the same already ({transfer.digest[:23]}…)"
    else:
        rate = format_size(int(transfer.size_bytes / max(transfer.seconds, 1e-3)))
        state = (
            f"{format_size(transfer.size_bytes)} in {format_seconds(transfer.seconds)} "
            f"({rate}/s, {transfer.way}), {transfer.digest[:23]}…"
        )
        if transfer.resumed_at_bytes:
            state += f", went on at {format_size(transfer.resumed_at_bytes)}"
        if transfer.interruptions:
            state += f", {transfer.interruptions} interruptions"
    return Finding(id=transfer.path, status=Status.OK, label=transfer.path, state=state)
