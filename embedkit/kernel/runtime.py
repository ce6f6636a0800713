"""What only a running system tells: mounted control groups, forwarding, key quotas.

The same questions that Docker's check-config.sh asks of the host it runs on.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from embedkit.kernel.profile import Limit

_V2_CONTROLLERS = ("cpu", "cpuset", "io", "memory", "pids")
_V1_CONTROLLERS = {"cpu", "cpuacct", "cpuset", "devices", "freezer", "memory"}
_FORWARDING = (
    "net/ipv4/ip_forward",
    "net/ipv6/conf/all/forwarding",
    "net/ipv6/conf/default/forwarding",
)


class RuntimeCheck(NamedTuple):
    """One thing looked at. ``counts``: whether it being wrong fails the check."""

    name: str
    state: str
    good: bool
    counts: bool
    detail: str = ""
    hint: str = ""


def check(limits: tuple[Limit, ...], root: Path = Path("/")) -> tuple[RuntimeCheck, ...]:
    """Looks at the system under ``root``; never raises for what is not there."""
    return (*_cgroups(root), *_forwarding(root), *(_limit(limit, root) for limit in limits))


def _read(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return None


def _cgroups(root: Path) -> list[RuntimeCheck]:
    mounts = (_read(root / "proc/mounts") or "").splitlines()
    fields = [line.split() for line in mounts if len(line.split()) > 3]
    if any(words[1] == "/sys/fs/cgroup" and words[2] == "cgroup2" for words in fields):
        available = (_read(root / "sys/fs/cgroup/cgroup.controllers") or "").split()
        absent = [name for name in _V2_CONTROLLERS if name not in available]
        detail = f"controllers not available: {', '.join(absent)}" if absent else ""
        return [RuntimeCheck("cgroup hierarchy", "cgroup v2", True, True, detail)]
    v1 = [w for w in fields if w[2] == "cgroup" and _V1_CONTROLLERS & set(w[3].split(","))]
    if not v1:
        hint = "mount cgroup v2: mount -t cgroup2 none /sys/fs/cgroup"
        return [RuntimeCheck("cgroup hierarchy", "not mounted", False, True, "", hint)]
    if len(v1) == 1 and len(_V1_CONTROLLERS & set(v1[0][3].split(","))) > 2:
        hint = "mount each controller in a folder of its own under /sys/fs/cgroup"
        return [RuntimeCheck("cgroup hierarchy", "one mount for all", False, True, v1[0][1], hint)]
    return [RuntimeCheck("cgroup hierarchy", "cgroup v1", True, True)]


def _forwarding(root: Path) -> list[RuntimeCheck]:
    found = []
    for key in _FORWARDING:
        value = _read(root / "proc/sys" / key)
        if value is None:
            continue
        name = key.replace("/", ".")
        state = "enabled" if value == "1" else "disabled"
        detail = "" if value == "1" else "dockerd turns it on when it starts (--ip-forward)"
        found.append(RuntimeCheck(name, state, value == "1", False, detail))
    return found


def _limit(limit: Limit, root: Path) -> RuntimeCheck:
    value = _read(root / limit.path.lstrip("/"))
    if value is None or not value.isdigit():
        return RuntimeCheck(limit.path, "not there", False, False, limit.why)
    good = int(value) > limit.above
    return RuntimeCheck(
        limit.path, value, good, True, f"should be above {limit.above}. {limit.why}", limit.hint
    )
