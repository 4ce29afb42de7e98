"""Which files of a state folder, and which logs, are ours to remove, and what is said of others.

A configuration may name any path, also by mistake. So a file goes only if it is an ordinary one, in
a folder that is provably ours, and holds what ngrokd writes there. What stays is told.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Protocol

from ngrokd.config import DEFAULT_CONFIG_PATH, DEFAULT_LOG_FILE, Config
from ngrokd.service import ownership
from ngrokd.service.steps import Remove, RemoveFolder, Say, Step

SHOWN = 10  # names in one line

_WORDS = "|".join(re.escape(name) for name in ownership.STATE)
# Beside a file: what a crash leaves half written, and a damaged one that was put aside.
_HALF = r"\.(?:{})\.(?:ngrokd-[0-9]+-[0-9a-f]{{16}}|[0-9a-f]{{16}}\.tmp)"
# The trust anchor, and what `ngrokctl trust` has replaced.
_ANCHOR = r"ca\.crt(?:\.before(?:-[0-9]+)?)?"
# The hosts file as it was, and one that was being written when a crash came.
_OF_HOSTS = re.compile(r".+\.ngrokd\.(?:bak|journal)(?:\.ngrokd-[0-9]+-[0-9a-f]{16})?")
_ASIDE = re.compile(rf"(?:{_WORDS})\.corrupt")

_LOG = re.compile(r"ngrokd[\w.-]*\.log")
# `ngrokd.log.1`, `ngrokd.log.2.gz`, and with logrotate's dateext `ngrokd.log-20260131.gz`.
_ROTATED = r"{}(?:[.-][0-9]+)*(?:\.(?:gz|bz2|xz|zst))?"


class Sight(Protocol):
    """How the files of this machine are looked at."""

    def real(self, path: str) -> str:
        """The same path without links."""

    def names(self, folder: str) -> dict[str, bool]:
        """What is in it: whether it is an ordinary file. {} if it is not there."""

    def content(self, path: str) -> bytes:
        """Of an ordinary file. Raises HostError."""


def state(config: Config, config_path: str, sight: Sight) -> list[Step]:
    """The state folder and the configuration, as far as they are ours; the configuration last.

    So a purge that is cut short is gone on with: where the state is, stands in there.
    """
    named = str(config.state_folder)
    folder = _Folder(sight, sight.real(named), config, config_path)
    steps: list[Step] = [Remove(path) for path in folder.ours]
    steps += _of_other_key(config, sight)
    if folder.left:
        steps.append(Say(f"{folder.path} stays with {_listed(folder.left)}: {folder.reason}"))
    steps += _of_configuration(config_path, folder, sight)
    if not folder.left and folder.is_ours:
        steps.append(RemoveFolder(folder.path))
        if _is_link(named, sight):
            steps.append(Say(f"{named} stays: it is a link to {folder.path}"))
    default = _folder(DEFAULT_CONFIG_PATH)  # made by us, whoever emptied it
    if sight.real(default) != folder.path and not _is_link(default, sight):
        steps.append(RemoveFolder(default))
    return steps


def logs(config: Config, sight: Sight) -> list[Step]:
    """The log file and the older ones that were rotated away."""
    path = config.server.log_file or DEFAULT_LOG_FILE
    if not path.startswith("/"):
        return []  # syslog
    folder, name = sight.real(_folder(path)), _name(path)
    names = sight.names(folder)
    if not _LOG.fullmatch(name) or ownership.is_system_folder(f"{folder}/ngrokd"):
        stays = Say(f"{path} stays: by its name it may be another program's")
        return [stays] if name in names else []
    pattern = re.compile(_ROTATED.format(re.escape(name)))
    steps: list[Step] = []
    for each in sorted(filter(pattern.fullmatch, names)):
        place = f"{folder}/{each}"
        steps.append(Remove(place) if names[each] else Say(f"{place} stays: {_NO_FILE}"))
    return steps


_NO_FILE = "it is no ordinary file"


class _Folder:
    """A state folder, looked at once."""

    def __init__(self, sight: Sight, path: str, config: Config, config_path: str) -> None:
        self.path = path
        self._sight = sight
        self._names = sight.names(path)
        self._certificate = _name(config.server.client_cert)
        self._key = _name(config.server.client_key)
        self._stem = self._certificate.rpartition(".")[0] or self._certificate
        inside = sight.real(config_path) == f"{path}/{_name(config_path)}"
        self._config_name = _name(config_path) if inside else ""
        self.is_ours = self._is_ours()
        ours = self._by_content() if self.is_ours else set()
        common = self._common() if self.is_ours else set()
        self.left = sorted(set(self._names) - ours - common - {self._config_name})
        self.is_alone = self.is_ours and not self.left
        if self.is_alone:
            ours |= common
        else:
            self.left = sorted(set(self._names) - ours - {self._config_name})
        self.ours = [f"{path}/{name}" for name in sorted(ours)]
        if not self.is_ours:  # of a system's folder, the names that one would look for
            wanted = {*ownership.STATE, *self._pair_names()}
            self.left = [name for name in self.left if name in wanted]

    @property
    def reason(self) -> str:
        if ownership.is_system_folder(self.path):
            return "it is no folder of ngrokd's own"
        if not self.is_ours:
            return "nothing in it proves that ngrokd made it"
        return "that is not ngrokd's, or not as it wrote it"

    def _is_ours(self) -> bool:
        if ownership.is_system_folder(self.path):
            return False
        if ownership.is_named_so(self.path):
            return True
        return ownership.is_proof(self._read("installation_id"))

    def _by_content(self) -> set[str]:
        """What is told by its name and its content alone."""
        pairs = "|".join(map(re.escape, self._pair_names()))
        half = re.compile(_HALF.format(rf"{_WORDS}|{pairs}|config\.yml|{_ANCHOR}"))
        found = {
            name
            for name, regular in self._names.items()
            if regular
            and (half.fullmatch(name) or _ASIDE.fullmatch(name) or _OF_HOSTS.fullmatch(name))
        }
        found |= {name for name in ownership.STATE if self._is_state(name)}
        return found | self._pair()

    def _is_state(self, name: str) -> bool:
        return bool(self._names.get(name)) and ownership.is_state(name, self._read(name))

    def _pair_names(self) -> tuple[str, ...]:
        base = (self._certificate, self._key, f"{self._stem}.csr")
        return (*base, *(f"{name}.next" for name in base))

    def _pair(self) -> set[str]:
        """Keys and certificates of the request that ngrokd made, and that request."""
        request = self._read(f"{self._stem}.csr")
        asked = ownership.public_key(request, of_request=True)
        if asked is None:
            return set()
        keys = (self._key, f"{self._key}.next")
        found = {f"{self._stem}.csr"}
        publics = {asked}
        if ownership.is_key_of(self._read(keys[1]), asked) and self._is_state("registration.json"):
            # Killed while it renewed: the request is of the next pair, the old one is in use.
            publics.add(ownership.public_key(self._read(self._certificate)) or asked)
        for name in (self._certificate, f"{self._certificate}.next"):
            if ownership.public_key(self._read(name)) in publics:
                found.add(name)
        for name in keys if ownership.is_named_so(self.path) else ():
            if any(ownership.is_key_of(self._read(name), public) for public in publics):
                found.add(name)
        return found

    def _common(self) -> set[str]:
        """What may be somebody's who keeps more here: it goes with the folder as a whole."""
        found = {f"{name}.corrupt" for name in (self._certificate, self._key)}
        request = ownership.public_key(self._read(f"{self._stem}.csr"), of_request=True)
        for name in (self._key, f"{self._key}.next"):
            if request and ownership.is_key_of(self._read(name), request):
                found.add(name)
        if ownership.is_named_so(self.path):
            found |= {name for name in self._names if re.fullmatch(_ANCHOR, name)}
        return {name for name in found if self._names.get(name)}

    def _read(self, name: str) -> bytes:
        return self._sight.content(f"{self.path}/{name}") if self._names.get(name) else b""


