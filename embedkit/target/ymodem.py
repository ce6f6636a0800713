"""Sends one file by YMODEM, as U-Boot's ``loady`` receives it.

The protocol is Chuck Forsberg's "XMODEM/YMODEM Protocol Reference" of 1988: blocks of 1024
bytes (STX) with CRC-16/XMODEM, a block 0 that holds the file's name and size, and an empty one
at the end.
"""

from __future__ import annotations

import binascii
import time
from collections.abc import Callable

from embedkit.errors import TargetError
from embedkit.target.line import Reader

_SOH, _STX, _EOT, _ACK, _NAK, _CAN, _CRC = (
    b"\x01",
    b"\x02",
    b"\x04",
    b"\x06",
    b"\x15",
    b"\x18",
    b"C",
)
_PAD = b"\x1a"
_BLOCK = 1024
_TRIES = 10
_START_SECONDS = 60.0
_ANSWER_SECONDS = 10.0


def frame(number: int, data: bytes) -> bytes:
    """One block: 128 or 1024 bytes, with its number, the complement, and the CRC."""
    size = 128 if len(data) <= 128 else _BLOCK
    body = data.ljust(size, _PAD if number else b"\0")
    head = _SOH if size == 128 else _STX
    crc = binascii.crc_hqx(body, 0)
    return head + bytes((number & 0xFF, 0xFF - (number & 0xFF))) + body + crc.to_bytes(2, "big")


def send(
    reader: Reader, name: str, data: bytes, where: str, advance: Callable[[int], None]
) -> None:
    """Sends ``data``; the receiver must have been started. Raises TargetError where it stops.

    A transfer that fails is cancelled, so that the prompt comes back and no power cycle is
    needed.
    """
    session = _Session(reader, where)
    try:
        session.wait_for(_CRC, _START_SECONDS, "does not begin to receive")
        # The name is a hint for the receiver; U-Boot only uses the size.
        header = f"{name}\0{len(data)} ".encode("ascii", "replace")[:120]
        session.block(0, header)
        session.wait_for(_CRC, _ANSWER_SECONDS, "stopped after the file's header")
        for index in range(0, len(data), _BLOCK):
            piece = data[index : index + _BLOCK]
            session.block(
                index // _BLOCK + 1, piece if len(piece) > 128 else piece.ljust(129, _PAD)
            )
            advance(len(piece))
        session.end()
    except TargetError:
        reader.line.write(_CAN * 8)
        reader.settle(0.5, 5.0)
        raise


class _Session:
    def __init__(self, reader: Reader, where: str) -> None:
        self._reader = reader
        self._where = where

    def block(self, number: int, data: bytes) -> None:
        whole = frame(number, data)
        for _ in range(_TRIES):
            self._reader.drop()
            self._reader.line.write(whole)
            answer = self._answer(_ANSWER_SECONDS)
            if answer == _ACK:
                # What follows the answer (the "C" that asks for the data) stays for the next.
                return
            if answer == _CAN:
                raise TargetError("the board cancelled the transfer", where=self._where)
        raise TargetError(
            f"the board did not take block {number} in {_TRIES} tries", where=self._where
        )

    def end(self) -> None:
        for _ in range(_TRIES):
            self._reader.drop()
            self._reader.line.write(_EOT)
            if self._answer(_ANSWER_SECONDS) == _ACK:
                break
        else:
            raise TargetError("the board does not see the end of the file", where=self._where)
        # An empty block 0 ends the batch; U-Boot's receiver is content without an answer.
        if self._peek(_CRC, 1.0):
            self._reader.line.write(frame(0, b""))
            self._answer(1.0)

    def wait_for(self, byte: bytes, timeout: float, problem: str) -> None:
        if not self._peek(byte, timeout):
            raise TargetError(f"the board {problem}", where=self._where)

    def _peek(self, byte: bytes, timeout: float) -> bool:
        ends = time.monotonic() + timeout
        while byte not in self._reader.buffer:
            if time.monotonic() > ends:
                return False
            self._reader.more(0.1)
        return True

    def _answer(self, timeout: float) -> bytes:
        """The next byte that means something; text in between is passed over."""
        ends = time.monotonic() + timeout
        while time.monotonic() < ends:
            buffer = self._reader.buffer
            for index, value in enumerate(buffer):
                byte = bytes((value,))
                if byte in (_ACK, _NAK, _CAN):
                    del buffer[: index + 1]
                    return byte
            buffer.clear()
            self._reader.more(0.2)
        return _NAK
