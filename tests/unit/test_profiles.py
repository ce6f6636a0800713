"""Profiles: those that ship, those that users write, and the language of features."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.configs import audited, everything, without

from embedkit.cli import main
from embedkit.errors import InputError
from embedkit.kernel import profile_file
from embedkit.kernel.audit import Verdict
from embedkit.kernel.config import KernelVersion
from embedkit.kernel.expression import Expression, Grade, Group, Name, Outcome, evaluate, parse
from embedkit.kernel.expression import names as terms
from embedkit.kernel.profile import Level, Versions, Weight

_DOCS = Path(__file__).parents[2] / "docs" / "profiles.md"
_SHIPPED = tuple(profile_file.available())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The user's own profiles."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    profiles = tmp_path / "embedkit" / "profiles"
    profiles.mkdir(parents=True)
    return profiles


def head(name: str, *extends: str) -> str:
    return f'format = 1\nname = "{name}"\ntitle = "T"\nsource = "S"\nextends = {list(extends)}\n'


def example() -> str:
    """The one in the documentation."""
    found = re.search(r"```toml\n(.*?)```", _DOCS.read_text(), re.DOTALL)
    assert found is not None
    return found[1]


# -- those that ship -----------------------------------------------------------------------


@pytest.mark.parametrize("name", _SHIPPED)
def test_shipped_profile_is_whole(name: str) -> None:
    profile = profile_file.load(name)
    assert profile.name == name
    asked = {s for section in profile.sections for group in section.groups for s in group.symbols}
    needed = {t.name for f in profile.features.values() for t in terms(f.needs) if not t.feature}
    for symbol in map(profile.symbol, sorted(asked | needed)):
        assert symbol.why.endswith("."), f"{symbol.name}: why"
        assert symbol.symptom, f"{symbol.name}: symptom"
    for symbol in profile.symbols.values():
        assert symbol.why and symbol.symptom, symbol.name
        assert "\n" not in symbol.symptom + symbol.why, symbol.name
        assert all(re.sub(r"\\.", "", p).islower() for p in symbol.match), symbol.name
        assert all(re.compile(pattern) for pattern in symbol.match), symbol.name
        for old in symbol.was:
            before = profile.symbol(old).exists
            assert symbol.exists.low is not None, f"{symbol.name} was {old}, but since when?"
            assert before.low is None or before.low < symbol.exists.low, f"{symbol.name}, {old}"
    assert set(profile.weights) <= set(profile.features)
    assert Weight.CORE in profile.weights.values()


def test_every_symbol_that_is_known_is_asked_for_or_needed_somewhere() -> None:
    known, used = set(), {"EXT4_USE_FOR_EXT2"}
    for name in _SHIPPED:
        profile = profile_file.load(name)
        known |= set(profile.symbols)
        used |= {s for section in profile.sections for g in section.groups for s in g.symbols}
        used |= {t.name for f in profile.features.values() for t in terms(f.needs)}
        used |= {old for symbol in profile.symbols.values() for old in symbol.was}
    # Behind others: they explain messages.
    assert known - used == {"NETFILTER", "NF_CONNTRACK", "COMPAT_32BIT_TIME"}


_LEGACY = (
    "NETFILTER_XTABLES_LEGACY",
    "IP_NF_IPTABLES_LEGACY",
)
_NFT = ("NF_TABLES", "NFT_COMPAT")


@pytest.mark.parametrize("missing", _LEGACY)
def test_from_6_17_on_the_old_iptables_has_to_be_asked_for(missing: str) -> None:
    for release, verdict in (("6.17.1", Verdict.FAILS), ("7.0.12", Verdict.FAILS)):
        result = audited(without(everything(release=release), [missing, *_NFT]))
        assert result.verdict is verdict, release
        firewall = next(f for f in result.features if f.feature.name == "firewall")
        assert firewall.lacking == (missing,)


@pytest.mark.parametrize("release", ["3.18.0", "5.10.1", "6.1.55"])
def test_older_kernels_have_no_such_options(release: str) -> None:
    result = audited(without(everything(release=release), [*_LEGACY, *_NFT]))
    assert result.verdict is Verdict.RUNS


@pytest.mark.parametrize(
    ("release", "missing", "grade"),
    [
        ("6.12.0", "NETFILTER_XT_NAT", Grade.NO),
        ("6.12.0", "NF_TABLES_IPV4", Grade.NO),
        ("6.12.0", "NFT_MASQ", Grade.YES),
        ("6.12.0", "NFT_COUNTER", Grade.YES),
        ("5.10.0", "NFT_COUNTER", Grade.NO),
        ("6.12.0", "NFT_CHAIN_NAT_IPV4", Grade.YES),
        ("4.19.0", "NFT_CHAIN_NAT_IPV4", Grade.NO),
        ("4.19.0", "NETFILTER_XT_TARGET_MASQUERADE", Grade.YES),
        ("4.14.0", "NETFILTER", Grade.NO),
    ],
)
def test_what_iptables_nft_takes(release: str, missing: str, grade: Grade) -> None:
    result = audited(without(everything(release=release), [missing]))
    assert next(f for f in result.features if f.feature.name == "iptables-nft").grade is grade


# -- a user's own --------------------------------------------------------------------------


def test_the_documented_example_by_path_and_by_name(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "elsewhere.toml"
    path.write_text(example())
    (folder / "gateway.toml").write_text(example())
    for name in (str(path), "gateway"):
        profile = profile_file.load(name)
        assert profile.title == "our gateway"
        assert profile.weights["modem"] is Weight.CORE
        assert profile.weights["btrfs"] is Weight.NECESSARY  # extra in the docker profile
        assert profile.weights["bridge"] is Weight.CORE
        assert profile.sections[-1].groups[1].level is Level.RECOMMENDED
        assert [limit.above for limit in profile.limits] == [10000, 8192]
    assert "gateway" in profile_file.available()


def test_the_documented_example_audits_and_explains(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "gateway.toml").write_text(example())
    config = tmp_path / "config"
    config.write_text(without(everything("gateway"), ["PPP_ASYNC"]))
    assert main(["check-kernel", str(config), "--profile", "gateway"]) == 0
    assert "our gateway will run" in capsys.readouterr().out
    config.write_text(without(everything("gateway"), ["PPP_ASYNC", "PPP_SYNC_TTY"]))
    assert main(["check-kernel", str(config), "--profile", "gateway"]) == 1
    assert main(["explain", "pppd[7]: This system lacks kernel support for PPP."]) == 0
    assert "likely missing: CONFIG_PPP\n" in capsys.readouterr().out
    line = "pppd[212]: Couldn't set tty to PPP discipline: Invalid argument"
    assert main(["explain", line]) == 0
    assert "likely missing: CONFIG_PPP_ASYNC\n" in capsys.readouterr().out
    assert main(["explain", line, "--profile", "docker"]) == 1


def test_a_users_profile_hides_the_shipped_one(folder: Path) -> None:
    (folder / "docker.toml").write_text(head("docker", "linux-containers"))
    assert profile_file.load("docker").sections == ()


def test_all_problems_are_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text(
        head("broken")
        + """
