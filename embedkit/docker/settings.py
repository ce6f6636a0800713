"""daemon.json: what the board needs, merged into what is there; nobody's settings are lost."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from embedkit.errors import InputError
from embedkit.target.facts import Facts, Filesystem
from embedkit.target.preflight import (
    Concern,
    Weight,
    data_root_candidates,
    data_root_problem,
)
from embedkit.units import format_size

DATA_ROOT = "/var/lib/docker"
PATH = "/etc/docker/daemon.json"
# Logs of containers grow without end by default; small flash is full in a day.
_SMALL_BYTES = 4 << 30
_DOCKER_29 = 29

Settings = Mapping[str, Any]


@dataclass(frozen=True)
class Wanted:
    """``values`` are for daemon.json, ``environment`` for the daemon's start; ``concerns`` say
    where the board has less than Docker would like, and what was chosen instead."""

    values: Settings
    environment: tuple[tuple[str, str], ...]
    data_root: str
    concerns: tuple[Concern, ...]


@dataclass(frozen=True)
class Choices:
    """What the user decided; None and "auto" leave it to the board's facts."""

    data_root: str | None = None
    iptables: str = "auto"  # auto, on, off
    extra: Settings = field(default_factory=dict)


def choose(facts: Facts, major: int | None, choices: Choices, *, proxy: bool = True) -> Wanted:
    """Settings that this board can do. Concerns of weight FAIL say that there are none.

    ``proxy`` says whether the bundle has docker-proxy.
    """
    concerns: list[Concern] = []
    values: dict[str, Any] = {}
    root, room = _data_root(facts, choices, concerns)
    if root != DATA_ROOT:
        values["data-root"] = root
    _storage(facts, major, room, values, concerns)
    _firewall(facts, major, choices, values, concerns)
    if not proxy:
        # Published ports then go through iptables alone; dockerd 28 and later does not start
        # where the program is wanted and missing.
        values["userland-proxy"] = False
    small = room is None or (room.size_bytes or 0) < _SMALL_BYTES
    values["log-driver"] = "json-file"
    values["log-opts"] = {"max-size": "1m" if small else "10m", "max-file": "2"}
    values.update(choices.extra)
    environment: list[tuple[str, str]] = []
    here = facts.filesystem_of("/")
    if here is not None and here.type in ("rootfs", "ramfs"):
        # moby's daemon and runc: pivot_root does not work on the initial RAM disk.
        environment.append(("DOCKER_RAMDISK", "1"))
    return Wanted(MappingProxyType(values), tuple(environment), root, tuple(concerns))


def _data_root(
    facts: Facts, choices: Choices, concerns: list[Concern]
) -> tuple[str, Filesystem | None]:
    if choices.data_root is not None:
        here = facts.filesystem_of(choices.data_root)
        problem = data_root_problem(here)
        if problem is not None:
            concerns.append(
                Concern(
                    "data-root",
                    Weight.FAIL,
                    "data root",
                    problem,
                    f"Docker's data would be in {choices.data_root}",
                    "choose another --data-root",
                )
            )
        return choices.data_root, here
    here = facts.filesystem_of(DATA_ROOT)
    problem = data_root_problem(here)
    if problem is None:
        return DATA_ROOT, here
    candidates = data_root_candidates(facts)
    if not candidates:
        concerns.append(
            Concern(
                "data-root",
                Weight.FAIL,
                "data root",
                problem,
                "no mounted filesystem can hold Docker's data",
                "mount a writable ext4",
            )
        )
        return DATA_ROOT, here
    best = candidates[0]
    root = f"{best.mount.rstrip('/')}/docker"
    free = "?" if best.available_bytes is None else format_size(best.available_bytes)
    concerns.append(
        Concern(
            "data-root",
            Weight.WARN,
            "data root",
            f"{problem}; {root} is used instead",
            f"{best.type} with {free} free",
            "choose another with --data-root",
        )
    )
    return root, best


