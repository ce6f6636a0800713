"""From whatever a serial line shows to a shell that answers."""

from __future__ import annotations

import re
import time
from enum import Enum, auto

from embedkit.errors import TargetError
from embedkit.target.base import AskSecret, AuthenticationFailed
from embedkit.target.line import Reader
from embedkit.target.noise import readings, tail_line

LOGIN = re.compile(r"login: *$", re.IGNORECASE)
_PASSWORD = re.compile(r"(password|passwort|passphrase)[^:]*: *$", re.IGNORECASE)
# What U-Boot's boards call their prompts: "=> ", "U-Boot> ", "u-boot# ", "MX6 U-Boot > ".
UBOOT_PROMPT = re.compile(r"^(=> ?|.*u-?boot ?[>#] ?)$", re.IGNORECASE)
_REFUSED = re.compile(rb"login incorrect|authentication failure|permission denied", re.IGNORECASE)
# The echo of the question has quotes in it, so only an answer can match.
_QUESTION = b'echo "~S""H"$((6*7))"~"\r'
_ANSWER = b"~SH42~"
_QUIET_SECONDS = 0.4


class Found(Enum):
    """What is at the other end."""

    SHELL = auto()
    AGENT = auto()
    UBOOT = auto()


def log_in(
    reader: Reader,
    name: str,
    *,
    user: str,
    ask: AskSecret | None,
    timeout: float,
) -> Found:
    """Gets through a login, where there is one.

    Raises AuthenticationFailed where it does not let ``user`` in, TargetError where nothing
    that is known answers within ``timeout`` seconds.
    """
    return _Login(reader, name, user, ask).run(timeout)


class _Login:
    def __init__(self, reader: Reader, name: str, user: str, ask: AskSecret | None) -> None:
        self._reader = reader
        self._name = name
        self._user = user
        self._ask = ask
        self._user_sent = False
        self._secret_sent = False
        self._silent = 0

    def run(self, timeout: float) -> Found:
        ends = time.monotonic() + timeout
        # Erases what somebody left half typed (^U), then asks for a prompt.
        self._reader.line.write(b"\x15\r")
        seen = b""
        while time.monotonic() < ends:
            data = self._reader.settle(_QUIET_SECONDS, 5.0)
            self._reader.drop()
            seen = (seen + data)[-2000:]
            found = self._step(data, ends)
            if found is not None:
                return found
        shown = tail_line(seen).strip()
        raise TargetError(
            f"no login and no shell answers within {timeout:g} s"
            + (f"; the last line is '{shown[-60:]}'" if shown else "; the line is silent"),
            where=self._name,
            hint="is the board on, the baud rate right, and its console on this line? "
            "'embedkit console' shows what it says",
        )

    def _step(self, data: bytes, ends: float) -> Found | None:
        tail = tail_line(data)
        refused = self._secret_sent and _REFUSED.search(data)
        if refused or (self._secret_sent and LOGIN.search(tail)):
            raise AuthenticationFailed(
                f"the login on the serial line does not let {self._user} in",
                where=self._name,
                hint="give the password when asked, or set EMBEDKIT_PASSWORD; another user "
                "goes into the URL: serial://USER@/dev/…",
            )
        if LOGIN.search(tail):
            self._user_sent = True
            self._reader.line.write(self._user.encode() + b"\r")
        elif _PASSWORD.search(tail):
            self._password()
        elif UBOOT_PROMPT.match(tail.strip() + " ") and "=>" in tail + "=>" * (
            "boot" in tail.lower()
        ):
            return Found.UBOOT
        elif tail.strip():
            return self._ask_shell()
        else:
            return self._silence(ends)
        return None

    def _password(self) -> None:
        if not self._user_sent:
            # Somebody's name was typed before us: an empty password gets a fresh login.
            self._reader.line.write(b"\r")
            return
        secret = self._ask(f"password for {self._user} on {self._name}") if self._ask else None
        if secret is None:
            self._reader.line.write(b"\r")
            raise AuthenticationFailed(
                f"the login on the serial line wants a password for {self._user}",
                where=self._name,
                hint="run it on a terminal to be asked for it, or set EMBEDKIT_PASSWORD",
            )
        self._secret_sent = True
        self._reader.line.write(secret.encode() + b"\r")

    def _ask_shell(self) -> Found | None:
        """Whether a POSIX shell is behind what looks like a prompt; messages may hide it."""
        self._reader.line.write(_QUESTION)
        answer = self._reader.settle(_QUIET_SECONDS, 5.0)
        self._reader.drop()
        if any(_ANSWER in reading for reading in readings(answer)):
            return Found.SHELL
        tail = tail_line(answer)
        if LOGIN.search(tail) or _PASSWORD.search(tail):
            self._user_sent = False  # the question was taken for a name
            self._reader.line.write(b"\r")
            return None
        if UBOOT_PROMPT.match(tail):
            return Found.UBOOT
        self._reader.line.write(b"\r")
        return None

    def _silence(self, ends: float) -> Found | None:
        """Nothing, or only messages: booting, or an agent of ours that an ended run left."""
        self._silent += 1
        if self._silent % 2 == 0:
            self._reader.line.write(b"\n:q 0 0\n")
            answer = self._reader.settle(_QUIET_SECONDS, 3.0)
            if b"~{" in answer or b"}~" in answer:
                return Found.AGENT
        self._reader.line.write(b"\r")
        return None
