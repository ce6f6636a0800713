"""The last stages: Docker on the board, and the proof that it works."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import asdict

from embedkit.bringup.boot import reach
from embedkit.bringup.causes import kernel_causes
from embedkit.bringup.stages import Chain, Done, Stage, Todo, Tone
from embedkit.bringup.state import Record
from embedkit.data import cache_folder
from embedkit.docker.bundle import Bundle
from embedkit.docker.bundlecache import open_cached
from embedkit.docker.deploy import Deployment, SharedBundle, Wish, deploy, named
from embedkit.docker.fit import Allowed
from embedkit.docker.install import Options
from embedkit.docker.proof import Proof
from embedkit.docker.settings import Choices
from embedkit.docker.state import ROOT
from embedkit.errors import InputError


class Deploy(Stage):
    """Installs Docker and starts it with the board's own init. Its proof is the next stage's,
    but runs within it: so a version that runs no container is taken back."""

    name = "deploy"
    title = "Deploy Docker"
    live = True

    def absent(self, chain: Chain) -> str:
        settings = chain.settings
        if not settings.target and not settings.emulated:
            return "the file names no target"
        bundle = settings.docker.bundle or settings.reference
        return "" if bundle else "the file names no bundle (docker.bundle)"

    def inputs(self, chain: Chain) -> object:
        return []

    def preview(self, chain: Chain) -> tuple[Todo, ...]:
        settings = chain.settings.docker
        bundle = named(_bundle(chain), settings.version, settings.minimal)
        return (
            Todo(
                f"install Docker {bundle.label} ({len(bundle.programs)} programs)",
                settings.root or ROOT,
                "embedkit deploy TARGET --uninstall",
            ),
            Todo("start it with the board's own init"),
        )

    def do(self, chain: Chain) -> Done:
        proves = "proof" in chain.will_run
        begun = time.monotonic()
        done = _deploy(chain, proof=chain.settings.docker.proof if proves else "none")
        chain.deployment = done
        proof = done.proof
        # The proof's time is its own stage's.
        took = max(0.0, time.monotonic() - begun - (_seconds(proof) if proof is not None else 0.0))
        version = done.generation.version if done.generation is not None else ""
        if done.blocked:
            bad = ", ".join(c.label for c in done.concerns if c.weight.value == "fail")
            hint = "see what stands against it below; docker.force = true goes on all the same"
            return Done(f"nothing was changed: {bad}", Tone.FAIL, done, hint=hint)
        failure = done.outcome.failure if done.outcome is not None else None
        if failure is not None and (proof is None or proof.basic):
            hint = _cause(done) or failure.hint or "the steps and the daemon's log below tell more"
            return Done(f"{_broken(done)}: {failure}", Tone.FAIL, done, hint=hint, error=failure)
        if done.plan.empty:
            return Done(f"Docker {version} is there already", value=done)
        verdict = f"Docker {version} runs"
        if failure is not None:
            verdict = f"Docker {version} was started, and taken back: its proof failed"
        return Done(verdict, Tone.OK if failure is None else Tone.WARN, done, seconds=took)


class Prove(Stage):
    """A container runs."""

    name = "proof"
    title = "Prove that it works"
    live = True

    def absent(self, chain: Chain) -> str:
        if chain.settings.docker.proof == "none":
            return 'docker.proof is "none"'
        return Deploy().absent(chain)

    def inputs(self, chain: Chain) -> object:
        docker = asdict(chain.settings.docker)
        boot_id = reach(chain).target.facts().boot_id
        return [docker, boot_id, _bundle(chain).digest]

    def verify(self, chain: Chain, record: Record) -> bool:
        """Nothing had to be deployed since, on the same board in the same boot."""
        return chain.deployment is not None and chain.deployment.plan.empty

    def preview(self, chain: Chain) -> tuple[Todo, ...]:
        kind = chain.settings.docker.proof
        more = ", then limits, volumes, network, ports and restarts" if kind == "full" else ""
        return (Todo(f"load an image made for it and run a container{more}", "", "both removed"),)

    def do(self, chain: Chain) -> Done:
        before = chain.deployment
        proof = before.proof if before is not None else None
        seconds = None
        if proof is None:
            done = _deploy(chain, proof=chain.settings.docker.proof, again=True)
            proof = done.proof
        else:
            seconds = _seconds(proof)
        if proof is None:
            return Done("Docker is not there, so nothing was proven", Tone.FAIL)
        bad = [check for check in proof.checks if check.ok is False]
        if not proof.ok:
            failed = ", ".join(check.title for check in bad) or "no container ran"
            hint = next(
                (f"{cause.name}: {cause.why}" for check in bad for cause in check.causes), ""
            )
            return Done(f"it fails: {failed}", Tone.FAIL, proof, hint=hint, seconds=seconds)
        return Done(_proven(proof), value=proof, seconds=seconds)


def _seconds(proof: Proof) -> float:
    return sum(check.seconds for check in proof.checks)


def _proven(proof: Proof) -> str:
    count = sum(check.ok is True for check in proof.checks)
    return f"a container ran on the board; {count} of {count} checks are well"


def _broken(done: Deployment) -> str:
    """The step that failed."""
    steps = done.outcome.done if done.outcome is not None else ()
    return next((step.step.title for step in steps if step.error), "it failed")


def _cause(done: Deployment) -> str:
    return "; ".join(f"{cause.name}: {cause.why}" for cause in done.causes[:2])


def _bundle(chain: Chain) -> Bundle:
    path = chain.settings.docker.bundle
    if path is None:
        raise InputError("the reference board's bundle is not there yet")
    return open_cached(path, cache_folder() / "bundles")


@contextlib.contextmanager
def _shared(chain: Chain) -> Iterator[SharedBundle]:
    settings = chain.settings.docker
    shared = SharedBundle(named(_bundle(chain), settings.version, settings.minimal))
    try:
        yield shared
    finally:
        shared.close()


def _deploy(chain: Chain, *, proof: str, again: bool = False) -> Deployment:
    settings = chain.settings.docker
    choices = Choices(settings.data_root, settings.iptables, dict(settings.settings))
    wish = Wish(
        options=Options(root=settings.root or ROOT, choices=choices),
        allowed=Allowed(dynamic=settings.allow_dynamic),
        proof=proof,
        prove_again=again,
        busybox=settings.busybox,
        force=settings.force,
    )
    target = reach(chain).target
    with _shared(chain) as shared:
        return deploy(target, shared, wish, explain=kernel_causes, progress=chain.progress)
