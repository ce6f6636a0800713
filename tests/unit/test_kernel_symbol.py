"""What is told of one symbol on a tree."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest
from support import old_kernel

from embedkit.cli import main
from embedkit.commands import explain_tree, symbol_report
from embedkit.errors import InputError
from embedkit.kernel.config import KernelConfig
from embedkit.kernel.symbol import SymbolView, view
from embedkit.kernel.tree import KernelTree, open_tree
from embedkit.report.render import render

BOARD = KernelConfig("CONFIG_MODULES=y\nCONFIG_NET=y\nCONFIG_BRIDGE=m\n", "board")


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> KernelTree:
    folder = old_kernel.write(tmp_path_factory.mktemp("tree"))
    return open_tree(folder, arch="arm", assume_compiler=True)


def _told(tree: KernelTree, name: str) -> tuple[SymbolView, str]:
    seen = view(tree, BOARD, name)
    return seen, render(symbol_report.build(tree, BOARD, seen), "text", verbose=True)


def test_the_blocking_part_is_marked(tree: KernelTree) -> None:
    seen, text = _told(tree, "CONFIG_BRIDGE_NETFILTER")
    assert {part.text: part.blocking for part in seen.depends} == {
        "BRIDGE": False,
        "NETFILTER": True,
        "NETFILTER_ADVANCED": True,
        "NET": False,
    }
    assert "NETFILTER_ADVANCED: n — this blocks it" in text
    assert [item.symbol for item in seen.pulls_in] == ["NETFILTER", "NETFILTER_ADVANCED"]
    assert seen.prompts[0].menus == ("networking", "packet filter")
    assert seen.places[0].startswith("net/Kconfig:")
    assert "CONFIG_BRIDGE_NETFILTER is off; turning it on takes 2 more" in text


def test_who_selects_a_symbol_without_prompt(tree: KernelTree) -> None:
    seen, text = _told(tree, "XFRM")
    assert [link.symbol for link in seen.selected_by] == ["XFRM_USER"]
    assert not seen.selected_by[0].active
    assert "no prompt: only other symbols set it" in text
    assert [item.symbol for item in seen.pulls_in] == ["XFRM_USER"]


def test_what_protection_keeps_off_is_said(tree: KernelTree) -> None:
    seen, text = _told(tree, "CGROUP_HUGETLB")
    assert seen.refused is not None
    assert "--allow ARM_LPAE" in text
    seen, text = _told(tree, "SMP")
    assert "processors" in seen.protected


def test_the_members_of_a_choice(tree: KernelTree) -> None:
    seen, _ = _told(tree, "SLAB")
    assert seen.choice == ("SLAB", "SLUB")
    assert seen.prompts[0].menus == ("Allocator",)


def test_a_symbol_that_is_on(tree: KernelTree) -> None:
    seen, text = _told(tree, "BRIDGE")
    assert seen.value == "m"
    assert seen.pulls_in == ()
    assert "CONFIG_BRIDGE is a module" in text


def test_numbers(tree: KernelTree) -> None:
    seen, _ = _told(tree, "SLAB_SIZE")
    assert (seen.type, seen.defaults, seen.pulls_in) == ("int", ("8",), ())


def test_unknown_symbols(tree: KernelTree) -> None:
    with pytest.raises(InputError, match="does not exist in kernel 4") as caught:
        view(tree, BOARD, "BRIDGE_NETFILTRE")
    assert "BRIDGE_NETFILTER" in (caught.value.hint or "")
    with pytest.raises(InputError, match="only for other architectures"):
        view(tree, BOARD, "LEGACY_VSYSCALL_EMULATE")


def _arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    explain_tree.add_arguments(parser)
    return parser.parse_args(words)


def test_explain_on_a_tree(tmp_path: Path) -> None:
    folder = str(old_kernel.write(tmp_path))
    named = _arguments("--tree", folder, "--config", "board_defconfig")
    assert explain_tree.run(named, "config_netfilter".upper()).data["value"] == "y"
    bare = _arguments("--tree", folder, "--arch", "arm")
    assert explain_tree.run(bare, "bridge").data["value"] == "n"
    (tmp_path / ".config").write_text("CONFIG_ARM=y\nCONFIG_NET=y\nCONFIG_BRIDGE=y\n")
    assert explain_tree.run(_arguments("--tree", folder), "BRIDGE").data["value"] == "y"
    with pytest.raises(InputError, match="names no kernel symbol"):
        explain_tree.run(bare, "iptables failed: no chain")


def test_explain_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = str(old_kernel.write(tmp_path))
    words = ["explain", "CONFIG_BRIDGE_NETFILTER", "--tree", folder]
    assert main([*words, "--config", "board_defconfig"]) == 0
    assert "NETFILTER_ADVANCED: n — this blocks it" in capsys.readouterr().out
    assert main(["explain", "BRIDGE", "--config", "board_defconfig"]) == 2
    assert "need --tree" in capsys.readouterr().err
    assert main(words) == 2
    assert "which architecture" in capsys.readouterr().err
