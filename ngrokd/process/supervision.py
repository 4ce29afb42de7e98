"""What a service manager is told: that the daemon is up, what it does, and that it lives."""

from __future__ import annotations

import math
from typing import Callable, Optional, Protocol

from ngrokd.model import EndpointState, State, Status

# Units ordered after ours find the names published where ngrok answers within this time. Where it
# does not, a boot must not wait for it: the daemon is up, and becomes ready by itself.
PATIENCE_S = 10.0
CLEANUP_S = 60.0  # for taking names, addresses and the interface away: commands that may hang
SETTLED = frozenset({State.READY, State.DEGRADED, State.WAITING_FOR_API_KEY})


class Notifier(Protocol):
    """The part of `notify.Notifier` that is needed here."""

    @property
    def watchdog_s(self) -> Optional[float]: ...
    def ready(self, status: str) -> None: ...
    def reloading(self) -> None: ...
    def status(self, text: str) -> None: ...
    def stopping(self, status: str, within_s: float) -> None: ...
    def alive(self) -> None: ...


class Supervision:
    """Owner: main thread. Times are monotonic seconds."""

    def __init__(self, notifier: Notifier, forwarding: Callable[[], bool], now: float) -> None:
        """`forwarding`: the forwarding thread turns; the main thread's own life is shown by
        calling `tick`."""
        self._notifier = notifier
        self._forwarding = forwarding
        self._text = ""
        self._told: object = None  # what `_text` describes
        self._ready = False
        self._ready_at_the_latest = now + PATIENCE_S
        self._next_sign = now

    def tick(self, status: Status, now: float) -> None:
        """Tells what is new."""
        # Every message brings a tick, and each of thousands of endpoints would be counted anew.
        told = (status.state, status.problems, status.endpoints)
        text = self._text if told == self._told else describe(status)
        self._told = told
        if not self._ready:
            self._ready = settled(status) or now >= self._ready_at_the_latest
            if self._ready:
                self._notifier.ready(text)
        elif text != self._text:
            self._notifier.status(text)
        self._text = text
        self.show_life(now)

    def show_life(self, now: float) -> None:
        """The part of `tick` that a stop that drains must go on with."""
        every = self._notifier.watchdog_s
        if every is not None and now >= self._next_sign and self._forwarding():
            self._notifier.alive()
            self._next_sign = now + every

    def wait_s(self, now: float) -> float:
        """Until `tick` has something to do."""
        sign = self._next_sign if self._notifier.watchdog_s is not None else math.inf
        ready = math.inf if self._ready else self._ready_at_the_latest
        return max(0.0, min(sign, ready) - now)

    def reloading(self) -> None:
        """The configuration is being read; `reloaded` follows."""
        if self._ready:
            self._notifier.reloading()

    def reloaded(self, status: Status) -> None:
        """The new configuration, or still the old one, is in force."""
        if self._ready:
            self._notifier.ready(describe(status))

    def stopping(self, drain_s: float) -> None:
        """The end has begun; it may take `drain_s` more."""
        self._ready = True  # from now on it is too late to tell that
        self._notifier.stopping("stopping", drain_s + CLEANUP_S)


def settled(status: Status) -> bool:
    """Nothing will come soon that is worth waiting for: ngrok has answered, or could not be asked.

    A problem is no reason by itself: names come all the same where only the health pages failed.
    """
    return status.state in SETTLED or bool(status.api_last_error)


def describe(status: Status) -> str:
    """One line for `systemctl status`."""
    open_count = sum(e.state is EndpointState.OPEN for e in status.endpoints)
    text = f"{status.state.value.replace('_', ' ')}: "
    text += f"{open_count} of {len(status.endpoints)} endpoints open"
    return f"{text}; {status.problems[0]}" if status.problems else text
