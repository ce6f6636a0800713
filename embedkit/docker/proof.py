"""The proof that a board runs containers: one ran, and said what it was to say.

No registry, no network, no compiler: the image is made here for the board's architecture. With
a static BusyBox the limits, the network, volumes and restarts are tried as well.
"""

from __future__ import annotations

import secrets
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from embedkit.docker import proofelf
from embedkit.docker.engine import Container, Engine, EngineError
from embedkit.errors import EmbedkitError
from embedkit.progress import NullProgress, Progress

_MEMORY_BYTES = 16 << 20
_PORT = 80
_RESTART_SECONDS = 60.0


@dataclass(frozen=True)
class Cause:
    """What a failure comes from: ``name`` is a kernel symbol or another short name, ``why`` a
    sentence, ``hint`` what to do."""

    name: str
    why: str
    hint: str = ""


Explain = Callable[[str], tuple[Cause, ...]]
"""Names the likely causes of a message, most likely first; none rather than a guess."""


@dataclass(frozen=True)
class Check:
    """One thing that was tried. ``ok`` is None where it was left out; ``state`` says what came
    of it, ``error`` what the daemon said."""

    id: str
    title: str
    ok: bool | None
    state: str
    error: str = ""
    causes: tuple[Cause, ...] = ()
    seconds: float = 0.0


@dataclass(frozen=True)
class Proof:
    """All checks, and how the daemon was spoken to."""

    checks: tuple[Check, ...]
    way: str
    version: str
    arch: str

    @property
    def ok(self) -> bool:
        """Whether a container ran and nothing that was tried failed."""
        ran = any(check.id == "run" and check.ok for check in self.checks)
        return ran and all(check.ok is not False for check in self.checks)

    @property
    def basic(self) -> bool:
        """Whether at least the first container ran."""
        return any(check.id == "run" and check.ok for check in self.checks)


@dataclass(frozen=True)
class Asked:
    """What to prove. ``busybox`` is a static BusyBox's content; ``restart`` restarts the daemon
    (None: that check is left out); ``bridge`` says whether bridge networks are to be tried,
    ``published`` whether ports are."""

    arch: str
    busybox: bytes | None = None
    restart: Callable[[], None] | None = None
    bridge: bool = True
    published: bool = True


def prove(
    engine: Engine,
    asked: Asked,
    explain: Explain | None = None,
    progress: Progress | None = None,
) -> Proof:
    """Tries everything that ``asked`` allows and removes what it made.

    Raises InputError for an architecture that there is no program for. What the daemon refuses
    is a failed check and not an error.
    """
    progress = progress or NullProgress()
    run = _Proving(engine, asked, explain or (lambda text: ()), progress)
    try:
        version = engine.version()
    except EngineError as error:
        return Proof((run.failed("daemon", "daemon answers", error),), engine.way, "", asked.arch)
    checks = [Check("daemon", "daemon answers", True, f"Docker {version}")]
    task = progress.start("proof", unit="steps")
    try:
        for check in run.all():
            checks.append(check)
            task.advance(1)
    finally:
        task.finish()
        run.clean()
    return Proof(tuple(checks), engine.way, version, asked.arch)


class Unproven(EngineError):
    """A container ran and did otherwise than it should."""


