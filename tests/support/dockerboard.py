"""A board for deployments: a root file system of its own (BusyBox, Debian's iptables and the
libraries that Debian's Docker needs), with namespaces of its own for processes, mounts, the
network and the host name. Ended by process id; nothing of it is left on the host.

What is real: the kernel, BusyBox's sh and init, iptables, dockerd, containerd, runc and the
containers. What is not: the processor (the host's) and the board's libraries (Debian's).
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

from embedkit.process import require
from embedkit.target.local import LocalTarget
from support import debian, locks
from support.sshservers import Server, busybox_root, openssh

# Debian's packages of a complete bundle: package → program → name in the bundle.
BUNDLE = {
    "docker.io": {
        "usr/bin/docker": "docker",
        "usr/sbin/dockerd": "dockerd",
        "usr/sbin/docker-proxy": "docker-proxy",
    },
    "containerd": {
        "usr/bin/containerd": "containerd",
        "usr/bin/containerd-shim-runc-v2": "containerd-shim-runc-v2",
        "usr/bin/ctr": "ctr",
    },
    "runc": {"usr/sbin/runc": "runc"},
    "tini": {"usr/bin/tini-static": "docker-init"},
}

_BOOT = """\
set -e
export PATH=/bin:/sbin:/usr/bin:/usr/sbin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t tmpfs -o mode=755 dev /dev
mkdir /dev/pts /dev/shm
mount -t devpts -o newinstance,ptmxmode=666 devpts /dev/pts
mount -t tmpfs shm /dev/shm
ln -s pts/ptmx /dev/ptmx
ln -s /proc/self/fd /dev/fd
for d in 'null 1 3' 'zero 1 5' 'full 1 7' 'urandom 1 9' 'random 1 8' 'tty 5 0'; do
  set -- $d; mknod -m 666 /dev/$1 c $2 $3
done
mount -t tmpfs -o mode=755 run /run
hostname dockerboard
ip link set lo up
@MORE@
umount -l /old
echo @WORD@ >/run/booted
exec @INIT@
"""
# What a distribution's init does on this kind of host; a board whose init does not has none.
_CGROUPS = """\
mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
while read -r d m t o rest; do
  case $t in cgroup) case $m in /old/sys/fs/cgroup/*) n=${m##*/}; mkdir -p /sys/fs/cgroup/$n
    mount --bind "$m" /sys/fs/cgroup/$n;; esac;;
  cgroup2) if [ "$m" = /old/sys/fs/cgroup ]; then mount --bind "$m" /sys/fs/cgroup; fi;; esac
done </proc/mounts
"""
# systemd moves what it finds in the root of its cgroups, so its board has a root of its own.
_OWN_CGROUP = """\
for base in /sys/fs/cgroup/systemd /sys/fs/cgroup; do
  [ -e $base/cgroup.procs ] && mkdir $base/@NAME@ && echo $$ >$base/@NAME@/cgroup.procs && break
done
exec unshare --cgroup "$@"
"""
_SYSTEMD = """\
mkdir -p /sys/fs/cgroup
if [ -d /old/sys/fs/cgroup/systemd ]; then
  mount -t tmpfs -o mode=755 cgroup /sys/fs/cgroup
  mkdir /sys/fs/cgroup/systemd
  mount -t cgroup -o none,name=systemd,xattr cgroup /sys/fs/cgroup/systemd
else
  mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
