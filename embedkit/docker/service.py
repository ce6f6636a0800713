"""What starts Docker at boot: one control script in plain ``sh``, and what each init needs.

The control script is the service itself for BusyBox init, System V and boards without an init;
for systemd and OpenRC it only prepares what the board's init did not (cgroup mounts).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from embedkit.target.base import quote
from embedkit.target.facts import Init

LOG = "/var/log/docker.log"
PID_FILE = "/var/run/docker.pid"
SOCKET = "/var/run/docker.sock"
# dockerd stops its containers first, each with up to 10 s; then it is killed.
_STOP_SECONDS = 30
_SYSV_LEVELS = (("2", "S60"), ("3", "S60"), ("4", "S60"), ("5", "S60"), ("0", "K20"), ("6", "K20"))


@dataclass(frozen=True)
class Placed:
    """A file or a link that an installation consists of; ``link_to`` is None for a file."""

    path: str
    content: str = ""
    mode: int = 0o644
    link_to: str | None = None


@dataclass(frozen=True)
class Service:
    """``placed`` is what is put on the board; the others are commands for its ``sh``. They
    wait: ``start`` ends when the daemon is started (not yet when it answers), ``stop`` when it
    is gone."""

    placed: tuple[Placed, ...]
    start: str
    stop: str
    reload: str = ":"
    log: str = LOG


@dataclass(frozen=True)
class Place:
    """Where the installation is: ``current`` is the folder of programs, behind the switch."""

    root: str
    current: str
    rc_folder: str = "/etc"  # /etc/rc.d where rcN.d are there


def make(
    init: Init,
    place: Place,
    *,
    environment: Sequence[tuple[str, str]] = (),
    single_binary: bool = False,
) -> Service:
    """The service for a board's init system."""
    control = f"{place.root}/control"
    script = _control(place, environment, single_binary)
    if init is Init.SYSTEMD:
        return _systemd(place, control, script, environment, single_binary)
    if init is Init.OPENRC:
        return _openrc(control, script)
    if init is Init.BUSYBOX:
        # Buildroot's rcS and rcK run /etc/init.d/S??* in order.
        path = "/etc/init.d/S60docker"
        return Service((Placed(path, script, 0o755),), f"{path} start", f"{path} stop")
    if init is Init.SYSV:
        path = "/etc/init.d/docker"
        links = tuple(
            Placed(f"{place.rc_folder}/rc{level}.d/{order}docker", link_to="../init.d/docker")
            if place.rc_folder == "/etc"
            else Placed(f"{place.rc_folder}/rc{level}.d/{order}docker", link_to=path)
            for level, order in _SYSV_LEVELS
        )
        return Service((Placed(path, script, 0o755), *links), f"{path} start", f"{path} stop")
    return Service((Placed(control, script, 0o755),), f"{control} start", f"{control} stop")


def _systemd(
    place: Place,
    control: str,
    script: str,
    environment: Sequence[tuple[str, str]],
    single_binary: bool,
) -> Service:
    path = "/etc/systemd/system/docker.service"
    variables = "".join(f"Environment={name}={value}\n" for name, value in environment)
    # The daemon brings its own containerd, so there is no containerd.service to wait for.
    # Delegate and KillMode: the daemon manages the cgroups of its containers itself.
    unit = f"""\
[Unit]
Description=Docker, installed by embedkit
Documentation=https://docs.docker.com
After=network-online.target firewalld.service
Wants=network-online.target
StartLimitBurst=3
StartLimitIntervalSec=60

[Service]
Type={"simple" if single_binary else "notify"}
Environment=PATH={place.current}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
{variables}ExecStartPre={control} prepare
ExecStart={_daemon(place, single_binary)}
ExecReload=/bin/kill -s HUP $MAINPID
TimeoutStartSec=0
TimeoutStopSec={_STOP_SECONDS}
Restart=on-failure
RestartSec=2
LimitNOFILE=1048576
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity
Delegate=yes
KillMode=process
OOMScoreAdjust=-500

[Install]
WantedBy=multi-user.target
"""
    return Service(
        (
            Placed(control, script, 0o755),
            Placed(path, unit),
            Placed("/etc/systemd/system/multi-user.target.wants/docker.service", link_to=path),
        ),
        start="systemctl reset-failed docker.service 2>/dev/null; systemctl start docker.service",
        stop="systemctl stop docker.service docker.socket 2>/dev/null || "
        "systemctl stop docker.service",
        reload="systemctl daemon-reload",
        log="",
    )


def _openrc(control: str, script: str) -> Service:
    path = "/etc/init.d/docker"
    # supervise-daemon is not on every Alpine of the field; the control script waits as well.
    text = f"""\
#!/sbin/openrc-run
# Docker, installed by embedkit

name="Docker"
description="Docker, installed by embedkit"
extra_started_commands=""
pidfile={PID_FILE}

depend() {{
	use localmount net
	after bootmisc cgroups modules sysctl firewall iptables
}}

start() {{
	ebegin "Starting Docker"
	{control} start >/dev/null
	eend $?
}}

stop() {{
	ebegin "Stopping Docker"
	{control} stop >/dev/null
	eend $?
}}

status() {{
	{control} status
}}
"""
    return Service(
        (
            Placed(control, script, 0o755),
            Placed(path, text, 0o755),
            Placed("/etc/runlevels/default/docker", link_to=path),
        ),
        start="rc-service docker zap >/dev/null 2>&1; rc-service docker start",
        stop=f"rc-service docker stop >/dev/null 2>&1; {control} stop",
    )


