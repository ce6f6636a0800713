"""containerd's images on a board that has no Docker, asked and fed through ``ctr``."""

from __future__ import annotations

import json
import secrets
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from embedkit.docker.engine import EngineError
from embedkit.docker.store import Daemon, Image, after_all, checked, load_file
from embedkit.progress import Progress
from embedkit.target.base import Equipped, Output, quote
from embedkit.target.pipe import Piped, pipe

NAMESPACE = "default"
SOCKET = "/run/containerd/containerd.sock"
_SECONDS = 180.0


def find_ctr(target: Equipped) -> str | None:
    """The ``ctr`` program on the target, or None."""
    asked = "PATH=$PATH:/usr/local/bin:/usr/bin; command -v ctr"
    return target.run(asked, check=False).text.strip() or None


class CtrImages:
    """Through ``ctr``, in one of containerd's namespaces."""

    def __init__(
        self, target: Equipped, program: str, socket: str = SOCKET, namespace: str = NAMESPACE
    ) -> None:
        self._target = target
        self._socket = socket
        self._words = [program, "-a", socket, "-n", namespace]

    def _line(self, *words: str) -> str:
        return " ".join(quote(word) for word in [*self._words, *words])

    def _ctr(self, *words: str) -> str:
        result = self._target.run(self._line(*words), timeout=_SECONDS, check=False)
        if not result.ok:
            raise EngineError(result.complaint.removeprefix("ctr: "), where=self._target.name)
        return result.text

    def daemon(self) -> Daemon:
        # ctr itself would wait ten seconds for a socket that is not there.
        there = self._target.run(f"[ -S {quote(self._socket)} ]", check=False)
        if not there.ok:
            raise EngineError(f"there is no socket {self._socket}", where=self._target.name)
        told = self._ctr("version")
        # "Client:" and "Server:", each with an indented "Version:".
        server = told.partition("Server:")[2]
        version = next(
            (line.split()[1] for line in server.splitlines() if line.strip().startswith("Version:")
             and len(line.split()) > 1), "",
        )  # fmt: skip
        return Daemon(
            program="containerd",
            version=version,
            arch="",
            root="/var/lib/containerd",
            contents=True,
            way="ctr",
            blobs=blobs(self._target, self._line("content", "ls", "-q")),
        )

    def load(self, archive: Path, *, major: int, progress: Progress, title: str) -> Piped:
        line = self._line("images", "import", "-")
        if not self._target.carries_binary:
            return load_file(self._target, line, archive, progress)
        done = pipe(self._target, line, archive, progress=progress, title=title)
        return checked(done, self._target)

    def find(self, name: str) -> Image | None:
        listed = self._ctr("images", "ls", f"name=={name}").splitlines()[1:]
        # REF TYPE DIGEST SIZE PLATFORMS LABELS
        words = listed[0].split() if listed else []
        digest = next((word for word in words if word.startswith("sha256:")), "")
        if not digest:
            return None
        manifest = self._document(digest)
        config = manifest.get("config")
        found = self._document(str(config.get("digest"))) if isinstance(config, dict) else {}
        rootfs = found.get("rootfs")
        layers = rootfs.get("diff_ids") if isinstance(rootfs, dict) else None
        return Image(
            digest,
            str(found.get("os", "")),
            str(found.get("architecture", "")),
            str(found.get("variant", "")),
            tuple(str(item) for item in layers) if isinstance(layers, list) else (),
        )

    def _document(self, digest: str) -> dict[str, Any]:
        try:
            found = json.loads(self._ctr("content", "get", digest))
        except (ValueError, RecursionError) as error:
            raise EngineError(f"{digest} on the board is no JSON document") from error
        return found if isinstance(found, dict) else {}

    def tag(self, id: str, name: str) -> None:
        self._ctr("images", "tag", "--force", id, name)

    def remove(self, name: str) -> None:
        self._target.run(self._line("images", "rm", name), timeout=_SECONDS, check=False)

    def run(self, image: str, command: Sequence[str], output: Output) -> int:
        name = f"embedkit-{secrets.token_hex(6)}"
        try:
            return self._target.stream(
                self._line("run", "--rm", image, name, *command), output=output
            )
        except BaseException:
            task = self._line("tasks", "kill", "-s", "SIGKILL", name)
            gone = self._line("containers", "rm", name)
            end = f"{task}; sleep 1; {gone}"
            after_all(self._target, lambda: self._target.run(end, timeout=_SECONDS, check=False))
            raise


def blobs(target: Equipped, line: str) -> frozenset[str] | None:
    """The digests that a content store has, by the command that lists them; None where it
    cannot be asked."""
    result = target.run(line, timeout=_SECONDS, check=False)
    return frozenset(result.text.split()) if result.ok else None
