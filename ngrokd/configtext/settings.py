"""Settings from file, environment and overlay, put together into one checked `Config`."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

from ngrokd.config import Config
from ngrokd.configtext.checks import Wrong
from ngrokd.configtext.schema import KEYS, SECTIONS, Key, NameCheck, value_in
from ngrokd.configtext.spelling import closest
from ngrokd.configtext.yamltext import Entry, Table
from ngrokd.errors import ConfigError

KEY_VARIABLE = "NGROK_API_KEY"
MAX_FAULTS = 100  # what is told of a file that is no configuration at all
KEY_FILE_VARIABLE = "NGROK_API_KEY_FILE"

# Of two variables for one key the last one that is set counts.
_VARIABLES = (
    (KEY_VARIABLE, "api.key"),
    ("NGROKD_HOST", "server.socket_path"),
    ("NGROKD_SOCKET", "server.socket_path"),
    ("NGROKD_HOSTS_PATH", "net.hosts_file"),
)
_MAX_NAME_CHARACTERS = 32  # longer ones are not repeated in messages: they may be a pasted key
_MIN_SECRET_CHARACTERS = 8  # shorter ones would blank out ordinary words
_BY_DOTTED = {key.dotted: key for key in KEYS}
# What the daemon writes; two of them in one file would destroy each other.
_OWN_FILES = (
    "net.hosts_file",
    "server.client_cert",
    "server.client_key",
    "server.socket_path",
    "server.pid_file",
    "server.log_file",
)


class Settings:
    """The values found so far, each checked, and all faults. Owner: the thread that reads them.

    Sources are taken in order of precedence: a later one replaces what an earlier one said.
    """

    def __init__(self) -> None:
        self.faults: list[str] = []
        self._values: dict[str, Any] = {}  # by dotted key
        self._places: dict[str, str] = {}  # by dotted key: where its value comes from
        self._secrets: list[str] = []

    def take_file(self, top: object, source: str) -> None:
        """The value of a whole document; None is an empty one."""
        if isinstance(top, Table):
            self._take_table(top, "", source)
        elif top is not None:
            names = ", ".join(_names(""))
            self._fault(f"{source}:1", "there are no `name: value` lines", names)

    def take_environment(self, environ: Mapping[str, str], key_from_file: str = "") -> None:
        """The variables that are set; an empty one is not, as `NAME=` in an environment file."""
        found = {name: environ.get(name, "") for name, _ in _VARIABLES}
        if found[KEY_VARIABLE] and environ.get(KEY_FILE_VARIABLE):
            wrong = f"{KEY_FILE_VARIABLE} is set as well"
            self._fault(f"environment: {KEY_VARIABLE}", wrong, "one of the two")
        for name, dotted in _VARIABLES:
            if found[name]:
                text = found[name]
                if dotted == "server.socket_path" and text.startswith("unix://"):
                    text = text[len("unix://") :]
                self._take(_BY_DOTTED[dotted], text, f"environment: {name}")
        if key_from_file:
            self._take(_BY_DOTTED["api.key"], key_from_file, f"environment: {KEY_FILE_VARIABLE}")

    def take_overlay(self, overlay: Mapping[str, object]) -> None:
        """Values the program itself decides, as `--sandbox` does: {section: {name: value}}."""
        self._take_table(_table_of(overlay), "", "overlay")

    def config(self) -> Config:
        """What was read over the built-in values. Raises ConfigError if there was any fault."""
        config = self._built()
        if not self.faults:
            self._refuse_one_file_for_two(config)
        if self.faults:
            shown = [self._without_secrets(fault) for fault in self.faults[:MAX_FAULTS]]
            more = len(self.faults) - MAX_FAULTS
            raise ConfigError([*shown, *([f"and {more} faults more"] if more > 0 else [])])
        return config

    @property
    def places(self) -> Mapping[str, str]:
        """By dotted key, where its value comes from; what is not among them has its default."""
        return self._places

    def _built(self) -> Config:
        config = Config()
        for section in ("", *SECTIONS):
            values = {
                _BY_DOTTED[dotted].field: value
                for dotted, value in self._values.items()
                if _BY_DOTTED[dotted].section == section
            }
            if section:
                values = {section: dataclasses.replace(getattr(config, section), **values)}
            config = dataclasses.replace(config, **values)
        return config

    def _take_table(self, table: Table, section: str, source: str) -> None:
        for entry in self._once(table, section, source):
            key = _BY_DOTTED.get(_dotted(section, entry.name))
            if key and key.section == section:
                self._take(key, entry.value, _where(source, entry, section), source)
            elif not section and entry.name in SECTIONS:
                self._take_section(entry, source)
            else:
                where = _where(source, entry, section)
                seen = len(self.faults) < MAX_FAULTS
                allowed = _alternatives(section, entry.name) if seen else ""
                self._fault(where, "there is no such key", allowed)

    def _take_section(self, entry: Entry, source: str) -> None:
        if isinstance(entry.value, Table):
            self._take_table(entry.value, entry.name, source)
        elif entry.value is not None:  # a section without lines is left at its defaults
            allowed = f"indented lines with {', '.join(_names(entry.name))}"
            self._fault(_where(source, entry, ""), "it is not a section", allowed)

    def _take(self, key: Key, value: object, where: str, source: str = "") -> None:
        if key.dotted == "api.key" and isinstance(value, str):
            self._secrets.append(value)
        try:
            if key.name_check:
                checked = self._names_checked(key, key.name_check, value, source)
            else:
                checked = key.check(value)
        except Wrong as exc:
            self._fault(where, str(exc), key.allowed)
            return
        self._values[key.dotted] = checked
        self._places[key.dotted] = where

    def _names_checked(
        self, key: Key, name_check: NameCheck, value: object, source: str
    ) -> dict[str, Any]:
        """A table of the user's own names; each fault stands at its own line."""
        if not isinstance(value, (Table, type(None))):
            raise Wrong("it is not a section")
        found: dict[str, Any] = {}
        for entry in self._once(value or Table(), key.dotted, source):
            where = _where(source, entry, key.dotted)
            try:
                name = name_check(entry.name)
                checked = key.check(entry.value)
            except Wrong as exc:
                self._fault(where, str(exc), key.allowed)
                continue
            if name in found:
                self._fault(where, f"{name} is given already", "once")
            found[name] = checked
        return found

    def _once(self, table: Table, section: str, source: str) -> Iterator[Entry]:
        """The entries, but for those that repeat a name: YAML parsers would drop one silently."""
        first: dict[str, int] = {}
        for entry in table.entries:
            if entry.name not in first:
                first[entry.name] = entry.line
                yield entry
            else:
                wrong = f"it is given on line {first[entry.name]} already"
                self._fault(_where(source, entry, section), wrong, "once")

    def _refuse_one_file_for_two(self, config: Config) -> None:
        first: dict[str, str] = {}
        for dotted in _OWN_FILES:
            path = str(value_in(config, _BY_DOTTED[dotted]))
            if path in ("", "syslog"):
                continue
            other = first.setdefault(os.path.normpath(path), dotted)
            if other != dotted:
                places = self._places
                where = places.get(dotted) or places.get(other) or dotted
                self._fault(where, f"{other} and {dotted} are the same file", "two files")

    def _fault(self, where: str, wrong: str, allowed: str) -> None:
        self.faults.append(f"{where}: {wrong}, allowed: {allowed}")

    def _without_secrets(self, fault: str) -> str:
        """A key that was pasted into a second place by mistake is not shown from there."""
        for secret in self._secrets:
            if len(secret) >= _MIN_SECRET_CHARACTERS:
                fault = fault.replace(secret, "[redacted]")
        return fault


