"""A board as a place for container images: what runs there, and what its store has."""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from embedkit.docker import ctr
from embedkit.docker.engine import EngineError
from embedkit.docker.images import open_images
from embedkit.docker.store import Daemon, Images
from embedkit.errors import TargetError
from embedkit.oci.platform import Platform, normalise
from embedkit.target.base import ConnectionLost, Equipped, Target
from embedkit.target.facts import Facts

_DEPLOY = "embedkit deploy --bundle FILE TARGET installs Docker there"


@dataclass(frozen=True)
class Board:
    """A board, and where its images are kept."""

    target: Equipped
    facts: Facts
    platform: Platform
    daemon: Daemon
    images: Images


def add_store_arguments(parser: argparse.ArgumentParser) -> None:
    """How the board's Docker or containerd is reached."""
    group = parser.add_argument_group("on the board")
    group.add_argument(
        "--socket",
        default="",
        metavar="PATH",
        help="the socket of Docker, or of containerd, on the board (default: the usual one)",
    )
    group.add_argument(
        "--containerd",
        nargs="?",
        const=ctr.NAMESPACE,
        metavar="NAMESPACE",
        help="containerd's images, in this namespace (default: 'default'), and not Docker's; "
        "taken by itself where there is no Docker",
    )


def look(target: Target, args: argparse.Namespace) -> Board:
    """What ``target`` can run and has. Raises TargetError where nothing there keeps images."""
    equipped: Equipped = target  # type: ignore[assignment]  # every target with a shell is
    facts = target.facts()
    images, daemon = _store(equipped, facts, args)
    return Board(equipped, facts, machine_platform(facts, daemon.arch), daemon, images)


def is_target(text: str) -> bool:
    """Whether a word that may name a platform names a board: those that are written as URLs."""
    return "://" in text or text.startswith(("local:", "qemu:"))


def look_only(target: Target, args: argparse.Namespace) -> tuple[Platform, Facts, Board | None]:
    """As :func:`look`, also for a board that keeps no images (yet)."""
    try:
        found = look(target, args)
    except ConnectionLost:
        raise
    except TargetError:
        facts = target.facts()
        return machine_platform(facts), facts, None
    return found.platform, found.facts, found


def page_bytes(target: Target) -> int:
    """The size of the board's memory pages; 0 where it does not tell."""
    asked = (
        "getconf PAGESIZE 2>/dev/null || while read -r name size unit; do "
        "case $name in KernelPageSize:) echo $((size * 1024)); break;; esac; done </proc/self/smaps"
    )
    text = target.run(asked, check=False).text.strip()
    return int(text) if text.isascii() and text.isdigit() and len(text) < 9 else 0


def machine_platform(facts: Facts, daemon_arch: str = "") -> Platform:
    """What images the board runs: by its kernel's processor, and by the daemon's own programs.

    A 32-bit daemon on an arm64 kernel takes ARM images up to v8 and no arm64 ones; Docker
    decides so itself (containerd platforms, cpuinfo_linux.go).
    """
    found = facts.platform
    arch = daemon_arch or found.userland_arch or found.arch
    if not arch:
        raise TargetError("the board does not tell what processor it has")
    if arch == found.arch:
        return normalise(Platform("linux", arch, found.variant))
    return normalise(Platform("linux", arch, "v8" if arch == "arm" else ""))


def _store(target: Equipped, facts: Facts, args: argparse.Namespace) -> tuple[Images, Daemon]:
    there = facts.docker
    docker = bool(there.dockerd or there.running or there.socket or "docker" in facts.tools)
    images: Images
    if args.containerd is None and (docker or args.socket):
        try:
            images = open_images(target, socket=args.socket) if args.socket else open_images(target)
            return images, images.daemon()
        except EngineError as error:
            raise TargetError(
                f"its Docker does not answer: {error.message}",
                where=target.name,
                hint="is the daemon running, and may this user talk to it? "
                "(embedkit probe TARGET tells)",
            ) from error
    program = ctr.find_ctr(target)
    if program is None:
        what = "no ctr to reach containerd with" if args.containerd else "neither Docker nor ctr"
        raise TargetError(f"it has {what}", where=target.name, hint=_DEPLOY)
    images = ctr.CtrImages(
        target, program, args.socket or ctr.SOCKET, args.containerd or ctr.NAMESPACE
    )
    try:
        return images, images.daemon()
    except EngineError as error:
        raise TargetError(
            f"its containerd does not answer: {error.message}", where=target.name, hint=_DEPLOY
        ) from error
