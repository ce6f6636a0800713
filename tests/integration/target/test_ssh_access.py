"""Getting in over SSH: keys, passwords, agents, jumps, host keys, old servers."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.reaching import Home, reach
from support.sshservers import (
    Server,
    dropbear_in_busybox,
    free_port,
    keygen,
    openssh,
)

from embedkit.errors import EmbedkitError, TargetError
from embedkit.target import hostkeys
from embedkit.target.base import (
    AuthenticationFailed,
    Channel,
    CommandFailed,
    CommandTimeout,
    ConnectionLost,
    HostKeyRefused,
)
from embedkit.target.opening import Access, open_target

pytestmark = pytest.mark.needs(
    "root", "program:sshd", "program:dropbear", "program:busybox", "program:unshare"
)
SECRET = "correct horse ' battery"


@pytest.fixture
def fresh(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without any key or known host."""
    path = tmp_path / "fresh"
    (path / ".ssh").mkdir(parents=True, mode=0o700)
    monkeypatch.setenv("HOME", str(path))
    monkeypatch.setenv("XDG_STATE_HOME", str(path / "state"))
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return path


def accepting(ask: Callable[[str], str | None] | None = None, **more: bool) -> Access:
    return Access(ask=ask, accept_new_host_key=True, **more)


def test_commands_streams_and_exit_codes(sshd: Server, board: Server) -> None:
    for server in (sshd, board):
        with reach(server) as target:
            result = target.run("echo out; echo err >&2; exit 3", check=False)
            assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
            assert target.run(["printf", "%s|", "a b", "$x", "", "'"]).text == "a b|$x||'|"
            assert target.run("wc -c", input=bytes(300_000)).text.strip() == "300000"
            assert target.run("sh -c 'kill -9 $$'; exit $?", check=False).exit_code == 137
            with pytest.raises(CommandFailed, match="exit code 1"):
                target.run("false")
            with pytest.raises(CommandTimeout):
                target.run("sleep 30", timeout=0.5)
            seen: list[tuple[float, bytes]] = []

            def note(channel: Channel, data: bytes, seen: list[tuple[float, bytes]] = seen) -> None:
                seen.append((time.monotonic(), data))

            assert target.stream("echo one; sleep 1; echo two", output=note) == 0
            assert [data for _, data in seen] == [b"one\n", b"two\n"]
            assert seen[1][0] - seen[0][0] > 0.5, "output comes as it is written"
            # Much on both streams at once, with input: nothing waits for anything.
            sizes = {Channel.STDOUT: 0, Channel.STDERR: 0}

            def count(channel: Channel, data: bytes, sizes: dict[Channel, int] = sizes) -> None:
                sizes[channel] += len(data)

            both = "head -c 3000000 /dev/zero >&2; cat; head -c 3000000 /dev/zero >&2"
            assert target.stream(both, input=[bytes(1 << 20)] * 3, output=count) == 0
            assert sizes == {Channel.STDOUT: 3 << 20, Channel.STDERR: 6_000_000}


def test_a_command_that_takes_no_input(sshd: Server) -> None:
    with reach(sshd) as target:
        assert target.stream("exit 5", input=[bytes(1 << 20)] * 20) == 5


def test_an_unknown_host_is_refused_then_accepted_then_known(
    sshd: Server, home: Home, fresh: Path
) -> None:
    shutil.copy(home.path / ".ssh/id_ed25519", fresh / ".ssh/id_ed25519")
    with pytest.raises(HostKeyRefused) as refused:
        open_target(sshd.url).connect(deadline_seconds=20)
    shown = subprocess.run(
        ["ssh-keygen", "-lf", f"{sshd.host_key}.pub"], capture_output=True, text=True, check=True
    ).stdout.split()[1]
    assert shown in str(refused.value)
    assert "--accept-new-host-key" in str(refused.value.hint)
    assert not hostkeys.accepted_file("127.0.0.1").exists()
    said: list[str] = []
    with open_target(sshd.url, Access(accept_new_host_key=True, say=said.append)) as target:
        target.connect()
    assert shown in said[0]
    with open_target(sshd.url) as target:
        assert target.run("echo in").text == "in\n"


def test_a_changed_host_key_is_refused_even_where_new_ones_are_accepted(
    sshd: Server, home: Home, fresh: Path
) -> None:
    keygen(fresh / "other")
    _, kind, key, *_ = ("", *(fresh / "other.pub").read_text().split())
    known = fresh / ".ssh/known_hosts"
    known.write_text(f"[127.0.0.1]:{sshd.port} {kind} {key}\n")
    with pytest.raises(HostKeyRefused, match="CHANGED") as refused:
        open_target(sshd.url, accepting()).connect()
    assert f"{known}:1" in str(refused.value)
    assert known.read_text().count("\n") == 1


