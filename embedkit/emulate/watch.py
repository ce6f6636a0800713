"""Watches a board boot, by its serial line and by what QEMU says of itself."""

from __future__ import annotations

import re
import select
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, NoReturn

from embedkit.emulate import card, qmp
from embedkit.emulate.diagnose import (
    Diagnosis,
    Scene,
    certain,
    guess,
    has_login,
    last_lines,
    readable,
)
from embedkit.emulate.plan import MachinePlan
from embedkit.errors import EmbedkitError, TargetError
from embedkit.target.base import AuthenticationFailed
from embedkit.target.emulated import Emulated

_POLL_SECONDS = 0.1
_STATUS_SECONDS = 2.0
_SSH_SECONDS = 1.0
# Between the login prompt and the SSH server's answer: it may be making its keys.
_GRACE_SECONDS = 20.0
_KEPT_BYTES = 1 << 20
_MILESTONES = (
    ("first stage", re.compile(r"^U-Boot SPL \d", re.MULTILINE)),
    ("boot loader", re.compile(r"^U-Boot \d", re.MULTILINE)),
    ("kernel", re.compile(r"Starting kernel \.\.\.|Booting Linux on|Linux version \d")),
)


class BootFailed(TargetError):
    """The board did not come up. Exit code 4."""

    def __init__(self, name: str, what: str, found: Diagnosis, lines: tuple[str, ...]) -> None:
        message = f"{name} {what}: {found.guess}"
        if lines:
            message += "\nthe last lines of its serial line:\n"
            message += "\n".join(f"  {line}" for line in lines)
        super().__init__(message, hint=found.advice or None)
        self.diagnosis = found
        self.last_lines = lines


@dataclass(frozen=True)
class Booted:
    """A board that is up. ``way`` is how it is reached, "ssh" or "serial"; ``milestones`` are
    names with seconds since the start; ``note`` says what is not as one would like it."""

    seconds: float
    way: str
    milestones: tuple[tuple[str, float], ...]
    note: str = ""


class Ended(Exception):
    """QEMU is gone; the text is its last words."""


