"""A reference board from Debian's real packages: fit for Docker, whole, and made once."""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
from support.references import assembled

from embedkit.docker.bundle import NEEDED, open_bundle
from embedkit.emulate import reference
from embedkit.emulate.reference import Reference

pytestmark = pytest.mark.needs("debian", "program:dpkg-deb", "program:readelf")


@pytest.fixture(scope="module")
def arm() -> Reference:
    return assembled("arm")


def test_its_kernel_and_its_bundle_are_fit(arm: Reference) -> None:
    argv = [sys.executable, "-m", "embedkit.cli", "check-kernel", arm.config]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    bundle = open_bundle(arm.bundle)
    assert bundle.arch == "arm" and bundle.version and not bundle.ignored
    assert set(NEEDED) <= set(bundle.names)


def test_every_program_finds_its_libraries(arm: Reference, tmp_path: Path) -> None:
    """binutils' word for what they need, against what is in the tar and the bundle."""
    with tarfile.open(arm.folder / "rootfs.tar") as tar:
        names = {member.name for member in tar}
        chosen = [
            member
            for member in tar
            if member.isreg() and re.search(r"\.so(\.|$)|usr/bin/", member.name)
        ]
        tar.extractall(tmp_path, members=chosen, filter="data")
    files = [tmp_path / member.name for member in chosen] + sorted(arm.bundle.iterdir())
    said = subprocess.run(["readelf", "-dlW", *files], capture_output=True, text=True, check=False)
    needed = set(re.findall(r"\(NEEDED\).*\[(.*)\]", said.stdout))
    loaders = set(re.findall(r"interpreter: (/[^\]]*)\]", said.stdout))
    assert {"libc.so.6", "libsystemd.so.0", "libxtables.so.12"} <= needed
    assert loaders == {"/lib/ld-linux-armhf.so.3"} and "usr/lib/ld-linux-armhf.so.3" in names
    assert needed <= {name.rpartition("/")[2] for name in names}


def test_the_second_time_nothing_is_fetched_or_made(
    arm: Reference, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reference, "unpack", lambda *_: pytest.fail("unpacked again"))
    monkeypatch.setattr(
        "embedkit.process.start", lambda *_, **__: pytest.fail("a download was started")
    )
    assert assembled("arm") == arm
