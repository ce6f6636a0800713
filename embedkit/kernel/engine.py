"""The order of attack: want by want, what failed once more, then as little as possible."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from embedkit.kernel.blame import Blamer, missing_symbol
from embedkit.kernel.exhaust import exhaust
from embedkit.kernel.reach import Reach
from embedkit.kernel.search import Search
from embedkit.kernel.search_expr import GaveUp
from embedkit.kernel.wants import Obstacle, Prefer, Refused, Want
from embedkit.kernel.world import TRI, World

KEPT = "kept as it was"
_RANK = {"asked": 0, "necessary": 1, "recommended": 2}


class Engine:
    """Works on one World; ``held`` are the wants that its decisions fulfil."""

    def __init__(self, world: World, prefer: Prefer) -> None:
        self.world = world
        self.search = Search(world, prefer)
        self.held: list[Want] = []
        self.refused: list[Refused] = []
        self._reach: Reach | None = None

    def run(self, wants: Iterable[Want]) -> None:
        """Fulfils what can be fulfilled, important wants first, and minimises."""
        ordered = sorted(wants, key=lambda want: _RANK.get(want.level, 3))
        with _deep_recursion():
            for want in ordered:
                self._add(want)
            self._minimise()
            needed = set(self.world.decisions)
            self._keep_what_was_on()
            self._minimise(spare=needed)

    @property
    def reach(self) -> Reach:
        """What is possible with the protected symbols as they are."""
        if self._reach is None:
            self._reach = Reach(self.world, self.world.frozen)
        return self._reach

    def _add(self, want: Want) -> None:
        defined = [name for name in want.symbols if self.world.symbol(name) is not None]
        if not defined:
            if want.value != "n":
                blame = missing_symbol(self.world.tree, want.symbol)
                self.refused.append(Refused(want, blame.obstacle, blame.chain))
            else:
                self.held.append(want)
            return
        if self._together(self.held, want):
            self.held.append(want)
            return
        self._second_look(want)

    def _together(self, held: list[Want], want: Want) -> bool:
        """Fulfils ``want`` on top of the present decisions without losing ``held``."""
        world = self.world
        mark = world.mark()
        try:
            for _ in self.search.achieve(want, held):
                if not all(world.holds(other) for other in held):
                    continue
                for _ in self.search.repair():
                    if all(world.holds(o) for o in [*held, want]) and world.legal():
                        return True
        except GaveUp:
            pass
        world.undo(mark)
        return False

    def _all(self, wants: list[Want]) -> bool:
        """Fulfils ``wants`` from the source config on, in their order."""
        self.world.keep({})
        return all(self._together(wants[:index], want) for index, want in enumerate(wants))

    def _second_look(self, want: Want) -> None:
        saved = dict(self.world.decisions)
        via = dict(self.search.via)
        alone = False
        refusal = self._impossible(want)
        if refusal is None:
            alone = self._all([want])
            refusal = self._excluded(want) if alone else None
        if refusal is None:
            if alone and self._all([want, *self.held]):
                self.held.append(want)
                return
            verdict = exhaust(self.world, [*self.held, want])
            if verdict.decisions is not None:
                self.world.keep(verdict.decisions)
                self.held.append(want)
                return
            refusal = self._conflict(want, alone, verdict.proven)
        self.world.keep(saved)
        self.search.via = via
        self.refused.append(refusal)

    # Why not

    def _impossible(self, want: Want) -> Refused | None:
        """A proof that ``want`` cannot be had whatever else is set, or None."""
        world = self.world
        if want.value not in ("y", "m", "n", "on"):
            return self._impossible_text(want)
        needed = _accepted(want)
        names = [name for name in want.symbols if world.symbol(name) is not None]
        if any(self.reach.of(name) & needed for name in names):
            return None
        blamer = Blamer(world, self.reach)
        name = names[0]
        if want.value == "n":
            blame = blamer.lowering(name)
        elif want.value == "m" and world.syms[name].orig_type == world.lib.BOOL:
            return Refused(want, Obstacle.IMPOSSIBLE, f"{name} is no module: it is y or n")
        else:
            blame = blamer.raising(name, 1 if 1 in needed else 2)
        allow = self._unlocking(want)
        obstacle = Obstacle.PROTECTED if allow else blame.obstacle
        if obstacle is Obstacle.PROTECTED and not allow:
            obstacle = Obstacle.IMPOSSIBLE
        return Refused(want, obstacle, blame.chain, allow)

    def _impossible_text(self, want: Want) -> Refused | None:
        symbol = self.world.syms[want.symbol]
        if symbol.orig_type in self.world.logical:
            return Refused(
                want, Obstacle.IMPOSSIBLE, f"{want.symbol} is y, m or n, not '{want.value}'"
            )
        if want.symbol in self.world.frozen:
            why = self.world.protections[want.symbol].why
            return Refused(
                want, Obstacle.PROTECTED, f"{want.symbol} is protected: {why}", (want.symbol,)
            )
        if not any(node.prompt for node in symbol.nodes):
            return Refused(want, Obstacle.IMPOSSIBLE, f"{want.symbol} cannot be set (no prompt)")
        return self._out_of_range(want)

    def _out_of_range(self, want: Want) -> Refused | None:
        """Whether a number symbol cannot take the value at all."""
        world = self.world
        symbol = world.syms[want.symbol]
        if symbol.orig_type == world.lib.STRING:
            return None
        base = 16 if symbol.orig_type == world.lib.HEX else 10
        try:
            number = int(want.value, base)
        except ValueError:
            return Refused(
                want, Obstacle.IMPOSSIBLE, f"{want.symbol} is a number, not '{want.value}'"
            )
        for low, high, condition in symbol.orig_ranges:
            # Only bounds that can never change are a proof.
            if condition is world.kconf.y and low.name[:1].isdigit() and high.name[:1].isdigit():
                if not int(low.name, base) <= number <= int(high.name, base):
                    return Refused(
                        want,
                        Obstacle.IMPOSSIBLE,
                        f"{want.symbol} must be from {low.name} to {high.name}",
                    )
                break
        return None

    def _unlocking(self, want: Want) -> tuple[str, ...]:
        """The protected symbols that a way to ``want`` would change; empty if there is none."""
        world = self.world
        frozen, world.frozen = world.frozen, frozenset()
        try:
            if not self._all([want]):
                return ()
            found = {name for name in frozen if world.value(name) != world.base_values[name]}
            # Only what the way itself sets: the rest follows from it.
            return tuple(sorted(found & set(world.decisions) or found))
        finally:
            world.keep({})
            world.frozen = frozen

    def _excluded(self, want: Want) -> Refused | None:
        """A proof that ``want`` cannot be had next to what is held, or None.

        Cheap, and so tried before any search: one --disable can shut out dozens of wants.
        """
        if want.value not in TRI and want.value != "on":
            return None

        def possible(held: list[Want]) -> bool:
            reach = Reach(self.world, self.world.frozen, _assumed(held))
            return any(reach.of(name) & _accepted(want) for name in want.symbols)

        if possible(self.held):
            return None
        off_first = sorted(self.held, key=lambda other: other.value != "n")
        for other in off_first:
            if not possible([other]):
                return Refused(
                    want, Obstacle.CONFLICT, f"{want.text} and {other.text} exclude each other"
                )
        return Refused(
            want,
            Obstacle.CONFLICT,
            f"{want.text} cannot be had together with what else is wanted",
        )

    def _conflict(self, want: Want, alone: bool, proven: bool) -> Refused:
        world = self.world
        if not alone:
            verdict = exhaust(world, [want])
            alone = verdict.decisions is not None
            if not alone:
                if verdict.proven:
                    return self._exhausted(want)
                return Refused(
                    want,
                    Obstacle.NOT_FOUND,
                    f"no way to {want.text} was found, though none is ruled out",
                    self._unlocking(want),
                    proven=False,
                )
        partner = self._partner(want)
        if partner is not None:
            contradiction = self._contradiction([partner, want])
            return Refused(
                want,
                Obstacle.CONFLICT,
                f"{want.text} and {partner.text} exclude each other",
                proven=proven or contradiction,
            )
        proven = proven or self._contradiction([*self.held, want])
        others = ", ".join(other.symbol for other in self.held[:6])
        return Refused(
            want,
            Obstacle.CONFLICT,
            f"{want.text} cannot be had together with what else is wanted ({others}…)",
            proven=proven,
        )

    def _exhausted(self, want: Want) -> Refused:
        allow = self._unlocking(want)
        if allow:
            names = ", ".join(allow)
            return Refused(want, Obstacle.PROTECTED, f"{want.symbol} needs {names} changed", allow)
        return Refused(
            want, Obstacle.IMPOSSIBLE, f"no setting at all makes {want.text}: everything was tried"
        )

    def _partner(self, want: Want) -> Want | None:
        """One held want with which ``want`` cannot be had, if a single one is to blame."""
        for other in self.held:
            if self._all([other, want]) or self._all([want, other]):
                continue
            verdict = exhaust(self.world, [other, want])
            if verdict.decisions is None:
                return other
        return None

    def _contradiction(self, wants: list[Want]) -> bool:
        assumed = _assumed(wants)
        return Reach(self.world, self.world.frozen, assumed).contradictory() is not None

    def _keep_what_was_on(self) -> None:
        """Holds on to what the new assignments would turn off as a side effect.

        NETFILTER_ADVANCED, for one, takes away the defaults of a dozen symbols. A symbol that is
        still on offer is given its old value; what a want excludes, or what is no longer
        offered, stays off and is reported.
        """
        world = self.world
        for name, before in world.base_values.items():
            if before not in ("y", "m") or world.value(name) != "n":
                continue
            symbol = world.syms[name]
            if not symbol.visibility or name in world.decisions:
                continue
            want = Want(name, "on", KEPT, KEPT, "keep")
            mark = world.mark()
            if (
                world.assign(name, before)
                and all(world.holds(other) for other in [*self.held, want])
                and world.legal()
            ):
                self.held.append(want)
            else:
                world.undo(mark)

    # As little as possible

    def _minimise(self, spare: Iterable[str] = ()) -> None:
        """Takes back every decision, but those in ``spare``, without which all wants still hold."""
        world = self.world
        settled = frozenset(spare)
        changed = True
        while changed:
            changed = False
            for name in reversed([name for name in world.decisions if name not in settled]):
                changed |= world.drop_if(name, self._fine)

    def _fine(self) -> bool:
        return all(self.world.holds(want) for want in self.held) and self.world.legal()


def _accepted(want: Want) -> frozenset[int]:
    if want.value == "on":
        return frozenset((1, 2))
    return frozenset((TRI[want.value],))


def _assumed(wants: Iterable[Want]) -> dict[str, frozenset[int]]:
    """What is known of symbols while ``wants`` hold."""
    return {
        want.symbol: _accepted(want)
        for want in wants
        if not want.alternatives and (want.value in TRI or want.value == "on")
    }


@contextmanager
def _deep_recursion() -> Iterator[None]:
    """Expressions such as all selectors of REGMAP nest hundreds deep, and goals on top of them."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(max(before, 50_000))
    try:
        yield
    finally:
        sys.setrecursionlimit(before)
