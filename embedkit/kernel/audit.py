"""Holds a kernel config against a profile: what is there, what is missing, what it means.

The verdict on features decides whether the engine will run; the levels of the requirements
decide whether the check passes. A symbol that this kernel version or architecture does not
have is never missing, and nothing is missing from a config that does not decide it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import NamedTuple, Protocol

from embedkit.errors import InputError, did_you_mean
from embedkit.kernel.config import KernelConfig, KernelVersion, Value
from embedkit.kernel.expression import Grade, Name, Outcome, evaluate
from embedkit.kernel.profile import (
    Feature,
    Group,
    Level,
    Note,
    Profile,
    Section,
    Symbol,
    Versions,
    Weight,
)


class ModuleSet(Protocol):
    """The kernel modules of a root file system."""

    def has(self, module: str) -> bool:
        """Whether the module's file is there and modules.dep knows it."""


class State(StrEnum):
    """How a required symbol stands."""

    BUILT_IN = "enabled"
    MODULE = "enabled (as module)"
    MODULE_ABSENT = "enabled (as module), but the module is not there"
    MISSING = "missing"
    COVERED = "missing, but not needed"
    NOT_IN_KERNEL = "not in this kernel"
    UNDECIDED = "undecided"


_LACKING = (State.MISSING, State.MODULE_ABSENT)


class Question(NamedTuple):
    """What is to be held against what. ``version`` and ``arch`` override the config's own."""

    config: KernelConfig
    profile: Profile
    version: KernelVersion | None = None
    arch: str | None = None
    modules: ModuleSet | None = None
    required_features: tuple[str, ...] = ()


class Check(NamedTuple):
    """One requirement and how it stands. ``remark`` says more about the state."""

    symbol: Symbol
    section: Section
    group: Group
    level: Level
    state: State
    remark: str = ""
    bad: bool = False

    @property
    def lacking(self) -> bool:
        """Whether the kernel falls short here."""
        return self.state in _LACKING

    @property
    def undecided(self) -> bool:
        """Whether the config does not say (a minimal config, or an unknown kernel version)."""
        return self.state is State.UNDECIDED


class FeatureResult(NamedTuple):
    """How a feature stands, and what stands in its way.

    ``lacking`` are the symbols it wants for; ``absent`` those of them that this kernel does
    not have at all.
    """

    feature: Feature
    weight: Weight
    grade: Grade
    lacking: tuple[str, ...]
    absent: tuple[str, ...] = ()
    remark: str = ""


class Verdict(StrEnum):
    """The overall answer."""

    RUNS = "runs"
    LIMITS = "limits"
    FAILS = "fails"
    UNDECIDED = "undecided"


class Audit(NamedTuple):
    """The result. ``checks`` stand in the profile's order, duplicates included."""

    question: Question
    version: KernelVersion | None
    arch: str | None
    checks: tuple[Check, ...]
    features: tuple[FeatureResult, ...]

    @property
    def verdict(self) -> Verdict:
        """Whether the engine will run on this kernel."""
        core = [result for result in self.features if result.weight is Weight.CORE]
        if any(result.grade is Grade.NO for result in core):
            return Verdict.FAILS
        if any(result.grade is Grade.UNKNOWN for result in core):
            return Verdict.UNDECIDED
        weak = (Weight.NECESSARY, Weight.LIMITS)
        if self.lacking(Level.NECESSARY) or any(
            result.weight in weak and result.grade is Grade.NO for result in self.features
        ):
            return Verdict.LIMITS
        return Verdict.RUNS

    def lacking(self, level: Level) -> tuple[Check, ...]:
        """The requirements of just this level that the kernel falls short of, each once."""
        return self._once(level, lambda check: check.lacking)

    def undecided(self, level: Level) -> tuple[Check, ...]:
        """The requirements of just this level that the config leaves open, each once."""
        return self._once(level, lambda check: check.undecided)

    def _once(self, level: Level, wanted: Callable[[Check], bool]) -> tuple[Check, ...]:
        found = {c.symbol.name: c for c in self.checks if c.level is level and wanted(c)}
        return tuple(found.values())

    def failed(self, bar: Level = Level.NECESSARY) -> bool:
        """Whether the check fails: something of this level or above is not certainly there.

        A minimal config that leaves something necessary open fails too: it is no proof.
        """
        levels = list(Level)[: list(Level).index(bar) + 1]
        if any(self.lacking(level) for level in levels):
            return True
        if not self.question.config.is_full and any(self.undecided(level) for level in levels):
            return True
        needed = (Weight.CORE, Weight.NECESSARY)
        return any(result.weight in needed and result.grade is Grade.NO for result in self.features)


