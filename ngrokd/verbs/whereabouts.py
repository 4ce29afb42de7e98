"""Where the daemon of this machine is to be looked for: its configuration, socket and log."""

from __future__ import annotations

from pathlib import Path
from typing import Optional

from ngrokd.config import DEFAULT_CONFIG_PATH, Config
from ngrokd.control import advice
from ngrokd.control.advice import Whereabouts
from ngrokd.errors import HostError
from ngrokd.host import files
from ngrokd.logs import targets
from ngrokd.service import control, looking
from ngrokd.service.control import Service
from ngrokd.service.disk import Disk, Found
from ngrokd.service.systems import Init
from ngrokd.verbs import cleanup, lifecycle

JOURNAL = "journalctl -u ngrokd"
SYSTEM_LOG = "the system's: journalctl -t ngrokd, or /var/log/syslog"


def whereabouts() -> Whereabouts:
    """Of the daemon that `ngrokd start` starts. What may not be read counts as its default."""
    service = _service()
    path = config_path(service)
    # Of no environment: the variables of whoever asks are not the daemon's.
    config, _ = cleanup.settings(path, {})
    log = _log(config, service)
    return Whereabouts(str(path), config.server.socket_path, log, advice.start())


def config_path(service: Optional[Service] = None) -> Path:
    """Of the service that is installed, else the default one."""
    service = service or _service()
    return lifecycle.absolute(service.config if service else DEFAULT_CONFIG_PATH)


def _service() -> Optional[Service]:
    disk = Disk(files.write_atomic, files.remove_orphans)

    def found(path: str) -> Found:
        try:
            return disk.found(path)
        except HostError:  # as /etc/default/ngrokd may be, for its key: its defaults count
            return Found()

    return control.installed(looking.look(disk, lifecycle.which), found)


def _log(config: Config, service: Optional[Service]) -> str:
    is_systemd = service is not None and service.init is Init.SYSTEMD
    if is_systemd and not config.server.log_file:
        return JOURNAL
    place = targets.place_of(config.server, foreground=False)
    return SYSTEM_LOG if place == targets.SYSLOG else place