def _of_other_key(config: Config, sight: Sight) -> list[Step]:
    """A key in a folder of its own may serve others too: nothing could prove that it does not."""
    path = config.server.client_key
    if _folder(path) == str(config.state_folder) or _name(path) not in sight.names(_folder(path)):
        return []
    return [Say(f"{path} stays: a key outside the state folder may be in use by others")]


def _of_configuration(path: str, folder: _Folder, sight: Sight) -> list[Step]:
    if not sight.names(_folder(path)).get(_name(path)):
        return []
    is_default = path == DEFAULT_CONFIG_PATH and not ownership.is_system_folder(
        sight.real(_folder(path))
    )
    in_folder = sight.real(path) == f"{folder.path}/config.yml" and folder.is_alone
    if is_default or in_folder:
        return [Remove(path)]
    if folder.path == sight.real(_folder(path)):
        folder.left.append(_name(path))
    return [Say(f"{path} stays: it is your own")]


def _is_link(path: str, sight: Sight) -> bool:
    """Itself, and not only a folder on the way, as /etc is on macOS."""
    return sight.real(path) != f"{sight.real(_folder(path)).rstrip('/')}/{_name(path)}"


def _listed(names: Iterable[str]) -> str:
    words = list(names)
    more = f" and {len(words) - SHOWN} more" if len(words) > SHOWN else ""
    return ", ".join(words[:SHOWN]) + more


def _folder(path: str) -> str:
    return path.rpartition("/")[0] or "/"


def _name(path: str) -> str:
    return path.rpartition("/")[2]
