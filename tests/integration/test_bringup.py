"""``embedkit bringup`` up to the card: real kernel tree, real card, a build that fails, kills."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import bringup_driver, debian, linux_trees
from support.loops import loop

from embedkit import cli
from embedkit.kernel.config import KernelConfig
from embedkit.media import bmap as bmaps
from embedkit.media.precheck import check_image
from embedkit.media.stream import open_image
from embedkit.progress import NullProgress

pytestmark = pytest.mark.needs("program:mke2fs", "program:debugfs")

Bringup = Callable[..., tuple[int, dict[str, Any]]]
_CARD = """
board = "qemu-arm-virt"
device = "file:card.img"
[kernel]
config = "docker.config"
[card]
artifacts = "out"
"""
# Asks little, so that a config of one line fulfils it.
_PROFILE = """
format = 1
name = "little"
title = "Nothing much"
source = "made for this test"

[features]
core = ["processor"]

[feature.processor]
title = "a processor"
needs = "MMU"

[[section]]
title = "All"
level = "necessary"

[[section.group]]
symbols = ["MMU"]

[symbols.MMU]
why = "for the test"
"""
_BUILD = """\
echo compiling
test -e fixed || { echo no rule to make it >&2; exit 2; }
grep ^CONFIG_BRIDGE= "$EMBEDKIT_CONFIG" >out/rootfs/built
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "out/rootfs/etc").mkdir(parents=True)
    (tmp_path / "out/rootfs/etc/hostname").write_text("board\n")
    return tmp_path


@pytest.fixture
def bringup(folder: Path, capsys: pytest.CaptureFixture[str]) -> Bringup:
    """Runs the command on ``board.toml``; exit code and the JSON's data."""

    def run(*words: str) -> tuple[int, dict[str, Any]]:
        code = cli.main(["bringup", str(folder / "board.toml"), "--json", *words])
        told: dict[str, Any] = json.loads(capsys.readouterr().out)
        return code, told["data"] or told["error"]

    return run


def _standings(data: dict[str, Any]) -> dict[str, str]:
    return {
        stage["stage"]: stage["standing"]
        for stage in data["stages"]
        if stage["standing"] != "not asked for"
    }


def _is_whole(image: Path) -> bool:
    block_map = bmaps.beside(image)
    assert block_map is not None
    check_image(open_image(str(image)), bmaps.read(block_map), None, NullProgress())
    return True


@pytest.fixture(scope="module")
def linux() -> Path:
    try:
        return linux_trees.source("6.1")
    except debian.NotToBeHad as error:
        debian.give_up(str(error))
        raise


@pytest.mark.needs("debian")
def test_from_a_kernel_that_is_not_ready_to_a_card(
    folder: Path, bringup: Bringup, linux: Path
) -> None:
    """Check, patch, a build that fails first, compose, flash; and each of them just once."""
    (folder / "build.sh").write_text(_BUILD)
    (folder / "board.toml").write_text(
        f"""
        board = "qemu-arm-virt"
        device = "file:card.img"
        [kernel]
        tree = "{linux}"
        config = "exynos_defconfig"
        assume-compiler = true
        [build]
        command = "sh build.sh"
        inputs = ["build.sh"]
        makes = ["out/rootfs/built"]
        [card]
        artifacts = "out"
        """
    )
    code, data = bringup()
    assert code == 4
    assert _standings(data) == {
        "check": "done",
        "patch": "done",
        "build": "failed",
        "compose": "not reached",
        "flash": "not reached",
    }
    stages = {stage["stage"]: stage for stage in data["stages"]}
    assert stages["check"]["details"]["verdict"] == "fails"
    assert stages["check"]["status"] == "warn"
    assert stages["build"]["error"]["message"] == "the build failed with exit code 2"
    assert stages["build"]["details"]["last_lines"] == ["compiling", "no rule to make it"]
    assert "build.log" in stages["build"]["hint"]
    # The report is there all the same.
    page = (folder / "board.bringup/report.html").read_text()
    assert "no rule to make it" in page
    patched = KernelConfig((folder / "board.bringup/kernel.config").read_text())
    assert patched.enabled("VETH")
    assert "CONFIG_VETH=" in (folder / "board.bringup/docker.fragment").read_text()

    (folder / "fixed").touch()
    code, data = bringup()
    assert code == 0, data
    assert _standings(data) == {
        "check": "unchanged",
        "patch": "unchanged",
        "build": "done",
        "compose": "done",
        "flash": "done",
    }
    assert (folder / "out/rootfs/built").read_text().startswith("CONFIG_BRIDGE=")
    assert _is_whole(folder / "card.img")
    assert json.loads((folder / "board.bringup/report.json").read_text())["exit_code"] == 0

    code, data = bringup()
    assert code == 0
    assert set(_standings(data).values()) == {"unchanged"}

    # Another kernel config: everything behind it is made anew.
    text = (folder / "board.toml").read_text()
    (folder / "board.toml").write_text(text.replace("assume", 'features = ["pids-limit"]\nassume'))
    _, data = bringup()
    made = _standings(data)
    del made["flash"]  # the same card may come of it
    assert set(made.values()) == {"done"}
    again = KernelConfig((folder / "board.bringup/kernel.config").read_text())
    assert again.enabled("CGROUP_PIDS")