def _daemon(place: Place, single_binary: bool) -> str:
    # The bare name of dockerd's own options only: the rest is daemon.json's.
    if single_binary:
        return f"{place.current}/docker daemon -p {PID_FILE}"
    return f"{place.current}/dockerd -p {PID_FILE}"


def _control(place: Place, environment: Sequence[tuple[str, str]], single_binary: bool) -> str:
    exports = "".join(f"export {name}={quote(value)}\n" for name, value in environment)
    return (
        _CONTROL.replace("@CURRENT@", place.current)
        .replace("@EXPORTS@", exports)
        .replace("@DAEMON@", _daemon(place, single_binary))
        .replace("@PID@", PID_FILE)
        .replace("@LOG@", LOG)
        .replace("@SOCKET@", SOCKET)
        .replace("@STOP@", str(_STOP_SECONDS))
    )


# Only what BusyBox's sh and a handful of its applets can do. The daemon is told from a chance
# holder of an old process id by its command line, since /var/run is on flash on some boards.
_CONTROL = r"""#!/bin/sh
### BEGIN INIT INFO
# Provides:          docker
# Required-Start:    $local_fs $remote_fs $network
# Required-Stop:     $local_fs $remote_fs $network
# Default-Start:     2 3 4 5
# Default-Stop:      0 1 6
# Short-Description: Docker, installed by embedkit
### END INIT INFO

PATH=@CURRENT@:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
export PATH
@EXPORTS@
pidfile=@PID@
log=@LOG@
cg=/sys/fs/cgroup

# Not every sleep knows fractions.
nap() {
	sleep 0.25 2>/dev/null || sleep 1
}

running() {
	pid=
	read -r pid 2>/dev/null <$pidfile || [ -n "$pid" ] || return 1
	case $pid in '' | *[!0-9]*) return 1 ;; esac
	read -r name 2>/dev/null </proc/"$pid"/comm || return 1
	case $name in dockerd | docker) ;; *) return 1 ;; esac
	# A dying process keeps its name: state Z is none that runs.
	read -r line 2>/dev/null </proc/"$pid"/stat || return 1
	case ${line#*) } in Z* | X*) return 1 ;; esac
}

# What systemd and most distributions do at boot, and many boards' init does not.
mount_cgroups() {
	[ -d $cg ] || return 0
	while read -r dev dir type rest; do
		case $type in cgroup | cgroup2) return 0 ;; esac
	done </proc/mounts
	if mount -t cgroup2 none $cg 2>/dev/null; then
		read -r have <$cg/cgroup.controllers || :
		case " $have " in
		*' memory '* | *' cpu '* | *' pids '*)
			echo "$have" >/var/run/embedkit-cgroups
			return 0 ;;
		esac
		# Version 2 is there but version 1 has the controllers.
		umount $cg
	fi
	mount -t tmpfs -o mode=755 cgroup $cg || return 1
	{
		read -r line
		while read -r name hierarchy count enabled; do
			[ "$enabled" = 1 ] || continue
			mkdir -p $cg/"$name"
			mount -t cgroup -o "$name" "$name" $cg/"$name" || rmdir $cg/"$name"
		done
	} </proc/cgroups
	echo v1 >/var/run/embedkit-cgroups
	# Without this a container's processes are not found by runc on some kernels.
	[ -d $cg/memory ] && echo 1 2>/dev/null >$cg/memory/memory.use_hierarchy
	return 0
}

unmount_cgroups() {
	[ -e /var/run/embedkit-cgroups ] || return 0
	rm -f /var/run/embedkit-cgroups
	for dir in $cg/*/; do
		umount "${dir%/}" 2>/dev/null
	done
	umount $cg 2>/dev/null
	return 0
}

start() {
	if running; then
		echo "Docker is running (process $pid)"
		return 0
	fi
	rm -f $pidfile
	mount_cgroups
	mkdir -p "${log%/*}" "${pidfile%/*}"
	# Small flash: the log of the last run and of this one, no more.
	[ -e $log ] && mv -f $log $log.1
	ulimit -n 1048576 2>/dev/null || ulimit -n 65536 2>/dev/null
	detach=
	command -v setsid >/dev/null 2>&1 && detach=setsid
	( trap '' HUP; exec $detach @DAEMON@ >>$log 2>&1 </dev/null ) &
	# It writes its process id in its first second; after that it either lives or has told why.
	tries=0
	while [ $tries -lt 40 ]; do
		nap
		running && break
		tries=$((tries + 1))
		kill -0 $! 2>/dev/null || break
	done
	if running; then
		echo "Docker is started (process $pid)"
		return 0
	fi
	echo "Docker did not start; the end of $log:" >&2
	tail -n 5 $log >&2
	return 1
}

stop() {
	if running; then
		kill "$pid"
		tries=0
		while running && [ $tries -lt $((@STOP@ * 4)) ]; do
			nap
			tries=$((tries + 1))
		done
		running && kill -9 "$pid" && sleep 1
	fi
	rm -f $pidfile
	echo "Docker is stopped"
}

case $1 in
start) start ;;
stop) stop ;;
restart | reload) stop && start ;;
status)
	running || { echo "Docker is stopped"; exit 3; }
	echo "Docker is running (process $pid)" ;;
prepare) mount_cgroups ;;
unprepare) unmount_cgroups ;;
*)
	echo "usage: $0 start|stop|restart|status" >&2
	exit 2 ;;
esac
"""
