"""patch-buildroot and check-buildroot on a tree: expanded, patched, proven, whole when killed."""

from __future__ import annotations

import json
import os
import signal
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from support.buildroot_configs import BOARD, write_configurable

from embedkit import cli
from embedkit.kernel import buildroot
from embedkit.kernel.buildroot import BuildrootConfig, read_config
from embedkit.kernel.buildroot_tree import open_buildroot


def run(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, object]]:
    code = cli.main([*words, "--json"])
    return code, json.loads(capsys.readouterr().out)


def test_a_defconfig_is_expanded_where_its_tree_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = write_configurable(tmp_path, BOARD)
    inside = build.tree / "configs" / "xu4_defconfig"
    inside.write_text(BOARD)
    code, told = run(capsys, "check-buildroot", str(inside))
    assert code == 1
    assert told["data"]["config"]["kind"] == "full"  # type: ignore[index]
    alone = tmp_path / "alone_defconfig"
    alone.write_text(BOARD)
    code, told = run(capsys, "check-buildroot", str(alone))
    assert code == 1
    assert told["data"]["verdict"] == "undecided"  # type: ignore[index]
    code, told = run(capsys, "check-buildroot", str(alone), "--tree", str(build.tree))
    assert told["data"]["verdict"] == "fails"  # type: ignore[index]


def test_patching_makes_it_pass_and_leaves_nothing_open(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = write_configurable(tmp_path, BOARD)
    old = build.config.read_bytes()
    code, told = run(capsys, "patch-buildroot", str(build.output), "--board", "xu4")
    assert code == 0
    assert (build.output / ".config.bak").read_bytes() == old
    assert cli.main(["check-buildroot", str(build.output), "-q"]) == 0
    tree = open_buildroot(buildroot.find(build.output))
    written = read_config(build.config)
    tree.load(written)
    # Just what Buildroot itself would write: its next make has nothing to ask.
    assert tree.full_config().values == written.values
    assert written.values["BR2_PACKAGE_DROPBEAR_CLIENT"] == "y"
    assert written.string("BR2_DL_DIR") == "$(TOPDIR)/dl"
    # The defconfig stays minimal, and gives the same.
    board = read_config(build.defconfig)
    assert "BR2_PACKAGE_DROPBEAR_CLIENT" not in board.values
    tree.load(board)
    assert tree.full_config().values == written.values
    changed = {item["symbol"] for item in told["data"]["plan"]["assignments"]}  # type: ignore[index]
    assert changed == {
        "BR2_PACKAGE_CGROUPFS_V2_MOUNT",
        "BR2_PACKAGE_IPTABLES",
        "BR2_PACKAGE_CA_CERTIFICATES",
        "BR2_PACKAGE_DROPBEAR",
        "BR2_TARGET_ROOTFS_EXT2_SIZE",
    }
    capsys.readouterr()
    first = (build.config.read_bytes(), build.defconfig.read_bytes())
    assert cli.main(["patch-buildroot", str(build.output), "--board", "xu4", "-q"]) == 0
    assert (build.config.read_bytes(), build.defconfig.read_bytes()) == first


@pytest.mark.parametrize(
    "words",
    [["check-buildroot"], ["check-buildroot", "--packages"], ["patch-buildroot", "--dry-run"]],
)
def test_json_follows_its_schema(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    text = (files("embedkit") / "report/schema/check-buildroot-1.json").read_text()
    schema = json.loads(text)
    jsonschema.Draft202012Validator.check_schema(schema)
    build = write_configurable(tmp_path, BOARD)
    _, told = run(capsys, *words, str(build.output))
    jsonschema.validate(told["data"], schema)


def test_packages_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = write_configurable(tmp_path, BOARD)
    assert cli.main(["patch-buildroot", str(build.output), "--packages", "-q"]) == 0
    written = read_config(build.config)
    for name in ("DOCKER_ENGINE", "DOCKER_CLI", "CONTAINERD", "RUNC", "CGROUPFS_V2_MOUNT"):
        assert written.enabled(f"BR2_PACKAGE_{name}")


def test_systemd_brings_its_own_mounts(tmp_path: Path) -> None:
    build = write_configurable(tmp_path, BOARD + "BR2_INIT_SYSTEMD=y\n")
    assert cli.main(["patch-buildroot", str(build.output), "-q"]) == 0
    assert read_config(build.config).values.get("BR2_PACKAGE_CGROUPFS_V2_MOUNT", "n") == "n"


@pytest.mark.parametrize(
    ("more", "symbol", "hint"),
    [
        ("BR2_TOOLCHAIN_BUILDROOT_UCLIBC=y\n", "BR2_PACKAGE_DOCKER_ENGINE", "--allow BR2_TOOL"),
        ("BR2_cortex_m4=y\n", "BR2_USE_MMU", "protected"),
    ],
)
def test_what_the_user_chose_is_not_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: str, symbol: str, hint: str
) -> None:
    build = write_configurable(tmp_path, BOARD + more)
    old = build.config.read_bytes()
    assert cli.main(["patch-buildroot", str(build.output), "--packages"]) == 1
    said = capsys.readouterr().out
    assert build.config.read_bytes() == old
    refused = said[said.index("Not to be had") :]
    assert symbol in refused
    assert hint in refused
    # Nobody's board becomes another one.
    assert "--allow BR2_cortex" not in refused
    assert "--allow BR2_a" not in refused


@pytest.mark.parametrize("step", range(4))
def test_killed_between_the_steps(tmp_path: Path, step: int) -> None:
    build = write_configurable(tmp_path, BOARD)
    old = {path: path.read_bytes() for path in (build.config, build.defconfig)}
    child = os.fork()
    if child == 0:
        real, count = Path.replace, 0

        def replace(self: Path, target: Path) -> Path:
            nonlocal count
            if count == step:
                os.kill(os.getpid(), signal.SIGKILL)
            count += 1
            return real(self, target)

        Path.replace = replace  # type: ignore[method-assign]
        cli.main(["patch-buildroot", str(build.output), "--board", "xu4", "-q"])
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status)
    cut = {path: path.read_bytes() for path in old}
    assert cli.main(["patch-buildroot", str(build.output), "--board", "xu4", "-q"]) == 0
    for path, content in cut.items():
        assert content in (old[path], path.read_bytes())


