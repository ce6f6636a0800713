"""A deployment to one target from its facts to its proof. Nothing is copied where the facts
already say that it will not work."""

from __future__ import annotations

import contextlib
import tempfile
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from embedkit import elf
from embedkit.docker import causes, log
from embedkit.docker.apply import Observer, Outcome, carry_out
from embedkit.docker.bundle import Bundle, Kind
from embedkit.docker.engine import Engine, open_engine
from embedkit.docker.fit import Allowed, check_bundle, check_fit
from embedkit.docker.install import Installation, Options, install, places
from embedkit.docker.plan import Plan
from embedkit.docker.proof import Asked, Cause, Explain, Proof, prove
from embedkit.docker.state import Generation
from embedkit.docker.survey import Survey, survey
from embedkit.docker.undo import rollback, uninstall
from embedkit.errors import EmbedkitError
from embedkit.progress import NullProgress, Progress
from embedkit.target.base import Target, quote
from embedkit.target.facts import Facts
from embedkit.target.preflight import Concern, Weight, judge
from embedkit.units import format_size

# What the settings and the room below judge better, since they know the plan.
_JUDGED_HERE = ("iptables", "overlay", "data-root", "room", "docker", "platform")
# Images and containers need something, too; an empty data root takes about 1 MB.
_DATA_ROOM_BYTES = 24 << 20
_SPARE_BYTES = 8 << 20
_READY_SECONDS = 120.0
_BUSYBOX_LIMIT_BYTES = 8 << 20


@dataclass(frozen=True)
class Wish:
    """What to do. ``action`` is install, rollback or uninstall; ``proof`` none, quick or full;
    ``busybox`` a static BusyBox here; ``force`` goes on where the facts speak against it."""

    action: str = "install"
    options: Options = field(default_factory=Options)
    allowed: Allowed = field(default_factory=Allowed)
    proof: str = "quick"
    prove_again: bool = False
    busybox: Path | None = None
    purge: bool = False
    dry_run: bool = False
    force: bool = False


@dataclass(frozen=True)
class Deployment:
    """What came of it. ``blocked`` says that the concerns kept it from beginning."""

    plan: Plan
    concerns: tuple[Concern, ...] = ()
    generation: Generation | None = None
    outcome: Outcome | None = None
    proof: Proof | None = None
    causes: tuple[Cause, ...] = ()
    blocked: bool = False

    @property
    def ok(self) -> bool:
        """Whether all went well, as far as it was to go."""
        if self.blocked or (self.outcome is not None and not self.outcome.ok):
            return False
        return self.proof is None or self.proof.ok


