"""patch-kernel --buildroot: registered once, whole or not at all, whatever the paths hold."""

from __future__ import annotations

import json
import os
import signal
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.buildroot_trees import Build, write_build

from embedkit import cli
from embedkit.errors import InputError
from embedkit.kernel import buildroot, makelist
from embedkit.kernel.buildroot import BuildrootConfig, read_config
from embedkit.kernel.buildroot_kernel import FRAGMENTS, in_use
from embedkit.kernel.config import KernelConfig

WORD = "$(BR2_EXTERNAL_WORKS_PATH)/board/xu4/linux-options.config"
OWN = "$(BR2_EXTERNAL_WORKS_PATH)/board/xu4/own.config"
CUSTOM = (
    "BR2_LINUX_KERNEL_USE_CUSTOM_CONFIG=y\n"
    'BR2_LINUX_KERNEL_CUSTOM_CONFIG_FILE="$(BR2_EXTERNAL_WORKS_PATH)/board/xu4/linux.config"'
)
ENABLE = ("--profile", "none", "--enable", "BRIDGE_NETFILTER", "--enable", "VETH")
NEEDED = {
    "NETFILTER": "y",
    "NETFILTER_ADVANCED": "y",
    "BRIDGE": "m",
    "BRIDGE_NETFILTER": "m",
    "VETH": "m",
}


def patch(build: Build, *more: str, where: Path | None = None) -> int:
    words = ["patch-kernel", "--buildroot", str(where or build.output), "--assume-compiler"]
    return cli.main([*words, *ENABLE, *more, "-q"])


def listed(path: Path) -> str:
    return read_config(path).string(FRAGMENTS) or ""


def state(build: Build) -> dict[str, bytes]:
    folder = build.tree.parent
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture(params=["plain", "with a space"])
def build(request: pytest.FixtureRequest, tmp_path: Path) -> Build:
    return write_build(tmp_path / request.param)


def test_writes_the_fragment_and_registers_it(build: Build) -> None:
    before = read_config(build.config)
    assert patch(build) == 0
    assert KernelConfig(build.fragment.read_text()).values == NEEDED
    assert listed(build.config) == f"{OWN} {WORD}"
    after = read_config(build.config)
    assert {**after.values, FRAGMENTS: before.values[FRAGMENTS]} == before.values
    assert (build.output / ".config.bak").read_bytes() == before.to_bytes()
    assert listed(build.defconfig) == OWN


def test_registers_once_however_often_it_runs(build: Build) -> None:
    assert patch(build, "--board", "xu4") == 0
    first = state(build)
    for _ in range(3):
        assert patch(build, "--board", "xu4_defconfig") == 0
        assert state(build) == first
    # The kernel was built with the fragment since: it is still what the sources lack.
    (build.linux / ".config").write_text(
        "CONFIG_NET=y\n" + "".join(f"CONFIG_{name}={value}\n" for name, value in NEEDED.items())
    )
    assert patch(build, "--board", str(build.defconfig)) == 0
    (build.linux / ".config").unlink()
    assert state(build) == first


@pytest.mark.parametrize("spelling", ["absolute", "relative", "topdir", "braces"])
def test_knows_the_fragment_under_any_name(tmp_path: Path, spelling: str) -> None:
    build = write_build(tmp_path)
    word = {
        "absolute": str(build.fragment),
        "relative": os.path.relpath(build.fragment, build.tree),
        "topdir": "$(TOPDIR)/" + os.path.relpath(build.fragment, build.tree),
        "braces": "${BR2_EXTERNAL_WORKS_PATH}/board/xu4/linux-options.config",
    }[spelling]
    build.fragment.write_text("")
    value = f"  {OWN}   {word} "
    build.config.write_text(build.config.read_text().replace(OWN, value))
    assert patch(build) == 0
    assert listed(build.config) == value


def test_a_later_fragment_that_undoes_ours_comes_before_it(tmp_path: Path) -> None:
    build = write_build(tmp_path, fragments=f"{WORD} {OWN}")
    build.fragment.write_text("CONFIG_VETH=m\n")
    (build.fragment.parent / "own.config").write_text("CONFIG_NET=y\n# CONFIG_VETH is not set\n")
    assert patch(build) == 0
    assert listed(build.config) == f"{OWN} {WORD}"


def test_registered_twice_by_hand_becomes_once(tmp_path: Path) -> None:
    build = write_build(tmp_path, fragments=f"{WORD} {OWN} {WORD}")
    build.fragment.write_text("CONFIG_VETH=m\n")
    assert patch(build) == 0
    assert makelist.split(listed(build.config)) == (WORD, OWN)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("step", range(5))
