"""The stages in their order."""

from __future__ import annotations

from embedkit.bringup.boot import Boot, Probe
from embedkit.bringup.build import BuildStage
from embedkit.bringup.card import Compose, Flash
from embedkit.bringup.docker import Deploy, Prove
from embedkit.bringup.kernel import Check, Patch
from embedkit.bringup.reference import Assemble
from embedkit.bringup.stages import Stage

NAMES = (
    "reference",
    "check",
    "patch",
    "build",
    "compose",
    "flash",
    "boot",
    "probe",
    "deploy",
    "proof",
)


def stages() -> tuple[Stage, ...]:
    """One of each, as a run goes through them."""
    return (
        Assemble(),
        Check(),
        Patch(),
        BuildStage(),
        Compose(),
        Flash(),
        Boot(),
        Probe(),
        Deploy(),
        Prove(),
    )
