"""What looks at a Linux machine: its kernel, or the tools where asking that is shut off."""

from __future__ import annotations

import logging

from ngrokd.config import NetSettings
from ngrokd.errors import HostError
from ngrokd.host.command import CommandError, Runner
from ngrokd.host.netif.ifconfigreader import IfconfigReader
from ngrokd.host.netif.ipreader import IpReader
from ngrokd.host.netif.kernelreader import KernelReader
from ngrokd.host.netif.scene import Reader

logger = logging.getLogger(__name__)


def open_reader(net: NetSettings, run: Runner) -> Reader:
    """One that has been seen to work here, if there is one."""
    try:
        reader = KernelReader(net.subnet)
    except OSError as exc:
        logger.debug("the kernel is asked through `ip`: %s", exc)
        return _by_tools(run)
    try:
        reader.look()
    except HostError as exc:
        logger.debug("%s: `ip` is asked", exc)
        reader.close()
        return _by_tools(run)
    return reader


def _by_tools(run: Runner) -> Reader:
    reader = IpReader(run)
    try:
        reader.look()
    except CommandError as exc:
        if not exc.was_started:
            logger.debug("%s: `ifconfig` is asked", exc)
            return IfconfigReader(run)
    return reader
