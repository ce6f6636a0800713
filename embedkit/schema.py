"""Reads TOML into plain values and reports every problem of a file at once.

A :class:`Table` hands out typed values by key and notes what is wrong, with the key's path;
the caller builds its dataclasses and ends with :meth:`Problems.raise_if_any`.
"""

from __future__ import annotations

import marshal
import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from embedkit.data import cache_folder
from embedkit.errors import InputError, did_you_mean
from embedkit.units import parse_size


class Problems:
    """What is wrong with one file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: list[str] = []

    def add(self, key_path: str, what: str) -> None:
        self.found.append(f"{key_path}: {what}" if key_path else what)

    def raise_if_any(self) -> None:
        """Raises one InputError that lists everything found."""
        if not self.found:
            return
        if len(self.found) == 1:
            raise InputError(self.found[0], where=str(self.path))
        lines = "".join(f"\n  - {problem}" for problem in self.found)
        raise InputError(f"{len(self.found)} problems in {self.path}:{lines}")


class Table:
    """One TOML table. Every read marks its key as known; :meth:`finish` complains of the rest."""

    def __init__(self, values: Mapping[str, Any], problems: Problems, path: str = "") -> None:
        self._values = values
        self._known: set[str] = set()
        self.problems = problems
        self.path = path

    def at(self, key: str) -> str:
        """The full path of ``key``, for messages."""
        return f"{self.path}.{key}" if self.path else key

    def has(self, key: str) -> bool:
        """Whether the file gives ``key``."""
        self._known.add(key)
        return key in self._values

    def keys(self) -> tuple[str, ...]:
        """Every key that the file gives here, in its order."""
        return tuple(self._values)

    def peek(self, key: str) -> object:
        """The raw value of ``key``, for those that may be of several types."""
        return self._values.get(key)

    def _take(self, key: str, kind: type | tuple[type, ...], what: str, required: bool) -> Any:
        self._known.add(key)
        value = self._values.get(key)
        if value is None:
            if required:
                self.problems.add(self.at(key), f"is missing ({what})")
            return None
        # bool is a subclass of int, and `count = true` is a mistake.
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            self.problems.add(self.at(key), f"must be {what}, not {value!r}")
            return None
        return value

    def text(self, key: str, default: str | None = None, *, required: bool = False) -> str:
        """A string; ``default`` (or ``""``) where it is absent."""
        value = self._take(key, str, "a text", required)
        return default or "" if value is None else str(value)

    def integer(self, key: str, default: int = 0, *, required: bool = False) -> int:
        """A whole number."""
        value = self._take(key, int, "a whole number", required)
        return default if value is None else int(value)

    def size(self, key: str, *, required: bool = False, bare: int | None = None) -> int | None:
        """Bytes of a size with a unit (``"32KiB"``, ``"63s"``); None where it is absent or wrong.

        ``bare`` is what a number without a unit counts, in bytes (512 for sectors); without
        it such a number is a problem, because nobody can know what it counts.
        """
        value = self._take(key, (str, int), "a size with a unit such as '32KiB'", required)
        if value is None:
            return None
        if isinstance(value, int) or value.strip().lstrip("-").isdigit():
            if bare is None:
                self.problems.add(self.at(key), f"{value} needs a unit: write '32KiB' or '63s'")
                return None
            if int(value) < 0:
                self.problems.add(self.at(key), f"{value} is negative")
                return None
            return int(value) * bare
        try:
            return parse_size(value)
        except InputError as error:
            hint = f"; {error.hint}" if error.hint else ""
            self.problems.add(self.at(key), f"{error.message}{hint}")
            return None

    def boolean(self, key: str, default: bool = False) -> bool:
        """true or false."""
        value = self._take(key, bool, "true or false", False)
        return default if value is None else bool(value)

    def choice(
        self, key: str, among: Iterable[str], default: str | None = None, *, required: bool = False
    ) -> str:
        """One of a few words."""
        value = self.text(key, default, required=required)
        allowed = list(among)
        if value and value not in allowed:
            guess = did_you_mean(value, allowed)
            known = guess or f"one of {', '.join(allowed)}"
            self.problems.add(self.at(key), f"'{value}' is not known; {known}")
            return default or ""
        return value

    def texts(self, key: str) -> tuple[str, ...]:
        """A list of strings; a single string counts as a list of one."""
        value = self._take(key, (list, str), "a list of texts", False)
        if value is None:
            return ()
        if isinstance(value, str):
            return (value,)
        if not all(isinstance(item, str) for item in value):
            self.problems.add(self.at(key), "must be a list of texts")
            return ()
        return tuple(value)

    def table(self, key: str, *, required: bool = False) -> Table:
        """A sub-table; an empty one where it is absent."""
        value = self._take(key, dict, "a table", required)
        return Table(value or {}, self.problems, self.at(key))

    def tables(self, key: str) -> list[Table]:
        """A list of tables (``[[key]]``)."""
        value = self._take(key, list, "a list of tables", False)
        result = []
        for index, item in enumerate(value or []):
            path = f"{self.at(key)}[{index}]"
            if isinstance(item, dict):
                result.append(Table(item, self.problems, path))
            else:
                self.problems.add(path, "must be a table")
        return result

    def named_tables(self, key: str) -> dict[str, Table]:
        """A table of tables (``[key.NAME]``), in the file's order."""
        value = self._take(key, dict, "a table of tables", False)
        result = {}
        for name, item in (value or {}).items():
            path = f"{self.at(key)}.{name}"
            if isinstance(item, dict):
                result[name] = Table(item, self.problems, path)
            else:
                self.problems.add(path, "must be a table")
        return result

    def finish(self) -> None:
        """Notes every key that nobody asked for."""
        for key in self._values:
            if key not in self._known:
                guess = did_you_mean(key, self._known)
                self.problems.add(self.at(key), f"unknown key{'; ' + guess if guess else ''}")


