"""An audit in the words and the line order of Docker's ``contrib/check-config.sh``.

For scripts that already read that output. What the script asks of the host it runs on
(cgroup mounts, sysctl, zfs, limits) is left out: a config does not tell it.
"""

from __future__ import annotations

from embedkit.kernel.audit import Audit, applies
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.profile import Group, Section


def render(audit: Audit) -> str:
    """The whole text, without colours."""
    config = audit.question.config
    lines = [f"info: reading kernel config from {config.origin} ...", ""]
    gap = False
    for section in audit.question.profile.sections:
        if section.drivers:
            lines += _drivers(section, audit)
            continue
        if gap:
            lines.append("")
        gap = True
        lines.append(f"{section.title}:")
        for group in _open_groups(section, audit):
            lines += _group(group, config)
    return "\n".join(lines) + "\n"


def _open_groups(section: Section, audit: Audit) -> list[Group]:
    """The groups that the script would look at: without a version, all gates count as open."""
    return [
        group
        for group in section.groups
        if (audit.version is None or group.kernel.holds(audit.version))
        and not (group.unless and audit.question.config.enabled(group.unless))
    ]


def _drivers(section: Section, audit: Audit) -> list[str]:
    lines = [f"- {section.title}:"]
    driver = heading = ""
    for group in _open_groups(section, audit):
        if group.driver != driver:
            driver, heading = group.driver, ""
            lines.append(f'  - "{driver}":')
        if group.heading and group.heading != heading:
            heading = group.heading
            lines.append(f"      {heading}:")
        indent = " " * (6 if group.heading else 4)
        lines += [indent + line for line in _group(group, audit.question.config)]
    return lines


def _group(group: Group, config: KernelConfig) -> list[str]:
    if group.first:
        on = [symbol for symbol in group.symbols if config.enabled(symbol)]
        lines = [f"- CONFIG_{symbol}: enabled" for symbol in on[:1]]
    else:
        lines = [f"- CONFIG_{symbol}: {_word(symbol, config)}" for symbol in group.symbols]
    for note in group.notes:
        if applies(note, config) and (not group.first or on[:1] == list(note.set[:1])):
            lines += [f"    {line}" for line in note.text]
    return lines


def _word(symbol: str, config: KernelConfig) -> str:
    raw = config.values.get(symbol)
    return {"y": "enabled", "m": "enabled (as module)"}.get(raw or "", "missing")
