"""An audit as data for machines. Described in ``docs/json.md``; within a version of the envelope
fields may be added, never renamed, removed or given another meaning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from embedkit.kernel.audit import Audit
from embedkit.kernel.profile import Level

if TYPE_CHECKING:
    from embedkit.kernel.compare import Comparison
    from embedkit.kernel.runtime import RuntimeCheck


def build(
    audit: Audit, runtime: tuple[RuntimeCheck, ...], comparison: Comparison | None
) -> dict[str, Any]:
    config = audit.question.config
    data: dict[str, Any] = {
        "config": {
            "origin": config.origin,
            "kind": "full" if config.is_full else "minimal",
            "symbols": len(config.values),
            "duplicates": [duplicate.symbol for duplicate in config.duplicates],
        },
        "kernel": {
            "release": config.release,
            "version": str(audit.version) if audit.version else None,
            "arch": audit.arch,
        },
        "profile": audit.question.profile.name,
        "verdict": audit.verdict.value,
        "features": [
            {
                "name": result.feature.name,
                "title": result.feature.title,
                "weight": result.weight.value,
                "state": result.grade.name.lower(),
                "lacking": list(result.lacking),
            }
            for result in audit.features
        ],
        "symbols": [
            {
                "symbol": check.symbol.name,
                "section": check.section.title,
                "driver": check.group.driver or None,
                "level": check.level.value,
                "state": check.state.name.lower(),
                "value": config.values.get(check.symbol.name),
                "lacking": check.lacking,
                "security": check.symbol.security,
                "remark": check.remark,
                "why": check.symbol.why,
                "symptom": check.symbol.symptom,
            }
            for check in audit.checks
        ],
        "missing": {
            level.value: [check.symbol.name for check in audit.lacking(level)] for level in Level
        },
        "runtime": [
            {"name": check.name, "state": check.state, "good": check.good, "counts": check.counts}
            for check in runtime
        ],
    }
    if comparison is not None:
        data["against"] = {
            "origin": comparison.before.question.config.origin,
            "worse": comparison.worse,
            "symbols": [
                {
                    "symbol": change.after.symbol.name,
                    "before": change.before.state.name.lower(),
                    "after": change.after.state.name.lower(),
                    "direction": change.direction,
                }
                for change in comparison.symbols
            ],
            "features": [
                {
                    "name": change.after.feature.name,
                    "before": change.before.grade.name.lower(),
                    "after": change.after.grade.name.lower(),
                    "direction": change.direction,
                }
                for change in comparison.features
            ],
        }
    return data
