"""From what Docker complains of to what the kernel lacks."""

from __future__ import annotations

from embedkit.docker.proof import Cause
from embedkit.kernel import explain, profile_file


def kernel_causes(text: str) -> tuple[Cause, ...]:
    """The kernel options behind a daemon's message, from the profiles' symptoms."""
    found = []
    for match in explain.by_message(text, [profile_file.load("docker")])[:3]:
        symbol = match.symbol
        why = symbol.why or symbol.symptom or "it is missing in the kernel"
        found.append(
            Cause(
                f"CONFIG_{symbol.name.removeprefix('CONFIG_')}",
                why,
                "see embedkit explain and embedkit check-kernel",
            )
        )
    return tuple(found)
