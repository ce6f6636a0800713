"""Two audits under the same profile: what got better, what got worse."""

from __future__ import annotations

from typing import NamedTuple

from embedkit.kernel.audit import Audit, Check, FeatureResult, State
from embedkit.kernel.expression import Grade

# A module is as good as built in here: whether it is there is the audit's business.
_RANK = {
    State.BUILT_IN: 2,
    State.MODULE: 2,
    State.COVERED: 2,
    State.NOT_IN_KERNEL: 2,
    State.UNDECIDED: 1,
    State.MODULE_ABSENT: 0,
    State.MISSING: 0,
}
_GRADE_RANK = {Grade.YES: 2, Grade.MODULE: 2, Grade.MOOT: 2, Grade.UNKNOWN: 1, Grade.NO: 0}


class SymbolChange(NamedTuple):
    """A requirement that stands otherwise than before."""

    before: Check
    after: Check

    @property
    def direction(self) -> int:
        """1 better, -1 worse, 0 only different (y against m)."""
        return _sign(_RANK[self.after.state] - _RANK[self.before.state])

    @property
    def name(self) -> str:
        """What changed, for people."""
        return f"CONFIG_{self.after.symbol.name}"

    @property
    def was(self) -> str:
        """How it stood."""
        return self.before.state.value

    @property
    def now(self) -> str:
        """How it stands."""
        return self.after.state.value


class FeatureChange(NamedTuple):
    """A feature that stands otherwise than before."""

    before: FeatureResult
    after: FeatureResult

    @property
    def direction(self) -> int:
        """1 better, -1 worse, 0 only different."""
        return _sign(_GRADE_RANK[self.after.grade] - _GRADE_RANK[self.before.grade])

    @property
    def name(self) -> str:
        """What changed, for people."""
        return self.after.feature.title

    @property
    def was(self) -> str:
        """How it stood."""
        return self.before.grade.word

    @property
    def now(self) -> str:
        """How it stands."""
        return self.after.grade.word


class Comparison(NamedTuple):
    """All changes from ``before`` to ``after``, in the profile's order."""

    before: Audit
    after: Audit
    symbols: tuple[SymbolChange, ...]
    features: tuple[FeatureChange, ...]

    @property
    def worse(self) -> bool:
        """Whether anything got worse."""
        return any(change.direction < 0 for change in self.symbols) or any(
            change.direction < 0 for change in self.features
        )


def compare(before: Audit, after: Audit) -> Comparison:
    """What changed from one audit to another of the same profile."""
    old = {check.symbol.name: check for check in before.checks}
    symbols = {}
    for check in after.checks:
        was = old.get(check.symbol.name)
        if was is not None and was.state is not check.state:
            symbols[check.symbol.name] = SymbolChange(was, check)
    old_features = {result.feature.name: result for result in before.features}
    features = tuple(
        FeatureChange(old_features[result.feature.name], result)
        for result in after.features
        if result.feature.name in old_features
        and old_features[result.feature.name].grade is not result.grade
    )
    return Comparison(before, after, tuple(symbols.values()), features)


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
