"""`config.yml`: read, checked as a whole, compared, and written with its defaults."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from ngrokd.config import Config
from ngrokd.configtext import advice as advising
from ngrokd.configtext import yamltext
from ngrokd.configtext.schema import KEYS, value_in
from ngrokd.configtext.settings import KEY_FILE_VARIABLE, KEY_VARIABLE, Settings
from ngrokd.errors import ConfigError

MAX_FILE_BYTES = 1024 * 1024  # some hundred times the default file

DEFAULT_TEXT = """\
# ngrokd: local addresses and names for ngrok's Kubernetes-bound endpoints.
# Every key is shown with its default. `ngrokd check-config` finds mistakes.

api:
  url: https://api.ngrok.com     # http:// only for a loopback host
  key: ""                        # or NGROK_API_KEY, or `ngrokctl set-api-key`

ingressEndpoint: ""              # HOST[:PORT]; empty: what the API names

server:
  log_level: info                # debug, info, warning or error
  log_format: text               # text or json
  log_file: ""                   # empty: standard error in the foreground, else
                                 # /var/log/ngrokd.log; or a path, or syslog
  socket_path: /var/run/ngrokd.sock
  socket_group: ""               # the group that may use the socket besides root
  pid_file: /var/run/ngrokd.pid
  client_cert: /etc/ngrokd/tls.crt   # its folder is the state folder
  client_key: /etc/ngrokd/tls.key
  ca_file: ""                    # more trust anchors for ngrok's ingress
  cert_refresh_interval: 3600    # seconds between looks at the certificate's age
  health_address: 127.0.0.1
  health_port: 8081              # 0: off

bound_endpoints:
  poll_interval: 30              # seconds
  selectors: ['true']            # CEL, evaluated by ngrok; 'true': every endpoint

net:
  interface_name: ngrokd0
  subnet: 10.107.0.0/16          # one address of it for each hostname
  listen_interface: virtual      # or 0.0.0.0, an address, an interface's name
  start_port: 9080               # first port where listen_interface is not virtual
  overrides: {}                  # hostname: listen_interface
  hosts_file: /etc/hosts
  flush_resolver_cache: auto     # off: the resolver may keep old answers

forward:
  connect_timeout: 10            # seconds for connect, handshake and upgrade
  half_close_timeout: 60         # seconds without progress once one side has ended
  idle_timeout: 0                # seconds; 0: never
  drain_timeout: 10              # seconds that open connections get at stop
  max_connections: 0             # 0: what the descriptor limit allows
  warm_connections: auto         # off, auto or a number: ingress connections kept ready
"""


@dataclass(frozen=True)
class Source:
    """Where a daemon's configuration comes from, to be read again. `path` None: no file.

    `record`: a file that has all of what the daemon began with, where `path` has not.
    """

    path: Optional[Path]
    environ: Mapping[str, str] = field(repr=False)  # it may hold the API key
    overlay: Mapping[str, object] = field(default_factory=dict, repr=False)
    record: Optional[Path] = None

    @property
    def told(self) -> str:
        """The file by which others find the daemon's places, "" if there is none."""
        return str(self.record or self.path or "")

    def load(self) -> Config:
        """Raises ConfigError with every fault."""
        if self.path is None:
            return parse("", "defaults", self.environ, self.overlay)
        return load(self.path, self.environ, self.overlay)

    def files(self) -> tuple[Path, ...]:
        """What `load` reads: the file, and the one that NGROK_API_KEY_FILE names."""
        key_file = self.environ.get(KEY_FILE_VARIABLE, "")
        key_files = (Path(key_file),) if key_file and not self.environ.get(KEY_VARIABLE) else ()
        return (*((self.path,) if self.path else ()), *key_files)

    def advice(self, config: Config) -> tuple[str, ...]:
        """What is allowed and yet seldom meant, one line each, for the log at start and reload."""
        return advice(self.path, config)


