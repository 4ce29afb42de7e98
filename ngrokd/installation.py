"""`ngrokd install` and `uninstall`: the service's room joined with commands, files and cloud."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Optional

from ngrokd import attached, cleanup, configfile, deregistration, lifecycle, pidfile
from ngrokd.config import DEFAULT_CONFIG_PATH, DEFAULT_LOG_FILE, Config
from ngrokd.errors import ConfigError, HostError, StateError
from ngrokd.host import command, files
from ngrokd.lifecycle import complain, say
from ngrokd.service import (
    control,
    defaults,
    installing,
    looking,
    program,
    purging,
    removing,
    shipping,
)
from ngrokd.service.applying import Tools, apply, show
from ngrokd.service.disk import Disk
from ngrokd.service.installing import Machine, Shipped
from ngrokd.service.rendering import Paths
from ngrokd.service.steps import Act, Say, Step
from ngrokd.service.systems import Init, chosen

DONE = 0

Action = Callable[[], list[str]]  # lines to tell


class Purge(enum.Enum):
    """How much `ngrokd uninstall` takes away besides the service."""

    NO = "no"  # nothing: configuration, state and logs stay
    YES = "yes"  # everything, once the operator at ngrok is deleted
    FORCED = "forced"  # everything, also if it cannot be


def install(config: Optional[str], init: Optional[str], dry_run: bool) -> int:
    """The exit status. Raises HostError with the mend; run again, it goes on."""
    disk = Disk(files.write_atomic)
    machine = _machine(disk)
    system = chosen(machine.facts, init)
    own = program.path()
    path = str(Path(config or DEFAULT_CONFIG_PATH).absolute())
    program.check(own, command.run)
    place = shipping.folder()
    shipped = Shipped(shipping.sources(place), configfile.DEFAULT_TEXT.encode(), str(place))
    paths = Paths(own, path, _folders_written(Path(path)))
    steps = installing.plan(machine, system, shipped, paths)
    warned: list[Step] = [Say(text, warning=True) for text in program.warnings(own)]
    _carry_out([*warned, *steps], disk, {}, dry_run, "install")
    if _is_nothing(steps):
        say(f"ngrokd is installed already ({system.value}): nothing to do")
    elif not dry_run:
        say(
            f"ngrokd is installed ({system.value}) and starts at boot. "
            "Now: ngrokd start; ngrokctl set-api-key KEY"
        )
    return DONE


def uninstall(config: Optional[str], init: Optional[str], dry_run: bool, purge: Purge) -> int:
    """The exit status. Raises HostError with the mend; run again, it goes on."""
    disk = Disk(files.write_atomic)
    machine = _machine(disk)
    wish = removing.Wish(
        shipping.sources(shipping.folder()),
        purge is not Purge.NO,
        (Init(init),) if init else tuple(Init),
    )
    path = _config_of(machine, config)
    settings, faults = cleanup.settings(path, os.environ)
    if faults and purge is not Purge.NO:
        where = "--purge takes from it where the state is: mend it, or remove it, and try again"
        raise ConfigError([*faults, f"{path}: {where}"])
    after, acts = _afterwards(settings)
    if purge is not Purge.NO:
        environ = {**defaults.variables(disk.found), **os.environ}
        found = deregistration.registration(settings, environ)
        acts["deregister"] = lambda: _deregister(found, purge)
        after += _plan_purge(found, settings, path, disk)
        after += removing.plan_changed(machine, wish)
    steps = removing.plan(machine, wish)
    _carry_out([*steps, *after], disk, acts, dry_run, "uninstall")
    if not dry_run:
        say(_result(_is_nothing(steps), settings, purge))
    return DONE


def _result(was_nothing: bool, config: Config, purge: Purge) -> str:
    if purge is not Purge.NO:
        return "ngrokd is purged; its programs go as they came: `make uninstall`, pip or a package"
    done = "ngrokd was not installed" if was_nothing else "ngrokd is uninstalled"
    if config.state_folder.is_dir():
        return f"{done}; configuration and state stay in {config.state_folder} (--purge)"
    return done


def _is_nothing(steps: Sequence[Step]) -> bool:
    return all(isinstance(step, Say) for step in steps)


def _machine(disk: Disk) -> Machine:
    facts = looking.look(disk, lifecycle.which)
    return Machine(facts, disk.found, disk.matches, disk.missing_folders)


def _config_of(machine: Machine, given: Optional[str]) -> Path:
    """The configuration of the service, or the one given. Raises HostError: they differ."""
    services = (control.service(machine.found, init) for init in Init)
    service = next(filter(None, services), None)
    path = Path(given or (service.config if service else DEFAULT_CONFIG_PATH)).absolute()
    if service is not None and path != Path(service.config).absolute():
        raise HostError(
            f"the service that is installed is of {service.config}, not of {path}: "
            "say --config with that one, or leave it out"
        )
    return path


def _folders_written(path: Path) -> tuple[str, ...]:
    """By the daemon of this configuration; what a mistake in it hides is told when it starts."""
    config, _ = cleanup.settings(path, os.environ)
    server = config.server
    written = (
        server.client_cert,
        server.client_key,
        server.log_file or DEFAULT_LOG_FILE,
        server.socket_path,
        server.pid_file,
        config.net.hosts_file,
    )
    return tuple(str(Path(each).parent) for each in written if each.startswith("/"))


def _afterwards(config: Config) -> tuple[list[Step], dict[str, Action]]:
    """What follows once the service is out: a daemon without one, and what a dead one left."""
    steps: list[Step] = []
    pid = pidfile.holder(config.server.pid_file)
    if pid is not None:
        steps.append(Act("end", f"end the daemon (pid {pid}), should it still run"))
    steps.append(Act("clean up", "remove what a dead daemon left: names, interface, socket"))
    return steps, {"end": lambda: _end(config), "clean up": lambda: cleanup.cleanup(config)}


def _plan_purge(
    found: deregistration.Registration, config: Config, path: Path, disk: Disk
) -> list[Step]:
    """First what may fail, while there is still a key to try it again with."""
    steps: list[Step] = []
    if found.operator_id:
        steps.append(Act("deregister", f"delete operator {found.operator_id} at {found.url}"))

    def names(folder: str) -> list[str]:
        place = disk.at(folder)
        return [each.name for each in place.iterdir()] if place.is_dir() else []

    return [*steps, *purging.state(config, str(path), names), *purging.logs(config, names)]


def _end(config: Config) -> list[str]:
    if pidfile.holder(config.server.pid_file) is None:
        return []
    lifecycle.end(config)
    return ["ended the daemon"]


def _deregister(found: deregistration.Registration, purge: Purge) -> list[str]:
    try:
        return deregistration.deregister(found)
    except HostError as exc:
        if purge is not Purge.FORCED:
            raise
        return [f"operator {found.operator_id} stays at ngrok ({exc.__cause__ or exc})"]


def _carry_out(
    steps: list[Step],
    disk: Disk,
    acts: Mapping[str, Action],
    dry_run: bool,
    verb: str,
) -> None:
    tools = Tools(disk, command.run, attached.run, acts, say, _warn)
    if dry_run:
        show(steps, tools)
        return
    if os.geteuid() != 0 and not _is_nothing(steps):
        raise HostError(f"only root may do that: sudo ngrokd {verb} (or --dry-run, to see it)")
    try:
        apply(steps, tools)
    except (HostError, StateError) as exc:
        again = f"run `ngrokd {verb}"
        if again in str(exc):
            raise
        text = f"{exc}; what is done stays done: {again}` again to go on from here"
        raise HostError(text) from exc


def _warn(text: str) -> None:
    complain(f"ngrokd: {text}")
