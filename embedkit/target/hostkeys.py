"""SSH host keys: who is known, and what to say of who is not.

The format is that of sshd(8), "SSH_KNOWN_HOSTS FILE FORMAT". Keys that the user accepted through
embedkit lie in one file a board under the state folder, in the same format.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from embedkit.data import state_folder
from embedkit.files import write_atomically
from embedkit.target.base import HostKeyRefused


@dataclass(frozen=True)
class KnownKey:
    """One key that a file has for a host; ``where`` is ``file:line``."""

    type: str
    blob: bytes
    where: str
    revoked: bool = False


def host_label(host: str, port: int) -> str:
    """The name under which known_hosts files keep a host: ``board`` or ``[board]:2222``."""
    return host.lower() if port == 22 else f"[{host.lower()}]:{port}"


def fingerprint(blob: bytes) -> str:
    """As ``ssh-keygen -l`` shows it."""
    digest = base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip("=")
    return f"SHA256:{digest}"


def accepted_file(name: str) -> Path:
    """Where the keys are that were accepted for the board ``name`` (a printable short name)."""
    return state_folder() / "host-keys" / name


def known_keys(label: str, files: Iterable[Path]) -> list[KnownKey]:
    """All keys that ``files`` have for ``label``; lines that are not understood are skipped, as
    OpenSSH does, and so are host certificate authorities, which are not supported."""
    found = []
    for file in files:
        try:
            text = file.read_text("utf-8", "replace")
        except OSError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            key = _read_line(line, label, f"{file}:{number}")
            if key is not None:
                found.append(key)
    return found


def _read_line(line: str, label: str, where: str) -> KnownKey | None:
    words = line.split()
    revoked = False
    if words and words[0].startswith("@"):
        if words[0] != "@revoked":
            return None
        revoked = True
        words = words[1:]
    if len(words) < 3 or words[0].startswith("#") or not _names(words[0], label):
        return None
    try:
        blob = base64.b64decode(words[2], validate=True)
    except (binascii.Error, ValueError):
        return None
    # The blob begins with its own type (RFC 4253, section 6.6).
    size = int.from_bytes(blob[:4], "big")
    if blob[4 : 4 + size] != words[1].encode():
        return None
    return KnownKey(words[1], blob, where, revoked)


def _names(field: str, label: str) -> bool:
    if field.startswith("|1|"):
        return _hashed(field, label)
    matched = False
    for pattern in field.lower().split(","):
        negated = pattern.startswith("!")
        pattern = pattern.removeprefix("!")
        # Brackets are part of "[host]:port" here and no character class.
        if fnmatch.fnmatchcase(label, pattern.replace("[", "[[]")):
            if negated:
                return False
            matched = True
    return matched


def _hashed(field: str, label: str) -> bool:
    parts = field.split("|")
    if len(parts) != 4:
        return False
    try:
        salt, digest = (base64.b64decode(part, validate=True) for part in parts[2:])
    except (binascii.Error, ValueError):
        return False
    return hmac.compare_digest(hmac.digest(salt, label.encode(), "sha1"), digest)


def check(
    label: str, file: Path, key_type: str, blob: bytes, known: Sequence[KnownKey], *, accept: bool
) -> bool:
    """Whether to go on with a host that shows this key; True where it had to be accepted newly.
    ``file`` is where it would be stored.

    Raises HostKeyRefused for a key that is revoked, that differs from all known ones (always),
    or that is unknown where ``accept`` is off.
    """
    shown = f"{key_type} {fingerprint(blob)}"
    same = [key for key in known if key.blob == blob]
    if any(key.revoked for key in same):
        raise HostKeyRefused(
            f"the host key of {label} is revoked", where=same[0].where, hint=f"it shows {shown}"
        )
    if same:
        return False
    others = [key for key in known if not key.revoked]
    if others:
        places = ", ".join(sorted({key.where for key in others}))
        raise HostKeyRefused(
            f"the host key of {label} has CHANGED: it shows {shown}, and known is "
            + " or ".join(f"{key.type} {fingerprint(key.blob)}" for key in others),
            where=places,
            hint="this may be another machine that answers in its place. If the board was "
            f"reinstalled, check the fingerprint on its console, then remove {places}",
        )
    if not accept:
        raise HostKeyRefused(
            f"the host key of {label} is not known: {shown}",
            hint="if that is the board's fingerprint, run it again with --accept-new-host-key "
            f"(it is stored in {file})",
        )
    return True


def store(label: str, file: Path, key_type: str, blob: bytes) -> None:
    """Adds an accepted key to ``file``. Raises LackError where it cannot be written."""
    file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    before = file.read_bytes() if file.exists() else b""
    line = f"{label} {key_type} {base64.b64encode(blob).decode()}\n"
    write_atomically(file, before + line.encode(), mode=0o600)
