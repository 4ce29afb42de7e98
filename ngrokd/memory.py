"""What the daemon remembers of addresses, ports and endpoints over a restart."""

from __future__ import annotations

import contextlib
import json
import logging
from pathlib import Path
from typing import Optional

from ngrokd.cloud import discovery
from ngrokd.desired import Remembered
from ngrokd.errors import StateError
from ngrokd.host import files
from ngrokd.model import Discovered

logger = logging.getLogger(__name__)


class Memory:
    """Owner: main thread. Files of the state folder; a damaged one is kept aside and made anew."""

    def __init__(self, folder: Path) -> None:
        self._addresses = folder / "ip_mappings.json"
        self._ports = folder / "network_ports.json"
        self._endpoints = folder / "endpoints.json"
        self._last_good: Optional[Discovered] = None  # as saved
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

    def remove_orphans(self) -> list[Path]:
        """Removes what a run that was killed while it wrote left beside the files."""
        paths = (self._addresses, self._ports, self._endpoints)
        return [orphan for path in paths for orphan in files.remove_orphans(path)]

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
            logger.warning("%s is damaged; ngrok is asked", self._endpoints)
            return None
        self._last_good = found
        return found

    def save_endpoints(self, discovered: Discovered) -> None:
        """Kept for a start without network; a full disk only costs that."""
        if discovered == self._last_good and self._endpoints.exists():
            return
        try:
            content = json.dumps(discovery.to_json(discovered), indent=1).encode()
            files.write_atomic(self._endpoints, content + b"\n")
        except StateError as exc:
            logger.warning("a start without network will know no endpoints: %s", exc)
            return
        self._last_good = discovered
