"""Emulated boards: started, waited for, handed over, ended.

>>> with start(plan(board, Medium(card)), progress) as machine:  # doctest: +SKIP
...     machine.wait(120)
...     machine.target().run(["uname", "-m"])

Whatever becomes of the process that started a board, no QEMU and no overlay stays behind it,
unless it let go of it with :meth:`Machine.release`: see :mod:`embedkit.emulate.keeper`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import select
import signal
import sys
import time
from typing import Any

from embedkit import process
from embedkit.emulate import states
from embedkit.emulate.plan import MachinePlan, plan
from embedkit.emulate.qemu import Medium
from embedkit.emulate.watch import Booted, BootFailed, Ended, Watch, answers_ssh, trouble
from embedkit.errors import EmbedkitError, InputError, LackError, TargetError
from embedkit.progress import Progress
from embedkit.target import emulated
from embedkit.target.base import Closing, Target
from embedkit.target.emulated import Emulated

__all__ = [
    "BootFailed",
    "Booted",
    "Machine",
    "MachinePlan",
    "Medium",
    "plan",
    "shut_down",
    "start",
    "trouble",
]

START_SECONDS = 60.0
_ERRORS: dict[str, type[EmbedkitError]] = {
    "InputError": InputError,
    "LackError": LackError,
    "TargetError": TargetError,
}


class _Voice:
    """What the keeper tells."""

    def __init__(self, running: process.Running) -> None:
        assert running.stdout is not None
        self._fd = running.stdout.fileno()
        self._rest = b""

    def next(self, timeout: float) -> dict[str, Any] | None:
        """The next thing told; None where nothing came. Raises Ended at its end."""
        ends = time.monotonic() + timeout
        while b"\n" not in self._rest:
            if not select.select([self._fd], [], [], max(0.0, ends - time.monotonic()))[0]:
                return None
            data = os.read(self._fd, 64 << 10)
            if not data:
                raise Ended("its keeper is gone")
            self._rest += data
        line, _, self._rest = self._rest.partition(b"\n")
        value: dict[str, Any] = json.loads(line)
        if value["event"] == "failed":
            raise _failure(value)
        if value["event"] == "ended":
            raise Ended(value["said"])
        return value


def _failure(told: dict[str, Any]) -> Exception:
    if told["kind"] == "bug":
        return RuntimeError(f"the keeper of an emulated board failed:\n{told['message']}")
    kind = _ERRORS.get(told["kind"], TargetError)
    return kind(told["message"], hint=told["hint"], where=told["where"])


class Machine(Closing):
    """A board that runs, held by this process: it ends with it, or at the end of a ``with``."""

    def __init__(
        self, plan: MachinePlan, keeper: process.Running, voice: _Voice, state: Emulated,
        progress: Progress,
    ) -> None:  # fmt: skip
        self.plan = plan
        self.state = state
        self._keeper: process.Running | None = keeper
        self._voice = voice
        self._progress = progress

    def target(self) -> Target:
        """``qemu:NAME``, not connected yet."""
        from embedkit.target.opening import open_target

        return open_target(self.state.url)

    def wait(self, deadline_seconds: float, until: str = "any") -> Booted:
        """Until the board is up: SSH lets us in, or a login waits on its serial line.

        ``until`` "ssh" or "login" insists on one of them. Raises BootFailed, with a guess at
        what is wrong.
        """
        watch = Watch(
            self.plan, self.state, hear=self.hear, say=self._progress.say, log_in=self._log_in
        )
        booted = watch.wait(deadline_seconds, until)
        self.state = states.update(dataclasses.replace(self.state, phase="up", way=booted.way))
        return booted

    def hear(self, seconds: float) -> None:
        """Waits for so long at most. Raises Ended where the board ended by itself."""
        self._voice.next(seconds)

    def _log_in(self) -> None:
        from embedkit.target.opening import open_target

        with open_target(f"{self.state.url}?via=ssh") as target:
            target.connect()

    def release(self) -> None:
        """The board goes on when this process ends. Raises TargetError where it just ended."""
        keeper = self._keeper
        if keeper is None:
            return
        assert keeper.stdin is not None
        try:
            keeper.stdin.write(b"release\n")
            keeper.stdin.flush()
            while True:
                told = self._voice.next(10.0)
                if told is None:
                    raise TargetError("the keeper of the board does not answer")
                if told["event"] == "released":
                    break
        except (Ended, OSError) as error:
            raise TargetError(f"the board ended: {error}", where=self.state.url) from error
        self._let_go(keeper)

    def stop(self, *, deadline_seconds: float = 20.0) -> bool:
        """Shuts the board down, by force after the deadline; whether it went down by itself."""
        clean = shut_down(self.state, deadline_seconds=deadline_seconds)
        self.close()
        return clean

    def close(self) -> None:
        """Ends the board at once and removes what it had; a card that is kept is closed well."""
        keeper = self._keeper
        if keeper is None:
            return
        assert keeper.stdin is not None
        with contextlib.suppress(OSError):
            keeper.stdin.close()  # the leash
        process.wait_or_kill(keeper, 20)
        self._let_go(keeper)
        with contextlib.suppress(EmbedkitError):
            states.clear_stale()  # where the keeper itself was killed

    def _let_go(self, keeper: process.Running) -> None:
        for stream in (keeper.stdin, keeper.stdout, keeper.stderr):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._keeper = None


def start(plan: MachinePlan, progress: Progress) -> Machine:
    """Starts the board; it is not up yet, see :meth:`Machine.wait`.

    Raises LackError where a program or room is missing, InputError where the name is taken,
    TargetError where QEMU does not start.
    """
    process.require(plan.program, purpose="emulate this board")
    process.require("setpriv")
    if plan.card:
        process.require("qemu-img", purpose="leave the card's image as it is")
    states.clear_stale()
    keeper = process.start(
        [sys.executable, "-P", "-m", "embedkit.emulate.keeper"],
        stdin=process.PIPE,
        new_session=True,
    )
    voice = _Voice(keeper)
    try:
        assert keeper.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            keeper.stdin.write(plan.to_json().encode() + b"\n")
            keeper.stdin.flush()
        name = plan.name
        ends = time.monotonic() + START_SECONDS
        while (left := ends - time.monotonic()) > 0:
            told = voice.next(left) or {"event": ""}
            name = told.get("name", name)
            if told["event"] == "started":
                state = emulated.read(name)
                if state is None:
                    raise TargetError("what was written down of the board is gone", where=name)
                progress.say(f"{name}: {plan.title}, QEMU with {state.accelerator}")
                return Machine(plan, keeper, voice, state, progress)
        raise TargetError("QEMU does not start in time")
    except BaseException as error:
        said = _give_up(keeper)
        if isinstance(error, Ended):
            raise TargetError(f"the emulation did not start: {said or error}") from error
        raise


def _give_up(keeper: process.Running) -> str:
    """Ends a keeper that did not get far; what it complained of."""
    assert keeper.stdin is not None and keeper.stderr is not None and keeper.stdout is not None
    with contextlib.suppress(OSError):
        keeper.stdin.close()
    process.wait_or_kill(keeper, 15)
    said = process.last_line(keeper.stderr.read())
    keeper.stderr.close()
    keeper.stdout.close()
    return said


def shut_down(state: Emulated, *, deadline_seconds: float = 20.0) -> bool:
    """Ends a board that runs, whoever started it; whether it went down by itself.

    ``poweroff`` on the board where it is up and can be reached, else its power button; after
    the deadline (at once where it is 0) QEMU is told to quit, and killed where it does not.
    """
    ends = time.monotonic() + deadline_seconds
    if deadline_seconds > 0 and trouble(state) is None:
        _power_off(state, deadline_seconds)
        while time.monotonic() < ends:
            if not state.alive:
                return True
            time.sleep(0.1)
    for number, seconds in ((signal.SIGTERM, 15.0), (signal.SIGKILL, 5.0)):
        _signal(state, number)
        ends = time.monotonic() + seconds
        while time.monotonic() < ends:
            if not state.alive:
                states.clear_stale()
                return False
            time.sleep(0.05)
    raise TargetError("the keeper of the board does not end", where=f"process {state.keeper}")


def _power_off(state: Emulated, seconds: float) -> None:
    from embedkit.target.opening import open_target

    reachable = state.way == "serial" or (
        state.ssh_port is not None and answers_ssh(state.ssh_port, 2.0)
    )
    if state.phase == "up" and reachable:
        with contextlib.suppress(EmbedkitError), open_target(state.url) as target:
            target.connect(deadline_seconds=seconds)
            # In the background, so that the answer comes before the connection goes.
            target.run("(sleep 0.2; poweroff) >/dev/null 2>&1 </dev/null &", timeout=seconds)
            return
    from embedkit.emulate import qmp

    with contextlib.suppress(qmp.QmpError), qmp.talk(state.qmp) as opened:
        opened.ask("system_powerdown")


def _signal(state: Emulated, number: signal.Signals) -> None:
    """To the keeper and to no later process with its number."""
    with contextlib.suppress(OSError):
        handle = os.pidfd_open(state.keeper)
        try:
            if state.alive:
                signal.pidfd_send_signal(handle, number)
        finally:
            os.close(handle)
