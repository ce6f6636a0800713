"""The stage of the user's own build."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import time
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from embedkit import process
from embedkit.bringup.settings import Build
from embedkit.bringup.stages import Chain, Done, Stage, Todo, Tone
from embedkit.errors import InputError, TargetError

LOG = "build.log"
_LAST_LINES = 25
_POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Built:
    """A build that ended, the end of what it wrote, and what it left behind."""

    command: str
    log: Path
    last_lines: tuple[str, ...]
    made: tuple[Path, ...]


class BuildStage(Stage):
    """Runs the command; its output goes to a file in the work folder.

    The command finds the patched config and the fragment in the environment, as
    EMBEDKIT_CONFIG and EMBEDKIT_FRAGMENT.
    """

    name = "build"
    title = "Run the build"

    def absent(self, chain: Chain) -> str:
        return "" if chain.settings.build is not None else "the file has no [build]"

    def inputs(self, chain: Chain) -> object:
        build = _build(chain)
        patched = chain.state.records.get("patch")
        return [
            build.command,
            str(build.folder),
            [chain.digests.of(path) for path in build.inputs],
            dict(patched.outputs) if patched is not None else None,
        ]

    def preview(self, chain: Chain) -> tuple[Todo, ...]:
        build = _build(chain)
        made = ", ".join(str(path) for path in build.makes)
        return (Todo(f"run {shlex.join(build.command)} in {build.folder}", made),)

    def do(self, chain: Chain) -> Done:
        build = _build(chain)
        log = chain.settings.work / LOG
        shown = shlex.join(build.command)
        chain.progress.say(f"building: {shown} (output: {log})")
        code = _run(build, log, _environment(chain), chain)
        last = _last_lines(log)
        built = Built(shown, log, last, build.makes)
        if code != 0:
            error = TargetError(f"the build failed with exit code {code}", where=shown)
            said = last[-1] if last else "it printed nothing"
            hint = f"its output is in {log}; mend it, and the same command goes on here"
            return Done(f"{error}: {said}", Tone.FAIL, built, hint=hint, error=error)
        lost = [str(path) for path in build.makes if not path.exists()]
        if lost:
            raise InputError(
                f"the build ended well and did not make {', '.join(lost)}",
                where=shown,
                hint="correct build.makes, or the command",
            )
        made = f"; made {', '.join(path.name for path in build.makes)}" if build.makes else ""
        return Done(f"built{made}", value=built, outputs=build.makes)


def _build(chain: Chain) -> Build:
    assert chain.settings.build is not None
    return chain.settings.build


def _environment(chain: Chain) -> dict[str, str]:
    carried = chain.carried("patch")
    return {
        f"EMBEDKIT_{what.upper()}": str(carried[what])
        for what in ("config", "fragment")
        if what in carried
    }


def _run(build: Build, log: Path, environment: dict[str, str], chain: Chain) -> int:
    """The exit code; 128 + N where signal N ended it. Killed with all that it started when we are
    interrupted: a build that goes on unseen would write what the next run reads."""
    task = chain.progress.start("build")
    try:
        with log.open("wb") as out:
            program = process.start(
                build.command,
                env=environment,
                cwd=build.folder,
                stdout=out.fileno(),
                stderr=out.fileno(),
                new_session=True,
            )
        try:
            while program.poll() is None:
                time.sleep(_POLL_SECONDS)
                task.advance(0)
        except BaseException:
            _end(program)
            raise
    finally:
        task.finish()
    code = program.returncode
    return code if code >= 0 else 128 - code


def _end(program: process.Running) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(program.pid, signal.SIGTERM)
    try:
        program.wait(timeout=5)
    except process.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(program.pid, signal.SIGKILL)
        program.wait()


def _last_lines(log: Path) -> tuple[str, ...]:
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - 64_000))
        lines = file.read().decode("utf-8", "replace").splitlines()
    return tuple(deque((line.rstrip() for line in lines if line.strip()), maxlen=_LAST_LINES))