class Watch:
    """Follows one boot. ``hear`` is called again and again and raises Ended where QEMU ended;
    ``say`` hears of each milestone; ``log_in`` makes an SSH connection and closes it."""

    def __init__(
        self,
        plan: MachinePlan,
        state: Emulated,
        *,
        hear: Callable[[float], None],
        say: Callable[[str], None],
        log_in: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._state = state
        self._hear = hear
        self._say = say
        self._log_in = log_in
        self._begun = time.monotonic()
        self._log = b""
        self._file: BinaryIO | None = None
        self._changed = self._begun
        self._milestones: list[tuple[str, float]] = []
        self._login_at: float | None = None
        self._note = ""

    def wait(self, deadline_seconds: float, until: str = "any") -> Booted:
        """Until the board is up. ``until``: "ssh", "login", or "any" (SSH, or a login where no
        SSH answers for a while after it). Raises BootFailed, TargetError."""
        ends = self._begun + deadline_seconds
        wants_ssh = self._plan.network and until != "login"
        next_status = next_ssh = self._begun
        while True:
            self._listen()
            self._read()
            now = time.monotonic()
            if wants_ssh and now >= next_ssh:
                if self._ssh():
                    return self._up("ssh")
                next_ssh = time.monotonic() + _SSH_SECONDS
            if self._login_at is not None and self._enough(until, now):
                return self._up("serial")
            self._give_up_early()
            if now >= next_status:
                self._check_status()
                next_status = now + _STATUS_SECONDS
            if now >= ends:
                if self._login_at is not None and until == "any":
                    return self._up("serial")
                self._fail(f"did not come up within {deadline_seconds:g} s", self._guess(until))

    def _enough(self, until: str, now: float) -> bool:
        assert self._login_at is not None
        if until == "ssh":
            return False
        return until == "login" or not self._plan.network or now - self._login_at > _GRACE_SECONDS

    def _up(self, way: str) -> Booted:
        self._milestone(way if way == "ssh" else "up")
        if way == "serial" and self._plan.network and not self._note:
            self._note = "no SSH server answers on the board: it is reached by its serial console"
        seconds = time.monotonic() - self._begun
        if way == "serial" and self._login_at is not None:
            seconds = self._login_at - self._begun  # what came after it was waiting for SSH
        return Booted(seconds, way, tuple(self._milestones), self._note)

    def _listen(self) -> None:
        try:
            self._hear(_POLL_SECONDS)
        except Ended as ended:
            self._read()
            found = certain(self._scene()) or Diagnosis("ended", str(ended) or "QEMU ended")
            self._fail("ended while it booted", found)

    def _read(self) -> None:
        if self._file is None:
            try:
                self._file = self._state.log.open("rb")
            except OSError:
                return
        fresh = self._file.read()
        if not fresh:
            return
        self._log = (self._log + fresh)[-_KEPT_BYTES:]
        self._changed = time.monotonic()
        text = readable(self._log)
        for name, pattern in _MILESTONES:
            if pattern.search(text):
                self._milestone(name)
        if self._login_at is None and has_login(self._scene()):
            self._login_at = self._changed
            self._milestone("login")

    def _milestone(self, name: str) -> None:
        if name not in (known for known, _ in self._milestones):
            seconds = time.monotonic() - self._begun
            self._milestones.append((name, seconds))
            if name != "up":
                self._say(f"{self._state.name}: {name} after {seconds:.1f} s")

    def _ssh(self) -> bool:
        """Whether SSH lets us in. QEMU takes every connection: only a banner tells."""
        assert self._state.ssh_port is not None
        if not answers_ssh(self._state.ssh_port, _SSH_SECONDS):
            return False
        try:
            self._log_in()
        except AuthenticationFailed as refused:
            self._note = f"SSH answers, and does not let us in: {refused.message}"
            return False
        except EmbedkitError:
            return False
        return True

    def _give_up_early(self) -> None:
        if self._login_at is None:
            found = certain(self._scene())
            if found is not None:
                self._fail("does not come up", found)

    def _check_status(self) -> None:
        found = trouble(self._state)
        if found is not None:
            self._fail("was stopped while it booted", found)

    def _scene(self) -> Scene:
        return Scene(
            log=self._log,
            console=self._plan.console,
            login_prompt=self._plan.login_prompt,
            arguments=self._plan.arguments,
            from_card=self._plan.from_card,
            loader_problem=self._plan.loader_problem,
            quiet_seconds=time.monotonic() - self._changed,
        )

    def _guess(self, until: str) -> Diagnosis:
        if self._login_at is not None and until == "ssh":
            return Diagnosis(
                "no-ssh",
                self._note or "there is a login on the serial line, but no SSH server answers",
                "does the board start dropbear or sshd, and does it ask for an address by DHCP?",
            )
        return guess(self._scene())

    def _fail(self, what: str, found: Diagnosis) -> NoReturn:
        raise BootFailed(self._state.name, what, found, last_lines(self._log))


def trouble(state: Emulated) -> Diagnosis | None:
    """Why QEMU stopped the board; None where it did not, or does not say."""
    try:
        status = qmp.status(state.qmp)
    except qmp.QmpError:
        return None
    if status not in ("paused", "io-error"):
        return None
    place = card.file_system(state.folder)
    if card.free_bytes(state.folder) < card.FULL_BELOW:
        return Diagnosis(
            "host-full",
            f"{place} is full: what the board writes to its card has no room there any more",
            "make room there and start it again, or set XDG_STATE_HOME to a place with more",
        )
    return Diagnosis(
        "paused" if status == "paused" else "host-io-error",
        "QEMU holds the board" if status == "paused" else f"{place} cannot be written",
        "'cont' in its monitor makes it go on" if status == "paused" else "",
    )


def answers_ssh(port: int, seconds: float) -> bool:
    """Whether an SSH server greets on this machine's port."""
    try:
        with socket.create_connection(("127.0.0.1", port), seconds) as connected:
            if not select.select([connected], [], [], seconds)[0]:
                return False
            return connected.recv(4) == b"SSH-"
    except OSError:
        return False
