"""Why a board does not come up: a guess from what its serial line said.

Messages are those of Linux (init/do_mounts.c, init/main.c, kernel/exit.c, mm/oom_kill.c,
kernel/panic.c), U-Boot (common/spl, boot/pxe_utils.c, boot/bootm.c), BusyBox's init and the
usual initramfs generators.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable
from dataclasses import dataclass

from embedkit.target.login import UBOOT_PROMPT
from embedkit.target.noise import tail_line, without_ansi

# A machine that starts so often without a login goes on for ever.
LOOP = 3
_LOADER = re.compile(r"^U-Boot (SPL )?\d", re.MULTILINE)
_SPL = re.compile(r"^U-Boot SPL \d", re.MULTILINE)
_KERNEL = re.compile(
    r"Booting Linux on|Linux version \d|Starting kernel \.\.\.|\] Kernel command line:"
    r"|Uncompressing Linux"
)
_KERNEL_SPEAKS = re.compile(r"Booting Linux on|Linux version \d|^\[ *\d+\.\d{6}\]", re.MULTILINE)
_USER_SPACE = re.compile(
    r"Run /\S+ as init process|Freeing unused kernel|^init: |systemd\[1\]|^Starting \S+",
    re.MULTILINE,
)
_PANIC = re.compile(r"Kernel panic - not syncing: (.+)")
_CONSOLE = re.compile(r"(?<!\S)console=([^\s,]+)")
_ROOT = re.compile(r"(?<!\S)root=(\S+)")
# extlinux shows what it appends; the kernel its command line, where it is not quiet.
_SHOWN_ARGUMENTS = re.compile(r"^append: (.*)$|Kernel command line: (.*)$", re.MULTILINE)


@dataclass(frozen=True)
class Scene:
    """What is known. ``log`` is all that the serial line said; ``console`` the machine's own line,
    ``arguments`` what the kernel was given (where QEMU gave it), ``loader_problem`` what is wrong
    with the boot loader on the card. ``from_card``: boot ROM and boot loader are run. The line
    has said nothing for ``quiet_seconds``."""

    log: bytes
    console: str
    login_prompt: str = "login: "
    arguments: str = ""
    from_card: bool = False
    loader_problem: str = ""
    quiet_seconds: float = 60.0


@dataclass(frozen=True)
class Diagnosis:
    """``kind`` is stable and for machines, ``guess`` one sentence, ``advice`` the next step."""

    kind: str
    guess: str
    advice: str = ""


_SLOW = Diagnosis(
    "slow",
    "it was still starting when the time was over",
    "give it more time: --deadline SECONDS",
)
# What said something so short a time ago goes on.
_TALKS_SECONDS = 4.0
# A panic may be followed by its reason, a prompt by more.
_SETTLED_SECONDS = 1.5
# Emulated cards are there at once; their drivers take some seconds, more on a busy machine.
_WAITED_SECONDS = 25.0


def readable(log: bytes) -> str:
    """The log as text without terminal control."""
    return without_ansi(log).decode("utf-8", "replace")


def last_lines(log: bytes, count: int = 12) -> tuple[str, ...]:
    """The last lines that say anything; what steers a terminal is left out."""
    lines = []
    for line in readable(log[-64_000:]).splitlines():
        clean = "".join(sign if sign.isprintable() or sign == "\t" else "?" for sign in line)
        if clean.strip():
            lines.append(clean.rstrip()[:200])
    return tuple(lines[-count:])


def last_boot(log: bytes) -> str:
    """The log from the last start of the machine on."""
    text = readable(log)
    starts = [match.start() for match in _SPL.finditer(text)]
    return text[starts[-1] :] if starts else text


def boots(log: bytes) -> int:
    """How many times the machine started, as far as the log tells."""
    text = readable(log)
    panics = len(_PANIC.findall(text))
    return max(len(_SPL.findall(text)), len(re.findall(r"Linux version \d", text)), panics)


def has_login(scene: Scene) -> bool:
    """Whether a login waits, or waited, on the serial line."""
    return scene.login_prompt in readable(scene.log)


def certain(scene: Scene) -> Diagnosis | None:
    """What no further waiting will change; None where there is still hope."""
    if boots(scene.log) >= LOOP:
        return _loop(scene)
    text = last_boot(scene.log)
    found = _uboot_network(text, scene)
    if found is None and scene.quiet_seconds >= _SETTLED_SECONDS:
        found = _stuck(text, scene)
    if found is None and scene.quiet_seconds >= _WAITED_SECONDS:
        # Where anything was said after it, the device may have come.
        last = text.rstrip().rpartition("\n")[2]
        found = _root_wait(last, scene)
    return found


def _stuck(text: str, scene: Scene) -> Diagnosis | None:
    """What nothing comes after, or at most its own reason."""
    for rule in (_initramfs_shell, _panic, _spl, _uboot_prompt):
        found = rule(text, scene)
        if found is not None:
            return found
    return None


def guess(scene: Scene) -> Diagnosis:
    """The likeliest reason why the board did not come up in time."""
    text = last_boot(scene.log)
    found = certain(scene)
    for rule in (
        _stuck,
        _root_wait,
        _uboot_search,
        _silence,
        _still_talks,
        _after_start,
        _no_login,
    ):
        found = found or rule(text, scene)
    return found or _SLOW


def _arguments(text: str, scene: Scene) -> str:
    shown = [first or second for first, second in _SHOWN_ARGUMENTS.findall(text)]
    return shown[-1] if shown else scene.arguments


def _loop(scene: Scene) -> Diagnosis:
    inner = _panic(readable(scene.log), scene)
    why = f": {inner.guess}" if inner else ""
    return Diagnosis(
        "reset-loop",
        f"it started {boots(scene.log)} times and never came to a login{why}",
        inner.advice
        if inner
        else "look at what it says before each start; a watchdog that "
        "nobody serves, and panic=-1 on the kernel's command line, start a board again",
    )


def _panic(text: str, scene: Scene) -> Diagnosis | None:
    match = _PANIC.search(text)
    if match is None:
        return None
    what = match.group(1).strip()
    arguments = _arguments(text, scene)
    root = _ROOT.search(arguments)
    for pattern, build in _PANICS:
        found = re.search(pattern, what)
        if found is not None:
            return build(found, f"root={root.group(1)}" if root else "")
    return Diagnosis("panic", f"the kernel panicked: {what}", "the lines before it say more")


def _no_root(match: re.Match[str], root: str) -> Diagnosis:
    device = root or "no root= at all"
    return Diagnosis(
        "panic-no-root",
        f"the kernel cannot mount its root file system ({device})",
        "is it the right device and partition, and are the drivers for the card and the file "
        "system in the kernel or its initramfs? 'rootwait' waits for a card that is slow",
    )


def _no_init(match: re.Match[str], root: str) -> Diagnosis:
    where = f" on {root.removeprefix('root=')}" if root else ""
    return Diagnosis(
        "panic-no-init",
        f"the kernel found no init to start{where}",
        "is there a /sbin/init for this architecture in the root file system, with its loader "
        "and libraries? init= on the command line names another",
    )


def _init_died(match: re.Match[str], root: str) -> Diagnosis:
    code = int(match.group(1), 16)
    number, exited = code & 0x7F, code >> 8 & 0xFF
    if number:
        try:
            how = f"by signal {signal.Signals(number).name}"
        except ValueError:
            how = f"by signal {number}"
    else:
        how = f"with exit code {exited}"
    return Diagnosis(
        "panic-init-died",
        f"the first process ended ({how}), which the kernel does not survive",
        "is its root file system whole, and made for this processor? The lines before it may "
        "name a missing file",
    )


def _out_of_memory(match: re.Match[str], root: str) -> Diagnosis:
    return Diagnosis(
        "panic-out-of-memory",
        "the board's memory does not suffice for its kernel and initramfs",
        "give it more (--memory 1GiB), or make the initramfs smaller",
    )


_Build = Callable[[re.Match[str], str], Diagnosis]
_PANICS: tuple[tuple[str, _Build], ...] = (
    (r"Unable to mount root fs|VFS: Unable to mount|Cannot open root device", _no_root),
    (r"No working init found|No init found|Requested init \S+ failed", _no_init),
    (r"Attempted to kill init! exitcode=(0x[0-9a-fA-F]+)", _init_died),
    (r"[Oo]ut of memory|deadlocked on memory", _out_of_memory),
)


def _initramfs_shell(text: str, scene: Scene) -> Diagnosis | None:
    match = re.search(
        r"ALERT! +(\S+) does not exist|the root device '(\S+)' did not come|"
        r"Gave up waiting for (?:root|suspend/resume) "
        r"(?:file system )?device|dracut-initqueue.*timeout|Timed out waiting for device (\S+)",
        text,
    )
    return _missing_root(match, text, scene) if match else None


def _root_wait(text: str, scene: Scene) -> Diagnosis | None:
    match = re.search(
        r"Waiting for root device (\S+?)(?:\.\.\.)?\s*$|[Ww]aiting for (?:the )?(?:root )?"
        r"(?:device |file ?system |block device )?(/dev/[\w/-]+)",
        text,
        re.MULTILINE,
    )
    return _missing_root(match, text, scene) if match else None


def _missing_root(match: re.Match[str], text: str, scene: Scene) -> Diagnosis:
    named = next((group for group in match.groups() if group), None)
    if named is None:
        root = _ROOT.search(_arguments(text, scene))
        named = root.group(1) if root else "its root device"
    return Diagnosis(
        "no-root-device",
        f"it waits for {named}, which does not appear",
        "is root= right for this machine (a card is /dev/mmcblk0 or /dev/vda), and is the driver "
        "for the card in the kernel or its initramfs?",
    )


def _spl(text: str, scene: Scene) -> Diagnosis | None:
    if not re.search(r"SPL: failed to boot from all boot devices|### ERROR ### Please RESET", text):
        return None
    return Diagnosis(
        "spl-no-loader",
        "the first stage (SPL) does not find the boot loader proper on the card",
        "the second stage lies where the first one expects it only if both come from one build "
        "and one file: write u-boot-…-with-spl.bin whole, at the board's offset",
    )


def _uboot_prompt(text: str, scene: Scene) -> Diagnosis | None:
    if not _LOADER.search(text) or not UBOOT_PROMPT.match(tail_line(text.encode()).strip() + " "):
        return None
    return _uboot(text, "U-Boot stopped at its prompt")


def _uboot_search(text: str, scene: Scene) -> Diagnosis | None:
    if not _LOADER.search(text) or _KERNEL.search(text):
        return None
    return _uboot(text, "U-Boot came no further")


def _uboot_network(text: str, scene: Scene) -> Diagnosis | None:
    """The last that U-Boot tries, for minutes: there was nothing on the card."""
    looking = re.search(r"BOOTP broadcast|TFTP (?:from|error)|Retrieving file: pxelinux", text)
    if looking is None or not scene.from_card or not _LOADER.search(text) or _KERNEL.search(text):
        return None
    return _uboot(text, "U-Boot looks for something to boot on the network")


def _uboot(text: str, what: str) -> Diagnosis:
    missing = re.search(
        r"Skipping \S+ for failure retrieving (\S+)|File not found (\S+)|\*\* Unable to read file "
        r"(\S+)|Failed to load '?([^'\s]+)",
        text,
    )
    if missing is not None and "Found /" in text:
        name = next(group for group in missing.groups() if group)
        return Diagnosis(
            "uboot-missing-file",
            f"{what}: its boot script names '{name}', which is not on the card",
            "do the names in the boot script match the files in its folder?",
        )
    if re.search(r"Bad Linux ARM|Wrong Image (?:Format|Type)|Bad Magic|FDT_ERR", text):
        return Diagnosis(
            "uboot-bad-image",
            f"{what}: it does not understand the kernel or device tree that it loaded",
            "bootz takes a zImage, booti an arm64 Image, bootm a uImage or FIT",
        )
    if re.search(r"Card did not respond|MMC: no card present|No partition table|Bad device", text):
        return Diagnosis(
            "uboot-no-card", f"{what}: it cannot read the card", "is its partition table whole?"
        )
    if re.search(r"^Found (?:U-Boot script )?/", text, re.MULTILINE):
        return Diagnosis(
            "uboot-script-failed", f"{what}: its boot script failed", "the lines above say where"
        )
    return Diagnosis(
        "uboot-no-script",
        f"{what}: the boot script is missing",
        "put extlinux/extlinux.conf (or boot.scr) into /boot or the top of the first partition",
    )


def _wrong_console(text: str, scene: Scene) -> str:
    """What is wrong with console=, as far as the arguments are known; "" for nothing."""
    arguments = _arguments(text, scene)
    named = _CONSOLE.findall(arguments)
    if not arguments or scene.console in named:
        return ""
    if not named:
        return f"the kernel was not told console={scene.console}"
    return f"the kernel was told console={', '.join(named)}, and this line is {scene.console}"


def _silence(text: str, scene: Scene) -> Diagnosis | None:
    if text.strip():
        return None
    if scene.from_card:
        return Diagnosis(
            "silence-loader",
            "the serial line is silent: "
            + (scene.loader_problem or "no boot loader started, or it talks on another line"),
            "write the boot loader at the offset that the board's boot ROM reads "
            "('embedkit boards show' tells it, 'embedkit compose' does it)",
        )
    wrong = _wrong_console(text, scene)
    return Diagnosis(
        "silence-console",
        "the serial line is silent: " + (wrong or "the kernel does not start, or not for this CPU"),
        f"console={scene.console} is this machine's line; is the kernel built for its "
        "processor, and with a driver for that line?",
    )


def _after_start(text: str, scene: Scene) -> Diagnosis | None:
    """The kernel was started, and says nothing."""
    started = re.search(r"Starting kernel \.\.\.|booting the kernel\.", text)
    if started is None or text[started.end() :].strip():
        return None
    wrong = _wrong_console(text, scene)
    return Diagnosis(
        "silence-kernel",
        "the kernel was started and says nothing: "
        + (wrong or "its console is on another line, or it died at once"),
        f"console={scene.console} belongs on its command line; 'earlycon' makes it speak "
        "sooner; is the device tree this board's?",
    )


def _still_talks(text: str, scene: Scene) -> Diagnosis | None:
    return _SLOW if scene.quiet_seconds < _TALKS_SECONDS else None


def _no_login(text: str, scene: Scene) -> Diagnosis | None:
    if has_login(scene) or not (_KERNEL_SPEAKS.search(text) or _USER_SPACE.search(text)):
        return None
    wrong = _wrong_console(text, scene)
    getty = re.search(r"getty.*?(tty\w+)|can't open /dev/(tty\w+)", text)
    if getty is not None:
        line = getty.group(1) or getty.group(2)
        wrong = wrong or f"a login for {line} does not start"
    return Diagnosis(
        "no-login",
        "the kernel runs, but no login appears on the serial line"
        + (f": {wrong}" if wrong else ""),
        f"does the inittab (or serial-getty@) start a getty on {scene.console}? Is the start-up "
        "waiting for something (network, a key, fsck)?",
    )