export container=embedkit
"""
_PIVOT = """\
mount --make-rprivate / && mount --bind "$1" "$1" && cd "$1" && mkdir -p old &&
pivot_root . old && exec chroot . /bin/sh /boot.sh
"""


def programs(root: Path, wanted: Iterable[Path]) -> None:
    """Copies the libraries of ``wanted`` to where they are looked for."""
    found: set[str] = set()
    for program in wanted:
        listed = subprocess.run(["ldd", program], capture_output=True, text=True, check=False)
        for line in listed.stdout.splitlines():
            words = line.replace("=>", " ").split()
            found |= {word for word in words if word.startswith("/")}
    for library in sorted(found):
        to = root / library.removeprefix("/")
        to.parent.mkdir(parents=True, exist_ok=True)
        if not to.exists():
            shutil.copy(library, to)


def bundle_folder(arch: str = "amd64") -> Path:
    """A complete bundle from Debian's packages, as a folder. Made once, in the cache."""
    versions = "".join(debian.version(package, arch) for package in BUNDLE)
    digest = hashlib.sha1(versions.encode()).hexdigest()[:10]

    def fill(folder: Path) -> None:
        for package, members in BUNDLE.items():
            unpacked = debian.unpack(package, arch)
            for member, program in members.items():
                shutil.copy(unpacked / member, folder / program)
                (folder / program).chmod(0o755)

    return locks.made_once(debian.cache() / "bundles" / f"bundle-{arch}-{digest}", fill)


