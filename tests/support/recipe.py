"""The recipe that embedkit replaces: skopeo to one layout a platform, jq, skopeo to a registry."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

# What people write by hand, for docker save archives NAME-1.tar, NAME-2.tar, …
SCRIPT = r"""
set -eu
target=$1; shift
mkdir -p merged/blobs/sha256
echo '{"imageLayoutVersion":"1.0.0"}' > merged/oci-layout
: > entries
for archive in "$@"; do
    layout=layout-$(basename "$archive" .tar)
    skopeo --insecure-policy copy -q "docker-archive:$archive" "oci:$layout:latest"
    cp -n "$layout"/blobs/sha256/* merged/blobs/sha256/
    config=$(jq -r '.manifests[0].digest | sub("sha256:"; "")' "$layout/index.json")
    config=$(jq -r '.config.digest | sub("sha256:"; "")' "$layout/blobs/sha256/$config")
    platform=$(jq -c '{architecture, os} + (if .variant then {variant} else {} end)' \
        "$layout/blobs/sha256/$config")
    jq -c --argjson platform "$platform" \
        '.manifests[0] | {mediaType, digest, size, platform: $platform}' \
        "$layout/index.json" >> entries
done
jq -c -s '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json",
    manifests: .}' entries > index
digest=$(sha256sum index | cut -d' ' -f1); size=$(stat -c %s index)
cp index "merged/blobs/sha256/$digest"
jq -n -c --arg digest "sha256:$digest" --argjson size "$size" '{schemaVersion: 2, manifests: [{
    mediaType: "application/vnd.oci.image.index.v1+json", digest: $digest, size: $size,
    annotations: {"org.opencontainers.image.ref.name": "latest"}}]}' > merged/index.json
skopeo --insecure-policy copy -q --all --dest-tls-verify=false \
    "oci:merged:latest" "docker://$target"
"""


def run(folder: Path, target: str, archives: list[Path]) -> None:
    """Runs the recipe in ``folder``, which must be empty, and pushes to ``target``."""
    auth = folder / "auth.json"
    auth.write_text("{}")
    subprocess.run(
        ["sh", "-c", SCRIPT, "recipe", target, *map(str, archives)],
        cwd=folder,
        check=True,
        env={**os.environ, "REGISTRY_AUTH_FILE": str(auth)},
        stdout=subprocess.DEVNULL,
    )
