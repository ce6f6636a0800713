"""``embedkit check-kernel`` as a user runs it."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from support.configs import everything, without

from embedkit.cli import main
from embedkit.kernel import profile_file


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


@pytest.fixture
def good(tmp_path: Path) -> str:
    return write(tmp_path / "good.config", everything())


@pytest.fixture
def bad(tmp_path: Path) -> str:
    return write(tmp_path / "bad.config", without(everything(), ["VETH", "VXLAN", "CFS_BANDWIDTH"]))


def test_the_verdict_is_the_last_line(
    good: str, bad: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-kernel", good]) == 0
    assert capsys.readouterr().out.rstrip().endswith("Docker Engine will run")
    assert main(["check-kernel", bad]) == 1
    out = capsys.readouterr().out
    assert out.rstrip().splitlines()[-1] == "Docker Engine will not run; lacking: bridge networking"
    assert "bridge networking: no — VETH missing" in out
    assert "Without it: " in out
    assert "set CONFIG_VETH=y" in out


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ([], 0),
        (["--fail-on", "recommended"], 1),
        (["--fail-on", "optional"], 1),
        (["--require", "swarm"], 1),
        (["--require", "bridge,overlay2"], 0),
    ],
)
def test_exit_codes_follow_the_bar(tmp_path: Path, options: list[str], code: int) -> None:
    config = write(tmp_path / "config", without(everything(), ["VXLAN", "CFS_BANDWIDTH"]))
    assert main(["check-kernel", config, *options]) == code


def test_json_follows_its_schema(bad: str, good: str, capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads((files("embedkit") / "report/schema/check-kernel-1.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for words in ([bad], [good, "--against", bad], [good, "--profile", "k3s"]):
        main(["check-kernel", *words, "--json"])
        document = json.loads(capsys.readouterr().out)
        assert document["schema"] == "embedkit.report/1"
        jsonschema.validate(document["data"], schema)
    main(["check-kernel", bad, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["exit_code"]) == (False, 1)
    assert document["data"]["verdict"] == "fails"
    assert document["data"]["missing"]["necessary"] == ["VETH"]


def test_comparison_and_its_bar(good: str, bad: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-kernel", good, "--against", bad, "--fail-on", "worse"]) == 0
    out = capsys.readouterr().out
    assert "Better" in out and "CONFIG_VETH: missing → enabled" in out and "Worse" not in out
    assert main(["check-kernel", bad, "--against", good, "--fail-on", "worse"]) == 1
    assert "CONFIG_VETH: enabled → missing" in capsys.readouterr().out
    assert main(["check-kernel", good, "--fail-on", "worse"]) == 2


def test_checkconfig_is_for_those_who_parse_the_script(
    bad: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-kernel", bad, "--format", "checkconfig"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert "- CONFIG_VETH: missing" in lines
    assert "    - CONFIG_VXLAN: missing" in lines
    assert lines.index("Generally Necessary:") < lines.index("Optional Features:")


@pytest.mark.parametrize("name", sorted(profile_file.available()))
@pytest.mark.parametrize(
    "format", ["text", "json", "html", "markdown", "junit", "sarif", "checkconfig"]
)
def test_every_profile_in_every_format(
    name: str, format: str, bad: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "report"
    code = main(
        ["check-kernel", bad, "--profile", name, "--format", format, "--output", str(output)]
    )
    assert code in (0, 1), capsys.readouterr().err
    assert output.stat().st_size > 500
    assert capsys.readouterr().out == ""


def test_profiles_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-kernel", "--profile", "list"]) == 0
    out = capsys.readouterr().out
    for name in (
        "docker",
        "docker-20.10",
        "docker-minimal",
        "docker-swarm",
        "podman-rootless",
        "k3s",
    ):
        assert name in out
    assert "linux-containers" not in out


def test_minimal_configs_are_told_how_to_get_an_answer(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(
        tmp_path / "board_defconfig", "CONFIG_ARCH_EXYNOS=y\nCONFIG_NAMESPACES=y\nCONFIG_VETH=m\n"
    )
    assert main(["check-kernel", config]) == 1
    out = capsys.readouterr().out
    assert "undecided" in out.splitlines()[-1]
    assert "olddefconfig" in out
    assert "missing;" not in out


def test_duplicates_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = write(tmp_path / "config", everything() + "# CONFIG_VETH is not set\n")
    assert main(["check-kernel", config]) == 1
    assert "CONFIG_VETH is given twice" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--profile", "dokcer"], "did you mean 'docker'?"),
        (["--profile", "./nowhere.toml"], "no such file"),
        (["--kernel-version", "new"], "not a kernel version"),
        (["--require", "swarn"], "did you mean 'swarm'?"),
        (["--modules", "/nonexistent"], "not a folder"),
        (["--fail-on", "all"], "invalid choice"),
        (["--nonsense"], "unrecognized arguments"),
    ],
)
def test_bad_options_end_in_one_clear_error(
    words: list[str], told: str, good: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check-kernel", good, *words]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert told in shown.err
    assert shown.err.startswith("error: ")
    assert "Traceback" not in shown.err


def test_version_and_arch_can_be_given(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    promptless = "".join(f"CONFIG_HAVE_{number}=y\n" for number in range(20))
    config = write(tmp_path / "config", promptless + "CONFIG_NAMESPACES=y\n")
    main(["check-kernel", config, "--json"])
    document = json.loads(capsys.readouterr().out)
    assert document["data"]["kernel"] == {"release": None, "version": None, "arch": None}
    assert any("--kernel-version" in note for note in document["notes"])
    main(["check-kernel", config, "--json", "--kernel-version", "4.14.7", "--arch", "armhf"])
    document = json.loads(capsys.readouterr().out)
    assert document["data"]["kernel"] == {"release": None, "version": "4.14", "arch": "arm"}
    assert any(s["symbol"] == "NF_NAT_IPV4" for s in document["data"]["symbols"])


def test_terminal_codes_in_a_config_never_reach_the_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = write(tmp_path / "con\x1b[31mfig", everything(release="6.1.0-\x1b[2J"))
    main(["check-kernel", config])
    assert "\x1b" not in capsys.readouterr().out
