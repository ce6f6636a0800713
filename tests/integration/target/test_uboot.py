"""A real U-Boot prompt under QEMU."""

from __future__ import annotations

import os
import pty
import random
import subprocess
import tty
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.console import Badness, Bridge

from embedkit import cli
from embedkit.errors import InputError, TargetError
from embedkit.target.base import CommandFailed, CommandTimeout
from embedkit.target.opening import open_target
from embedkit.target.uboot import open_uboot

UBOOT = Path("/usr/lib/u-boot/qemu_arm/u-boot.bin")
pytestmark = pytest.mark.needs("program:qemu-system-arm", f"file:{UBOOT}")


@pytest.fixture(scope="module")
def machine() -> Iterator[int]:
    master, slave = pty.openpty()
    tty.setraw(slave)
    argv = ["qemu-system-arm", "-M", "virt", "-display", "none", "-serial", "stdio"]
    argv += ["-monitor", "none", "-net", "none", "-bios", str(UBOOT)]
    running = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave)
    try:
        yield master
    finally:
        running.kill()
        running.wait()
        os.close(slave)
        os.close(master)


@pytest.fixture
def bridge(machine: int) -> Iterator[Bridge]:
    made = Bridge(machine)
    yield made
    made.close()


def url(bridge: Bridge) -> str:
    return bridge.url.replace("serial", "uboot", 1)


def test_commands_environment_and_errors(bridge: Bridge) -> None:
    with open_uboot(url(bridge), deadline_seconds=30) as prompt:
        assert "U-Boot 20" in prompt.run("version").text
        assert prompt.run("echo hello").text == "hello\n"
        assert prompt.run("false", check=False).exit_code == 1
        with pytest.raises(CommandFailed, match="not defined"):
            prompt.run("printenv nonesuch")
        assert prompt.env("nonesuch") is None
        for value in ("plain", "with spaces; and $dollars", "a=b", ""):
            prompt.set_env("embedkit", value)
            assert (prompt.env("embedkit") or "") == value
        with pytest.raises(CommandTimeout):
            prompt.run("sleep 60", timeout=1)
        assert prompt.run("echo still here").text == "still here\n"
        for bad in ("two\nlines", "ünïcode", "", "x" * 400, "bell\a"):
            with pytest.raises(InputError):
                prompt.run(bad)


def test_two_hundred_commands_among_messages(machine: int) -> None:
    made = Bridge(machine, Badness(noise=0.15, seed=4))
    source = random.Random(4)
    try:
        with open_uboot(url(made), deadline_seconds=30) as prompt:
            for number in range(100):  # two commands each
                word = "".join(source.choice("abcdefgh0123[]:") for _ in range(20))
                assert prompt.run(f"echo {number} '{word}'").text == f"{number} {word}\n"
                # One that must not be run twice: its exit code is right all the same.
                code = source.randrange(2)
                result = prompt.run(f"setenv n {number}; test {code} = 0", check=False)
                assert result.exit_code == code
            assert prompt.env("n") == "99"
            assert made.injected > 40, "the line was not as bad as it should be"
    finally:
        made.close()


def test_memory_is_loaded_and_compared(bridge: Bridge, tmp_path: Path) -> None:
    content = random.Random(2).randbytes(50_001)
    (tmp_path / "image").write_bytes(content)
    with open_uboot(url(bridge), deadline_seconds=30) as prompt:
        done = prompt.put(tmp_path / "image", "0x42000000")
        assert done.digest == f"crc32:{zlib.crc32(content):08x}"
        line = prompt.run("md.b 0x42000000 0x10").text
        assert content[:16].hex(" ") in line
        with pytest.raises(InputError):
            prompt.put(tmp_path / "image", "here")


def test_a_shell_is_not_promised_there(bridge: Bridge) -> None:
    with pytest.raises(TargetError, match="U-Boot prompt"):
        open_target(bridge.url).connect(deadline_seconds=10)
    with pytest.raises(InputError, match="no shell"):
        open_target(url(bridge))


def test_from_the_command_line(
    bridge: Bridge, tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    assert cli.main(["run", url(bridge), "--", "echo", "hello"]) == 0
    assert capfdbinary.readouterr().out == b"hello\n"
    assert cli.main(["run", url(bridge), "--", "false"]) == 1
    script = tmp_path / "script"
    script.write_text(
        "# talks to the prompt\ntimeout 20\nsend \\x03\nexpect =>\nsendline echo a''b\n"
        "expect ^ab$\nfail panic\nsendline printenv nonesuch\nexpect not defined\n"
    )
    log = tmp_path / "log"
    assert cli.main(["console", url(bridge), "--script", str(script), "--log", str(log)]) == 0
    lines = log.read_text().splitlines()
    assert any(line.endswith("  ab") and line[:2] == "20" for line in lines)
    script.write_text("timeout 0.5\nexpect this never comes\n")
    assert cli.main(["console", url(bridge), "--script", str(script)]) == 1


def test_what_does_not_come_back_is_handed_over(
    bridge: Bridge, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """A command that starts something else ends the run; one that fails to is told as such."""
    assert cli.main(["run", url(bridge), "--", "bootz", "0x43000000"]) == 1
    told = capfdbinary.readouterr()
    assert b"Bad magic" in told.out and b"not come back" not in told.err
    assert cli.main(["run", url(bridge), "--", "setenv", "left", "behind"]) == 0
    # After a reset nothing is typed: the autoboot must run, and here finds nothing to boot.
    assert cli.main(["run", url(bridge), "--", "reset"]) == 0
    assert b"did not come back" in capfdbinary.readouterr().err
    with open_uboot(url(bridge), deadline_seconds=60) as prompt:
        assert prompt.env("left") is None, "it was not reset"
