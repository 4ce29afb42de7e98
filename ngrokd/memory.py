"""What the daemon remembers of addresses, ports and endpoints over a restart."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Optional, TypeVar

from ngrokd.cloud import discovery
from ngrokd.errors import StateError
from ngrokd.host import files
from ngrokd.model import Discovered
from ngrokd.reconcile.desired import Remembered

logger = logging.getLogger(__name__)

STAMP_EVERY_S = 3600.0

Value = TypeVar("Value", str, int)


class Memory:
    """Owner: main thread. Files of the state folder; a damaged one is kept aside and made anew."""

    def __init__(self, folder: Path) -> None:
        self._addresses = folder / "ip_mappings.json"
        self._ports = folder / "network_ports.json"
        self._endpoints = folder / "endpoints.json"
        self._last_good: Optional[Discovered] = None  # as saved
        self.answered_at: Optional[float] = None  # Unix seconds: ngrok's last answer, an hour early
        self._assignments_saved = True  # what was last to be saved is on disk

    def assignments(self) -> Remembered:
        """Addresses and ports of the last run. Raises StateError if they cannot be read."""
        self.remove_orphans()
        addresses, addresses_note = files.read_json_mapping(self._addresses, str)
        ports, ports_note = files.read_json_mapping(self._ports, int)
        for note in filter(None, (addresses_note, ports_note)):
            logger.warning("%s", note)
        return Remembered(addresses, ports)

    def known_addresses(self) -> frozenset[str]:
        """Those of the last run, as far as they can be read; nothing is moved or made."""
        with contextlib.suppress(OSError, ValueError, RecursionError):
            saved = json.loads(files.read_regular(self._addresses))
            if isinstance(saved, dict):
                return frozenset(ip for ip in saved.values() if isinstance(ip, str))
        return frozenset()

    def glimpse(self) -> tuple[Remembered, Discovered, tuple[str, ...]]:
        """What the last run knew, and which files do not tell; nothing is moved or made."""
        faults = []

        def read(path: Path) -> object:
            try:
                return json.loads(files.read_regular(path))
            except FileNotFoundError:
                return {}
            except (OSError, ValueError, RecursionError) as exc:
                faults.append(f"{path} cannot be read: {exc}")
                return {}

        addresses, ports = read(self._addresses), read(self._ports)
        found = Discovered()
        endpoints = read(self._endpoints)
        if endpoints:
            try:
                found = discovery.from_json(endpoints)
            except ValueError as exc:
                faults.append(f"{self._endpoints} is damaged: {exc}")
        remembered = Remembered(_mapping(addresses, str), _mapping(ports, int))
        return remembered, found, tuple(faults)

    def remove_orphans(self) -> list[Path]:
        """Removes what a run that was killed while it wrote left beside the files."""
        return [orphan for path in self._files() for orphan in files.remove_orphans(path)]

    def orphans(self) -> list[Path]:
        """What `remove_orphans` would remove."""
        return [orphan for path in self._files() for orphan in files.orphans(path)]

    def _files(self) -> tuple[Path, ...]:
        return self._addresses, self._ports, self._endpoints

    def save_assignments(self, remembered: Remembered) -> None:
        """Raises StateError; what was saved before is then still there."""
        self._assignments_saved = False
        files.write_json_mapping(self._addresses, remembered.addresses)
        files.write_json_mapping(self._ports, remembered.ports)
        self._assignments_saved = True

    def holds_assignments(self) -> bool:
        """What was last to be saved is on disk, and nobody has removed it since."""
        return self._assignments_saved and self._addresses.exists() and self._ports.exists()

    def endpoints(self) -> Optional[Discovered]:
        """The last good answer of the API, to serve from until the next one; None: none."""
        try:
            found = discovery.from_json(json.loads(files.read_regular(self._endpoints)))
        except FileNotFoundError:
            return None
        except OSError as exc:
            logger.warning("%s cannot be read: %s; ngrok is asked", self._endpoints, exc.strerror)
            return None
        except (ValueError, RecursionError):
            self._set_endpoints_aside()
            return None
        self._last_good = found
        with contextlib.suppress(FileNotFoundError):  # removed since it was read
            self.answered_at = self._endpoints.stat().st_mtime
        return found

    def _set_endpoints_aside(self) -> None:
        try:
            kept = files.move_aside(self._endpoints)
        except StateError as exc:
            logger.warning("%s; ngrok is asked", exc)
            return
        logger.warning("%s is damaged: kept as %s; ngrok is asked", self._endpoints, kept.name)

    def forget_endpoints(self) -> None:
        """They were of a registration that is over. That they cannot be removed is told."""
        self._last_good = None
        try:
            self._endpoints.unlink(missing_ok=True)
        except OSError as exc:
            logger.warning("%s cannot be removed: %s", self._endpoints, exc.strerror)

    def save_endpoints(self, discovered: Discovered, now: float) -> None:
        """ngrok's answer of `now`, kept for a start without network; a full disk only costs that.

        The file's time tells its age. An answer like the last one refreshes it once an hour, so
        that a disk is left in peace.
        """
        if discovered == self._last_good and self._still_kept(now):
            self._last_good = discovered  # of two that are the same one need not be held
            return
        try:
            content = json.dumps(discovery.to_json(discovered), separators=(",\n", ": ")).encode()
            files.write_atomic(self._endpoints, content + b"\n")
        except StateError as exc:
            logger.warning("a start without network will know no endpoints: %s", exc)
            return
        self._last_good, self.answered_at = discovered, now

    def _still_kept(self, now: float) -> bool:
        """The file is there, and says now that ngrok has answered lately."""
        try:
            if self.answered_at is None or not 0 <= now - self.answered_at < STAMP_EVERY_S:
                os.utime(self._endpoints, (now, now))
                self.answered_at = now
            return self._endpoints.exists()
        except FileNotFoundError:
            return False
        except OSError as exc:
            logger.debug("the time of %s cannot be set: %s", self._endpoints, exc.strerror)
            return True


def _mapping(value: object, kind: type[Value]) -> dict[str, Value]:
    """What of a JSON document is one from a name to a value of this kind."""
    items = value.items() if isinstance(value, dict) else ()
    return {name: each for name, each in items if type(each) is kind}
