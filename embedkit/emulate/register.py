"""Plans that register and unregister architectures, carried out and read back."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from embedkit import elf, process
from embedkit.emulate import versions
from embedkit.emulate.binfmt import WRITTEN_BY_US, Instance, Status
from embedkit.emulate.entry import Entry
from embedkit.emulate.magic import Architecture, native, of_program
from embedkit.errors import EmbedkitError, InputError, LackError, TargetError
from embedkit.files import write_atomically

_PACKAGE_HINT = "on Debian: apt-get install qemu-user-static"


class Act(StrEnum):
    """What one step does."""

    MOUNT = "mount"
    REMOVE = "remove"
    REGISTER = "register"
    WRITE = "write"
    DELETE = "delete"


@dataclass(frozen=True)
class Step:
    """One change: a sentence, what it touches, and how it is undone by hand."""

    act: Act
    title: str
    touches: str
    undo: str
    entry: Entry | None = None
    path: Path | None = None


@dataclass(frozen=True)
class Plan:
    """``steps`` in order; ``remarks`` are what the user should know besides."""

    steps: tuple[Step, ...]
    remarks: tuple[str, ...] = ()


def find_qemu(architecture: Architecture, given: Path | None = None) -> Path:
    """The *static* user emulator for an architecture.

    Raises LackError where there is none, or only a dynamic one (the reason is in the message).
    """
    if given is not None:
        candidates = [given.absolute()]
        if not given.is_file():
            raise InputError(f"there is no such interpreter: {given}")
    else:
        names = (f"qemu-{architecture.qemu}-static", f"qemu-{architecture.qemu}")
        candidates = [path for name in names if (path := process.find(name)) is not None]
        if not candidates:
            raise LackError(f"{names[0]} is not installed", hint=_PACKAGE_HINT)
    here = native()
    loader = ""
    for path in candidates:
        program = elf.read_path(path)
        if program is None or of_program(program) not in here:
            raise LackError(f"{path} is no program of this machine", hint=_PACKAGE_HINT)
        if program.static:
            return path.absolute()
        loader = program.interpreter
    raise LackError(
        f"{candidates[0]} is dynamic: in a container or chroot its loader {loader} is missing "
        "or foreign, so every program would fail with 'no such file or directory'",
        hint=_PACKAGE_HINT,
    )


def wanted(
    architecture: Architecture, qemu: Path | None = None, *, credentials: bool = False
) -> Entry:
    """The entry that embedkit registers. Raises LackError without a static QEMU."""
    program = find_qemu(architecture, qemu)
    return Entry(
        architecture.entry,
        str(program),
        versions.flags(program, credentials=credentials),
        architecture.magic,
        architecture.mask,
    )


def plan_register(
    status: Status,
    entries: tuple[tuple[Architecture, Entry], ...],
    *,
    instance: Instance,
    persistent: bool = False,
    replace: bool = False,
) -> Plan:
    """What makes ``entries`` the ones that the kernel uses; no step where they are already.

    Raises InputError where another entry takes the architecture's programs or an architecture
    is this machine's own, LackError where the kernel has no binfmt_misc.
    """
    _need_support(status)
    steps: list[Step] = []
    remarks: list[str] = []
    if not status.mounted:
        steps.append(_mount(instance))
    elif not status.enabled:
        raise LackError(
            "binfmt_misc as a whole is disabled",
            where=str(instance.folder / "status"),
            hint=f"echo 1 > {instance.folder}/status",
        )
    for architecture, entry in entries:
        if architecture in native():
            raise InputError(f"{architecture.name} programs run on this machine as they are")
        others = [
            found
            for found in status.entries
            if found.entry.name == entry.name or architecture in found.architectures
        ]
        if any(found.entry.says_the_same(entry) for found in others) and len(others) == 1:
            remarks.append(f"{entry.name} is registered just so already")
        else:
            if others and not replace:
                other = others[0]
                why = other.trouble or "it works in containers and chroots"
                raise InputError(
                    f"{architecture.name} is taken by the entry {other.entry.name} "
                    f"({other.entry.interpreter}, flags {other.entry.flags or 'none'}; {why})",
                    hint="--replace puts embedkit's in its place",
                    where=str(instance.folder / other.entry.name),
                )
            steps += [_remove(found.entry, instance) for found in others]
            steps.append(_register(entry, instance))
        if persistent:
            steps += _write(entry, instance)
    return Plan(tuple(steps), tuple(remarks))


def plan_unregister(
    status: Status, architectures: tuple[Architecture, ...], *, instance: Instance
) -> Plan:
    """What makes the kernel refuse these architectures' programs again, now and after a reboot.

    Files of binfmt.d are deleted only where embedkit wrote them; others are named in a remark.
    """
    steps: list[Step] = []
    remarks: list[str] = []
    for architecture in architectures:
        found = status.of(architecture)
        for each in found:
            step = _remove(each.entry, instance)
            if step not in steps:
                steps.append(step)
            if each.owner.kind != "unknown" and not _is_ours(instance.root / each.owner.where[1:]):
                remarks.append(
                    f"{each.entry.name} comes back at the next boot: {each.owner} asks for it"
                )
        file = _file(architecture.entry, instance)
        if _is_ours(file):
            steps.append(
                Step(Act.DELETE, f"delete {file}", str(file), _undo_delete(file), path=file)
            )
        elif not found:
            remarks.append(f"nothing is registered for {architecture.name}")
    return Plan(tuple(steps), tuple(remarks))


def carry_out(plan: Plan, instance: Instance) -> None:
    """Does the steps, then reads everything back.

    A failure undoes what was done, in reverse. Raises LackError where the kernel or the
    permissions refuse, TargetError where afterwards the kernel says something else.
    """
    done: list[tuple[Step, bytes]] = []
    try:
        for step in plan.steps:
            before = step.path.read_bytes() if step.path and step.path.is_file() else b""
            _do(step, instance)
            done.append((step, before))
        verify(plan, instance)
    except (EmbedkitError, KeyboardInterrupt, OSError) as error:
        for step, before in reversed(done):
            try:
                _undo(step, before, instance)
            except EmbedkitError as second:
                raise TargetError(
                    f"{error}; and then '{step.title}' could not be undone: {second}",
                    hint=f"by hand: {step.undo}",
                ) from error
        if isinstance(error, OSError):
            raise LackError(f"cannot go on: {error.strerror}", where=error.filename) from error
        raise


def verify(plan: Plan, instance: Instance) -> None:
    """Compares what is there with what the plan was for. Raises TargetError."""
    last = {step.entry.name: step for step in plan.steps if step.entry is not None}
    for step in plan.steps:
        if step.act in (Act.REGISTER, Act.REMOVE) and step.entry is not None:
            if step.act is Act.REMOVE and last[step.entry.name].act is not Act.REMOVE:
                continue  # removed to make room
            now = instance.entry(step.entry.name)
            gone = step.act is Act.REMOVE
            if gone != (now is None) or (now is not None and not now.says_the_same(step.entry)):
                raise TargetError(
                    f"read back, {step.entry.name} is not as planned: {now or 'no such entry'}",
                    where=str(instance.folder / step.entry.name),
                )


def need_root(instance: Instance) -> None:
    """Raises LackError where this process cannot change the machine's entries."""
    if instance.root == Path("/") and os.geteuid() != 0:
        raise LackError(
            "only root can change what the machine registers",
            hint="sudo, or without root: embedkit binfmt register ARCH --run COMMAND",
        )


