"""The package keeps its own rules, and the check of them notices when it does not."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from support.imports import LONGEST, problems

import embedkit

_PACKAGE = Path(embedkit.__file__).parent


def test_the_package_keeps_its_rules() -> None:
    assert problems(_PACKAGE) == []


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    target = tmp_path / "embedkit"
    shutil.copytree(_PACKAGE, target, ignore=shutil.ignore_patterns("__pycache__", "_data"))
    for name in ("media", "oci", "docker", "target", "lab", "kernel"):
        (target / name).mkdir(exist_ok=True)
        (target / name / "__init__.py").touch()
    return target


@pytest.mark.parametrize(
    ("file", "line", "complaint"),
    [
        ("media/new.py", "from embedkit.oci import x", "may not import embedkit.oci"),
        ("media/new.py", "import embedkit.kernel.config", "may not import embedkit.kernel.config"),
        ("media/new.py", "from ..kernel import config", "may not import embedkit.kernel.config"),
        ("media/new.py", "from embedkit.ui import Ui", "may not import embedkit.ui"),
        (
            "kernel/new.py",
            "from embedkit.report import model",
            "may not import embedkit.report.mod",
        ),
        ("target/new.py", "from embedkit import media", "may not import embedkit.media"),
        ("docker/new.py", "from embedkit.lab import x", "may not import embedkit.lab"),
        ("docker/new.py", "from embedkit.oci import x", "may not import embedkit.oci"),
        ("lab/new.py", "from embedkit.commands import x", "may not import embedkit.commands"),
        ("commands/new.py", "from embedkit import cli", "may not import embedkit.cli"),
        ("report/new.py", "from embedkit.ui import Ui", "may not import embedkit.ui"),
        ("report/new.py", "from embedkit.kernel import config", "may not import embedkit.kernel"),
        ("errors.py", "from embedkit.units import SECTOR", "may not import embedkit.units"),
        ("units.py", "def f():\n    import embedkit.cli", "may not import embedkit.cli"),
        ("stray.py", "import embedkit.errors", "may not import embedkit.errors"),
        ("media/new.py", "print('x')", "print() belongs"),
        ("media/new.py", "import sys\nsys.stderr.write('x')", "sys.stderr belongs"),
        ("media/new.py", "import subprocess", "subprocess belongs"),
        ("media/new.py", "from subprocess import run", "subprocess belongs"),
        ("media/new.py", "import os\nos.system('x')", "os.system belongs"),
        ("media/new.py", "import os\nos.execvp('x', [])", "os.execvp belongs"),
        ("media/new.py", "\n" * LONGEST + "x = 1", f"{LONGEST + 1} lines"),
    ],
)
def test_a_broken_rule_is_noticed(copy: Path, file: str, line: str, complaint: str) -> None:
    before = problems(copy)
    path = copy / file
    path.write_text(
        (path.read_text() if path.exists() else "")
        + "\n" * (1 if path.exists() else 0)
        + line
        + "\n"
    )
    new = [problem for problem in problems(copy) if problem not in before]
    assert any(complaint in problem for problem in new), new


def test_a_cycle_is_noticed(copy: Path) -> None:
    (copy / "media" / "a.py").write_text("from embedkit.media import b\n")
    (copy / "media" / "b.py").write_text("def late():\n    from embedkit.media.c import x\n")
    (copy / "media" / "c.py").write_text("import embedkit.media.a\nx = 1\n")
    assert [problem for problem in problems(copy) if "cycle" in problem] == [
        "import cycle: embedkit.media.a → embedkit.media.b → embedkit.media.c → embedkit.media.a"
    ]


def test_what_is_allowed_stays_allowed(copy: Path) -> None:
    before = problems(copy)
    for file, line in {
        "docker/proof.py": "from embedkit.oci import x",
        "kernel/new.py": "from embedkit.target import x\nfrom embedkit.process import run",
        "lab/new.py": "from embedkit import media, errors",
        "commands/new.py": "from embedkit.report.model import Report\nprint('x')",
    }.items():
        (copy / file).write_text(line + "\n")
    assert problems(copy) == before
