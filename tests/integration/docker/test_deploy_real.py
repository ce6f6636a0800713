"""A real dockerd, started by ``deploy`` on a board of namespaces, runs the proof's containers;
then one thing after the other is broken. dockerd, containerd, runc and tini are Debian's."""

from __future__ import annotations

import dataclasses
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import locks
from support.debian import NotToBeHad, give_up
from support.dockerboard import Board, bundle_folder, programs, remove_cgroups
from support.standin import NAMES

from embedkit.bringup.causes import kernel_causes
from embedkit.docker import proofelf
from embedkit.docker.bundle import Bundle, open_bundle
from embedkit.docker.deploy import Deployment, SharedBundle, Wish, deploy
from embedkit.docker.engine import open_socket
from embedkit.docker.fit import Allowed
from embedkit.docker.install import Options
from embedkit.docker.proof import Asked, prove
from embedkit.docker.settings import Choices
from embedkit.target.local import LocalTarget

pytestmark = pytest.mark.needs(
    "root", "debian", "program:busybox", "program:unshare", "program:iptables", "program:curl"
)

CGROUP = f"embedkit-test-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def real() -> Bundle:
    """The complete bundle. Debian's programs are not static, so a board here has their
    libraries and the option for it is given."""
    try:
        return open_bundle(bundle_folder())
    except NotToBeHad as reason:
        give_up(str(reason))
        raise


def wish(**more: Any) -> Wish:
    choices = Choices(
        data_root=more.pop("data_root", None),
        iptables=more.pop("iptables", "auto"),
        extra={"cgroup-parent": f"/{CGROUP}", **more.pop("settings", {})},
    )
    return Wish(options=Options(choices=choices), allowed=Allowed(dynamic=True), **more)


def go(board: Board, bundle: Bundle, **more: Any) -> Deployment:
    with board.target as target:
        return deploy(target, SharedBundle(bundle), wish(**more), explain=kernel_causes)


def concern(done: Deployment, id: str) -> tuple[str, str]:
    """(weight, state) of a concern."""
    return next(((c.weight.value, c.state) for c in done.concerns if c.id == id), ("", ""))


@dataclasses.dataclass(frozen=True)
class Well:
    """The board that lacks nothing: its files before, what came of the deployment, and copies
    (hard links) of the programs on it."""

    board: Board
    before: dict[str, tuple[str, int, str]]
    done: Deployment
    kept: Path


@pytest.fixture(scope="module")
def template(real: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Well]:
    """The well board, deployed to with everything and proven in full."""
    board = make(tmp_path_factory.mktemp("well"), real)
    shutil.copy("/usr/bin/curl", board.root / "usr/bin/curl")
    programs(board.root, [Path("/usr/bin/curl")])
    before = board.tree()
    board.start()
    try:
        done = go(board, real, proof="full")
        # The other boards' programs are links to these files: uninstalling must not take them.
        kept = board.root.parent / "kept"
        shutil.copytree(
            board.root / "opt/embedkit/docker" / real.label, kept, copy_function=os.link
        )
        yield Well(board, before, done, kept)
    finally:
        board.power_off()
        remove_cgroups(CGROUP)


def make(folder: Path, bundle: Bundle, **options: Any) -> Board:
    return Board(folder, libraries=[bundle.path / name for name in bundle.names], **options)


@pytest.fixture
def broken(real: Bundle, template: Well, tmp_path: Path) -> Iterator[Any]:
    """Makes further boards that have the programs already, by hard links from the first."""
    made: list[Board] = []

    def make_broken(**options: Any) -> Board:
        board = make(tmp_path / "board", real, **options)
        shutil.copytree(
            template.kept,
            board.root / "opt/embedkit/docker" / real.label,
            copy_function=os.link,
        )
        made.append(board)
        board.start()
        return board

    yield make_broken
    for board in made:
        board.power_off()
    remove_cgroups(CGROUP)


def test_everything_is_proven_on_a_well_board(template: Well, real: Bundle) -> None:
    done = template.done
    assert done.proof is not None
    failed = [(c.id, c.error, c.causes) for c in done.proof.checks if c.ok is not True]
    assert not failed and done.ok
    assert [check.id for check in done.proof.checks] == [
        "daemon", "run", "busybox", "memory", "volume", "bridge", "port", "restart",
    ]  # fmt: skip
    again = go(template.board, real)
    assert again.ok and again.plan.empty


def test_proven_through_the_socket_alone(template: Well) -> None:
    with template.board.target as target:
        engine = open_socket(target)
        assert engine.way == "the socket, by curl"
        busybox = (template.board.root / "bin/busybox").read_bytes()
        proof = prove(engine, Asked("amd64", busybox=busybox))
    assert [(c.id, c.error) for c in proof.checks if not c.ok] == []
    assert proof.ok


def test_uninstalled_and_purged_leaves_the_board_as_it_was(template: Well) -> None:
    board = template.board
    with board.target as target:
        gone = deploy(target, None, Wish(action="uninstall", purge=True))
    assert gone.ok, gone.outcome
    assert board.tree() == template.before
    with board.target as target:
        assert "docker" not in target.run("cat /proc/mounts").text
    assert not (board.root / "var/lib/docker").exists()