def test_hashed_known_hosts_are_honoured(sshd: Server, home: Home, fresh: Path) -> None:
    shutil.copy(home.path / ".ssh/id_ed25519", fresh / ".ssh/id_ed25519")
    known = fresh / ".ssh/known_hosts"
    key = Path(f"{sshd.host_key}.pub").read_text()
    known.write_text(f"[127.0.0.1]:{sshd.port} {key}")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", known], check=True, capture_output=True)
    assert "127.0.0.1" not in known.read_text()
    with open_target(sshd.url) as target:
        assert target.run("echo in").text == "in\n"


@pytest.fixture(scope="module")
def password_board(home: Home, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    root = tmp_path_factory.mktemp("passwords") / "root"
    with dropbear_in_busybox(root, "") as server:
        hashed = subprocess.run(
            ["busybox", "mkpasswd", "-m", "sha512", SECRET],
            capture_output=True, text=True, check=True,
        ).stdout.strip()  # fmt: skip
        (root / "etc/passwd").write_text(f"root:{hashed}:0:0:root:/root:/bin/sh\n")
        yield server


def test_the_password_opens_and_is_nowhere_to_be_seen(password_board: Server, fresh: Path) -> None:
    with open_target(password_board.url, accepting(lambda what: SECRET)) as target:
        assert target.run("echo in").text == "in\n"
        processes = b"".join(
            path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if _readable(path)
        )
        assert SECRET.encode() not in processes
        assert SECRET not in repr(target.__dict__)


def _readable(path: Path) -> bool:
    try:
        path.read_bytes()
    except OSError:
        return False
    return True


def test_a_wrong_password_is_said_without_repeating_it(password_board: Server, fresh: Path) -> None:
    asked: list[str] = []

    def ask(what: str) -> str:
        asked.append(what)
        return "hunter2-wrong"

    with pytest.raises(AuthenticationFailed) as refused:
        open_target(password_board.url, accepting(ask)).connect(deadline_seconds=20)
    shown = "".join(traceback.format_exception(refused.value))
    assert "hunter2" not in shown + str(refused.value) + str(refused.value.hint)
    assert len(asked) == 2 and "root@127.0.0.1" in asked[0]


def test_no_password_to_be_had(password_board: Server, fresh: Path) -> None:
    with pytest.raises(AuthenticationFailed) as refused:
        open_target(password_board.url, accepting()).connect()
    assert "EMBEDKIT_PASSWORD" in str(refused.value.hint)


def test_a_key_with_a_passphrase(fresh: Path, tmp_path: Path) -> None:
    keygen(fresh / ".ssh/id_ed25519", passphrase="open sesame")
    with openssh(tmp_path / "sshd", fresh / ".ssh/id_ed25519.pub") as server:
        with open_target(server.url, accepting(lambda what: "open sesame")) as target:
            assert target.run("echo in").text == "in\n"
        with pytest.raises(AuthenticationFailed) as refused:
            open_target(server.url, accepting()).connect()
        assert "EMBEDKIT_PASSPHRASE" in str(refused.value.hint)
        with pytest.raises(AuthenticationFailed) as refused:
            open_target(server.url, accepting(lambda what: "wr" + "ong words")).connect()
        assert "wrong words" not in "".join(traceback.format_exception(refused.value))


def test_an_agent(fresh: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keygen(tmp_path / "key")
    socket = tmp_path / "agent"
    agent = subprocess.Popen(
        ["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL, start_new_session=True
    )
    try:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(socket))
        ends = time.monotonic() + 30
        # Its socket is there before it listens; 2 is "cannot be reached".
        while subprocess.run(["ssh-add", "-l"], capture_output=True, check=False).returncode == 2:
            assert time.monotonic() < ends, "the agent does not answer"
            time.sleep(0.05)
        subprocess.run(["ssh-add", "-q", tmp_path / "key"], check=True)
        with openssh(tmp_path / "sshd", tmp_path / "key.pub") as server:
            with open_target(server.url, accepting()) as target:
                assert target.run("echo in").text == "in\n"
            (fresh / ".ssh/config").write_text("Host *\n  IdentitiesOnly yes\n")
            with pytest.raises(AuthenticationFailed):
                open_target(server.url, accepting()).connect()
            (fresh / ".ssh/config").write_text(
                f"Host *\n  IdentitiesOnly yes\n  IdentityFile {tmp_path}/key\n"
            )
            with open_target(server.url, accepting()) as target:
                target.connect()
    finally:
        os.kill(agent.pid, signal.SIGTERM)
        agent.wait()


def test_ssh_config_with_include_alias_jump_and_proxy(
    sshd: Server, board: Server, home: Home, fresh: Path
) -> None:
    key = home.path / ".ssh/id_ed25519"
    (fresh / ".ssh/config.d").mkdir()
    (fresh / ".ssh/config.d/boards").write_text(
        f"Host gate\n  HostName 127.0.0.1\n  Port {sshd.port}\n  User root\n"
        f"Host Board\n  HostName 127.0.0.1\n  Port {board.port}\n  User root\n"
        "  HostKeyAlias the-board\n"
        "Host jumped\n  HostName 127.0.0.1\n"
        f"  Port {board.port}\n  ProxyJump gate\n"
        f"Host proxied\n  HostName 127.0.0.1\n  Port {board.port}\n"
        "  ProxyCommand busybox nc %h %p\n"
    )
    (fresh / ".ssh/config").write_text(
        f"Include config.d/*\nHost *\n  IdentityFile {key}\n  User root\n"
    )
    for url in ("ssh://Board", "jumped", "ssh://proxied"):
        with open_target(url, accepting()) as target:
            assert target.run("hostname").text == "tinyboard\n", url
    labels = [
        line.split()[0]
        for file in (fresh / "state/embedkit/host-keys").iterdir()
        for line in file.read_text().splitlines()
    ]
    assert f"[the-board]:{board.port}" in labels


def test_jumps_in_a_circle_end(fresh: Path) -> None:
    (fresh / ".ssh/config").write_text("Host a\n ProxyJump b\nHost b\n ProxyJump a\n")
    with pytest.raises(TargetError, match="circle"):
        open_target("ssh://a").connect()


def test_a_server_with_only_old_algorithms(fresh: Path, tmp_path: Path) -> None:
    keygen(fresh / ".ssh/id_rsa", "rsa", bits=2048)
    options = (
        "KexAlgorithms diffie-hellman-group14-sha1\nHostKeyAlgorithms ssh-rsa\n"
        "PubkeyAcceptedAlgorithms ssh-rsa\nCiphers aes128-cbc\nMACs hmac-sha1\n"
    )
    keys = fresh / ".ssh/id_rsa.pub"
    with openssh(tmp_path / "old", keys, options=options, host_kind="rsa") as server:
        with pytest.raises(EmbedkitError) as refused:
            open_target(server.url, accepting()).connect(deadline_seconds=20)
        assert "--legacy-ssh" in str(refused.value.hint)
        with open_target(f"{server.url}?legacy=1", accepting()) as target:
            assert target.run("echo in").text == "in\n"
        with open_target(server.url, accepting(legacy=True)) as target:
            assert target.run("echo in").text == "in\n"


def test_a_board_that_still_boots_is_waited_for(home: Home, tmp_path: Path) -> None:
    port = free_port()
    with pytest.raises(ConnectionLost):
        open_target(f"ssh://root@127.0.0.1:{port}").connect()
    begun = time.monotonic()
    with pytest.raises(ConnectionLost):
        open_target(f"ssh://root@127.0.0.1:{port}").connect(deadline_seconds=1.5)
    assert 0.5 < time.monotonic() - begun < 30


def test_a_reboot_is_waited_for(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """BusyBox's own reboot, in a process namespace: all there ends, and only there. The board
    comes back when the test starts it again; its boot id is the machine's, so that is played."""
    root = tmp_path / "root"
    boots = [b"1"]
    with dropbear_in_busybox(root, home.public_key) as server:
        target = reach(server)
        monkeypatch.setattr(target, "_boot_id", lambda: target.run("echo b") and boots[-1])
        target.connect()
        back = contextlib.ExitStack()

        def power_on() -> None:
            server.running.wait(40)
            time.sleep(1)
            boots.append(b"2")
            back.enter_context(dropbear_in_busybox(root, home.public_key, port=server.port))

        starter = threading.Thread(target=power_on)
        starter.start()
        with back:
            took = target.reboot(deadline_seconds=60)
            starter.join()
            assert server.running.returncode is not None
            assert took > 2
            assert target.run("echo up").text == "up\n"
            target.close()


def test_interrupting_a_server_breaks_cleanly(fresh: Path, home: Home, tmp_path: Path) -> None:
    keygen(fresh / ".ssh/id_ed25519")
    with openssh(tmp_path / "sshd", fresh / ".ssh/id_ed25519.pub") as server:
        target = open_target(server.url, accepting())
        target.connect()
        assert target.run("echo $PPID").text.strip().isdigit()
        children = threading.Timer(0.5, _kill_children, (server,))
        children.start()
        with pytest.raises(ConnectionLost):
            target.run("sleep 20")
        children.join()
        target.reconnect(deadline_seconds=30)
        assert target.run("echo again").text == "again\n"
        target.close()


def _kill_children(server: Server) -> None:
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(server.running.pid)], capture_output=True, text=True
    )
    for pid in listed.stdout.split():
        os.kill(int(pid), signal.SIGKILL)