@pytest.fixture
def ready(folder: Path) -> Path:
    """A bringup file whose kernel lacks nothing that its profile asks for."""
    (folder / "docker.config").write_text(
        "#\n# Linux/arm 6.1.0 Kernel Configuration\n#\nCONFIG_MMU=y\n"
    )
    (folder / "little.toml").write_text(_PROFILE)
    text = _CARD.replace("[card]", f'profile = "{folder}/little.toml"\n[card]')
    (folder / "board.toml").write_text(text)
    return folder


def test_what_is_damaged_is_made_anew(ready: Path, bringup: Bringup) -> None:
    assert bringup()[0] == 0
    image = ready / "card.img"
    content = image.read_bytes()
    status = image.stat()
    with image.open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"\xff" * 4096)
    # Not told by its time: the block map tells.
    os.utime(image, ns=(status.st_atime_ns, status.st_mtime_ns))
    code, data = bringup()
    assert code == 0
    assert _standings(data) == {"check": "unchanged", "compose": "done", "flash": "unchanged"}
    assert image.read_bytes() == content
    (ready / "out/rootfs/etc/hostname").write_text("other\n")
    assert _standings(bringup()[1])["compose"] == "done"


def test_a_kernel_that_will_not_do_ends_it(ready: Path, bringup: Bringup) -> None:
    text = (ready / "board.toml").read_text()
    (ready / "board.toml").write_text(text.replace(f"{ready}/little.toml", "docker"))
    with (ready / "docker.config").open("a") as file:
        file.write("# CONFIG_NAMESPACES is not set\n")
    code, data = bringup()
    assert code == 1
    assert _standings(data) == {"check": "failed", "compose": "not reached", "flash": "not reached"}
    assert "kernel.tree" in data["stages"][1]["hint"]
    assert bringup("--skip", "check")[0] == 0


@pytest.mark.parametrize(
    "place",
    [
        "before:check",
        "after:check",
        "before:compose",
        "after:compose",
        "before:flash",
        "after:flash",
    ],
)
def test_killed_between_stages_it_goes_on(ready: Path, bringup: Bringup, place: str) -> None:
    killed = subprocess.run(
        [sys.executable, bringup_driver.__file__, ready / "board.toml"],
        env={**os.environ, "KILL": place},
        capture_output=True,
        check=False,
    )
    assert killed.returncode == -9
    when, _, name = place.partition(":")
    order = ["check", "compose", "flash"]
    done = order[: order.index(name) + (when == "after")]
    code, data = bringup()
    assert code == 0
    assert _standings(data) == {stage: "unchanged" if stage in done else "done" for stage in order}
    assert _is_whole(ready / "card.img")


def test_a_dry_run_tells_all_and_makes_nothing(ready: Path, bringup: Bringup) -> None:
    before = sorted(path.name for path in ready.iterdir())
    code, data = bringup("--dry-run")
    assert code == 0
    assert set(_standings(data).values()) == {"planned"}
    assert sorted(path.name for path in ready.iterdir()) == before


@pytest.mark.needs("root", "loop")
def test_a_device_is_written_only_when_it_is_named(
    ready: Path, bringup: Bringup, tmp_path: Path
) -> None:
    text = (ready / "board.toml").read_text()
    with loop(tmp_path / "device", size=96 << 20) as device:
        (ready / "board.toml").write_text(text.replace("file:card.img", str(device)))
        before = (tmp_path / "device").read_bytes()
        for words in ((), ("--yes",)):
            code, data = bringup(*words)
            assert code == 2
            assert _standings(data)["flash"] == "failed"
        assert "--device" in data["stages"][5]["hint"]
        assert (tmp_path / "device").read_bytes() == before
        code, data = bringup("--yes", "--device", str(device))
        assert code == 0, data
        # As large as the device, and nothing but what was composed.
        image = ready / "board.bringup/card.img"
        assert image.stat().st_size == 96 << 20
        assert _standings(data) == {"check": "unchanged", "compose": "unchanged", "flash": "done"}
        assert set(_standings(bringup()[1]).values()) == {"unchanged"}
        # Somebody wrote to the card meanwhile: it is compared, and not believed.
        with device.open("r+b") as file:
            file.seek(1 << 20)
            file.write(bytes(4096))
            os.fsync(file.fileno())
        code, data = bringup("--yes", "--device", str(device))
        assert (code, _standings(data)["flash"]) == (0, "done")


def test_without_a_program_the_report_says_what_to_install(
    ready: Path, bringup: Bringup, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = (ready / "board.toml").read_text()
    (ready / "board.toml").write_text(
        text.replace("file:card.img", "qemu:")
        + '[boot]\nkernel = "docker.config"\n[docker]\nbundle = "out"\n'
    )
    monkeypatch.setenv("PATH", "/nowhere")
    code, data = bringup("--skip", "compose")
    assert code in (2, 3)
    assert _standings(data)["boot"] == "failed"
    monkeypatch.undo()
    assert bringup("--skip", "boot,probe,deploy,proof")[0] == 0
    monkeypatch.setenv("PATH", "/nowhere")
    code, data = bringup()
    boot = next(stage for stage in data["stages"] if stage["stage"] == "boot")
    assert code == 3
    assert "apt-get install qemu-system-arm" in boot["hint"]
    assert _standings(data)["proof"] == "not reached"
