"""`ngrokd install` and `uninstall`: the service's room joined with commands, files and cloud."""

from __future__ import annotations

import enum
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Optional

from ngrokd import configfile
from ngrokd.config import DEFAULT_CONFIG_PATH, DEFAULT_LOG_FILE, Config
from ngrokd.errors import ConfigError, HostError, StateError
from ngrokd.host import command, files
from ngrokd.process import attached, running
from ngrokd.service import (
    control,
    defaults,
    installing,
    looking,
    program,
    purging,
    removing,
    shipping,
    trust,
)
from ngrokd.service.applying import Tools, apply, show
from ngrokd.service.disk import Disk
from ngrokd.service.installing import Machine, Shipped
from ngrokd.service.rendering import Paths
from ngrokd.service.steps import Act, Say, Step
from ngrokd.service.systems import Init, chosen
from ngrokd.verbs import cleanup, deregistration, lifecycle
from ngrokd.verbs.launchdjob import LaunchdJob
from ngrokd.verbs.saying import complain, say

DONE = 0

Action = Callable[[], list[str]]  # lines to tell


class Purge(enum.Enum):
    """How much `ngrokd uninstall` takes away besides the service."""

    NO = "no"  # nothing: configuration, state and logs stay
    YES = "yes"  # everything, once the operator at ngrok is deleted
    FORCED = "forced"  # everything, also if it cannot be


def install(config: Optional[str], init: Optional[str], dry_run: bool) -> int:
    """The exit status. Raises HostError with the mend; run again, it goes on."""
    disk = Disk(files.write_atomic, files.remove_orphans)
    machine = _machine(disk)
    system = chosen(machine.facts, init)
    own = program.path()
    path = str(lifecycle.absolute(config or DEFAULT_CONFIG_PATH))
    program.check(own, command.run)
    _refuse_open(path)
    place = shipping.folder()
    shipped = Shipped(shipping.sources(place), configfile.DEFAULT_TEXT.encode(), str(place))
    paths = Paths(own, path, _folders_written(Path(path)))
    steps = installing.plan(machine, system, shipped, paths)
    warned: list[Step] = [Say(text, warning=True) for text in program.warnings(own)]
    again = _typed("install", config, init)
    _carry_out([*warned, *steps], disk, {}, dry_run, again)
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
    disk = Disk(files.write_atomic, files.remove_orphans)
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
    options = {Purge.NO: [], Purge.YES: ["--purge"], Purge.FORCED: ["--purge", "--force"]}[purge]
    is_default = str(path) == DEFAULT_CONFIG_PATH
    again = _typed("uninstall", None if is_default else str(path), init, options)
    acts: dict[str, Action] = {
        "end": lambda: _end(settings),
        removing.STOP: lambda: _stop_job(settings),
    }
    # What may fail is first, while the service still knows its configuration, and there is a key.
    steps = [*removing.stopping(machine, wish), *_plan_end(settings)]
    purged: list[Step] = []
    if purge is not Purge.NO:
        environ = {**defaults.variables(disk.found), **os.environ}
        found = deregistration.registration(settings, environ, again)
        acts["deregister"] = lambda: _deregister(found, purge)
        if found.may_be_there:
            steps.append(Act("deregister", f"delete {found.named} at {found.url}"))
        purged = [*purging.state(settings, str(path), disk), *purging.logs(settings, disk)]
    clean_up = Act("clean up", "remove what a dead daemon left: names, interface, socket")
    acts[clean_up.name] = lambda: cleanup.cleanup(settings)
    installed = removing.plan(machine, wish)
    changed = removing.plan_changed(machine, wish) if purge is not Purge.NO else []
    _carry_out([*steps, clean_up, *purged, *installed, *changed], disk, acts, dry_run, again)
    if not dry_run:
        say(_result(_is_nothing(installed), settings, purge))
    return DONE


def _refuse_open(path: str) -> None:
    """Raises HostError: somebody else could make root's daemon theirs, or root write elsewhere."""
    for threat in trust.newcomers(path):
        does = "belongs to" if threat.owner else "may be written to by"
        raise HostError(
            f"{threat.place} {does} {threat.who}, who could become root by replacing {path}: keep "
            "the configuration where only root writes, as in /etc/ngrokd"
        )


def _typed(
    verb: str, config: Optional[str], init: Optional[str], options: Sequence[str] = ()
) -> str:
    """The command that does the same again."""
    words = [f"ngrokd {verb}", *options]
    words += ["--config", shlex.quote(config)] if config else []
    return " ".join(words + (["--init", init] if init else []))


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
    path = lifecycle.absolute(given or (service.config if service else DEFAULT_CONFIG_PATH))
    if service is not None and path != lifecycle.absolute(service.config):
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


def _plan_end(config: Config) -> list[Step]:
    """Of a daemon that the init system does not know. Raises HostError, with nothing done."""
    pid = running.find(config)
    return [] if pid is None else [Act("end", f"end the daemon (pid {pid}), should it still run")]


def _end(config: Config) -> list[str]:
    if running.find(config) is None:
        return []
    lifecycle.end(config)
    return ["ended the daemon"]


def _stop_job(config: Config) -> list[str]:
    is_gone = LaunchdJob().stop(lifecycle.patience_s(config))
    return ["stopped by launchctl bootout"] if is_gone else []


def _deregister(found: deregistration.Registration, purge: Purge) -> list[str]:
    try:
        return deregistration.deregister(found)
    except HostError as exc:
        if purge is not Purge.FORCED:
            raise
        return [f"{found.named} stays at ngrok ({exc.__cause__ or exc})"]


def _carry_out(
    steps: list[Step],
    disk: Disk,
    acts: Mapping[str, Action],
    dry_run: bool,
    again: str,
) -> None:
    tools = Tools(disk, command.run, attached.run, acts, say, _warn)
    if dry_run:
        show(steps, tools)
        return
    if os.geteuid() != 0 and not _is_nothing(steps):
        raise HostError(f"only root may do that: sudo {again} (or --dry-run, to see it)")
    try:
        apply(steps, tools)
    except (HostError, StateError) as exc:
        if f"run `{again}" in str(exc):
            raise
        text = f"{exc}; what is done stays done: run `{again}` again to go on from here"
        raise HostError(text) from exc


def _warn(text: str) -> None:
    complain(f"ngrokd: {text}")
