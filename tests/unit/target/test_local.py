"""The protocol on this machine, and the commands on top of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from embedkit import cli
from embedkit.errors import InputError, TargetError
from embedkit.target import digest
from embedkit.target.base import CommandFailed, CommandTimeout, quote, quote_path, script
from embedkit.target.files import TargetFiles
from embedkit.target.local import LocalTarget
from embedkit.target.ways import Source

# Names as file systems take them: anything but a slash and NUL, at most 255 bytes.
NAMES = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=("Cs",)), min_size=1, max_size=60
).filter(lambda name: name not in (".", ".."))


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), max_size=60))
@settings(max_examples=40, deadline=None)
def test_a_word_arrives_as_it_is(word: str) -> None:
    assert LocalTarget().run(["printf", "%s", word]).stdout == word.encode()


def test_words_that_cannot_be() -> None:
    for bad in ("a\0b", ["echo", "a\0b"], []):
        with pytest.raises(InputError):
            script(bad)
    with pytest.raises(InputError):
        quote_path("")
    assert quote_path("-rf") == "./-rf"
    assert quote("a b") == "'a b'"


def test_commands() -> None:
    target = LocalTarget()
    result = target.run("echo out; echo err >&2; exit 3", check=False)
    assert (result.exit_code, result.stdout, result.stderr) == (3, b"out\n", b"err\n")
    assert target.run("kill -9 $$", check=False).exit_code == 137
    with pytest.raises(CommandFailed, match="no such thing") as failed:
        target.run("echo no such thing >&2; exit 4")
    assert failed.value.result.exit_code == 4
    begun = time.monotonic()
    with pytest.raises(CommandTimeout):
        target.run("sleep 30 & sleep 30", timeout=0.3)
    assert time.monotonic() - begun < 5
    assert target.run("wc -c", input=bytes(300_000)).text.strip() == "300000"
    with pytest.raises(ZeroDivisionError):
        target.stream("yes", output=lambda channel, data: 1 // 0)


@given(NAMES, st.binary(max_size=2000))
@settings(max_examples=15, deadline=None)
def test_any_name_can_be_put_and_fetched(
    tmp_path_factory: pytest.TempPathFactory, name: str, content: bytes
) -> None:
    folder = tmp_path_factory.mktemp("names")
    target = LocalTarget()
    target.put(content, f"{folder}/{name}")
    assert [path.name for path in folder.iterdir()] == [name]
    assert (folder / name).read_bytes() == content
    target.get(f"{folder}/{name}", folder / "fetched")
    assert (folder / "fetched").read_bytes() == content


def test_what_is_there_is_not_sent_again(tmp_path: Path) -> None:
    target = LocalTarget()
    first = target.put(b"content", f"{tmp_path}/file", mode=0o600)
    second = target.put(b"content", f"{tmp_path}/file", mode=0o755)
    assert not first.skipped and second.skipped
    assert (tmp_path / "file").stat().st_mode & 0o777 == 0o755
    third = target.put(b"c0ntent", f"{tmp_path}/file")
    assert not third.skipped and (tmp_path / "file").read_bytes() == b"c0ntent"


@pytest.mark.parametrize("program", ["sha1sum", "md5sum", "cksum", None])
def test_weaker_digests_and_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str | None
) -> None:
    target = LocalTarget()
    tools = {tool for tool in target.tools() if "sum" not in tool} | ({program} - {None})
    monkeypatch.setattr(target, "_tools", frozenset(tools))
    done = target.put(bytes(5000), f"{tmp_path}/file")
    assert done.digest.startswith((program or "read-back").removesuffix("sum")[:5])
    assert (tmp_path / "file").read_bytes() == bytes(5000)
    target.get(f"{tmp_path}/file", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == bytes(5000)
    # And a digest that is not right is seen, however it is computed.
    monkeypatch.setattr(Source, "pieces", lambda self, start, end=None: iter([b"0ther"]))
    with pytest.raises(TargetError, match="not what was sent"):
        target.put(b"other", f"{tmp_path}/file")
    assert (tmp_path / "file").read_bytes() == bytes(5000)


def test_many_digests_in_one_exchange(tmp_path: Path) -> None:
    for name in ("a", "b c", "-d", "'"):
        (tmp_path / name).write_text(name)
    names = [f"{tmp_path}/{name}" for name in ("a", "b c", "none", "-d", "'")]
    found = digest.remote_digests(LocalTarget(), [*names, str(tmp_path)])
    assert set(found) == set(names) - {f"{tmp_path}/none"}
    assert found[names[0]] == f"sha256:{digest.Digester('sha256sum').of_bytes(b'a')}"


def test_files_for_the_kernel_audit(tmp_path: Path) -> None:
    files = TargetFiles(LocalTarget())
    (tmp_path / "a file").write_bytes(bytes(range(256)))
    assert files.read_file(f"{tmp_path}/a file", 1 << 20) == bytes(range(256))
    assert files.read_file(f"{tmp_path}/a file", 10) == bytes(range(10))
    with pytest.raises(FileNotFoundError):
        files.read_file(f"{tmp_path}/none", 10)
    with pytest.raises(OSError, match="Invalid"):
        files.read_file(str(tmp_path), 10)


def embedkit(*words: str, **more: object) -> subprocess.CompletedProcess[bytes]:
    argv = [sys.executable, "-m", "embedkit.cli", *words]
    return subprocess.run(argv, capture_output=True, **more)  # type: ignore[call-overload,no-any-return]


def test_run_passes_output_input_and_exit_code() -> None:
    done = embedkit(
        "run", "local:", "--stdin", "--", "cat; echo e >&2; exit 9", input=b"\xff\0\x1b[2J"
    )
    assert (done.returncode, done.stdout, done.stderr) == (9, b"\xff\0\x1b[2J", b"e\n")
    done = embedkit("run", "local:", "--", "printf", "%s", "-- $HOME 'x")
    assert done.stdout == b"-- $HOME 'x"
    dashes = embedkit("run", "local:", "--", "sh", "-c", 'echo "$0 $1"', "--", "x")
    assert dashes.stdout == b"-- x\n", "a later '--' belongs to the command"
    data = json.loads(embedkit("run", "local:", "--json", "--", "echo hi; exit 2").stdout)
    assert data["data"] == {"exit_code": 2, "stdout": "hi\n", "stderr": ""}
    failed = embedkit("run", "nosuch://x", "--", "true")
    assert failed.returncode == 2 and failed.stderr.startswith(b"error: ")


def test_control_codes_do_not_reach_a_terminal() -> None:
    import pty

    master, slave = pty.openpty()
    argv = [sys.executable, "-m", "embedkit.cli", "run", "local:", "--"]
    subprocess.run(
        [*argv, r"printf '\033[31mred\033[0m \033]0;title\007 \033[2J \302\233 end'"],
        stdout=slave, stdin=subprocess.DEVNULL, check=True,
    )  # fmt: skip
    shown = os.read(master, 4096)
    os.close(slave)
    os.close(master)
    assert b"\x1b[31mred\x1b[0m" in shown and b"end" in shown
    assert b"\x1b]" not in shown and b"\x1b[2J" not in shown and b"\x07" not in shown
    assert b"\\x1b]0;title\\x07" in shown and b"\xc2\x9b" not in shown


def test_put_get_and_probe(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    (tmp_path / "to").mkdir()
    files = [str(tmp_path / name) for name in ("a", "b")]
    assert cli.main(["put", "local:", *files, f"{tmp_path}/to/", "--mode", "700"]) == 0
    assert (tmp_path / "to/b").stat().st_mode & 0o777 == 0o700
    assert cli.main(["put", "local:", *files, f"{tmp_path}/to"]) == 2
    assert cli.main(["get", "local:", f"{tmp_path}/to/a", f"{tmp_path}/c", "--json"]) == 0
    assert (tmp_path / "c").read_text() == "a"
    capsys.readouterr()
    assert cli.main(["probe", "local:", "--json"]) in (0, 1)
    data = json.loads(capsys.readouterr().out)["data"]
    assert data["facts"]["kernel_release"] == os.uname().release
    assert {concern["id"] for concern in data["concerns"]} >= {"platform", "memory", "clock"}
    assert cli.main(["probe", "local:"]) in (0, 1)
    assert "Preflight" in capsys.readouterr().out
