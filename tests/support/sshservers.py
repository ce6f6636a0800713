"""Real SSH servers for tests: on loopback, on free ports, with keys and configs of their own,
stopped by process id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedkit.process import require


@dataclass
class Server:
    """A running server; ``port`` on 127.0.0.1."""

    port: int
    running: subprocess.Popen[bytes]
    host_key: Path
    log: Path

    @property
    def url(self) -> str:
        return f"ssh://root@127.0.0.1:{self.port}"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def keygen(path: Path, kind: str = "ed25519", passphrase: str = "", bits: int = 0) -> Path:
    argv = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)]
    if bits:
        argv += ["-b", str(bits)]
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL)
    return path


def wait_for_port(port: int, running: subprocess.Popen[bytes], log: Path) -> None:
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        if running.poll() is not None:
            raise AssertionError(f"the server ended: {log.read_text(errors='replace')}")
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise AssertionError(f"the server does not listen: {log.read_text(errors='replace')}")


@contextlib.contextmanager
def started(argv: list[str], port: int, host_key: Path, log: Path) -> Iterator[Server]:
    with log.open("wb") as out:
        running = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    try:
        wait_for_port(port, running, log)
        yield Server(port, running, host_key, log)
    finally:
        stop(running)


def stop(running: subprocess.Popen[bytes]) -> None:
    """Ends a server with all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(running.pid, signal.SIGTERM)
    try:
        running.wait(3)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(running.pid, signal.SIGKILL)
        running.wait()


@contextlib.contextmanager
def openssh(
    folder: Path, keys: Path, *, options: str = "", host_kind: str = "ed25519"
) -> Iterator[Server]:
    """OpenSSH's sshd as the current user; ``keys`` is an authorized_keys file."""
    folder.mkdir(parents=True, exist_ok=True)
    host_key = folder / "host_key"
    if not host_key.exists():
        keygen(host_key, host_kind, bits=2048 if host_kind == "rsa" else 0)
    port = free_port()
    config = folder / "sshd_config"
    # What comes first wins in sshd_config, so a test's own options stand before the defaults.
    config.write_text(
        f"{options}\nPort {port}\nListenAddress 127.0.0.1\nHostKey {host_key}\n"
        f"AuthorizedKeysFile {keys}\nPidFile none\nStrictModes no\nUsePAM no\n"
        "PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
        "Subsystem sftp internal-sftp\nMaxStartups 100\nLogLevel VERBOSE\n"
        # bash reads .bashrc under sshd, which costs a third of a second on some machines,
        # unless it believes to be the inner one.
        "SetEnv SHLVL=2\n"
    )
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    argv = [str(require("sshd")), "-D", "-e", "-f", str(config)]
    with started(argv, port, host_key, folder / "log") as server:
        yield server


def busybox_root(root: Path) -> Path:
    """A root file system with BusyBox and nothing else but what dropbear itself needs."""
    for name in ("bin", "sbin", "etc", "root/.ssh", "proc", "dev/pts", "tmp", "var/run", "opt/lib"):
        (root / name).mkdir(parents=True, exist_ok=True)
    busybox = require("busybox")
    shutil.copy(busybox, root / "bin/busybox")
    listed = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True)
    for applet in listed.stdout.split():
        link = root / "bin" / applet
        if applet != "busybox" and not link.exists():
            link.symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\n")
    (root / "etc/shells").write_text("/bin/sh\n")
    (root / "etc/hostname").write_text("tinyboard\n")
    return root


def add_dropbear(root: Path) -> None:
    dropbear = require("dropbear")
    shutil.copy(dropbear, root / "opt/dropbear")
    listed = subprocess.run(["ldd", dropbear], capture_output=True, text=True, check=True)
    for line in listed.stdout.splitlines():
        for word in line.split():
            if word.startswith("/"):
                shutil.copy(word, root / "opt/lib")


# In mount and process namespaces of its own: whatever is mounted or started ends with it.
_ENTER = (
    "mount -t proc proc {root}/proc && mount -t tmpfs tmpfs {root}/dev && "
    "mkdir {root}/dev/pts && mount -t devpts -o newinstance,ptmxmode=666 devpts {root}/dev/pts && "
    "ln -s pts/ptmx {root}/dev/ptmx && "
    "for d in 'null 1 3' 'zero 1 5' 'urandom 1 9' 'random 1 8' 'tty 5 0'; do set -- $d; "
    "mknod -m 666 {root}/dev/$1 c $2 $3 || exit; done; "
)


def in_root(root: Path, command: str) -> list[str]:
    """What runs ``command`` by sh inside ``root``, alone with its own processes and mounts."""
    import shlex

    enter = _ENTER.format(root=shlex.quote(str(root)))
    inner = f"{enter} exec chroot {shlex.quote(str(root))} /bin/sh -c {shlex.quote(command)}"
    return [
        "unshare", "--mount", "--pid", "--fork", "--kill-child", "--uts", "--ipc",
        "sh", "-c", inner,
    ]  # fmt: skip


@contextlib.contextmanager
def dropbear_in_busybox(
    root: Path, authorized_key: str, *, port: int | None = None
) -> Iterator[Server]:
    """dropbear without an sftp-server inside a BusyBox-only root."""
    busybox_root(root)
    add_dropbear(root)
    (root / "root").chmod(0o700)
    (root / "root/.ssh").chmod(0o700)
    keys = root / "root/.ssh/authorized_keys"
    keys.write_text(authorized_key)
    keys.chmod(0o600)
    host_key = root / "etc/dropbear_host_key"
    if not host_key.exists():
        subprocess.run(
            [str(require("dropbearkey")), "-t", "ecdsa", "-f", str(host_key)],
            check=True,
            capture_output=True,
        )
    port = port or free_port()
    loader = next(path.name for path in (root / "opt/lib").iterdir() if path.name.startswith("ld-"))
    command = (
        f"hostname tinyboard; exec /opt/lib/{loader} --library-path /opt/lib /opt/dropbear -F -E "
        f"-r /etc/dropbear_host_key -p 127.0.0.1:{port} -P /var/run/dropbear.pid"
    )
    with started(in_root(root, command), port, host_key, root.parent / "dropbear.log") as server:
        yield server