def read_toml(path: Path) -> Table:
    """The file's top table.

    Raises InputError where the file cannot be read or is not TOML (with line and column).
    """
    try:
        state = path.stat()
        values = _remembered(path, state)
        if values is None:
            values = _parse(path)
            _remember(path, state, values)
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    return Table(values, Problems(path))


def _parse(path: Path) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(path.read_bytes().decode("utf-8"))
    except UnicodeDecodeError as error:
        raise InputError("not a text file in UTF-8", where=f"{path}: byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"not valid TOML: {error}", where=str(path)) from error
    except RecursionError as error:
        raise InputError("not usable TOML: nested too deeply", where=str(path)) from error


# Parsing the profiles takes as long as all the rest of an audit, so what was parsed is kept in
# the cache folder, the way Python keeps bytecode: one file for each path, thrown away when the
# source or Python changes. A cache that cannot be read or written is simply not there.


def _cache_file(path: Path) -> Path:
    name = str(path.absolute()).replace("/", "%")[-200:] + ".bin"
    return cache_folder() / "toml" / name


def _key(path: Path, state: os.stat_result) -> Any:
    return (str(path.absolute()), state.st_mtime_ns, state.st_size, sys.hexversion)


def _remembered(path: Path, state: os.stat_result) -> dict[str, Any] | None:
    try:
        key, values = marshal.loads(_cache_file(path).read_bytes())
    except (OSError, ValueError, EOFError, TypeError):
        return None
    return values if key == _key(path, state) and isinstance(values, dict) else None


def _remember(path: Path, state: os.stat_result, values: dict[str, Any]) -> None:
    try:
        content = marshal.dumps((_key(path, state), values))
        file = _cache_file(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        temporary = file.with_suffix(f".{os.getpid()}")
        temporary.write_bytes(content)
        temporary.replace(file)
    except (OSError, ValueError):  # ValueError: the file holds dates, which marshal does not know
        return