def test_bad_input_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = write_configurable(tmp_path, BOARD)
    (build.tree / "package" / "Config.in").write_text("config BR2_X\n\tboool\n")
    for words, expected in (
        (["patch-buildroot", str(build.output)], "package/Config.in:2"),
        (["check-buildroot", str(tmp_path / "none")], "no such file"),
        (["check-buildroot", str(tmp_path)], "neither a Buildroot tree"),
        (["check-buildroot", str(build.external / "external.desc")], "no Buildroot config"),
        (["check-buildroot", str(build.output), "--profile", "docker"], "check-kernel"),
        (["check-buildroot", str(build.output), "--tree", str(tmp_path)], "no Config.in"),
    ):
        assert cli.main(words) == 2
        said = capsys.readouterr().err
        assert expected in said
        assert "Traceback" not in said


def test_a_tree_that_was_never_configured(tmp_path: Path) -> None:
    build = write_configurable(tmp_path, BOARD)
    for part in build.output.glob(".br2-external*"):
        part.unlink()
    tree = open_buildroot(buildroot.find(build.output))
    tree.load(BuildrootConfig(BOARD))
    assert tree.value("BR2_ARCH") == "arm"


def test_a_gcc_newer_than_the_tree_counts_as_its_newest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    build = write_configurable(tmp_path, BOARD)
    build.config.unlink()
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gcc").write_text("#!/bin/sh\necho 15.2.0\n")
    (programs / "gcc").chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    tree = open_buildroot(buildroot.find(build.output))
    tree.load(BuildrootConfig(BOARD))
    assert tree.value("BR2_HOST_GCC_AT_LEAST_11") == "y"
    assert tree.value("BR2_HOST_GCC_AT_LEAST_8") == "y"
