"""Finds the data that embedkit ships (boards, kernel fragments, profiles) and what users add.

The same call works in a checkout, in an editable install and in a wheel: a wheel carries
``boards`` and ``kernel_fragments`` under ``embedkit/_data``, a checkout beside the package.
A user's own files, under ``$XDG_CONFIG_HOME/embedkit/KIND``, come first.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

from embedkit.errors import InputError, did_you_mean

Kind = Literal["boards", "kernel_fragments", "profiles"]

_PACKAGE = Path(__file__).resolve().parent


def _xdg(variable: str, fallback: str) -> Path:
    value = os.environ.get(variable, "")
    # The XDG base directory specification: relative paths are to be ignored.
    return (Path(value) if value.startswith("/") else _home() / fallback) / "embedkit"


def _home() -> Path:
    try:
        return Path.home()
    except RuntimeError:  # no HOME and no entry in passwd: a container with a user id of its own
        return Path("/")


def config_folder() -> Path:
    """The user's settings: ``$XDG_CONFIG_HOME/embedkit``. It need not exist."""
    return _xdg("XDG_CONFIG_HOME", ".config")


def cache_folder() -> Path:
    """What can be fetched or made again: ``$XDG_CACHE_HOME/embedkit``. It need not exist."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def state_folder() -> Path:
    """What must outlive a run: ``$XDG_STATE_HOME/embedkit``. It need not exist."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def shipped_folder(kind: Kind) -> Path:
    """Where embedkit's own data of this kind is.

    Raises InputError where the installation lost it.
    """
    places = [_PACKAGE / "profiles"] if kind == "profiles" else []
    places += [_PACKAGE / "_data" / kind, _PACKAGE.parent / kind]
    for place in places:
        if place.is_dir():
            return place
    raise InputError(
        f"embedkit's '{kind}' folder is missing from this installation",
        where=str(_PACKAGE),
        hint="install embedkit again",
    )


def names(kind: Kind, suffix: str = "") -> dict[str, Path]:
    """Name → path of everything of this kind, the user's own over the shipped, sorted by name.

    With a ``suffix`` (``".toml"``) the files that end so; without, the folders.
    """
    found: dict[str, Path] = {}
    for folder in (shipped_folder(kind), config_folder() / kind):
        for entry in _entries(folder):
            if suffix and entry.is_file() and entry.name.endswith(suffix):
                found[entry.name.removesuffix(suffix)] = entry
            elif not suffix and entry.is_dir():
                found[entry.name] = entry
    return dict(sorted(found.items()))


def _entries(folder: Path) -> list[Path]:
    """What is in ``folder``; nothing where it is missing or closed (sudo leaves HOME so)."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def find(kind: Kind, name: str, suffix: str = "") -> Path:
    """The file or folder called ``name``, or the path itself where ``name`` holds a slash.

    Raises InputError, with a guess at what was meant, where there is none.
    """
    if "/" in name or (suffix and name.endswith(suffix)):
        path = Path(name)
        if not path.exists():
            raise InputError(f"no such file: {name}")
        return path
    for folder in (config_folder() / kind, shipped_folder(kind)):
        path = folder / f"{name}{suffix}"
        if name not in ("", ".", "..") and path.exists():
            return path
    known = names(kind, suffix)
    raise InputError(
        f"there is no {kind.rstrip('s').replace('_', ' ')} called '{name}'",
        hint=did_you_mean(name, known) or f"known: {', '.join(known)}",
    )