class Board:
    """One board. ``init`` is busybox, none or a path in the root; ``cgroups`` whether its init
    mounts them; ``firewall`` whether it has iptables."""

    def __init__(
        self,
        folder: Path,
        *,
        init: str = "busybox",
        cgroups: bool = True,
        firewall: bool = True,
        libraries: Iterable[Path] = (),
        boot: str = "",
    ) -> None:
        self.root = busybox_root(folder / "root")
        self.init = init
        self.log = folder / "boot.log"
        self._cgroup = f"embedkit-board-{secrets.token_hex(4)}"
        if init == "systemd":
            self._boot = _SYSTEMD + boot
        else:
            self._boot = (_CGROUPS if cgroups else "") + boot
        self._running: subprocess.Popen[bytes] | None = None
        self._make(libraries, firewall)

    def _make(self, libraries: Iterable[Path], firewall: bool) -> None:
        root = self.root
        for name in ("run", "sys", "var/log", "var/lib", "usr/bin", "usr/sbin", "usr/local/bin",
                     "opt", "etc/init.d", "mnt"):  # fmt: skip
            (root / name).mkdir(parents=True, exist_ok=True)
        shutil.rmtree(root / "opt", ignore_errors=True)
        if (root / "var/run").is_dir() and not (root / "var/run").is_symlink():
            shutil.rmtree(root / "var/run")
            (root / "var/run").symlink_to("../run")
        (root / "sbin/init").unlink(missing_ok=True)
        if self.init == "sysv":
            self._make_sysv()
        elif self.init == "systemd":
            self._make_systemd()
        else:
            if self.init == "openrc":
                self._make_openrc()
            (root / "sbin/init").symlink_to("../bin/busybox")
        (root / "etc/inittab").write_text(
            "::sysinit:/etc/init.d/rcS\n::wait:/bin/true\n::respawn:/bin/sleep 1000\n"
            "::shutdown:/etc/init.d/rcK\n"
        )
        if self.init == "sysv":
            (root / "etc/inittab").write_text("id:2:initdefault:\nl2:2:wait:/etc/init.d/rc 2\n")
        if self.init == "openrc":
            levels = ("sysinit", "boot", "default")
            lines = [f"::wait:/sbin/openrc {level}" for level in levels]
            (root / "etc/inittab").write_text("\n".join([*lines, "::respawn:/bin/sleep 1000\n"]))
        rcs = root / "etc/init.d/rcS"
        rcs.write_text('#!/bin/sh\nfor i in /etc/init.d/S??*; do [ -x "$i" ] && "$i" start; done\n')
        rcs.chmod(0o755)
        needed = list(libraries)
        if firewall:
            modules = Path("/usr/lib/x86_64-linux-gnu/xtables")
            legacy = require("iptables-legacy")
            multi = legacy.resolve()
            nft = require("iptables-nft").resolve()
            shutil.copy(nft, root / "usr/sbin/xtables-nft-multi")
            shutil.copy(multi, root / "usr/sbin/xtables-legacy-multi")
            chosen = require("iptables").resolve().name
            for name in ("iptables", "ip6tables"):
                link = root / "usr/sbin" / name
                link.unlink(missing_ok=True)
                link.symlink_to(chosen)
            shutil.copytree(modules, root / str(modules)[1:], dirs_exist_ok=True)
            needed += [nft, multi, *modules.iterdir()]
        programs(root, needed)

    def _make_systemd(self) -> None:
        """The host's own systemd, with no units but its targets."""
        names = ["/usr/lib/systemd/systemd", "/usr/bin/systemctl", "/usr/bin/journalctl"]
        for name in names:
            to = self.root / name.removeprefix("/")
            to.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(name, to)
        programs(self.root, map(Path, names))
        units = self.root / "usr/lib/systemd/system"
        units.mkdir(parents=True, exist_ok=True)
        for target in Path("/usr/lib/systemd/system").glob("*.target"):
            if target.is_file():
                shutil.copy(target, units / target.name)
        (units / "default.target").unlink(missing_ok=True)
        (units / "default.target").symlink_to("multi-user.target")
        (self.root / "lib/systemd").mkdir(parents=True, exist_ok=True)
        (self.root / "etc/machine-id").write_text("0" * 31 + "1\n")
        (self.root / "sbin/init").symlink_to("../usr/lib/systemd/systemd")

    def _make_openrc(self) -> None:
        """OpenRC from Debian's package, started by BusyBox's init as on Alpine."""
        for package in ("openrc", "librc1", "libeinfo1"):
            for path in debian.unpack(package).rglob("*"):
                inside = path.relative_to(debian.unpack(package))
                to = self.root / inside
                if inside.parts[:2] == ("usr", "share") or to.is_dir() or to.is_symlink():
                    continue
                if path.is_dir() and not path.is_symlink():
                    to.mkdir(parents=True)
                else:
                    to.unlink(missing_ok=True)
                    shutil.copy(path, to, follow_symlinks=False)
        programs(self.root, (self.root / "sbin").glob("*rc*"))

    def _make_sysv(self) -> None:
        """System V's own init, with the smallest rc that honours the links."""
        program = debian.unpack("sysvinit-core") / "sbin/init"
        shutil.copy(program, self.root / "sbin/init")
        programs(self.root, [program])
        for level in "0123456":
            (self.root / f"etc/rc{level}.d").mkdir(exist_ok=True)
        rc = self.root / "etc/init.d/rc"
        rc.write_text('#!/bin/sh\nfor i in /etc/rc$1.d/S*; do [ -x "$i" ] && "$i" start; done\n')
        rc.chmod(0o755)

    def start(self) -> None:
        """Switches the board on."""
        init = "/bin/sh -c 'while :; do sleep 1000; done'" if self.init == "none" else "/sbin/init"
        word = secrets.token_hex(8)
        boot = _BOOT.replace("@MORE@", self._boot).replace("@INIT@", init)
        boot = boot.replace("@WORD@", word)
        (self.root / "boot.sh").write_text(boot)
        words = ["unshare", "--mount", "--pid", "--net", "--uts", "--ipc", "--fork",
                 "--kill-child", "sh", "-c", _PIVOT, "sh", str(self.root)]  # fmt: skip
        if self.init == "systemd":
            own = _OWN_CGROUP.replace("@NAME@", self._cgroup)
            words = ["sh", "-c", own, "sh", *words[1:]]
        with self.log.open("ab") as log:
            self._running = subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        ends = time.monotonic() + 60
        while time.monotonic() < ends:
            if self._booted(word):
                return
            time.sleep(0.05)
        raise AssertionError(f"the board does not start: {self.log.read_text()}")

    def _booted(self, word: str) -> bool:
        """Whether process 1 is inside its own root: before that, a command that is sent into
        its namespaces would work on the host's files."""
        run = Path(f"/proc/{self.pid}/root/run")
        with contextlib.suppress(OSError):
            if (run / "booted").read_text().strip() != word:
                return False
            # OpenRC shows itself only once it got so far.
            return self.init != "openrc" or (run / "openrc/softlevel").exists()
        return False

    @property
    def pid(self) -> int:
        """The host's number of the board's process 1; 0 where it is off."""
        if self._running is None:
            return 0
        children = Path(f"/proc/{self._running.pid}/task/{self._running.pid}/children")
        with contextlib.suppress(OSError):
            return int((children.read_text().split() or ["0"])[0])
        return 0

    @property
    def enter(self) -> list[str]:
        """The words before a script for the board's shell."""
        if not self.pid:
            raise AssertionError("the board is off")
        enter = ["nsenter", "-t", str(self.pid), "--mount", "--pid", "--net", "--uts", "--ipc"]
        path = "PATH=/usr/local/bin:/usr/local/sbin:/usr/bin:/usr/sbin:/bin:/sbin"
        return [*enter, "env", "-i", path, "/bin/sh", "-c"]

    @property
    def target(self) -> LocalTarget:
        """A new connection to it."""
        return LocalTarget(self.enter, name="dockerboard")

    def power_off(self) -> None:
        """Takes the power away: everything that runs on it is gone at once."""
        if self._running is None:
            return
        pid = self.pid
        for one in (pid, self._running.pid):
            if one:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(one, signal.SIGKILL)
        self._running.wait(60)
        self._running = None
        remove_cgroups(self._cgroup)

    def tree(self) -> dict[str, tuple[str, int, str]]:
        """Path → (kind, mode, content's digest or link) of all that is on its disk, but for what
        lives in memory on a real board and Docker's own data."""
        found = {}
        skip = ("proc", "sys", "dev", "run", "tmp", "old", "boot.sh", "var/lib/docker")
        for folder, folders, files in os.walk(self.root):
            inside = os.path.relpath(folder, self.root)
            folders[:] = [n for n in folders if os.path.normpath(f"{inside}/{n}") not in skip]
            for name in [*files, *folders]:
                path = Path(folder) / name
                key = os.path.normpath(f"{inside}/{name}")
                if key in skip:
                    continue
                mode = path.lstat().st_mode & 0o7777
                if path.is_symlink():
                    found[key] = ("link", mode, str(path.readlink()))
                elif path.is_dir():
                    found[key] = ("folder", mode, "")
                else:
                    found[key] = ("file", mode, hashlib.sha256(path.read_bytes()).hexdigest())
        return found


