"""What a command on a board prints: passed through as it comes, or kept for the report."""

from __future__ import annotations

import argparse
import re
import sys

from embedkit.target.base import Channel

# Colours may pass to a terminal; whatever else a board sends there is shown and not obeyed.
_CONTROL = re.compile(rb"\x1b\[[0-9;]*m|[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\xc2[\x80-\x9f]")
_CAPTURED_BYTES = 16 << 20


class Passing:
    """Takes output. With text on standard output it is passed ``through``, else gathered."""

    def __init__(self, args: argparse.Namespace) -> None:
        self.through = args.format == "text" and args.output is None
        self._kept: dict[Channel, bytearray] = {each: bytearray() for each in Channel}

    def __call__(self, channel: Channel, data: bytes) -> None:
        if self.through:
            _pass_on(channel, data)
        elif len(self._kept[channel]) < _CAPTURED_BYTES:
            self._kept[channel] += data

    def gathered(self) -> dict[str, str]:
        """``stdout`` and ``stderr`` as far as they were kept (16 MiB each)."""
        return {
            channel.value: data.decode("utf-8", "replace") for channel, data in self._kept.items()
        }


def _pass_on(channel: Channel, data: bytes) -> None:
    stream = sys.stdout if channel is Channel.STDOUT else sys.stderr
    if stream.isatty():
        data = _CONTROL.sub(_harmless, data)
    stream.buffer.write(data)
    stream.flush()


def _harmless(match: re.Match[bytes]) -> bytes:
    found = match.group()
    if found.startswith(b"\x1b["):
        return found
    return b"".join(b"\\x%02x" % byte for byte in found)
