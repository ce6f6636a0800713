"""What a binfmt_misc has: is it mounted, which entries, whose, with which interpreter.

One instance of binfmt_misc belongs to the machine, and since Linux 6.7 a user namespace can
have its own; :class:`Instance` is whichever this process sees under its ``/proc``.
"""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

from embedkit import elf
from embedkit.emulate.entry import Entry, parse, parse_line
from embedkit.emulate.magic import ARCHITECTURES, Architecture, matches, native
from embedkit.errors import LackError

# The machine's first user namespace: PROC_USER_INIT_INO of include/linux/proc_ns.h.
_FIRST_USER_NAMESPACE = "user:[4026531837]"
_PRIVATE_SINCE = (6, 7)
# systemd's binfmt.d(5): a file hides those of its name in the folders after it.
BINFMT_D = ("etc", "run", "usr/local/lib", "usr/lib", "lib")
WRITTEN_BY_US = "# Written by embedkit"


@dataclass(frozen=True)
class Interpreter:
    """An entry's interpreter as it is now; ``static`` is None where that cannot be told."""

    path: str
    exists: bool
    static: bool | None


@dataclass(frozen=True)
class Owner:
    """Who registered an entry: ``kind`` is "binfmt.d", "update-binfmts" or "unknown"."""

    kind: str
    where: str = ""
    package: str = ""

    def __str__(self) -> str:
        if self.kind == "unknown":
            return "unknown: by hand, or by a container such as tonistiigi/binfmt"
        extra = f", package {self.package}" if self.package else ""
        return f"{self.kind} ({self.where}{extra})"


@dataclass(frozen=True)
class Found:
    """An entry, what stands behind it, and the architectures whose programs it takes."""

    entry: Entry
    interpreter: Interpreter
    owner: Owner
    architectures: tuple[Architecture, ...]

    @property
    def trouble(self) -> str:
        """Why programs of its architecture do not run in a container or chroot; "" if they do."""
        if not self.entry.enabled:
            return "it is disabled"
        if not self.entry.is_fixed:
            return (
                "it lacks the flag F: in a container or chroot the kernel looks for "
                f"{self.entry.interpreter} there, and says 'no such file or directory'"
            )
        if self.interpreter.static is False:
            return (
                "its interpreter is dynamic: in a container or chroot the interpreter's own "
                "loader is missing, and the kernel says 'no such file or directory'"
            )
        return ""


@dataclass(frozen=True)
class Status:
    """The state of one instance of binfmt_misc."""

    supported: bool
    mounted: bool
    enabled: bool
    entries: tuple[Found, ...]
    machine_wide: bool
    private_possible: bool

    def of(self, architecture: Architecture) -> tuple[Found, ...]:
        """The entries that take this architecture's programs; an enabled one first."""
        found = [each for each in self.entries if architecture in each.architectures]
        return tuple(sorted(found, key=lambda each: not each.entry.enabled))

    def usable(self, architecture: Architecture) -> Found | None:
        """The entry through which its programs run in any container or chroot."""
        if not self.enabled:
            return None
        taken = [each for each in self.of(architecture) if each.entry.enabled]
        # The kernel asks the newest entry first, and its order is not shown: all must do.
        return taken[0] if taken and not any(each.trouble for each in taken) else None


