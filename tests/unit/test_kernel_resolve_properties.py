"""The resolver against exhaustive search on small made-up trees."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import HealthCheck, given, settings
from support.kconfig_trees import Case, Referee, accepts, cases, load_tree

from embedkit.kernel.config import KernelConfig
from embedkit.kernel.resolve import resolve
from embedkit.kernel.wants import Obstacle, Resolution

_RANK = {"necessary": 1, "optional": 3}


def _resolved(case: Case) -> tuple[Resolution, Referee]:
    with tempfile.TemporaryDirectory() as folder:
        tree = load_tree(Path(folder), case.kconfig, case.release)
    return resolve(tree, KernelConfig(case.config), case.wants), Referee(tree, case)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_what_is_resolved_holds(case: Case) -> None:
    plan, referee = _resolved(case)
    wants = plan.satisfied
    assert referee.allows(plan.patched, wants)
    assert referee.allows(plan.full, wants)
    # Appended to the config as a fragment it is worth as much.
    lines = [f"CONFIG_{item.symbol}={item.raw}" for item in plan.assignments]
    assert referee.allows(KernelConfig(case.config + "\n".join(lines) + "\n"), wants)
    assert len(plan.satisfied) - sum(want.level == "keep" for want in wants) + len(
        plan.refused
    ) == len(case.wants)


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_what_is_refused_cannot_be_had(case: Case) -> None:
    plan, referee = _resolved(case)
    ordered = sorted(case.wants, key=lambda want: _RANK[want.level])
    for refused in plan.refused:
        assert refused.proven
        assert refused.reason
        if refused.obstacle is not Obstacle.CONFLICT:
            assert not referee.possible((refused.want,))
            continue
        assert referee.possible((refused.want,)), "a conflict takes two"
        before = ordered[: ordered.index(refused.want)]
        held = tuple(want for want in before if want in plan.satisfied)
        assert not referee.possible((*held, refused.want))


@settings(max_examples=80, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_nothing_is_set_that_is_not_needed(case: Case) -> None:
    plan, referee = _resolved(case)
    for left_out in plan.assignments:
        lines = [
            f"CONFIG_{item.symbol}={item.raw}" for item in plan.assignments if item is not left_out
        ]
        fewer = KernelConfig(case.config + "\n".join(lines) + "\n")
        assert not referee.allows(fewer, plan.satisfied)


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_same_inputs_same_plan(case: Case) -> None:
    first, _ = _resolved(case)
    again, _ = _resolved(case)
    assert first.assignments == again.assignments
    assert first.refused == again.refused
    assert first.full.text == again.full.text


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(cases())
def test_what_is_already_there_stays_untouched(case: Case) -> None:
    plan, referee = _resolved(case)
    referee.tree.load(KernelConfig(case.config))
    if all(accepts(want, referee.tree.value(want.symbol)) for want in case.wants):
        assert plan.assignments == ()
        assert plan.complete
