"""Which entry of an index each client takes, by the client's own rules.

The rules were read in the clients' sources and measured against real indexes:

- docker 20.10: distribution/pull_v2_unix.go (containerd's order, and for ARM, where nothing
  fits, any entry of the architecture);
- docker 23 and later, containerd, nerdctl, Kubernetes: containerd platforms.Only;
- docker run on a local image in the containerd store: platforms.OnlyStrict;
- skopeo, podman, buildah: containers/image internal/pkg/platform (variants downwards, then
  none);
- crane: go-containerregistry v1/remote (the first that has all that was asked for).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from embedkit.oci.platform import Platform, normalise, runnable

CLIENTS = ("docker-20.10", "docker", "docker-local", "containerd", "skopeo", "crane")


@dataclass(frozen=True)
class Candidate:
    """One entry of an index: its label (None: it has none), and its config's platform."""

    label: Platform | None
    config: Platform


@dataclass(frozen=True)
class Choice:
    """What a client takes: the entry's number, or None; and why, in a sentence."""

    client: str
    index: int | None
    why: str


def resolve(candidates: Sequence[Candidate], wanted: Platform) -> tuple[Choice, ...]:
    """Every client's choice for a user who asks for ``wanted``.

    ``wanted`` is taken as the user wrote it: an ``arm`` without a variant is v7 to containerd
    and anything to crane.
    """
    return tuple(choose(client, candidates, wanted) for client in CLIENTS)


def choose(client: str, candidates: Sequence[Candidate], wanted: Platform) -> Choice:
    """What ``client`` (one of CLIENTS) takes."""
    return _RULES[client](candidates, wanted)


def _containerd(candidates: Sequence[Candidate], wanted: Platform) -> Choice:
    order = runnable(wanted)
    for rank, offer in enumerate(order):
        for number, candidate in enumerate(candidates):
            # An entry without a label is judged by its config, after all labelled ones.
            if candidate.label is not None and _equal(candidate.label, offer):
                return Choice("containerd", number, _why(candidate.label, wanted, rank))
    for offer in order:
        for number, candidate in enumerate(candidates):
            if candidate.label is None and _equal(candidate.config, offer):
                return Choice("containerd", number, "no label; its config says it fits")
    return Choice("containerd", None, _why_not(candidates, wanted, order))


def _docker(candidates: Sequence[Candidate], wanted: Platform) -> Choice:
    found = _containerd(candidates, wanted)
    return Choice("docker", found.index, found.why)


def _docker_local(candidates: Sequence[Candidate], wanted: Platform) -> Choice:
    for number, candidate in enumerate(candidates):
        if _equal(candidate.label or candidate.config, normalise(wanted)):
            return Choice("docker-local", number, "exactly what was asked for")
    return Choice("docker-local", None, "a local image must fit exactly; no fallback")


def _docker_20(candidates: Sequence[Candidate], wanted: Platform) -> Choice:
    found = _containerd(candidates, wanted)
    if found.index is not None:
        return Choice("docker-20.10", found.index, found.why)
    asked = normalise(wanted)
    if asked.architecture == "arm":
        for number, candidate in enumerate(candidates):
            label = candidate.label
            if label and (label.os, label.architecture) == (asked.os, asked.architecture):
                why = f"nothing fits, so the first ARM entry, {label}, whether it runs or not"
                return Choice("docker-20.10", number, why)
    return Choice("docker-20.10", None, found.why)


_SKOPEO_VARIANTS = {"arm": ("v8", "v7", "v6", "v5"), "arm64": ("v8",)}


def _skopeo(candidates: Sequence[Candidate], wanted: Platform) -> Choice:
    known = _SKOPEO_VARIANTS.get(wanted.architecture, ())
    if wanted.variant in known:
        variants = (*known[known.index(wanted.variant) :], "")
    elif wanted.variant:
        variants = (wanted.variant, "")
    else:
        variants = ("", *known)
    for variant in variants:
        for number, candidate in enumerate(candidates):
            label = candidate.label
            if label and (label.os, label.architecture, label.variant) == (
                wanted.os, wanted.architecture, variant,
            ):  # fmt: skip
                why = (
                    "exactly what was asked for"
                    if variant == wanted.variant
                    else (
                        f"falls back to {label}" if variant else "takes an entry without a variant"
                    )
                )
                return Choice("skopeo", number, why)
    for number, candidate in enumerate(candidates):
        if candidate.label is None:
            return Choice("skopeo", number, "nothing fits, so the first entry without a label")
    return Choice("skopeo", None, f"no entry is labelled {wanted} or a lower variant")


def _crane(candidates: Sequence[Candidate], wanted: Platform) -> Choice:
    for number, candidate in enumerate(candidates):
        label = candidate.label or Platform("linux", "amd64")
        if (label.os, label.architecture) != (wanted.os, wanted.architecture):
            continue
        if wanted.variant and label.variant != wanted.variant:
            continue
        why = "exactly what was asked for"
        if label.variant != wanted.variant:
            why = f"no variant was asked for, so the first {wanted.architecture} entry, {label}"
        elif candidate.label is None:
            why = "an entry without a label counts as linux/amd64"
        return Choice("crane", number, why)
    return Choice("crane", None, f"no entry is labelled exactly {wanted}")


def _equal(label: Platform, offer: Platform) -> bool:
    label = normalise(label)
    return (label.os, label.architecture, label.variant) == (
        offer.os, offer.architecture, offer.variant,
    )  # fmt: skip


def _why(label: Platform, wanted: Platform, rank: int) -> str:
    if rank > 0:
        return f"no entry for {normalise(wanted)}; {normalise(label)} is the next that it runs"
    if label.architecture == "arm" and not label.variant:
        return "an ARM entry without a variant counts as v7"
    return "exactly what was asked for"


def _why_not(candidates: Sequence[Candidate], wanted: Platform, order: Sequence[Platform]) -> str:
    asked = normalise(wanted)
    for candidate in candidates:
        label = candidate.label or candidate.config
        if label.architecture == asked.architecture == "arm" and not label.variant:
            return f"an ARM entry without a variant counts as v7, which {asked} does not run"
    tried = ", ".join(str(offer) for offer in order[:6])
    return f"no entry for any of {tried}"


_RULES: dict[str, Callable[[Sequence[Candidate], Platform], Choice]] = {
    "docker-20.10": _docker_20,
    "docker": _docker,
    "docker-local": _docker_local,
    "containerd": _containerd,
    "skopeo": _skopeo,
    "crane": _crane,
}