class _Proving:
    def __init__(self, engine: Engine, asked: Asked, explain: Explain, progress: Progress) -> None:
        self._engine = engine
        self._asked = asked
        self._explain = explain
        self._word = secrets.token_hex(6)
        self._hello = f"embedkit-proof-{self._word}:hello"
        self._box = f"embedkit-proof-{self._word}:busybox"
        self._volume = f"embedkit-proof-{self._word}"
        self._made: list[str] = []

    def all(self) -> Iterator[Check]:
        first = self._try("run", "a container runs", self._first)
        yield first
        if self._asked.busybox is None:
            return
        if not first.ok:
            yield Check("more", "further checks", None, "left out, since no container runs")
            return
        loaded = self._try("busybox", "BusyBox image loads and runs", self._load_busybox)
        yield loaded
        if not loaded.ok:
            return
        yield self._try("memory", "memory limit is kept", self._memory)
        yield self._try("volume", "volume keeps what is written", self._volumes)
        if self._asked.bridge:
            yield self._try("bridge", "container reaches the board", self._bridge)
        else:
            yield Check("bridge", "container reaches the board", None, "no bridge network")
        if self._asked.published:
            yield self._try("port", "published port answers", self._published)
        if self._asked.restart is not None:
            yield self._try("restart", "restart policy holds", self._restarted)

    def _try(self, id: str, title: str, work: Callable[[], str]) -> Check:
        begun = time.monotonic()
        try:
            state = work()
            return Check(id, title, True, state, seconds=time.monotonic() - begun)
        except EmbedkitError as error:
            return self.failed(id, title, error, time.monotonic() - begun)

    def failed(self, id: str, title: str, error: EmbedkitError, seconds: float = 0.0) -> Check:
        said = error.message
        return Check(id, title, False, "failed", said, self._explain(said), seconds)

    def _first(self) -> str:
        nonce = f"embedkit {secrets.token_hex(16)}\n".encode()
        code = 33 + secrets.randbelow(60)
        program = proofelf.program(self._asked.arch, nonce, code)
        self._engine.load(_image(self._asked.arch, self._hello, "hello", program))
        ran = self._engine.run(Container(self._hello, network="none"))
        if ran.output != nonce:
            raise Unproven(
                f"the container wrote {ran.output[:80]!r} and not the {len(nonce)} bytes it was "
                f"to write (exit code {ran.exit_code})"
            )
        if ran.exit_code != code:
            raise Unproven(f"the container ended with {ran.exit_code} and not with {code}")
        return f"{len(program)} bytes, printed its nonce and ended with {code} as it should"

    def _load_busybox(self) -> str:
        content = self._asked.busybox
        assert content is not None
        self._engine.load(_image(self._asked.arch, self._box, "bin/busybox", content))
        self._shell("exit 0")
        return "loaded"

    def _container(self, script: str, **more: object) -> Container:
        return Container(self._box, ("sh", "-c", script), **more)  # type: ignore[arg-type]

    def _shell(self, script: str, *, code: int = 0, **more: object) -> str:
        more.setdefault("network", "none")
        ran = self._engine.run(self._container(script, **more))
        if ran.exit_code != code:
            said = ran.output.decode("utf-8", "replace").strip()[-300:]
            raise Unproven(f"it ended with {ran.exit_code} and not with {code}: {said}")
        return ran.output.decode("utf-8", "replace").strip()

    def _memory(self) -> str:
        # 64 MB at once under a limit of 16: killed by the kernel (128 + 9), or the limit is none.
        script = "busybox dd if=/dev/zero of=/dev/null bs=64M count=1"
        ran = self._engine.run(
            self._container(
                f"exec {script.replace('busybox', '/bin/busybox', 1)}",
                network="none",
                memory_bytes=_MEMORY_BYTES,
            )
        )
        if ran.exit_code == 0:
            raise Unproven(
                "Your kernel does not support memory limit capabilities: 64 MB were used under a "
                "limit of 16"
            )
        if ran.exit_code != 137:
            said = ran.output.decode("utf-8", "replace").strip()[-200:]
            raise Unproven(f"it ended with {ran.exit_code} and not with 137: {said}")
        return "a container of 16 MiB that took 64 was killed"

    def _volumes(self) -> str:
        volume = (self._volume, "/data")
        self._shell(f"echo {self._word} >/data/word", volume=volume)
        found = self._shell("/bin/busybox cat /data/word", volume=volume)
        if found != self._word:
            raise Unproven(f"the second container read {found!r} and not what the first wrote")
        return "a second container read what the first wrote"

    def _bridge(self) -> str:
        script = (
            "g=$(/bin/busybox ip route | while read -r d v a r; do "
            '[ "$d" = default ] && echo $a; done); echo "$g"; '
            '[ -n "$g" ] && /bin/busybox ping -c 1 -W 5 "$g" >/dev/null'
        )
        gateway = self._shell(script, network="bridge")
        return f"it reached {gateway}"

    def _published(self) -> str:
        # The word is served by BusyBox's own httpd and fetched from the board's side of the port.
        serve = (
            f"/bin/busybox mkdir /www; echo {self._word} >/www/word; "
            f"exec /bin/busybox httpd -f -p {_PORT} -h /www"
        )
        port = 20000 + secrets.randbelow(12000)
        id = self._engine.start(
            self._container(serve, network="bridge", publish=("127.0.0.1", port, _PORT))
        )
        self._made.append(id)
        fetch = (
            "n=0; while [ $n -lt 20 ]; do /bin/busybox wget -q -O - "
            f"http://127.0.0.1:{port}/word && exit; /bin/busybox usleep 250000; n=$((n+1)); done; "
            "exit 1"
        )
        try:
            found = self._shell(fetch, network="host")
        finally:
            # Now and not at the end: httpd does not heed SIGTERM, and would hold up a restart.
            self._engine.remove(id)
        if found.splitlines()[-1:] != [self._word]:
            raise Unproven(f"the published port answered {found[:80]!r}")
        return f"port {port} of the board reached the container"

    def _restarted(self) -> str:
        restart = self._asked.restart
        assert restart is not None
        id = self._engine.start(
            self._container(
                "while :; do /bin/busybox sleep 1; done", network="none", restart="always"
            )
        )
        self._made.append(id)
        _, before = self._engine.state(id)
        restart()
        ends = time.monotonic() + _RESTART_SECONDS
        while True:
            running, since = self._engine.state(id)
            if running and since != before:
                return "the container came back after the daemon's restart"
            if time.monotonic() > ends:
                raise Unproven("the container did not come back after the daemon's restart")
            time.sleep(0.5)

    def clean(self) -> None:
        """Removes every trace, even where the daemon has died meanwhile."""
        for id in self._made:
            self._quietly(lambda id=id: self._engine.remove(id))  # type: ignore[misc]
        self._quietly(lambda: self._engine.remove_image(self._hello))
        if self._asked.busybox is not None:
            self._quietly(lambda: self._engine.remove_image(self._box))
            self._quietly(lambda: self._engine.remove_volume(self._volume))

    def _quietly(self, work: Callable[[], None]) -> None:
        try:
            work()
        except EmbedkitError:
            pass


def _image(arch: str, name: str, path: str, program: bytes) -> bytes:
    """An archive with an image of one program, its entrypoint, which every Docker loads."""
    # Only who proves needs them.
    from embedkit.oci import build, reference
    from embedkit.oci.platform import Platform
    from embedkit.oci.sink import ArchiveSink
    from embedkit.oci.transfer import Shape, transfer

    with tempfile.TemporaryDirectory(prefix="embedkit-proof-") as folder:
        root, made = Path(folder) / "root", Path(folder) / "image.tar"
        (root / path).parent.mkdir(parents=True)
        (root / path).write_bytes(program)
        (root / path).chmod(0o755)
        recipe = build.Recipe(
            str(reference.parse(name)),
            build.RunConfig(entrypoint=(f"/{path}",), labels={"embedkit.proof": "1"}),
            compression="none",
            trusted=True,
        )
        # v5: no ARM that runs Docker is older, and none may find the image too new.
        platform = Platform("linux", arch, "v5" if arch == "arm" else "")
        tree, _ = build.build([build.Part(root, platform)], recipe, Path(folder))
        transfer([tree], ArchiveSink(made), Shape(keep_plain=True), NullProgress())
        return made.read_bytes()
