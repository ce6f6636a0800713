"""From a profile to wants: what an engine needs of this config on this kernel, as plain data."""

from __future__ import annotations

from collections.abc import Iterable

from embedkit.kernel.audit import Audit, Check, Question, State, audit
from embedkit.kernel.config import KernelConfig, canonical_arch
from embedkit.kernel.expression import Expression, Group, Name
from embedkit.kernel.profile import Level, Profile, Weight
from embedkit.kernel.resolve import resolve
from embedkit.kernel.tree import KernelTree
from embedkit.kernel.wants import Prefer, Resolution, Want

# Needed before the root file system is there, so a module would come too late.
_EARLY = frozenset(
    (
        *("EXT2_FS", "EXT3_FS", "EXT4_FS", "F2FS_FS", "SQUASHFS", "UBIFS_FS", "BTRFS_FS"),
        *("TMPFS", "DEVTMPFS", "DEVTMPFS_MOUNT", "UNIX", "BLK_DEV_INITRD"),
    )
)
ALL = "all"


def wants_for(
    tree: KernelTree,
    full: KernelConfig,
    profile: Profile,
    features: Iterable[str] = (),
    avoid: frozenset[str] = frozenset(),
    coming: frozenset[str] = frozenset(),
) -> tuple[Want, ...]:
    """What ``profile`` asks of the full config ``full`` on ``tree``.

    That is every necessary requirement and what the profile's core and necessary features need
    (for Docker: one storage driver); ``features`` names more of them, or ``all``. Where any one
    of several things will do, what is on or in ``coming`` wins, then the first that does not
    need a symbol in ``avoid``. Raises InputError for a feature that the profile lacks.
    """
    names = tuple(dict.fromkeys(features))
    everything = ALL in names
    asked = tuple(profile.features) if everything else names
    question = Question(
        full,
        profile,
        tree.version,
        canonical_arch(tree.srcarch),
        None,
        tuple(name for name in names if name != ALL),
    )
    result = audit(question)
    found: list[Want] = []
    for check in result.checks:
        if (check.level is Level.NECESSARY or everything) and _applies(check):
            found.append(_want(profile, check.symbol.name, check.section.title, check.level.value))
    main = [
        name
        for name, weight in profile.weights.items()
        if weight in (Weight.CORE, Weight.NECESSARY)
    ]
    chooser = _Chooser(tree, result, avoid, coming)
    for name in dict.fromkeys([*main, *asked]):
        feature = profile.features[name]
        if tree.version is not None and not feature.kernel.holds(tree.version):
            continue
        level = "necessary" if name in main or name in names else "optional"
        for symbol in chooser.symbols(feature.needs):
            found.append(_want(profile, symbol, feature.title, level))
    return tuple(found)


def plan(
    tree: KernelTree,
    source: KernelConfig,
    profile: Profile,
    *,
    features: Iterable[str] = (),
    more: Iterable[Want] = (),
    allow: Iterable[str] = (),
    prefer: Prefer = Prefer.AUTO,
) -> Resolution:
    """Resolves what ``profile`` asks for, and ``more``, on ``tree``.

    Where one way to a feature turns out not to be had, the other ways are tried.
    """
    tree.load(source)
    full = tree.full_config()
    extra, names, allowed = tuple(more), tuple(features), tuple(allow)
    avoid = frozenset(want.symbol for want in extra if want.value == "n")
    coming = frozenset(want.symbol for want in extra) - avoid
    wants = wants_for(tree, full, profile, names, avoid, coming)
    while True:
        resolution = resolve(tree, source, [*extra, *wants], allow=allowed, prefer=prefer)
        refused = frozenset(item.want.symbol for item in resolution.refused)
        if refused <= avoid:
            return resolution
        avoid |= refused
        other = wants_for(tree, full, profile, names, avoid, coming)
        if other == wants:
            return resolution
        wants = other


def _applies(check: Check) -> bool:
    """Whether the requirement asks for something that this kernel can have."""
    if check.state in (State.NOT_IN_KERNEL, State.COVERED):
        return False
    return not check.group.first


def _want(profile: Profile, name: str, feature: str, level: str) -> Want:
    symbol = profile.symbol(name)
    return Want(name, "on", symbol.why, feature, level, early=name in _EARLY)


class _Chooser:
    """Picks the symbols of one way to fulfil an expression."""

    def __init__(
        self, tree: KernelTree, result: Audit, avoid: frozenset[str], coming: frozenset[str]
    ) -> None:
        self._tree = tree
        self._profile = result.question.profile
        self._config = result.question.config
        self._avoid = avoid
        self._coming = coming

    def symbols(self, expression: Expression) -> tuple[str, ...]:
        """In the expression's order, each once."""
        return tuple(dict.fromkeys(self._of(expression)))

    def _of(self, expression: Expression) -> list[str]:
        if isinstance(expression, Group):
            ways = [self._of(term) for term in expression.terms]
            if not expression.any:
                return [symbol for way in ways for symbol in way]
            ways = [
                way
                for way, term in zip(ways, expression.terms, strict=True)
                if way and self._possible(term)
            ]
            return min(ways, key=self._cost, default=[])
        if expression.feature:
            feature = self._profile.features.get(expression.name)
            return self._of(feature.needs) if feature is not None else []
        return [expression.name] if self._exists(expression.name) else []

    def _possible(self, term: Expression) -> bool:
        """Whether a feature's kernel range, where the way is a feature, holds here."""
        if not isinstance(term, Name) or not term.feature or self._tree.version is None:
            return True
        feature = self._profile.features.get(term.name)
        return feature is None or feature.kernel.holds(self._tree.version)

    def _exists(self, name: str) -> bool:
        """Whether the kernel has the symbol, or the profile says that it must."""
        if self._tree.has(name):
            return True
        symbol = self._profile.symbol(name)
        version = self._tree.version
        if symbol.arch and canonical_arch(self._tree.srcarch) not in symbol.arch:
            return False
        return version is None or not symbol.exists or symbol.exists.holds(version)

    def _cost(self, way: list[str]) -> tuple[int, int]:
        """What cannot be had comes last; then what needs the fewest changes comes first."""
        blocked = sum(symbol in self._avoid for symbol in way)
        missing = [name for name in way if not self._config.enabled(name)]
        return (blocked, sum(name not in self._coming for name in missing))
