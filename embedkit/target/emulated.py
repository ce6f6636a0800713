"""Emulated boards of this user: what is written down of them, and how ``qemu:NAME`` is reached.

Each has a folder ``$XDG_STATE_HOME/embedkit/emulations/NAME`` with ``machine.json``, the serial
line's socket and log, QEMU's own socket (QMP), the card's overlay and the SSH host key. One key
pair of the user, beside the folders, opens them all. Who starts and ends them:
:mod:`embedkit.emulate.machine`.
"""

from __future__ import annotations

import dataclasses
import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from embedkit.data import state_folder
from embedkit.errors import InputError, LackError, did_you_mean
from embedkit.files import write_atomically
from embedkit.target.address import QEMU_NAME, QemuAddress, SerialAddress, SshAddress

if TYPE_CHECKING:
    from embedkit.target.sshconfig import HostConfig

SCHEMA = "embedkit.emulation/1"
_LONGEST_STATE = 256 << 10

Phase = Literal["starting", "booting", "up", "off"]
"""``off``: it ended, and its card was kept."""


@dataclass(frozen=True)
class Emulated:
    """``machine.json``.

    ``keeper`` is the process that looks after QEMU (``pid``); ``birth`` tells it from a later
    process of the same number. ``started`` is seconds since 1970. ``way`` is how ``qemu:NAME``
    is reached: "ssh" or "serial". ``card`` is the image that was started from, ``card_stamp``
    its size and time of change.
    """

    name: str
    board: str
    title: str
    arch: str
    phase: str
    keeper: int
    birth: str
    pid: int
    started: float
    accelerator: str
    ssh_port: int | None
    user: str
    way: str
    card: str
    card_stamp: str
    kernel: str
    arguments: str
    keep: bool

    @property
    def folder(self) -> Path:
        return emulations_folder() / self.name

    @property
    def console(self) -> Path:
        return self.folder / "console.sock"

    @property
    def log(self) -> Path:
        return self.folder / "console.log"

    @property
    def qmp(self) -> Path:
        return self.folder / "qmp.sock"

    @property
    def overlay(self) -> Path:
        return self.folder / "card.qcow2"

    @property
    def url(self) -> str:
        return f"qemu:{self.name}"

    @property
    def alive(self) -> bool:
        """Whether its keeper is there: it is the last to go."""
        return self.keeper > 1 and birth(self.keeper) == self.birth

    def write(self) -> None:
        """Puts it into its folder, which must be there. Raises LackError."""
        content = {"schema": SCHEMA, **dataclasses.asdict(self)}
        text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
        write_atomically(self.folder / "machine.json", text.encode(), mode=0o600)


def emulations_folder() -> Path:
    """Where the emulated boards' folders are. It need not exist."""
    return state_folder() / "emulations"


def birth(pid: int) -> str:
    """What no other process of this machine has: when it began, in which boot; "" for none.

    proc(5): field 22 of ``stat`` counts clock ticks since boot; the second field may hold blanks
    and parentheses. A process that ended and is not waited for yet (Z) is gone.
    """
    try:
        words = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return "" if words[0] in "ZX" else f"{boot}:{words[19]}"
    except (OSError, IndexError):
        return ""


def names() -> list[str]:
    """The names of all folders, of boards that run and of what others left."""
    try:
        found = [entry.name for entry in emulations_folder().iterdir() if entry.is_dir()]
    except OSError:
        return []
    return sorted(name for name in found if QEMU_NAME.fullmatch(name))


def read(name: str) -> Emulated | None:
    """What is written down of ``name``; None where there is nothing that makes sense.

    A name that is none is not looked for.
    """
    if not QEMU_NAME.fullmatch(name):
        return None
    try:
        with (emulations_folder() / name / "machine.json").open("rb") as file:
            value = json.loads(file.read(_LONGEST_STATE))
    except (OSError, ValueError, RecursionError):
        return None
    state = _built(value)
    return state if state is not None and state.name == name else None