class SharedBundle:
    """A bundle for several deployments at once: an archive is unpacked once, when first needed."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._files: dict[str, Path] | None = None

    @contextlib.contextmanager
    def files(self, names: Iterable[str]) -> Iterator[dict[str, Path]]:
        """As Bundle.files; they stay until ``close``."""
        with self._lock:
            if self._files is None:
                wanted = self.bundle.names if self.bundle.kind is Kind.ARCHIVE else tuple(names)
                found = self._stack.enter_context(self.bundle.files(wanted))
                if self.bundle.kind is not Kind.ARCHIVE:
                    found = {name: self._path(name) for name in self.bundle.names}
                self._files = found
        yield self._files

    def _path(self, name: str) -> Path:
        folder = self.bundle.kind is Kind.FOLDER
        return self.bundle.path / name if folder else self.bundle.path

    def close(self) -> None:
        """Removes what was unpacked."""
        with self._lock:
            self._stack.close()
            self._files = None


def deploy(
    target: Target,
    shared: SharedBundle | None,
    wish: Wish,
    *,
    explain: Explain | None = None,
    progress: Progress | None = None,
    observer: Observer | None = None,
) -> Deployment:
    """Does what ``wish`` says on ``target``, and tells how it went.

    Raises InputError for what cannot be (no bundle, nothing to roll back to, a daemon.json that
    is none), ConnectionLost and other TargetErrors only before anything was begun.
    """
    progress = progress or NullProgress()
    if wish.action == "install":
        assert shared is not None
        return _Installing(target, shared, wish, explain, progress, observer).all()
    bundle = None
    looked = survey(target, wish.options.root, places(bundle, wish.options))
    if wish.action == "rollback":
        plan = rollback(looked, wish.options.root, start=wish.options.start)
    else:
        plan = uninstall(looked, wish.options.root, purge=wish.purge)
    if wish.dry_run:
        return Deployment(plan)
    outcome = carry_out(target, plan, progress=progress, observer=observer)
    return Deployment(plan, outcome=outcome, causes=_causes(outcome, explain))


def _causes(outcome: Outcome, explain: Explain | None) -> tuple[Cause, ...]:
    if outcome.ok:
        return ()
    telling = [line for line in outcome.log if log.tells(line)] or list(outcome.log[-5:])
    text = "\n".join([str(outcome.failure), *telling[-8:]])
    explains = [causes.from_table, *([explain] if explain is not None else [])]
    return causes.joined(explains)(text)


class _Installing:
    def __init__(
        self,
        target: Target,
        shared: SharedBundle,
        wish: Wish,
        explain: Explain | None,
        progress: Progress,
        observer: Observer | None,
    ) -> None:
        self._target = target
        self._shared = shared
        self._bundle = shared.bundle
        self._wish = wish
        self._progress = progress
        self._observer = observer
        self._given = explain
        self._proof: Proof | None = None

    def all(self) -> Deployment:
        facts = self._target.facts()
        options = self._wish.options
        loaders = sorted(
            {
                p.header.interpreter
                for p in self._bundle.programs
                if p.header and p.header.interpreter
            }
        )
        looked = survey(self._target, options.root, places(self._bundle, options), loaders)
        made = install(facts, self._bundle, looked, options)
        concerns = (*self._concerns(facts, looked, loaders, made),)
        blocked = any(c.weight is Weight.FAIL for c in concerns) and not self._wish.force
        plan = made.plan
        if self._wish.dry_run or blocked:
            return Deployment(plan, concerns, made.generation, blocked=blocked)
        explain = self._explain(facts)
        wants = options.start and self._wish.proof != "none"
        if plan.empty:
            if wants and self._wish.prove_again:
                self._prove(facts, made, explain)
            return Deployment(plan, concerns, made.generation, Outcome(()), self._proof)
        outcome = carry_out(
            self._target,
            plan,
            bundle=self._shared,
            progress=self._progress,
            observer=self._observer,
            prove=(lambda: self._prove(facts, made, explain)) if wants else None,
        )
        return Deployment(
            plan, concerns, made.generation, outcome, self._proof, _causes(outcome, explain)
        )

    def _explain(self, facts: Facts) -> Explain:
        found = [causes.from_table, causes.from_facts(facts)]
        return causes.joined([*found, self._given] if self._given is not None else found)

    def _concerns(
        self, facts: Facts, looked: Survey, loaders: list[str], made: Installation
    ) -> Iterator[Concern]:
        yield from check_fit(self._bundle, facts.platform)
        yield from check_bundle(self._bundle, self._wish.allowed)
        for loader in loaders:
            if loader in looked.absent_files:
                yield Concern(
                    "loader", Weight.FAIL, "libraries", f"the board has no {loader}",
                    "the bundle's programs are not static and need it", "take a static bundle",
                )  # fmt: skip
        yield from (c for c in judge(facts) if c.id not in _JUDGED_HERE)
        yield from made.concerns
        yield from self._room(facts, made)

    def _room(self, facts: Facts, made: Installation) -> Iterator[Concern]:
        sizes = {p.name: p.size_bytes for p in self._bundle.programs}
        sending = [s.id.partition(" ")[2] for s in made.plan.steps if s.id.startswith("send ")]
        needs: dict[str, tuple[int, list[str]]] = {}
        for path, size, what in (
            (self._wish.options.root, sum(sizes[n] for n in sending) + _SPARE_BYTES, "programs"),
            (made.generation.data_root, _DATA_ROOM_BYTES, "data"),
        ):
            here = facts.filesystem_of(path)
            if here is None or made.plan.empty:
                continue
            before, whats = needs.get(here.mount, (0, []))
            needs[here.mount] = (before + size, [*whats, what])
        for mount, (needed, whats) in needs.items():
            here = facts.filesystem_of(mount)
            if here is None or here.available_bytes is None:
                continue
            free = here.available_bytes
            id = f"room-{whats[0]}"
            shown = f"{format_size(free)} free on {mount}, {format_size(needed)} needed"
            if free < needed:
                yield Concern(
                    id, Weight.FAIL, "room", shown, f"for Docker's {' and '.join(whats)}",
                    "make room, deploy with --minimal, or choose other places: --root, --data-root",
                )  # fmt: skip
            else:
                yield Concern(id, Weight.OK, "room", shown)

    def _prove(self, facts: Facts, made: Installation, explain: Explain) -> bool:
        folder = f"{self._wish.options.root}/current"
        engine = open_engine(self._target, folder)
        settings = made.generation.ours
        full = self._wish.proof == "full"
        asked = Asked(
            arch=self._bundle.arch or facts.platform.arch,
            busybox=self._busybox() if full else None,
            restart=(lambda: self._restart(made.generation, engine)) if full else None,
            bridge=settings.get("bridge") != "none",
            published=settings.get("iptables", True) or "docker-proxy" in self._bundle.names,
        )
        self._proof = prove(engine, asked, explain, self._progress)
        if full and asked.busybox is None:
            self._progress.say(
                f"{self._target.name}: no static BusyBox there, so only the first check was done; "
                "name one with --busybox FILE"
            )
        return self._proof.basic

    def _restart(self, generation: Generation, engine: Engine) -> None:
        self._target.run(generation.service.stop, timeout=180)
        self._target.run(generation.service.start, timeout=180)
        ends = time.monotonic() + _READY_SECONDS
        while True:
            try:
                engine.version()
                return
            except EmbedkitError:
                if time.monotonic() > ends:
                    raise
                time.sleep(0.5)

    def _busybox(self) -> bytes | None:
        """A static BusyBox: the one given, else the board's own where it is one."""
        if self._wish.busybox is not None:
            return self._wish.busybox.read_bytes()
            # Not "command -v": a shell with applets of its own names itself by one word.
        asked = (
            "for f in /bin /usr/bin /sbin; do [ -f $f/busybox ] && echo $f/busybox && break; done"
        )
        path = self._target.run(asked, check=False).text.partition("\n")[0]
        if not path:
            return None
        with tempfile.TemporaryDirectory(prefix="embedkit-") as folder:
            here = Path(folder) / "busybox"
            size = self._target.run(f"wc -c <{quote(path)}", check=False).text.strip()
            if not size.isdigit() or int(size) > _BUSYBOX_LIMIT_BYTES:
                return None
            self._target.get(path, here, progress=self._progress)
            content = here.read_bytes()
        header = elf.read(content[: elf.HEAD_BYTES])
        if header is None or not header.loadable or not header.static:
            return None
        return content if header.architecture == self._bundle.arch else None


def named(bundle: Bundle, version: str | None, minimal: bool) -> Bundle:
    """``bundle`` as the options want it. Raises InputError for a version that is none."""
    if version is not None:
        bundle = bundle.with_version(version)
    return bundle.minimal() if minimal else replace(bundle)
