"""What every test shares: the ``needs`` marker.

``@pytest.mark.needs("root", "loop", "network", "program:xz", ...)`` names what a test needs
beyond Python. On a user's machine the test is skipped with the reason; with CI set in the
environment it fails, so that nothing is skipped there unnoticed.
"""

from __future__ import annotations

import os

import hypothesis
import pytest
from support.needs import missing

# A shared machine is slow now and then; a test that fails for it says nothing about the code.
hypothesis.settings.register_profile("house", deadline=None)
hypothesis.settings.load_profile("house")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
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
