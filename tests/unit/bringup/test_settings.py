"""What a bringup file may say, and that everything wrong with it is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from embedkit.bringup.reader import read
from embedkit.errors import InputError

KINDS = ("arm", "arm64")


def _write(folder: Path, text: str) -> Path:
    path = folder / "board.toml"
    path.write_text(text)
    return path


def _problems(folder: Path, text: str, **more: str) -> list[str]:
    with pytest.raises(InputError) as caught:
        read(_write(folder, text), KINDS, **more)  # type: ignore[arg-type]
    return str(caught.value).split("\n  - ")


def test_a_whole_file(tmp_path: Path) -> None:
    (tmp_path / "linux").mkdir()
    (tmp_path / "rootfs").mkdir()
    (tmp_path / "docker.tgz").touch()
    found = read(
        _write(
            tmp_path,
            """
            board = "odroid-xu3"
            device = "/dev/sdx"
            target = "ssh://root@board"
            [kernel]
            tree = "linux"
            config = "exynos_defconfig"
            modules = "rootfs"
            features = ["swarm"]
            [build]
            command = "make -j4 zImage"
            makes = ["out/zImage"]
            [card]
            artifacts = "out"
            rootfs = "rootfs.tar"
            size = "8GB"
            files.kernel = "out/zImage"
            [boot]
            deadline = 90
            memory = "512MiB"
            [docker]
            bundle = "docker.tgz"
            proof = "full"
            settings.debug = true
            settings.dns = ["1.1.1.1"]
            """,
        ),
        KINDS,
    )
    assert found.name == "board"
    assert found.work == tmp_path / "board.bringup"
    # A defconfig of the tree is a name and no path.
    assert found.kernel.config == "exynos_defconfig"
    assert found.kernel.modules == tmp_path / "rootfs"
    assert found.build is not None
    assert found.build.command == ("sh", "-c", "make -j4 zImage")
    assert found.build.makes == (tmp_path / "out/zImage",)
    assert dict(found.card.files) == {
        "kernel": tmp_path / "out/zImage",
        "rootfs": tmp_path / "rootfs.tar",
    }
    assert found.card.size == 8_000_000_000
    assert found.image == tmp_path / "board.bringup/card.img"
    assert found.boot.memory == 512 << 20
    assert found.docker.settings == (("debug", True), ("dns", ["1.1.1.1"]))


def test_everything_wrong_is_said_at_once(tmp_path: Path) -> None:
    said = _problems(
        tmp_path,
        """
        bord = "odroid-xu3"
        device = "sdb"
        target = "ssh://a:secret@b"
        [kernel]
        config = "not-there"
        profile = 3
        prefr = "y"
        [build]
        [card]
        size = "7"
        [boot]
        deadline = -1
        [docker]
        bundle = "not-there.tgz"
        proof = "ful"
        """,
    )
    text = "\n".join(said)
    for expected in (
        "bord: unknown key; did you mean 'board'?",
        "device: 'sdb' must be '/dev/…'",
        "target: a password does not belong into a URL",
        "kernel.config: no such file",
        "kernel.profile: must be a text",
        "kernel.prefr: unknown key; did you mean 'prefer'?",
        "build.command: is missing",
        "card.size: 7 is not a multiple of 4 KiB",
        "boot.deadline: -1",
        "docker.bundle: no such file",
        "docker.proof: 'ful' is not known; did you mean 'full'?",
    ):
        assert expected in text, expected
    assert "secret" not in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('device = "/dev/sdx"', "board: is missing"),
        ('board = "x"\ndevice = "/dev/sdx"', "card: '/dev/sdx' needs a card"),
        ('board = "x"\ndevice = "qemu:me"\ncard.rootfs = "r"', "did you mean 'qemu:'?"),
        ('target = "qemu:a"', "device must be 'qemu:'"),
        ('board = "x"\ndevice = "qemu:"\ntarget = "ssh://a"\ncard.rootfs = "r"', "'qemu:NAME'"),
        ('board = "x"\ndevice = "file:"\ncard.rootfs = "r"', "needs the file's name"),
        ('board = "x"\ndevice = "file:a"\ncard = {rootfs = "r", image = "b"}', "leave this out"),
        ('reference.kind = "arm"\nboard = "x"', "a reference board brings its own"),
        ('reference.kind = "am"', "did you mean 'arm'"),
        ("[reference]", "reference.kind: is missing"),
        ('reference.kind = "arm"\ndevice = "/dev/sdx"', "a reference board is emulated"),
        ('name = "a b"', "'a b' is not a name"),
        ("[boot]\nmemory = 512", "needs a unit"),
        ('[boot]\nuntil = "shh"', "did you mean 'ssh'?"),
        ('[kernel]\ndefconfig = "x"', "is Buildroot's"),
        ("board = 3", "board: must be a text"),
    ],
)
def test_each_of_its_own(tmp_path: Path, text: str, expected: str) -> None:
    assert expected in "\n".join(_problems(tmp_path, text))


def test_a_reference_needs_nothing_else(tmp_path: Path) -> None:
    found = read(_write(tmp_path, '[reference]\nkind = "arm"\n'), KINDS)
    assert found.reference == "arm"
    assert found.emulated
    assert found.composes


def test_buildroot_has_a_build_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "output").mkdir()
    found = read(_write(tmp_path, '[kernel]\nbuildroot = "output"\n[build]\n'), KINDS)
    assert found.build is not None
    assert found.build.command == ("make", "linux-reconfigure", "all")
    assert found.build.folder == tmp_path / "output"


def test_the_command_line_goes_before_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    path = _write(tmp_path, 'board = "x"\ndevice = "file:a.img"\ncard.rootfs = "r"')
    assert read(path, KINDS).image == tmp_path / "a.img"
    assert read(path, KINDS, device="file:a.img").image == here / "a.img"
    assert read(path, KINDS, device="/dev/sdy").device == "/dev/sdy"
    assert read(path, KINDS, target="ssh://b").target == "ssh://b"
    assert "target" in "\n".join(_problems(tmp_path, 'board = "x"', target="telnet://b"))
