"""Asks a target for its facts: one script, one exchange, nothing needed but ``sh``.

Every program is used only where it is there, and what only ``sh`` can do is done by ``sh``:
files are read with ``read``, folders with patterns. Sections are framed by a random word, so
that nothing a board says can be taken for another answer.
"""

from __future__ import annotations

import re
import secrets
import time

from embedkit.errors import TargetError
from embedkit.target.base import COMMAND_SECONDS, Equipped
from embedkit.target.facts import (
    Cgroups,
    CgroupVersion,
    DockerFacts,
    Facts,
    Filesystem,
    Firewall,
    Init,
    Modules,
)
from embedkit.target.platform import read_elf, read_platform

# Modules that Docker loads or needs when they are not built in; which of them matter for the
# board's kernel is the audit's business, this says what its module folder holds.
WANTED_MODULES = (
    "overlay", "bridge", "br_netfilter", "veth", "iptable_nat", "iptable_filter", "iptable_raw",
    "nf_nat", "nf_conntrack", "nf_tables", "xt_addrtype", "xt_conntrack", "xt_MASQUERADE",
    "xt_comment", "ip_tables", "nft_chain_nat", "nft_compat",
)  # fmt: skip
_PROGRAMS = (
    "base64 cksum containerd curl df dockerd docker fsync gpasswd gunzip gzip id ip ip6tables "
    "iptables iptables-legacy iptables-nft kmod lsmod md5sum modprobe mount nft ntpd od openssl "
    "ps reboot runc scp sed sha256sum stat sync systemctl tar tr uname unxz update-rc.d rc-update "
    "wget xz zstd awk grep head hexdump start-stop-daemon busybox addgroup groupadd chronyd"
)

_SCRIPT = r"""
PATH=$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
M=@MARK@
if [ -e /dev/null ]; then exec 2>/dev/null; else exec 2>&-; fi
h() { [ -n "$(command -v "$1")" ]; }
s() { echo; echo "$M $1"; }
f() { [ -r "$1" ] && while IFS= read -r l || [ -n "$l" ]; do printf '%s\n' "$l"; done <"$1"; }
s tools; for t in @PROGRAMS@; do h $t && echo $t; done
s user; h id && id -u
f /proc/self/status
s hostname; f /proc/sys/kernel/hostname
s release; f /proc/sys/kernel/osrelease
s version; f /proc/sys/kernel/version
s machine; if h uname; then uname -m; elif h busybox; then busybox uname -m; elif h arch; then arch; fi
s bootid; f /proc/sys/kernel/random/boot_id
s uptime; f /proc/uptime
s os; f /etc/os-release || f /usr/lib/os-release || f /etc/issue
s cpuinfo; f /proc/cpuinfo
s meminfo; f /proc/meminfo
s filesystems; f /proc/filesystems
s mounts; f /proc/mounts
s df; h df && df -kP
s dfi; h df && df -iP
s cgroups; f /proc/cgroups
s controllers; f /sys/fs/cgroup/cgroup.controllers
s kconfig; for c in /proc/config.gz "/boot/config-$(f /proc/sys/kernel/osrelease)"; do [ -r "$c" ] && echo "$c"; done
s modules; if [ -e /proc/modules ]; then echo supported; f /proc/modules; fi
s moduledir; R=$(f /proc/sys/kernel/osrelease); for d in /lib/modules/$R /usr/lib/modules/$R; do [ -d "$d" ] && echo "$d" && break; done
s depend; while IFS= read -r l; do l=${l%%:*}; n=${l##*/}; n=${n%%.*}
case " @MODULES@ " in *" $n "*) [ -r "$d/$l" ] && echo "$n";; esac; done <"$d/modules.dep"
s builtin; while IFS= read -r l; do n=${l##*/}; n=${n%%.*}
case " @MODULES@ " in *" $n "*) echo "$n";; esac; done <"$d/modules.builtin"
s pid1; f /proc/1/comm; [ -h /proc/1/exe ] && h readlink && readlink /proc/1/exe
s init; [ -d /run/systemd/system ] && echo systemd
[ -e /run/openrc/softlevel ] || [ -e /lib/rc/init.d/softlevel ] && echo openrc
[ -x /sbin/openrc-run ] && echo openrc-installed
[ -r /etc/inittab ] && echo inittab
[ -d /etc/init.d ] && echo initd
[ -d /etc/rc2.d ] || [ -d /etc/rc.d/rc2.d ] && echo rcd
[ -h /sbin/init ] && h readlink && echo "link $(readlink /sbin/init)"
for i in /etc/init.d/S??*; do [ -e "$i" ] && echo snn && break; done
s iptables; h iptables && { command -v iptables; iptables --version; }
s natlist; h iptables && { iptables -w 2 -t nat -nL >/dev/null || iptables -t nat -nL >/dev/null; echo $?; }
s nft; h nft && command -v nft
s clock; h date && date +%s
s resolv; f /etc/resolv.conf
s ca; for c in /etc/ssl/certs/ca-certificates.crt /etc/pki/tls/certs/ca-bundle.crt /etc/ssl/ca-bundle.pem /etc/ssl/cert.pem /etc/pki/tls/cacert.pem; do [ -r $c ] && echo $c && break; done
s dev; for d in /dev/pts /dev/shm /dev/mqueue /dev/net/tun /dev/fuse /dev/null; do [ -e $d ] && echo $d; done
s docker; h dockerd && { command -v dockerd; dockerd --version; }
[ -S /var/run/docker.sock ] && echo socket
for p in /proc/[0-9]*/comm; do read -r c <$p && [ "$c" = dockerd ] && echo running && break; done
s elf; for e in /bin/busybox /bin/sh /proc/self/exe; do [ -r $e ] || continue; echo $e
if h od; then od -An -v -tx1 -N 52 $e; elif h hexdump; then hexdump -v -n 52 -e '1/1 "%02x "' $e; echo
elif h head && h base64; then echo b64; head -c 52 $e | base64; fi; break; done
s loader; for l in /lib/ld-linux-armhf.so.3 /lib/ld-linux.so.3 /lib/ld-musl-armhf.so.1 /lib/ld-musl-arm.so.1 /lib/ld-uClibc.so.0; do [ -e $l ] && echo $l; done
s end
:
"""  # noqa: E501


