"""The images of the proof: a docker-archive made in memory, a few kilobytes around a program."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence

_CREATED = "1970-01-01T00:00:00Z"


def archive(
    arch: str,
    name: str,
    files: Mapping[str, bytes],
    *,
    entrypoint: Sequence[str] = (),
    command: Sequence[str] = (),
) -> bytes:
    """A docker-archive with one image of one layer, which every Docker loads.

    ``files`` are executables by their path in the image; the same input gives the same bytes.
    """
    layer = _layer(files)
    diff_id = f"sha256:{hashlib.sha256(layer).hexdigest()}"
    config = json.dumps(
        {
            "architecture": arch,
            "os": "linux",
            "created": _CREATED,
            "config": {
                "Entrypoint": list(entrypoint) or None,
                "Cmd": list(command) or None,
                "Env": ["PATH=/bin"],
                "Labels": {"embedkit.proof": "1"},
            },
            "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            "history": [{"created": _CREATED, "created_by": "embedkit proof"}],
        },
        sort_keys=True,
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = json.dumps(
        [{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]
    ).encode()
    return _tar({"layer.tar": layer, config_name: config, "manifest.json": manifest}, 0o644)


def _layer(files: Mapping[str, bytes]) -> bytes:
    return _tar({path.lstrip("/"): content for path, content in files.items()}, 0o755)


def _tar(files: Mapping[str, bytes], mode: int) -> bytes:
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        folders: set[str] = set()
        for path, content in files.items():
            folder = path.rpartition("/")[0]
            if folder and folder not in folders:
                folders.add(folder)
                info = tarfile.TarInfo(folder)
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            info = tarfile.TarInfo(path)
            info.size, info.mode = len(content), mode
            tar.addfile(info, io.BytesIO(content))
    return made.getvalue()
