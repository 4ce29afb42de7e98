"""Whether the daemon lives and serves, by its own answer to `status`. Pure."""

from __future__ import annotations

from ngrokd.control import tones
from ngrokd.control.answers import at, text

_READY_STATES = frozenset({"ready", "degraded"})


def is_healthy(status: object) -> bool:
    """Its threads turn. An older daemon does not say; it answers, at least."""
    return at(status, "healthy") is not False


def is_ready(status: object) -> bool:
    """It serves. An older daemon says so by its state alone."""
    return at(status, "ready") is not False and text(status, "state") in _READY_STATES


def tone_of(status: object) -> tones.Tone:
    """Of the daemon's state."""
    return tones.of_daemon(text(status, "state")) if is_healthy(status) else tones.Tone.BAD
