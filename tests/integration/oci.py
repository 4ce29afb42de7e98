"""Containers as Docker and Podman run them: crun, on an overlay of this machine."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.netns import PATIENCE_S
from tests.integration.programs import Program
from tests.integration.site import API_PORT, NGROKCTL, NGROKD, Site
from tests.namespace import why_not as why_no_namespace

# What Docker gives to a container.
DOCKERS = tuple(
    f"CAP_{name}"
    for name in (
        *("CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "NET_BIND_SERVICE", "SETFCAP"),
        *("SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"),
    )
)
# crun refuses the mixture of cgroup v1 and v2 that some machines have.
_ONLY_CGROUP2 = """
umount --recursive /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup && exec "$@"
"""
_WITH_CGROUP2 = ("unshare", "--mount", "sh", "-c", _ONLY_CGROUP2, "sh")

HOSTS = "127.0.0.1\tlocalhost\n"

NET_ADMIN = (*DOCKERS, "CAP_NET_ADMIN")


def why_not() -> str:
    """Why containers cannot be run here, or ""."""
    return why_no_namespace() or ("" if shutil.which("crun") else "needs crun (package crun)")


@dataclass(frozen=True)
class Shape:
    """How a container differs from another one."""

    capabilities: Sequence[str] = NET_ADMIN
    read_only: bool = False
    tun: bool = True  # --device /dev/net/tun: a kernel without dummy interfaces needs it
    environ: dict[str, str] = field(default_factory=dict)
    argv: Sequence[object] = (NGROKD, "--foreground")


class Container(Program):
    """`crun run`. Its network is the site's; its files, /etc/hosts above all, are its own.

    One after the other may be started: they have the same state and hosts file.
    """

    def __init__(self, site: Site, shape: Shape) -> None:
        self._site = site
        self._bundle = Path(tempfile.mkdtemp(prefix="bundle", dir=site.folder))
        self.state = site.folder / "etc"
        self.hosts = site.folder / "container.hosts"
        self._write_files(shape)
        self._mount()
        (self._bundle / "config.json").write_text(json.dumps(self._spec(shape), indent=1))
        super().__init__(site.namespace, self._crun("run", "--bundle", self._bundle, "ngrokd"))

    @property
    def first(self) -> int:
        """The pid, as seen from outside, of its process 1."""
        state = json.loads(self._site.run(*self._crun("state", "ngrokd")).stdout)
        return int(state["pid"])

    @property
    def daemon(self) -> int:
        """The pid, as seen from outside, of the daemon that process 1 tends."""
        first = self.first
        (child,) = Path(f"/proc/{first}/task/{first}/children").read_text().split()
        return int(child)

    def tell(self, number: signal.Signals) -> None:
        """To process 1, as `docker kill -s` does."""
        os.kill(self.first, number)

    def execute(self, *argv: object, **options: Any) -> subprocess.CompletedProcess[str]:
        """To its end, as `docker exec` does."""
        return self._site.run(*self._crun("exec", "ngrokd", *argv), **options)

    def ready(self) -> Container:
        """Returns once one poll has been applied."""
        deadline = time.monotonic() + PATIENCE_S
        argv = (NGROKCTL, "wait", "--timeout", "20")
        while self.execute(*argv, check=False).returncode:  # 3 until its socket is there
            assert time.monotonic() < deadline and self.process.poll() is None, self.output()
        return self

    def status(self) -> dict[str, Any]:
        """All of it."""
        answer: dict[str, Any] = json.loads(self.execute(NGROKCTL, "status", "--json").stdout)
        return answer

    def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """The exit status of the container."""
        self.tell(number)
        return self.wait()

    def __exit__(self, *_: object) -> None:
        self._site.run(*self._crun("delete", "--force", "ngrokd"), check=False)
        self.wait()
        for name in ("rootfs", "layers"):
            self._site.run("umount", "--lazy", self._bundle / name)

    def _crun(self, *words: object) -> list[object]:
        crun = ["crun", "--root", self._bundle / "crun", "--cgroup-manager=disabled"]
        return [*_WITH_CGROUP2, *crun, *words]

    def _write_files(self, shape: Shape) -> None:
        for folder in ("rootfs", "layers"):
            (self._bundle / folder).mkdir()
        self.state.mkdir(0o700, exist_ok=True)
        if not self.hosts.exists():
            self.hosts.write_text(HOSTS)
        config = {
            "api": {"url": f"http://127.0.0.1:{API_PORT}"},
            "server": {"ca_file": str(self._site.cloud.ca_file)},
            "bound_endpoints": {"poll_interval": 1},
        }
        (self.state / "config.yml").touch(0o600)
        (self.state / "config.yml").write_text(json.dumps(config))

    def _mount(self) -> None:
        """The root: all of this machine, on which nothing that is written stays."""
        layers = self._bundle / "layers"
        self._site.run("mount", "-t", "tmpfs", "none", layers)
        self._site.run("mkdir", layers / "upper", layers / "work")
        options = f"lowerdir=/,upperdir={layers}/upper,workdir={layers}/work"
        self._site.run("mount", "-t", "overlay", "-o", options, "none", self._bundle / "rootfs")

    def _spec(self, shape: Shape) -> dict[str, object]:
        sets = {
            name: list(shape.capabilities) for name in ("bounding", "effective", "permitted")
        }
        environ = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", **shape.environ}
        process = {
            "user": {"uid": 0, "gid": 0},
            "args": [str(word) for word in shape.argv],
            "env": [f"{name}={value}" for name, value in environ.items()],
            "cwd": "/",
            "capabilities": sets,
        }
        tun = {"path": "/dev/net/tun", "type": "c", "major": 10, "minor": 200, "fileMode": 0o600}
        return {
            "ociVersion": "1.0.2",
            "process": process,
            "root": {"path": "rootfs", "readonly": shape.read_only},
            "hostname": "container",
            "mounts": self._mounts(shape),
            "linux": {
                "namespaces": [{"type": name} for name in ("pid", "mount", "ipc", "uts")],
                "devices": [tun] if shape.tun else [],
            },
        }

    def _mounts(self, shape: Shape) -> list[dict[str, object]]:
        access = "ro" if shape.read_only else "rw"
        places = [
            (self._site.folder, self._site.folder, "ro"),
            (self.state, Path("/etc/ngrokd"), "rw"),
            (self.hosts, Path("/etc/hosts"), access),  # as Docker does
        ]
        bound: list[dict[str, object]] = [
            {
                "destination": str(inside),
                "type": "bind",
                "source": str(outside),
                "options": ["bind", mode],
            }
            for outside, inside, mode in places
        ]
        fresh: list[dict[str, object]] = [
            {"destination": place, "type": kind, "source": kind}
            for place, kind in (("/proc", "proc"), ("/dev", "tmpfs"), ("/run", "tmpfs"))
        ]
        return fresh + bound
