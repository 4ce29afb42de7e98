"""The exception tree: one class for each thing that a handler does differently."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Optional

# `op_2Nc8...`, `10.107.0.2`, `12.5 s`
_CHANGING = re.compile(r"\b[a-z]+_[0-9A-Za-z]{8,}\b|[0-9]+")

TOO_MANY_REQUESTS = 429
# Too many at a time, too many in a minute: of one account, whichever of its machines asked.
RATE_CODES = frozenset({"ERR_NGROK_225", "ERR_NGROK_226"})


class NgrokdError(Exception):
    """Something a person can act on: `str()` names the thing, the cause and the mend."""

    @property
    def fault(self) -> object:
        """What makes it another fault than the last one, so that it is told again."""
        return str(self)


class ConfigError(NgrokdError):
    """The configuration is not usable. Handler: print every fault, exit 2 (or keep the old one)."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("\n".join(faults))
        self.faults = tuple(faults)


class ApiError(NgrokdError):
    """The ngrok API did not give what was asked for.

    `status` is the HTTP status (None: no answer came), `code` ngrok's `ERR_NGROK_...` or "".
    """

    def __init__(self, message: str, status: Optional[int] = None, code: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code

    @property
    def fault(self) -> object:
        """The text, but for ids and numbers in it, which may never be the same."""
        return type(self), self.status, self.code, _CHANGING.sub("", str(self))


class ApiUnavailable(ApiError):
    """Network fault, 5xx, 429, or an answer that is not the API's. Handler: back off and retry.

    `retry_after_s` is what the API asked for with `Retry-After`, in seconds.
    """

    def __init__(
        self,
        message: str,
        status: Optional[int] = None,
        code: str = "",
        retry_after_s: Optional[float] = None,
    ) -> None:
        super().__init__(message, status, code)
        self.retry_after_s = retry_after_s

    @property
    def rate_limited(self) -> bool:
        """The account asks too often: asking less often is what helps."""
        return self.status == TOO_MANY_REQUESTS or self.code in RATE_CODES


class ApiRefused(ApiError):
    """The API refuses this key or request. Handler: tell the operator, retry slowly."""


class OperatorLost(ApiError):
    """404: the operator no longer exists at ngrok. Handler: register again."""


class StateError(NgrokdError):
    """A file of the state folder cannot be read or written. Handler: send nothing that needs it."""


class HostError(NgrokdError):
    """A command or file of this machine refused. Handler: report a problem, serve what is left."""


class InterfaceTaken(HostError):
    """Ours is gone, or another's is in its place. Handler: its addresses are not ours now."""


class NoAddress(HostError):
    """An interface is not there, or has no IPv4 address. Handler: nothing listens there now.

    After any other HostError nothing is known, and what listens stays.
    """


class BindError(HostError):
    """An address and port cannot be listened on. Handler: that endpoint fails, retried later."""


class PortForbidden(BindError):
    """The port is low, and we lack the right. Handler: take a port from `net.start_port`."""


class ProtocolError(NgrokdError):
    """A peer broke the wire protocol. Handler: drop that one connection."""


class ControlError(NgrokdError):
    """A control request that is answered with an error; `code` is a stable word for scripts."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


class DaemonUnreachable(NgrokdError):
    """No daemon answers on the control socket. Handler: exit 3."""


class TimedOut(NgrokdError):
    """What was waited for did not come in time. Handler: exit 4."""


class NotPermitted(NgrokdError):
    """This user may not do that. Handler: exit 5."""


class FileForbidden(NotPermitted):
    """A file is closed to this user, whatever group the socket is for. Handler: exit 5, sudo."""
