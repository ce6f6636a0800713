"""The stages that reach the board: it boots, and what it is."""

from __future__ import annotations

import shlex
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from embedkit import board as boards
from embedkit.bringup.held import Board
from embedkit.bringup.settings import EMULATED
from embedkit.bringup.stages import Chain, Done, Stage, Todo, Tone
from embedkit.bringup.state import Record
from embedkit.errors import EmbedkitError, LackError, TargetError
from embedkit.kernel import profile_file
from embedkit.kernel.audit import Audit, Verdict
from embedkit.kernel.running import audit_running
from embedkit.target import emulated
from embedkit.target.facts import Facts
from embedkit.target.opening import open_target
from embedkit.target.preflight import Concern, Weight, judge
from embedkit.units import format_seconds

if TYPE_CHECKING:
    from embedkit.emulate.machine import MachinePlan

_QUICK_SECONDS = 10.0


@dataclass(frozen=True)
class Reached:
    """A board that answered. ``seconds`` from power-on, or from the first try; ``milestones``
    are names with seconds since power-on; ``command`` and ``accelerator`` are QEMU's."""

    name: str
    address: str
    facts: Facts
    seconds: float
    milestones: tuple[tuple[str, float], ...] = ()
    command: tuple[str, ...] = ()
    accelerator: str = ""


@dataclass(frozen=True)
class Hung:
    """A boot that came to nothing: a guess why, and the end of the serial line's log."""

    diagnosis: str
    last_lines: tuple[str, ...]


@dataclass(frozen=True)
class Probed:
    """What the board is, and what speaks against Docker there."""

    name: str
    address: str
    facts: Facts
    concerns: tuple[Concern, ...]
    audit: Audit | None


class Boot(Stage):
    """Waits until the board answers; an emulated one is started for it."""

    name = "boot"
    title = "Boot the board"
    live = True

    def absent(self, chain: Chain) -> str:
        settings = chain.settings
        return "" if settings.target or settings.emulated else "the file names no target"

    def inputs(self, chain: Chain) -> object:
        settings = chain.settings
        return [settings.target, settings.boot, chain.carried("compose").get("sha256")]

    def verify(self, chain: Chain, record: Record) -> bool:
        """The same board still runs, since the same boot."""
        address = str(record.carry.get("address", ""))
        if chain.settings.emulated and not _is_running(address):
            return False
        target = open_target(address, chain.hands.access)
        try:
            target.connect(deadline_seconds=None)
            same = target.facts().boot_id == record.carry.get("boot_id")
        except EmbedkitError:
            same = False
        if not same:
            target.close()
            return False
        chain.board = Board(target)
        return True

    def preview(self, chain: Chain) -> tuple[Todo, ...]:
        seconds = chain.settings.boot.deadline_seconds
        where = chain.settings.target or "the emulated board"
        wait = Todo(f"wait until {where} answers, {seconds} s at the most")
        if not chain.settings.emulated:
            return (Todo("put the card into the board and switch it on (yours to do)"), wait)
        end = Todo("switch the machine off at the end", "", "--keep leaves it on")
        accelerator, argv = _machine_plan(chain).attempts[0]
        return (Todo(f"start QEMU with {accelerator}", shlex.join(argv)), wait, end)

    def do(self, chain: Chain) -> Done:
        if chain.settings.emulated:
            return self._start(chain)
        seconds = chain.settings.boot.deadline_seconds
        address = chain.settings.target
        target = open_target(address, chain.hands.access)
        chain.board = Board(target)
        begun = time.monotonic()
        chain.progress.say(
            f"waiting up to {format_seconds(seconds)} for {target.address}: "
            "put the card in and switch the board on"
        )
        try:
            target.connect(deadline_seconds=seconds)
        except TargetError as error:
            more = "its serial console tells more (embedkit console serial:///dev/ttyUSB0)"
            error.hint = "; ".join(filter(None, (error.hint, more)))
            raise
        took = time.monotonic() - begun
        return _answered(Reached(target.name, target.address, target.facts(), took))

    def _start(self, chain: Chain) -> Done:
        from embedkit.emulate import machine

        boot = chain.settings.boot
        plan = _machine_plan(chain)
        running = machine.start(plan, chain.progress)
        try:
            booted = running.wait(boot.deadline_seconds, boot.until)
            target = running.target()
            target.connect(deadline_seconds=_QUICK_SECONDS)
            facts = target.facts()
        except machine.BootFailed as error:
            running.close()
            hung = Hung(error.diagnosis.guess, error.last_lines)
            verdict = str(error).partition("\n")[0]
            return Done(verdict, Tone.FAIL, hung, hint=error.hint or "", error=error)
        except BaseException:
            running.close()
            raise
        chain.board = Board(target, running)
        command = dict(plan.attempts)[running.state.accelerator]
        value = Reached(
            target.name, target.address, facts, booted.seconds, booted.milestones, command,
            running.state.accelerator,
        )  # fmt: skip
        done = _answered(value)
        return replace(done, hint=booted.note, tone=Tone.WARN) if booted.note else done


