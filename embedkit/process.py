"""The only place that starts a program on this machine.

Arguments are lists, never a shell line; output is captured; a missing program ends in an
error that names the Debian package to install.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import LackError, TargetError

# For callers of start(): they need no subprocess of their own.
PIPE = subprocess.PIPE
DEVNULL = subprocess.DEVNULL
Running = subprocess.Popen[bytes]
TimeoutExpired = subprocess.TimeoutExpired

# Program → Debian package, for the hint. Programs that share their package's name are left out.
_PACKAGES = {
    "bmaptool": "bmap-tools",
    "debugfs": "e2fsprogs",
    "dpkg-deb": "dpkg",
    "dropbear": "dropbear-bin",
    "dtc": "device-tree-compiler",
    "dumpe2fs": "e2fsprogs",
    "sqfstar": "squashfs-tools",
    "tune2fs": "e2fsprogs",
    "e2fsck": "e2fsprogs",
    "fakeroot": "fakeroot",
    "losetup": "mount",
    "mcopy": "mtools",
    "mke2fs": "e2fsprogs",
    "mkimage": "u-boot-tools",
    "mkfs.vfat": "dosfstools",
    "mksquashfs": "squashfs-tools",
    "mmd": "mtools",
    "modprobe": "kmod",
    "partx": "util-linux",
    "qemu-aarch64-static": "qemu-user-static",
    "qemu-arm-static": "qemu-user-static",
    "qemu-img": "qemu-utils",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-arm": "qemu-system-arm",
    "qemu-system-riscv64": "qemu-system-misc",
    "qemu-system-x86_64": "qemu-system-x86",
    "resize2fs": "e2fsprogs",
    "setpriv": "util-linux",
    "sfdisk": "fdisk",
    "ssh": "openssh-client",
    "unshare": "util-linux",
    "unsquashfs": "squashfs-tools",
    "xz": "xz-utils",
}


@dataclass(frozen=True)
class Completed:
    """A program that ended."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output, undecodable bytes replaced."""
        return self.stdout.decode("utf-8", "replace")

    @property
    def complaint(self) -> str:
        """The last line that the program wrote to standard error (else to standard output)."""
        return last_line(self.stderr, self.stdout) or f"exit code {self.returncode}"


def last_line(*streams: bytes) -> str:
    """The last line of the first of ``streams`` that has any, undecodable bytes replaced."""
    for stream in streams:
        lines = stream.decode("utf-8", "replace").strip().splitlines()
        if lines:
            return lines[-1].strip()
    return ""


def find(program: str) -> Path | None:
    """Where ``program`` is: PATH, then the sbin folders that a user's PATH leaves out."""
    found = shutil.which(program)
    if found is None:
        found = shutil.which(program, path="/usr/local/sbin:/usr/sbin:/sbin")
    return Path(found) if found else None


def require(program: str, *, purpose: str | None = None) -> Path:
    """Where ``program`` is.

    Raises LackError, with the Debian package in the hint, where it is not installed.
    """
    found = find(program)
    if found is None:
        what = f"the program '{program}' is not installed"
        if purpose:
            what += f"; it is needed to {purpose}"
        package = _PACKAGES.get(program, program)
        raise LackError(what, hint=f"on Debian: apt-get install {package}")
    return found


def _resolved(argv: Sequence[str | os.PathLike[str]]) -> list[str]:
    words = [os.fspath(word) for word in argv]
    if "/" not in words[0]:
        words[0] = str(require(words[0]))
    return words


def run(
    argv: Sequence[str | os.PathLike[str]],
    *,
    input: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    timeout: float | None = None,
    check: bool = True,
) -> Completed:
    """Runs a program to its end and returns what it wrote.

    ``env`` is added to this process's environment; ``timeout`` is in seconds. Standard input
    is empty unless ``input`` is given: no program ever waits for the terminal.

    Raises LackError where the program is missing, TargetError where it fails (unless
    ``check`` is off) or outlives ``timeout``.
    """
    words = _resolved(argv)
    environment = {**os.environ, **env} if env else None
    try:
        ended = subprocess.run(
            words,
            input=input if input is not None else b"",
            capture_output=True,
            env=environment,
            cwd=cwd,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise TargetError(f"'{words[0]}' did not end within {timeout:g} s") from late
    except OSError as error:
        raise LackError(f"'{words[0]}' could not be started: {error.strerror}") from error
    completed = Completed(tuple(words), ended.returncode, ended.stdout, ended.stderr)
    if check and completed.returncode != 0:
        raise TargetError(
            f"'{Path(words[0]).name}' failed with exit code {completed.returncode}: "
            f"{completed.complaint}",
            where=" ".join(words),
        )
    return completed


def start(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    only_env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    stdin: int | None = subprocess.DEVNULL,
    stdout: int | None = subprocess.PIPE,
    stderr: int | None = subprocess.PIPE,
    new_session: bool = False,
) -> subprocess.Popen[bytes]:
    """Starts a program that goes on beside this one; the caller ends it.

    ``env`` is added to this process's environment, ``only_env`` stands in its place.

    Raises LackError where the program is missing.
    """
    words = _resolved(argv)
    environment = {**(os.environ if only_env is None else only_env), **(env or {})}
    try:
        return subprocess.Popen(
            words,
            env=environment,
            cwd=cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=new_session,
        )
    except OSError as error:
        raise LackError(f"'{words[0]}' could not be started: {error.strerror}") from error


def wait_or_kill(running: Running, seconds: float) -> None:
    """Waits for a program that was told to end; one that did not within ``seconds`` is killed."""
    try:
        running.wait(seconds)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()


def attach(
    argv: Sequence[str | os.PathLike[str]],
    *,
    env: Mapping[str, str] | None = None,
    stdout: int | None = None,
    pass_fds: Sequence[int] = (),
    started: Callable[[int], None] | None = None,
) -> int:
    """Runs a program on this process's own standard streams, and returns its exit code.

    128 + N where signal N ended it, as shells say it. ``env`` is the whole environment;
    ``stdout`` is a file descriptor in place of standard output; ``started`` is called with the
    program's process id. Ctrl-C and Ctrl-\\ are the program's matter while it runs.

    Raises LackError where the program is missing.
    """
    words = _resolved(argv)
    with _keys_left_alone():
        try:
            program = subprocess.Popen(words, env=env, stdout=stdout, pass_fds=pass_fds)
        except OSError as error:
            raise LackError(f"'{words[0]}' could not be started: {error.strerror}") from error
        try:
            if started is not None:
                started(program.pid)
            code = program.wait()
        except BaseException:
            program.kill()
            program.wait()
            raise
    return code if code >= 0 else 128 - code


@contextmanager
def _keys_left_alone() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread may set handlers, and only it gets KeyboardInterrupt
        return
    keys = (signal.SIGINT, signal.SIGQUIT)
    # Not SIG_IGN: the program would inherit that.
    before = {key: signal.signal(key, lambda *_: None) for key in keys}
    try:
        yield
    finally:
        for key, handler in before.items():
            signal.signal(key, handler)
