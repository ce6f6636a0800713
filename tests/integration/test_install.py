"""What embedkit ships is found in a checkout, in an editable install and in a wheel."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

_CHECKOUT = Path(__file__).resolve().parents[2]
_ASK = """
import json
from importlib.resources import files
import embedkit
from embedkit.data import shipped_folder
page = files("embedkit.report").joinpath("style.css").read_text("utf-8")
schema = json.loads(files("embedkit.report").joinpath("schema/report-1.json").read_text("utf-8"))
print(json.dumps({
    "package": embedkit.__file__,
    "boards": sorted(p.name for p in shipped_folder("boards").iterdir()),
    "fragments": sorted(p.name for p in shipped_folder("kernel_fragments").iterdir()),
    "where": str(shipped_folder("boards")),
    "page": len(page), "schema": schema["$id"],
    "typed": files("embedkit").joinpath("py.typed").is_file(),
}))
"""


def _ask(python: Path | str, cwd: Path, *, checkout: bool = False) -> dict[str, object]:
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    if checkout:
        environment["PYTHONPATH"] = str(_CHECKOUT)
    ended = subprocess.run(
        [python, "-c", _ASK], capture_output=True, cwd=cwd, env=environment, check=False, text=True
    )
    assert ended.returncode == 0, ended.stderr
    found: dict[str, object] = json.loads(ended.stdout)
    return found


def _names(folder: str) -> list[str]:
    return sorted(path.name for path in (_CHECKOUT / folder).iterdir())


def _same(found: dict[str, object]) -> None:
    assert found["boards"] == _names("boards")
    assert found["fragments"] == _names("kernel_fragments")
    assert found["page"] == len((_CHECKOUT / "embedkit/report/style.css").read_text("utf-8"))
    assert found["schema"] == "urn:embedkit:report:1"
    assert found["typed"] is True


def _environment(folder: Path) -> Path:
    """A bare environment; its pip is this one's, told to install there (``--python``)."""
    venv.create(folder, symlinks=True)
    return folder / "bin" / "python"


def _python(*words: str | Path) -> None:
    """This environment's Python with these words; the network is never asked."""
    argv = [sys.executable, *words]
    ended = subprocess.run(argv, capture_output=True, text=True, check=False, cwd=_CHECKOUT)
    assert ended.returncode == 0, ended.stderr


def _install(python: Path, wheel: Path) -> None:
    # Dependencies are not what is asked about here, and fetching them would take minutes.
    options = ("--quiet", "--disable-pip-version-check", "--no-index", "--no-deps")
    _python("-m", "pip", "--python", python, "install", *options, wheel)


def test_a_checkout_on_the_path(tmp_path: Path) -> None:
    python = _environment(tmp_path / "env")
    found = _ask(python, tmp_path, checkout=True)
    _same(found)
    assert found["where"] == str(_CHECKOUT / "boards")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _python("-m", "build", "--wheel", "--no-isolation", "--outdir", folder)
    (built,) = folder.glob("*.whl")
    return built


def test_the_wheel_holds_what_is_needed_and_no_more(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"embedkit"}
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]
    shipped = {name.removeprefix("embedkit/_data/") for name in names if "/_data/" in name}
    wanted = {
        str(path.relative_to(_CHECKOUT))
        for folder in ("boards", "kernel_fragments")
        for path in (_CHECKOUT / folder).rglob("*")
        if path.is_file()
    }
    assert shipped == wanted


def test_a_wheel_install(wheel: Path, tmp_path: Path) -> None:
    python = _environment(tmp_path / "env")
    _install(python, wheel)
    found = _ask(python, tmp_path)
    _same(found)
    assert str(found["package"]).startswith(str(tmp_path))
    assert str(found["where"]).endswith("embedkit/_data/boards")
    program = tmp_path / "env" / "bin" / "embedkit"
    ended = subprocess.run([program, "--help"], capture_output=True, text=True, check=False)
    assert ended.returncode == 0
    assert "usage: embedkit" in ended.stdout


def test_an_editable_install(tmp_path: Path) -> None:
    python = _environment(tmp_path / "env")
    # What `pip install --editable` does: PEP 660's hook makes a wheel that points here.
    hook = "import sys; from hatchling.build import build_editable; build_editable(sys.argv[1])"
    _python("-c", hook, tmp_path)
    (pointer,) = tmp_path.glob("*.whl")
    _install(python, pointer)
    found = _ask(python, tmp_path)
    _same(found)
    assert found["where"] == str(_CHECKOUT / "boards")
