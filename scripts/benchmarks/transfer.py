"""File transfer against OpenSSH's scp and sftp and plain paramiko, in one run, medians.

Servers run on loopback with keys of their own. What is sent are Docker's programs where they are
installed (100 MB of them), else this Python's own files. "slow link" is a pacing proxy. At the end
a whole Docker from Debian's packages is deployed to a board of namespaces, twice.

    scripts/bench transfer [--runs 3] [--size-mb 100] [--slow-mb-s 10]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import resource
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import paramiko
from support.dockerboard import Board, bundle_folder, reached
from support.proxy import proxied
from support.reaching import reach
from support.sshservers import Server, busybox_root, dropbear_in_busybox, keygen, openssh

from embedkit.docker.bundlecache import open_cached
from embedkit.docker.deploy import SharedBundle, Wish, deploy
from embedkit.docker.fit import Allowed
from embedkit.docker.install import Options
from embedkit.docker.settings import Choices
from embedkit.target.transfer import put

_PROGRAMS = ("/usr/sbin/dockerd", "/usr/bin/containerd", "/usr/bin/docker", "/usr/sbin/runc")
_CIPHER = "aes128-gcm@openssh.com"


@dataclass(frozen=True)
class Way:
    """One way to send ``source``; ``remove`` makes the place empty again."""

    name: str
    send: Callable[[], None]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--size-mb", type=int, default=100)
    parser.add_argument("--slow-mb-s", type=float, default=10.0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="embedkit-bench-") as folder:
        base = Path(folder)
        os.environ["HOME"] = str(base / "home")
        os.environ["XDG_STATE_HOME"] = str(base / "state")
        os.environ.pop("SSH_AUTH_SOCK", None)
        (base / "home/.ssh").mkdir(parents=True, mode=0o700)
        key = keygen(base / "home/.ssh/id_ed25519")
        source, what = _content(base, args.size_mb << 20)
        print(f"{source.stat().st_size / 1e6:.0f} MB of {what}, medians of {args.runs}")
        public = key.with_name("id_ed25519.pub")
        with openssh(base / "sshd", public) as server:
            _compare("OpenSSH server, loopback", server, source, base, key, args.runs, None)
            slow = args.slow_mb_s * 1e6
            _compare(
                f"OpenSSH server, link of {args.slow_mb_s:g} MB/s",
                server, source, base, key, args.runs, slow,
            )  # fmt: skip
            _again(server, source, base)
        if os.geteuid() == 0:
            root = busybox_root(base / "board/root")
            with dropbear_in_busybox(root, public.read_text()) as board:
                _compare(
                    "dropbear without sftp-server, loopback", board, source, root, key, args.runs,
                    None, there="/tmp",
                )  # fmt: skip
            _deploy_twice(base, public.read_text())
        else:
            print("dropbear and deploy: skipped, they need root for root folders of their own")
    return 0


def _content(base: Path, size: int) -> tuple[Path, str]:
    programs = [Path(name) for name in _PROGRAMS if Path(name).is_file()]
    what = "Docker's programs"
    if sum(program.stat().st_size for program in programs) < size:
        library = Path(os.__file__).parent
        programs = sorted(path for path in library.rglob("*") if path.is_file())
        what = "Python's own files"
    data = b""
    while len(data) < size:
        for program in programs:
            data += program.read_bytes()
            if len(data) >= size:
                break
    path = base / "content"
    path.write_bytes(data[:size])
    return path, what


def _compare(
    title: str,
    server: Server,
    source: Path,
    folder: Path,
    key: Path,
    runs: int,
    rate: float | None,
    *,
    there: str | None = None,
) -> None:
    place = f"{there or folder}/arrived"
    local = (folder / "tmp" if there else folder) / "arrived"
    size = source.stat().st_size
    with contextlib.ExitStack() as stack:
        port = server.port
        if rate is not None:
            port = stack.enter_context(proxied(server.port, rate=rate)).port
        ways = list(_ways(stack, port, source, place, key, dropbear=there is not None))
        print(f"\n{title}")
        print(f"  {'way':<34} {'MB/s':>7} {'seconds':>8} {'CPU s':>6}  against {ways[0].name}")
        times: dict[str, list[tuple[float, float]]] = {way.name: [] for way in ways}
        for _ in range(runs):
            # All ways in each round, so that a busy moment of the machine meets all of them.
            for way in ways:
                local.unlink(missing_ok=True)
                cpu, begun = _cpu(), time.monotonic()
                way.send()
                times[way.name].append((time.monotonic() - begun, _cpu() - cpu))
                if local.read_bytes() != source.read_bytes():
                    raise SystemExit(f"{way.name}: what arrived is not what was sent")
    medians = {name: statistics.median(t for t, _ in pairs) for name, pairs in times.items()}
    peer = medians[ways[0].name]
    for name, seconds in medians.items():
        used = statistics.median(cpu for _, cpu in times[name])
        ratio = peer / seconds
        print(
            f"  {name:<34} {size / seconds / 1e6:7.1f} {seconds:8.2f} {used:6.2f}  {ratio:5.2f} ×"
        )


def _cpu() -> float:
    """CPU seconds of this process and of what it started and waited for; not the servers'."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


