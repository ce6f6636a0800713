"""Commands inside namespaces of their own: in a foreign root file system, or beside a private
binfmt_misc.

Whatever ends embedkit ends the command too, and with it the mounts: the namespaces' first
process dies with embedkit (PR_SET_PDEATHSIG), even of SIGKILL.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from embedkit import elf, process
from embedkit.emulate import rootfs, versions
from embedkit.emulate.binfmt import Status
from embedkit.emulate.entry import Entry
from embedkit.emulate.inside import Op, Work
from embedkit.emulate.magic import Architecture, native
from embedkit.emulate.register import wanted
from embedkit.errors import InputError, LackError

_PACKAGE = Path(__file__).resolve().parents[1]
_KEPT = ("TERM", "COLORTERM", "LANG", "TZ", "SOURCE_DATE_EPOCH")
_KEPT_BEGINNINGS = ("LC_", "QEMU_")
_KEPT_ENDS = ("_proxy", "_PROXY")
CORE_SIGNALS = {4: "SIGILL", 6: "SIGABRT", 7: "SIGBUS", 8: "SIGFPE", 11: "SIGSEGV"}
"""Signals of a crash: what a CPU that lacks an instruction, or QEMU, raises."""


@dataclass(frozen=True)
class Way:
    """How programs of one architecture run: as they are, by the machine's entry, or by a
    private one (``entry`` is then what is registered, and ``private`` is true).
    """

    architecture: Architecture
    entry: Entry | None = None
    private: bool = False

    def __str__(self) -> str:
        if self.entry is None:
            return f"{self.architecture.name}: runs on this machine as it is"
        where = "registered for this command alone" if self.private else "the machine's entry"
        return f"{self.architecture.name}: {self.entry.interpreter} ({where})"


@dataclass(frozen=True)
class Session:
    """A command and the namespaces to run it in; ``map_all`` keeps every user id as it is."""

    work: Work
    user_namespace: bool
    map_all: bool
    ways: tuple[Way, ...] = ()
    remarks: tuple[str, ...] = ()

    def sentences(self) -> tuple[str, ...]:
        """What will be done, in order."""
        spaces = "mount and PID namespaces of its own"
        if self.user_namespace:
            spaces = "user, " + spaces
        done = [f"make {spaces}; they, and all mounts in them, end with the command"]
        done += [f"register, in this namespace alone: {line}" for line in self.work.lines]
        done += [str(op) for op in self.work.ops if not op.is_detail]
        where = f" in {self.work.root}" if self.work.root else ""
        return (*done, f"run{where}: {' '.join(self.work.command)}")


def way(architecture: Architecture, status: Status, qemu: Path | None = None) -> Way:
    """How this architecture's programs can run in a chroot here.

    The machine's own entry where it does, else a private one. Raises LackError where neither
    can be, with what to do.
    """
    if architecture in native():
        return Way(architecture)
    usable = None if qemu else status.usable(architecture)
    if usable is not None:
        return Way(architecture, usable.entry)
    if not status.private_possible:
        others = status.of(architecture)
        why = f"; {others[0].entry.name} does not do: {others[0].trouble}" if others else ""
        raise LackError(
            f"{architecture.name} programs do not run here, and this kernel gives no user "
            f"namespace a binfmt_misc of its own (Linux 6.7 and newer do){why}",
            hint=f"as root: embedkit binfmt register {architecture.name}",
        )
    return Way(architecture, wanted(architecture, qemu), private=True)


def plan_chroot(
    root: Path,
    command: tuple[str, ...],
    status: Status,
    *,
    cpu: str = "",
    qemu: Path | None = None,
    binds: tuple[tuple[Path, str], ...] = (),
    environment: Mapping[str, str] | None = None,
) -> Session:
    """A command in a root file system of any architecture.

    ``cpu`` is a CPU of QEMU's for the emulated programs; ``environment`` is added to what the
    command gets. Raises InputError (no root file system, unknown CPU), LackError (no
    emulation to be had).
    """
    root = root.resolve()
    if not root.is_dir():
        raise InputError("there is no such folder", where=str(root))
    if root == Path("/"):
        raise InputError("this is the machine's own root file system", where="/")
    ways = tuple(way(each, status, qemu) for each in rootfs.architectures(root, command[0]))
    given = dict(environment or {})
    if cpu:
        given["QEMU_CPU"] = _checked_cpu(ways, cpu)
    private = tuple(each.entry.line() for each in ways if each.private and each.entry)
    is_root = os.geteuid() == 0
    user_namespace = bool(private) or not is_root
    own_sysfs = status.machine_wide and not user_namespace
    ops, remarks = rootfs.mounts(root, binds, own_sysfs=own_sysfs)
    kept = {
        name: value
        for name, value in os.environ.items()
        if name in _KEPT or name.startswith(_KEPT_BEGINNINGS) or name.endswith(_KEPT_ENDS)
    }
    whole = {"PATH": rootfs.PATH, "HOME": "/root", **kept, **given}
    if not is_root:
        remarks += ("without root, every file belongs to root inside, and chown fails",)
    elif private:
        remarks += ("in a user namespace device nodes cannot be made",)
    work = Work(private, ops, str(root), command, tuple(sorted(whole.items())))
    return Session(work, user_namespace, is_root and user_namespace, ways, remarks)


def plan_private(entries: tuple[Entry, ...], command: tuple[str, ...], *, cpu: str = "") -> Session:
    """A command of this machine beside a binfmt_misc of its own that holds ``entries``."""
    if cpu:
        for entry in entries:
            versions.check_cpu(Path(entry.interpreter), cpu)
    given = {"QEMU_CPU": cpu} if cpu else {}
    work = Work(
        tuple(entry.line() for entry in entries),
        (Op("mount", "proc", "/proc", "nosuid,nodev,noexec"),),
        "",
        command,
        tuple(sorted({**os.environ, **given}.items())),
    )
    return Session(work, user_namespace=True, map_all=os.geteuid() == 0)


def run(session: Session, *, stdout: int | None = None) -> int:
    """Runs it on this process's standard streams; the exit code is the command's.

    128 + N where signal N ended it, 126 or 127 where it cannot be started, as shells have it.
    Raises LackError where the namespaces or mounts cannot be made.
    """
    heard, tell = os.pipe()
    hear, say = os.pipe()
    ends = {heard, tell, hear, say}

    def close(*which: int) -> None:
        for end in which:
            if end in ends:
                ends.remove(end)
                os.close(end)

    def started(pid: int) -> None:
        close(tell, hear)
        if _line(heard) == "ready":
            if session.map_all:
                _map_all(pid)
            # Where the inside died meanwhile, what it told says why.
            with suppress(BrokenPipeError), os.fdopen(os.dup(say), "wb") as file:
                file.write(session.work.encoded().encode())
        close(say)

    inner = [sys.executable, "-P", "-m", "embedkit.emulate.inside", str(tell), str(hear)]
    inner.append("map" if session.map_all else "as-is")
    try:
        code = process.attach(
            [*_namespaces(session), *inner],
            # The inside must be this embedkit, also where it runs from a checkout.
            env={**os.environ, "PYTHONPATH": os.fspath(_PACKAGE.parent)},
            stdout=stdout,
            pass_fds=(tell, hear),
            started=started,
        )
        last = _line(heard)
    finally:
        close(*list(ends))
    if last == "started":
        return code
    if last.startswith("{"):
        raw = json.loads(last)
        raise LackError(raw["message"], where=raw["where"], hint=raw["hint"])
    raise LackError(
        "the namespaces for the command cannot be made",
        hint="user namespaces may be switched off (sysctl user.max_user_namespaces, "
        "kernel.apparmor_restrict_unprivileged_userns), or run it as root",
    )


def _namespaces(session: Session) -> list[str | os.PathLike[str]]:
    unshare = process.require("unshare", purpose="run a command in namespaces of its own")
    setpriv = process.require("setpriv", purpose="end the command together with embedkit")
    words: list[str | os.PathLike[str]] = [setpriv, "--pdeathsig", "KILL", unshare]
    if session.map_all:
        # Before the map is written nobody is root there, and exec would drop everything.
        words += ["--user", "--keep-caps"]
    elif session.user_namespace:
        words.append("--map-root-user")
    return [*words, "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--"]


def _map_all(pid: int) -> None:
    """Gives the namespace of ``pid`` every user and group id of this one, unchanged.

    ``unshare --map-users`` would need newuidmap, also for root.
    """
    for kind in ("uid_map", "gid_map"):
        ranges = [line.split() for line in Path("/proc/self", kind).read_text().splitlines()]
        same = "".join(f"{inner} {inner} {count}\n" for inner, _, count in ranges)
        try:
            Path(f"/proc/{pid}/{kind}").write_text(same)
        except OSError as error:
            raise LackError(
                f"the ids of the namespace cannot be set: {error.strerror}",
                hint="in a container, root may lack CAP_SETUID or CAP_SETGID",
            ) from error


def _line(end: int) -> str:
    """The next line of a pipe; "" at its end."""
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(end, 1)
        if not byte:
            break
        line += byte
    return line.decode().strip()


def _checked_cpu(ways: tuple[Way, ...], cpu: str) -> str:
    first = ways[0]
    if first.entry is None:
        raise InputError(
            f"{first.architecture.name} programs run on this machine's own CPU; --cpu is for "
            "emulated ones"
        )
    emulator = Path(first.entry.interpreter)
    if elf.read_path(emulator) is not None:
        versions.check_cpu(emulator, cpu)
    return cpu


def crash(code: int) -> str:
    """The name of the signal that ended the command by a crash; "" where there was none."""
    return CORE_SIGNALS.get(code - 128, "")
