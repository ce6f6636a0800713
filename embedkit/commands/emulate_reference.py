"""``embedkit emulate --reference``: a board that embedkit assembles itself, composed and booted."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from embedkit import board
from embedkit.files import alone

if TYPE_CHECKING:
    from embedkit.emulate.qemu import Medium
    from embedkit.progress import Progress

# Docker's images need room that the system itself does not; a power of two, as SD cards of
# QEMU's machines are.
CARD_BYTES = 4 << 30


def make(kind: str, debs: Path | None, progress: Progress) -> tuple[board.Board, Medium]:
    """The board of a kind, with its card composed beside its parts in the cache.

    Raises InputError for a kind that is none, LackError where packages or room are missing.
    """
    from embedkit.emulate.qemu import Medium
    from embedkit.emulate.reference import assemble
    from embedkit.media.planner import plan
    from embedkit.media.publish import publish
    from embedkit.target.emulated import authorized_key

    made = assemble(kind, debs=debs, authorized_key=authorized_key(), progress=progress)
    chosen = board.load(made.board)
    card = made.folder.parent / "card.img"

    def waiting() -> None:
        progress.say("waiting for another embedkit that composes the card")

    with alone(card.with_suffix(".lock"), waiting):
        if not card.is_file():
            layout = plan(chosen, artifacts=made.folder, size_bytes=CARD_BYTES)
            publish(layout, card, progress=progress)
    if made.kernel is None:
        return chosen, Medium(card)
    return chosen, Medium(card, made.kernel, made.initrd, arguments=made.arguments)