def gather(target: Equipped) -> Facts:
    """Everything about ``target`` that :class:`~embedkit.target.facts.Facts` names.

    Raises TargetError where even ``sh`` does not answer.
    """
    mark = f"@{secrets.token_hex(8)}"
    asked = (
        _SCRIPT.replace("@MARK@", mark)
        .replace("@PROGRAMS@", _PROGRAMS)
        .replace("@MODULES@", " ".join(WANTED_MODULES))
    )
    begun = time.time()
    result = target.run(asked, timeout=COMMAND_SECONDS * 2, check=False)
    sections = split_sections(result.stdout, mark)
    if "end" not in sections:
        raise TargetError(
            f"its shell does not run the probe: {result.complaint}", where=target.name
        )
    # The answer may have taken long on a serial line: half of that is the best guess.
    return read_facts(sections, (begun + time.time()) / 2)


def split_sections(output: bytes, mark: str) -> dict[str, str]:
    """Section name → its text, from what the script printed."""
    sections: dict[str, str] = {}
    text = output.decode("utf-8", "replace")
    for part in f"\n{text}".split(f"\n{mark} ")[1:]:
        name, _, body = part.partition("\n")
        sections[name.strip()] = body.strip("\n")
    return sections


def read_facts(sections: dict[str, str], now: float) -> Facts:
    """Facts from the script's sections; whatever is missing or odd becomes unknown."""

    def text(name: str) -> str:
        return sections.get(name, "").strip()

    def lines(name: str) -> list[str]:
        return [line for line in sections.get(name, "").splitlines() if line.strip()]

    tools = frozenset(lines("tools"))
    memory = _meminfo(lines("meminfo"))
    clock = _number(text("clock"))
    kernel_filesystems = tuple(line.split()[-1] for line in lines("filesystems"))
    elf = read_elf(lines("elf"))
    uptime = text("uptime").split()
    return Facts(
        hostname=text("hostname"),
        user_id=_user_id(lines("user")),
        os_name=_os_name(lines("os")),
        kernel_release=text("release"),
        kernel_version=text("version"),
        boot_id=text("bootid"),
        uptime_seconds=float(uptime[0]) if uptime and _FLOAT.fullmatch(uptime[0]) else None,
        platform=read_platform(text("machine"), lines("cpuinfo"), elf, lines("loader")),
        memory_bytes=memory.get("MemTotal"),
        # MemAvailable came with Linux 3.14; before it, what is free at once is all that is known.
        memory_available_bytes=memory.get("MemAvailable", memory.get("MemFree")),
        swap_bytes=memory.get("SwapTotal"),
        kernel_config=next(iter(lines("kconfig")), ""),
        kernel_filesystems=kernel_filesystems,
        modules=_modules(lines("modules"), text("moduledir"), lines("depend"), lines("builtin")),
        init=_init(text("pid1").splitlines(), set(lines("init"))),
        init_detail=" ".join(text("pid1").splitlines()),
        cgroups=_cgroups(lines("mounts"), lines("cgroups"), text("controllers").split()),
        firewall=_firewall(lines("iptables"), text("natlist"), text("nft")),
        filesystems=_filesystems(lines("mounts"), lines("df"), lines("dfi")),
        clock_seconds=clock,
        clock_offset_seconds=None if clock is None else round(clock - now),
        nameservers=tuple(
            words[1]
            for line in lines("resolv")
            if (words := line.split())[0] == "nameserver" and len(words) > 1
        ),
        ca_bundle=text("ca"),
        docker=_docker(lines("docker")),
        tools=tools,
        devices=frozenset(lines("dev")),
    )


_FLOAT = re.compile(r"\d{1,12}(\.\d{1,6})?")


