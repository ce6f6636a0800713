"""What a board with one of the kernels says: its preflight, its daemon, the proof, and by hand
what the proof does not use."""

from __future__ import annotations

import io
import re
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from embedkit.docker.engine import Container, EngineError, open_engine
from embedkit.docker.proof import Asked, prove
from embedkit.errors import EmbedkitError
from embedkit.target.base import Target
from embedkit.target.preflight import Weight, judge
from experiments.variants import Variant

_LOG = "/var/log/docker.log"
_READY_SECONDS = 600.0
_PROBE_SECONDS = 300.0
_LONGEST = 600
_GATEWAY = "172.17.0.1"  # docker0, where nothing else was chosen

_Checks = tuple[tuple[str, str], ...]

# By hand, where the proof does not come along: the image "probe" is BusyBox.
_DOCKER = {
    "limits": (
        "docker create --pull never --memory 16m --memory-swap 16m probe true",
        "docker create --pull never --cpu-shares 512 probe true",
        "docker create --pull never --cpuset-cpus 0 probe true",
    ),
    "icc": ("docker network create -o com.docker.network.bridge.enable_icc=false apart",),
    "ipv6": ("docker network create --ipv6 --subnet fd00:7::/64 six",),
    "pause": (
        "docker run -d --network none --name paused probe sleep 100",
        "docker pause paused",
        "docker unpause paused",
        "docker stats --no-stream paused",
        "docker rm -f paused",
    ),
}
# What Docker asks for in a swarm, or in later versions than the board's.
_RULES = (
    "iptables -t mangle -A OUTPUT -p tcp --dport 9 -j MARK --set-mark 256",
    "iptables -t raw -A PREROUTING -d 172.17.0.2 ! -i docker0 -j DROP",
    "iptables -t nat -A POSTROUTING -m ipvs --ipvs -d 10.0.0.0/24 -j SNAT --to-source 10.0.0.2",
    "iptables -t nat -A POSTROUTING -s 172.31.0.0/16 ! -o docker0 -j MASQUERADE",
    "ip6tables -A FORWARD -i docker0 -j ACCEPT",
    "ip6tables -t nat -A POSTROUTING -s fd00:9::/64 ! -o docker0 -j MASQUERADE",
)
_VERSION_1 = """
umount /sys/fs/cgroup
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
sed 1d /proc/cgroups | while read -r name hierarchy count enabled; do
  [ "$enabled" = 1 ] || continue
  mkdir /sys/fs/cgroup/$name
  mount -t cgroup -o $name $name /sys/fs/cgroup/$name
done
"""
# dockerd waits 15 seconds for a containerd that it starts itself, which is too short for an
# emulated board on a busy machine; one that runs already is used at once.
_START = f"""
mkdir -p /var/log
setsid containerd >/var/log/containerd.log 2>&1 </dev/null &
tries=0
while [ ! -S /run/containerd/containerd.sock ] && [ $tries -lt 300 ]; do
  sleep 1
  tries=$((tries + 1))
done
setsid dockerd --containerd /run/containerd/containerd.sock >{_LOG} 2>&1 </dev/null &
echo $! >/run/experiment.pid
"""


@dataclass(frozen=True)
class Line:
    """A message and who said it."""

    where: str
    text: str


@dataclass(frozen=True)
class Seen:
    """``concerns`` are what ``deploy`` says before it copies anything; ``checks`` are those of
    the proof as (title, outcome)."""

    variant: str
    kernel: str
    docker: str
    runs: bool
    concerns: tuple[str, ...]
    checks: tuple[tuple[str, str], ...]
    lines: tuple[Line, ...]
    seconds: float