def _names(section: str) -> list[str]:
    """What may stand at this place."""
    names = [key.name for key in KEYS if key.section == section]
    return names if section else [*SECTIONS, *names]


def _alternatives(section: str, name: str) -> str:
    """All that is possible there, and what was probably meant: there, else anywhere."""
    own = {known: known for known in _names(section)}
    anywhere = {key.name: key.dotted for key in KEYS}
    for meanings in (own, anywhere):
        close = closest(name, meanings)
        if close:
            return f"{', '.join(own)} (did you mean {meanings[close]}?)"
    return ", ".join(own)


def _where(source: str, entry: Entry, section: str) -> str:
    """Where an entry stands, in a form that is safe in a message. Line 0: not in a file."""
    place = f"{source}:{entry.line}" if entry.line else source
    name = entry.name
    if len(name) > _MAX_NAME_CHARACTERS:
        name = f"(a name of {len(name)} characters)"
    elif not (name.isprintable() and name.strip()):
        name = ascii(name)
    return f"{place}: {_dotted(section, name)}"


def _dotted(section: str, name: str) -> str:
    return f"{section}.{name}" if section else name


def _table_of(values: Mapping[str, object]) -> Table:
    """Python values in the form that a file's have."""
    return Table(tuple(Entry(name, 0, _plain(value)) for name, value in values.items()))


def _plain(value: object) -> object:
    if isinstance(value, Mapping):
        return _table_of(value)
    return str(value) if isinstance(value, PurePath) else value
