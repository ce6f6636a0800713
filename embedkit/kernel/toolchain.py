"""Answers what a Kconfig tree asks of the compiler: ``$(shell …)`` and ``$(cc-option …)``.

Kernels from 4.18 on probe the toolchain while their Kconfig is read
(``scripts/Kconfig.include``). With a compiler for the target the probes are run as make would
run them; without one they are answered as GCC 12.2 with binutils 2.40 answered them when they
were recorded for arm, arm64, riscv and x86, and the result says that they were assumed.
"""

from __future__ import annotations

import os
import re
import shlex
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from embedkit import process
from embedkit.errors import LackError

# The kernel's name of an architecture → the prefix of Debian's and Buildroot's generic compilers.
_PREFIXES = {
    "arm": ("arm-linux-gnueabihf-", "arm-linux-gnueabi-", "arm-buildroot-linux-gnueabihf-"),
    "arm64": ("aarch64-linux-gnu-", "aarch64-buildroot-linux-gnu-"),
    "riscv": ("riscv64-linux-gnu-", "riscv64-buildroot-linux-gnu-"),
    "x86": ("x86_64-linux-gnu-", "i686-linux-gnu-"),
    "mips": ("mips-linux-gnu-", "mipsel-linux-gnu-", "mips64el-linux-gnuabi64-"),
    "powerpc": ("powerpc64le-linux-gnu-", "powerpc-linux-gnu-"),
    "s390": ("s390x-linux-gnu-",),
    "loongarch": ("loongarch64-linux-gnu-",),
}
_NATIVE = {
    "x86_64": "x86",
    "i686": "x86",
    "aarch64": "arm64",
    "armv7l": "arm",
    "riscv64": "riscv",
    "ppc64le": "powerpc",
    "s390x": "s390",
    "loongarch64": "loongarch",
}
_PROBE_TIMEOUT_S = 60.0
_ASSUMED = "assumed-gcc"
_IF_SUCCESS = re.compile(
    r'\{ (?P<command>.*); \} >/dev/null 2>&1 && echo "(?P<yes>.*)" \|\| echo "(?P<no>.*)"',
    re.DOTALL,
)
_SET = re.compile(r"set -- (?P<words>[\w .-]*) && echo \$(?P<index>[1-9])")
_TEST_EQUAL = re.compile(r'test "(?P<left>[\w.-]*)" = (?P<right>[\w.-]+)')
_TEST_EMPTY = re.compile(r'test -z "(?P<text>[\w .-]*)"')

# What GCC 12.2 does not know, on any architecture.
_GCC_LACKS = re.compile(
    r"-mllvm|-fsanitize=(?:kcfi|kernel-memory|array-bounds|local-bounds|alignment,)"
    r"|-Wunreachable-code-fallthrough|-frandomize-layout-seed|-fsanitize-cfi"
    r"|--param (?:tsan-compound|asan-kernel-mem)|-finline-stringops"
    r"|-fmin-function-alignment|-gz=zstd|counted_by|--no-relax-gp|--target=|-fexperimental"
    r"|-mbranches-within-32B|\+zvk|R_RISCV_SET_ULEB128|grep -qi llvm"
    r"|tools-support-relr|-Wimplicit-fallthrough=clang|zero-init-enabled-with"
)
# Option → the only architectures on which GCC 12.2 has it.
_GCC_HAS_ONLY_ON = (
    (re.compile(r"-mrecord-mcount"), ("x86", "s390")),
    (re.compile(r"-fsanitize=(?:kernel-hwaddress|shadow-call-stack)"), ("arm64",)),
    (re.compile(r"-m32\b|-m64\b"), ("x86", "powerpc", "s390", "sparc")),
    # Redefining it fails where the compiler has 128-bit integers.
    (re.compile(r"-D__SIZEOF_INT128__=0"), ("arm", "mips")),
    (re.compile(r"\.uleb128 \.Lexpr_end4"), ("arm", "arm64", "x86", "powerpc", "s390", "mips")),
    (re.compile(r"-mstack-protector-guard=tls"), ("arm", "riscv", "powerpc")),
)
# Programs of the build machine that need not be there: without a compiler, without them.
_HOST_TOOLS = re.compile(r"\brustc\b|\bbindgen\b|rust_is_available|\bpahole\b|python3? -c")


@dataclass(frozen=True)
class Toolchain:
    """Who answers the probes of a tree for ``arch``.

    ``prefix`` is what make calls CROSS_COMPILE, ``cc`` the compiler; ``assumed`` says that there
    is none and the answers are a modern GCC's. ``version_text`` is the first line of
    ``cc --version``.
    """

    arch: str
    prefix: str
    cc: str
    assumed: bool
    version_text: str

    @property
    def description(self) -> str:
        """One sentence for the report."""
        if self.assumed:
            return (
                f"no compiler for {self.arch} was asked: the answers to the tree's compiler probes "
                "were assumed to be those of GCC 12.2 and binutils 2.40"
            )
        return f"the tree's compiler probes were answered by {self.cc} ({self.version_text})"

    def variables(self) -> dict[str, str]:
        """What the kernel's Makefile exports of the toolchain."""
        names = {
            "LD": "ld",
            "AR": "ar",
            "NM": "nm",
            "OBJCOPY": "objcopy",
            "OBJDUMP": "objdump",
            "READELF": "readelf",
            "STRIP": "strip",
            "AS": "as",
        }
        tools = {name: f"{self.prefix}{tool}" for name, tool in names.items()}
        return {
            "CC": self.cc,
            "CROSS_COMPILE": "" if self.assumed else self.prefix,
            "CC_VERSION_TEXT": self.version_text,
            "HOSTCC": "gcc",
            "HOSTCXX": "g++",
            "PAHOLE": "pahole",
            "RUSTC": "rustc",
            "BINDGEN": "bindgen",
            "PYTHON3": "python3",
            **tools,
        }


