"""Debian's own programs for other machines are recognised for what Debian says they are."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import debian
from support.oci_images import embedkit

pytestmark = pytest.mark.needs("debian")

# Debian's architecture → Docker's platform (wiki.debian.org/SupportedArchitectures).
EXPECTED = {
    "amd64": "linux/amd64",
    "i386": "linux/386",
    "armel": "linux/arm/v5",
    "armhf": "linux/arm/v7",
    "arm64": "linux/arm64",
}


def test_busybox_of_every_architecture_makes_one_index(tmp_path: Path) -> None:
    parts = []
    for arch in EXPECTED:
        try:
            parts.append(debian.unpack("busybox-static", arch) / "bin/busybox")
        except debian.NotToBeHad as reason:
            debian.give_up(str(reason))
    built = embedkit("oci", "build", *parts, "-t", "busybox:1", "-o", tmp_path / "all.tar",
                     "--cmd", "sh")  # fmt: skip
    assert [p["platform"] for p in built["data"]["platforms"]] == list(EXPECTED.values())
    assert built["data"]["warnings"] == []
    shown = embedkit("oci", "inspect", tmp_path / "all.tar")
    assert all(image["mislabelled"] is None for image in shown["data"]["images"])
