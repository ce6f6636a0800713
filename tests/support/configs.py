"""Kernel configs for tests, made from what a profile knows."""

from __future__ import annotations

from collections.abc import Iterable

from embedkit.kernel import profile_file
from embedkit.kernel.audit import Audit, Check, Question, audit
from embedkit.kernel.config import KernelConfig


def header(release: str = "6.1.55", arch: str = "arm") -> str:
    """The head of a full config."""
    return (
        "#\n# Automatically generated file; DO NOT EDIT.\n"
        f"# Linux/{arch} {release} Kernel Configuration\n#\n"
    )


def everything(profile: str = "docker", *, value: str = "y", release: str = "6.1.55") -> str:
    """A full config that has every symbol the profile speaks of."""
    loaded = profile_file.load(profile)
    symbols = dict.fromkeys(s for sec in loaded.sections for g in sec.groups for s in g.symbols)
    symbols.update(dict.fromkeys(loaded.symbols))
    # On a real kernel at most one of these is on.
    names = [s for s in symbols if not s.startswith("LEGACY_VSYSCALL")]
    return header(release) + "".join(f"CONFIG_{name}={value}\n" for name in names)


def without(text: str, symbols: Iterable[str]) -> str:
    """``text`` with these symbols off."""
    return KernelConfig(text).with_values(dict.fromkeys(symbols, "n")).text


def check(result: Audit, symbol: str) -> Check:
    """The first requirement of ``symbol``."""
    return next(check for check in result.checks if check.symbol.name == symbol)


def audited(text: str, profile: str = "docker", **question: object) -> Audit:
    """The audit of ``text``."""
    return audit(Question(KernelConfig(text), profile_file.load(profile), **question))  # type: ignore[arg-type]
