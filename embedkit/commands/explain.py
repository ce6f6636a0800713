"""``embedkit explain``: what a kernel symbol is for, and which symbol an error message misses."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from typing import Any

from embedkit.commands import explain_tree
from embedkit.errors import InputError
from embedkit.kernel import explain, profile_file
from embedkit.kernel.explain import Explanation, FeatureUse
from embedkit.kernel.message import MESSAGE_LIMIT, Match
from embedkit.kernel.profile import Profile
from embedkit.report.model import Finding, Report, Section, Status, Table
from embedkit.ui import Ui

_MOST_MATCHES = 10


@dataclass(frozen=True)
class _Knowledge:
    """The profiles that answer, and what has to be said of them."""

    profiles: tuple[Profile, ...]
    notes: tuple[str, ...] = ()


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of this command."""
    parser.add_argument(
        "text",
        nargs="+",
        metavar="SYMBOL|MESSAGE",
        help="a kernel option (CONFIG_VETH, veth), a kernel module (xt_addrtype), or an error "
        "line of dockerd, runc, iptables… in quotes; '-' reads it from standard input",
    )
    parser.add_argument(
        "--profile",
        metavar="NAME",
        help="answer from this profile only: a name, or a .toml file (default: all there are)",
    )
    explain_tree.add_arguments(parser)


def run(args: argparse.Namespace, ui: Ui) -> Report:
    """Explains. Exit code 1 where the profiles know nothing about it."""
    text = " ".join(args.text).strip()
    if text == "-":
        text = sys.stdin.read(MESSAGE_LIMIT).strip()
    if not text:
        raise InputError("there is nothing to explain", hint="embedkit explain CONFIG_VETH")
    if args.tree is not None:
        return explain_tree.run(args, text)
    if args.config or args.arch:
        raise InputError("--config and --arch need --tree DIR, a kernel's source folder")
    knowledge = _knowledge(args.profile)
    if explain.looks_like_symbol(text):
        return _symbol_report(text, knowledge)
    return _message_report(text, knowledge)


def _knowledge(name: str | None) -> _Knowledge:
    if name:
        return _Knowledge((profile_file.load(name),))
    profiles, notes = [], []
    for known in profile_file.available():
        try:
            profiles.append(profile_file.load(known))
        except InputError as error:
            # A user's broken profile must not keep the others from answering.
            notes.append(f"profile '{known}' is left out: {error}")
    return _Knowledge(tuple(profiles), tuple(notes))


# -- symbols -------------------------------------------------------------------------------


def _symbol_report(text: str, knowledge: _Knowledge) -> Report:
    answer = explain.by_symbol(text, knowledge.profiles)
    if answer is None:
        guess = explain.suggestion(text, knowledge.profiles)
        notes = (guess or "an error message is explained too: give the whole line in quotes",)
        return _nothing(f"no profile knows '{text}'", knowledge, notes, text)
    symbol = answer.symbol
    return Report(
        command="explain",
        title=f"CONFIG_{symbol.name}",
        verdict=symbol.why or f"CONFIG_{symbol.name} is asked for, but no profile says why",
        status=Status.OK,
        facts=tuple(_facts(answer)),
        sections=tuple(_sections(answer)),
        notes=knowledge.notes,
        data={"kind": "symbol", "text": text, "symbols": [_symbol_data(answer)]},
    )


def _facts(answer: Explanation) -> list[tuple[str, str]]:
    symbol = answer.symbol
    facts = [("exists", answer.exists)]
    if symbol.was:
        facts.append(("was", ", ".join(f"CONFIG_{old}" for old in symbol.was)))
    if symbol.implied_before:
        facts.append(("before that", "kernels do the same without it"))
    if answer.now:
        facts.append(("now", ", ".join(f"CONFIG_{new}" for new in answer.now)))
    if symbol.module:
        facts.append(("module", symbol.module))
    if symbol.instead:
        facts.append(("not needed with", symbol.instead))
    if symbol.security:
        facts.append(("about", "security, not whether containers run"))
    return facts


def _sections(answer: Explanation) -> list[Section]:
    sections = []
    if answer.symbol.symptom:
        sections.append(Section("Without it", text=answer.symbol.symptom.replace(" / ", "\n")))
    if answer.features:
        rows = tuple(
            (
                use.feature.title,
                "itself" if use.direct else "through another feature",
                _weights(use),
            )
            for use in answer.features
        )
        sections.append(
            Section(
                "Features that need it", table=Table(("feature", "how", "how much it counts"), rows)
            )
        )
    if answer.uses:
        places = tuple(
            (
                use.profile,
                use.level.value,
                f"{use.section} / {use.driver}" if use.driver else use.section,
                str(use.kernel) if use.kernel else "",
            )
            for use in answer.uses
        )
        columns = ("profile", "level", "section", "kernels")
        sections.append(Section("Asked for by", table=Table(columns, places)))
    return sections