def observe(target: Target, variant: Variant, busybox: Path) -> Seen:
    """Starts Docker on a board that has booted, and looks at what comes of it."""
    begun = time.monotonic()
    if variant.cgroups == "v1":
        target.run(_VERSION_1, check=False, timeout=_PROBE_SECONDS)
    facts = target.facts()
    target.run(_START, timeout=_READY_SECONDS)
    concerns = tuple(
        f"{c.label}: {c.state}" for c in judge(facts) if c.weight in (Weight.FAIL, Weight.WARN)
    )
    version = _ready(target)
    lines: list[Line] = []
    checks: _Checks = (("daemon", "ok" if version else "failed"),)
    if version:
        proven, said = _prove(target, variant, busybox)
        checks += proven
        lines += said
    for command in _RULES:
        undo = command.replace(" -A ", " -D ")
        lines += _asked(target, command, f"{command} && {undo}")
    lines += _log(target)
    return Seen(
        variant.name, facts.kernel_release, version, all(state == "ok" for _, state in checks),
        concerns, checks, tuple(lines), time.monotonic() - begun,
    )  # fmt: skip


def _ready(target: Target) -> str:
    """The daemon's version once it answers; empty where it does not run."""
    ends = time.monotonic() + _READY_SECONDS
    while time.monotonic() < ends:
        asked = target.run("docker version -f '{{.Server.Version}}'", check=False,
                           timeout=_PROBE_SECONDS)  # fmt: skip
        if asked.ok:
            return asked.text.strip()
        if not target.run("kill -0 $(cat /run/experiment.pid)", check=False, timeout=300).ok:
            return ""
        time.sleep(1)
    return ""


def _prove(target: Target, variant: Variant, busybox: Path) -> tuple[_Checks, list[Line]]:
    """The proof's first container, one on the bridge, and what the variant asks for besides."""
    engine = open_engine(target)
    lines: list[Line] = []
    states = {True: "ok", False: "failed", None: "left out"}
    checks: _Checks = ()
    for check in prove(engine, Asked(arch="arm")).checks[1:]:
        checks += ((check.title, states[check.ok]),)
        lines += [Line(f"proof, {check.title}", check.error)] if check.error else []
    lines += _asked(target, "docker import", "docker import - probe", _probe(busybox.read_bytes()))
    try:
        bridged = engine.run(Container("probe:latest", ("ping", "-c", "1", "-W", "5", _GATEWAY)))
        state = "ok" if bridged.exit_code == 0 else "failed"
        checks += (("a container reaches the board over the bridge", state),)
    except EngineError as error:
        checks += (("a container on the bridge runs", "failed"),)
        lines.append(Line("docker run", error.message))
    lines += _asked(target, "docker info", "docker info 2>&1 | grep -i warning")
    for name in variant.probes:
        for command in _DOCKER[name]:
            lines += _asked(target, command, command)
    return checks, lines


def _probe(busybox: bytes) -> bytes:
    """The root file system of the image "probe"."""
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w") as tar:
        for name in ("true", "sleep", "ping", "sh"):
            info = tarfile.TarInfo(f"bin/{name}")
            info.size, info.mode = len(busybox), 0o755
            tar.addfile(info, io.BytesIO(busybox))
    return made.getvalue()


def _asked(target: Target, name: str, command: str, input: bytes | None = None) -> list[Line]:
    """What a command says that is no answer of a command that went well."""
    try:
        ran = target.run(f"{{ {command}; }} 2>&1", check=False, timeout=_PROBE_SECONDS, input=input)
    except EmbedkitError as error:
        return [Line(name, error.message)]
    said = [line.strip() for line in ran.text.splitlines() if line.strip()]
    if ran.ok and name != "docker info":
        said = [line for line in said if re.search("warning|error|fail", line, re.IGNORECASE)]
    return [Line(name, line[:_LONGEST]) for line in said]


def _log(target: Target) -> Iterator[Line]:
    """The daemon's complaints, without the time and what goes well."""
    text = target.run(f"cat {_LOG}", check=False, timeout=_PROBE_SECONDS).text
    for line in text.splitlines():
        if " level=info " in line or " level=debug " in line or not line.strip():
            continue
        yield Line("dockerd", re.sub(r'^time="[^"]*" ', "", line.strip())[:_LONGEST])
