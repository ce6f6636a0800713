"""What a profile promises against what was seen, and the table of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedkit.kernel import audit, compare, explain, message, profile_file
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.profile import Weight
from experiments.builds import Built
from experiments.observe import Line, Seen
from experiments.variants import Variant

_LONGEST = 320


@dataclass(frozen=True)
class Finding:
    """One row. ``line`` is what tells most of what was seen, or None where nothing was; ``named``
    are the symbols that ``embedkit explain`` answers to it."""

    variant: Variant
    fell: tuple[str, ...]
    rose: tuple[str, ...]
    audit: str
    promise: str
    broken: tuple[str, ...]
    line: Line | None
    named: tuple[str, ...]

    @property
    def match(self) -> str:
        """Whether what was seen is what was promised."""
        if self.line is None:
            return "**no**: nothing seen"
        off = [name for name in self.variant.off if name in self.named]
        if not off:
            instead = ", ".join(self.named[:3])
            return "**no**: " + (f"it names {instead}" if instead else "not recognised")
        others = len(self.named) - len(off)
        return f"yes, as {others} more symbols" if others > 1 else "yes"


def finding(variant: Variant, built: Built, control: Built, seen: Seen, usual: Seen) -> Finding:
    """Judges one variant against the kernel from which it was taken away."""
    profile = profile_file.load("docker")
    symbols = [profile.symbol(name) for name in variant.off]
    new = tuple(_new(seen.lines, usual.lines))
    line, named = _telling(new, variant.off)
    broken = tuple(title for title, state in seen.checks if state == "failed")
    return Finding(
        variant, built.fell, built.rose, _audit(variant, built.config, control.config),
        " / ".join(dict.fromkeys(symbol.symptom for symbol in symbols)), broken, line, named,
    )  # fmt: skip


def _new(lines: Iterable[Line], usual: Iterable[Line]) -> Iterable[Line]:
    known = {message.normalise(line.text) for line in usual}
    for line in lines:
        simple = message.normalise(line.text)
        if simple not in known:
            known.add(simple)
            yield line


def _telling(lines: Sequence[Line], off: tuple[str, ...]) -> tuple[Line | None, tuple[str, ...]]:
    """The line that names what is off, best one of Docker's own; else the one that says most."""
    profile = profile_file.load("docker")
    explained = [
        (line, tuple(match.symbol.name for match in explain.by_message(line.text, [profile])))
        for line in sorted(lines, key=_rank)
    ]
    for line, named in explained:
        if set(off) & set(named):
            return line, named
    return explained[0] if explained else (None, ())


def _rank(line: Line) -> int:
    """Less says more: why the daemon ended, what a user is told, the rest of the daemon's log."""
    fatal = "failed to start daemon" in line.text or "level=fatal" in line.text
    if line.where == "dockerd":
        return 0 if fatal else 2 if "level=error" in line.text else 4
    return 1 if line.where.startswith(("proof", "docker")) else 3


def _audit(variant: Variant, config: Path, control: Path) -> str:
    before, after = (_audited(path) for path in (control, config))
    changes = compare.compare(before, after)
    weights = {result.feature.name: result.weight for result in after.features}
    lost = [
        change.name
        for change in changes.features
        if change.direction < 0 and weights[change.after.feature.name] is not Weight.EXTRA
    ]
    named = {change.after.symbol.name for change in changes.symbols if change.direction < 0}
    missed = [name for name in variant.off if name not in named]
    text = "missing" if not missed else f"says nothing of {', '.join(missed)}"
    return f"{text}; {after.verdict.value}" + (f"; lost: {', '.join(lost)}" if lost else "")


def _audited(path: Path) -> audit.Audit:
    config = KernelConfig.from_bytes(path.read_bytes())
    return audit.audit(audit.Question(config, profile_file.load("docker")))


def table(findings: Sequence[Finding]) -> str:
    """Markdown, one row a variant."""
    head = ("taken away", "fell with it", "the audit", "the profile promises", "seen", "match")
    rows = [head, ("---",) * len(head), *(_row(finding) for finding in findings)]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n"


def _row(found: Finding) -> tuple[str, ...]:
    off = "<br>".join(f"`{name}`" for name in found.variant.off)
    if found.variant.cgroups == "v1":
        off += "<br>(cgroup v1)"
    fell = ", ".join(f"`{name}`" for name in found.fell) or "–"
    if found.rose:
        fell += f"; turned on: {', '.join(f'`{name}`' for name in found.rose)}"
    seen = "all works, nothing is said"
    if found.line is not None:
        seen = f"{found.line.where}: {_code(found.line.text)}"
    if found.broken:
        seen = f"fails: {', '.join(found.broken)}.<br>{seen}"
    return off, fell, found.audit, _code(found.promise), seen, found.match


def _code(text: str) -> str:
    short = text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
    fence = "``" if "`" in short else "`"
    return f"{fence} {short} {fence}".replace("|", "\\|") if short else "–"