class Probe(Stage):
    """Asks the running board what it is and has, and audits its running kernel."""

    name = "probe"
    title = "Probe the board"
    live = True

    def absent(self, chain: Chain) -> str:
        return Boot().absent(chain)

    def inputs(self, chain: Chain) -> object:
        return []

    def preview(self, chain: Chain) -> tuple[Todo, ...]:
        return (Todo("ask the board what it is and has, and audit its running kernel"),)

    def do(self, chain: Chain) -> Done:
        target = reach(chain).target
        facts = target.facts(refresh=True)
        audit = audit_running(target, facts, profile_file.load(chain.settings.kernel.profile))
        concerns = judge(facts)
        bad = [concern.label for concern in concerns if concern.weight is Weight.FAIL]
        if audit is not None and audit.verdict is Verdict.FAILS:
            bad.append("kernel config")
        value = Probed(target.name, target.address, facts, concerns, audit)
        if bad:
            verdict = f"Docker will not run here as it is: {', '.join(bad)}"
            if not chain.settings.docker.force:
                hint = "docker.force = true goes on all the same"
                return Done(verdict, Tone.FAIL, value, hint=hint)
            return Done(verdict, Tone.WARN, value)
        limits = any(concern.weight is Weight.WARN for concern in concerns)
        limits = limits or (audit is not None and audit.verdict is Verdict.LIMITS)
        if limits:
            return Done("Docker will run here, with limits", Tone.WARN, value)
        return Done("ready for Docker", value=value)


def reach(chain: Chain) -> Board:
    """The board of this run, connected to where an earlier run left it.

    Raises LackError where an emulated one does not run, TargetError where none answers.
    """
    if chain.board is None:
        address = chain.settings.target or str(chain.carried("boot").get("address", ""))
        if chain.settings.emulated and not _is_running(address):
            raise LackError(
                "the emulated board is not running",
                where=address or None,
                hint="do the stage 'boot' as well; --keep leaves the board running at the end",
            )
        target = open_target(address, chain.hands.access)
        chain.board = Board(target)
        target.connect(deadline_seconds=chain.settings.boot.deadline_seconds)
    return chain.board


def _answered(value: Reached) -> Done:
    name = value.facts.hostname or value.name
    carry = {"boot_id": value.facts.boot_id, "address": value.address}
    return Done(f"{name} answers after {format_seconds(value.seconds)}", value=value, carry=carry)


def _is_running(address: str) -> bool:
    name = address.removeprefix(EMULATED).partition("?")[0]
    return any(state.name == name for state in emulated.running())


def _machine_plan(chain: Chain) -> MachinePlan:
    from embedkit.emulate import machine

    settings, boot = chain.settings, chain.settings.boot
    medium = machine.Medium(
        settings.image, boot.kernel, boot.initrd, boot.device_tree, boot.arguments
    )
    named = settings.target.removeprefix(EMULATED) or None
    plan = machine.plan(
        boards.load(settings.board),
        medium,
        name=named,
        memory=boot.memory,
        processors=boot.processors,
        accelerator=boot.accelerator,
    )
    return plan if named else replace(plan, name=settings.name)
