"""What the reference boards run at boot: BusyBox's init, its scripts and a few settings.

The order of /etc/init.d/S??NAME is Buildroot's, so a deployed Docker (S60docker) finds its place.
"""

from __future__ import annotations


def files(hostname: str, title: str, console: str, baud: int) -> tuple[tuple[str, str, int], ...]:
    """(path, content, mode) of every text file of the system."""
    inittab = (
        "::sysinit:/etc/init.d/rcS\n"
        f"{console}::respawn:/sbin/getty -L {console} {baud} vt100\n"
        "::ctrlaltdel:/sbin/reboot\n"
        "::shutdown:/etc/init.d/rcK\n"
    )
    release = f'NAME="embedkit reference board"\nID=embedkit\nPRETTY_NAME="{title}"\n'
    return (
        ("etc/inittab", inittab, 0o644),
        ("etc/hostname", f"{hostname}\n", 0o644),
        ("etc/hosts", f"127.0.0.1 localhost\n127.0.1.1 {hostname}\n::1 localhost\n", 0o644),
        ("etc/issue", f"{title}\nLog in as root, no password.\n", 0o644),
        ("etc/os-release", release, 0o644),
        ("etc/passwd", "root:x:0:0:root:/root:/bin/sh\n", 0o644),
        ("etc/shadow", "root::19675:0:99999:7:::\n", 0o600),
        ("etc/group", "root:x:0:\ntty:x:5:\ndocker:x:99:\n", 0o644),
        ("etc/shells", "/bin/sh\n", 0o644),
        ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n", 0o644),
        ("etc/profile", _PROFILE, 0o644),
        ("etc/init.d/rcS", _RCS, 0o755),
        ("etc/init.d/rcK", _RCK, 0o755),
        ("etc/init.d/S10modules", _MODULES, 0o755),
        ("etc/init.d/S40network", _NETWORK, 0o755),
        ("etc/init.d/S50dropbear", _DROPBEAR, 0o755),
        ("usr/share/udhcpc/default.script", _UDHCPC, 0o755),
    )


_PROFILE = r"""export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
PS1='\h:\w# '
"""

# The device nodes are the kernel's own. Where an initramfs mounted them, they are there already.
_RCS = r"""#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
grep -q ' /dev devtmpfs ' /proc/mounts || mount -t devtmpfs dev /dev
mkdir -p /dev/pts /dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
mount -t tmpfs -o mode=755 run /run
mount -t tmpfs -o mode=1777 tmp /tmp
mount -o remount,rw /
[ -e /dev/fd ] || ln -s /proc/self/fd /dev/fd
[ -d /sys/fs/cgroup ] && mount -t cgroup2 cgroup2 /sys/fs/cgroup
hostname -F /etc/hostname
ip link set lo up
for script in /etc/init.d/S??*; do
	[ -x "$script" ] && "$script" start
done
"""

_RCK = r"""#!/bin/sh
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
for script in $(ls -r /etc/init.d/S??*); do
	[ -x "$script" ] && "$script" stop
done
sync
umount -a -r 2>/dev/null
"""

# Every device tells by its modalias which driver it wants.
_MODULES = r"""#!/bin/sh
# Loads the drivers of the devices that are there.
[ "$1" = start ] || exit 0
[ -e /proc/modules ] || exit 0
find /sys/devices -name modalias -exec cat {} + | sort -u | xargs modprobe -a -q -b 2>/dev/null
exit 0
"""

_NETWORK = r"""#!/bin/sh
# An address by DHCP for the first Ethernet, where there is one.
pid=/run/udhcpc.pid
case $1 in
start)
	[ -e /sys/class/net/eth0 ] || exit 0
	ip link set eth0 up
	udhcpc -i eth0 -b -t 4 -T 2 -A 10 -p $pid -s /usr/share/udhcpc/default.script \
		-x hostname:"$(hostname)" >/dev/null 2>&1 ;;
stop)
	[ -s $pid ] && kill "$(cat $pid)"
	[ -e /sys/class/net/eth0 ] && ip link set eth0 down ;;
esac
exit 0
"""

_UDHCPC = r"""#!/bin/sh
# Called by udhcpc with what it was told.
case $1 in
deconfig)
	ip addr flush dev "$interface"
	ip link set "$interface" up ;;
bound | renew)
	ip addr flush dev "$interface"
	ip addr add "$ip/${mask:-24}" dev "$interface"
	for address in $router; do
		ip route replace default via "$address" dev "$interface"
		break
	done
	{
		[ -n "$domain" ] && echo "search $domain"
		for address in $dns; do echo "nameserver $address"; done
	} >/etc/resolv.conf.new
	mv -f /etc/resolv.conf.new /etc/resolv.conf ;;
esac
exit 0
"""

# Keys only: root has no password on the serial line, and must have no way in by network.
_DROPBEAR = r"""#!/bin/sh
# The SSH server. Its host key is made at the first boot.
key=/etc/dropbear/dropbear_ed25519_host_key
pid=/run/dropbear.pid
case $1 in
start)
	if [ ! -s $key ]; then
		dropbearkey -t ed25519 -f $key.new >/dev/null 2>&1 && sync && mv $key.new $key
	fi
	dropbear -s -r $key -P $pid ;;
stop)
	[ -s $pid ] && kill "$(cat $pid)" ;;
esac
exit 0
"""
