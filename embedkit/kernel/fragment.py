"""A plan as files: a fragment with reasons, a diff, and what machines read."""

from __future__ import annotations

import difflib
import textwrap
from collections.abc import Iterable
from typing import Any

from embedkit.kernel.config import KernelConfig, render_line
from embedkit.kernel.wants import Assignment, Resolution

_WIDTH = 98


def fragment(resolution: Resolution, title: str, kernel: str) -> str:
    """The lines that must be set, by feature, each with its reason above it.

    Ready for ``merge_config.sh``, Buildroot's BR2_LINUX_KERNEL_CONFIG_FRAGMENT_FILES and
    Yocto's ``SRC_URI``: kconfig reads nothing but the assignments.
    """
    lines = [f"# {title}", f"# For {kernel}. Every line is needed; the reason stands above it."]
    for feature, assignments in by_feature(resolution.assignments):
        lines += ["", "#", f"# {feature}", "#"]
        for assignment in assignments:
            lines += _comment(assignment.because)
            lines.append(render_line(assignment.symbol, assignment.raw))
    if not resolution.assignments:
        lines.append("# Nothing needs to be set.")
    if resolution.refused:
        lines += ["", "# Not to be had on this kernel:"]
        for refused in resolution.refused:
            lines += _comment(f"{refused.want.symbol}: {refused.reason}", "#   ")
    return "\n".join(lines) + "\n"


def by_feature(assignments: Iterable[Assignment]) -> list[tuple[str, list[Assignment]]]:
    """The assignments grouped, groups and members in their order."""
    groups: dict[str, list[Assignment]] = {}
    for assignment in assignments:
        groups.setdefault(assignment.feature, []).append(assignment)
    return list(groups.items())


def _comment(text: str, lead: str = "# ") -> list[str]:
    return [lead + line for line in textwrap.wrap(text, _WIDTH - len(lead))] if text else []


def diff(before: KernelConfig, after: KernelConfig, name: str) -> str:
    """A unified diff that ``patch`` applies."""
    return "".join(
        line if line.endswith("\n") else line + "\n\\ No newline at end of file\n"
        for line in difflib.unified_diff(
            before.text.splitlines(keepends=True),
            after.text.splitlines(keepends=True),
            f"a/{name}",
            f"b/{name}",
        )
    )


def data(resolution: Resolution) -> dict[str, Any]:
    """The plan for machines; described in ``docs/json.md``."""
    return {
        "complete": resolution.complete,
        "assignments": [
            {
                "symbol": item.symbol,
                "value": item.value,
                "before": item.before,
                "feature": item.feature,
                "wanted": item.want is not None,
                "needed_by": item.needed_by or None,
                "because": item.because,
                "where": item.where or None,
            }
            for item in resolution.assignments
        ],
        "already": [want.symbol for want in resolution.already],
        "satisfied": [want.symbol for want in resolution.satisfied],
        "refused": [
            {
                "symbol": item.want.symbol,
                "value": item.want.value,
                "level": item.want.level,
                "obstacle": item.obstacle.value,
                "reason": item.reason,
                "allow": list(item.allow),
                "proven": item.proven,
            }
            for item in resolution.refused
        ],
        "changes": [
            {"symbol": item.symbol, "before": item.before, "after": item.after}
            for item in resolution.changes
        ],
    }
