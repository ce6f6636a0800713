"""Reads requirement profiles from TOML. The format is described in ``docs/profiles.md``."""

from __future__ import annotations

import re
from pathlib import Path

from embedkit import data
from embedkit.errors import InputError
from embedkit.kernel.expression import names, parse
from embedkit.kernel.profile import (
    Feature,
    Group,
    Level,
    Limit,
    Note,
    Profile,
    Section,
    Size,
    Subject,
    Symbol,
    Versions,
    Weight,
)
from embedkit.schema import Problems, Table, read_toml

FORMAT = 1
_OF = {Subject.KERNEL: "kernel config", Subject.BUILDROOT: "Buildroot config"}
_COMMAND = {Subject.KERNEL: "check-kernel", Subject.BUILDROOT: "check-buildroot"}
_SYMBOL = re.compile(r"[A-Za-z0-9_]+", re.ASCII)


def available(subject: Subject = Subject.KERNEL) -> dict[str, Path]:
    """Name → file of the profiles that ask for something, shipped and the user's own."""
    return {
        name: path
        for name, path in data.names("profiles", ".toml").items()
        if name != "linux-containers" and _subject(path) in (subject.value, None)
    }


def _subject(path: Path) -> str | None:
    """What the file says that it is about; None where that cannot be read."""
    try:
        return read_toml(path).text("subject", Subject.KERNEL.value)
    except InputError:
        return None


def load(name: str, subject: Subject = Subject.KERNEL) -> Profile:
    """The profile called ``name``, or in the file ``name`` (a path ending in .toml).

    Raises InputError for an unknown name, for a profile about something else than ``subject``,
    or for all problems of a file at once.
    """
    profile = _load(name, ())
    if profile.subject is not subject:
        raise InputError(
            f"profile '{name}' is about a {_OF[profile.subject]}, not a {_OF[subject]}",
            hint=f"embedkit {_COMMAND[profile.subject]} takes it",
        )
    return profile


def _load(name: str, parents: tuple[Path, ...]) -> Profile:
    path = data.find("profiles", name, ".toml")
    if path in parents:
        raise InputError(f"profile '{name}' extends itself", where=str(path))
    table = read_toml(path)
    problems = table.problems
    if table.integer("format", required=True) not in (0, FORMAT):
        problems.add("format", f"this embedkit reads format {FORMAT}")
    problems.raise_if_any()
    title = table.text("title", required=True)
    source = table.text("source", required=True)
    notes = table.texts("notes")
    symbols: dict[str, Symbol] = {}
    features: dict[str, Feature] = {}
    weights: dict[str, Weight] = {}
    sections: list[Section] = []
    limits: list[Limit] = []
    for parent in table.texts("extends"):
        base = _load(parent, (*parents, path))
        symbols.update(base.symbols)
        features.update(base.features)
        weights.update(base.weights)
        sections += base.sections
        limits += base.limits
    # Compiling the patterns takes longer than all the rest; a test does it for those that ship.
    is_users = path.parent != data.shipped_folder("profiles")
    symbols.update(_read_symbols(table, check_patterns=is_users))
    features.update(_read_features(table, problems))
    weights.update(_read_weights(table, features, problems))
    sections += [_read_section(section, problems) for section in table.tables("section")]
    limits += [_read_limit(limit) for limit in table.tables("limit")]
    subjects = [subject.value for subject in Subject]
    profile = Profile(
        table.text("name", required=True),
        title,
        source,
        notes,
        tuple(sections),
        symbols,
        features,
        weights,
        tuple(limits),
        Subject(table.choice("subject", subjects, Subject.KERNEL.value)),
        tuple(_read_size(size) for size in table.tables("size")),
    )
    table.finish()
    _check_references(profile, problems)
    problems.raise_if_any()
    return profile


def _read_symbols(table: Table, *, check_patterns: bool) -> dict[str, Symbol]:
    found = {}
    for name, entry in table.named_tables("symbols").items():
        found[name] = Symbol(
            name,
            why=entry.text("why"),
            symptom=entry.text("symptom"),
            match=entry.texts("match"),
            exists=_versions(entry, "exists"),
            was=entry.texts("was"),
            implied_before=entry.boolean("implied_before"),
            module=entry.text("module"),
            arch=entry.texts("arch"),
            instead=entry.text("instead"),
            security=entry.boolean("security"),
        )
        if check_patterns:
            _check_patterns(entry, found[name].match)
        entry.finish()
    return found


