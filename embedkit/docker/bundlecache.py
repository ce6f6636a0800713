"""Remembers what a bundle is made of, so that a second deployment need not read it all again."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from embedkit.docker.bundle import Bundle, Kind, Program, open_bundle
from embedkit.elf import Elf
from embedkit.errors import EmbedkitError
from embedkit.files import write_atomically

_FORMAT = 3


def open_cached(path: Path, cache: Path) -> Bundle:
    """As :func:`open_bundle`; what was read before is believed as long as no file's size, time
    of change and inode differ. Programs are compared by digest after each transfer anyway."""
    stamp = _stamp(path)
    place = cache / f"{hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:24]}.json"
    if stamp is not None:
        known = _read(place, stamp, path)
        if known is not None:
            return known
    bundle = open_bundle(path)
    if stamp is not None and stamp == _stamp(path):
        content = {**dataclasses.asdict(bundle), "path": ""}
        plain = {"format": _FORMAT, "stamp": stamp, "bundle": content}
        try:
            cache.mkdir(parents=True, exist_ok=True)
            write_atomically(place, json.dumps(plain).encode())
        except (OSError, EmbedkitError):
            pass  # a cache that cannot be written is no reason to fail
    return bundle


def _stamp(path: Path) -> list[list[Any]] | None:
    try:
        files = sorted(path.iterdir()) if path.is_dir() else [path]
        found = []
        for file in files:
            stat = file.stat()
            found.append([file.name, stat.st_size, stat.st_mtime_ns, stat.st_ino])
        return found
    except OSError:
        return None


def _header(plain: dict[str, Any] | None) -> Elf | None:
    if plain is None:
        return None
    # JSON knows no tuples.
    fields: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in plain.items()
    }
    return Elf(**fields)


def _read(place: Path, stamp: list[list[Any]], path: Path) -> Bundle | None:
    try:
        plain = json.loads(place.read_bytes())
        if plain["format"] != _FORMAT or plain["stamp"] != stamp:
            return None
        bundle = plain["bundle"]
        programs = tuple(
            Program(
                item["name"],
                item["size_bytes"],
                item["sha256"],
                _header(item["header"]),
            )
            for item in bundle["programs"]
        )
        kind = Kind(bundle["kind"])
        return Bundle(path, kind, bundle["version"], programs, tuple(bundle["ignored"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