def audit(question: Question) -> Audit:
    """Answers ``question``.

    Raises InputError where ``required_features`` names a feature that the profile lacks.
    """
    profile = question.profile
    for name in question.required_features:
        if name not in profile.features:
            raise InputError(
                f"profile '{profile.name}' has no feature '{name}'",
                hint=did_you_mean(name, profile.features)
                or f"known: {', '.join(profile.features)}",
            )
    return _Auditor(question).audit()


class _Auditor:
    def __init__(self, question: Question) -> None:
        self.question = question
        self.config = question.config
        self.profile = question.profile
        self.version = question.version or question.config.version
        self.arch = question.arch or question.config.arch
        self.outcomes: dict[str, Outcome] = {}
        # Asked for by name, a feature's symbols are needed even where another would serve.
        self.insisted = {
            symbol
            for feature in question.required_features
            for symbol in self.profile.feature_symbols(feature)
        }

    def audit(self) -> Audit:
        checks = tuple(
            check for section in self.profile.sections for check in self._checks(section)
        )
        features = tuple(self._features())
        return Audit(self.question, self.version, self.arch, checks, features)

    def _said(self, versions: Versions) -> str:
        return versions.words(self.profile.subject.product)

    # -- symbols ---------------------------------------------------------------------------

    def _state(self, symbol: Symbol) -> tuple[State, str]:
        """How ``symbol`` stands by itself, whoever asks."""
        value = self.config.value(symbol.name)
        if value is Value.BUILT_IN:
            return State.BUILT_IN, ""
        if value is Value.MODULE:
            return self._module_state(symbol)
        if self.arch and symbol.arch and self.arch not in symbol.arch:
            return State.NOT_IN_KERNEL, f"only on {', '.join(symbol.arch)}"
        if self.version and symbol.exists.is_after(self.version):
            return State.NOT_IN_KERNEL, f"exists only {self._said(symbol.exists)}"
        if self.version and symbol.exists.is_before(self.version):
            return self._old_state(symbol, self.version)
        if value is Value.UNKNOWN:
            return State.UNDECIDED, "a minimal config does not say"
        if self.version is None and symbol.exists:
            return (
                State.UNDECIDED,
                f"exists {self._said(symbol.exists)}, and the version is unknown",
            )
        if self.arch is None and symbol.arch:
            return State.UNDECIDED, f"only on {', '.join(symbol.arch)}, and the arch is unknown"
        return State.MISSING, ""

    def _old_state(self, symbol: Symbol, version: KernelVersion) -> tuple[State, str]:
        """How it stands in a kernel that comes before it: under an old name, if it had one."""
        for old in symbol.was:
            if not self.profile.symbol(old).exists.holds(version):
                continue
            value = self.config.value(old)
            remark = f"under its old name {self.config.prefix}{old}"
            if value in (Value.BUILT_IN, Value.MODULE):
                return (State.BUILT_IN if value is Value.BUILT_IN else State.MODULE), remark
            return (State.UNDECIDED if value is Value.UNKNOWN else State.MISSING), remark
        return State.NOT_IN_KERNEL, f"exists {self._said(symbol.exists)}"

    def _module_state(self, symbol: Symbol) -> tuple[State, str]:
        modules = self.question.modules
        if modules is None or not symbol.module or modules.has(symbol.module):
            return State.MODULE, symbol.module
        return State.MODULE_ABSENT, f"{symbol.module}.ko is not among the modules given"

    # -- requirements ----------------------------------------------------------------------

    def _checks(self, section: Section) -> Iterator[Check]:
        for group in section.groups:
            if self.version is not None and not group.kernel.holds(self.version):
                continue
            if group.unless and self.config.enabled(group.unless):
                continue
            if group.first:
                yield from self._first(section, group)
                continue
            for name in group.symbols:
                yield self._check(section, group, name)

    def _first(self, section: Section, group: Group) -> Iterator[Check]:
        for name in group.symbols:
            if self.config.enabled(name):
                symbol = self.profile.symbol(name)
                bad = name in group.bad
                yield Check(symbol, section, group, group.level, State.BUILT_IN, bad=bad)
                return

    def _check(self, section: Section, group: Group, name: str) -> Check:
        symbol = self.profile.symbol(name)
        state, remark = self._state(symbol)
        level = Level.NECESSARY if name in self.insisted else group.level
        if state in (State.MISSING, State.UNDECIDED) and self.version is None and group.kernel:
            state = State.UNDECIDED
            remark = f"needed {self._said(group.kernel)}, and the version is unknown"
        elif state in _LACKING and symbol.instead and name not in self.insisted:
            other = self._feature(symbol.instead)
            if other.grade in (Grade.YES, Grade.MODULE):
                title = self.profile.features[symbol.instead].title
                state, remark = State.COVERED, f"{title} serves instead"
        return Check(symbol, section, group, level, state, remark)

    # -- features --------------------------------------------------------------------------

    def _features(self) -> Iterator[FeatureResult]:
        for weight in Weight:
            for name, own in self.profile.weights.items():
                insisted = name in self.question.required_features
                if (Weight.CORE if insisted else own) is not weight:
                    continue
                yield self._result(name, weight)
        for name in self.question.required_features:
            if name not in self.profile.weights:
                yield self._result(name, Weight.CORE)

    def _result(self, name: str, weight: Weight) -> FeatureResult:
        feature = self.profile.features[name]
        outcome = self._feature(name)
        if not outcome.lacking and outcome.grade is Grade.NO:
            return FeatureResult(
                feature, weight, Grade.NO, (), remark=f"possible only {self._said(feature.kernel)}"
            )
        states = {name: self._state(self.profile.symbol(name)) for name in outcome.lacking}
        absent = tuple(name for name, (state, _) in states.items() if state is State.NOT_IN_KERNEL)
        remarks = dict.fromkeys(
            f"{self.config.prefix}{name}: {text}"
            for name, (state, text) in states.items()
            if state is not State.MISSING and state is not State.UNDECIDED and text
        )
        return FeatureResult(
            feature, weight, outcome.grade, outcome.lacking, absent, "; ".join(remarks)
        )

    def _feature(self, name: str) -> Outcome:
        if name not in self.outcomes:
            feature = self.profile.features[name]
            if self.version is not None and not feature.kernel.holds(self.version):
                self.outcomes[name] = Outcome(Grade.NO)
            else:
                self.outcomes[name] = evaluate(feature.needs, self._lookup)
        return self.outcomes[name]

    def _lookup(self, name: Name) -> Outcome:
        if name.feature:
            return self._feature(name.name)
        symbol = self.profile.symbol(name.name)
        state, _ = self._state(symbol)
        if state is State.BUILT_IN:
            return Outcome(Grade.YES)
        if state is State.MODULE:
            return Outcome(Grade.MODULE)
        if state is State.UNDECIDED:
            return Outcome(Grade.UNKNOWN, (name.name,))
        if state is State.NOT_IN_KERNEL and self._needless(symbol):
            return Outcome(Grade.MOOT)
        return Outcome(Grade.NO, (name.name,))

    def _needless(self, symbol: Symbol) -> bool:
        """Whether a kernel without the symbol does by itself what the symbol is for."""
        if self.version is None or not symbol.exists.is_before(self.version):
            return True
        return symbol.implied_before


def applies(note: Note, config: KernelConfig) -> bool:
    """Whether the note's lines belong under its group for this config."""
    return (
        all(config.enabled(symbol) for symbol in note.set)
        and not any(config.enabled(symbol) for symbol in note.unset)
        and (not note.any_unset or not all(config.enabled(symbol) for symbol in note.any_unset))
    )