def _storage(
    facts: Facts,
    major: int | None,
    room: Filesystem | None,
    values: dict[str, Any],
    concerns: list[Concern],
) -> None:
    modules = facts.modules
    known = {*facts.kernel_filesystems, *modules.loadable, *modules.loaded, *modules.builtin}
    if "overlay" in known or not facts.kernel_filesystems:
        # Docker 29 keeps images with containerd and takes overlayfs by itself; naming a driver
        # there would turn that off.
        if major is not None and major < _DOCKER_29:
            values["storage-driver"] = "overlay2"
        return
    values["storage-driver"] = "vfs"
    if major is None or major >= _DOCKER_29:
        values["features"] = {"containerd-snapshotter": False}
    free = "" if room is None or room.available_bytes is None else format_size(room.available_bytes)
    costs = "every layer of every image is a full copy" + (f"; {free} are free" if free else "")
    if room is not None and room.type == "ext4":
        # vfs copies security.capability, which ext4 then refuses: docs/kernel-experiment.md.
        costs += "; where the kernel has no CONFIG_EXT4_FS_SECURITY either, no container starts"
    concerns.append(
        Concern(
            "overlay",
            Weight.WARN,
            "storage driver",
            "vfs, since the kernel has no overlay",
            costs,
            "build the kernel with CONFIG_OVERLAY_FS",
        )
    )


def _firewall(
    facts: Facts,
    major: int | None,
    choices: Choices,
    values: dict[str, Any],
    concerns: list[Concern],
) -> None:
    firewall = facts.firewall
    works = bool(firewall.iptables) and firewall.usable is not False
    if choices.iptables == "off" or (choices.iptables == "auto" and not works):
        if firewall.nft and choices.iptables == "auto" and (major or 0) >= _DOCKER_29:
            values["firewall-backend"] = "nftables"
            return
        values.update({"iptables": False, "ip6tables": False, "ip-masq": False})
        if choices.iptables == "auto":
            why = "is missing" if not firewall.iptables else "does not work with this kernel"
            concerns.append(
                Concern(
                    "iptables",
                    Weight.WARN,
                    "iptables",
                    f"{why}; Docker is set up without it",
                    "containers reach the board and each other, not the network beyond, and "
                    "published ports go through docker-proxy",
                    "install iptables and deploy again, or use --network host",
                )
            )
    elif not works:
        why = "is missing" if not firewall.iptables else "does not work with this kernel"
        concerns.append(
            Concern(
                "iptables",
                Weight.FAIL,
                "iptables",
                f"{why}, and --iptables on asks for it",
                "dockerd would end at once",
                "leave it to --iptables auto",
            )
        )


@dataclass(frozen=True)
class Merged:
    """``text`` is the file's new content (the old one byte for byte where nothing changes),
    ``kept`` the keys that the user's file says otherwise than the plan would."""

    text: str
    kept: tuple[str, ...]


def merge(present: str | None, ours_before: Settings, wanted: Settings) -> Merged:
    """Three ways: what is in the file, what the last deployment put there, what is wanted now.

    A key that is not there, or is as the last deployment left it, becomes as wanted; one that
    somebody else set stays. Raises InputError where the file is no JSON object.
    """
    values = read(present)
    result = dict(values)
    kept: list[str] = []
    for key, value in wanted.items():
        if key not in values or (key in ours_before and values[key] == ours_before[key]):
            result[key] = value
        elif values[key] != value:
            kept.append(key)
    for key, value in ours_before.items():
        if key not in wanted and values.get(key) == value:
            result.pop(key, None)
    if present is not None and result == values:
        return Merged(present, tuple(kept))
    return Merged(json.dumps(result, indent=2, ensure_ascii=False) + "\n", tuple(kept))


def read(present: str | None) -> dict[str, Any]:
    """daemon.json's values; an absent or empty file has none. Raises InputError."""
    if present is None or not present.strip():
        return {}
    try:
        values = json.loads(present)
    except (ValueError, RecursionError) as error:
        line = f":{error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        raise InputError(
            f"the board's daemon.json is not JSON: {error}",
            where=f"{PATH}{line}",
            hint="mend it there, or move it away; dockerd does not start with it either",
        ) from error
    if not isinstance(values, dict):
        raise InputError("the board's daemon.json is not a JSON object", where=PATH)
    return values
