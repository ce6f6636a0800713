"""Reading and writing kernel configs."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from embedkit.kernel import profile_file
from embedkit.kernel.audit import Question, audit
from embedkit.kernel.config import KernelConfig, KernelVersion, Value, canonical_arch, parse_line

FULL = """\
#
# Automatically generated file; DO NOT EDIT.
# Linux/arm 4.14.222 Kernel Configuration
#
CONFIG_ARM=y
CONFIG_VETH=m
# CONFIG_BRIDGE is not set
CONFIG_LOG_BUF_SHIFT=17
CONFIG_PAGE_OFFSET=0xC0000000
CONFIG_CMDLINE="CONFIG_MEMCG=y root=\\"/dev/mmcblk0p1\\""
# CONFIG_NET_NS=y
  CONFIG_PID_NS=y
"""


def test_reads_values_of_every_kind() -> None:
    config = KernelConfig(FULL)
    assert config.value("ARM") is Value.BUILT_IN
    assert config.value("VETH") is Value.MODULE
    assert config.value("BRIDGE") is Value.OFF
    assert config.value("LOG_BUF_SHIFT") is Value.OTHER
    assert config.values["PAGE_OFFSET"] == "0xC0000000"
    assert config.string("CMDLINE") == 'CONFIG_MEMCG=y root="/dev/mmcblk0p1"'
    assert config.string("ARM") is None


def test_a_comment_a_string_or_an_indented_line_sets_nothing() -> None:
    config = KernelConfig(FULL)
    for symbol in ("MEMCG", "NET_NS", "PID_NS"):
        assert not config.enabled(symbol), symbol
        assert config.value(symbol) is Value.OFF


def test_header_gives_version_and_arch() -> None:
    config = KernelConfig(FULL)
    assert (config.release, config.version, config.arch) == (
        "4.14.222",
        KernelVersion(4, 14),
        "arm",
    )


@pytest.mark.parametrize(
    ("header", "release", "arch"),
    [
        (
            "# Linux/x86_64 6.17.5-200.fc42.x86_64 Kernel Configuration",
            "6.17.5-200.fc42.x86_64",
            "x86",
        ),
        ("# Linux/riscv 6.1.0-rc3 Kernel Configuration", "6.1.0-rc3", "riscv"),
        ("# Linux kernel version: 2.6.39", "2.6.39", None),
        ("# Linux/arm64 4.9.165 Kernel Configuration", "4.9.165", "arm64"),
    ],
)
def test_headers_of_all_ages(header: str, release: str, arch: str | None) -> None:
    config = KernelConfig(f"#\n# Automatically generated make config: don't edit\n{header}\n#\n")
    assert (config.release, config.arch, config.is_full) == (release, arch, True)


def test_arch_comes_from_symbols_where_there_is_no_header() -> None:
    assert KernelConfig("CONFIG_ARM64=y\n").arch == "arm64"
    assert KernelConfig("CONFIG_X86_64=y\nCONFIG_X86=y\n").arch == "x86"
    assert KernelConfig("CONFIG_NET=y\n").arch is None


def test_absence_means_off_in_a_full_config_and_unknown_in_a_minimal_one() -> None:
    assert KernelConfig(FULL).value("MEMCG") is Value.OFF
    minimal = KernelConfig("CONFIG_ARCH_EXYNOS=y\n# CONFIG_MMU is not set\n")
    assert not minimal.is_full
    assert minimal.value("MEMCG") is Value.UNKNOWN
    assert minimal.value("MMU") is Value.OFF


def test_a_full_config_without_its_header_is_still_full() -> None:
    promptless = "".join(f"CONFIG_HAVE_THING_{number}=y\n" for number in range(20))
    assert KernelConfig(promptless).is_full


def test_the_last_of_two_lines_wins_and_both_are_told() -> None:
    config = KernelConfig("CONFIG_A=y\nCONFIG_B=m\n# CONFIG_A is not set\nCONFIG_A=m\n")
    assert config.values == {"A": "m", "B": "m"}
    told = [(d.symbol, d.line, d.value, d.earlier_line, d.earlier_value) for d in config.duplicates]
    assert told == [("A", 3, "n", 1, "y"), ("A", 4, "m", 3, "n")]


def test_carriage_returns_are_read_and_kept() -> None:
    text = 'CONFIG_A=y\r\n# CONFIG_B is not set\r\nCONFIG_C="x"\r\n'
    config = KernelConfig(text)
    assert config.values == {"A": "y", "B": "n", "C": '"x"'}
    assert config.with_values({"A": "n", "D": "m"}).text == (
        '# CONFIG_A is not set\r\n# CONFIG_B is not set\r\nCONFIG_C="x"\r\nCONFIG_D=m\r\n'
    )


def test_changes_are_made_in_place_and_new_symbols_come_last() -> None:
    config = KernelConfig("# top\nCONFIG_A=y\n\nCONFIG_B=m\nCONFIG_A=m")
    changed = config.with_values({"A": "n", "C": '"v"'})
    assert changed.text == '# top\n\nCONFIG_B=m\n# CONFIG_A is not set\nCONFIG_C="v"\n'


def test_versions() -> None:
    assert KernelVersion.parse("6.1.0-rc3") == KernelVersion(6, 1)
    assert KernelVersion.parse("v5.10") == KernelVersion(5, 10)
    assert KernelVersion.parse("5") is None
    assert KernelVersion(4, 9) < KernelVersion(4, 14) < KernelVersion(5, 0)


def test_arch_names() -> None:
    assert [canonical_arch(n) for n in ("x86_64", "aarch64", "armhf", "arm")] == [
        "x86",
        "arm64",
        "arm",
        "arm",
    ]


SYMBOLS = st.text(string.ascii_uppercase + string.digits + "_", min_size=1, max_size=12)
VALUES = st.one_of(
    st.sampled_from(["y", "m", "n", "0x10", "-3", '"a \\" b"']), st.text(max_size=10)
)
LINES = st.one_of(
    st.text(max_size=60),
    st.builds("CONFIG_{}={}".format, SYMBOLS, VALUES),
    st.builds("# CONFIG_{} is not set".format, SYMBOLS),
    st.just("# Linux/arm 5.4.0 Kernel Configuration"),
)
TEXTS = st.builds(
    lambda lines, end: end.join(lines),
    st.lists(LINES, max_size=30),
    st.sampled_from(["\n", "\r\n", "\r"]),
)


@given(st.binary(max_size=2000))
def test_the_round_trip_is_exact_for_any_bytes(content: bytes) -> None:
    assert KernelConfig.from_bytes(content).to_bytes() == content


@given(TEXTS)
def test_the_round_trip_is_exact_for_any_config(text: str) -> None:
    config = KernelConfig(text)
    content = text.encode("utf-8", "surrogatepass")
    assert KernelConfig.from_bytes(content).to_bytes() == content
    assert config.with_values({}).text == text


@given(TEXTS)
def test_one_pass_and_line_by_line_agree(text: str) -> None:
    expected = {}
    for line in text.split("\n"):
        parsed = parse_line(line)
        if parsed is not None:
            expected[parsed[0]] = parsed[1]
    assert KernelConfig(text).values == expected


@given(
    TEXTS, st.dictionaries(SYMBOLS, st.sampled_from(["y", "m", "n", '"text"', "42"]), max_size=5)
)
def test_what_is_changed_reads_back_and_nothing_else_changes(
    text: str, changes: dict[str, str]
) -> None:
    before = KernelConfig(text)
    after = before.with_values(changes)
    assert after.values == {**before.values, **changes}


PROFILES = [profile_file.load(name) for name in profile_file.available()]


@given(TEXTS, st.sampled_from(PROFILES))
def test_the_audit_never_raises(text: str, profile: object) -> None:
    result = audit(Question(KernelConfig(text), profile))  # type: ignore[arg-type]
    assert result.verdict
    assert isinstance(result.failed(), bool)


@given(st.lists(st.sampled_from(sorted(PROFILES[0].symbols)), max_size=80), st.sampled_from("ym"))
def test_the_audit_never_raises_on_configs_of_known_symbols(symbols: list[str], value: str) -> None:
    header = (
        "# Automatically generated file; DO NOT EDIT.\n# Linux/arm 5.10.1 Kernel Configuration\n"
    )
    text = header + "".join(f"CONFIG_{symbol}={value}\n" for symbol in symbols)
    for profile in PROFILES:
        audit(Question(KernelConfig(text), profile))
