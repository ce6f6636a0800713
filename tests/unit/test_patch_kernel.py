"""``embedkit patch-kernel`` from the command line, on a small tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support import old_kernel

from embedkit.cli import main

PROFILE = """
format = 1
name = "small"
title = "Small Engine"
source = "this test"

[features]
core = ["net"]
necessary = ["storage"]
extra = ["bridge", "huge"]

[feature.net]
title = "network"
needs = "NET & VETH"

[feature.overlay]
title = "overlay"
needs = "OVERLAY_FS"

[feature.ext]
title = "ext"
needs = "EXT4_FS"

[feature.storage]
title = "storage"
needs = "@overlay | @ext"

[feature.bridge]
title = "bridges"
needs = "BRIDGE & BRIDGE_NETFILTER"

[feature.huge]
title = "huge pages"
needs = "CGROUP_HUGETLB"

[[section]]
title = "Needed"
level = "necessary"

[[section.group]]
symbols = ["MEMCG"]

[[section]]
title = "Optional"
level = "optional"

[[section.group]]
symbols = ["CGROUP_HUGETLB", "BRIDGE_NETFILTER"]

"""
_SYMBOLS = "NET VETH OVERLAY_FS EXT4_FS BRIDGE BRIDGE_NETFILTER CGROUP_HUGETLB MEMCG"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return old_kernel.write(tmp_path / "linux")


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    text = PROFILE + "".join(
        f'[symbols.{name}]\nwhy = "About {name}."\n' for name in _SYMBOLS.split()
    )
    path = tmp_path / "small.toml"
    path.write_text(text)
    return path


class Cli:
    def __init__(self, tree: Path, profile: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.common = ["--tree", str(tree), "--profile", str(profile), "--assume-compiler"]
        self.capsys = capsys

    def __call__(self, *words: object) -> int:
        code = main(["patch-kernel", *map(str, words), *self.common])
        self.out, self.err = self.capsys.readouterr()
        return code


@pytest.fixture
def cli(tree: Path, profile: Path, capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(tree, profile, capsys)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "board.config"
    path.write_text(
        "# Linux/arm 4.9.241 Kernel Configuration\n"
        "CONFIG_MODULES=y\nCONFIG_SMP=y\nCONFIG_NET=y\nCONFIG_NETFILTER=y\n"
    )
    return path


def test_a_defconfig_of_the_tree_by_name(cli: Cli, tmp_path: Path) -> None:
    files = {name: tmp_path / name for name in ("fragment", "config", "defconfig", "diff")}
    words = [word for name, path in files.items() for word in (f"--{name}", path)]
    assert cli("board_defconfig", *words) == 0, cli.err
    assert "CONFIG_OVERLAY_FS=m: off → module" in cli.out
    assert "necessary missing" in cli.out
    text = files["fragment"].read_text()
    assert "# About MEMCG.\nCONFIG_MEMCG=y\n" in text
    assert "EXT4_FS" not in text, "one storage driver is enough"
    full = files["config"].read_text()
    assert full.startswith(
        "#\n# Automatically generated file; DO NOT EDIT.\n"
        "# Linux/arm 4.9.241 Kernel Configuration\n#\n"
    )
    assert "CONFIG_VETH=m\n" in full
    assert "+CONFIG_VETH=m" in files["diff"].read_text()
    assert main(["check-kernel", str(files["config"]), *cli.common[2:4]]) == 0


def test_features_widen_the_scope(cli: Cli) -> None:
    assert cli("board_defconfig", "--dry-run") == 0
    assert "BRIDGE_NETFILTER" not in cli.out
    assert cli("board_defconfig", "--features", "bridge", "--dry-run") == 0
    assert "BRIDGE_NETFILTER needs NETFILTER_ADVANCED, which was off" in cli.out
    assert cli("board_defconfig", "--features", "nonsense") == 2
    assert "no feature 'nonsense'" in cli.err


def test_dry_run_writes_nothing(cli: Cli, tmp_path: Path, config: Path) -> None:
    before = config.read_bytes()
    assert cli(config, "--in-place", "--fragment", tmp_path / "f", "--dry-run") == 0
    assert config.read_bytes() == before
    assert not (tmp_path / "f").exists()
    assert "would be set" in cli.out


def test_in_place_keeps_a_backup_and_happens_once(cli: Cli, config: Path) -> None:
    before = config.read_bytes()
    assert cli(config, "--in-place") == 0
    backup = config.with_name("board.config.bak")
    assert backup.read_bytes() == before
    patched = config.read_text()
    assert patched.startswith(before.decode())
    assert "CONFIG_VETH=m" in patched
    assert cli(config, "--in-place") == 0
    assert "nothing to change" in cli.out
    assert config.read_text() == patched
    assert cli(config, "--in-place", "--enable", "BRIDGE") == 0
    assert backup.read_bytes() == before, "the first backup stays"
    assert config.with_name("board.config.bak2").read_text() == patched


def test_the_source_is_never_written_over_by_accident(cli: Cli, config: Path) -> None:
    before = config.read_bytes()
    assert cli(config, "--config", config) == 2
    assert "is the source itself" in cli.err
    assert cli("board_defconfig", "--in-place") == 2
    assert config.read_bytes() == before


def test_what_cannot_be_had_gives_1_and_holds_files_back(
    cli: Cli, config: Path, tmp_path: Path
) -> None:
    target = tmp_path / "fragment"
    assert cli(config, "--features", "huge", "--fragment", target) == 1
    assert "CONFIG_CGROUP_HUGETLB" in cli.out
    assert "--allow ARM_LPAE" in cli.out
    assert "--keep-going writes what can be had" in cli.out
    assert not target.exists()
    assert cli(config, "--features", "huge", "--fragment", target, "--keep-going") == 1
    assert "CONFIG_VETH=m" in target.read_text()
    allowed = cli(config, "--features", "huge", "--allow", "ARM_LPAE", "--fragment", target)
    assert allowed == 0
    assert "CONFIG_ARM_LPAE=y" in target.read_text()


def test_enable_and_disable(cli: Cli, config: Path) -> None:
    code = cli(
        config, "--enable", "SLAB_SIZE=16", "--enable", "EXT4_FS=y", "--disable", "IPV6", "--json"
    )
    assert code == 0, cli.err
    data = json.loads(cli.out)["data"]
    values = {item["symbol"]: item["value"] for item in data["plan"]["assignments"]}
    assert values["SLAB_SIZE"] == "16"
    assert values["EXT4_FS"] == "y"
    assert values["IPV6"] == "n"
    assert "OVERLAY_FS" not in values, "with ext4 on, storage is there"
    assert data["kernel"] == {"release": "4.9.241", "arch": "arm", "tree": cli.common[1]}
    assert data["audit"]["after"]["missing"]["necessary"] == []


def test_same_run_same_bytes(cli: Cli, config: Path, tmp_path: Path) -> None:
    results = []
    for name in ("first", "second"):
        path = tmp_path / name
        assert cli(config, "--features", "all", "--keep-going", "--fragment", path) == 1
        results.append((path.read_bytes(), cli.out.replace(name, "")))
    assert results[0] == results[1]


def test_only_what_is_asked_for(cli: Cli, config: Path) -> None:
    cli.common[3] = "none"
    assert cli(config, "--enable", "VETH", "--dry-run") == 0
    assert "1 options would be set; 1 of 1" in cli.out
    assert cli(config, "--features", "bridge") == 2


def test_a_fragment_on_standard_output(cli: Cli, config: Path) -> None:
    assert cli(config, "--format", "fragment") == 0
    assert cli.out.startswith("# Small Engine: kernel config fragment\n")
    assert cli(config, "--format", "diff") == 0
    assert cli.out.startswith("--- a/board.config\n")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["no_defconfig"], "no defconfig called 'no_defconfig'"),
        (["/nowhere/config"], "/nowhere/config"),
        (["board_defconfig", "--arch", "mips"], "no defconfig"),
        (["board_defconfig", "--enable", "A-B"], "names no kernel symbol"),
        (["board_defconfig", "--allow", "SNP"], "no such symbol"),
    ],
)
def test_bad_input_is_one_clear_error(cli: Cli, words: list[str], message: str) -> None:
    assert cli(*words) == 2
    assert message in cli.err
    assert "Traceback" not in cli.err
    assert cli.err.count("error:") == 1


def test_wrong_trees(cli: Cli, config: Path, tmp_path: Path, tree: Path) -> None:
    cli.common[1] = str(tmp_path)
    assert cli(config) == 2
    assert "no top Kconfig" in cli.err
    cli.common[1] = str(tree)
    config.write_text(config.read_text().replace("Linux/arm", "Linux/riscv"))
    assert cli(config) == 2
    assert "no architecture 'riscv'" in cli.err
    assert cli(config, "--arch", "arm") == 2
    assert "another architecture" in cli.err
    (tree / "fs/Kconfig").write_text("config OVERLAY_FS\n\tbool overlay\n\tdepends on (\n")
    assert cli("board_defconfig") == 2
    assert "fs/Kconfig:3" in cli.err
