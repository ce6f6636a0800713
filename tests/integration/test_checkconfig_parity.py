"""The ``checkconfig`` rendering against Docker's own script, on every Debian kernel config."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import checkconfig, debian, kernels

from embedkit.kernel import checkconfig as rendering
from embedkit.kernel import profile_file
from embedkit.kernel.audit import Question, audit
from embedkit.kernel.config import KernelConfig

pytestmark = pytest.mark.needs("debian", "program:dpkg-deb", "program:bash")

# Releases on both sides of every version gate of the script.
GATES = (
    "3.10.1",
    "3.13.5",
    "3.18.1",
    "4.5.7",
    "4.7.2",
    "4.14.222",
    "5.0.1",
    "5.1.21",
    "5.2.1",
    "5.3.1",
    "5.8.4",
    "5.9.1",
)


def ours(config: Path) -> list[tuple[str, str]]:
    profile = profile_file.load("docker-20.10")
    parsed = KernelConfig.from_bytes(config.read_bytes(), str(config))
    return checkconfig.symbol_lines(rendering.render(audit(Question(parsed, profile))))


def theirs(config: Path, scratch: Path) -> list[tuple[str, str]]:
    release = KernelConfig.from_bytes(config.read_bytes()).release
    assert release is not None
    return checkconfig.symbol_lines(checkconfig.run(config, release, scratch))


@pytest.fixture(scope="module")
def configs() -> dict[str, Path]:
    try:
        return kernels.debian_configs()
    except debian.NotToBeHad as error:
        debian.give_up(str(error))
        raise


def test_agrees_on_every_debian_kernel(configs: dict[str, Path], tmp_path: Path) -> None:
    assert len(configs) >= 10, f"too few configs to mean anything: {sorted(configs)}"
    for name, config in configs.items():
        expected = theirs(config, tmp_path)
        assert len(expected) > 60, f"{name}: the script said too little"
        assert ours(config) == expected, name


@pytest.mark.parametrize("release", GATES)
def test_agrees_on_both_sides_of_every_version_gate(
    configs: dict[str, Path], tmp_path: Path, release: str
) -> None:
    name = next(name for name in configs if "armhf_none_armmp" in name)
    text = re.sub(r"(# Linux/\S+ )\S+", rf"\g<1>{release}", configs[name].read_text(), count=1)
    # The symbols that decide what else is asked, in the state that the real config does not have.
    text = text.replace("CONFIG_EXT4_USE_FOR_EXT2=y", "# CONFIG_EXT4_USE_FOR_EXT2 is not set")
    text += "CONFIG_LEGACY_VSYSCALL_EMULATE=y\nCONFIG_MEMCG_SWAP=y\n"
    config = tmp_path / "config"
    config.write_text(text)
    expected = theirs(config, tmp_path)
    assert ours(config) == expected


def test_section_headings_and_their_order(configs: dict[str, Path], tmp_path: Path) -> None:
    config = next(iter(configs.values()))
    parsed = KernelConfig.from_bytes(config.read_bytes(), str(config))
    shown = rendering.render(audit(Question(parsed, profile_file.load("docker-20.10"))))
    heading = re.compile(r"^ *(- )?\"?[\w ,()]+\"?:$")
    script = checkconfig.run(config, parsed.release or "", tmp_path)
    expected = [line for line in script.splitlines() if heading.match(line)]
    # zfs and the limits are asked of the host, not of the config.
    expected = [line for line in expected if line.strip() not in ('- "zfs":', "Limits:")]
    assert [line for line in shown.splitlines() if heading.match(line)] == expected
