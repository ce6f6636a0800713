"""From a URL to a target. Each transport's module is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from embedkit.errors import InputError
from embedkit.target.address import (
    LocalAddress,
    QemuAddress,
    SerialAddress,
    SshAddress,
    parse_address,
)
from embedkit.target.base import AskSecret, Target


@dataclass(frozen=True)
class Access:
    """How to get in. ``ask`` is called for passwords and passphrases, only when one is needed.

    ``accept_new_host_key`` stores an unknown SSH host key; a changed one is refused always.
    ``legacy`` allows SSH algorithms that are broken or too weak for anything but old boards;
    ``say`` hears of things worth a line (a host key that was stored).
    """

    ask: AskSecret | None = None
    accept_new_host_key: bool = False
    legacy: bool = False
    say: Callable[[str], None] | None = None


def open_target(url: str, access: Access | None = None) -> Target:
    """The target at ``url``; it connects on first use.

    Raises InputError for a URL that cannot be understood, for an emulated board that does not
    run, and for a U-Boot prompt, which is no shell (see :func:`open_uboot`).
    """
    access = access or Access()
    address = parse_address(url)
    if isinstance(address, LocalAddress):
        from embedkit.target.local import LocalTarget

        return LocalTarget()
    if isinstance(address, QemuAddress):
        return _emulated(address, access)
    if isinstance(address, SshAddress):
        from embedkit.target.ssh import SshTarget

        return SshTarget(
            address,
            ask=access.ask,
            accept_new_host_key=access.accept_new_host_key,
            legacy=access.legacy or address.legacy,
            say=access.say,
        )
    if address.uboot:
        raise InputError(
            "a U-Boot prompt has no shell and no files",
            where=address.url,
            hint="'embedkit run', 'put' (into memory) and 'console' work there",
        )
    return _serial(address, access)


def _emulated(address: QemuAddress, access: Access) -> Target:
    from embedkit.target.emulated import locate, ssh_settings

    state, place = locate(address)
    if isinstance(place, SerialAddress):
        from embedkit.target.serial import SerialTarget

        return SerialTarget(place, ask=access.ask, url=address.url, name=state.name)
    from embedkit.target.ssh import SshTarget

    return SshTarget(
        place,
        ask=access.ask,
        legacy=access.legacy,
        config=ssh_settings(state, place),
        url=address.url,
        name=state.name,
    )


def _serial(address: SerialAddress, access: Access) -> Target:
    from embedkit.target.serial import SerialTarget

    return SerialTarget(address, ask=access.ask)
