"""A root file system in a folder: its paths, its architecture, and what must be mounted in it.

Nothing here follows a link out of the folder: a root file system is somebody else's data.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from embedkit import elf
from embedkit.emulate.inside import Op
from embedkit.emulate.magic import Architecture, of_program
from embedkit.errors import InputError

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_MOST_LINKS = 40  # as the kernel has it (MAXSYMLINKS)
_DEVICES = ("null", "zero", "full", "random", "urandom", "tty")
_LINKS = (
    ("/proc/self/fd", "fd"),
    ("/proc/self/fd/0", "stdin"),
    ("/proc/self/fd/1", "stdout"),
    ("/proc/self/fd/2", "stderr"),
    ("pts/ptmx", "ptmx"),
)
# What tells the architecture where the command itself does not: any of these.
_TELLING = ("/bin/sh", "/bin/busybox", "/sbin/init", "/usr/bin/env", "/bin/bash")


def within(root: Path, path: str) -> Path:
    """Where ``path``, as seen in ``root``, lies on this machine; it need not exist.

    Links are followed as after a chroot: absolute ones and ``..`` end at ``root``. Raises
    InputError where they go in a circle.
    """
    todo = _parts(path)
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop(0)
        if part == "..":
            done = done[:-1]
            continue
        here = root.joinpath(*done, part)
        if not here.is_symlink():
            done.append(part)
            continue
        links += 1
        if links > _MOST_LINKS:
            raise InputError("its links go in a circle", where=str(root / path.lstrip("/")))
        target = os.readlink(here)  # noqa: PTH115 - as it is written
        if target.startswith("/"):
            done = []
        todo = _parts(target) + todo
    return root.joinpath(*done)


def _parts(path: str) -> list[str]:
    # Not PurePosixPath, for which a leading "//" is a root of its own.
    return [part for part in path.split("/") if part not in ("", ".")]


def architectures(root: Path, command: str) -> tuple[Architecture, ...]:
    """The architectures of the command and of the shell, the command's first.

    A script counts as its interpreter. Raises InputError where nothing tells.
    """
    found: list[Architecture] = []
    problem = ""
    for name in (*_places(command), *_TELLING):
        program = elf.read_path(_interpreter(root, within(root, name)))
        if program is None:
            continue
        architecture = of_program(program)
        if architecture is None:
            problem = f"; {name} is for a machine that embedkit does not know"
        elif architecture not in found:
            found.append(architecture)
    if not found:
        raise InputError(
            "cannot tell this root file system's architecture: neither the command nor /bin/sh "
            f"in it is an ELF program{problem}",
            where=str(root),
            hint="give the folder that holds bin, lib and usr",
        )
    return tuple(found)


def _places(command: str) -> Iterator[str]:
    if "/" in command:
        yield command
    else:
        yield from (f"{folder}/{command}" for folder in PATH.split(":"))


def _interpreter(root: Path, path: Path) -> Path:
    """The program that runs ``path``: itself, or what its ``#!`` line names."""
    try:
        if path.is_file():
            with path.open("rb") as file:
                head = file.read(256)
            if head.startswith(b"#!"):
                words = head[2:].split(b"\n")[0].split()
                return within(root, words[0].decode("utf-8", "surrogateescape")) if words else path
    except OSError:
        pass
    return path


def mounts(
    root: Path, binds: tuple[tuple[Path, str], ...], *, own_sysfs: bool
) -> tuple[tuple[Op, ...], tuple[str, ...]]:
    """What to mount for a command in ``root``, and remarks on what cannot be.

    ``/dev`` gets the harmless devices and terminals only: no disk of this machine is in reach
    of a maintainer script. ``own_sysfs``: this process may mount a sysfs (read-only); else the
    machine's is bound, read-only as well. ``binds`` are (path of this machine, path in ``root``).
    """
    ops: list[Op] = []
    remarks: list[str] = []

    def place(path: str) -> str | None:
        target = within(root, path)
        if target.is_dir() and target != root:
            return str(target)
        remarks.append(f"{path} is not mounted: the root file system has no such folder")
        return None

    if proc := place("/proc"):
        ops.append(Op("mount", "proc", proc, "nosuid,nodev,noexec"))
    if system := place("/sys"):
        if own_sysfs:
            ops.append(Op("mount", "sysfs", system, "ro,nosuid,nodev,noexec"))
        else:
            ops.append(Op("rbind", "/sys", system, "ro"))
    if devices := place("/dev"):
        ops += _devices(devices)
    if run := place("/run"):
        ops.append(Op("mount", "tmpfs", run, "mode=755,nosuid,nodev"))
    ops += _names(root, run or devices, run, remarks)
    for source, path in binds:
        target = within(root, path)
        if not target.exists():
            raise InputError(
                f"{path} is not there in the root file system to bind to",
                where=str(target),
                hint="make it first: an empty folder (or file, for a file)",
            )
        ops.append(Op("rbind" if source.is_dir() else "bind", str(source), str(target)))
    return tuple(ops), tuple(remarks)


def _devices(folder: str) -> list[Op]:
    ops = [Op("mount", "tmpfs", folder, "mode=755,nosuid")]
    for name in _DEVICES:
        if Path("/dev", name).exists():
            ops += [Op("touch", "", f"{folder}/{name}")]
            ops += [Op("bind", f"/dev/{name}", f"{folder}/{name}")]
    ops += [Op("mkdir", "", f"{folder}/pts"), Op("mkdir", "", f"{folder}/shm")]
    ops.append(Op("mount", "devpts", f"{folder}/pts", "newinstance,ptmxmode=0666,mode=620"))
    ops.append(Op("mount", "tmpfs", f"{folder}/shm", "mode=1777,nosuid,nodev"))
    return ops + [Op("link", source, f"{folder}/{name}") for source, name in _LINKS]


def _names(root: Path, scratch: str | None, run: str | None, remarks: list[str]) -> list[Op]:
    """A copy of this machine's resolv.conf in the root file system, without changing a file there.

    A copy, in ``scratch``, which is a folder of the namespace's own: what the command writes
    into its resolv.conf must reach neither the machine's nor the root file system's.
    """
    source = Path("/etc/resolv.conf").resolve()
    if not source.is_file():
        return []
    target = within(root, "/etc/resolv.conf")
    if run and target.is_relative_to(run):  # the usual link of systemd-resolved
        return [Op("copy", str(source), str(target))]
    if scratch and target.is_file():
        copy = f"{scratch}/embedkit/resolv.conf"
        return [Op("copy", str(source), copy), Op("bind", copy, str(target))]
    lacking = "no file /etc/resolv.conf" if scratch else "neither /run nor /dev"
    remarks.append(f"names of hosts are not resolved: the root file system has {lacking}")
    return []
