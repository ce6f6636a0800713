"""The folders of emulated boards: taken for one board at a time, and cleared away.

All of it happens under one lock, which the kernel lets go when its holder dies, so a folder
without ``machine.json`` is always one that nobody works on.
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

from embedkit.emulate import qmp
from embedkit.errors import InputError, LackError
from embedkit.files import alone
from embedkit.target import emulated
from embedkit.target.emulated import Emulated, make_folder


@contextlib.contextmanager
def locked() -> Iterator[Path]:
    """Holds the folders for this process. Raises LackError."""
    folder = make_folder()
    with alone(folder / ".lock", lambda: None):
        yield folder


def claim(name: str, exact: bool, made: Callable[[str], Emulated]) -> tuple[Emulated, bool]:
    """A folder for a new board, and whether it holds a card that was kept.

    ``exact``: ``name`` or none; otherwise ``name-2``… where it is taken. ``made`` is the state
    to write down under a name. Raises InputError where the name is taken, LackError.
    """
    with locked() as folder:
        number = 1
        while True:
            tried = name if number == 1 else f"{name}-{number}"
            state = made(tried)
            kept = _kept(tried)
            if not _taken(tried) and (kept is None or _continues(kept, state, exact)):
                if kept is None:
                    _clear(tried)
                    _make(folder / tried)
                state.write()
                return state, kept is not None
            if exact:
                raise InputError(
                    f"there is an emulated board '{name}' already",
                    hint=f"'embedkit emulate stop {name}' ends it; --name takes another name",
                )
            number += 1


def _make(folder: Path) -> None:
    try:
        folder.mkdir(mode=0o700)
    except OSError as error:
        raise LackError(f"cannot make the folder {folder}: {error.strerror}") from error


def _taken(name: str) -> bool:
    state = emulated.read(name)
    return state is not None and state.alive


def _kept(name: str) -> Emulated | None:
    state = emulated.read(name)
    if state is None or not state.keep or state.alive or not state.overlay.is_file():
        return None
    return state


def _continues(kept: Emulated, state: Emulated, exact: bool) -> bool:
    """Whether ``state`` goes on with the kept card. Raises InputError where it was named and
    cannot."""
    same = (kept.board, kept.card, kept.card_stamp) == (state.board, state.card, state.card_stamp)
    if exact and not (same and state.keep):
        why = "of another board or image, or the image changed" if not same else "there"
        raise InputError(
            f"a card that was kept under the name '{state.name}' is {why}",
            hint=f"go on with it by --keep, or throw it away: embedkit emulate stop {state.name}",
        )
    return same and state.keep


def update(state: Emulated) -> Emulated:
    """Writes down what became of a board, unless it ended meanwhile."""
    with locked():
        if _taken(state.name):
            state.write()
    return state


def end(state: Emulated) -> None:
    """Clears away after a board that ended; a card that is to be kept stays."""
    with locked():
        if state.keep and state.overlay.is_file():
            for place in (state.console, state.qmp):
                place.unlink(missing_ok=True)
            dataclasses.replace(state, phase="off", ssh_port=None, pid=0).write()
        else:
            _clear(state.name)


def discard(name: str) -> None:
    """Removes the folder of a board that does not run, with its card."""
    with locked():
        if not _taken(name):
            _clear(name)


def clear_stale() -> tuple[str, ...]:
    """Removes what boards left that ended without a goodbye; the names of those."""
    cleared = []
    with locked():
        for name in emulated.names():
            state = emulated.read(name)
            if state is not None and (state.alive or state.phase == "off"):
                continue
            if state is not None and state.keep and state.overlay.is_file():
                _end_orphan(state.qmp)
                dataclasses.replace(state, phase="off", ssh_port=None, pid=0).write()
            else:
                _clear(name)
            cleared.append(name)
    return tuple(cleared)


def _clear(name: str) -> None:
    folder = emulated.emulations_folder() / name
    _end_orphan(folder / "qmp.sock")
    # Never through a link into somebody's folder: rmtree refuses one.
    if folder.is_symlink():
        folder.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)


def _end_orphan(socket: Path) -> None:
    """QEMU dies with its keeper; should one have slipped through, its socket still answers."""
    if socket.exists():
        with contextlib.suppress(qmp.QmpError), qmp.talk(socket, seconds=2.0) as opened:
            opened.ask("quit")
