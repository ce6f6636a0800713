"""Whether a text is a kernel config, and if not, what it is instead."""

from __future__ import annotations

import re

from embedkit.errors import InputError

# The largest real config is 0.3 MiB.
MAX_CONFIG = 16 << 20

CONFIG_LINE = re.compile(rb"^(?:CONFIG_\w+=|# CONFIG_\w+ is not set)", re.MULTILINE)

# Control characters that text rarely has (tab, line ends, form feed and escape aside).
_CONTROL = rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]"

CONFIG_HINT = "give a .config, a kernel image built with CONFIG_IKCONFIG, or a build folder"

_HEAD = 4096
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
# The header of a config that another project's kconfig wrote (its symbols look like the kernel's).
_STRANGERS = (
    (b"# U-Boot ", b"Configuration", "U-Boot's"),
    (b"# Barebox/", b"Configuration", "barebox's"),
    (b"# Busybox version:", b"", "BusyBox's"),
    (b"# Xen/", b"Configuration", "Xen's"),
    (b"# OpenWrt ", b"Configuration", "OpenWrt's"),
)


def is_text(head: bytes) -> bool:
    """Whether bytes that begin with ``head`` are worth reading as text."""
    if head.startswith(_UTF16):
        return True
    if not head or b"\0" in head:
        return False
    return re.search(_CONTROL, head) is None or CONFIG_LINE.search(head) is not None


def check_text(content: bytes) -> None:
    """Raises InputError (without a place) where ``content`` is not a kernel config."""
    if not content:
        raise InputError("it is empty", hint=CONFIG_HINT)
    if len(content) > MAX_CONFIG:
        limit = f"{MAX_CONFIG >> 20} MiB"
        raise InputError(f"text of more than {limit}: no kernel config", hint=CONFIG_HINT)
    for line in content[:_HEAD].splitlines()[:8]:
        for start, end, whose in _STRANGERS:
            if line.startswith(start) and line.rstrip().endswith(end):
                message = f"this is {whose} configuration, not a kernel's"
                raise InputError(message, hint=CONFIG_HINT)
    if CONFIG_LINE.search(content) is None:
        raise _what_else(content)
    if b"\0" in content:
        raise InputError("a kernel config with binary data in it", hint="copy it again")


# What a text may be instead, in the order of asking: a pattern, what it is, what to do.
_OTHERS = (
    (
        rb"\A(?:\xff\xfe|\xfe\xff)",
        "this is UTF-16 text",
        "kernel configs are plain ASCII: convert it with iconv",
    ),
    (
        rb"(?m)^(?:BR2_\w+=|# BR2_\w+ is not set)",
        "this is Buildroot's own configuration, not the kernel's",
        "the kernel's is build/linux-*/.config in Buildroot's output folder: give that folder",
    ),
    (
        rb"(?i)\A\s*<(?:!doctype html|html|head|body|\?xml)",
        "this is a web page, not a kernel config",
        "download the raw file instead",
    ),
    (
        rb"(?m)^#define CONFIG_\w+ ",
        "this is the C header made from a kernel config",
        "give the .config of the same build folder",
    ),
    (
        rb"(?m)^(?:menu)?config [A-Z0-9_]+[ \t\r]*\n[ \t]+\S",
        "this is a Kconfig file: it declares options and sets none",
        CONFIG_HINT,
    ),
    (
        rb"(?m)^[ \t]+CONFIG_\w+=",
        "its CONFIG_ lines do not begin where the line begins",
        CONFIG_HINT,
    ),
)


def _what_else(content: bytes) -> InputError:
    for pattern, what, hint in _OTHERS:
        if re.search(pattern, content):
            return InputError(what, hint=hint)
    return InputError("no CONFIG_ lines: this text is not a kernel config", hint=CONFIG_HINT)
