"""Foreign programs on this very kernel: binfmt_misc, private and the machine's, and chroots.

Debian's static QEMU and BusyBox are unpacked, not installed. What a test registers lies in a
user namespace of its own, but for one test, which leaves the machine as it found it.
"""

from __future__ import annotations

import json
import os
import pty
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import debian, emulation, locks

import embedkit
from embedkit.emulate.binfmt import Instance, private_possible

pytestmark = [
    pytest.mark.needs("root", "debian", "program:unshare", "program:setpriv"),
]
_NOBODY = 65534
_PACKAGE = Path(embedkit.__file__).parent.parent
_CLI = [sys.executable, "-m", "embedkit.cli"]


class Bench:
    """The folder of the tests, open to every user, with QEMU and three root file systems."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.qemu = folder / "qemu"
        self.environment = {**os.environ, "PATH": f"{self.qemu}:{os.environ['PATH']}"}

    def root(self, arch: str) -> Path:
        """A root file system of Debian's ``arch``."""
        return self.folder / arch

    def run(
        self, *words: str | Path, check: int | None = 0, given: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """embedkit, with its exit code checked."""
        ended = subprocess.run(
            [*_CLI, *words],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=200,
            input=given,
            check=False,
        )
        assert check is None or ended.returncode == check, ended.stdout + ended.stderr
        return ended


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    if not private_possible():
        debian.give_up("this kernel gives a user namespace no binfmt_misc of its own")
    folder = Path(tempfile.mkdtemp(prefix="embedkit-binfmt-"))
    made = Bench(folder)
    try:
        folder.chmod(0o755)
        try:
            shutil.copytree(emulation.qemu_folder(), made.qemu)
            for arch in ("armhf", "armel", "arm64"):
                emulation.busybox_root(made.root(arch), arch)
        except debian.NotToBeHad as error:
            debian.give_up(str(error))
        yield made
    finally:
        assert emulation.mounts_under(folder) == []
        shutil.rmtree(folder)


def _script(bench: Bench, text: str) -> str:
    """A script beside a private binfmt_misc that begins with arm64 alone; $arm is a program.

    ``embedkit`` in it is this one, and 'say' prints what happened to the command after it.
    """
    head = f"""
embedkit() {{ {" ".join(_CLI)} "$@"; }}
arm={bench.root("armhf")}/bin/uname
say() {{ "$@" >/dev/null 2>&1; echo "$?"; }}
"""
    words = ["binfmt", "register", "arm64", "--run", "bash", "-c", head + text]
    return bench.run(*words).stdout


def test_programs_run_after_register_and_not_after_unregister(bench: Bench) -> None:
    root = bench.root("armhf")
    out = _script(
        bench,
        f"""
say $arm -m
embedkit binfmt status arm >/dev/null; echo status $?
embedkit binfmt register armhf >/dev/null && $arm -m
say chroot {root} /bin/uname -m
embedkit binfmt status arm >/dev/null; echo status $?
embedkit binfmt unregister arm >/dev/null
say $arm -m
say chroot {root} /bin/uname -m
say {bench.root("arm64")}/bin/uname
""",
    )
    # 126: the shell's code for what the kernel will not execute.
    assert out.split("\n")[:-1] == [
        "126", "status 1", "armv7l", "0", "status 0", "126", "126", "0",
    ]  # fmt: skip


def test_without_f_a_chroot_fails_and_replacing_mends_it(bench: Bench) -> None:
    """Why embedkit sets F."""
    root = bench.root("armhf")
    out = _script(
        bench,
        f"""
sed 's/:OPF$/:OP/' <<< '{_line(bench)}' > /proc/sys/fs/binfmt_misc/register
$arm -m
say chroot {root} /bin/uname -m
embedkit binfmt status arm | grep -o 'lacks the flag F'
embedkit binfmt register arm 2>&1 | grep -o 'taken by the entry qemu-arm'
embedkit binfmt register arm --replace --json | {sys.executable} -c '
import json, sys; print([step["act"] for step in json.load(sys.stdin)["data"]["steps"]])'
say chroot {root} /bin/uname -m
""",
    )
    assert out.split("\n")[:-1] == [
        "armv7l", "127", "lacks the flag F", "taken by the entry qemu-arm",
        "['remove', 'register']", "0",
    ]  # fmt: skip


def test_a_dynamic_interpreter_is_refused(bench: Bench) -> None:
    """Any dynamic program of this machine will do: it is looked at, not run."""
    ended = bench.run("binfmt", "register", "arm", "--qemu", sys.executable, check=None)
    if "is dynamic" not in ended.stderr:  # a Python that is static
        ended = bench.run("binfmt", "register", "arm", "--qemu", "/bin/bash", check=None)
    assert ended.returncode == 3
    assert "is dynamic: in a container or chroot its loader /lib" in ended.stderr
    assert "apt-get install qemu-user-static" in ended.stderr


def _line(bench: Bench) -> str:
    """The line that embedkit would register arm with."""
    shown = bench.run(
        "binfmt", "register", "arm", "--run", "cat", "/proc/sys/fs/binfmt_misc/qemu-arm"
    )
    assert shown.stdout.splitlines()[:3] == [
        "enabled", f"interpreter {bench.qemu}/qemu-arm-static", "flags: POF",
    ]  # fmt: skip
    from embedkit.emulate.entry import parse

    entry = parse("qemu-arm", shown.stdout)
    assert entry is not None
    return entry.line().replace(":POF", ":OPF")


def test_the_machine_is_left_as_it_was_found(bench: Bench) -> None:
    """The one test on the machine's own binfmt_misc."""
    with locks.held("binfmt"):
        _on_the_machine(bench)


def _on_the_machine(bench: Bench) -> None:
    machine = Instance()
    mounted = machine.is_mounted
    before = machine.entries()
    program = bench.root("armhf") / "bin/uname"
    try:
        bench.run("binfmt", "register", "arm", "--replace")
        assert subprocess.run([program, "-m"], capture_output=True, check=True).stdout
        inside = ["chroot", bench.root("armhf"), "/bin/uname", "-m"]
        assert subprocess.run(inside, capture_output=True, check=True).stdout == b"armv7l\n"
        data = json.loads(bench.run("binfmt", "status", "arm", "--json").stdout)["data"]
        (entry,) = [each for each in data["entries"] if each["architectures"] == ["arm"]]
        assert entry["interpreter_static"] and entry["works_in_containers"]
        assert data["machine_wide"]
        # As root with the machine's entry no user namespace is needed.
        steps = bench.run("chroot", bench.root("armhf"), "--dry-run", "--", "sh").stdout
        assert "make mount and PID namespaces" in steps
        bench.run("chroot", bench.root("armhf"), "--", "sh", "-c", "test $(uname -m) = armv7l")
        again = bench.run("binfmt", "register", "arm", "--json").stdout
        assert json.loads(again)["data"]["changed"] is False
        bench.run("binfmt", "unregister", "arm")
        with pytest.raises(OSError, match="Exec format error"):
            subprocess.run([program, "-m"], check=False)
    finally:
        for entry in machine.entries():
            if entry not in before:
                machine.remove(entry.name)
        for entry in before:
            if machine.entry(entry.name) is None:
                machine.register(entry)
        if machine.is_mounted and not mounted:
            subprocess.run(["umount", machine.folder], check=True)
    assert (machine.is_mounted, machine.entries()) == (mounted, before)


@pytest.mark.parametrize(
    ("script", "code"),
    [("exit 7", 7), ("exit 0", 0), ("kill -TERM $$", 143), ("kill -SEGV $$", 139)],
)
def test_the_exit_code_is_the_commands(bench: Bench, script: str, code: int) -> None:
    bench.run("chroot", bench.root("armel"), "--", "sh", "-c", script, check=code)


def test_what_cannot_be_started(bench: Bench) -> None:
    bench.run("chroot", bench.root("armel"), "nothing", check=127)
    bench.run("chroot", bench.root("armel"), "/tmp", check=126)
    ended = bench.run("chroot", bench.root("armel"), "--cpu", "arm92", "--", "sh", check=2)
    assert "did you mean 'arm926'" in ended.stderr


def test_arguments_and_streams_pass_through(bench: Bench) -> None:
    script = 'cat; echo "$1|$2"; echo bad >&2; pwd; echo $X $HOME'
    words = ["--env", "X=y", "--", "sh", "-c", script, "--", "--", "a  b"]
    ended = bench.run("chroot", bench.root("arm64"), *words, given="given\n")
    assert ended.stdout == "given\n--|a  b\n/\ny /root\n"
    assert ended.stderr == "bad\n"
    ended = bench.run("chroot", "--json", bench.root("arm64"), "--", "echo", "out")
    assert json.loads(ended.stdout)["data"]["exit_code"] == 0
    assert ended.stderr == "out\n"


@pytest.mark.parametrize(
    ("arch", "cpu", "code"),
    [("armhf", "cortex-a15", 0), ("armhf", "arm1176", 132), ("armel", "arm926", 0)],
)
def test_a_cpu_fails_as_the_board_would(bench: Bench, arch: str, cpu: str, code: int) -> None:
    """Debian's armhf is ARMv7, which an ARMv6 lacks; armel is ARMv5. Not hanging is the point:
    for a PID 1 the kernel would ignore the signal that QEMU sends itself.
    """
    ended = bench.run("chroot", bench.root(arch), "--cpu", cpu, "--", "echo", "hi", check=code)
    assert ended.stdout == ("" if code else "hi\n")
    if code:
        assert "crashed (SIGILL); --cpu arm1176 may lack an instruction" in ended.stderr


def test_the_inside(bench: Bench) -> None:
    root = bench.root("armhf")
    before = sorted(path.relative_to(root) for path in root.rglob("*"))
    (root / "tmp/bound").mkdir()
    script = "cat /proc/1/cmdline | grep -q inside; echo $?; ls /dev; cat /etc/resolv.conf; \
grep resolv.conf /proc/mounts | cut -d' ' -f1-3; \
grep -c ' /sys sysfs ro' /proc/mounts; ls /tmp/bound; ls /proc/self/fd; echo > /dev/shm/x"
    words = ["--bind", f"{bench.qemu}:/tmp/bound", "--", "sh", "-c", script]
    lines = bench.run("chroot", root, *words).stdout.splitlines()
    (root / "tmp/bound").rmdir()
    devices = [
        "fd",
        "full",
        "null",
        "ptmx",
        "pts",
        "random",
        "shm",
        "stderr",
        "stdin",
        "stdout",
        "tty",
        "urandom",
        "zero",
    ]
    names = Path("/etc/resolv.conf").read_text().splitlines()
    # Looked at, not written to: were it the machine's own after all, a test must not change it.
    # Of file descriptors the command has its three streams, and ls its folder.
    assert lines == [
        "0", *devices, *names, "tmpfs /etc/resolv.conf tmpfs", "1",
        "qemu-aarch64-static", "qemu-arm-static",
        "0", "1", "2", "3",
    ]  # fmt: skip
    assert sorted(path.relative_to(root) for path in root.rglob("*")) == before
    assert (root / "etc/resolv.conf").read_text() == "# the board's own\n"
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)


