"""Kconfig trees: constructs of new kernels, old kernels, evaluation like the kernel's own tools."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.kconfig_trees import load_tree, write_tree

from embedkit.errors import InputError, LackError
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.toolchain import Prober, choose
from embedkit.kernel.tree import KernelTree, find_defconfig, open_tree


def _loaded(tree: KernelTree, text: str) -> KernelTree:
    tree.load(KernelConfig(text))
    return tree


def test_bare_modules_attribute_of_5_13(tmp_path: Path) -> None:
    kconfig = """
config MODULES
	bool "modules"
	modules
	default y
	help
		Without
		modules
		nothing can be m. Text such as "depends on X if Y" in a help is only text:
		depends on NOTHING if NEVER

config DRIVER
	tristate "driver"
"""
    tree = load_tree(tmp_path, kconfig)
    assert _loaded(tree, "CONFIG_DRIVER=m\n").value("DRIVER") == "m"
    assert _loaded(tree, "# CONFIG_MODULES is not set\nCONFIG_DRIVER=m\n").value("DRIVER") == "y"


def test_transitional_symbols_of_6_18_are_read_and_never_written(tmp_path: Path) -> None:
    kconfig = """
config OLD_NAME
	bool
	transitional # since 6.18
	help
		The old name.

config NEW_NAME
	bool "new name"
	default OLD_NAME
"""
    tree = load_tree(tmp_path, kconfig, "6.18.0")
    tree.load(KernelConfig("CONFIG_OLD_NAME=y\n"))
    assert tree.value("NEW_NAME") == "y"
    assert "OLD_NAME" not in tree.full_config().text
    assert "CONFIG_NEW_NAME=y" in tree.full_config().text
    assert "OLD_NAME" not in tree.minimal_config().text
    assert _loaded(tree, "").value("NEW_NAME") == "n"


@pytest.mark.parametrize(
    ("a", "b", "visible"),
    [("n", "n", True), ("n", "y", False), ("y", "n", True), ("y", "y", True), ("m", "y", True)],
)
def test_conditional_dependencies_of_7_2(tmp_path: Path, a: str, b: str, visible: bool) -> None:
    kconfig = """
config MODULES
	def_bool y
	modules
config A
	tristate "a"
config B
	tristate "b"
config C
	tristate "c"
	depends on A if B
config D
	bool "d"
	depends on A || \\
		A if B && \\
		!A
"""
    tree = load_tree(tmp_path, kconfig, "7.2.0")
    tree.load(KernelConfig(f"CONFIG_A={a}\nCONFIG_B={b}\nCONFIG_C=y\n"))
    assert (tree.value("C") != "n") is visible
    if a == "m" and b == "y":
        assert tree.value("C") == "m"  # !B || A is m


OLD_KERNEL = """
mainmenu "Linux/$ARCH $KERNELVERSION Kernel Configuration"

config SRCARCH
	string
	option env="SRCARCH"

config KERNEL_RELEASE
	string
	option env="KERNELVERSION"

source "arch/$SRCARCH/Kconfig"

config MODULES
	boolean "modules"
	option modules

config LEGACY
	tristate "legacy"
	depends on MODULES+
	---help---
		Old spelling.
"""


def test_trees_before_4_18_without_macros(tmp_path: Path) -> None:
    arch = "config ARM\n\tbool\n\tdefault y\n"
    write_tree(tmp_path, OLD_KERNEL, "3.10.98", arch__arm__Kconfig=arch)
    before = dict(os.environ)
    tree = open_tree(tmp_path, arch="arm", assume_compiler=True)
    assert dict(os.environ) == before
    assert tree.release == "3.10.98"
    tree.load(KernelConfig("CONFIG_MODULES=y\nCONFIG_LEGACY=m\n"))
    full = tree.full_config()
    assert tree.value("ARM") == "y"
    assert full.values == {"ARM": "y", "MODULES": "y", "LEGACY": "m"}
    assert (full.release, full.arch, full.is_full) == ("3.10.98", "arm", True)


def test_two_trees_do_not_disturb_each_other(tmp_path: Path) -> None:
    files = {"arch__arm__Kconfig": "config ARM\n\tdef_bool y\n"}
    files["arch__x86__Kconfig"] = 'config WIDE\n\tdef_bool "$(ARCH)" = "x86_64"\n'
    kconfig = 'source "arch/$(SRCARCH)/Kconfig"\n'
    write_tree(tmp_path, kconfig, "5.4.0", **files)
    arm = open_tree(tmp_path, arch="arm", assume_compiler=True)
    wide = open_tree(tmp_path, arch="x86_64", assume_compiler=True)
    assert (arm.value("ARM"), wide.value("WIDE"), wide.srcarch) == ("y", "y", "x86")
    assert not wide.has("ARM")


IMPLY = """
config MODULES
	def_bool y
	modules
config A
	tristate "a"
	imply B
config HOLD
	tristate "hold"
config B
	tristate "b"
	depends on HOLD