def _ways(
    stack: contextlib.ExitStack, port: int, source: Path, place: str, key: Path, *, dropbear: bool
) -> Iterator[Way]:
    options = [
        "-q", "-F", "none", "-i", str(key), "-o", "IdentitiesOnly=yes",
        "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
    ]  # fmt: skip
    if not dropbear:
        options += ["-c", _CIPHER]
    server = Server(port, None, key, key)  # type: ignore[arg-type]

    def run(argv: list[str], input: bytes | None = None) -> None:
        subprocess.run(argv, check=True, input=input, stdout=subprocess.DEVNULL)

    where = f"root@127.0.0.1:{place}"
    if dropbear:
        # BusyBox has no scp, so "cat >" by OpenSSH's own client stands for it.
        ssh = ["ssh", *options, "-p", str(port), "root@127.0.0.1", f"cat >{place}"]

        def by_cat() -> None:
            with source.open("rb") as file:
                subprocess.run(ssh, check=True, stdin=file)

        yield Way("OpenSSH cat", by_cat)
    else:
        yield Way("scp", lambda: run(["scp", *options, "-P", str(port), str(source), where]))
        batch = f"put {source} {place}\n".encode()
        sftp = ["sftp", *options, "-P", str(port), "-b", "-", "root@127.0.0.1"]
        yield Way("sftp", lambda: run(sftp, batch))

    client = paramiko.SSHClient()
    client.set_missing_host_key_policy(paramiko.AutoAddPolicy())
    client.connect("127.0.0.1", port, "root", key_filename=str(key), allow_agent=False)
    stack.callback(client.close)
    if dropbear:
        yield Way("paramiko exec cat", lambda: _paramiko_cat(client, source, place))
    else:
        session = client.open_sftp()
        yield Way("paramiko put", lambda: _ignore(session.put(str(source), place)))
    target = stack.enter_context(reach(server))
    target.connect()
    yield Way("embedkit put", lambda: _ignore(put(target, source, place)))
    fresh = reach(server)

    def connecting() -> None:
        with fresh:
            put(fresh, source, place)

    yield Way("embedkit put, with connecting", connecting)


def _ignore(result: object) -> None:
    pass


def _paramiko_cat(client: paramiko.SSHClient, source: Path, place: str) -> None:
    stdin, stdout, _ = client.exec_command(f"cat >{place}")
    with source.open("rb") as file:
        while data := file.read(1 << 15):
            stdin.write(data)
    stdin.channel.shutdown_write()
    stdout.channel.recv_exit_status()


def _again(server: Server, source: Path, base: Path) -> None:
    """What is there already."""
    with reach(server) as target:
        put(target, source, f"{base}/arrived")
        begun = time.monotonic()
        done = put(target, source, f"{base}/arrived")
        assert done.skipped
        print(f"\nthe same file again: {time.monotonic() - begun:.2f} s, nothing sent")


def _deploy_twice(base: Path, public: str) -> None:
    """A deployment, and another one of the same bundle: what it takes beyond connecting."""
    folder = bundle_folder()
    archive = base / "docker-20.10.24.tgz"
    with tarfile.open(archive, "w:gz", compresslevel=1) as packed:
        packed.add(folder, "docker")
    choices = Choices(iptables="off")
    wish = Wish(options=Options(choices=choices), allowed=Allowed(dynamic=True), proof="none")
    programs = [program for program in folder.iterdir() if program.name != "docker-init"]
    board = Board(base / "bundleboard", libraries=programs, firewall=False)
    board.start()
    try:
        with reached(board, public, base / "bundlessh") as server:
            for which in ("first", "second"):
                with reach(server) as target:
                    connecting = time.monotonic()
                    target.connect()
                    begun = time.monotonic()
                    shared = SharedBundle(open_cached(archive, base / "bundles"))
                    done = deploy(target, shared, wish)
                    ended = time.monotonic()
                    shared.close()
                assert done.ok and done.plan.empty == (which == "second"), done
                size = shared.bundle.size_bytes / 1e6
                print(
                    f"{which} deploy of {size:.0f} MB in {len(shared.bundle.names)} programs: "
                    f"{ended - begun:.2f} s, and {begun - connecting:.2f} s to connect"
                )
    finally:
        board.power_off()


if __name__ == "__main__":
    sys.exit(main())