def _alive(marker: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if marker.encode() in path.read_bytes():
                found.append(path.parent.name)
        except OSError:
            continue
    return found


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM, signal.SIGHUP])
def test_nothing_outlives_embedkit(bench: Bench, end: signal.Signals) -> None:
    """Not even what the command put into the background, and so no mount."""
    marker = f"98{end.value}.25"
    script = f"sleep {marker} & echo up; sleep {marker}"
    with subprocess.Popen(
        [*_CLI, "chroot", bench.root("armhf"), "--", "sh", "-c", script],
        env=bench.environment,
        stdout=subprocess.PIPE,
    ) as started:
        try:
            assert started.stdout is not None and started.stdout.readline() == b"up\n"
            # A program has no command line for the moment in which it is started.
            deadline = time.monotonic() + 30
            while len(_alive(marker)) < 3:
                assert time.monotonic() < deadline, "not all programs came up"
                time.sleep(0.05)
            started.send_signal(end)
            started.wait(10)
        finally:
            started.kill()
    deadline = time.monotonic() + 60
    while (left := _alive(marker)) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process_id in left:  # what this test started must not outlive it either
        os.kill(int(process_id), signal.SIGKILL)
    assert left == []


def test_ctrl_c_is_the_commands_matter(bench: Bench) -> None:
    """On a terminal: the command catches it, embedkit stays and passes the exit code on."""
    script = "trap 'echo caught; exit 5' INT; echo up; while :; do sleep 0.1; done"
    pid, terminal = pty.fork()
    if pid == 0:
        words = [*_CLI, "chroot", os.fspath(bench.root("armhf")), "--", "sh", "-c", script]
        os.execve(words[0], words, bench.environment)
    said = b""
    try:
        while b"up" not in said:
            said += os.read(terminal, 1000)
        os.write(terminal, b"\x03")
        while b"caught" not in said:
            said += os.read(terminal, 1000)
        _, state = os.waitpid(pid, 0)
    finally:
        os.close(terminal)
    assert os.waitstatus_to_exitcode(state) == 5


