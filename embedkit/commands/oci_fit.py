"""Does an image fit a board: its platform, its room, its memory pages, its Docker."""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from embedkit.commands import targeting
from embedkit.commands.oci_board import Board, look_only, page_bytes
from embedkit.oci import mediatypes
from embedkit.oci import platform as platforms
from embedkit.oci.inspect import Inspection
from embedkit.oci.platform import Platform
from embedkit.report.model import Finding, Section, Status
from embedkit.target.facts import Facts
from embedkit.ui import Ui
from embedkit.units import format_size

_FIRST_ZSTD = 23
_DATA_ROOT = "/var/lib/docker"


def fit_section(images: list[Inspection], args: argparse.Namespace, ui: Ui) -> Section:
    """What the board that ``args.target`` names says to an image, by its best entry for it."""
    with targeting.connected(args, ui) as target:
        platform, facts, board = look_only(target, args)
        page = page_bytes(target)
        name = target.name
    best = next(
        (
            image
            for offer in platforms.runnable(platform)
            for image in images
            if platforms.same(image.platform, offer)
        ),
        None,
    )
    findings = [_platform(platform, best, images)]
    if best is not None:
        findings += _rest(best, facts, board, page)
    return Section(f"On {name}", findings=tuple(findings))


def _platform(platform: Platform, best: Inspection | None, images: list[Inspection]) -> Finding:
    if best is None:
        there = ", ".join(str(image.platform) for image in images)
        return Finding(
            "board-platform", Status.FAIL, "platform",
            f"nothing for {platform}; it has: {there}",
            "'exec format error', or death by an illegal instruction, is what it would say",
            f"embedkit oci build --platform {platform}",
        )  # fmt: skip
    if best.platform.architecture != platform.architecture:
        return Finding(
            "board-platform", Status.WARN, "platform", f"{best.platform} on {platform}",
            "it runs if the processor has a 32-bit mode and the kernel supports it",
        )  # fmt: skip
    how = "" if platforms.same(best.platform, platform) else f", which {platform} runs as well"
    return Finding("board-platform", Status.OK, "platform", f"{best.platform}{how}")


def _rest(image: Inspection, facts: Facts, board: Board | None, page: int) -> Iterator[Finding]:
    yield _room(image, facts, board)
    yield from _page(image, page)
    if board is None:
        yield Finding(
            "board-docker", Status.WARN, "Docker", "neither Docker nor containerd answers there",
            hint="embedkit deploy installs Docker",
        )  # fmt: skip
        return
    daemon = board.daemon
    zstd = any(
        mediatypes.layer_compression(layer.media_type) == "zstd" for layer in image.manifest.layers
    )
    said = f"{daemon.program} {daemon.version}"
    if zstd and daemon.program == "Docker" and 0 < daemon.major < _FIRST_ZSTD:
        yield Finding(
            "board-docker", Status.WARN, "Docker", f"{said} cannot read zstd layers",
            "its 'docker pull' and 'docker load' fail; embedkit oci load sends them unpacked",
            f"embedkit oci copy --docker {daemon.major}",
        )  # fmt: skip
    else:
        yield Finding("board-docker", Status.OK, "Docker", said)
    if daemon.program == "Docker" and not any("seccomp" in item for item in daemon.security):
        yield Finding(
            "board-seccomp", Status.WARN, "seccomp", "Docker confines no system calls there",
            "the kernel lacks CONFIG_SECCOMP_FILTER, or Docker was built without seccomp",
            "embedkit check-kernel",
        )  # fmt: skip


def _room(image: Inspection, facts: Facts, board: Board | None) -> Finding:
    root = (board.daemon.root if board is not None else "") or _DATA_ROOT
    there = facts.filesystem_of(root)
    need = sum(layer.unpacked for layer in image.layers)
    # While it is loaded, what was sent lies beside what it is unpacked to.
    need += max(need, image.size) if board and not board.daemon.contents else image.size
    if there is None or there.available_bytes is None:
        return Finding("board-room", Status.UNKNOWN, "room", f"{root}: could not be told")
    good = need <= there.available_bytes
    return Finding(
        "board-room", Status.OK if good else Status.FAIL, "room",
        f"needs up to {format_size(need)} in {root}, {format_size(there.available_bytes)} are free",
        hint="" if good else "make room: docker image prune",
    )  # fmt: skip


def _page(image: Inspection, page: int) -> Iterator[Finding]:
    tightest = image.programs.tightest
    if tightest is None:
        return
    most = tightest.elf.page_bytes
    if page == 0:
        yield Finding("board-page", Status.UNKNOWN, "memory pages", "could not be told")
    elif most < page:
        yield Finding(
            "board-page", Status.WARN, "memory pages",
            f"/{tightest.path} is laid out for pages of {format_size(most)}, the board has "
            f"{format_size(page)}",
            "the kernel may refuse it, or it dies at its start",
            "link it with -z max-page-size=65536",
        )  # fmt: skip
    else:
        yield Finding("board-page", Status.OK, "memory pages", format_size(page))