def _need_support(status: Status) -> None:
    if not status.supported:
        raise LackError(
            "this kernel has no binfmt_misc",
            hint="modprobe binfmt_misc, or build the kernel with CONFIG_BINFMT_MISC",
        )


def _do(step: Step, instance: Instance) -> None:
    if step.act is Act.MOUNT:
        process.run(["mount", "-t", "binfmt_misc", "binfmt_misc", instance.folder])
    elif step.act is Act.REGISTER and step.entry:
        instance.register(step.entry)
    elif step.act is Act.REMOVE and step.entry:
        instance.remove(step.entry.name)
    elif step.act is Act.WRITE and step.entry and step.path:
        step.path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(step.path, _content(step.entry))
    elif step.act is Act.DELETE and step.path:
        step.path.unlink()


def _undo(step: Step, before: bytes, instance: Instance) -> None:
    if step.act is Act.MOUNT:
        process.run(["umount", instance.folder], check=False)
    elif step.act is Act.REGISTER and step.entry:
        instance.remove(step.entry.name)
    elif step.act is Act.REMOVE and step.entry:
        instance.register(step.entry)
        if not step.entry.enabled:
            instance.disable(step.entry.name)
    elif step.path is not None:
        if before:
            write_atomically(step.path, before)
        else:
            step.path.unlink(missing_ok=True)


def _mount(instance: Instance) -> Step:
    folder = str(instance.folder)
    return Step(Act.MOUNT, "mount binfmt_misc", folder, f"umount {folder}")


def _register(entry: Entry, instance: Instance) -> Step:
    path = instance.folder / entry.name
    title = f"register {entry.name}: {entry.interpreter}, flags {entry.flags}"
    return Step(Act.REGISTER, title, str(path), f"echo -1 > {path}", entry)


def _remove(entry: Entry, instance: Instance) -> Step:
    path = instance.folder / entry.name
    undo = f"echo '{entry.line()}' > {instance.folder / 'register'}"
    return Step(Act.REMOVE, f"unregister {entry.name}", str(path), undo, entry)


def _file(name: str, instance: Instance) -> Path:
    # A distribution's file has the same name, and /etc comes before it.
    return instance.root / "etc/binfmt.d" / f"{name}.conf"


def _write(entry: Entry, instance: Instance) -> list[Step]:
    path = _file(entry.name, instance)
    if path.exists() and not _is_ours(path):
        raise InputError(
            "this file was written by someone else; it stays as it is",
            where=str(path),
            hint="move it away, or register without --persistent",
        )
    if path.exists() and path.read_bytes() == _content(entry):
        return []
    title = f"write {path}, which systemd-binfmt reads at every boot"
    return [Step(Act.WRITE, title, str(path), _undo_write(path), entry, path)]


def _content(entry: Entry) -> bytes:
    told = f"{WRITTEN_BY_US}: 'embedkit binfmt unregister' deletes it. See binfmt.d(5)."
    return f"{told}\n{entry.line()}\n".encode()


def _undo_write(path: Path) -> str:
    return f"put back its old content: {path}" if path.exists() else f"rm {path}"


def _undo_delete(path: Path) -> str:
    line = path.read_text("utf-8", "replace").splitlines()[-1]
    return f"echo '{line}' > {path}"


def _is_ours(path: Path) -> bool:
    try:
        return path.read_text("utf-8", "replace").startswith(WRITTEN_BY_US)
    except OSError:
        return False
