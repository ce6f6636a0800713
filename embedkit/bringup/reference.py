"""The stage that makes a reference board: a little system of embedkit's own, for QEMU."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from embedkit.bringup.settings import Boot, Card, Kernel, Settings
from embedkit.bringup.stages import Chain, Done, Stage, Todo

if TYPE_CHECKING:
    from embedkit.emulate.reference import Reference

# Docker's images need room that the system itself does not.
_CARD_BYTES = 2 << 30
# A machine that does other work at the same time needs several times as long.
_DEADLINE_SECONDS = 300


@dataclass(frozen=True)
class Assembled:
    """A reference board's parts; ``packages`` are Debian's names and versions."""

    kind: str
    folder: Path
    packages: tuple[tuple[str, str], ...]


class Assemble(Stage):
    """Gets the reference board's packages and makes its parts; what was made before is there."""

    name = "reference"
    title = "Assemble the reference board"
    live = True

    def absent(self, chain: Chain) -> str:
        return "" if chain.settings.reference else "the file names no reference board"

    def inputs(self, chain: Chain) -> object:
        return []

    def preview(self, chain: Chain) -> tuple[Todo, ...]:
        return (Todo("download Debian's packages (where they are not cached) and unpack them"),)

    def do(self, chain: Chain) -> Done:
        from embedkit.emulate import reference
        from embedkit.target.emulated import authorized_key

        made = reference.assemble(
            chain.settings.reference, authorized_key=authorized_key(), progress=chain.progress
        )
        chain.settings = with_parts(chain.settings, made)
        value = Assembled(made.kind, made.folder, made.packages)
        return Done(f"{made.board}, from {len(made.packages)} Debian packages", value=value)


def with_parts(settings: Settings, made: Reference) -> Settings:
    """``settings`` with all that the assembled reference board brings."""
    return replace(
        settings,
        board=made.board,
        kernel=Kernel(config=str(made.config)),
        card=Card(artifacts=made.folder, size=_CARD_BYTES),
        boot=Boot(
            deadline_seconds=_DEADLINE_SECONDS,
            kernel=made.kernel,
            initrd=made.initrd,
            arguments=made.arguments or None,
            until="ssh",
        ),
        docker=replace(
            settings.docker, bundle=made.bundle, busybox=made.busybox, allow_dynamic=True
        ),
    )