def test_killed_between_the_steps_leaves_old_or_whole_files(
    tmp_path: Path, moment: str, step: int
) -> None:
    """Five renames: fragment, backup and .config, backup and defconfig."""
    old = state(write_build(tmp_path / "old"))
    done_build = write_build(tmp_path / "old2")
    assert patch(done_build, "--board", "xu4") == 0
    build = write_build(tmp_path / "cut")
    child = os.fork()
    if child == 0:
        _die_at(step, moment)
        patch(build, "--board", "xu4")
        os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    for path in (build.config, build.defconfig):
        name = str(path.relative_to(build.tree.parent))
        kept = old[name].replace(bytes(tmp_path / "old"), bytes(tmp_path / "cut"))
        word = f" {WORD}".encode()
        whole = kept.replace(OWN.encode(), OWN.encode() + word)
        assert path.read_bytes() in (kept, whole)
        if path.read_bytes() == whole:
            # Never registered before it is there.
            assert build.fragment.read_bytes() == done_build.fragment.read_bytes()
    assert patch(build, "--board", "xu4") == 0
    assert listed(build.config) == listed(build.defconfig) == f"{OWN} {WORD}"
    assert build.fragment.read_bytes() == done_build.fragment.read_bytes()


def _die_at(step: int, moment: str) -> None:
    real = Path.replace
    count = 0

    def replace(self: Path, target: Path) -> Path:
        nonlocal count
        mine = count == step
        count += 1
        if mine and moment == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = real(self, target)
        if mine:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    Path.replace = replace  # type: ignore[method-assign]


def test_a_dry_run_shows_the_same_steps_and_writes_nothing(
    build: Build, capsys: pytest.CaptureFixture[str]
) -> None:
    before = state(build)
    assert patch(build, "--board", "xu4", "--dry-run", "--json") == 0
    plan = json.loads(capsys.readouterr().out)["data"]["buildroot"]
    assert state(build) == before
    assert patch(build, "--board", "xu4", "--json") == 0
    done = json.loads(capsys.readouterr().out)["data"]["buildroot"]
    assert plan == done
    assert done["registered_as"] == WORD
    assert [edit["changes"] for edit in done["edits"]] == [True, True, True]


def test_what_cannot_be_had_holds_everything_back(tmp_path: Path) -> None:
    build = write_build(tmp_path)
    before = state(build)
    # SMP is protected, and off.
    assert patch(build, "--enable", "CPUSETS") == 1
    assert state(build) == before
    assert patch(build, "--enable", "CPUSETS", "--keep-going") == 1
    assert WORD in listed(build.config)


def test_an_in_tree_build_uses_relative_names(tmp_path: Path) -> None:
    build = write_build(tmp_path)
    board = build.tree / "board" / "works"
    board.mkdir()
    (board / "post.sh").write_text("")
    (build.output / ".br2-external.mk").unlink()
    build.output.rename(build.tree / "output")
    (build.tree / "output" / "Makefile").unlink()
    text = (build.tree / "output" / ".config").read_text()
    (build.tree / "output" / ".config").unlink()
    text = text.replace("$(BR2_EXTERNAL_WORKS_PATH)/board/xu4/post-build.sh", "board/works/post.sh")
    (build.tree / ".config").write_text(text.replace(OWN, ""))
    for where in (build.tree, build.tree / "output", build.tree / ".config"):
        assert patch(build, where=where) == 0
        assert listed(build.tree / ".config") == "board/works/linux-options.config"
    # A second fragment holds only what the first does not give.
    own = ("--fragment", str(board / "docker.config"), "--enable", "SMP")
    assert patch(build, *own, where=build.tree) == 0
    assert KernelConfig((board / "docker.config").read_text()).values == {"SMP": "y"}
    assert listed(build.tree / ".config").endswith(" board/works/docker.config")


def test_a_custom_config_file_is_the_base(tmp_path: Path) -> None:
    build = write_build(tmp_path)
    custom = build.external / "board" / "xu4" / "linux.config"
    custom.write_text("CONFIG_NET=y\nCONFIG_NETFILTER=y\nCONFIG_BRIDGE=y\n")
    _swap(build, "# BR2_LINUX_KERNEL_USE_CUSTOM_CONFIG is not set", CUSTOM)
    assert patch(build) == 0
    values = KernelConfig(build.fragment.read_text()).values
    assert values == {"NETFILTER_ADVANCED": "y", "BRIDGE_NETFILTER": "y", "VETH": "y"}
    assert custom.read_text().startswith("CONFIG_NET=y\nCONFIG_NETFILTER=y\n")