def _read_features(table: Table, problems: Problems) -> dict[str, Feature]:
    found = {}
    for name, entry in table.named_tables("feature").items():
        title = entry.text("title", required=True)
        try:
            needs = parse(entry.text("needs", required=True))
        except ValueError as error:
            problems.add(entry.at("needs"), str(error))
            needs = parse("NONE")
        found[name] = Feature(
            name, title, needs, _versions(entry, "kernel"), entry.boolean("security")
        )
        entry.finish()
    return found


def _read_weights(
    table: Table, features: dict[str, Feature], problems: Problems
) -> dict[str, Weight]:
    lists = table.table("features")
    found = {}
    for weight in Weight:
        for name in lists.texts(weight.value):
            if name not in features:
                problems.add(lists.at(weight.value), f"there is no feature '{name}'")
            found[name] = weight
    lists.finish()
    return found


def _read_section(entry: Table, problems: Problems) -> Section:
    title = entry.text("title", required=True)
    level = _level(entry, Level.NECESSARY)
    drivers = entry.boolean("drivers")
    groups = tuple(_read_group(group, level, problems) for group in entry.tables("group"))
    entry.finish()
    return Section(title, groups, drivers)


def _read_group(entry: Table, level: Level, problems: Problems) -> Group:
    symbols = entry.texts("symbols")
    for symbol in symbols:
        if not _SYMBOL.fullmatch(symbol) or symbol.startswith("CONFIG_"):
            problems.add(entry.at("symbols"), f"'{symbol}' is not a symbol (without CONFIG_)")
    notes = []
    for note in entry.tables("note"):
        notes.append(
            Note(
                note.texts("text"), note.texts("set"), note.texts("unset"), note.texts("any_unset")
            )
        )
        note.finish()
    group = Group(
        symbols,
        _level(entry, level),
        _versions(entry, "kernel"),
        entry.text("unless"),
        entry.choice("rule", ("all", "first"), "all") == "first",
        entry.texts("bad"),
        entry.text("driver"),
        entry.text("heading"),
        tuple(notes),
    )
    entry.finish()
    return group


def _read_limit(entry: Table) -> Limit:
    limit = Limit(
        entry.text("path", required=True),
        entry.integer("above", required=True),
        entry.text("hint"),
        entry.text("why"),
    )
    entry.finish()
    return limit


def _read_size(entry: Table) -> Size:
    size = Size(
        entry.text("symbol", required=True),
        entry.text("when"),
        entry.integer("at_least_mib", required=True) << 20,
        _level(entry, Level.NECESSARY),
        entry.text("why"),
        entry.text("symptom"),
        entry.text("hint"),
    )
    entry.finish()
    return size


def _level(entry: Table, default: Level) -> Level:
    return Level(entry.choice("level", [level.value for level in Level], default.value))


def _versions(entry: Table, key: str) -> Versions:
    try:
        return Versions.parse(entry.text(key))
    except ValueError as error:
        entry.problems.add(entry.at(key), str(error))
        return Versions()


def _check_patterns(entry: Table, patterns: tuple[str, ...]) -> None:
    for pattern in patterns:
        try:
            re.compile(pattern)
        except re.error as error:
            entry.problems.add(
                entry.at("match"), f"'{pattern}' is not a regular expression: {error}"
            )


def _check_references(profile: Profile, problems: Problems) -> None:
    for feature in profile.features.values():
        for name in names(feature.needs):
            if name.feature and name.name not in profile.features:
                problems.add(f"feature.{feature.name}", f"there is no feature '@{name.name}'")
    for symbol in profile.symbols.values():
        if symbol.instead and symbol.instead not in profile.features:
            problems.add(f"symbols.{symbol.name}", f"there is no feature '{symbol.instead}'")
    for feature in profile.features.values():
        if _loops(profile, feature.name, ()):
            problems.add(f"feature.{feature.name}", "needs itself")


def _loops(profile: Profile, name: str, path: tuple[str, ...]) -> bool:
    if name in path:
        return True
    feature = profile.features.get(name)
    return feature is not None and any(
        term.feature and _loops(profile, term.name, (*path, name)) for term in names(feature.needs)
    )