"""


@pytest.mark.parametrize(
    ("release", "config", "value"),
    [
        ("5.4.0", "CONFIG_A=y\nCONFIG_HOLD=y\nCONFIG_B=m\n", "y"),  # an implied y lifts m
        ("5.7.0", "CONFIG_A=y\nCONFIG_HOLD=y\nCONFIG_B=m\n", "m"),
        ("6.1.0", "CONFIG_A=y\nCONFIG_HOLD=m\n", "m"),  # obeys the dependency
        ("6.1.0", "CONFIG_A=y\nCONFIG_HOLD=y\n", "y"),
        ("6.1.0", "CONFIG_A=y\n", "n"),
    ],
)
def test_imply_as_the_kernel_of_that_time(
    tmp_path: Path, release: str, config: str, value: str
) -> None:
    tree = _loaded(load_tree(tmp_path, IMPLY, release), config)
    assert tree.value("B") == value


def test_an_implied_symbol_is_written_though_its_dependency_is_off(tmp_path: Path) -> None:
    tree = load_tree(tmp_path, IMPLY)
    tree.load(KernelConfig("CONFIG_A=m\n"))
    assert "# CONFIG_B is not set" in tree.full_config().text


@pytest.mark.parametrize(("release", "value"), [("6.1.0", ""), ("6.12.0", "0x0")])
def test_numbers_without_a_default(tmp_path: Path, release: str, value: str) -> None:
    tree = _loaded(load_tree(tmp_path, 'config ADDRESS\n\thex "address"\n', release), "")
    assert tree.value("ADDRESS") == value


def test_full_config_reads_back_to_itself(tmp_path: Path) -> None:
    kconfig = 'config A\n\tbool "a"\nconfig T\n\tstring "t"\n\tdefault "x"\nconfig N\n\tint "n"\n'
    tree = load_tree(tmp_path, kconfig)
    tree.load(KernelConfig('CONFIG_A=y\r\nCONFIG_T="say \\"hi\\""\r\nCONFIG_N=7\r\n'))
    full = tree.full_config()
    tree.load(full)
    assert tree.full_config().text == full.text
    assert full.string("T") == 'say "hi"'
    assert "CONFIG_N=7\n" in full.text


# Complaints


def test_a_folder_without_kconfig(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no top Kconfig"):
        open_tree(tmp_path)


def test_an_architecture_that_the_tree_lacks(tmp_path: Path) -> None:
    write_tree(tmp_path, "", arch__arm64__Kconfig="", arch__arm__Kconfig="")
    with pytest.raises(InputError, match="no architecture 'arm65'") as caught:
        open_tree(tmp_path, arch="arm65")
    assert "arm64" in (caught.value.hint or "")


def test_a_config_of_another_architecture(tmp_path: Path) -> None:
    write_tree(tmp_path, "", arch__arm64__Kconfig="", arch__arm__Kconfig="")
    config = KernelConfig("# Linux/arm 6.1.0 Kernel Configuration\nCONFIG_ARM=y\n", "my.config")
    with pytest.raises(InputError, match="another architecture: it is for arm") as caught:
        open_tree(tmp_path, arch="arm64", config=config)
    assert caught.value.where == "my.config"


def test_an_unknown_architecture_must_be_given(tmp_path: Path) -> None:
    write_tree(tmp_path, "", arch__arm64__Kconfig="", arch__arm__Kconfig="")
    with pytest.raises(InputError, match="which architecture") as caught:
        open_tree(tmp_path, config=KernelConfig("CONFIG_A=y\n"))
    assert "arm, arm64" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('config A\n\tbool "a"\n\tdepends on (B\n', 3),
        ('config A\n\tbool "a"\nendmenu\n', 3),
        ('config A\n\tbool "a"\nsource "nowhere/Kconfig"\n', 3),
        ("config A\n\tnonsense here\n", 2),
        ('config A\n\tbool "unfinished\n', 2),
    ],
)
def test_a_parse_error_names_its_line(tmp_path: Path, text: str, line: int) -> None:
    write_tree(tmp_path, 'source "sub/Kconfig"\n', sub__Kconfig=text)
    with pytest.raises(InputError, match="does not parse") as caught:
        open_tree(tmp_path, assume_compiler=True)
    assert caught.value.where == str(tmp_path / f"sub/Kconfig:{line}")


def test_a_loop_of_dependencies_is_told(tmp_path: Path) -> None:
    text = 'config A\n\tbool "a"\n\tdepends on B\nconfig B\n\tbool "b"\n\tdepends on A\n'
    write_tree(tmp_path, text)
    with pytest.raises(InputError, match="does not parse") as caught:
        open_tree(tmp_path, assume_compiler=True)
    assert "loop" in caught.value.message


def test_a_file_that_includes_itself(tmp_path: Path) -> None:
    write_tree(tmp_path, 'source "Kconfig"\n')
    with pytest.raises(InputError, match="recursive"):
        open_tree(tmp_path, assume_compiler=True)


def test_a_compiler_that_is_not_there(tmp_path: Path) -> None:
    write_tree(tmp_path, "")
    with pytest.raises(LackError, match="cannot be run"):
        open_tree(tmp_path, cross_compile="no-such-compiler-")


def test_defconfigs_by_name(tmp_path: Path) -> None:
    write_tree(
        tmp_path,
        "",
        arch__arm__configs__board_defconfig="",
        arch__arm64__configs__defconfig="",
        arch__x86__configs__defconfig="",
    )
    assert find_defconfig(tmp_path, "board_defconfig").arch == "arm"
    assert find_defconfig(tmp_path, "defconfig", "x86_64").arch == "x86"
    with pytest.raises(InputError, match="several architectures"):
        find_defconfig(tmp_path, "defconfig")
    with pytest.raises(InputError, match="no defconfig") as caught:
        find_defconfig(tmp_path, "bord_defconfig")
    assert "board_defconfig" in (caught.value.hint or "")


# Compiler probes

PROBES = """
comma := ,
cc-option = $(success,$(CC) -Werror $(1) -c -x c /dev/null -o /dev/null)
success = $(shell,{ $(1); } >/dev/null 2>&1 && echo "y" || echo "n")
config CC_HAS_STACK_PROTECTOR
	def_bool $(cc-option,-fstack-protector-strong)