@contextlib.contextmanager
def reached(board: Board, public_key: str, folder: Path) -> Iterator[Server]:
    """An SSH server that has no files and processes but the board's. Without an sftp-server:
    what asks for one gets the board's shell, as on a board that has none."""
    enter = shlex.join(board.enter)
    script = folder / "enter"
    script.parent.mkdir(parents=True)
    script.write_text(f'#!/bin/sh\nexec {enter} "$SSH_ORIGINAL_COMMAND"\n')
    script.chmod(0o755)
    keys = folder / "keys"
    keys.write_text(public_key)
    with openssh(folder, keys, options=f"ForceCommand {script}") as server:
        yield server


def remove_cgroups(name: str) -> None:
    """The empty cgroups that a daemon with this cgroup-parent left behind."""
    # What was killed leaves its cgroup a moment later.
    for _ in range(20):
        # By os.walk: others' cgroups may vanish while it looks, and it does not mind.
        left = [
            Path(folder, name) for folder, names, _ in os.walk("/sys/fs/cgroup") if name in names
        ]
        for base in left:
            for folder in [*sorted(base.rglob("*"), reverse=True), base]:
                if folder.is_dir():
                    with contextlib.suppress(OSError):
                        folder.rmdir()
        if not any(base.exists() for base in left):
            return
        time.sleep(0.1)
