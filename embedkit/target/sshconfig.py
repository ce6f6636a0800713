"""What ssh_config says of a host, as far as embedkit needs it.

paramiko reads the format (Host, Match, tokens) but knows no ``Include``, which Debian's own
/etc/ssh/ssh_config begins with: files that are included are put in place here.
"""

from __future__ import annotations

import getpass
import io
import shlex
from dataclasses import dataclass
from pathlib import Path

from embedkit.errors import InputError
from embedkit.target import hostkeys
from embedkit.target.address import SshAddress, parse_address

_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_INCLUDE_DEPTH = 16


@dataclass(frozen=True)
class HostConfig:
    """One host, with the address's own words over those of ssh_config."""

    address: SshAddress
    host: str
    port: int
    user: str
    label_host: str  # the name under which its key is known (HostKeyAlias)
    identity_files: tuple[Path, ...]
    identities_only: bool
    jumps: tuple[SshAddress, ...]
    proxy_command: str | None
    known_hosts: tuple[Path, ...]
    accept_new: bool
    accepted: Path  # where a key is stored that was accepted


def read_host(address: SshAddress) -> HostConfig:
    """The settings for ``address``. Raises InputError for an ssh_config that cannot be read."""
    from paramiko.config import SSHConfig
    from paramiko.ssh_exception import ConfigParseError, CouldNotCanonicalize

    home = Path.home() / ".ssh"
    config = SSHConfig()
    try:
        # First value wins, so the user's file comes before the system's.
        for file, base in ((home / "config", home), (Path("/etc/ssh/ssh_config"), None)):
            text = _expanded(file, base or file.parent, 0)
            config.parse(io.StringIO("\n".join(text)))
        found = config.lookup(address.host)
    except (ConfigParseError, CouldNotCanonicalize, ImportError, OSError, ValueError) as error:
        raise InputError(
            f"ssh_config cannot be used: {error}", where=str(home / "config")
        ) from error

    def value(name: str, default: str = "") -> str:
        return str(found.get(name, default))

    files = found.get("identityfile") or [str(home / name) for name in _DEFAULT_KEYS]
    known = value("userknownhostsfile", f"{home}/known_hosts {home}/known_hosts2")
    known += " " + value("globalknownhostsfile", "/etc/ssh/ssh_known_hosts")
    host = value("hostname", address.host)
    port = address.port or _port(value("port", "22"))
    proxy = value("proxycommand")
    jump = value("proxyjump")
    # Whichever of the two comes first in the file counts for OpenSSH; paramiko keeps both, and
    # a ProxyJump beside a ProxyCommand is a mistake that is rare enough to prefer the jump.
    jumps = () if jump in ("", "none") else tuple(_hop(hop) for hop in jump.split(","))
    return HostConfig(
        address=address,
        host=host,
        port=port,
        user=address.user or value("user") or getpass.getuser(),
        label_host=value("hostkeyalias") or host,
        identity_files=tuple(Path(file).expanduser() for file in files),
        identities_only=value("identitiesonly") == "yes",
        jumps=jumps,
        proxy_command=None if jumps or proxy in ("", "none") else proxy,
        known_hosts=tuple(Path(word).expanduser() for word in _words(known) if word != "none"),
        accept_new=value("stricthostkeychecking") in ("no", "off", "accept-new"),
        accepted=hostkeys.accepted_file(address.name),
    )


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text[:6]) < 65536:
        raise InputError(f"ssh_config has the port '{text}'")
    return int(text)


def _hop(text: str) -> SshAddress:
    parsed = parse_address(text.strip() if "://" in text else f"ssh://{text.strip()}")
    if not isinstance(parsed, SshAddress):
        raise InputError(f"'{text}' is not a host to jump through")
    return parsed


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text)
    except ValueError:
        return text.split()


def _expanded(file: Path, base: Path, depth: int) -> list[str]:
    """The file's lines with what it includes in place; missing files are empty."""
    if depth > _INCLUDE_DEPTH:
        raise InputError("ssh_config files include each other", where=str(file))
    try:
        lines = file.read_text("utf-8", "replace").splitlines()
    except (FileNotFoundError, PermissionError, NotADirectoryError):
        return []
    result = []
    block = "Host *"
    for line in lines:
        words = _words(line.strip().replace("=", " ", 1)) if line.strip() else []
        keyword = words[0].lower() if words else ""
        if keyword in ("host", "match"):
            block = line
        if keyword != "include":
            result.append(line)
            continue
        for pattern in words[1:]:
            path = Path(pattern).expanduser()
            place = path if path.is_absolute() else base / path
            for found in sorted(Path("/").glob(str(place).lstrip("/"))):
                result += _expanded(found, base, depth + 1)
        result.append(block)  # a Host line inside the included file ends with that file
    return result
