"""A machine of the test's own, without systemd, over a copy-on-write view of this one's files."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

from tests.closing import Closing
from tests.integration.booted import Booted, programs_in_tmp

START_TIMEOUT_S = 30
COMMAND_TIMEOUT_S = 60
_MARK = "/overlaid-by-a-test"
_READY = "the machine is ready"

# Where `apt-get install --download-only openrc` leaves them.
ARCHIVES = Path("/var/cache/apt/archives")

# What could hold anything of a service. The rest is programs, and what they come with.
COMPARED = ("/etc", "/lib/systemd", "/run", "/srv", "/tmp", "/usr/local", "/var")

# Arguments: an empty folder, the mark, its text, and packages that are laid over this machine.
# pivot_root and not chroot: nsenter leaves a chroot, and would be on the machine itself.
_BOOT = """
set -e
place=$1 mark=$2 text=$3
shift 3
mount --make-rprivate /
mount -t tmpfs overlaid "$place"
mkdir "$place/up" "$place/work" "$place/root"
mount -t overlay root -o "lowerdir=/,upperdir=$place/up,workdir=$place/work" "$place/root"
cd "$place/root"
mount -t tmpfs -o mode=755 run run
mount -t tmpfs -o mode=1777 tmp tmp
for kept in $KEPT; do
    own="$place/kept/$kept"
    mkdir -p ".$kept" "$own/up" "$own/work"
    mount -t overlay kept -o "lowerdir=$kept,upperdir=$own/up,workdir=$own/work" ".$kept"
done
mount -t proc proc proc
mount -t sysfs -o ro sys sys
mount --rbind /dev dev
rm -rf etc/default/ngrokd etc/ngrokd var/log/ngrokd.log* etc/init.d/ngrokd
for package in "$@"; do dpkg-deb --fsys-tarfile "$package" | tar -x --keep-directory-symlink; done
printf %s "$text" > ".$mark"
mkdir old run/lock
pivot_root . old
cd /
umount -l /old
rmdir /old
hostname overlaid
ip link set lo up
echo "::sysinit:/bin/echo $READY" > /etc/inittab
ln -s /bin/busybox /run/init
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
eval "$FIRST"
"""
BUSYBOX_INIT = "exec env -i PATH=$PATH /run/init"
# Process 1 of a container: some program.
NO_INIT = "echo $READY; exec env -i PATH=$PATH sleep infinity"

# Prints {path: what it is}: `look PATH...` of these with their contents, `walk FOLDER...` of
# everything below without: to read ten thousand files takes a second.
_SURVEY = """
import hashlib, json, os, stat, sys
CHECKOUT = os.environ["KEPT"].split()  # what Python compiles in it is nobody's leftover
def look(path):
    info = os.lstat(path)
    kept = [info.st_mode, info.st_uid, info.st_gid]
    if stat.S_ISLNK(info.st_mode):
        return [*kept, os.readlink(path)]
    if not stat.S_ISREG(info.st_mode):
        return kept
    if sys.argv[1] == "walk" or info.st_size > 1 << 20:
        return [*kept, info.st_size, info.st_mtime_ns]
    with open(path, "rb") as file:
        return [*kept, hashlib.sha256(file.read()).hexdigest()]
def walk(top):
    for folder, folders, names in os.walk(top):
        folders[:] = [name for name in folders if os.path.join(folder, name) not in CHECKOUT]
        yield folder
        yield from (os.path.join(folder, name) for name in folders + names)
found = {}
for word in sys.argv[2:]:
    for path in walk(word) if sys.argv[1] == "walk" else [word]:
        try:
            found[path] = look(path)
        except FileNotFoundError:
            pass