def _built(value: Any) -> Emulated | None:
    if not isinstance(value, dict) or value.pop("schema", None) != SCHEMA:
        return None
    fields = {field.name: str(field.type) for field in dataclasses.fields(Emulated)}
    if set(value) != set(fields):
        return None
    if not all(_fits(value[key], kind) for key, kind in fields.items()):
        return None
    state = Emulated(**value)
    port = state.ssh_port
    sane = (
        state.phase in get_args(Phase)
        and state.way in ("ssh", "serial")
        and (port is None or 0 < port < 65536)
    )
    return state if sane else None


def _fits(value: object, kind: str) -> bool:
    kinds: dict[str, tuple[type, ...]] = {
        "str": (str,),
        "bool": (bool,),
        "int": (int,),
        "float": (float, int),
        "int | None": (int, type(None)),
    }
    return isinstance(value, kinds[kind]) and (kind == "bool" or not isinstance(value, bool))


def running() -> list[Emulated]:
    """The boards that run, by name."""
    states = (read(name) for name in names())
    return [state for state in states if state is not None and state.alive]


def find(name: str) -> Emulated:
    """The running board called ``name``. Raises InputError, with what may be meant."""
    state = read(name)
    if state is not None and state.alive:
        return state
    known = [other.name for other in running()]
    hint = did_you_mean(name, known)
    if hint is None:
        hint = (
            f"running: {', '.join(known)}"
            if known
            else "none is running; 'embedkit emulate BOARD' starts one"
        )
    raise InputError(f"there is no emulated board '{name}' running", hint=hint)


def locate(address: QemuAddress) -> tuple[Emulated, SshAddress | SerialAddress]:
    """Where ``qemu:NAME`` is. Raises InputError where it does not run or has no network."""
    state = find(address.name)
    way = address.via or state.way
    if way == "serial":
        return state, SerialAddress("unix", path=str(state.console), user=state.user)
    if state.ssh_port is None:
        raise InputError(
            "this emulated board has no network",
            where=address.url,
            hint=f"qemu:{state.name}?via=serial is its serial console",
        )
    return state, SshAddress("127.0.0.1", state.user, state.ssh_port)


def ssh_settings(state: Emulated, address: SshAddress) -> HostConfig:
    """How to get in: with the key of this user's emulated boards and nothing of ssh_config.

    The first host key is taken on trust: QEMU, a process of this user, holds the port.
    """
    from embedkit.target.sshconfig import HostConfig

    assert address.port is not None
    return HostConfig(
        address=address,
        host=address.host,
        port=address.port,
        user=state.user,
        label_host=address.host,
        identity_files=(key_file(),),
        identities_only=True,
        jumps=(),
        proxy_command=None,
        known_hosts=(),
        accept_new=True,
        accepted=state.folder / "known_hosts",
    )


def key_file() -> Path:
    """The private key for this user's emulated boards; :func:`authorized_key` makes it."""
    return emulations_folder() / "id_ed25519"


def authorized_key() -> str:
    """The line for ``authorized_keys`` on emulated boards; the key pair is made where it is
    missing. Raises LackError where that cannot be written."""
    public = key_file().with_name("id_ed25519.pub")
    try:
        if not public.is_file() or not key_file().is_file():
            _make_keys()
        return public.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise LackError(f"the key of emulated boards cannot be made or read: {error}") from error


def _make_keys() -> None:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    folder = make_folder()
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    public = key.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    with tempfile.TemporaryDirectory(dir=folder, prefix=".key-") as work:
        fresh = Path(work) / "key"
        fresh.write_bytes(private)
        fresh.chmod(0o600)
        try:
            # Of two that make one at the same time, the first one's stays.
            os.link(fresh, key_file())
        except FileExistsError:
            private = key_file().read_bytes()
            loaded = serialization.load_ssh_private_key(private, None)
            public = loaded.public_key().public_bytes(
                serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
            )
    line = public + b" embedkit-emulated-boards\n"
    write_atomically(key_file().with_name("id_ed25519.pub"), line, mode=0o644)


def make_folder() -> Path:
    """The folder of all emulated boards, made where it is missing. Raises LackError."""
    folder = emulations_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise LackError(f"cannot make the folder {folder}: {error.strerror}") from error
    return folder