def _number(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _user_id(lines: list[str]) -> int | None:
    for line in lines:
        if line.isdigit():
            return _number(line)
        if line.startswith("Uid:"):
            return _number(line.split()[1]) if len(line.split()) > 1 else None
    return None


def _os_name(lines: list[str]) -> str:
    for line in lines:
        name, _, value = line.partition("=")
        if name == "PRETTY_NAME":
            return value.strip().strip("\"'")
    return lines[0].strip() if lines and "=" not in lines[0] else ""


def _meminfo(lines: list[str]) -> dict[str, int]:
    found = {}
    for line in lines:
        name, _, rest = line.partition(":")
        words = rest.split()
        if words and (value := _number(words[0])) is not None:
            found[name.strip()] = value * 1024
    return found


def _modules(lines: list[str], folder: str, depend: list[str], builtin: list[str]) -> Modules:
    loaded = tuple(line.split()[0] for line in lines[1:])
    return Modules(
        supported=bool(lines),
        folder=folder,
        folder_exists=bool(folder),
        loaded=loaded,
        loadable=tuple(dict.fromkeys(depend)),
        builtin=tuple(dict.fromkeys(builtin)),
    )


def _init(pid1: list[str], signs: set[str]) -> Init:
    name = pid1[0] if pid1 else ""
    program = pid1[1] if len(pid1) > 1 else ""
    link = next((sign[5:] for sign in signs if sign.startswith("link ")), "")
    if name == "systemd" or "systemd" in signs or program.endswith("/systemd"):
        return Init.SYSTEMD
    if "openrc" in signs or name == "openrc-init":
        return Init.OPENRC
    # BusyBox's sh as process 1 is BusyBox as well, but no init.
    if name not in ("init", "linuxrc") and not program.endswith("/init"):
        return Init.NONE if name else Init.UNKNOWN
    if program.endswith("busybox") or link.endswith("busybox"):
        return Init.BUSYBOX
    if "inittab" in signs and "rcd" in signs:
        return Init.SYSV
    if "inittab" in signs or "snn" in signs:
        return Init.BUSYBOX
    return Init.SYSV if "initd" in signs else Init.UNKNOWN


def _unescape(field: str) -> str:
    """/proc/mounts writes space, tab, newline and backslash as octal (fs/proc_namespace.c)."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), field)


def _cgroups(mounts: list[str], known: list[str], unified: list[str]) -> Cgroups:
    v1: list[str] = []
    v2: list[str] = []
    controllers: list[str] = []
    names = [line.split()[0] for line in known if not line.startswith("#")]
    for line in mounts:
        words = line.split()
        if len(words) < 4:
            continue
        if words[2] == "cgroup2":
            v2.append(_unescape(words[1]))
        elif words[2] == "cgroup":
            v1.append(_unescape(words[1]))
            controllers += [word for word in words[3].split(",") if word in names]
    if v1:
        version = CgroupVersion.HYBRID if v2 else CgroupVersion.V1
    else:
        version = CgroupVersion.V2 if v2 else CgroupVersion.NONE
        controllers = unified
    enabled = [line.split()[0] for line in known if line.split()[-1:] == ["1"]]
    return Cgroups(version, tuple(v1 + v2), tuple(dict.fromkeys(controllers)), tuple(enabled))


def _firewall(lines: list[str], nat: str, nft: str) -> Firewall:
    path = lines[0].strip() if lines else ""
    version = lines[1].strip() if len(lines) > 1 else ""
    backend = ""
    if version:
        # Before 1.8 there was only one, and it did not name itself.
        backend = "nf_tables" if "nf_tables" in version else "legacy"
    usable = None if not nat else nat.split()[-1] == "0"
    return Firewall(path, version.removeprefix("iptables "), backend, nft, usable)


def _filesystems(mounts: list[str], df: list[str], dfi: list[str]) -> tuple[Filesystem, ...]:
    space, inodes = _df(df), _df(dfi)
    found = []
    for line in mounts:
        words = line.split()
        if len(words) < 4:
            continue
        mount = _unescape(words[1])
        size, free = space.get(mount, (None, None))
        count, left = inodes.get(mount, (None, None))
        found.append(
            Filesystem(
                mount=mount,
                device=_unescape(words[0]),
                type=words[2],
                read_only="ro" in words[3].split(","),
                size_bytes=None if size is None else size * 1024,
                available_bytes=None if free is None else free * 1024,
                # btrfs and vfat count none and say 0.
                inodes=count or None,
                inodes_free=left if count else None,
            )
        )
    return tuple(found)


def _df(lines: list[str]) -> dict[str, tuple[int | None, int | None]]:
    """Mount → (total, available), from POSIX ``df -P``; device and mount may hold spaces."""
    found = {}
    for line in lines[1:]:
        match = re.fullmatch(r".+?\s+(\d+)\s+(-?\d+)\s+(-?\d+)\s+(?:-|\d+%)\s+(/.*)", line)
        if match is not None:
            found[match.group(4)] = (_number(match.group(1)), _number(match.group(3)))
    return found


def _docker(lines: list[str]) -> DockerFacts:
    path = next((line for line in lines if line.startswith("/")), "")
    version = ""
    for line in lines:
        match = re.search(r"[Vv]ersion ([0-9][\w.+~-]*)", line)
        if match is not None:
            version = match.group(1)
    return DockerFacts(path, version, "running" in lines, "socket" in lines)
