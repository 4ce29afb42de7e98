"""One daemon for one interface and for one section of a hosts file.

A claim is a lock of the kernel on a file that other users cannot reach (`locks.py`). It ends with
its process, however that ends. So nothing has to be told from something stale. An interface belongs
to a network namespace, and so does the claim on it; a section belongs to its file, whichever
namespace its daemon is in.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host import locks
from ngrokd.host.locks import Lock, Taken
from ngrokd.host.netif import loopback

logger = logging.getLogger(__name__)

# Some commands of the system, each of which may take that long in the worst case.
_MAKING_S = 30.0


class Claims:
    """What this process alone may change on this machine. Owner: main."""

    def __init__(self, net: NetSettings, folder: Callable[[], Path] = locks.folder) -> None:
        """`folder`: where the locks are; raises HostError where there is no place for them."""
        self._folder = folder
        self._names: dict[str, str] = {}
        if not loopback.holds(net.subnet):  # which needs no interface
            digest = hashlib.sha256(net.interface_name.encode()).hexdigest()[:32]
            name = f"interface-{locks.namespace('net')}-{digest}"
            self._names[name] = f"the interface {net.interface_name}"
        self._names[_section_name(net)] = f"ngrokd's section in {net.hosts_file}"
        self._held: list[Lock] = []

    def take(self) -> str:
        """Why a second daemon cannot be kept out here; "": it is.

        Raises HostError naming the process that has one of them; none is then ours.
        """
        try:
            folder = self._folder()
        except HostError as exc:
            return str(exc)
        try:
            for name, what in self._names.items():
                self._take(folder, name, what)
        except OSError as exc:
            self.release()
            return f"{exc.filename or 'a lock'}: {exc.strerror}"
        except HostError:
            self.release()
            raise
        return ""

    @contextlib.contextmanager
    def making(self) -> Iterator[None]:
        """While inside, no other daemon of this network looks for a subnet that is free."""
        lock = None
        try:
            lock = locks.take(self._folder(), f"making-{locks.namespace('net')}", _MAKING_S)
        except Taken as exc:
            logger.warning(
                "another ngrokd (pid %s) has been making its interface for %g s: not waited for",
                exc.pid,
                _MAKING_S,
            )
        except (HostError, OSError) as exc:
            logger.debug("nobody is kept from making an interface: %s", exc)  # told by `take`
        try:
            yield
        finally:
            if lock is not None:
                lock.release()

    def release(self) -> None:
        """Twice is harmless."""
        for held in self._held:
            held.release()
        self._held = []

    def _take(self, folder: Path, name: str, what: str) -> None:
        try:
            self._held.append(locks.take(folder, name))
        except Taken as exc:
            if exc.is_own:
                return
            who = "another ngrokd" if exc.is_near else "an ngrokd of another container"
            who += f" (pid {exc.pid})" if exc.is_near and exc.pid else ""
            raise HostError(
                f"{who} has {what}: end that one, or give this one a net.interface_name and a "
                "net.subnet of its own"
            ) from exc


def is_served(net: NetSettings) -> bool:
    """Whether a daemon that lives has this section; False also where that cannot be told."""
    try:
        locks.take(locks.folder(), _section_name(net)).release()
    except Taken:
        return True
    except (HostError, OSError) as exc:
        logger.debug("who has %s: %s", net.interface_name, exc)
    return False


def _section_name(net: NetSettings) -> str:
    """The same for one file under two paths, and another for two files under one path."""
    file = Path(os.path.realpath(net.hosts_file))
    place = str(file)
    try:
        folder = file.parent.stat()
        place = f"{folder.st_dev}:{folder.st_ino}/{file.name}"
    except OSError as exc:
        logger.debug("%s: %s", file.parent, exc.strerror)
    digest = hashlib.sha256(f"{place}\0{net.interface_name}".encode()).hexdigest()
    return f"section-{digest[:32]}"
