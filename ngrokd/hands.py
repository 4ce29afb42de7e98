"""What the main thread acts through: the forwarder, this machine, the pool, its own mailbox."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable

from ngrokd.forward.forwarder import Forwarder
from ngrokd.host.machine import Machine
from ngrokd.messages import Message
from ngrokd.upkeep.poller import Submit


@dataclass(frozen=True)
class Hands:
    """Owner: main. `post` may be called by any thread."""

    forwarder: Forwarder
    machine: Machine
    submit: Submit
    post: Callable[[Message], None]
