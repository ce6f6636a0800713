"""What each client takes: the matrix that was measured with the real clients."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.oci.platform import Platform, accepts, parse
from embedkit.oci.resolve import CLIENTS, Candidate, choose, resolve

ARM = Platform("linux", "arm")
V5, V6, V7 = (Platform("linux", "arm", variant) for variant in ("v5", "v6", "v7"))
ARM64, ARM64V8 = Platform("linux", "arm64"), Platform("linux", "arm64", "v8")
X86, AMD64, AMD64V3 = (
    Platform("linux", "386"), Platform("linux", "amd64"), Platform("linux", "amd64", "v3"),
)  # fmt: skip

INDEXES = [
    (ARM,), (V6,), (V5,), (V7, V6), (V6, V7), (ARM64V8,), (ARM64,), (V7, ARM64), (X86,),
    (AMD64V3, AMD64),
]  # fmt: skip

# Rows as in the measurement: which entry of each of INDEXES (None: none).
MEASURED = {
    ("crane", "arm/v7"): [None, None, None, 0, 1, None, None, 0, None, None],
    ("skopeo", "arm/v7"): [0, 0, 0, 0, 1, None, None, 0, None, None],
    ("skopeo", "arm/v6"): [0, 0, 0, 1, 0, None, None, None, None, None],
    ("docker-20.10", "arm/v6"): [0, 0, 0, 1, 0, None, None, 0, None, None],
    ("docker-20.10", "arm/v5"): [0, 0, 0, 0, 0, None, None, 0, None, None],
    ("docker", "arm/v6"): [None, 0, 0, 1, 0, None, None, None, None, None],
    ("docker", "arm/v5"): [None, None, 0, None, None, None, None, None, None, None],
    ("docker", "arm/v8"): [0, 0, 0, 0, 1, None, None, 0, None, None],
    ("docker", "arm64"): [0, 0, 0, 0, 1, 0, 0, 1, None, None],
    ("docker", "amd64"): [None, None, None, None, None, None, None, None, 0, 1],
    ("crane", "amd64"): [None, None, None, None, None, None, None, None, None, 0],
}


@pytest.mark.parametrize(("client", "wanted"), list(MEASURED))
def test_the_measured_matrix(client: str, wanted: str) -> None:
    for entries, expected in zip(INDEXES, MEASURED[client, wanted], strict=True):
        candidates = [Candidate(entry, entry) for entry in entries]
        found = choose(client, candidates, parse(wanted))
        assert found.index == expected, f"{wanted} from {[str(e) for e in entries]}"
        assert found.why


def test_a_bare_arm_means_anything_to_crane() -> None:
    assert choose("crane", [Candidate(V6, V6)], ARM).index == 0
    assert choose("docker", [Candidate(V6, V6), Candidate(V7, V7)], ARM).index == 1


def test_entries_without_a_label() -> None:
    candidates = [Candidate(None, V7), Candidate(None, AMD64)]
    assert choose("docker", candidates, parse("amd64")).index == 1
    assert choose("skopeo", candidates, parse("amd64")).index == 0
    assert choose("crane", candidates, parse("amd64")).index == 0
    assert choose("crane", candidates, parse("arm/v7")).index is None


def test_a_local_image_must_fit_exactly() -> None:
    candidates = [Candidate(V7, V7)]
    assert choose("docker-local", candidates, parse("arm/v8")).index is None
    assert choose("docker", candidates, parse("arm/v8")).index == 0


_PLATFORMS = st.sampled_from([ARM, V5, V6, V7, ARM64, ARM64V8, X86, AMD64, AMD64V3])


@given(st.lists(_PLATFORMS, max_size=6), _PLATFORMS)
def test_whatever_is_chosen_is_there_and_the_new_clients_choose_what_runs(
    entries: list[Platform], wanted: Platform
) -> None:
    candidates = [Candidate(entry, entry) for entry in entries]
    for choice in resolve(candidates, wanted):
        assert choice.client in CLIENTS
        assert choice.index is None or 0 <= choice.index < len(entries)
        if choice.client in ("docker", "containerd") and choice.index is not None:
            assert accepts(wanted, entries[choice.index])
        if choice.client == "docker" and choice.index is None:
            assert not any(accepts(wanted, entry) for entry in entries)
