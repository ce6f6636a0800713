"""A target's files for who only reads: the kernel audit asks for a board's config through it."""

from __future__ import annotations

import errno
import os

from embedkit.target.base import Target, quote_path

# Exit codes of the script below, apart from the shell's own.
_ABSENT, _IRREGULAR, _FORBIDDEN = 61, 62, 63


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
        asked = (
            f"[ -e {file} ] || exit {_ABSENT}; [ -f {file} ] || exit {_IRREGULAR}; "
            f"[ -r {file} ] || exit {_FORBIDDEN}; "
            f"if command -v head >/dev/null; then exec head -c {limit} {file}; "
            f"else exec cat {file}; fi"
        )
        result = self._target.run(asked, timeout=None, check=False)
        number = {_ABSENT: errno.ENOENT, _IRREGULAR: errno.EINVAL, _FORBIDDEN: errno.EACCES}.get(
            result.exit_code
        )
        if number is not None:
            raise OSError(number, os.strerror(number), path)
        if not result.ok:
            raise OSError(errno.EIO, result.complaint, path)
        return result.stdout[:limit]
