"""The steps of `ngrokd uninstall`, decided from what is there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from ngrokd.service import control, enabling, layout, marks
from ngrokd.service.installing import Machine
from ngrokd.service.layout import SERVICES, Placed, Role
from ngrokd.service.steps import Remove, RemoveFolder, Run, Say, Step
from ngrokd.service.systems import Init


@dataclass(frozen=True)
class Wish:
    """What `ngrokd uninstall` is asked for. `only`: one init system, else whichever has ours."""

    sources: Iterable[str]
    purge: bool = False
    only: tuple[Init, ...] = tuple(Init)


def plan(machine: Machine, wish: Wish) -> list[Step]:
    """Stopping, disabling, removing. What is not there needs no step."""
    steps: list[Step] = []
    folders: list[str] = []
    for init in wish.only:
        if control.is_ours(machine.found, init):
            steps += _take_out(machine, init)
            steps += _remove(machine, SERVICES[init], wish.purge, folders)
            steps += _afterwards(machine, init)
    for place in layout.everything(wish.sources):
        steps += _remove(machine, place, wish.purge, folders)
    # The deepest first.
    ordered = sorted(set(folders), key=lambda folder: (-folder.count("/"), folder))
    return steps + [RemoveFolder(folder) for folder in ordered]


def _take_out(machine: Machine, init: Init) -> list[Step]:
    """Stopped through the init system, so that it does not start it again."""
    runs = machine.facts.systemd_runs if init is Init.SYSTEMD else True
    stop: list[Step] = []
    if runs and control.is_usable(machine.facts, init):
        # Should it not stop, or run beside the service: it is ended directly, later.
        stop = [Run(control.argv(machine.facts, init, "stop"), patient=True, extra=True)]
        if init is Init.LAUNCHD:
            stop = [Run(control.argv(machine.facts, init, "stop"), harmless=True)]
    return stop + enabling.disable(init, machine.facts, machine.matches)


def _afterwards(machine: Machine, init: Init) -> list[Step]:
    if init is not Init.SYSTEMD or not machine.facts.systemd_runs:
        return []
    return [
        Run(("systemctl", "daemon-reload")),
        # A failed service would be listed by `systemctl --failed` until the next boot.
        Run(("systemctl", "reset-failed", "ngrokd.service"), harmless=True),
    ]


def _remove(machine: Machine, place: Placed, purge: bool, folders: list[str]) -> Sequence[Step]:
    """The steps for one file; adds the folders that were made for it."""
    found = machine.found(place.path)
    if found.content is None:
        return []
    known = marks.read(found.content)
    if known is None:
        if place.role is Role.EXTRA:
            return []  # a package's, or `make install`'s
        return [Say(f"{place.path} stays: `ngrokd install` did not write it")]
    if known.changed and not purge:
        return [Say(f"{place.path} stays as you changed it; --purge removes it")]
    folders += known.folders
    target = place.path.rpartition("/")[2]
    links = [link for link in place.links if machine.found(link).other == f"a link to {target}"]
    return [*(Remove(link) for link in links), Remove(place.path)]
