"""The steps of `ngrokd uninstall`, decided from what is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ngrokd.service import control, enabling, launchd, layout, marks
from ngrokd.service.installing import Machine, orphans
from ngrokd.service.layout import SERVICES, Placed, Role
from ngrokd.service.steps import Act, Remove, RemoveFolder, Run, Say, Step
from ngrokd.service.systems import Init

STOP = "stop"  # the name of the `Act` that waits for launchd


@dataclass(frozen=True)
class Wish:
    """What `ngrokd uninstall` is asked for. `only`: one init system, else whichever has ours."""

    sources: Iterable[str]
    purge: bool = False
    only: tuple[Init, ...] = tuple(Init)


def stopping(machine: Machine, wish: Wish) -> list[Step]:
    """Stopped through the init system, so that it does not start it again."""
    return [step for init in _ours(machine, wish) for step in _stop(machine, init)]


def plan(machine: Machine, wish: Wish) -> list[Step]:
    """Disabling, removing. What is not there needs no step, what was changed stays.

    The service's own file is the last, because it knows the folders that were made and the
    configuration: should this be cut short, it is gone on with.
    """
    steps: list[Step] = []
    services = _ours(machine, wish)
    for init in services:
        steps += enabling.disable(init, machine.facts, machine.matches)
    removal = _Removal(machine, wish.purge)
    for init in services:
        removal.note_folders(SERVICES[init])
    places = layout.everything(wish.sources)
    for place in places:
        steps += removal.of(place)
    steps += removal.of_folders()
    written = (*places, *(SERVICES[init] for init in wish.only))
    steps += orphans(machine, [place.path for place in written])
    for init in services:
        steps += removal.of(SERVICES[init])
        steps += _afterwards(machine, init)
    return steps


def _ours(machine: Machine, wish: Wish) -> list[Init]:
    return [init for init in wish.only if control.is_ours(machine.found, init)]


def plan_changed(machine: Machine, wish: Wish) -> list[Step]:
    """What a purge takes too, once nothing in it is needed any more: it may hold the API key."""
    services = [SERVICES[init] for init in _ours(machine, wish)]
    removal = _Removal(machine, wish.purge, changed=True)
    places = (*services, *layout.everything(wish.sources))
    return [*(step for place in places for step in removal.of(place)), *removal.of_folders()]


def _stop(machine: Machine, init: Init) -> list[Step]:
    runs = machine.facts.systemd_runs if init is Init.SYSTEMD else True
    if not runs or not control.is_usable(machine.facts, init):
        return []
    if init is Init.LAUNCHD:
        return [Act(STOP, f"run {' '.join(launchd.STOP)}")]
    argv = control.argv(machine.facts, init, "stop")
    # Should it not stop, or run beside the service: it is ended directly, later.
    return [Run(argv, patient=True, extra=True)]


def _afterwards(machine: Machine, init: Init) -> list[Step]:
    if init is not Init.SYSTEMD or not machine.facts.systemd_runs:
        return []
    return [
        Run(("systemctl", "daemon-reload")),
        # A failed service would be listed by `systemctl --failed` until the next boot.
        Run(("systemctl", "reset-failed", "ngrokd.service"), harmless=True),
    ]


class _Removal:
    """Of files, one by one, and then of the folders that were made for them."""

    def __init__(self, machine: Machine, purge: bool, changed: bool = False) -> None:
        """`changed`: of those that somebody changed, and no others."""
        self._machine = machine
        self._purge = purge
        self._changed = changed
        self._folders: set[str] = set()

    def of(self, place: Placed) -> Sequence[Step]:
        """The steps for one file."""
        found = self._machine.found(place.path)
        if found.content is None:
            return self._of_another_kind(place, found.other)
        known = marks.read(found.content)
        if known is None:
            quiet = place.role is Role.EXTRA or self._changed  # a package's, or `make install`'s
            return [] if quiet else [Say(f"{place.path} stays: `ngrokd install` did not write it")]
        if known.changed is not self._changed:
            quiet = self._changed or self._purge
            return [] if quiet else [Say(f"{place.path} stays as you changed it (--purge)")]
        self._folders.update(known.folders)
        return [*self._links(place), Remove(place.path)]

    def _of_another_kind(self, place: Placed, what: str) -> Sequence[Step]:
        """What launchd, for one, takes for the service as well."""
        if place.role is not Role.SERVICE or not what or self._changed:
            return []
        text = f"{place.path} stays, and starts it at the next boot: it is {what}. Remove it"
        return [Say(text, warning=True)]

    def note_folders(self, place: Placed) -> None:
        """The service's own file, changed or not, knows those made for any file of ours."""
        known = marks.read(self._machine.found(place.path).content or b"")
        self._folders.update(known.folders if known else ())

    def of_folders(self) -> list[Step]:
        """The deepest first."""
        ordered = sorted(self._folders, key=lambda folder: (-folder.count("/"), folder))
        return [RemoveFolder(folder) for folder in ordered]

    def _links(self, place: Placed) -> list[Step]:
        target = f"a link to {place.path.rpartition('/')[2]}"
        found = self._machine.found
        return [Remove(link) for link in place.links if found(link).other == target]
