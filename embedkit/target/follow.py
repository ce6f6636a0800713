"""The digest of a file while it is being written on the target.

Reading a file back takes a board as long as half of receiving it. So a second process there
reads what the first has written, at its heels, and has the digest when the last byte is down.
"""

from __future__ import annotations

from embedkit.target.base import quote, quote_path
from embedkit.target.digest import Digester

# For less it is not worth the processes.
FOLLOW_BYTES = 4 << 20


def can_follow(tools: frozenset[str]) -> bool:
    """Whether the target has what following a file takes (``stat``: to compare the size after)."""
    return {"cat", "rm", "stat"} <= tools


def followed(writer: str, part: str, tool: Digester, nap_seconds: float) -> str:
    """``writer``, a command that appends its standard input to ``part``, with a reader at its
    heels that prints the digest of all of ``part``; the exit code is the writer's.

    The reader ends when the writer is gone: the shell, which waits for the reader, reaps the
    writer meanwhile. Nothing is written for it, since the disk may be full. A ``sleep`` that
    knows no fractions sleeps for a second.
    """
    return (
        # A list in the background has no standard input unless that is put aside first.
        f"exec 3<&0; umask 077; p={quote_path(part)}; "
        f': >>"$p"; sh -c {quote(writer)} <&3 >&2 & w=$!; exec 3<&-; '
        f"{{ while kill -0 $w 2>/dev/null; do cat; sleep {nap_seconds:g} 2>/dev/null || sleep 1; "
        f'done; cat; }} <"$p" | {tool.command}; wait $w'
    )
