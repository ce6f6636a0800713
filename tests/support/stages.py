"""Stages made for tests: each writes one file, made of what the stages before it wrote.

As a program of its own it runs them in the folder given, kills itself with SIGKILL where
``KILL`` says (``before:NAME``, ``within:NAME`` or ``after:NAME``), and prints what was done.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from embedkit.bringup.run import Choice, Ended, run
from embedkit.bringup.settings import Settings
from embedkit.bringup.stages import Chain, Done, Hands, Result, Stage, Todo, Tone
from embedkit.errors import TargetError

NAMES = ("one", "two", "three")


class Writer(Stage):
    """Writes ``NAME.out``: the content of ``NAME.in`` and of the stage before."""

    def __init__(self, name: str, before: str = "") -> None:
        self.name = name
        self.title = f"Stage {name}"
        self.before = before

    def _sources(self, chain: Chain) -> list[Path]:
        work = chain.settings.work
        sources = [work / f"{self.name}.in"]
        return [*sources, work / f"{self.before}.out"] if self.before else sources

    def absent(self, chain: Chain) -> str:
        return "no input" if (chain.settings.work / f"{self.name}.absent").exists() else ""

    def inputs(self, chain: Chain) -> object:
        return [chain.digests.of(path) for path in self._sources(chain)]

    def preview(self, chain: Chain) -> tuple[Todo, ...]:
        return (Todo(f"write {self.name}.out"),)

    def do(self, chain: Chain) -> Done:
        kill_at(f"within:{self.name}")
        lost = [path.name for path in self._sources(chain) if not path.exists()]
        if lost:
            raise TargetError(f"there is no {lost[0]}")
        text = "".join(path.read_text() for path in self._sources(chain))
        if "broken" in text:
            raise TargetError("it broke", where=self.name, hint="mend it")
        out = chain.settings.work / f"{self.name}.out"
        out.write_text(text)
        if "no" in text:
            return Done("the answer is no", Tone.FAIL, text)
        return Done(f"wrote {len(text)} bytes", value=text, outputs=(out,), carry={"text": text})


def kill_at(place: str) -> None:
    """Ends this process as a power cut would, where it was asked to."""
    if os.environ.get("KILL") == place:
        os.kill(os.getpid(), signal.SIGKILL)


class _Killing:
    def started(self, stage: Stage) -> None:
        kill_at(f"before:{stage.name}")

    def ended(self, result: Result) -> None:
        kill_at(f"after:{result.stage}")


def stages() -> tuple[Stage, ...]:
    """Three, each fed by the one before."""
    return tuple(Writer(name, before) for name, before in zip(NAMES, ("", *NAMES), strict=False))


def begin(folder: Path) -> Settings:
    """Their inputs in ``folder``."""
    for name in NAMES:
        (folder / f"{name}.in").write_text(f"{name}\n")
    return Settings("test", "", folder)


def go(folder: Path, choice: Choice | None = None) -> Ended:
    """One run over them."""
    return run(
        Settings("test", "", folder), stages(), choice or Choice(), Hands(),
        describe=lambda done: {"text": done.value}, observer=_Killing(),
    )  # fmt: skip


def standings(ended: Ended) -> dict[str, str]:
    """What became of each."""
    return {result.stage: result.standing.value for result in ended.results}


if __name__ == "__main__":
    for name, standing in standings(go(Path(sys.argv[1]))).items():
        print(name, standing)
