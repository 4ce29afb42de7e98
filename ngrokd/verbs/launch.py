"""How a daemon is started: in the foreground or behind it, with the real cloud or the stand-in."""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, Optional

from ngrokd import configfile, logs
from ngrokd.config import DEFAULT_CONFIG_PATH, Config
from ngrokd.configtext import written
from ngrokd.errors import StateError
from ngrokd.host import files, leftovers, privileges
from ngrokd.model import Status
from ngrokd.process import background, pidfile, signals
from ngrokd.verbs import places
from ngrokd.verbs.hints import try_lines

logger = logging.getLogger(__name__)

RESOLVERS_FILE = "/etc/hosts"  # the one that programs look names up in

_RECORD_COMMENTS = (
    "What the daemon of this sandbox began with, for `ngrokctl doctor` and `config show`.",
    "It does not read this file: --config and the environment tell it what to do.",
)

Overlay = dict[str, dict[str, object]]


def run_daemon(args: argparse.Namespace) -> int:
    """`ngrokd`: the exit status. Raises NgrokdError if it does not come up."""
    path = Path(args.config or DEFAULT_CONFIG_PATH)
    # Named or not: a service that names it is to start the first time, too.
    if path == Path(DEFAULT_CONFIG_PATH) and configfile.write_default(path):
        print(f"ngrokd: {path} was written, with the defaults", file=sys.stderr)
    source = configfile.Source(path, os.environ, _overlay(args))
    config = source.load()  # before the fork, so that its faults reach the person who typed
    places.check(config, not _in_foreground(args))
    notes = privileges.keep_only_needed()

    def serve(up: Callable[[], None]) -> int:
        return _serve(args, config, source, up, notes)

    return _run(args, config.server.pid_file, serve)


def run_sandboxed(args: argparse.Namespace) -> int:
    """`ngrokd --sandbox`: the same against the embedded stand-in cloud, in a folder of its own."""
    path = Path(args.config) if args.config else None
    configfile.Source(path, os.environ).load()  # a faulty file is told before anything is made
    folder = _sandbox_folder(args.sandbox_dir)
    status = _run(
        args, str(folder / "ngrokd.pid"), lambda up: _serve_sandboxed(args, path, folder, up)
    )
    if status == 0 and not _in_foreground(args):
        print(f"The sandbox runs in the background, with its state in {folder}:\n")
        print(f"  {_ngrokctl()} --socket {folder}/ngrokd.sock list")
        print(f"  kill $(cat {folder}/ngrokd.pid)")
    return status


def _serve_sandboxed(
    args: argparse.Namespace, path: Optional[Path], folder: Path, up: Callable[[], None]
) -> int:
    # The stand-in cloud is no part of a daemon at work.
    from ngrokd.sandbox.cloud import Sandbox

    notes = privileges.keep_only_needed()
    with contextlib.ExitStack() as stack:
        if args.sandbox_dir is None:
            stack.callback(shutil.rmtree, folder, ignore_errors=True)
        cloud = Sandbox(folder)
        cloud.start()
        stack.callback(cloud.stop)
        settings = cloud.config()
        if not _in_foreground(args):
            settings["server"]["log_file"] = str(folder / "ngrokd.log")
        # The user's own ingress would refuse a certificate of the sandbox.
        overlay = {**_overlay(args, settings), "ingressEndpoint": ""}
        source = configfile.Source(path, os.environ, overlay, _record_in(folder))
        config = source.load()
        _write_record(_record_in(folder), config)
        return _serve(args, config, source, up, notes, _print_hints(config))


def _record_in(folder: Path) -> Path:
    return folder / leftovers.SANDBOX_RECORD


def _write_record(path: Path, config: Config) -> None:
    """For `ngrokctl doctor`, which looks at what a configuration names. Raises StateError."""
    content = written.text_of(config, *_RECORD_COMMENTS)
    files.write_atomic(path, content.encode(), 0o600)


def _sandbox_folder(chosen: Optional[str]) -> Path:
    if chosen is None:
        return Path(tempfile.mkdtemp(prefix="ngrokd-sandbox-"))
    try:
        Path(chosen).mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as exc:
        raise StateError(f"--dir {chosen} cannot be made: {exc.strerror}") from exc
    return Path(chosen).absolute()


def _run(args: argparse.Namespace, pid_file: str, serve: background.Serve) -> int:
    if not _in_foreground(args):
        return background.run_in_background(pid_file, serve)

    signals.ignore_at_the_end()
    with signals.ending_at_once(), pidfile.held(pid_file):
        return serve(lambda: None)


def _serve(
    args: argparse.Namespace,
    config: Config,
    source: configfile.Source,
    up: Callable[[], None],
    notes: Sequence[str],
    on_first_poll: Callable[[Status], None] = lambda status: None,
) -> int:
    """In the process that stays."""
    logs.setup(config.server, _in_foreground(args), os.environ)
    if _in_foreground(args):
        faulthandler.enable()  # a watchdog's SIGABRT leaves in the log where each thread stood
    # Imported after the fork: the parent that waits for a background start needs none of it.
    from ngrokd.daemon import Daemon, Occasions

    return Daemon(config, source, Occasions(up, on_first_poll), notes).run()


def _in_foreground(args: argparse.Namespace) -> bool:
    """Asked for, or implied by a service manager, which wants to see its own child."""
    job = os.environ.get("XPC_SERVICE_NAME", "0")  # launchd's; "0" in a terminal
    by_launchd = job != "0" and not job.startswith("application.")  # of an app with a terminal
    return bool(args.foreground or "NOTIFY_SOCKET" in os.environ or by_launchd)


def _overlay(args: argparse.Namespace, base: Optional[Overlay] = None) -> Overlay:
    """`base`, and what the arguments set over every other source."""
    settings = dict(base or {})
    if args.verbose:
        settings["server"] = {**settings.get("server", {}), "log_level": "debug"}
    return settings


def _print_hints(config: Config) -> Callable[[Status], None]:
    def show(status: Status) -> None:
        resolved = os.path.realpath(config.net.hosts_file) == os.path.realpath(RESOLVERS_FILE)
        lines = try_lines(status.endpoints, _ngrokctl(), config.server.socket_path, resolved)
        with contextlib.suppress(OSError):  # who reads standard output may have gone
            print("\nTry, in another terminal:\n")
            print(*(f"  {line}" for line in lines), sep="\n")
            print("\nEnd with Ctrl-C.", flush=True)

    return show


def _ngrokctl() -> str:
    """The one beside us, as a person can type it."""
    beside = Path(sys.argv[0]).absolute().parent / "ngrokctl"
    return str(beside) if beside.exists() else "ngrokctl"