@dataclass(frozen=True)
class Instance:
    """The binfmt_misc seen under ``root`` (a root file system; "/" but in tests)."""

    root: Path = Path("/")

    @property
    def folder(self) -> Path:
        """Where it is mounted, or would be."""
        return self.root / "proc/sys/fs/binfmt_misc"

    @property
    def is_mounted(self) -> bool:
        """Asking makes systemd's automount mount it."""
        return (self.folder / "register").exists()

    def entry(self, name: str) -> Entry | None:
        """The entry as the kernel has it now."""
        try:
            return parse(name, (self.folder / name).read_text("utf-8", "surrogateescape"))
        except OSError:
            return None

    def entries(self) -> tuple[Entry, ...]:
        """All entries by name; none where it is not mounted."""
        if not self.is_mounted:
            return ()
        names = sorted(os.listdir(self.folder))  # noqa: PTH208 - no Path needed
        found = (self.entry(name) for name in names if name not in ("register", "status"))
        return tuple(entry for entry in found if entry is not None)

    @property
    def is_enabled(self) -> bool:
        try:
            return (self.folder / "status").read_text().strip() == "enabled"
        except OSError:
            return False

    def register(self, entry: Entry) -> None:
        """Raises LackError with what the kernel's answer means."""
        meanings = {
            errno.EEXIST: "an entry of this name is there already",
            errno.ENOENT: f"the interpreter {entry.interpreter} is not there",
            errno.EINVAL: "the kernel does not take this entry",
            errno.EPERM: "it needs root",
            errno.EACCES: "it needs root",
        }
        self._write("register", entry.line(), f"cannot register {entry.name}", meanings)

    def remove(self, name: str) -> None:
        """Raises LackError with what the kernel's answer means."""
        meanings = {errno.ENOENT: "there is no such entry", errno.EACCES: "it needs root"}
        self._write(name, "-1", f"cannot unregister {name}", meanings)

    def disable(self, name: str) -> None:
        """Keeps the entry, but takes no program through it. Raises LackError."""
        self._write(name, "0", f"cannot disable {name}", {errno.EACCES: "it needs root"})

    def _write(self, name: str, text: str, what: str, meanings: dict[int, str]) -> None:
        path = self.folder / name
        try:
            # One write is one entry, and a missing file must not be made.
            handle = os.open(path, os.O_WRONLY)
            try:
                os.write(handle, text.encode("utf-8", "surrogateescape"))
            finally:
                os.close(handle)
        except OSError as error:
            why = meanings.get(error.errno or 0, str(error.strerror))
            raise LackError(f"{what}: {why}", where=str(path)) from error


def status(instance: Instance | None = None) -> Status:
    """How the binfmt_misc of ``instance`` stands. Changes nothing, needs no root."""
    instance = instance or Instance()
    return Status(
        supported=_supported(instance),
        mounted=instance.is_mounted,
        enabled=instance.is_enabled,
        entries=tuple(describe(entry, instance) for entry in instance.entries()),
        machine_wide=_machine_wide(),
        private_possible=private_possible(),
    )


def describe(entry: Entry, instance: Instance) -> Found:
    """What stands behind an entry."""
    path = Path(entry.interpreter)
    program = elf.read_path(path)
    taken = tuple(
        each
        for each in ARCHITECTURES
        if any(
            matches(each.header(kind).ljust(128, b"\0"), entry.magic, entry.mask, entry.offset)
            for kind in (2, 3)
        )
    )
    static = program.static if program else None
    return Found(
        entry,
        Interpreter(entry.interpreter, path.exists(), static),
        owner(entry, instance.root),
        taken,
    )


def owner(entry: Entry, root: Path = Path("/")) -> Owner:
    """Who registers this entry, by the files under ``root`` that ask for just this entry."""
    hidden: set[str] = set()
    for folder in BINFMT_D:
        for file in sorted((root / folder / "binfmt.d").glob("*.conf")):
            if file.name in hidden:
                continue
            hidden.add(file.name)
            for line in _lines(file):
                asked = parse_line(line)
                if asked and (asked.name, asked.interpreter) == (entry.name, entry.interpreter):
                    return Owner("binfmt.d", f"/{file.relative_to(root)}")
    # binfmt-support keeps what it registered as lines: package, type, offset, magic, mask, …
    admin = root / "var/lib/binfmts" / entry.name
    lines = _lines(admin)
    if entry.interpreter in lines:
        return Owner("update-binfmts", f"/{admin.relative_to(root)}", lines[0].strip(":"))
    return Owner("unknown")


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text("utf-8", "surrogateescape").splitlines()
    except OSError:
        return []


def private_possible() -> bool:
    """Whether a user namespace can have a binfmt_misc of its own (Linux 6.7 and newer)."""
    from embedkit.emulate.versions import kernel

    if kernel() < _PRIVATE_SINCE:
        return False
    try:
        if int(Path("/proc/sys/user/max_user_namespaces").read_text()) == 0:
            return False
        # Debian's own switch, for those who are not root.
        switch = Path("/proc/sys/kernel/unprivileged_userns_clone")
        return os.geteuid() == 0 or not switch.exists() or switch.read_text().strip() != "0"
    except (OSError, ValueError):
        return False


def foreign() -> tuple[Architecture, ...]:
    """The architectures that need emulation on this machine."""
    here = native()
    return tuple(each for each in ARCHITECTURES if each not in here)


def _machine_wide() -> bool:
    try:
        return os.readlink("/proc/self/ns/user") == _FIRST_USER_NAMESPACE  # noqa: PTH115
    except OSError:
        return True


def _supported(instance: Instance) -> bool:
    if instance.is_mounted or instance.folder.is_dir():
        return True
    return any(line.split()[-1:] == ["binfmt_misc"] for line in _lines(Path("/proc/filesystems")))
