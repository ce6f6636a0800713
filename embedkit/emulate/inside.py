"""The process that runs inside namespaces of its own: it registers, mounts, runs and waits.

It is PID 1 of its PID namespace, and so the command never is: the kernel ignores fatal signals
for PID 1, and QEMU, which sends itself the signal that its guest died of, would hang for ever.
When this process ends, the kernel ends all others of the namespace, and with the last of them
the mounts go.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from embedkit import process
from embedkit.emulate.binfmt import Instance
from embedkit.emulate.entry import parse_line
from embedkit.errors import EmbedkitError, TargetError


@dataclass(frozen=True)
class Op:
    """One preparation: ``kind`` is mount, bind, rbind, mkdir, touch, link or copy.

    ``source`` is the file system's type for a mount; ``target`` is a path of this machine.
    """

    kind: str
    source: str
    target: str
    options: str = ""

    @property
    def is_detail(self) -> bool:
        """Whether it only fills a /dev that another step mounts."""
        return self.kind in ("mkdir", "touch", "link") or self.source.startswith("/dev/")

    def __str__(self) -> str:
        extra = f" ({self.options})" if self.options else ""
        if self.kind == "mount":
            return f"mount {self.source} on {self.target}{extra}"
        if self.kind in ("bind", "rbind"):
            return f"bind {self.source} to {self.target}{extra}"
        return f"{self.kind} {self.source} {self.target}".replace("  ", " ")


@dataclass(frozen=True)
class Work:
    """What to do inside. ``lines`` are registered in a binfmt_misc of this namespace's own;
    ``root`` is "" to stay in this machine's root file system.
    """

    lines: tuple[str, ...]
    ops: tuple[Op, ...]
    root: str
    command: tuple[str, ...]
    environment: tuple[tuple[str, str], ...]

    def encoded(self) -> str:
        """For :meth:`decoded`, in the process inside."""
        return json.dumps(asdict(self))

    @staticmethod
    def decoded(text: str) -> Work:
        """What :meth:`encoded` gave."""
        raw = json.loads(text)
        return Work(
            tuple(raw["lines"]),
            tuple(Op(**op) for op in raw["ops"]),
            raw["root"],
            tuple(raw["command"]),
            tuple((name, value) for name, value in raw["environment"]),
        )


def main(words: list[str]) -> int:
    """``words``: the file descriptors to tell on and to hear on, and whether to wait for ids.

    Told are "ready", and then "started" or an error as JSON; heard is the work, which may hold
    secrets of the environment and so stands in no command line. The exit code is the command's.
    """
    tell, hear = int(words[0]), int(words[1])
    os.set_inheritable(tell, False)
    try:
        os.write(tell, b"ready\n")
        with os.fdopen(hear, "rb") as file:
            text = file.read()
        if not text:
            return 1
        work = Work.decoded(text.decode())
        if words[2] == "map":
            # Until the map was written this process was nobody.
            os.setresgid(0, 0, 0)
            os.setresuid(0, 0, 0)
        _prepare(work)
        return _command(work, tell)
    except EmbedkitError as error:
        told = {"message": error.message, "where": error.where, "hint": error.hint}
        os.write(tell, json.dumps(told).encode() + b"\n")
        return 1
    except OSError as error:
        told = {"message": str(error.strerror), "where": str(error.filename), "hint": None}
        os.write(tell, json.dumps(told).encode() + b"\n")
        return 1


def _prepare(work: Work) -> None:
    early = [op for op in work.ops if op.target == "/proc"]
    for op in early:
        _do(op)
    if work.lines:
        instance = Instance()
        # A new instance even where one was mounted: that one is the machine's.
        _do(Op("mount", "binfmt_misc", str(instance.folder)))
        if instance.entries():
            raise TargetError("this kernel gives a user namespace no binfmt_misc of its own")
        for line in work.lines:
            entry = parse_line(line)
            if entry is None:
                raise TargetError(f"not an entry: {line}")
            instance.register(entry)
    for op in work.ops:
        if op not in early:
            _do(op)


def _do(op: Op) -> None:
    target = Path(op.target)
    options = ["-o", op.options] if op.options else []
    if op.kind == "mount":
        process.run(["mount", "-t", op.source, *options, op.source, op.target])
    elif op.kind in ("bind", "rbind"):
        way = "--rbind" if op.kind == "rbind" else "--bind"
        process.run(["mount", way, op.source, op.target])
        if op.options == "ro":
            process.run(["mount", "-o", _read_only(op.target), op.target])
    elif op.kind == "mkdir":
        target.mkdir(parents=True, exist_ok=True)
    elif op.kind == "touch":
        target.touch()
    elif op.kind == "link":
        target.symlink_to(op.source)
    elif op.kind == "copy":
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(op.source, target)


def _read_only(target: str) -> str:
    """Options that make a bind mount read-only, and keep those that a user namespace must keep."""
    now = os.statvfs(target).f_flag
    kept = {"nosuid": os.ST_NOSUID, "nodev": os.ST_NODEV, "noexec": os.ST_NOEXEC}
    return ",".join(["remount", "bind", "ro", *(name for name, bit in kept.items() if now & bit)])


def _command(work: Work, tell: int) -> int:
    # A guest's crash must not leave a core file in the root file system.
    _, most = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (0, most))
    # The terminal's keys are for the command; handlers, unlike SIG_IGN, are not inherited.
    for key in (signal.SIGINT, signal.SIGQUIT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(key, lambda *_: None)
    argv = ["chroot", work.root, *work.command] if work.root else list(work.command)
    try:
        started = process.start(
            argv, stdin=None, stdout=None, stderr=None, only_env=dict(work.environment)
        )
    except EmbedkitError:
        if work.root:
            raise
        os.write(tell, b"started\n")
        os.write(2, f"{argv[0]}: not found, or not a program\n".encode())
        return 127
    os.write(tell, b"started\n")
    while True:
        # Orphans of the namespace become ours, and stay as zombies unless waited for.
        ended, state = os.wait()
        if ended == started.pid:
            code = os.waitstatus_to_exitcode(state)
            started.returncode = code
            return code if code >= 0 else 128 - code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
