"""The environment that the daemon has, or the next one would have: who asks has another.

A key, a proxy or a folder of certificates that is set for the daemon alone (/etc/default/ngrokd)
would be missed without it, and one that is set in this shell alone would be taken for the daemon's.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from ngrokd import configfile
from ngrokd.config import Config
from ngrokd.configtext.settings import KEY_FILE_VARIABLE, KEY_VARIABLE
from ngrokd.doctor.lookdaemon import Started
from ngrokd.errors import HostError
from ngrokd.host import files
from ngrokd.service import defaults
from ngrokd.service.disk import Disk, Found

# What decides how the API is reached, and whom this machine trusts.
_OF_THE_WAY = frozenset({"HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY"})
_TRUST = ("SSL_CERT_FILE", "SSL_CERT_DIR")


def environ(started: Started, own: Mapping[str, str]) -> dict[str, str]:
    """Of the daemon that runs, else of the next one as far as it can be told."""
    if started.environ is not None:
        return dict(started.environ)
    return {**own, **_defaults()}


def without_settings(variables: Mapping[str, str]) -> dict[str, str]:
    """For a file that has all of what the daemon runs with, its variables included."""
    return {name: value for name, value in variables.items() if not name.startswith("NGROK")}


def with_key(config: Config, variables: Mapping[str, str]) -> Config:
    """With the API key of the environment, which goes before that of the file."""
    key = variables.get(KEY_VARIABLE, "").strip()
    path = variables.get(KEY_FILE_VARIABLE, "")
    if not key and path:
        with contextlib.suppress(OSError, ValueError):  # then no key: the next check says so
            content = files.read_regular(Path(path), configfile.MAX_FILE_BYTES)
            key = content.decode("utf-8", "replace").strip()
    return replace(config, api=replace(config.api, key=key)) if key else config


@contextlib.contextmanager
def way_of(variables: Mapping[str, str]) -> Iterator[None]:
    """Meanwhile this process reaches the API as the daemon does: through its proxies."""
    before = {name: value for name, value in os.environ.items() if _is_of_the_way(name)}
    _put(variables)
    try:
        yield
    finally:
        _put(before)


def _put(variables: Mapping[str, str]) -> None:
    for name in list(filter(_is_of_the_way, os.environ)):
        del os.environ[name]
    os.environ.update({n: value for n, value in variables.items() if _is_of_the_way(n)})


def _is_of_the_way(name: str) -> bool:
    return name.upper() in _OF_THE_WAY or name in _TRUST


def _defaults() -> dict[str, str]:
    disk = Disk(files.write_atomic, files.remove_orphans)

    def found(path: str) -> Found:
        try:
            return disk.found(path)
        except HostError:  # closed to this user, as its key wants it: nothing is known of it
            return Found()

    return defaults.variables(found)
