"""A file is digested while it is written, in every shell that is here."""

from __future__ import annotations

import hashlib
import random
import shutil
import subprocess
from pathlib import Path

import pytest

from embedkit.target.digest import Digester
from embedkit.target.follow import followed

SHELLS = [
    shell
    for shell in (["dash"], ["bash"], ["busybox", "sh"], ["mksh"], ["sh"])
    if shutil.which(shell[0])
]


@pytest.mark.parametrize("shell", SHELLS, ids=" ".join)
@pytest.mark.parametrize(("end", "code"), [("cat", 0), ("head -c 100000; exit 7", 7)])
def test_the_digest_of_what_is_there_and_the_writers_exit_code(
    shell: list[str], end: str, code: int, tmp_path: Path
) -> None:
    part = tmp_path / "it's a part"
    part.write_bytes(b"earlier")
    data = random.Random(1).randbytes(3_000_000)
    quoted = str(part).replace("'", "'\\''")
    writer = f"{{ {end}; }} >>'{quoted}'"
    script = followed(writer, str(part), Digester("sha256sum"), 0.02)
    done = subprocess.run(
        [*shell, "-c", script], input=data, capture_output=True, check=False, timeout=60
    )
    assert done.returncode == code
    assert done.stdout.split()[0].decode() == hashlib.sha256(part.read_bytes()).hexdigest()
    assert part.read_bytes() == b"earlier" + (data if code == 0 else data[:100_000])
    assert [path.name for path in tmp_path.iterdir()] == [part.name]