def test_a_board_that_was_never_configured(tmp_path: Path) -> None:
    build = write_build(tmp_path)
    build.config.unlink()
    assert patch(build) == 2
    assert patch(build, "--board", "xu4") == 0
    assert listed(build.defconfig) == f"{OWN} {WORD}"
    assert not build.config.exists()


def test_the_mode_and_a_link_of_the_configuration_survive(tmp_path: Path) -> None:
    build = write_build(tmp_path)
    real = tmp_path / "kept.config"
    build.config.rename(real)
    real.chmod(0o640)
    build.config.symlink_to(real)
    assert patch(build) == 0
    assert build.config.is_symlink()
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert WORD in listed(real)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda b: b.config.unlink(), "not configured"),
        (lambda b: _swap(b, "BR2_LINUX_KERNEL=y", "# BR2_LINUX_KERNEL is not set"), "no kernel"),
        (lambda b: _swap(b, '="exynos"', '="exinos"'), "did you mean 'exynos_defconfig'"),
        (lambda b: _swap(b, "own.config", "gone.config"), "gone.config' cannot be read"),
        (lambda b: _swap(b, OWN, "$(SECRET)/x.config"), "only Buildroot's make knows"),
        (lambda b: (b.linux / "Kconfig").unlink(), "make linux-patch"),
        (lambda b: (b.tree / "Config.in").unlink(), "is not there"),
        (lambda b: b.config.write_text("CONFIG_X=y\n"), "no Buildroot config"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], change: object, words: str
) -> None:
    build = write_build(tmp_path)
    change(build)  # type: ignore[operator]
    before = state(build)
    assert patch(build) in (2, 3)
    said = capsys.readouterr().err
    assert words in said
    assert "Traceback" not in said
    assert state(build) == before


def _swap(build: Build, old: str, new: str) -> None:
    text = build.config.read_text()
    assert old in text
    build.config.write_text(text.replace(old, new))


def test_a_name_that_make_cannot_read_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    build = write_build(tmp_path)
    before = state(build)
    assert patch(build, "--fragment", str(build.external / "my board" / "x.config")) == 2
    assert "without spaces" in capsys.readouterr().err
    assert state(build) == before


def test_the_kernel_folder_is_the_one_of_the_configured_version(tmp_path: Path) -> None:
    build = write_build(tmp_path)
    build.linux.rename(build.linux.with_name("linux-refs_heads_next"))
    _swap(build, '"6.1.7"', '"refs/heads/next"')
    use = in_use(buildroot.find(build.output))
    assert use.tree.name == "linux-refs_heads_next"
    with pytest.raises(InputError, match="several kernels"):
        for name in ("linux-a", "linux-b"):
            (build.output / "build" / name / "arch").mkdir(parents=True)
            (build.output / "build" / name / "Kconfig").write_text("")
        _swap(build, '"refs/heads/next"', '"other"')
        in_use(buildroot.find(build.output))


def test_the_architecture_of_a_defconfig_and_of_a_config() -> None:
    assert BuildrootConfig("BR2_aarch64=y\n").make_arch == "arm64"
    assert BuildrootConfig('BR2_ARCH="x86_64"\nBR2_x86_64=y\n').make_arch == "x86_64"
    assert BuildrootConfig('BR2_ARCH="x86_64"\n').arch == "x86"
    assert BuildrootConfig("BR2_PACKAGE_KMOD=y\n").make_arch is None


PIECES = st.lists(
    st.sampled_from(["a/b.config", "$(X)/c", "$(call f,a b)/d", "${Y}/e", "$(A)$(B)"]), max_size=5
)
SPACES = st.sampled_from([" ", "  ", "\t", " \t "])


@given(PIECES, st.data())
def test_lists_are_split_as_make_splits_them(words: list[str], data: st.DataObject) -> None:
    text = data.draw(st.sampled_from(["", " "]))
    for word in words:
        text += word + data.draw(SPACES)
    assert list(makelist.split(text)) == words
    assert makelist.split(makelist.append(text, "new")) == (*words, "new")
    assert makelist.append(text, "new").startswith(text.rstrip())
    for index in range(len(words)):
        rest = words[:index] + words[index + 1 :]
        assert list(makelist.split(makelist.without(text, index))) == rest


@given(st.text(alphabet="$(){} ab\t", max_size=40))
def test_splitting_survives_anything(text: str) -> None:
    words = makelist.split(text)
    assert "".join("".join(words).split()) == "".join(text.split())
