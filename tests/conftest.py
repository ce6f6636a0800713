"""What every test shares: the ``needs`` marker.

``@pytest.mark.needs("root", "loop", "network", "program:xz", ...)`` names what a test needs
beyond Python. On a user's machine the test is skipped with the reason; with CI set in the
environment it fails, so that nothing is skipped there unnoticed.
"""

from __future__ import annotations

import os
import signal

import hypothesis
import pytest
from support.needs import missing

# Run side by side (pytest-xdist), what takes longest begins first: then no worker is left with
# minutes of it when the others have nothing more to do. Beginnings of paths; the longest counts
# that fits, and "" stands for all else.
ORDER = (
    "tests/emulated/",
    "tests/integration/test_readme.py",
    "tests/integration/test_patch_real.py",
    "tests/integration/target/test_serial.py",
    "tests/integration/docker/test_deploy_inits.py",
    "tests/integration/docker/test_deploy_real.py",
    "tests/integration/test_checkconfig_parity.py",
    "tests/integration/test_kernel_fragments_real.py",
    "tests/integration/",
    "",
)

# A shared machine is slow now and then; a test that fails for it says nothing about the code.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")


def pytest_configure() -> None:
    """Begun by nohup or in a script's background, tests ignore these signals, and so would all
    that they start."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, lambda *_: None)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Bytes by their number: some (gzip's) are others in each process, and names must not be."""
    if isinstance(val, bytes) and not val.decode("latin-1").isprintable():
        return f"{len(val)} bytes"
    return None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    def rank(item: pytest.Item) -> int:
        return ORDER.index(max(filter(item.nodeid.startswith, ORDER), key=len))

    if hasattr(config, "workerinput"):  # in a worker of pytest-xdist
        items.sort(key=rank)
    # It waits for kernels that scripts/test has built meanwhile.
    items.sort(key=lambda item: item.path.name == "test_before_after.py")


def pytest_runtest_setup(item: pytest.Item) -> None:
    for mark in item.iter_markers("needs"):
        for what in mark.args:
            reason = missing(what)
            if reason is None:
                continue
            if os.environ.get("CI"):
                pytest.fail(f"CI must have it: {reason}", pytrace=False)
            pytest.skip(reason)
