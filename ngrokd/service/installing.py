"""The steps of `ngrokd install`, decided from what is there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from ngrokd.errors import HostError
from ngrokd.service import enabling, layout, marks, rendering
from ngrokd.service.disk import Found
from ngrokd.service.layout import Placed, Role
from ngrokd.service.steps import Link, MakeFolder, Run, Say, Step, Sweep, Write
from ngrokd.service.systems import Facts, Init

_ORPHAN = re.compile(r"ngrokd-[0-9]+-[0-9a-f]{16}")

CONFIG_MODE, STATE_FOLDER_MODE, FOLDER_MODE = 0o600, 0o700, 0o755


@dataclass(frozen=True)
class Machine:
    """What the decisions look at."""

    facts: Facts
    found: Callable[[str], Found]
    matches: Callable[[str], tuple[str, ...]]
    missing_folders: Callable[[str], tuple[str, ...]]


@dataclass(frozen=True)
class Shipped:
    """What is installed: the files of init/ by name, and the default configuration."""

    sources: Mapping[str, bytes]
    config: bytes
    folder: str  # where `sources` are, for who wants to compare


def plan(machine: Machine, init: Init, shipped: Shipped, paths: rendering.Paths) -> list[Step]:
    """What is left to do, and a `Say` for what stays as it is. Raises HostError: it cannot be."""
    rendering.check(paths)
    places = layout.placed(init, machine.facts, shipped.sources)
    written = [*(place.path for place in places), paths.config]
    steps = orphans(machine, written) + _plan_config(machine, shipped, paths.config)
    wrote_service = False
    for place in places:
        if place.source not in shipped.sources:
            raise HostError(
                f"{shipped.folder}/{place.source} is not there: install ngrokd again as a whole"
            )
        body = rendering.rendered(place.source, shipped.sources[place.source], paths)
        made = _all_missing(machine, places) if place.role is Role.SERVICE else ()
        planned = _Placing(machine, shipped, paths.config, place, body, made).plan()
        steps += (step for step in planned if step not in steps)  # two files, one new folder
        wrote_service |= place.role is Role.SERVICE and any(
            isinstance(step, Write) for step in planned
        )
    if init is Init.SYSTEMD and wrote_service and machine.facts.systemd_runs:
        steps.append(Run(("systemctl", "daemon-reload")))
    if init is Init.LAUNCHD:
        return steps + (enabling.enable(init, machine.facts) if wrote_service else [])
    if not enabling.enabled(init, machine.matches):
        steps += enabling.enable(init, machine.facts)
    return steps


def orphans(machine: Machine, paths: Iterable[str]) -> list[Step]:
    """What a run that was killed left: logrotate, for one, reads every file of its folder."""
    found: list[Step] = []
    for whole in paths:
        folder, _, name = whole.rpartition("/")
        start = f"{folder}/.{name}."
        beside = (path[len(start) :] for path in machine.matches(f"{start}ngrokd-*"))
        if Sweep(whole) not in found and any(map(_ORPHAN.fullmatch, beside)):
            found.append(Sweep(whole))
    return found


def _all_missing(machine: Machine, places: Iterable[Placed]) -> tuple[str, ...]:
    """Folders that are going to be made: noted in the service's file before the first one is."""
    free = (place for place in places if machine.found(place.path).is_nothing)
    return tuple(folder for place in free for folder in machine.missing_folders(place.path))


def _plan_config(machine: Machine, shipped: Shipped, path: str) -> list[Step]:
    """Any configuration that is there stays, whatever is in it."""
    if not machine.found(path).is_nothing:
        return []
    missing = machine.missing_folders(path)
    folders: list[Step] = [MakeFolder(folder, FOLDER_MODE) for folder in missing[:-1]]
    folders += [MakeFolder(folder, STATE_FOLDER_MODE) for folder in missing[-1:]]
    return [*folders, Write(path, shipped.config, CONFIG_MODE)]


@dataclass(frozen=True)
class _Placing:
    """One file of ours, and what stands in its place."""

    machine: Machine
    shipped: Shipped
    config: str
    place: Placed
    body: bytes
    made: tuple[str, ...] = ()  # folders that are made for other files of ours

    def plan(self) -> list[Step]:
        package = self._package()
        if package:
            return [Say(f"{package} is there already, and is used")] if self._is_service() else []
        found = self.machine.found(self.place.path)
        if found.is_nothing:
            return [*self._make_folders(), self._write(self._missing()), *self._links()]
        if found.content is None:
            return self._in_the_way(found.other)
        known = marks.read(found.content)
        if known is None:
            same = found.content in (self.body, self.shipped.sources[self.place.source])
            return [] if same else self._in_the_way("a file that `ngrokd install` did not write")
        if known.changed:
            return self._keep(known)
        folders = _once(known.folders, self.made)
        wanted = marks.stamped(self.body, self.place.path, self.config, folders)
        if found.content == wanted:
            return self._links()
        return [self._write(folders), *self._links()]

    def _is_service(self) -> bool:
        return self.place.role is Role.SERVICE

    def _package(self) -> str:
        """The path of a package's own file, unless ours is there, which comes first."""
        if not self.machine.found(self.place.path).is_nothing:
            return ""
        found = (path for path in self.place.elsewhere if not self.machine.found(path).is_nothing)
        return next(found, "")

    def _missing(self) -> tuple[str, ...]:
        return _once(self.machine.missing_folders(self.place.path), self.made)

    def _make_folders(self) -> list[Step]:
        extra = self.place.role is Role.EXTRA
        missing = self.machine.missing_folders(self.place.path)
        return [MakeFolder(folder, FOLDER_MODE, extra) for folder in missing]

    def _write(self, folders: tuple[str, ...]) -> Step:
        content = marks.stamped(self.body, self.place.path, self.config, folders)
        extra = self.place.role is Role.EXTRA
        return Write(self.place.path, content, self.place.mode, extra)

    def _links(self) -> list[Step]:
        target = self.place.path.rpartition("/")[2]
        free = [link for link in self.place.links if self.machine.found(link).is_nothing]
        return [Link(link, target, extra=True) for link in free]

    def _in_the_way(self, what: str) -> list[Step]:
        path = self.place.path
        if not self._is_service():
            return [Say(f"{path} stays: it is {what}", warning=True)]
        if what == "a link to /dev/null":
            raise HostError(f"{path} is masked: systemctl unmask ngrokd.service")
        raise HostError(
            f"{path} is {what}: nothing was changed. Move it away, then run this again"
        )

    def _keep(self, known: marks.Marked) -> list[Step]:
        text = f"{self.place.path} stays as you changed it"
        if known.digest == marks.digest_of(self.body):
            return [Say(text)]
        news = f"{self.shipped.folder}/{self.place.source}"
        return [Say(f"{text}; what is new: diff {self.place.path} {news}", warning=True)]


def _once(*many: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(folder for folders in many for folder in folders))