def _weights(use: FeatureUse) -> str:
    """``core: docker, k3s; extra: podman``."""
    by_weight: dict[str, list[str]] = {}
    for profile, weight in use.weights:
        by_weight.setdefault(weight.value, []).append(profile)
    return "; ".join(f"{weight}: {', '.join(named)}" for weight, named in by_weight.items()) or "-"


# -- messages ------------------------------------------------------------------------------


def _message_report(text: str, knowledge: _Knowledge) -> Report:
    matches = explain.by_message(text, knowledge.profiles)[:_MOST_MATCHES]
    if not matches:
        note = (
            "not every error comes from the kernel's config: 'embedkit check-kernel' audits it as "
            "a whole"
        )
        return _nothing("no profile knows this message", knowledge, (note,), text)
    best = matches[0].symbol
    others = [match for match in matches if match.score == matches[0].score][1:]
    named = ", ".join(f"CONFIG_{match.symbol.name}" for match in (matches[0], *others))
    return Report(
        command="explain",
        title="What this message misses",
        verdict=f"likely missing: {named}" + (" (one of them, or all)" if others else ""),
        status=Status.OK,
        facts=(("message", text if len(text) <= 200 else text[:199] + "…"),),
        sections=(
            Section("Symbols", findings=tuple(_finding(match) for match in matches)),
            *([Section(f"CONFIG_{best.name}", text=best.why)] if not others else []),
        ),
        notes=(
            *knowledge.notes,
            f"'embedkit explain {best.name}' tells more; 'embedkit check-kernel' whether it is set",
        ),
        data={
            "kind": "message",
            "text": text,
            "symbols": [
                {
                    "score": match.score,
                    "certain": match.certain,
                    "words": list(match.words),
                    **_symbol_data(_explain(match, knowledge)),
                }
                for match in matches
            ],
        },
    )


def _explain(match: Match, knowledge: _Knowledge) -> Explanation:
    answer = explain.by_symbol(match.symbol.name, knowledge.profiles)
    assert answer is not None  # it came from these profiles
    return answer


def _finding(match: Match) -> Finding:
    symbol = match.symbol
    if match.certain:
        how = "its absence says this" if match.score == 1 else "its absence may say this too"
    elif symbol.module in match.words:
        how = f"its module {symbol.module} was not found: it is missing or built in"
    else:
        how = f"its absence says much the same ({match.score:.0%} of its words)"
    return Finding(
        id=f"CONFIG_{symbol.name}",
        status=Status.WARN if match.score == 1 or match.certain else Status.UNKNOWN,
        label=f"CONFIG_{symbol.name}",
        state=how,
        detail=f"{symbol.why}\nExists {symbol.exists}." if symbol.exists else symbol.why,
        hint=f"set CONFIG_{symbol.name}=y" + (" or =m" if symbol.module else ""),
    )


# -- both ----------------------------------------------------------------------------------


def _nothing(verdict: str, knowledge: _Knowledge, notes: tuple[str, ...], text: str) -> Report:
    return Report(
        command="explain",
        title="Explain",
        verdict=verdict,
        status=Status.UNKNOWN,
        exit_code=1,
        notes=(*knowledge.notes, *notes),
        data={"kind": "unknown", "text": text, "symbols": []},
    )


def _symbol_data(answer: Explanation) -> dict[str, Any]:
    symbol = answer.symbol
    return {
        "symbol": symbol.name,
        "why": symbol.why,
        "symptom": symbol.symptom,
        "exists": {
            "from": str(symbol.exists.low) if symbol.exists.low else None,
            "before": str(symbol.exists.high) if symbol.exists.high else None,
        },
        "was": list(symbol.was),
        "now": list(answer.now),
        "module": symbol.module or None,
        "arch": list(symbol.arch),
        "instead": symbol.instead or None,
        "security": symbol.security,
        "features": [
            {
                "name": use.feature.name,
                "title": use.feature.title,
                "direct": use.direct,
                "weights": {profile: weight.value for profile, weight in use.weights},
            }
            for use in answer.features
        ],
        "profiles": [
            {
                "profile": use.profile,
                "section": use.section,
                "driver": use.driver or None,
                "level": use.level.value,
                "kernel": str(use.kernel) if use.kernel else None,
            }
            for use in answer.uses
        ],
    }
