"""`ngrokd start`, `stop`, `restart`, `reload`: by the init system, or directly by the pid file."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from ngrokd import configfile
from ngrokd.config import DEFAULT_CONFIG_PATH, DEFAULT_LOG_FILE, Config
from ngrokd.errors import HostError
from ngrokd.host import command, files
from ngrokd.process import attached, running
from ngrokd.process.ending import wait_for_end
from ngrokd.service import control, looking, program
from ngrokd.service.control import Service
from ngrokd.service.disk import Disk
from ngrokd.service.systems import Facts, Init
from ngrokd.verbs import cleanup
from ngrokd.verbs.launchdjob import LaunchdJob
from ngrokd.verbs.saying import complain, say

DONE, FAILED = 0, 1

STOP_MARGIN_S = 20.0  # for names, interface and threads, after forward.drain_timeout
END_AT_ONCE_S = 10.0  # after the second TERM, and after KILL

# What would make the new daemon stay in the foreground.
_OF_A_MANAGER = frozenset({"NOTIFY_SOCKET", "XPC_SERVICE_NAME", "WATCHDOG_USEC", "WATCHDOG_PID"})


_LAST_WORDS = {
    Init.SYSTEMD: (
        "journalctl",
        "--unit=ngrokd.service",
        "--lines=5",
        "--output=cat",
        "--no-pager",
    ),
    Init.LAUNCHD: ("tail", "-n", "5", DEFAULT_LOG_FILE),  # StandardErrorPath of the plist
}


@dataclass(frozen=True)
class _Case:
    """Whose daemon a verb is for, and what looks after it. `service` None: nothing does."""

    path: Path  # of the configuration
    given: bool  # it was named with --config
    facts: Facts
    service: Optional[Service]
    words: tuple[str, ...]  # more arguments for the daemon


def control_daemon(verb: str, config: Optional[str], words: Sequence[str]) -> int:
    """The exit status. Raises ConfigError, with nothing done, and NgrokdError."""
    case = _case(config, tuple(words))
    if case.service is not None and os.geteuid() != 0:
        raise HostError(f"only root may {verb} the service: sudo ngrokd {verb}")
    if verb == "start":
        return _start(case)
    if verb == "stop":
        return _stop(case)
    return _restart(case) if verb == "restart" else _reload(case)


def absolute(path: str) -> Path:
    """Without `..`: it would mean another file where a folder on the way becomes a link."""
    whole = Path(path).absolute()
    return Path(os.path.realpath(whole.parent), whole.name) if ".." in whole.parts else whole


def which(tool: str) -> Optional[str]:
    """Where `attached` and, in another order, `host/command.py` find it."""
    return shutil.which(tool, path=attached.PATH)


def _case(config: Optional[str], words: tuple[str, ...]) -> _Case:
    disk = Disk(files.write_atomic, files.remove_orphans)
    facts = looking.look(disk, which)
    service = control.installed(facts, disk.found)
    path = absolute(config or (service.config if service else DEFAULT_CONFIG_PATH))
    if service is not None and path != absolute(service.config):
        service = None  # another daemon than the one that is installed
    return _Case(path, config is not None, facts, service, words)


def _start(case: _Case) -> int:
    config = _checked(case)
    pid = running.find(config)
    if pid is not None:
        say(f"ngrokd runs already{_numbered(pid)}")
        return DONE
    return _begin(case, config)


def _begin(case: _Case, config: Config) -> int:
    if case.service is not None:
        return _through(case, config, "start") or _seen_started(config, case.service)
    where = ["--config", str(case.path)] if case.given else []
    environ = {name: value for name, value in os.environ.items() if name not in _OF_A_MANAGER}
    status = attached.spawn([*program.argv(), *where, *case.words], environ)
    return status if status else _seen_started(config, None)


def _seen_started(config: Config, service: Optional[Service]) -> int:
    pid = running.find(config)
    if pid is None:
        known = f"{service.init.value} says that it is started" if service else "it was started"
        complain(f"ngrokd: {known}, but nothing runs: see its log, then `ngrokd restart`")
        return FAILED
    _tell(service, f"ngrokd started{_numbered(pid)}")
    return DONE


def _stop(case: _Case) -> int:
    config, faults = cleanup.settings(case.path, os.environ)
    for fault in faults:  # it must not keep a daemon running
        complain(fault)
    pid = running.find(config)
    if case.service is not None and _through(case, config, "stop") != DONE:
        return FAILED
    if running.find(config) is not None:
        end(config)  # started by hand, beside the service
    elif pid is None:
        if faults:  # it may be where a setting says that could not be read
            complain(f"ngrokd: none was found by what can be read of {case.path}: mend that first")
            return FAILED
        _clean_up_after_a_dead_one(config)
        _tell(case.service, "ngrokd is not running")
        return DONE
    elif case.service is not None and case.service.init is Init.LAUNCHD:
        _clean_up_after_a_dead_one(config)  # launchd kills who takes longer than its ExitTimeOut
    _tell(case.service, f"ngrokd stopped{_numbered(pid or 0)}")
    return DONE


def _clean_up_after_a_dead_one(config: Config) -> None:
    try:
        removed = cleanup.cleanup(config)
    except HostError as exc:  # something is another daemon's by now, which goes on with it
        complain(f"ngrokd: {exc}")
        return
    for line in removed:
        say(f"left by a dead daemon: {line}")


def end(config: Config) -> None:
    """Ends the daemon of this configuration: TERM, after a time again, then KILL.

    Returns once it has ended, or if none runs. Raises HostError if it does not, or may not.
    """
    pid = running.find(config)
    if pid is None:
        return
    if pid == 0:
        raise HostError(f"whoever holds {config.server.pid_file} is not to be seen from here")
    for number, wait_s in (
        (signal.SIGTERM, patience_s(config)),
        (signal.SIGTERM, END_AT_ONCE_S),
        (signal.SIGKILL, END_AT_ONCE_S),
    ):
        if not running.send(pid, number) or wait_for_end(pid, wait_s):
            break
    else:
        raise HostError(f"ngrokd with pid {pid} does not end; see `ps -p {pid}`")
    if number is signal.SIGKILL:
        cleanup.cleanup(config)


def patience_s(config: Config) -> float:
    """How long an orderly end may take."""
    return config.forward.drain_timeout + STOP_MARGIN_S


def _restart(case: _Case) -> int:
    config = _checked(case)  # so that a mistake in it does not take a running daemon down
    return _stop(case) or _begin(case, config)


def _reload(case: _Case) -> int:
    config = _checked(case)
    pid = running.find(config)
    if pid is None:
        raise HostError("ngrokd is not running: `ngrokd start` starts it with what is there now")
    if case.service is not None and case.service.init is not Init.LAUNCHD:
        status = _through(case, config, "reload")
        if status != DONE:
            return status
    elif pid == 0 or not running.send(pid, signal.SIGHUP):
        raise HostError("ngrokd has just ended, or only just starts: try again")
    text = f"ngrokd{_numbered(pid)} reads its configuration again; its log says what changed"
    _tell(case.service, text)
    return DONE


def _tell(service: Optional[Service], text: str) -> None:
    """Unless the init system's own script has said it already."""
    if service is None or service.init in (Init.SYSTEMD, Init.LAUNCHD):
        say(text)


def _through(case: _Case, config: Config, verb: str) -> int:
    assert case.service is not None
    try:
        if case.service.init is Init.LAUNCHD and verb == "start":
            LaunchdJob().start(lambda: running.answering(config) is not None)
        elif case.service.init is Init.LAUNCHD and verb == "stop":
            LaunchdJob().stop(patience_s(config))
        else:
            attached.run(control.argv(case.facts, case.service.init, verb))
    except HostError as exc:
        for line in _last_words(case.service):
            complain(line)
        complain(f"ngrokd: {exc}")
        return FAILED
    return DONE


def _last_words(service: Service) -> list[str]:
    """The log's last lines, which say why it did not start."""
    argv = _LAST_WORDS.get(service.init)
    if argv is None:
        return []
    try:
        return command.run(argv).splitlines()
    except HostError:
        return []  # no journal, no log: the error itself is told all the same


def _checked(case: _Case) -> Config:
    """Raises ConfigError with every fault. The default file may not be there yet."""
    if not case.given and not os.path.lexists(case.path):
        return configfile.parse("", str(case.path), os.environ)
    return configfile.load(case.path, os.environ)


def _numbered(pid: int) -> str:
    return f" (pid {pid})" if pid else ""