@pytest.mark.needs("file:/usr/bin/python3")
def test_without_root(bench: Bench) -> None:
    """As nobody, with the system's Python: only what nobody may read can be used."""
    package = bench.folder / "package"
    shutil.copytree(
        _PACKAGE / "embedkit", package / "embedkit", ignore=shutil.ignore_patterns("__pycache__")
    )
    environment = {**bench.environment, "PYTHONPATH": str(package), "HOME": "/", "CHOSEN": "x"}

    def nobody(*words: str | Path, code: int) -> str:
        ended = subprocess.run(
            ["/usr/bin/python3", "-B", "-m", "embedkit.cli", *words],
            env=environment,
            cwd="/",
            capture_output=True,
            text=True,
            timeout=200,
            check=False,
            user=_NOBODY,
            group=_NOBODY,
            extra_groups=[],
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        return ended.stdout + ended.stderr

    program = bench.root("armhf") / "bin/uname"
    assert nobody("binfmt", "register", "arm", "--run", program, "-m", code=0) == "armv7l\n"
    assert nobody("chroot", bench.root("armhf"), "--", "id", "-u", code=0) == "0\n"
    mounts = nobody("chroot", bench.root("armhf"), "--", "cat", "/proc/mounts", code=0)
    assert " /sys sysfs ro" in mounts
    nobody("chroot", bench.root("armhf"), "--cpu", "arm1176", "--", "id", code=132)
    assert "only root can change" in nobody("binfmt", "register", "arm", code=3)
    assert "arm: not registered" in nobody("binfmt", "status", "arm", code=1)
