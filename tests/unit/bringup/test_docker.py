"""How a deployment and its proof become two stages."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from embedkit.bringup import docker
from embedkit.bringup.settings import Docker, Settings
from embedkit.bringup.stages import Chain, Hands, Tone
from embedkit.bringup.state import Digests, Record, State
from embedkit.docker.apply import Outcome
from embedkit.docker.deploy import Deployment
from embedkit.docker.proof import Cause, Check, Proof
from embedkit.errors import TargetError

_RAN = Check("run", "a container runs", True, "printed its nonce", seconds=30.0)
_DAEMON = Check("daemon", "daemon answers", True, "Docker 1", seconds=10.0)
_NOT = Check(
    "run", "a container runs", False, "", "no veth", (Cause("CONFIG_VETH", "the cable"),), 5.0
)
_GENERATION: Any = SimpleNamespace(version="1.0")


@pytest.fixture
def chain() -> Chain:
    settings = Settings("x", "", Path("/w"), target="ssh://board", docker=Docker(Path("/bundle")))
    return Chain(settings, Hands(), State(), Digests({}), frozenset(("deploy", "proof")))


def _came_to(patch: pytest.MonkeyPatch, **fields: Any) -> list[dict[str, Any]]:
    calls: list[dict[str, Any]] = []
    plan: Any = SimpleNamespace(empty=fields.pop("empty", False))

    def deploy(chain: Chain, **how: Any) -> Deployment:
        calls.append(how)
        return Deployment(plan, generation=_GENERATION, **fields)

    patch.setattr(docker, "_deploy", deploy)
    return calls


def _proof(*checks: Check) -> Proof:
    return Proof(checks, "docker", "1.0", "arm")


def test_the_proof_s_time_is_not_the_deployment_s(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = _came_to(monkeypatch, outcome=Outcome(()), proof=_proof(_DAEMON, _RAN))
    deployed = docker.Deploy().do(chain)
    proven = docker.Prove().do(chain)
    assert [call["proof"] for call in calls] == ["quick"]
    assert deployed.verdict == "Docker 1.0 runs"
    assert deployed.seconds == 0.0  # none of the 40 s are its own
    assert proven.seconds == 40.0
    assert proven.verdict == "a container ran on the board; 2 of 2 checks are well"


def test_a_container_that_does_not_run_is_the_proof_s_no(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = TargetError("no container ran")
    _came_to(monkeypatch, outcome=Outcome((), failure, True), proof=_proof(_DAEMON, _NOT))
    deployed = docker.Deploy().do(chain)
    assert (deployed.tone, "taken back" in deployed.verdict) == (Tone.WARN, True)
    proven = docker.Prove().do(chain)
    assert (proven.tone, proven.error) == (Tone.FAIL, None)
    assert proven.verdict == "it fails: a container runs"
    assert proven.hint == "CONFIG_VETH: the cable"


def test_a_step_that_fails_is_the_deployment_s_error(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = TargetError("the disk is full")
    _came_to(monkeypatch, outcome=Outcome((), failure, True))
    done = docker.Deploy().do(chain)
    assert (done.tone, done.error) == (Tone.FAIL, failure)


def test_what_speaks_against_it_is_a_no(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    _came_to(monkeypatch, blocked=True)
    done = docker.Deploy().do(chain)
    assert (done.tone, done.error) == (Tone.FAIL, None)
    assert "docker.force" in done.hint


def test_what_is_there_is_proven_only_once(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = _came_to(monkeypatch, empty=True, outcome=Outcome(()))
    assert docker.Deploy().do(chain).verdict == "Docker 1.0 is there already"
    record = Record("", {}, "ok", "", 1.0, 1.0)
    assert docker.Prove().verify(chain, record)
    # Never proven before: it is asked to prove again.
    assert docker.Prove().do(chain).tone is Tone.FAIL
    assert calls[-1]["again"]


def test_without_the_proof_none_is_made(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    chain.will_run = frozenset(("deploy",))
    calls = _came_to(monkeypatch, outcome=Outcome(()))
    docker.Deploy().do(chain)
    assert calls[0]["proof"] == "none"