def load(
    path: Path,
    environ: Optional[Mapping[str, str]] = None,
    overlay: Optional[Mapping[str, object]] = None,
) -> Config:
    """The configuration in `path`, over which goes `environ`, over which goes `overlay`.

    Raises ConfigError with every fault of all of them.
    """
    settings = _of_file(path, environ or {})
    settings.take_overlay(overlay or {})
    return settings.config()


def load_with_places(
    path: Path, environ: Mapping[str, str]
) -> tuple[Config, Mapping[str, str]]:
    """As `load`, and by dotted key where its value comes from: `FILE:LINE: KEY` or
    `environment: NAME`. What is not among them has its default."""
    settings = _of_file(path, environ)
    return settings.config(), settings.places


def _of_file(path: Path, environ: Mapping[str, str]) -> Settings:
    source = str(path)
    settings = Settings()
    try:
        settings.take_file(yamltext.read(_decode(_read(path), source), source), source)
    except ConfigError as exc:
        settings.faults.extend(exc.faults)
    key = ""
    try:
        key = _key_from_file(environ)
    except ConfigError as exc:
        settings.faults.extend(f"environment: {KEY_FILE_VARIABLE}: {text}" for text in exc.faults)
    settings.take_environment(environ, key)
    return settings


def parse(
    text: str,
    source: str,
    environ: Optional[Mapping[str, str]] = None,
    overlay: Optional[Mapping[str, object]] = None,
) -> Config:
    """As `load`, from text. Touches no file: NGROK_API_KEY_FILE is for `load` to follow."""
    settings = Settings()
    try:
        settings.take_file(yamltext.read(text, source), source)
    except ConfigError as exc:
        settings.faults.extend(exc.faults)
    settings.take_environment(environ or {})
    settings.take_overlay(overlay or {})
    return settings.config()


def changes(old: Config, new: Config) -> tuple[str, ...]:
    """The dotted keys whose values differ, in the order of the documentation."""
    return tuple(key.dotted for key in KEYS if value_in(old, key) != value_in(new, key))


def advice(path: Optional[Path], config: Config) -> tuple[str, ...]:
    """What is allowed and yet seldom meant, one line each. No line names `path` as its place."""
    return tuple(advising.lines(path, config))


def write_default(path: Path) -> bool:
    """Writes the commented defaults (mode 0600, in a folder of mode 0700) unless `path` exists.

    True if it did. Raises ConfigError.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        if path.parent.is_dir():
            return False  # somebody's own file
        raise ConfigError([f"{path}: {path.parent} is not a folder, allowed: a folder"]) from None
    except OSError as exc:
        mend = "run as root, name a file of your own with --config, or try --sandbox"
        fault = f"{path}: the default configuration cannot be written ({exc.strerror}): {mend}"
        raise ConfigError([fault]) from exc
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(DEFAULT_TEXT)
            file.flush()
            os.fsync(file.fileno())
    except OSError as exc:
        path.unlink()  # half a file would be read as the user's own wish
        raise ConfigError([f"{path}: the defaults cannot be written ({exc.strerror})"]) from exc
    return True


def _read(path: Path) -> bytes:
    """The file's bytes. A pipe is refused rather than waited for."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(handle, "rb") as file:
            mode = os.fstat(handle).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISCHR(mode)):  # /dev/null is an empty file
                raise ConfigError([f"{path}: it is not a file, allowed: a file of YAML text"])
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ConfigError([f"{path}: it cannot be read ({exc.strerror})"]) from exc
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError([f"{path}: it is too large, allowed: at most {MAX_FILE_BYTES} bytes"])
    return content


def _decode(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        wrong = f"the byte 0x{content[exc.start]:02x} is not UTF-8"
        raise ConfigError([f"{source}:{line}: {wrong}, allowed: UTF-8 text"]) from exc


def _key_from_file(environ: Mapping[str, str]) -> str:
    """The key that NGROK_API_KEY_FILE points to, or ""."""
    name = environ.get(KEY_FILE_VARIABLE, "")
    if not name or environ.get(KEY_VARIABLE):
        return ""
    key = _decode(_read(Path(name)), name).strip()
    if not key:
        raise ConfigError([f"{name}: it is empty, allowed: a file with an API key in it"])
    return key