colour = "red"
[features]
core = ["nowhere"]
[symbols.A]
exists = "since 4.9"
match = ["(unclosed"]
instead = "nothing"
whi = "a typo"
[feature.f]
title = "F"
needs = "A & & B"
[feature.g]
title = "G"
needs = "@h | A"
[feature.loop]
title = "L"
needs = "A & @loop"
[[section]]
title = "S"
level = "vital"
[[section.group]]
symbols = ["CONFIG_A", "B-C"]
rule = "any"
[[section.group]]
symbols = [7]
kernel = 4
[[limit]]
above = "many"
"""
    )
    with pytest.raises(InputError) as caught:
        profile_file.load(str(path))
    said = str(caught.value)
    for place in (
        "colour: unknown key",
        "features.core: there is no feature 'nowhere'",
        "symbols.A.exists: ",
        "symbols.A.match: ",
        "symbols.A.whi: unknown key; did you mean 'why'",
        "symbols.A: there is no feature 'nothing'",
        "feature.f.needs: ",
        "feature.g: there is no feature '@h'",
        "feature.loop: needs itself",
        "section[0].level: 'vital'",
        "section[0].group[0].symbols: 'CONFIG_A'",
        "section[0].group[0].symbols: 'B-C'",
        "section[0].group[0].rule: 'any'",
        "section[0].group[1].symbols: ",
        "section[0].group[1].kernel: ",
        "limit[0].path: is missing",
        "limit[0].above: ",
    ):
        assert place in said, place


def test_a_loop_of_profiles(folder: Path) -> None:
    (folder / "one.toml").write_text(head("one", "two"))
    (folder / "two.toml").write_text(head("two", "one"))
    (folder / "self.toml").write_text(head("self", "self"))
    for name in ("one", "two", "self"):
        with pytest.raises(InputError, match="extends itself"):
            profile_file.load(name)


def test_unknown_profile_and_format(folder: Path) -> None:
    with pytest.raises(InputError) as caught:
        profile_file.load("doker")
    assert "did you mean 'docker'" in (caught.value.hint or "")
    (folder / "new.toml").write_text(head("new").replace("format = 1", "format = 2"))
    with pytest.raises(InputError, match="reads format 1"):
        profile_file.load("new")
    (folder / "garbage.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="UTF-8"):
        profile_file.load("garbage")


# -- the language of features --------------------------------------------------------------

_NAMES = st.builds(Name, st.from_regex(r"[A-Z][A-Z0-9_]{0,6}", fullmatch=True), st.booleans())


def _groups(inner: st.SearchStrategy[Expression]) -> st.SearchStrategy[Expression]:
    return st.builds(Group, st.lists(inner, min_size=2, max_size=4).map(tuple), st.booleans())


_EXPRESSIONS: st.SearchStrategy[Expression] = st.recursive(_NAMES, _groups, max_leaves=8)


def show(expression: Expression) -> str:
    if isinstance(expression, Name):
        return ("@" if expression.feature else "") + expression.name
    parts = [f"({show(t)})" if isinstance(t, Group) else show(t) for t in expression.terms]
    return (" | " if expression.any else " & ").join(parts)


@settings(max_examples=50, deadline=None)
@given(_EXPRESSIONS)
def test_what_is_shown_is_read_again(expression: Expression) -> None:
    assert parse(show(expression)) == expression
    assert parse(show(expression).replace(" ", "")) == expression


@settings(max_examples=50, deadline=None)
@given(_EXPRESSIONS, st.data())
def test_more_in_a_kernel_never_means_less_of_a_feature(
    expression: Expression, data: st.DataObject
) -> None:
    grades = st.sampled_from([Grade.NO, Grade.UNKNOWN, Grade.MODULE, Grade.YES])
    state = {name: data.draw(grades, label=str(name)) for name in set(terms(expression))}
    name = data.draw(st.sampled_from(sorted(state, key=str)))
    better = {**state, name: data.draw(st.sampled_from([g for g in Grade if g >= state[name]]))}
    if better[name] is Grade.MOOT:
        better[name] = Grade.YES

    def grade(of: dict[Name, Grade]) -> Outcome:
        return evaluate(expression, lambda n: Outcome(of[n], (n.name,) if of[n] < 2 else ()))

    before, after = grade(state), grade(better)
    assert after.grade >= before.grade
    assert bool(before.lacking) == (before.grade < Grade.MODULE)
    assert set(before.lacking) <= {n.name for n in state if state[n] < Grade.MODULE}


@settings(max_examples=50, deadline=None)
@given(_EXPRESSIONS)
def test_what_no_kernel_has_drops_out(expression: Expression) -> None:
    assert evaluate(expression, lambda _: Outcome(Grade.MOOT)).grade is Grade.MOOT


@given(st.text("AB@&|() -", max_size=20))
def test_any_text_is_an_expression_or_refused_with_it(text: str) -> None:
    try:
        parse(text)
    except ValueError as error:
        assert text.rstrip() in str(error)


# -- version ranges ------------------------------------------------------------------------

_VERSIONS = st.builds(KernelVersion, st.integers(3, 8), st.integers(0, 25))


@given(_VERSIONS, _VERSIONS, _VERSIONS)
def test_a_range_is_before_in_or_after(
    low: KernelVersion, high: KernelVersion, at: KernelVersion
) -> None:
    versions = Versions.parse(f">={low} <{high}")
    assert versions.holds(at) == (low <= at < high)
    if low <= high:
        assert [versions.is_before(at), versions.holds(at), versions.is_after(at)].count(True) == 1
    assert Versions.parse(f"<={high}").holds(high)
    assert not Versions.parse(f">{low}").holds(low)
    assert str(low) in str(versions) and str(high) in str(versions)


@pytest.mark.parametrize("text", ["4.9", "=4.9", ">=4", ">= four.two", ">=4.9 or so", "<4.9.1"])
def test_what_is_no_range(text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        Versions.parse(text)


def test_no_range_is_every_kernel() -> None:
    assert not Versions.parse("")
    assert Versions.parse("").holds(KernelVersion(3, 4))
    assert str(Versions.parse("")) == "in every Linux"
