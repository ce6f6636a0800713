"""What embedkit knows of boards: ``boards/NAME/board.toml``, read and checked.

>>> board = load("odroid-xu3")
>>> board.default_layout.blobs[0].offset
512
"""

from __future__ import annotations

from pathlib import Path

from embedkit import data
from embedkit.board.model import Board, Layout
from embedkit.errors import InputError, did_you_mean

__all__ = ["Board", "Layout", "board_file", "find_layout", "load", "names"]


def names() -> dict[str, Path]:
    """Name → board.toml of every board, the user's own over the shipped."""
    return {
        name: folder / "board.toml"
        for name, folder in data.names("boards").items()
        if (folder / "board.toml").is_file()
    }


def board_file(name: str) -> Path:
    """The board.toml of a board's name, of a folder or of a file. Raises InputError."""
    known = names()
    if name in known:
        return known[name]
    path = Path(name)
    if "/" in name or name.endswith(".toml"):
        if path.is_dir():
            path = path / "board.toml"
        if path.is_file():
            return path
        raise InputError(f"no such file: {path}")
    raise InputError(
        f"there is no board called '{name}'",
        hint=did_you_mean(name, known)
        or "embedkit boards list shows all; a path to a file works too",
    )


def load(name: str) -> Board:
    """The board called ``name``, or the one that a file or folder describes.

    Raises InputError: no such board, or everything that is wrong with its file.
    """
    from embedkit.board.reader import read

    path = board_file(name)
    return read(path, path.parent.name if path.name == "board.toml" else path.stem)


def find_layout(board: Board, name: str | None) -> Layout:
    """The layout called ``name``; the default one for None. Raises InputError."""
    if name is None:
        return board.default_layout
    for layout in board.layouts:
        if layout.name == name:
            return layout
    known = [layout.name for layout in board.layouts]
    raise InputError(
        f"{board.name} has no layout '{name}'",
        hint=did_you_mean(name, known) or f"known: {', '.join(known)}",
    )
