"""Deployments to boards with different inits, and with the power cut at every step.

Docker's programs are stand-ins here (small static programs, see support.standin): only the
installation is under test. Real are BusyBox's sh and init, System V's init, files and processes.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support import standin
from support.dockerboard import Board

from embedkit import cli
from embedkit.docker.apply import Observer
from embedkit.docker.bundle import open_bundle
from embedkit.docker.deploy import Deployment, SharedBundle, Wish, deploy
from embedkit.docker.install import Options
from embedkit.docker.plan import Step
from embedkit.docker.settings import Choices
from embedkit.target.base import ConnectionLost
from embedkit.target.local import LocalTarget

pytestmark = pytest.mark.needs("root", "program:busybox", "program:unshare", "program:gcc")

INITS = ("busybox", "sysv", "systemd", "openrc", "none")


def wish(**more: Any) -> Wish:
    settings = more.pop("settings", {})
    return Wish(
        options=Options(choices=Choices(extra=settings, iptables="off")), proof="none", **more
    )


def send(board: Board, version: str, observer: Observer | None = None, **more: Any) -> Deployment:
    with board.target as target:
        shared = SharedBundle(open_bundle(standin.bundle(version)))
        return deploy(target, shared, wish(**more), observer=observer)


def undo(board: Board, action: str, observer: Observer | None = None) -> Deployment:
    with board.target as target:
        return deploy(target, None, wish(action=action), observer=observer)


def answers(board: Board) -> str:
    """The version of the daemon that runs, or an empty string."""
    with board.target as target:
        asked = "/opt/embedkit/docker/current/docker version 2>/dev/null"
        return target.run(asked, check=False).text.removeprefix("stand-in ").strip()


@pytest.mark.parametrize("init", INITS)
def test_install_again_upgrade_rollback_uninstall(init: str, boards: Any) -> None:
    board = boards(init=init, firewall=False, cgroups=False)
    (board.root / "etc/docker").mkdir()
    (board.root / "etc/docker/daemon.json").write_text('{"debug": true}')
    before = board.tree()
    board.start()

    first = send(board, "1.0.0")
    assert first.ok and first.generation is not None
    assert first.generation.init == init
    assert answers(board) == "1.0.0"
    installed = board.tree()
    assert '"debug": true' in (board.root / "etc/docker/daemon.json").read_text()

    again = send(board, "1.0.0")
    assert again.ok and again.plan.empty
    assert board.tree() == installed

    assert send(board, "1.1.0", settings={"max-concurrent-downloads": 1}).ok
    assert answers(board) == "1.1.0"
    assert "max-concurrent" in (board.root / "etc/docker/daemon.json").read_text()

    assert undo(board, "rollback").ok
    assert answers(board) == "1.0.0"
    assert "max-concurrent" not in (board.root / "etc/docker/daemon.json").read_text()

    assert undo(board, "uninstall").ok
    assert board.tree() == before


@pytest.mark.parametrize("init", ["busybox", "sysv", "systemd", "openrc"])
def test_starts_at_boot_by_the_boards_own_init(init: str, boards: Any) -> None:
    board = boards(init=init, firewall=False, cgroups=False)
    board.start()
    assert send(board, "1.0.0").ok
    board.power_off()
    # /var/run is on disk on some boards: a process id of the last run must not stop this one.
    board.start()
    with board.target as target:
        target.run("n=0; while [ ! -S /var/run/docker.sock ] && [ $n -lt 50 ]; do sleep 0.1; "
                   "n=$((n+1)); done")  # fmt: skip
    assert answers(board) == "1.0.0"


def test_a_daemon_that_does_not_start_leaves_the_former_running(boards: Any) -> None:
    board = boards(firewall=False, cgroups=False)
    board.start()
    assert send(board, "1.0.0").ok
    before = board.tree()
    (board.root / "etc/standin-fails").write_text("1.1.0")
    failed = send(board, "1.1.0", settings={"debug": True})
    assert not failed.ok and failed.outcome is not None
    assert failed.outcome.recovered is True
    assert [cause.name for cause in failed.causes] == ["iptables"]
    assert any("Iptables not found" in line for line in failed.outcome.log)
    assert answers(board) == "1.0.0"
    (board.root / "etc/standin-fails").unlink()
    after = {path: what for path, what in board.tree().items() if "1.1.0" not in path}
    # The new programs stay for the next try; the record and the log are not what they were.
    for path in ("opt/embedkit/docker/state.json", "var/log/docker.log", "var/log/docker.log.1"):
        before.pop(path, None)
        after.pop(path, None)
    assert after == before


@pytest.mark.parametrize("init", ["busybox", "openrc"])
def test_a_board_that_is_too_slow_the_first_time_is_tried_again(init: str, boards: Any) -> None:
    board = boards(init=init, firewall=False, cgroups=False)
    board.start()
    (board.root / "etc/standin-is-slow").touch()
    done = send(board, "1.0.0")
    assert done.ok, done.outcome
    assert not (board.root / "etc/standin-is-slow").exists()
    assert answers(board) == "1.0.0"


HOSTILE = b"\x1b]0;pwned\x07\x1b[2J\xc2\x9b5n\r<script>x</script>"


@pytest.mark.parametrize("format", ["text", "json", "html", "markdown", "junit"])
def test_a_hostile_log_is_shown_and_never_obeyed(
    format: str, boards: Any, monkeypatch: pytest.MonkeyPatch, capfdbinary: Any
) -> None:
    """What a daemon logs goes to a terminal, a browser and into files."""
    board = boards(init="none", firewall=False, cgroups=False)
    board.start()
    (board.root / "etc/standin-fails").write_bytes(b"1.0.0" + HOSTILE)
    monkeypatch.setattr("embedkit.target.opening.open_target", lambda url, access: board.target)
    words = ["deploy", "ssh://board", "--bundle", str(standin.bundle("1.0.0")), "-v"]
    assert cli.main([*words, "--proof", "none", "--format", format]) == 4
    told = capfdbinary.readouterr()
    for shown in (told.out, told.err):
        assert not set(shown) & (set(range(32)) - set(b"\n\t")), shown
        assert b"\xc2\x9b" not in shown
    assert b"<script>x" in told.out if format == "json" else b"script" in told.out
    # JUnit has the failed steps, and the log's last line in them.
    assert format == "junit" or (b"Iptables not found" in told.out and b"pwned" in told.out)
    if format == "html":
        assert b"<script>x" not in told.out


def test_a_first_daemon_that_does_not_start_leaves_nothing_in_the_way(boards: Any) -> None:
    board = boards(firewall=False, cgroups=False)
    before = board.tree()
    board.start()
    (board.root / "etc/standin-fails").write_text("1.0.0")
    assert not send(board, "1.0.0").ok
    (board.root / "etc/standin-fails").unlink()
    left = {path for path in board.tree() if path not in before}
    assert all(path.startswith(("opt", "var/log/docker.log")) for path in left)
    assert send(board, "1.0.0").ok
    assert undo(board, "uninstall").ok
    assert board.tree() == before


class PowerCut(BaseException):
    """No error that anybody could answer."""


class Cutting:
    """Cuts the power after the step with a given number."""

    def __init__(self, after: int) -> None:
        self.after = after
        self.steps: list[str] = []

    def started(self, step: Step) -> None:
        self.steps.append(step.id)

    def finished(self, step: Step, seconds: float) -> None:
        if len(self.steps) == self.after:
            raise PowerCut


def cut(board: Board, after: int, version: str, **more: Any) -> list[str] | None:
    """Deploys until the cut; the steps that were done, or None where it came to its end."""
    cutting = Cutting(after)
    try:
        done = send(board, version, cutting, **more)
    except PowerCut:
        board.power_off()
        board.start()
        return cutting.steps
    assert done.ok
    return None


def test_power_cut_after_every_step_of_an_installation(boards: Any) -> None:
    board = boards(init="none", firewall=False, cgroups=False)
    before = board.tree()
    board.start()
    after = 1
    while (done := cut(board, after, "1.0.0")) is not None:
        if after % 2:
            assert send(board, "1.0.0").ok, done
            assert answers(board) == "1.0.0", done
        elif "record" in done and "commit" not in done:
            assert undo(board, "rollback").ok, done
            assert answers(board) == "", done
        assert undo(board, "uninstall").ok, done
        assert board.tree() == before, done
        after += 1
    assert after > 15


@pytest.mark.parametrize("recover", ["deploy", "rollback"])
def test_power_cut_after_every_step_of_an_upgrade(recover: str, boards: Any) -> None:
    board = boards(init="none", firewall=False, cgroups=False)
    board.start()
    assert send(board, "1.0.0").ok
    settings = {"debug": True}
    after = 1
    while (done := cut(board, after, "1.1.0", settings=settings)) is not None:
        if recover == "deploy":
            assert send(board, "1.1.0", settings=settings).ok, done
            assert answers(board) == "1.1.0", done
            assert undo(board, "rollback").ok, done
        elif "record" in done:
            assert undo(board, "rollback").ok, done
        else:
            assert send(board, "1.0.0").ok, done  # nothing of it had begun but the copying
        assert answers(board) == "1.0.0", done
        assert send(board, "1.0.0").plan.empty, done
        # The next round copies again.
        with board.target as target:
            target.run("rm -rf /opt/embedkit/docker/1.1.0 /opt/embedkit/docker/.1.1.0.part")
        after += 1
    assert after > 12


def test_dry_run_shows_what_a_run_does_and_changes_nothing(boards: Any) -> None:
    board = boards(firewall=False, cgroups=False)
    board.start()
    before = board.tree()
    shown = send(board, "1.0.0", dry_run=True)
    assert board.tree() == before
    done = send(board, "1.0.0")
    assert done.outcome is not None
    assert [one.step.id for one in done.outcome.done] == [one.id for one in shown.plan.all_steps]


def test_what_a_user_changed_since_survives_rollback_and_uninstall(boards: Any) -> None:
    board = boards(firewall=False, cgroups=False)
    board.start()
    assert send(board, "1.0.0").ok
    assert send(board, "1.1.0").ok
    settings = board.root / "etc/docker/daemon.json"
    settings.write_text(settings.read_text().replace("{", '{"insecure-registries": ["a:5000"],', 1))
    assert undo(board, "rollback").ok
    assert "a:5000" in settings.read_text()
    assert undo(board, "uninstall").ok
    assert "a:5000" in settings.read_text()
    assert "storage-driver" not in settings.read_text()


def test_a_file_of_the_users_is_not_taken_over(boards: Any) -> None:
    board = boards(firewall=False, cgroups=False)
    (board.root / "usr/local/bin").mkdir(parents=True, exist_ok=True)
    mine = board.root / "usr/local/bin/docker"
    mine.write_text("#!/bin/sh\n")
    board.start()
    done = send(board, "1.0.0")
    assert done.ok
    assert "taken-docker" in {concern.id for concern in done.concerns}
    assert mine.read_text() == "#!/bin/sh\n"


def test_two_boards_at_once(boards: Any, tmp_path: Path) -> None:
    from concurrent.futures import ThreadPoolExecutor

    fleet = [boards(init="none", firewall=False, cgroups=False) for _ in range(2)]
    for board in fleet:
        board.start()
    with ThreadPoolExecutor() as pool:
        done = list(pool.map(lambda board: send(board, "1.0.0"), fleet))
    assert all(one.ok for one in done)
    assert [answers(board) for board in fleet] == ["1.0.0", "1.0.0"]


class Dropping(LocalTarget):
    """A connection that breaks before every fifth command and has to be made anew."""

    commands = 0
    reconnections = 0

    def stream(self, command: Any, **more: Any) -> int:
        type(self).commands += 1
        if type(self).commands % 5 == 0:
            raise ConnectionLost("the line broke", where=self.name)
        return super().stream(command, **more)

    def reconnect(self, *, deadline_seconds: float = 60.0) -> None:
        type(self).reconnections += 1


def test_a_line_that_breaks_again_and_again_is_borne(boards: Any) -> None:
    board = boards(init="none", firewall=False, cgroups=False)
    board.start()
    target = board.target
    shared = SharedBundle(open_bundle(standin.bundle("1.0.0")))
    target.facts()
    target.__class__ = Dropping
    done = deploy(target, shared, wish())
    assert done.ok, done.outcome
    assert Dropping.reconnections > 3
    assert answers(board) == "1.0.0"


def test_the_command_tells_it_all(
    boards: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    board = boards(firewall=False, cgroups=False)
    board.start()
    monkeypatch.setattr("embedkit.target.opening.open_target", lambda url, access: board.target)
    words = ["deploy", "ssh://board", "--bundle", str(standin.bundle("1.0.0")), "--json"]
    words += ["--proof", "none", "-q"]

    def told(*more: str, code: int = 0) -> dict[str, Any]:
        assert cli.main([*words, *more]) == code
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        target: dict[str, Any] = document["data"]["targets"][0]
        return target

    dry = told("--dry-run")
    assert not dry["changed"] and "start" in [step["id"] for step in dry["plan"]]
    assert [step["id"] for step in told()["done"]] == [step["id"] for step in dry["plan"]]
    assert not told()["changed"]
    refused = told("--root", "/proc/x", "--data-root", "/proc/y", code=1)
    assert refused["blocked"] and not refused["changed"]
    words[2:4] = ["--uninstall", "--purge"]
    assert cli.main(words) == 2  # no terminal to confirm on
    assert "confirmation" in json.loads(capsys.readouterr().out)["error"]["message"]
    assert told("--yes")["status"] == "ok"
