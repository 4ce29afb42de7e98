"""The routes as a program lists them, where the kernel itself is not asked."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from ngrokd.host.command import CommandError, Runner

logger = logging.getLogger(__name__)


def ask(run: Runner, argv: Sequence[str]) -> str:
    """What it prints; "" if it fails: then addresses alone tell who uses the subnet."""
    try:
        return run(argv)
    except CommandError as exc:
        logger.debug("routes are not looked at: %s", exc)
        return ""
