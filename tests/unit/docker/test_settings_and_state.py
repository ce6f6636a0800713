"""daemon.json merged, the record read back, causes named, answers of daemons read."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.bringup.causes import kernel_causes
from embedkit.docker import causes, settings
from embedkit.docker.engine import Api, _unframed
from embedkit.docker.service import Place, Placed, make
from embedkit.docker.settings import merge
from embedkit.docker.state import Generation, State, Thing, from_json, to_json
from embedkit.docker.survey import mode_of
from embedkit.errors import InputError, TargetError
from embedkit.target.facts import Init
from embedkit.target.gather import read_facts

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
KEYS = st.sampled_from(["a", "b", "c", "log-opts", "é"])
SETTINGS = st.dictionaries(KEYS, JSON, max_size=4)


@given(SETTINGS, SETTINGS, SETTINGS)
def test_nobody_elses_setting_is_ever_lost(
    theirs: dict[str, Any], before: dict[str, Any], wanted: dict[str, Any]
) -> None:
    merged = settings.read(merge(json.dumps(theirs), before, wanted).text)
    for key, value in theirs.items():
        if key not in before or before[key] != value:
            assert merged[key] == value
    assert set(merged) <= {*theirs, *wanted}


@given(SETTINGS, SETTINGS)
def test_merged_and_taken_away_again_is_what_was(
    theirs: dict[str, Any], wanted: dict[str, Any]
) -> None:
    ours = {k: value for k, value in wanted.items() if k not in theirs or theirs[k] != value}
    added = merge(json.dumps(theirs), {}, wanted)
    ours = {key: value for key, value in ours.items() if key not in added.kept}
    assert settings.read(merge(added.text, ours, {}).text) == theirs


def test_a_file_that_needs_nothing_stays_byte_for_byte() -> None:
    text = '{"debug":true ,\n\n "storage-driver": "overlay2"}'
    assert merge(text, {}, {"storage-driver": "overlay2"}).text == text


@pytest.mark.parametrize("text", ["{", "[]", '"x"', "{'a': 1}", "{}x", "nul"])
def test_what_is_no_object_is_refused_with_its_place(text: str) -> None:
    with pytest.raises(InputError) as told:
        merge(text, {}, {"debug": True})
    assert "daemon.json" in str(told.value.where)


def generation(**more: Any) -> Generation:
    service = make(Init.SYSV, Place("/opt/x", "/opt/x/current"), environment=(("A", "b c"),))
    given: dict[str, Any] = {
        "folder": "29.1.0",
        "version": "29.1.0",
        "digest": "d",
        "init": "sysv",
        "data_root": "/var/lib/docker",
        "single_binary": False,
        "ours": {"debug": True},
        "service": service,
    }
    return Generation(**(given | more))


def test_the_record_is_read_back_as_it_was_written() -> None:
    state = State(
        current=generation(),
        pending=generation(folder="29.2.0"),
        originals=(
            Thing("/a", "absent"),
            Thing("/b", "file", 0o600, b"\0\xff\n"),
            Thing("/c d", "link", link_to="../x"),
        ),
        folders=("/opt", "/opt/x"),
        group_made=True,
    )
    again = from_json(to_json(state), "x")
    assert to_json(again) == to_json(state)
    assert again.originals == state.originals and again.pending == state.pending


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d.update(format=99),
        lambda d: d.pop("originals"),
        lambda d: d.update(folders=["relative"]),
        lambda d: d.update(folders=["/a/../../etc"]),
        lambda d: d["current"].update(folder="../x"),
        lambda d: d["current"].update(folder=".."),
        lambda d: d["current"].update(data_root="etc"),
        lambda d: d["current"]["placed"][0].update(path=7),
        lambda d: d.update(current=[]),
        lambda d: d.update(originals=[{"path": "/a", "kind": "rm", "mode": 1}]),
    ],
)
def test_a_damaged_record_is_refused(damage: Any) -> None:
    document = json.loads(to_json(State(current=generation())))
    damage(document)
    with pytest.raises(TargetError):
        from_json(json.dumps(document).encode(), "board")


@given(st.binary(max_size=200))
def test_any_bytes_are_a_record_or_refused(noise: bytes) -> None:
    try:
        from_json(noise, "board")
    except TargetError:
        pass


@pytest.mark.parametrize(
    ("shown", "mode"),
    [("-rwxr-xr-x", 0o755), ("-rw-------", 0o600), ("-rwsr-sr-t", 0o7755), ("-rw-r--r-T", 0o1644)],
)
def test_modes_of_ls(shown: str, mode: int) -> None:
    assert mode_of(shown) == mode


MESSAGES = {
    "failed to start daemon: Error initializing network controller: Iptables not found": "iptables",
    "write /var/lib/docker/tmp/x: no space left on device": "disk",
    "mkdir /var/lib/docker: read-only file system": "read-only",
    "x509: certificate has expired or is not yet valid: current time 1970-01-01T00:03:11Z is "
    "before 2024": "clock",
    "exec /hello: exec format error": "arch",
    "Devices cgroup isn't mounted": "cgroups",
}


@pytest.mark.parametrize(("message", "name"), MESSAGES.items())
def test_messages_name_their_cause(message: str, name: str) -> None:
    assert causes.from_table(message)[0].name == name


def test_kernel_causes_come_from_the_profiles() -> None:
    message = "failed to add the host (veth1a2b3c4) <=> sandbox (veth5d6e7f8) pair interfaces: "
    names = [cause.name for cause in kernel_causes(message + "operation not supported")]
    assert names[:1] == ["CONFIG_VETH"]
    assert kernel_causes("all is well") == ()


@pytest.mark.parametrize("init", list(Init))
def test_every_inits_scripts_are_sh(init: Init, tmp_path: Path) -> None:
    import subprocess

    service = make(init, Place("/opt/x", "/opt/x/current"), environment=(("A", "b'c"),))
    scripts = [p for p in service.placed if p.content.startswith("#!/bin/sh")]
    assert scripts
    for script in scripts:
        subprocess.run(["sh", "-n"], input=script.content.encode(), check=True)
    assert all(isinstance(item, Placed) and item.path.startswith("/") for item in service.placed)


@pytest.mark.needs("program:systemd-analyze")
def test_systemd_itself_takes_the_unit(tmp_path: Path) -> None:
    import subprocess

    current = tmp_path / "current"
    current.mkdir()
    for name in ("dockerd", "control"):
        for place in (current, tmp_path):
            (place / name).write_text("#!/bin/sh\n")
            (place / name).chmod(0o755)
    service = make(Init.SYSTEMD, Place(str(tmp_path), str(current)))
    unit = next(item for item in service.placed if item.path.endswith("docker.service"))
    path = tmp_path / "docker.service"
    path.write_text(unit.content)
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False
    )
    assert "docker.service" not in ended.stderr, ended.stderr
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(("type", "told"), [("ext4", True), ("btrfs", False)])
def test_vfs_on_ext4_is_said_to_need_more_of_the_kernel(type: str, told: bool) -> None:
    facts = read_facts({"filesystems": f"\t{type}", "mounts": f"/dev/x / {type} rw 0 0"}, 0.0)
    wanted = settings.choose(facts, 20, settings.Choices())
    assert wanted.values["storage-driver"] == "vfs"
    concern = next(concern for concern in wanted.concerns if concern.id == "overlay")
    assert ("CONFIG_EXT4_FS_SECURITY" in concern.detail) is told


def frame(stream: int, data: bytes) -> bytes:
    return bytes([stream, 0, 0, 0]) + len(data).to_bytes(4, "big") + data


@given(st.lists(st.tuples(st.integers(1, 2), st.binary(max_size=40)), max_size=5))
def test_log_frames_are_taken_apart(parts: list[tuple[int, bytes]]) -> None:
    assert _unframed(b"".join(frame(*part) for part in parts)) == b"".join(p for _, p in parts)


@given(st.binary(max_size=100))
def test_any_log_stream_is_read_without_an_error(noise: bytes) -> None:
    _unframed(noise)


@given(st.binary(max_size=200))
def test_any_answer_of_a_socket_is_an_answer_or_an_error(noise: bytes) -> None:
    target = SimpleNamespace(
        name="board",
        run=lambda *words, **more: SimpleNamespace(
            stdout=b"HTTP/1.0 200 OK\r\n\r\n" + noise, stderr=b""
        ),
    )
    api = Api(target, "nc", "nc -U x")  # type: ignore[arg-type]
    try:
        assert isinstance(api.version(), str)
    except TargetError:
        pass
