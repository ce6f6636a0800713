"""A target's files for who only reads: the kernel audit asks for a board's config through it."""

from __future__ import annotations

import errno
import os

from embedkit.target.base import Target, quote_path

# Exit codes of the script below, apart from the shell's own.
_ABSENT, _IRREGULAR, _FORBIDDEN, _LARGE = 61, 62, 63, 64
# What a serial line is asked to carry at most: a kernel image takes it a quarter of an hour.
_SERIAL_BYTES = 1 << 20
_LISTING_BYTES = 16 << 20
_NUMBERS = {
    _ABSENT: errno.ENOENT,
    _IRREGULAR: errno.EINVAL,
    _FORBIDDEN: errno.EACCES,
    _LARGE: errno.EFBIG,
}


class TargetFiles:
    """Reads whole files of ``target``, over any transport."""

    def __init__(self, target: Target) -> None:
        self._target = target

    @property
    def name(self) -> str:
        return self._target.address

    def read_file(self, path: str, limit: int) -> bytes:
        """The first ``limit`` bytes of ``path``.

        Raises FileNotFoundError, PermissionError or OSError as reading it here would, and
        TargetError where the board fails.
        """
        file = quote_path(path)
        too_large = ":"
        if not self._target.carries_binary:
            too_large = f'[ "$(wc -c <{file})" -le {_SERIAL_BYTES} ] || exit {_LARGE}'
        asked = (
            f"[ -e {file} ] || exit {_ABSENT}; [ -f {file} ] || exit {_IRREGULAR}; "
            f"[ -r {file} ] || exit {_FORBIDDEN}; {too_large}; "
            f"if command -v head >/dev/null; then exec head -c {limit} {file}; "
            f"else exec cat {file}; fi"
        )
        result = self._target.run(asked, timeout=None, check=False)
        number = _NUMBERS.get(result.exit_code)
        if number is not None:
            raise OSError(number, os.strerror(number), path)
        if not result.ok:
            raise OSError(errno.EIO, result.complaint, path)
        return result.stdout[:limit]


class TargetModules:
    """The modules that a board's running kernel could load, by its modules.dep and
    modules.builtin; names are compared as modprobe does (``-`` and ``_`` are the same)."""

    def __init__(self, files: TargetFiles, folder: str) -> None:
        self._known: set[str] = set()
        for name in ("modules.dep", "modules.builtin"):
            try:
                text = files.read_file(f"{folder}/{name}", _LISTING_BYTES).decode(
                    "utf-8", "replace"
                )
            except OSError:
                continue
            for line in text.splitlines():
                file = line.partition(":")[0].rpartition("/")[2]
                self._known.add(file.partition(".ko")[0].replace("-", "_"))

    def has(self, module: str) -> bool:
        return module.replace("-", "_") in self._known
