"""The command `ngrokd cleanup`: removes what a dead daemon left, and makes nothing new."""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from ngrokd.config import DEFAULT_CONFIG_PATH, Config
from ngrokd.errors import ConfigError, HostError, StateError
from ngrokd.host import command, platforms
from ngrokd.host.command import Runner
from ngrokd.verbs.saying import complain, say

if TYPE_CHECKING:  # every command of `ngrokd` loads this module
    from ngrokd.host.netif.system import System

DONE, FAILED, USAGE = 0, 1, 2

# Cleaning up needs no key: one that is wrong, or whose file is gone, is no fault here.
_OF_NO_USE = frozenset(("NGROK_API_KEY", "NGROK_API_KEY_FILE"))


@dataclass(frozen=True)
class Means:
    """What it is done with. `system`: None: this machine's. `flush`: as `Machine` has it."""

    run: Runner = command.run
    system: Optional[System] = None
    flush: Sequence[platforms.Argv] = platforms.resolver_flush()


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """For the parser of `ngrokd`."""
    parser = commands.add_parser(
        "cleanup", help="remove what a dead daemon left: names, addresses, socket, pid file"
    )
    # Not to be set where it is not given: `ngrokd --config X cleanup` says it, too.
    parser.add_argument(
        "--config",
        metavar="PATH",
        default=argparse.SUPPRESS,
        help=f"default: {DEFAULT_CONFIG_PATH}",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print what would be removed, and do nothing"
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """The exit status: 0 cleaned, 1 something stays, 2 cleaned after a faulty configuration."""
    path = Path(args.config or DEFAULT_CONFIG_PATH)
    config, faults = settings(path, os.environ)
    if faults:
        complain("\n".join(faults))
        complain("ngrokd: cleaning up by what could be read, and the defaults")
    refuse_running(config)
    look_or_remove = _look if args.dry_run else _remove
    removed, left = look_or_remove(config, Means())
    for line in (*removed, *_of_others(config)):
        say(line)
    for line in left:
        complain(f"ngrokd: {line}")
    if left:
        return FAILED
    return USAGE if faults else DONE


def _of_others(config: Config) -> list[str]:
    from ngrokd.host import leftovers

    return leftovers.of_others(config.net)


def cleanup(config: Config, means: Optional[Means] = None) -> list[str]:
    """Removes what a dead daemon of this configuration left: a line for each thing removed.

    Every step runs; then raises HostError with what stays, if anything. Raises HostError at once,
    with nothing touched, if a daemon of this configuration runs.
    """
    refuse_running(config)
    removed, left = _remove(config, means or Means())
    if left:
        raise HostError("\n".join(left))
    return removed


def _remove(config: Config, means: Means) -> tuple[list[str], list[str]]:
    """What is removed, and what stays with the reason; one line each."""
    from ngrokd.control import socketfile
    from ngrokd.memory import Memory
    from ngrokd.process import pidfile

    memory = Memory(config.state_folder)
    removed, left = _remove_from_machine(config, memory.known_addresses(), means)
    steps: tuple[tuple[str, Callable[[str], bool], str], ...] = (
        ("socket", socketfile.remove_stale, config.server.socket_path),
        ("pid file", pidfile.remove_stale, config.server.pid_file),
    )
    for what, remove, path in steps:
        try:
            if remove(path):
                removed.append(f"{what} {path} is removed")
        except HostError as exc:
            left.append(str(exc))
    removed += [f"{path} is removed: it was written half" for path in memory.remove_orphans()]
    return removed, left


def _remove_from_machine(
    config: Config, known: frozenset[str], means: Means
) -> tuple[list[str], list[str]]:
    """Also what was made with other settings of `net`, changed since a crash."""
    from ngrokd.host import lastrun, leftovers

    folder, run, system = config.state_folder, means.run, means.system
    removed, left = leftovers.remove(config.net, known, run, folder, means.flush, system)
    if not left:
        try:
            lastrun.end(folder, config.net)
        except StateError as exc:
            left.append(str(exc))
    gone, stays = lastrun.remove_earlier(folder, config.net, known, run, system)
    orphans = [f"{path} is removed: it was written half" for path in lastrun.remove_orphans(folder)]
    return [*gone, *removed, *orphans], [*stays, *left]


def _look(config: Config, means: Means) -> tuple[list[str], list[str]]:
    """What `_remove` would do, and what would stay."""
    from ngrokd.host import lastrun, leftovers
    from ngrokd.memory import Memory
    from ngrokd.process import pidfile

    would: list[str] = []
    stays: list[str] = []
    memory = Memory(config.state_folder)
    known = memory.known_addresses()
    for net in (*lastrun.earlier(config.state_folder, config.net), config.net):
        commands, left = leftovers.look(
            net, known, means.run, config.state_folder, means.flush, means.system
        )
        would += commands
        stays += left
    server = config.server
    ours = (
        (server.socket_path, Path(server.socket_path).is_socket()),
        (server.pid_file, pidfile.is_one(server.pid_file)),
    )
    would += [f"rm {shlex.quote(path)}" for path, is_ours in ours if is_ours]
    would += [f"rm {shlex.quote(str(path))}" for path in memory.orphans()]
    return would, stays


def settings(path: Path, environ: Mapping[str, str]) -> tuple[Config, tuple[str, ...]]:
    """The configuration as far as it can be read, and its faults; no file: the defaults.

    A dead daemon was started with a good one. What a person broke in it since must not keep its
    names in the hosts file: every value that is right still says where to clean.
    """
    from ngrokd import configfile

    variables = {name: text for name, text in environ.items() if name not in _OF_NO_USE}
    try:
        if os.path.lexists(path):
            return configfile.load(path, variables), ()
        missing = () if str(path) == DEFAULT_CONFIG_PATH else (f"{path}: there is no such file",)
        return configfile.parse("", str(path), variables), missing
    except ConfigError as exc:
        return _as_far_as_possible(path, variables), exc.faults


def _as_far_as_possible(path: Path, environ: Mapping[str, str]) -> Config:
    from ngrokd.configtext import yamltext
    from ngrokd.configtext.settings import Settings
    from ngrokd.host import files

    found = Settings()
    # What cannot be read at all leaves the defaults; the fault is told already.
    with contextlib.suppress(OSError, ValueError, ConfigError):
        text = files.read_regular(path).decode("utf-8-sig")
        found.take_file(yamltext.read(text, str(path)), str(path))
    found.take_environment(environ)
    found.faults.clear()
    try:
        return found.config()
    except ConfigError:  # one file in two places: which of the two was meant, nobody knows
        return Config()


def refuse_running(config: Config) -> None:
    """Raises HostError naming the pid."""
    from ngrokd.control import socketfile
    from ngrokd.process import pidfile

    server = config.server
    stop_it = "stop it first, it cleans up itself"
    pid = pidfile.holder(server.pid_file)
    if pid is not None:
        who = f"ngrokd runs with pid {pid}" if pid else "an ngrokd runs"
        raise HostError(f"{who} ({server.pid_file}): {stop_it}")
    living = socketfile.who_listens(server.socket_path)
    if living:
        raise HostError(f"control socket {server.socket_path}: {living}: {stop_it}")
