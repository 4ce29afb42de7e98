"""The sandbox's books: operators, endpoints, settings, faults, and what was seen."""

from __future__ import annotations

import dataclasses
import json
import secrets
import time
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

from ngrokd.errors import StateError
from ngrokd.model import Target
from ngrokd.sandbox import operators, store
from ngrokd.sandbox.endpoints import EndpointSpec, Listed, Upstream, locate
from ngrokd.sandbox.faults import FaultBoard
from ngrokd.sandbox.operators import Operator, rfc3339

LOG_ENTRIES = 1000  # of each log; the oldest fall out


@dataclass(frozen=True)
class Settings:
    """What the control API may change while the sandbox runs; times in seconds."""

    certificate_lifetime: float = 90 * 86400.0
    ingress_endpoint: str = ""  # "": the sandbox's own; what the API names to operators
    rate_limit: int = 0  # requests in 60 s; 0: none (ngrok's is 120)
    tls_version: str = ""  # "1.2" or "1.3": the ingress speaks only that one
    upgrade_timeout: float = 60.0  # how long the ingress waits for a connection's request


@dataclass(frozen=True)
class Route:
    """The member of a pool that a connection goes to."""

    endpoint_id: str
    proto: str
    upstream: Optional[Upstream]


class Books:
    """Everything the sandbox remembers. Owner: the clerk. `file` keeps the operators."""

    def __init__(self, file: Path, clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock
        self._last_number = 0
        self._turns: dict[Target, int] = {}
        self.operators: dict[str, Operator] = _load_operators(file)  # oldest first
        self.endpoints: dict[str, Listed] = {}  # oldest first
        self.settings = Settings()
        self.faults = FaultBoard()
        self.requests: deque[dict[str, object]] = deque(maxlen=LOG_ENTRIES)
        self.connections: dict[int, dict[str, object]] = {}
        self._connections_seen = 0
        self.recent_calls: deque[float] = deque()  # times, for the rate limit

    def now(self) -> float:
        """Unix seconds."""
        return self._clock()

    def new_id(self, prefix: str) -> str:
        """Ids grow with time, as ngrok's do: `before_id` works even if its item has gone."""
        self._last_number = max(self._last_number + 1, int(self._clock() * 1_000_000))
        return f"{prefix}_{self._last_number:013x}{secrets.token_hex(7)}"

    def keep_operator(self, operator: Operator) -> None:
        """New or changed; on disk before it is true here."""
        kept = {**self.operators, operator.id: operator}
        self._save(kept.values())
        self.operators = kept

    def drop_operator(self, identifier: str) -> None:
        """Its certificates no longer pass the ingress."""
        kept = {key: operator for key, operator in self.operators.items() if key != identifier}
        self._save(kept.values())
        self.operators = kept

    def add_endpoint(self, spec: EndpointSpec) -> str:
        """Its id. One with the URL of another is a further member of its pool."""
        identifier, now = self.new_id("ep"), rfc3339(self.now())
        self.endpoints[identifier] = Listed(identifier, spec, now, now)
        return identifier

    def change_endpoint(self, identifier: str, spec: EndpointSpec) -> None:
        """The same id with another specification."""
        self.endpoints[identifier] = dataclasses.replace(
            self.endpoints[identifier], spec=spec, updated_at=rfc3339(self.now())
        )

    def route(self, target: Target) -> Optional[Route]:
        """The member whose turn it is; None if nothing has that host and port."""
        members = []
        for endpoint in self.endpoints.values():
            scheme, location = locate(endpoint.spec.url)
            if location == target:
                members.append(Route(endpoint.id, scheme, endpoint.spec.upstream))
        if not members:
            self._turns.pop(target, None)
            return None
        turn = self._turns.get(target, -1) + 1
        self._turns[target] = turn
        return members[turn % len(members)]

    def record_connection(self, number: int, entry: Mapping[str, object]) -> int:
        """A new entry (number 0) or a later word on one; its number."""
        if not number:
            self._connections_seen += 1
            number = self._connections_seen
        began = self.connections.get(number, {}).get("time", rfc3339(self.now()))
        self.connections[number] = {"time": began, **entry}
        if len(self.connections) > LOG_ENTRIES:
            del self.connections[next(iter(self.connections))]
        return number

    def _save(self, kept: Iterable[Operator]) -> None:
        saved = [operators.dump(operator) for operator in kept]
        store.write_file(self._file, json.dumps(saved, indent=1).encode())


def _load_operators(file: Path) -> dict[str, Operator]:
    if not file.exists():
        return {}
    try:
        saved: list[Mapping[str, Any]] = json.loads(store.read_file(file))
        return {operator.id: operator for operator in map(operators.load, saved)}
    except (ValueError, TypeError, KeyError, AttributeError) as exc:
        raise StateError(
            f"{file} does not hold the sandbox's operators; remove it to begin without any"
        ) from exc