def test_wrong_architecture_is_found_before_copying(broken: Any, tmp_path: Path) -> None:
    board = broken()
    folder = tmp_path / "docker-29.1.0"
    folder.mkdir()
    for name in NAMES:
        (folder / name).write_bytes(proofelf.program("arm", name.encode(), 0))
    before = board.tree()
    done = go(board, open_bundle(folder))
    assert done.blocked and board.tree() == before
    assert concern(done, "arch") == ("fail", "bundle for arm, board is amd64")
    # Forced, it ends at the trial start, and nothing that runs was touched.
    with locks.held("binfmt", shared=True):
        forced = go(board, open_bundle(folder), force=True)
    assert not forced.ok and forced.outcome is not None and forced.outcome.recovered is None
    assert "arch" in [cause.name for cause in forced.causes], forced.outcome.failure


def test_no_iptables(broken: Any, real: Bundle) -> None:
    board = broken(firewall=False)
    insisted = go(board, real, iptables="on")
    assert insisted.blocked and concern(insisted, "iptables")[0] == "fail"
    forced = go(board, real, iptables="on", force=True)
    assert not forced.ok and forced.outcome is not None and forced.outcome.recovered is True
    assert forced.causes[0].name == "iptables"
    done = go(board, real)
    assert done.ok, done.outcome
    assert concern(done, "iptables")[0] == "warn"


def test_no_cgroups_mounted(broken: Any, real: Bundle) -> None:
    board = broken(cgroups=False)
    done = go(board, real)
    assert concern(done, "cgroups") == ("warn", "not mounted")
    assert done.ok, (done.proof, done.outcome)
    with board.target as target:
        assert "cgroup" in target.run("cat /proc/mounts").text
        assert deploy(target, None, Wish(action="uninstall", purge=True)).ok
        assert "cgroup" not in target.run("cat /proc/mounts").text


def test_full_disk(broken: Any, real: Bundle) -> None:
    small = "mkdir -p /var/lib/docker; mount -t tmpfs -o size={} data /var/lib/docker"
    board = broken(boot=small.format("30m"))
    with board.target as target:
        target.run("dd if=/dev/zero of=/var/lib/docker/full bs=1M count=20")
    done = go(board, real)
    assert done.blocked and concern(done, "room-data")[0] == "fail"
    with board.target as target:
        target.run("rm /var/lib/docker/full")
    assert go(board, real, proof="none").ok
    # Full only later: it is the daemon that says so, and the cause is named.
    with board.target as target:
        target.run("dd if=/dev/zero of=/var/lib/docker/full bs=1k", check=False)
    late = go(board, real, prove_again=True)
    assert late.proof is not None and not late.proof.ok
    assert "disk" in [cause.name for check in late.proof.checks for cause in check.causes]


def test_read_only_data_root(broken: Any, real: Bundle) -> None:
    board = broken(boot="mkdir -p /var/lib/docker; mount -t tmpfs -o ro data /var/lib/docker")
    asked = go(board, real, data_root="/var/lib/docker/deeper", dry_run=True)
    assert concern(asked, "data-root") == ("fail", "/var/lib/docker is mounted read-only")
    forced = go(board, real, data_root="/var/lib/docker/deeper", force=True)
    assert not forced.ok and forced.outcome is not None and forced.outcome.recovered is True
    assert "read-only" in [cause.name for cause in forced.causes]
    # Left to itself it takes the board's other filesystem.
    done = go(board, real, dry_run=True)
    assert concern(done, "data-root")[0] == "warn" and done.generation is not None
    assert done.generation.data_root == "/docker"


# No kernel here lacks overlay, so /proc/filesystems is made to say so, which is what the probe
# reads; and dockerd's own try is made to fail by a data root that lies on an overlay.
HIDE = """grep -v overlay /proc/filesystems >/run/fs; mkdir -p /var/lib/docker /run/d
mount -t tmpfs data /run/d; mkdir /run/d/u /run/d/w
mount -t overlay -o lowerdir=/etc,upperdir=/run/d/u,workdir=/run/d/w over /var/lib/docker
mount --bind /run/fs /proc/filesystems
"""


def test_overlay_missing(broken: Any, real: Bundle) -> None:
    board = broken(boot=HIDE)
    insisting = {"settings": {"storage-driver": "overlay2"}, "data_root": "/var/lib/docker"}
    forced = go(board, real, force=True, **insisting)
    assert not forced.ok and forced.outcome is not None and forced.outcome.recovered is True
    assert "CONFIG_OVERLAY_FS" in [cause.name for cause in forced.causes], forced.outcome
    done = go(board, real)
    assert concern(done, "overlay")[0] == "warn"
    assert done.ok, (done.proof, done.outcome)
    assert done.generation is not None and done.generation.ours["storage-driver"] == "vfs"
    assert done.generation.data_root == "/docker"


class Clocked(LocalTarget):
    """A board whose clock stands at 1970. The kernel's cannot be set for one board alone, so
    this is the one broken thing that is simulated: in the facts."""

    def facts(self, *, refresh: bool = False) -> Any:
        facts = super().facts(refresh=refresh)
        now = facts.clock_seconds or 0
        return dataclasses.replace(facts, clock_seconds=0, clock_offset_seconds=-now)


def test_clock_of_1970(broken: Any, real: Bundle) -> None:
    board = broken()
    target = board.target
    target.__class__ = Clocked
    done = deploy(target, SharedBundle(real), wish(dry_run=True))
    weight, state = concern(done, "clock")
    assert weight == "warn" and state.endswith("days behind")
    # The daemon works all the same: nothing of the proof needs certificates.
    assert not done.blocked
