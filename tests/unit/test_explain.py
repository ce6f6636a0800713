"""``embedkit explain`` as a user runs it, and what is said of a symbol."""

from __future__ import annotations

import io
import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from embedkit.cli import main
from embedkit.kernel import profile_file
from embedkit.kernel.explain import by_symbol, known_symbols, looks_like_symbol, suggestion
from embedkit.kernel.profile import Level, Weight

_PROFILES = tuple(profile_file.load(name) for name in profile_file.available())
_NAT = "iptables v1.8.11 (legacy): can't initialize iptables table `nat': Table does not exist"


@pytest.mark.parametrize(
    "text", ["VETH", "veth", "CONFIG_VETH", "config_veth".upper(), "CONFIG_VETH=m", "veth.ko.xz"]
)
def test_a_symbol_in_every_spelling(text: str) -> None:
    answer = by_symbol(text, _PROFILES)
    assert answer is not None
    assert answer.symbol.name == "VETH"


@pytest.mark.parametrize(
    ("module", "symbol"),
    [
        ("xt_addrtype", "NETFILTER_XT_MATCH_ADDRTYPE"),
        ("br_netfilter", "BRIDGE_NETFILTER"),
        ("br-netfilter", "BRIDGE_NETFILTER"),
        ("ip_tables", "IP_NF_IPTABLES_LEGACY"),
        ("overlay", "OVERLAY_FS"),
        ("ghash-generic", "CRYPTO_GHASH"),
    ],
)
def test_a_module_leads_to_its_symbol(module: str, symbol: str) -> None:
    answer = by_symbol(module, _PROFILES)
    assert answer is not None
    assert answer.symbol.name == symbol
    assert answer.asked_as == module.replace("-", "_")


def test_every_known_symbol_is_explained() -> None:
    for name in known_symbols(_PROFILES):
        answer = by_symbol(name, _PROFILES)
        assert answer is not None and answer.symbol.name == name
        assert answer.symbol.why and answer.exists


def test_levels_features_and_names() -> None:
    answer = by_symbol("CGROUP_BPF", _PROFILES)
    assert answer is not None
    levels = {(use.profile, use.level, str(use.kernel)) for use in answer.uses}
    assert ("docker", Level.NECESSARY, "from Linux 4.15 on") in levels
    assert ("podman-rootless", Level.RECOMMENDED, "in every Linux") in levels
    features = {use.feature.name: use for use in answer.features}
    assert features["cgroup-v2"].direct and not features["cgroups"].direct
    assert ("docker-minimal", Weight.CORE) in features["cgroup-v2"].weights
    assert answer.exists == "from Linux 4.10 on"

    old = by_symbol("NETPRIO_CGROUP", _PROFILES)
    assert old is not None and old.now == ("CGROUP_NET_PRIO",)
    new = by_symbol("CGROUP_NET_PRIO", _PROFILES)
    assert new is not None and new.symbol.was == ("NETPRIO_CGROUP",)
    vsyscall = by_symbol("LEGACY_VSYSCALL_EMULATE", _PROFILES)
    assert vsyscall is not None and vsyscall.exists.endswith("on x86 only")
    driver = by_symbol("VXLAN", _PROFILES[:1])
    assert driver is not None and [use.driver for use in driver.uses] == ["overlay"]


def test_what_is_not_known() -> None:
    assert by_symbol("VEHT", _PROFILES) is None
    assert suggestion("config_overlayfs".upper(), _PROFILES) == "did you mean 'OVERLAY_FS'?"
    assert suggestion("QQQQQQ", _PROFILES) is None
    assert not looks_like_symbol("no such device")
    assert looks_like_symbol(" CONFIG_VETH=y\n")


def test_the_command_on_a_symbol(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "config_memcg_swap".upper()]) == 0
    out = capsys.readouterr().out
    assert out.startswith("CONFIG_MEMCG_SWAP\n")
    assert "from Linux 3.6 until before 6.1" in out
    assert "CONFIG_CGROUP_MEM_RES_CTLR_SWAP" in out
    assert "No swap limit support" in out
    assert "before Linux 5.8" in out  # docker asks for it until then
    assert main(["explain", "SECCOMP", "--profile", "docker-minimal"]) == 0
    out = capsys.readouterr().out
    assert "security" in out and "docker-minimal" in out and "k3s" not in out


def test_the_command_on_a_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert main(["explain", _NAT]) == 0
    quoted = capsys.readouterr().out
    assert quoted.rstrip().endswith("likely missing: CONFIG_IP_NF_NAT")
    assert "CONFIG_NETFILTER_XTABLES_LEGACY" in quoted
    assert main(["explain", *_NAT.split()]) == 0  # without quotes around it
    assert capsys.readouterr().out == quoted
    monkeypatch.setattr("sys.stdin", io.StringIO(_NAT + "\n"))
    assert main(["explain", "-"]) == 0
    assert capsys.readouterr().out == quoted
    assert main(["explain", "failed to unshare namespaces: Invalid argument"]) == 0
    assert "(one of them, or all)" in capsys.readouterr().out


def test_nothing_known_is_exit_code_1(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["explain", "CONFIG_VEHT"]) == 1
    assert "did you mean 'VETH'?" in capsys.readouterr().out
    assert main(["explain", "the printer is on fire"]) == 1
    assert "no profile knows this message" in capsys.readouterr().out
    assert main(["explain", " "]) == 2
    assert main(["explain"]) == 2
    assert main(["explain", "VETH", "--profile", "nobody"]) == 2


def test_json_follows_its_schema(capsys: pytest.CaptureFixture[str]) -> None:
    schema = json.loads((files("embedkit") / "report/schema/explain-1.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    for words, kind, code in (
        (["NF_NAT_IPV4"], "symbol", 0),
        ([_NAT], "message", 0),
        (["QQQQQQ"], "unknown", 1),
        (["the printer is on fire"], "unknown", 1),
    ):
        assert main(["explain", *words, "--json"]) == code
        document = json.loads(capsys.readouterr().out)
        assert document["schema"] == "embedkit.report/1"
        assert (document["ok"], document["data"]["kind"]) == (code == 0, kind)
        jsonschema.validate(document["data"], schema)
    main(["explain", _NAT, "--json"])
    best = json.loads(capsys.readouterr().out)["data"]["symbols"][0]
    assert (best["symbol"], best["certain"], best["score"]) == ("IP_NF_NAT", True, 1)


def test_a_broken_profile_of_the_user_keeps_nobody_from_answering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "embedkit" / "profiles"
    folder.mkdir(parents=True)
    (folder / "mine.toml").write_text("format = 1\n[")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    assert main(["explain", "VETH"]) == 0
    assert "profile 'mine' is left out: not valid TOML" in capsys.readouterr().out
    assert main(["explain", "VETH", "--profile", "mine"]) == 2


def test_what_is_pasted_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    main(["explain", "\x1b]0;evil\x07 mountpoint for cpuset not found"])
    out = capsys.readouterr().out
    assert "CONFIG_CPUSETS" in out
    assert "\x1b" not in out and "\x07" not in out
