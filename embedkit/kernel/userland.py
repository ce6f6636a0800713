"""Holds Buildroot's own configuration against what a Docker target needs of its userland.

The requirements are a profile (``buildroot-docker``), audited by the same engine as a kernel's;
here is what is no yes or no: sizes, and which way Docker is to come onto the board.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from embedkit.kernel.audit import Audit, Question, audit
from embedkit.kernel.buildroot import BuildrootConfig
from embedkit.kernel.config import KernelVersion
from embedkit.kernel.profile import Level, Profile, Size

PACKAGES = "packages"
_BUNDLE_ONLY = "bundle-arch"
# mke2fs reads a number without a suffix as KiB (fs/ext2/Config.in says so, too).
_SIZE = re.compile(r"(\d+)([kmgt]?)", re.IGNORECASE)
_FACTOR = {"": 1 << 10, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
# Long before this many digits a size is a slip of the hand.
_MOST_DIGITS = 15


class Source(StrEnum):
    """Where Docker's programs come from."""

    BUNDLE = "bundle"
    PACKAGES = "packages"


class SizeCheck(NamedTuple):
    """A size and how it stands; ``bytes`` is None where it is not given or not readable."""

    size: Size
    raw: str
    bytes: int | None

    @property
    def good(self) -> bool:
        """Whether it is big enough."""
        return self.bytes is not None and self.bytes >= self.size.at_least_bytes


class Userland(NamedTuple):
    """The result: the audit, the sizes, and the way that was assumed."""

    audit: Audit
    sizes: tuple[SizeCheck, ...]
    source: Source

    def failed(self, bar: Level) -> bool:
        """Whether something of level ``bar`` or above is not there."""
        levels = list(Level)[: list(Level).index(bar) + 1]
        small = any(not check.good and check.size.level in levels for check in self.sizes)
        return small or self.audit.failed(bar)


def check(
    config: BuildrootConfig,
    profile: Profile,
    *,
    source: Source | None = None,
    version: KernelVersion | None = None,
    root_grows: bool = False,
) -> Userland:
    """Audits ``config``; without ``source``, packages count where docker-engine is chosen.

    ``version`` is Buildroot's own, where the config does not say it; ``root_grows`` says that the
    root file system is enlarged later, so that its size in the config does not matter.
    """
    if source is None:
        chosen = config.enabled("BR2_PACKAGE_DOCKER_ENGINE")
        source = Source.PACKAGES if chosen else Source.BUNDLE
    required: tuple[str, ...] = ()
    if source is Source.PACKAGES:
        weights = {name: own for name, own in profile.weights.items() if name != _BUNDLE_ONLY}
        profile = profile._replace(weights=weights)
        required = (PACKAGES,) if PACKAGES in profile.features else ()
    result = audit(Question(config, profile, version, required_features=required))
    sizes = () if root_grows else tuple(_sizes(config, profile))
    return Userland(result, sizes, source)


def _sizes(config: BuildrootConfig, profile: Profile) -> list[SizeCheck]:
    found = []
    for size in profile.sizes:
        if size.when and not config.enabled(size.when):
            continue
        raw = config.text_value(size.symbol)
        if not raw and not config.is_full:
            continue
        found.append(SizeCheck(size, raw, parse_size(raw)))
    return found


def parse_size(text: str) -> int | None:
    """Bytes of ``60M`` as mke2fs reads it, or None."""
    match = _SIZE.fullmatch(text.strip())
    if match is None or len(match.group(1)) > _MOST_DIGITS:
        return None
    return int(match.group(1)) * _FACTOR[match.group(2).lower()]