config CC_HAS_KCFI
	def_bool $(cc-option,-fsanitize=kcfi)
config CC_HAS_MCOUNT
	def_bool $(cc-option,-mrecord-mcount)
config CC_VERSION
	string
	default "$(CC_VERSION_TEXT)"
config GREETING
	string
	default "$(shell,echo hello world)"
"""


def test_without_a_compiler_probes_are_assumed_and_said_so(tmp_path: Path) -> None:
    write_tree(tmp_path, PROBES, arch__arm__Kconfig="")
    tree = open_tree(tmp_path, arch="arm", assume_compiler=True)
    assert [tree.value(f"CC_HAS_{name}") for name in ("STACK_PROTECTOR", "KCFI", "MCOUNT")] == [
        *"ynn"
    ]
    assert tree.value("GREETING") == "hello world"
    assert "assumed" in tree.value("CC_VERSION")
    assert tree.assumed_probes == 3
    assert any("assumed" in note for note in tree.notes)


@pytest.mark.needs("program:gcc", "program:ld")
def test_with_a_compiler_probes_are_run(tmp_path: Path) -> None:
    write_tree(tmp_path, PROBES, arch__x86__Kconfig="")
    tree = open_tree(tmp_path, arch="x86", cc="gcc", cross_compile="")
    assert tree.value("CC_HAS_STACK_PROTECTOR") == "y"
    assert tree.notes == ()
    assert tree.value("CC_VERSION").startswith("gcc")


def test_version_scripts_are_answered_as_each_age_of_kernel_expects() -> None:
    with Prober(choose("arm", assume=True), {}) as prober:
        answers = {
            "/k/scripts/cc-version.sh assumed-gcc": "GCC 120200",
            "/k/scripts/gcc-version.sh -p assumed-gcc | sed 's/^0*//'": "120200",
            "/k/scripts/clang-version.sh assumed-gcc": "0",
            "assumed-ld --version | /k/scripts/ld-version.sh": "240000000",
            "/k/scripts/ld-version.sh assumed-ld": "BFD 24000",
            "set -- GCC 120200 && echo $2": "120200",
            "/k/scripts/pahole-version.sh pahole": "0",
        }
        for command, answer in answers.items():
            assert prober.shell(command) == answer


_WORDS = st.sampled_from(
    [
        *("config", "menuconfig", "A", "B", "bool", "tristate", "depends", "on", "if", "select"),
        *("endif", "menu", "endmenu", "choice", "endchoice", "source", '"x"', '"', "(", ")", "&&"),
        *("||", "!", "=", "default", "y", "transitional", "modules", "option", "env", "help"),
        *("$(", "$A", ":=", ",", "range", "0x1", "int", "prompt", "+", "\\", "é", "\0"),
    ]
)
_LINES = st.lists(
    st.lists(_WORDS, max_size=6).map(lambda words: "\t" + " ".join(words)), max_size=12
)


@settings(max_examples=200, deadline=None)
@given(_LINES, st.binary(max_size=20))
def test_any_kconfig_loads_or_gives_one_clear_error(lines: list[str], tail: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        top = Path(folder) / "Kconfig"
        top.write_bytes("\n".join(lines).encode() + b"\n" + tail)
        try:
            tree = open_tree(Path(folder), assume_compiler=True)
            tree.load(KernelConfig("CONFIG_A=y\nCONFIG_B=m\n"))
            tree.full_config()
        except InputError as error:
            assert error.where


def test_conditional_dependencies_of_menus_and_choices(tmp_path: Path) -> None:
    kconfig = """
config A
	bool "a"
config B
	bool "b"
menu "m"
	depends on A if B
config C
	bool "c"
endmenu
choice
	prompt "ch"
	depends on !A if !B
config D
	bool "d"
endchoice
"""
    tree = load_tree(tmp_path, kconfig)
    assert _loaded(tree, "CONFIG_C=y\n").value("C") == "y"
    assert _loaded(tree, "CONFIG_C=y\nCONFIG_B=y\n").value("C") == "n"
    assert [_loaded(tree, f"{text}\n").value("D") for text in ("", "CONFIG_A=y")] == ["y", "n"]
