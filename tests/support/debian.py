"""Debian packages for tests: fetched for any architecture, cached, unpacked, never installed.

The packages and apt's lists are embedkit's own (:mod:`embedkit.emulate.apt`), shared with the
reference boards; what tests make of them lies beside, keyed by name and version.
"""

from __future__ import annotations

import functools
import os
from pathlib import Path

import pytest

from embedkit.data import cache_folder
from embedkit.emulate import packages
from embedkit.emulate.apt import Apt
from embedkit.emulate.packages import Package
from embedkit.errors import EmbedkitError
from embedkit.progress import NullProgress
from support import locks


class NotToBeHad(Exception):
    """A download that did not come."""


# Settled when the tests are collected: some give themselves another home later.
_PACKAGES = cache_folder() / "debian"


def cache() -> Path:
    """The one folder of everything that tests make from downloads."""
    locks.CACHE.mkdir(parents=True, exist_ok=True)
    return locks.CACHE


def give_up(reason: str) -> None:
    """Skips the test on a user's machine, fails it in CI."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have it: {reason}", pytrace=False)
    pytest.skip(reason)


@functools.cache
def _apt(arch: str) -> Apt:
    return Apt(_PACKAGES, arch)


@functools.cache
def _package(name: str, arch: str) -> Package:
    try:
        return _apt(arch).find([name])[name]
    except KeyError:
        raise NotToBeHad(f"{name} is not in Debian for {arch}") from None
    except EmbedkitError as error:
        raise NotToBeHad(str(error)) from error


def version(package: str, arch: str) -> str:
    """The newest version that Debian offers for ``arch``. Raises NotToBeHad."""
    return _package(package, arch).version


@functools.cache
def search(pattern: str, arch: str) -> tuple[str, ...]:
    """Names of packages that match ``pattern``, sorted. Raises NotToBeHad."""
    try:
        return _apt(arch).search(pattern)
    except EmbedkitError as error:
        raise NotToBeHad(str(error)) from error


def download(package: str, arch: str = "amd64") -> Path:
    """The package's .deb, from the cache or fetched. Raises NotToBeHad."""
    try:
        return _download(package, arch)
    except EmbedkitError as error:
        # The archive may have replaced the version that old lists name.
        if not _apt(arch).renew():
            raise NotToBeHad(str(error)) from error
    _package.cache_clear()
    try:
        return _download(package, arch)
    except EmbedkitError as error:
        raise NotToBeHad(str(error)) from error


def _download(package: str, arch: str) -> Path:
    return _apt(arch).fetch([_package(package, arch)], NullProgress())[package]


def unpack(package: str, arch: str = "amd64") -> Path:
    """The folder with the package's files; its maintainer scripts are not run."""
    target = cache() / "unpacked" / _package(package, arch).key
    return locks.made_once(target, lambda folder: packages.unpack(download(package, arch), folder))