def choose(
    arch: str, *, cross_compile: str | None = None, cc: str | None = None, assume: bool = False
) -> Toolchain:
    """The toolchain for SRCARCH ``arch``.

    ``cross_compile`` and ``cc`` are make's CROSS_COMPILE and CC (the environment's count too);
    without them the machine's own compiler where it fits, then the usual cross compilers, then
    assumed answers. Raises LackError where a compiler was asked for and is not there.
    """
    if assume:
        return _assumed(arch)
    prefix = cross_compile if cross_compile is not None else os.environ.get("CROSS_COMPILE", "")
    if prefix or cc:
        compiler = cc or f"{prefix}gcc"
        found = _working(arch, prefix, compiler)
        if found is None:
            raise LackError(
                f"the compiler '{compiler}' cannot be run",
                hint="check --cross-compile, or leave it out to have the probes assumed",
            )
        return found
    candidates = list(_PREFIXES.get(arch, ()))
    if _NATIVE.get(os.uname().machine) == arch:
        candidates.insert(0, "")
    for candidate in candidates:
        found = _working(arch, candidate, f"{candidate}gcc")
        if found is not None:
            return found
    return _assumed(arch)


def _working(arch: str, prefix: str, compiler: str) -> Toolchain | None:
    words = shlex.split(compiler)
    if not words or process.find(words[0]) is None or process.find(f"{prefix}ld") is None:
        return None
    told = process.run([*words, "--version"], env={"LC_ALL": "C"}, check=False, timeout=20)
    lines = told.text.splitlines()
    if told.returncode != 0 or not lines:
        return None
    # make passes the text through $(subst $(pound),,…).
    return Toolchain(arch, prefix, compiler, False, lines[0].replace("#", ""))


def _assumed(arch: str) -> Toolchain:
    return Toolchain(arch, "assumed-", _ASSUMED, True, "gcc (assumed) 12.2.0")


class Prober:
    """Runs or answers the ``$(shell …)`` commands of one tree while it is read."""

    def __init__(self, toolchain: Toolchain, variables: Mapping[str, str]) -> None:
        self.toolchain = toolchain
        self._variables = dict(variables)
        self._answers: dict[str, str] = {}
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self.assumed = 0

    def __enter__(self) -> Prober:
        # Some probes make files in the current folder; make gives them its output folder.
        self._folder = tempfile.TemporaryDirectory(prefix="embedkit-probe-")
        return self

    def __exit__(self, *_: object) -> None:
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def shell(self, command: str) -> str:
        """The output of ``command``, as ``$(shell …)`` gives it."""
        answer = self._answers.get(command)
        if answer is None:
            answer = _trivial(command)
            if answer is None and self.toolchain.assumed:
                answer = self._assume(command)
            if answer is None:
                answer = self._run(command)
            self._answers[command] = answer
        return answer

    def _run(self, command: str) -> str:
        assert self._folder is not None
        ended = process.run(
            ["/bin/sh", "-c", command],
            env=self._variables,
            cwd=Path(self._folder.name),
            timeout=_PROBE_TIMEOUT_S,
            check=False,
        )
        return ended.stdout.decode("utf-8", "replace").rstrip("\n").replace("\n", " ")

    def _assume(self, command: str) -> str | None:
        """The answer of a modern compiler; None where the command is not about one."""
        match = _IF_SUCCESS.fullmatch(command)
        if match is not None:
            inner = match["command"]
            if "assumed-" in inner:
                self.assumed += 1
                return match["yes"] if _modern_gcc(inner, self.toolchain.arch) else match["no"]
            return match["no"] if _HOST_TOOLS.search(inner) or "plugin-version.h" in inner else None
        if "assumed-" in command:
            self.assumed += 1
            return _version_of(command)
        if _HOST_TOOLS.search(command):
            return "0" if "version.sh" in command else ""
        return None


def _trivial(command: str) -> str | None:
    """Half of all probes only take words apart: no process is needed for them."""
    match = _SET.fullmatch(command)
    if match is not None:
        words = match["words"].split()
        index = int(match["index"])
        return words[index - 1] if index <= len(words) else ""
    match = _IF_SUCCESS.fullmatch(command)
    if match is None:
        return None
    test = _TEST_EQUAL.fullmatch(match["command"])
    if test is not None:
        return match["yes"] if test["left"] == test["right"] else match["no"]
    test = _TEST_EMPTY.fullmatch(match["command"])
    if test is not None:
        return match["yes"] if not test["text"] else match["no"]
    return None


def _modern_gcc(command: str, arch: str) -> bool:
    if _GCC_LACKS.search(command) or "plugin-version.h" in command:
        return False
    if "cc-can-link" in command and "-m32" in command:
        return False
    return all(arch in having for option, having in _GCC_HAS_ONLY_ON if option.search(command))


def _version_of(command: str) -> str:
    """What the tree's version scripts print for GCC 12.2 and binutils 2.40."""
    # The longer names first: gcc-version.sh ends in cc-version.sh.
    if "gcc-version.sh" in command:
        return "120200"
    if "clang-version.sh" in command or "lld-version.sh" in command:
        return "0"
    if "cc-version.sh" in command:
        return "GCC 120200"
    if "as-version.sh" in command:
        return "GNU 24000"
    if "ld-version.sh" in command:
        # Until 5.11 the script read a pipe and printed one number.
        return "240000000" if "|" in command else "BFD 24000"
    if "--version" in command:
        return "gcc (assumed) 12.2.0"
    return ""
