"""A machine of the test's own that real systemd boots, in namespaces over a copy of this one."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.closing import Closing

SYSTEMD = Path("/lib/systemd/systemd")
BOOT_TIMEOUT_S = 30  # it takes about 1 s
COMMAND_TIMEOUT_S = 60
_MARK = "/booted-by-a-test"
_UCRED = struct.Struct("3i")  # pid, uid, gid: unix(7)

# Real units that a boot to a bare multi-user.target needs, or that ngrokd's unit names. Everything
# else of this machine, its servers first of all, is not in the path of units.
_UNITS = (
    "basic.target",
    "emergency.target",
    "final.target",
    "local-fs.target",
    "multi-user.target",
    "network-online.target",
    "network.target",
    "nss-lookup.target",
    "paths.target",
    "rescue.target",
    "shutdown.target",
    "slices.target",
    "sockets.target",
    "swap.target",
    "sysinit.target",
    "systemd-journald-dev-log.socket",
    "systemd-journald.service",
    "systemd-journald.socket",
    "timers.target",
    "umount.target",
)

# Arguments: an empty folder, the name of a control group, the file that marks the copy, the units,
# and the socket that systemd tells of its boot.
# A control group of its own: units inside would else become groups in the root of the machine's.
_ENTER = """
set -e
mount --make-rprivate /
mount -t tmpfs booted "$1"
mkdir "$1/groups" "$1/up" "$1/work" "$1/root"
mount -t cgroup2 groups "$1/groups"
mkdir "$1/groups/$2"
echo $$ > "$1/groups/$2/cgroup.procs"
exec unshare --mount --pid --net --uts --ipc --cgroup --fork --kill-child -- sh -c "$BOOT" boot "$@"
"""

# pivot_root and not chroot: nsenter leaves a chroot, and would be on the machine itself.
_BOOT = """
set -e
mount -t overlay root -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/root"
mkdir -p "$1/root/run"
mount -t tmpfs -o mode=755 run "$1/root/run"
mkdir "$1/root/run/host"
touch "$1/root/run/host/notify"
mount --bind "$5" "$1/root/run/host/notify"
cd "$1/root"
printf %s "$2" > ".$3"
mount -t proc proc proc
mount --bind proc/sys proc/sys
mount -o remount,bind,ro proc/sys
mount -t sysfs -o ro sys sys
mount -t cgroup2 groups sys/fs/cgroup
mount -t tmpfs tmp tmp
for kept in $KEPT; do
    own="$1/kept/$kept"
    mkdir -p ".$kept" "$own/up" "$own/work"
    mount -t overlay kept -o "lowerdir=$kept,upperdir=$own/up,workdir=$own/work" ".$kept"
done
mount -t tmpfs -o mode=755 dev dev
mkdir dev/net dev/pts dev/shm old
for node in null zero full random urandom tty net/tun; do
    if test -e "/dev/$node"; then touch "dev/$node"; mount --bind "/dev/$node" "dev/$node"; fi
done
mount -t devpts -o newinstance,ptmxmode=0666 pts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs shm dev/shm
rm -rf etc/systemd/system etc/default/ngrokd etc/ngrokd var/log/journal
mkdir -p etc/systemd/system booted-units
if test -n "$KEPT"; then  # a unit with a /tmp of its own would not see it
    mkdir etc/systemd/system/ngrokd.service.d
    printf '[Service]\nBindReadOnlyPaths=%s\n' "$KEPT" \
        > etc/systemd/system/ngrokd.service.d/10-checkout.conf
fi
for unit in $4; do
    test ! -e "lib/systemd/system/$unit" || cp -P "lib/systemd/system/$unit" booted-units/
done
mkdir booted-units/sysinit.target.wants
ln -s ../systemd-journald.service booted-units/sysinit.target.wants/
pivot_root . old
cd /
umount -l /old
rmdir /old
mount --make-rshared /
hostname booted
ip link set lo up
exec env -i container=other NOTIFY_SOCKET=/run/host/notify \\
    PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \\
    SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/systemd/system:/booted-units \\
    SYSTEMD_GENERATOR_PATH=/nowhere SYSTEMD_ENVIRONMENT_GENERATOR_PATH=/nowhere \\
    /lib/systemd/systemd --system --unit=multi-user.target --log-target=console --show-status=no