print(json.dumps(found))
"""


class Overlaid(Closing):
    """Runs commands on that machine. Process 1 is what `first` becomes.

    All processes inside end with `close`, and with the test process, however that ends.
    """

    def __init__(
        self, folder: Path, packages: Sequence[Path] = (), first: str = BUSYBOX_INIT
    ) -> None:
        self._pid = 0
        mark = secrets.token_hex(16)
        (folder / "mount").mkdir()
        namespaces = ("--mount", "--pid", "--net", "--uts", "--ipc", "--fork", "--kill-child")
        self._process = subprocess.Popen(
            [
                *("setpriv", "--pdeathsig", "KILL", "unshare", *namespaces, "--"),
                *("sh", "-c", _BOOT, "boot", str(folder / "mount"), _MARK, mark),
                *map(str, packages),
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={
                **os.environ,
                "READY": _READY,
                "FIRST": first,
                "KEPT": programs_in_tmp(),
            },
            start_new_session=True,
        )
        try:
            self._wait_until_ready()
            self._pid = int(_children(self._process.pid)[0])
            self._refuse_the_machine_itself(mark)
        except BaseException:
            self.close()
            raise

    def argv(self, *argv: object) -> list[str]:
        """`argv` as a command line that runs inside."""
        where = ("--mount", "--pid", "--net", "--uts", "--ipc", "--root", "--wd")
        return ["nsenter", f"--target={self._pid}", *where, "--", *map(str, argv)]

    def run(self, *argv: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """Runs to the end; raises CalledProcessError unless `check=False`."""
        defaults = {"check": True, "timeout": COMMAND_TIMEOUT_S, "capture_output": True}
        options = {**defaults, "text": True, **options}
        return subprocess.run(self.argv(*argv), **options)

    def popen(self, *argv: object, **options: Any) -> subprocess.Popen[Any]:
        """Starts a program; `nsenter` stays its parent, because of the pid namespace."""
        return subprocess.Popen(self.argv(*argv), **options)

    def sh(self, script: str, *words: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """A shell script inside; `words` are its arguments."""
        return self.run("sh", "-c", script, "sh", *words, **options)

    def write(self, path: object, text: str, mode: str = "0644") -> None:
        """A file inside, with the folders on the way."""
        script = 'mkdir -p "$(dirname "$1")" && cat > "$1" && chmod "$2" "$1"'
        self.sh(script, path, mode, input=text)

    def read(self, path: object) -> str:
        """A file inside. Not by way of /proc/PID/root: a link there leads out of it."""
        return self.run("cat", path).stdout

    def exists(self, path: object) -> bool:
        """Also a dangling link."""
        return self.sh('test -e "$1" || test -L "$1"', path, check=False).returncode == 0

    def close(self) -> None:
        """Ends every process inside, and with them the mounts."""
        if self._pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)  # the kernel ends all others with it
        self._process.kill()
        self._process.wait(timeout=30)
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()

    def _wait_until_ready(self) -> None:
        stream = self._process.stdout
        assert stream is not None
        said = ""
        while _READY not in said:
            if not select.select([stream], [], [], START_TIMEOUT_S)[0]:
                raise RuntimeError(f"the machine does not start: {said}")
            line = stream.readline()
            if not line:
                raise RuntimeError(f"the machine did not start: {said}")
            said += line

    def _refuse_the_machine_itself(self, mark: str) -> None:
        """Before anything else runs: what commands see as / and . must be the copy."""
        seen = [self.run("cat", path, check=False).stdout for path in (_MARK, "." + _MARK)]
        if seen != [mark, mark]:
            raise RuntimeError("commands would run on the machine itself: nothing is run")


def survey(machine: Union[Overlaid, Booted]) -> dict[str, list[object]]:
    """Every file of COMPARED: kind, mode, owner, size, and when it was written."""
    return _asked(machine.run(*_surveyor("walk", *COMPARED)))


def changes(machine: Union[Overlaid, Booted], before: dict[str, list[object]]) -> set[str]:
    """Which files are not as they were.

    Those do not count that others changed on this machine, or that were written with what it has.
    """
    after = survey(machine)
    paths = {path for path in {*before, *after} if before.get(path) != after.get(path)}
    strange = sorted(path for path in paths if "ngrokd" not in path)
    if not strange:
        return paths
    look = _surveyor("look", *strange)
    below = _asked(subprocess.run(look, capture_output=True, text=True, check=True))
    inside = _asked(machine.run(*look))
    return {path for path in paths if path not in strange or below.get(path) != inside.get(path)}


def _surveyor(*words: str) -> list[str]:
    kept = f"KEPT={programs_in_tmp()}"
    return ["env", kept, sys.executable, "-I", "-S", "-c", _SURVEY, *words]


def _asked(done: subprocess.CompletedProcess[str]) -> dict[str, list[object]]:
    found: dict[str, list[object]] = json.loads(done.stdout)
    return found


def packages(*names: str) -> list[Path]:
    """Debian packages that were downloaded and not installed; fewer than asked for if none was."""
    return [path for name in names for path in sorted(ARCHIVES.glob(f"{name}_*.deb"))[-1:]]


def _children(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def why_not() -> str:
    """Why such a machine cannot be made here, or ""."""
    if os.geteuid() != 0:
        return "needs root: a machine in namespaces"
    tools = ("unshare", "nsenter", "setpriv", "pivot_root", "ip", "mount", "busybox")
    missing = [tool for tool in tools if shutil.which(tool) is None]
    return f"needs {', '.join(missing)}" if missing else ""
