"""What will be started, decided before anything is touched."""

from __future__ import annotations

import dataclasses
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from embedkit.board.model import Board
from embedkit.emulate import card, qemu
from embedkit.emulate.qemu import Medium
from embedkit.errors import InputError
from embedkit.target.address import QEMU_NAME
from embedkit.units import format_size

_LEAST_MEMORY = 16 << 20


@dataclass(frozen=True)
class MachinePlan:
    """A board to be emulated. Everything here is plain, so that it can go to another process.

    ``exact``: this name or none. ``attempts`` are QEMU's command lines by accelerator, to be
    tried in this order, in the state folder. ``card_bytes`` is the size that the board sees.
    """

    name: str
    exact: bool
    board: str
    title: str
    arch: str
    card: str
    card_stamp: str
    card_bytes: int
    kernel: str
    arguments: str
    attempts: tuple[tuple[str, tuple[str, ...]], ...]
    network: bool
    user: str
    keep: bool
    console: str
    login_prompt: str
    from_card: bool
    loader_problem: str

    @property
    def program(self) -> str:
        return self.attempts[0][1][0]

    def to_json(self) -> str:
        """On one line."""
        return json.dumps(dataclasses.asdict(self))

    @staticmethod
    def from_json(text: str) -> MachinePlan:
        """The plan that :meth:`to_json` wrote."""
        value: dict[str, Any] = json.loads(text)
        attempts = tuple((name, tuple(argv)) for name, argv in value.pop("attempts"))
        return MachinePlan(attempts=attempts, **value)


def plan(
    board: Board,
    medium: Medium,
    *,
    name: str | None = None,
    memory: int | None = None,
    processors: int | None = None,
    accelerator: str = "auto",
    ssh_port: int | None = None,
    network: bool = True,
    keep: bool = False,
) -> MachinePlan:
    """How ``board`` will be emulated; nothing is changed. ``memory`` is in bytes, ``ssh_port``
    None a free one. Raises InputError for what cannot be used."""
    how = qemu.emulation_of(board)
    if name is not None and not QEMU_NAME.fullmatch(name):
        raise InputError(f"'{name}' is no name: letters, digits, '.', '_' and '-'")
    if memory is not None and memory < _LEAST_MEMORY:
        raise InputError(f"{format_size(memory)} of memory do not suffice for Linux")
    if processors is not None and processors < 1:
        raise InputError(f"{processors} processors cannot run anything")
    if keep and medium.card is None:
        raise InputError("there is no card that could be kept", hint="--keep belongs to --card")
    medium = _absolute(medium)
    card_bytes = 0
    if medium.card is not None:
        size = card.check_image(medium.card)
        card_bytes = card.overlay_bytes(size, power_of_two=how.power_of_two)
    attempts = tuple(
        (
            tried,
            qemu.command_line(
                board, medium, tried, memory=memory, processors=processors, ssh_port=ssh_port,
                network=network, keep=keep,
            ),
        )
        for tried in qemu.accelerators(board, accelerator)
    )  # fmt: skip
    from_card = medium.kernel is None
    assert medium.card is not None or not from_card
    return MachinePlan(
        name=name or re.sub(r"[^A-Za-z0-9._-]", "-", board.name)[:48],
        exact=name is not None,
        board=board.name,
        title=board.title,
        arch=board.arch,
        card=str(medium.card or ""),
        card_stamp=card.stamp(medium.card) if medium.card else "",
        card_bytes=card_bytes,
        kernel=str(medium.kernel or ""),
        arguments="" if from_card else qemu.kernel_arguments(board, medium),
        attempts=attempts,
        network=network,
        user="root",
        keep=keep,
        console=how.console,
        login_prompt=board.console.login_prompt,
        from_card=from_card,
        loader_problem=card.misplaced_loader(board, medium.card)
        if from_card and medium.card
        else "",
    )


def _absolute(medium: Medium) -> Medium:
    """QEMU runs in another folder; and what is missing is better said before it starts."""
    found: dict[str, Path] = {}
    for field in ("card", "kernel", "initrd", "device_tree"):
        path: Path | None = getattr(medium, field)
        if path is None:
            continue
        found[field] = path.resolve()
        if field != "card" and not path.is_file():
            what = field.replace("_", " ")
            raise InputError(f"the {what} {path} is not there", hint="give the path of a file")
    return dataclasses.replace(medium, **found)  # type: ignore[arg-type]