"""


def programs_in_tmp() -> str:
    """What a machine with a /tmp of its own must be given of ours: this checkout may lie there."""
    places = {Path(__file__).parents[2], Path(sys.prefix), Path(sys.base_prefix)}
    hidden = sorted(place for place in places if Path("/tmp") in place.parents)
    return " ".join(str(place) for place in hidden if not set(place.parents) & set(hidden))


class Booted(Closing):
    """Runs commands on a machine that systemd manages. It boots within the constructor.

    Its files are a copy-on-write view of this machine's; its units are the few that it needs. It
    ends with the test process, however that ends. `name`: of its control group.
    """

    def __init__(self, folder: Path) -> None:
        self.console = folder / "console.log"
        self._pid = 0  # of systemd
        self.name = f"ngrokd-test-{secrets.token_hex(8)}"
        (folder / "mount").mkdir()
        with contextlib.closing(_notify_socket(folder / "notify")) as told:
            self._start(folder)
            try:
                self._pid = self._booted(told)
                self._refuse_the_machine_itself()
                self.systemctl("log-target", "journal")  # the console was for a boot that fails
            except BaseException:
                self.close()
                raise

    def _start(self, folder: Path) -> None:
        arguments = (folder / "mount", self.name, _MARK, " ".join(_UNITS), folder / "notify")
        with open(self.console, "wb") as console:
            self._process = subprocess.Popen(
                [
                    *("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--"),
                    *("sh", "-c", _ENTER, "enter", *map(str, arguments)),
                ],
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=console,
                env={**os.environ, "BOOT": _BOOT, "KEPT": programs_in_tmp()},
                start_new_session=True,
            )

    def argv(self, *argv: object) -> list[str]:
        """`argv` as a command line that runs inside."""
        # --wd as PID 1 has it: --wd=/ would be this machine's own root.
        where = ("--mount", "--pid", "--net", "--uts", "--ipc", "--cgroup", "--root", "--wd")
        return ["nsenter", f"--target={self._pid}", *where, "--", *map(str, argv)]

    def run(self, *argv: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs to the end; raises CalledProcessError unless `check=False`."""
        defaults = {"check": True, "timeout": COMMAND_TIMEOUT_S, "capture_output": True}
        options = {**defaults, "text": True, **options}
        return subprocess.run(self.argv(*argv), **options)

    def write(self, path: object, text: str, mode: str = "0644") -> None:
        """A file inside, with the folders on the way."""
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"'
        self.run("sh", "-c", script, "write", path, mode, input=text)

    def read(self, path: object) -> str:
        """A file inside. Not by way of /proc/PID/root: a link there leads out of it."""
        return self.run("cat", path).stdout

    def systemctl(self, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """`systemctl`, as root."""
        return self.run("systemctl", "--no-pager", *words, **options)

    def show(self, unit: str, name: str) -> str:
        """One property of a unit."""
        return self.systemctl("show", "--property", name, "--value", unit).stdout.strip()

    def journal(self, unit: str) -> list[dict[str, Any]]:
        """What processes of the unit wrote since boot, oldest first."""
        self.run("journalctl", "--sync")
        lines = self.run("journalctl", "--output=json", f"_SYSTEMD_UNIT={unit}").stdout
        return [json.loads(line) for line in lines.splitlines()]

    def close(self) -> None:
        """Ends every process inside, and with them the mounts; removes the control groups."""
        if self._pid:
            # PID 1 of its namespace: the kernel ends all others before it is gone.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
        else:
            self._process.kill()  # takes what it has forked along
        self._process.wait(timeout=30)
        remove_groups(self.name)

    def _booted(self, told: socket.socket) -> int:
        """PID 1, as this machine counts: who says READY when the boot is done."""
        pidfd = os.pidfd_open(self._process.pid)
        try:
            while told.fileno() in select.select([told.fileno(), pidfd], [], [], BOOT_TIMEOUT_S)[0]:
                message, ancillary, _, _ = told.recvmsg(4096, socket.CMSG_SPACE(_UCRED.size))
                if b"READY=1" in message.split(b"\n"):
                    pid: int = _UCRED.unpack(ancillary[0][2])[0]
                    return pid
        finally:
            os.close(pidfd)
        raise RuntimeError(f"systemd did not boot:\n{self.console.read_text(errors='replace')}")

    def _refuse_the_machine_itself(self) -> None:
        """Before anything else runs: what commands see as / and . must be the copy."""
        seen = [self.run("cat", path, check=False).stdout for path in (_MARK, "." + _MARK)]
        if seen != [self.name, self.name]:
            raise RuntimeError("commands would run on the machine itself: nothing is run")


def _notify_socket(path: Path) -> socket.socket:
    """Where systemd itself says that it has booted, as in a container."""
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
    told.bind(str(path))
    return told


def remove_groups(name: str) -> None:
    """They are this machine's, although it may have the hierarchy mounted nowhere."""
    script = """
    mount --make-rprivate / && mount -t cgroup2 groups /mnt &&
    if test -d "/mnt/$1"; then find "/mnt/$1" -depth -type d -exec rmdir {} +; fi
    """
    subprocess.run(["unshare", "--mount", "--", "sh", "-c", script, "remove", name], check=True)


def why_not() -> str:
    """Why a machine cannot be booted here, or ""."""
    if os.geteuid() != 0:
        return "needs root: systemd boots in namespaces"
    if not SYSTEMD.exists():
        return "needs systemd: the Debian package"
    tools = ("unshare", "nsenter", "setpriv", "pivot_root", "ip", "mount")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return f"needs {', '.join(missing)}" if missing else ""
