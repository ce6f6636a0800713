"""Images onto a board with a real Docker, over a real SSH server, with what can go wrong."""

from __future__ import annotations

import contextlib
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import oci_images as images
from support import services
from support.oci_images import embedkit
from support.proxy import proxied
from support.services import Docker
from support.sshservers import Server, dropbear_in_busybox, keygen, openssh

from embedkit.commands import oci_load, oci_loading
from embedkit.docker import proofelf
from embedkit.docker.engine import Api, EngineError, open_socket
from embedkit.docker.images import ApiImages, open_images
from embedkit.progress import NullProgress
from embedkit.target.base import Channel
from embedkit.target.local import LocalTarget

pytestmark = pytest.mark.needs("root", "program:dockerd", "program:runc", "program:sshd")

HELLO = "hello from linux/amd64\n"
DIALS = ("curl", "socat", "python3", "perl")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A user's home with one SSH key."""
    path = tmp_path_factory.mktemp("home")
    (path / ".ssh").mkdir(mode=0o700)
    keygen(path / ".ssh/id_ed25519")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HOME", str(path))
        patch.setenv("XDG_STATE_HOME", str(path / "state"))
        patch.delenv("SSH_AUTH_SOCK", raising=False)
        yield path


@pytest.fixture(scope="module")
def sshd(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("sshd")
    keys = folder / "authorized_keys"
    shutil.copy(home / ".ssh/id_ed25519.pub", keys)
    with openssh(folder, keys) as server:
        yield server


def over_ssh(port: int, docker: Docker) -> list[str | Path]:
    """The words of a TARGET whose daemon is ``docker``."""
    return [f"ssh://root@127.0.0.1:{port}", "--accept-new-host-key", "--socket", docker.socket]


def here(docker: Docker) -> list[str | Path]:
    return ["local:", "--socket", docker.socket]


def rootfs(folder: Path, size: int, seed: int, *, compressible: bool = False) -> Path:
    """A root file system of ``size`` bytes and the hello program."""
    folder.mkdir()
    source = random.Random(seed)
    content = source.randbytes(1000) * (size // 1000) if compressible else source.randbytes(size)
    (folder / "data").write_bytes(content)
    return folder


@pytest.fixture
def layered(tmp_path: Path) -> tuple[Path, Path]:
    """A base of 6 MB, and an image with the hello program on top of it."""
    seed = random.Random(str(tmp_path)).randrange(1 << 30)
    base, app = tmp_path / "base.tar", tmp_path / "app.tar"
    folder = rootfs(tmp_path / "rootfs", 6_000_000, seed)
    name = f"base-{seed}"
    embedkit("oci", "build", f"linux/amd64={folder}", "-t", f"{name}:1", "-o", base)
    part = images.programs(tmp_path / "programs")["linux/amd64"]
    embedkit("oci", "build", part, "--from", base, "-t", f"app-{seed}:1", "-o", app)
    return base, app


def names(docker: Docker) -> set[str]:
    return set(docker("images", "-a", "--no-trunc", "--format", "{{.ID}} {{.Repository}}:{{.Tag}}")
               .splitlines())  # fmt: skip


def left(docker: Docker) -> list[str]:
    """What the daemon keeps of archives that are being loaded."""
    folder = docker.socket.parent / "data/tmp"
    return [path.name for path in folder.iterdir()] if folder.exists() else []


def test_the_first_load_sends_all_the_next_one_the_new_layer(
    layered: tuple[Path, Path], docker: Docker, sshd: Server, capfd: pytest.CaptureFixture[str]
) -> None:
    base, app = layered
    words = over_ssh(sshd.port, docker)
    first = embedkit("oci", "load", base, *words)["data"]
    assert first["sent"]["layers"] == 1 and first["sent"]["bytes"] > 6_000_000
    planned = embedkit("oci", "load", app, *words, "--dry-run")["data"]
    assert [layer["there"] for layer in planned["layers"]] == [True, False]
    assert "sent" not in planned
    assert not any(planned["image"]["id"] in line for line in names(docker))
    second = embedkit("oci", "load", app, *words)["data"]
    assert second["sent"]["left_out"] == 1 and second["sent"]["bytes"] < 20_000
    assert (
        second["image"]["id"]
        == docker("image", "inspect", second["image"]["name"], "-f", "{{.Id}}").strip()
    )
    third = embedkit("oci", "load", app, *words, "--name", "again:2")["data"]
    assert third["present"] and "sent" not in third
    assert docker("run", "--rm", "--network", "none", "again:2") == HELLO


def test_run_prints_what_the_container_prints_and_ends_as_it_ends(
    docker: Docker, sshd: Server, tmp_path: Path
) -> None:
    program = tmp_path / "seven"
    program.write_bytes(proofelf.program("amd64", b"seven\n", 7))
    program.chmod(0o755)
    archive = tmp_path / "seven.tar"
    embedkit("oci", "build", program, "-t", "seven:1", "-o", archive)
    words = [sys.executable, "-m", "embedkit.cli", "oci", "load", archive]
    words += [*over_ssh(sshd.port, docker), "--run"]
    ended = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stdout) == (7, "seven\n")
    assert "seven:1 loaded" in ended.stderr
    told = embedkit("oci", "load", archive, *here(docker), "--run", code=7)["data"]
    assert (told["exit_code"], told["stdout"]) == (7, "seven\n")
    assert docker("ps", "-aq") == ""


def test_a_command_behind_the_dashes(single: Path, docker: Docker) -> None:
    words = ["oci", "load", single, *here(docker), "--json", "--run"]
    ended = subprocess.run(
        [sys.executable, "-m", "embedkit.cli", *words, "--", "--json", "-x"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 0 and '"hello from linux/amd64\\n"' in ended.stdout
    said = embedkit("oci", "load", single, *here(docker), code=0)
    assert said["data"]["present"]
    ended = subprocess.run(
        [sys.executable, "-m", "embedkit.cli", *words[:-1], "--", "ls"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert ended.returncode == 2 and "--run" in ended.stdout


def test_a_wrong_platform_is_refused_before_a_byte_is_sent(
    docker: Docker, sshd: Server, tmp_path: Path
) -> None:
    parts = images.programs(tmp_path / "programs")
    archive = tmp_path / "arm.tar"
    embedkit("oci", "build", parts["linux/arm/v7"], parts["linux/arm64"], "-t", "arm:1", "-o",
             archive)  # fmt: skip
    before = names(docker)
    with proxied(sshd.port) as proxy:
        error = embedkit("oci", "load", archive, *over_ssh(proxy.port, docker), code=2)["error"]
    assert "nothing in the image runs on linux/amd64" in error["message"]
    assert "linux/arm/v7, linux/arm64" in error["message"]
    assert names(docker) == before


def test_the_board_s_platform_is_taken_of_several(five: Path, docker: Docker) -> None:
    told = embedkit("oci", "load", five, *here(docker), "--name", "five:1", "--run")["data"]
    assert told["image"]["platform"] == "linux/amd64" and told["stdout"] == HELLO


def test_a_wrong_label_is_refused_unless_trusted(docker: Docker, tmp_path: Path) -> None:
    part = images.programs(tmp_path / "programs")["linux/arm/v7"]
    archive = tmp_path / "wrong.tar"
    embedkit("oci", "build", f"linux/amd64={part}", "--trust-platform", "-t", "wrong:1", "-o",
             archive)  # fmt: skip
    before = names(docker)
    error = embedkit("oci", "load", archive, *here(docker), code=2)["error"]
    assert "labelled linux/amd64" in error["message"] and "--trust-labels" in error["hint"]
    assert names(docker) == before
    embedkit("oci", "load", archive, *here(docker), "--trust-labels")
    assert any("wrong:1" in line for line in names(docker))


def test_a_layer_that_vanished_meanwhile_is_sent_after_all(
    layered: tuple[Path, Path], docker: Docker, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, app = layered
    name = embedkit("oci", "load", base, *here(docker))["data"]["image"]["name"]
    plan = oci_load.check_room

    def prune(wanted: Any) -> None:
        assert wanted.there == {0}
        plan(wanted)
        docker("rmi", name)

    monkeypatch.setattr(oci_load, "check_room", prune)
    sent = embedkit("oci", "load", app, *here(docker))["data"]["sent"]
    assert sent["sent_again_whole"] and sent["layers"] == 2
    assert left(docker) == []


def test_a_cut_in_the_middle_is_mended(
    layered: tuple[Path, Path], docker: Docker, sshd: Server
) -> None:
    _, app = layered
    with proxied(sshd.port, cuts=[3_000_000]) as proxy:
        told = embedkit("oci", "load", app, *over_ssh(proxy.port, docker))["data"]
        assert proxy.cut == 1
    assert told["sent"]["cuts"] == 1
    assert docker("run", "--rm", "--network", "none", told["image"]["id"]) == HELLO
    assert left(docker) == []


def test_a_line_that_keeps_breaking_leaves_nothing(
    layered: tuple[Path, Path], docker: Docker, sshd: Server
) -> None:
    _, app = layered
    before = names(docker)
    with proxied(sshd.port, cuts=[3_000_000] * 9) as proxy:
        error = embedkit("oci", "load", app, *over_ssh(proxy.port, docker), code=4)["error"]
    assert "connection" in error["message"]
    _until(lambda: left(docker) == [])
    assert names(docker) == before


def test_a_slow_link_is_sent_less(docker: Docker, sshd: Server, tmp_path: Path) -> None:
    folder = rootfs(tmp_path / "rootfs", 8_000_000, 77, compressible=True)
    archive = tmp_path / "image.tar"
    embedkit("oci", "build", f"linux/amd64={folder}", "-t", "slow:1", "-o", archive)
    with proxied(sshd.port, rate=3e6) as proxy:
        sent = embedkit("oci", "load", archive, *over_ssh(proxy.port, docker))["data"]["sent"]
    assert sent["compression"] in ("gzip", "zstd", "xz")
    assert sent["bytes"] < sent["archive_bytes"] / 3


def test_no_room_is_told_before_anything_is_sent(
    layered: tuple[Path, Path],
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, app = layered
    folder = tmp_path_factory.mktemp("full")  # sockets' paths have 107 bytes at most
    with _tmpfs(folder, "11m"), services.dockerd(folder / "docker") as docker:
        error = embedkit("oci", "load", app, *here(docker), code=4)["error"]
        assert "needs about 11." in error["message"] and "free there" in error["message"]
        monkeypatch.setattr(oci_load, "check_room", lambda wanted: None)
        error = embedkit("oci", "load", app, *here(docker), code=4)["error"]
        assert "no space left" in error["message"]
        assert names(docker) == set() and left(docker) == []


@contextlib.contextmanager
def _tmpfs(folder: Path, size: str) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-R", folder], check=True)


def test_another_image_in_the_end_is_not_named(
    single: Path, docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "other"
    program.write_bytes(proofelf.program("amd64", b"other\n", 0))
    archive = tmp_path / "other.tar"
    embedkit("oci", "build", program, "-t", "other:1", "-o", archive)
    swapped = oci_loading.loadable.pack_layers

    def damaged(chosen: Any, path: Path, there: Any, **more: Any) -> Any:
        packed = swapped(chosen, path, there, **more)
        shutil.copy(single, path)
        return packed

    monkeypatch.setattr(oci_loading.loadable, "pack_layers", damaged)
    error = embedkit("oci", "load", archive, *here(docker), code=4)["error"]
    assert "not the image that was sent" in error["message"]
    assert not any("other:1" in line for line in names(docker))


def test_no_docker_and_no_daemon(single: Path, home: Path, tmp_path: Path) -> None:
    error = embedkit("oci", "load", single, "local:", "--socket", tmp_path / "none", code=4)
    assert "its Docker does not answer" in error["error"]["message"]
    with dropbear_in_busybox(tmp_path / "root", (home / ".ssh/id_ed25519.pub").read_text()) as bare:
        words = [bare.url, "--accept-new-host-key"]
        error = embedkit("oci", "load", single, *words, code=4)["error"]
    assert "neither Docker nor ctr" in error["message"] and "deploy" in error["hint"]


@pytest.mark.needs("program:busybox")
def test_an_interrupted_run_ends_its_container(docker: Docker, tmp_path: Path) -> None:
    archive = tmp_path / "box.tar"
    busybox = Path(shutil.which("busybox") or "").resolve()
    shutil.copy(busybox, tmp_path / "busybox")
    embedkit("oci", "build", tmp_path / "busybox", "-t", "box:1", "-o", archive)
    words = ["oci", "load", archive, *here(docker), "--run", "--", "sleep", "1000"]
    command = [sys.executable, "-m", "embedkit.cli", *words]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        _until(lambda: bool(docker("ps", "-q")))
        running.send_signal(signal.SIGINT)
        running.communicate(timeout=60)
        assert running.returncode == 130
    finally:
        running.kill()
    assert docker("ps", "-aq") == ""


@pytest.mark.parametrize(
    "dial",
    [pytest.param(name, marks=pytest.mark.needs(f"program:{name}")) for name in DIALS],
)
def test_a_board_without_a_client_is_fed_through_the_socket(
    dial: str, docker: Docker, tmp_path: Path
) -> None:
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cat", dial):
        found = sys.executable if name == "python3" else shutil.which(name)
        assert found is not None
        (folder / name).symlink_to(Path(found).resolve())
    target = LocalTarget(["env", "-i", f"PATH={folder}", "/bin/sh", "-c"])
    program = tmp_path / "dialled"
    program.write_bytes(proofelf.program("amd64", f"by {dial}\n".encode(), 3))
    archive = tmp_path / "image.tar"
    embedkit("oci", "build", program, "-t", f"dial-{dial}:1", "-o", archive)
    dialled = open_socket(target, str(docker.socket))
    assert isinstance(dialled, Api)
    api = ApiImages(target, dialled)
    assert dial in api.daemon().way
    assert api.daemon().arch == "amd64" and not api.daemon().contents
    api.load(archive, major=20, progress=NullProgress(), title="")
    found = api.find(f"dial-{dial}:1")
    assert found is not None and found.arch == "amd64"
    assert found.layers in api.daemon().layers
    api.tag(found.id, f"dial-{dial}:2")
    said = bytearray()

    def keep(channel: Channel, data: bytes) -> None:
        said.extend(data)

    assert api.run(found.id, (), keep) == 3
    assert bytes(said) == f"by {dial}\n".encode()
    api.remove(f"dial-{dial}:1")
    api.remove(f"dial-{dial}:2")
    assert api.find(found.id) is None


class SerialLike(LocalTarget):
    """A target whose shell is no clean pipe, as on a serial line."""

    @property
    def carries_binary(self) -> bool:
        return False


def test_a_serial_line_takes_a_file_and_leaves_none(
    docker: Docker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "serial"
    program.write_bytes(proofelf.program("amd64", b"serial\n", 0))
    archive = tmp_path / "image.tar"
    embedkit("oci", "build", program, "-t", "serial:1", "-o", archive)
    monkeypatch.setattr("embedkit.docker.store._PLACES", (str(tmp_path / "place"),))
    (tmp_path / "place").mkdir()
    found = open_images(SerialLike(), socket=str(docker.socket))
    found.load(archive, major=20, progress=NullProgress(), title="")
    assert found.find("serial:1") is not None
    assert list((tmp_path / "place").iterdir()) == []
    archive.write_bytes(b"no archive")
    with pytest.raises(EngineError, match="EOF"):
        found.load(archive, major=20, progress=NullProgress(), title="")
    assert list((tmp_path / "place").iterdir()) == []


def _until(true: Any, seconds: float = 60) -> None:
    ends = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < ends, "it does not come true"
        time.sleep(0.05)
