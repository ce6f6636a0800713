"""Looks after one emulated board: a process of its own between the caller and QEMU.

Its standard input is a leash that only the caller holds: the first line is the plan, and where
the other end closes (also because the caller was killed) without the line ``release`` before,
the board is ended and all that it had is removed. QEMU in its turn gets a signal from the
kernel when this process dies, whatever it dies of. What happens is told on standard output, one
JSON object a line.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from embedkit import process
from embedkit.emulate import card, qemu, qmp, states
from embedkit.emulate.plan import MachinePlan
from embedkit.errors import EmbedkitError, TargetError
from embedkit.target import emulated
from embedkit.target.emulated import Emulated

_START_SECONDS = 30.0
_QUIT_SECONDS = 5.0
# KVM's refusals come with the first instructions.
_SETTLE_SECONDS = 0.5
_TICK_SECONDS = 0.25
# A machine without its board's reset or power controller stands still after these words of
# Linux (kernel/reboot.c); somebody has to press the button.
_STANDS_STILL_SECONDS = 3.0
_RESTARTING, _DOWN = b"reboot: Restarting system", (b"reboot: Power down", b"reboot: System halted")
# An emulated SD card cannot stop the machine where this one's disk is full (QEMU's hw/sd/sd.c):
# QEMU says so and goes on, and what was written is lost.
_LOST_WRITE = b"write error on host side"


class _Cut(Exception):
    """The caller is gone, or wants the board ended."""


class _Keeper:
    def __init__(self) -> None:
        self._leash: int | None = 0
        self._heard = b""
        self._asked_to_end = False
        self._running: process.Running | None = None
        self._state: Emulated | None = None
        self._said = b""
        self._log = Path()
        self._log_size = 0
        self._log_changed = 0.0
        self._looked = False

    def main(self) -> None:
        for number in (signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # Ctrl-C is the caller's matter
        signal.signal(signal.SIGTERM, self._on_term)
        os.chdir("/")
        code: int | None = None
        try:
            plan = MachinePlan.from_json(self._first_line())
            self._start(plan)
            code = self._look_after()
        except _Cut:
            pass
        except EmbedkitError as error:
            self._tell(
                event="failed", kind=type(error).__name__, message=error.message, hint=error.hint,
                where=error.where,
            )  # fmt: skip
        except Exception:
            self._tell(event="failed", kind="bug", message=traceback.format_exc())
        finally:
            self._quit()
        self._tell(event="ended", code=code, said=self._complaint())

    def _on_term(self, number: int, frame: object) -> None:
        self._asked_to_end = True

    def _first_line(self) -> str:
        while b"\n" not in self._heard:
            self._listen(None)
        line, _, self._heard = self._heard.partition(b"\n")
        return line.decode()

    def _listen(self, timeout: float | None) -> None:
        """Waits for the caller, QEMU or the time. Raises _Cut."""
        if self._asked_to_end:
            raise _Cut
        files = [] if self._leash is None else [self._leash]
        stderr = self._running.stderr if self._running is not None else None
        if stderr is not None:
            files.append(stderr.fileno())
        ready, _, _ = select.select(files, [], [], timeout)
        if self._leash is not None and self._leash in ready:
            data = os.read(self._leash, 64 << 10)
            self._heard += data
            if not data:
                raise _Cut
        if stderr is not None and stderr.fileno() in ready:
            said = os.read(stderr.fileno(), 64 << 10)
            self._said = (self._said + said)[-8000:]
            if not said and timeout:
                time.sleep(min(timeout, 0.05))  # it closed its errors, or is about to end

    def _start(self, plan: MachinePlan) -> None:
        folder = emulated.make_folder()
        card.check_room(folder)
        mine = emulated.birth(os.getpid())

        def made(name: str) -> Emulated:
            return Emulated(
                name=name, board=plan.board, title=plan.title, arch=plan.arch, phase="starting",
                keeper=os.getpid(), birth=mine, pid=0, started=time.time(), accelerator="",
                ssh_port=None, user=plan.user, way="ssh" if plan.network else "serial",
                card=plan.card, card_stamp=plan.card_stamp, kernel=plan.kernel,
                arguments=plan.arguments, keep=plan.keep,
            )  # fmt: skip

        self._state, kept = states.claim(plan.name, plan.exact, made)
        self._tell(event="claimed", name=self._state.name)
        self._listen(0)
        if plan.card and not kept:
            card.make_overlay(self._state.overlay, Path(plan.card), plan.card_bytes)
        for accelerator, argv in plan.attempts:
            self._listen(0)
            port = self._qemu(argv, plan.network, may_end=argv is not plan.attempts[-1][1])
            if self._running is not None:
                self._up(accelerator, port)
                return

    def _qemu(self, argv: tuple[str, ...], network: bool, *, may_end: bool) -> int | None:
        """Starts QEMU and returns its SSH port. Where it ends at once, that is an error unless
        another way ``may_end`` up being tried."""
        assert self._state is not None
        self._said = b""
        running = self._running = process.start(
            ["setpriv", "--pdeathsig", "KILL", "--", *argv],
            cwd=self._state.folder,
            stdout=process.DEVNULL,
        )
        ends = time.monotonic() + _START_SECONDS
        while running.poll() is None:
            try:
                with qmp.talk(self._state.qmp) as opened:
                    port = qmp.forwarded_port(opened) if network else None
                settled = time.monotonic() + (_SETTLE_SECONDS if may_end else 0.0)
                while running.poll() is None:
                    if time.monotonic() >= settled:
                        return port
                    self._listen(0.05)
            except qmp.QmpError as error:
                if time.monotonic() > ends:
                    raise TargetError(f"QEMU does not start: {error.message}") from error
                self._listen(0.02)
        self._drain()
        self._running = None
        if not may_end:
            raise TargetError(
                f"QEMU ended at once: {self._complaint() or f'exit code {running.returncode}'}",
                hint="--accelerator tcg needs nothing of this machine's processor"
                if "kvm" in argv
                else None,
            )
        return None

    def _up(self, accelerator: str, port: int | None) -> None:
        import dataclasses

        assert self._state is not None and self._running is not None
        self._state = dataclasses.replace(
            self._state, phase="booting", pid=self._running.pid, accelerator=accelerator,
            ssh_port=port,
        )  # fmt: skip
        with states.locked():
            self._state.write()
        self._log = self._state.folder / qemu.LOG
        self._tell(event="started", pid=self._running.pid, accelerator=accelerator, ssh_port=port)

    def _look_after(self) -> int:
        """Until QEMU ends; its exit code. Raises _Cut."""
        assert self._running is not None and self._state is not None
        while self._running.poll() is None:
            self._listen(_TICK_SECONDS)
            if self._leash is not None and b"\n" in self._heard:
                self._release()
            if _LOST_WRITE in self._said:
                self._said = self._said.replace(_LOST_WRITE, b"")
                with contextlib.suppress(qmp.QmpError), qmp.talk(self._state.qmp) as opened:
                    opened.ask("stop")
            self._press_buttons()
        self._drain()
        return self._running.returncode

    def _release(self) -> None:
        """The caller lets go: from here on nobody listens."""
        line, _, self._heard = self._heard.partition(b"\n")
        if line != b"release":
            return
        self._tell(event="released")
        self._leash = None
        nowhere = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        os.close(nowhere)

    def _press_buttons(self) -> None:
        tail = self._stands_still()
        if _RESTARTING in tail:
            assert self._state is not None
            with contextlib.suppress(qmp.QmpError), qmp.talk(self._state.qmp) as opened:
                opened.ask("system_reset")
        elif any(words in tail for words in _DOWN):
            raise _Cut

    def _stands_still(self) -> bytes:
        """The end of the log, once each time that nothing more has come for a while."""
        try:
            size = self._log.stat().st_size
            now = time.monotonic()
            if size != self._log_size:
                self._log_size, self._log_changed, self._looked = size, now, False
            if self._looked or now - self._log_changed < _STANDS_STILL_SECONDS:
                return b""
            self._looked = True
            with self._log.open("rb") as file:
                file.seek(max(0, size - 400))
                return file.read(400)
        except OSError:
            return b""

    def _quit(self) -> None:
        """Ends QEMU, which closes the card properly, and clears away."""
        running = self._running
        if running is not None and running.poll() is None:
            running.terminate()
            process.wait_or_kill(running, _QUIT_SECONDS)
        if self._state is not None:
            states.end(self._state)

    def _drain(self) -> None:
        """What QEMU said last."""
        assert self._running is not None and self._running.stderr is not None
        os.set_blocking(self._running.stderr.fileno(), False)
        self._said += self._running.stderr.read() or b""

    def _complaint(self) -> str:
        lines = self._said.decode("utf-8", "replace").strip().splitlines()
        return "; ".join(line.strip() for line in lines[-3:])

    def _tell(self, **event: Any) -> None:
        with contextlib.suppress(OSError):
            os.write(1, json.dumps(event).encode() + b"\n")


if __name__ == "__main__":
    _Keeper().main()
    sys.exit(0)
