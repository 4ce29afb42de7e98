"""The command `ngrokd`: its arguments, and what each of them starts."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Callable, Optional

from ngrokd import __version__, background, configfile, logs, pidfile, signals
from ngrokd.config import DEFAULT_CONFIG_PATH, Config
from ngrokd.errors import ConfigError, NgrokdError, StateError
from ngrokd.hints import try_lines
from ngrokd.model import Status

RESOLVERS_FILE = "/etc/hosts"  # the one that programs look names up in
DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

Overlay = dict[str, dict[str, object]]



def main(argv: Optional[Sequence[str]] = None) -> int:
    """The process's exit status: 0 done, 1 failed, 2 usage or configuration."""
    _open_standard_streams()
    parser = _parser()
    args = parser.parse_args(argv)
    if args.sandbox_dir and not args.sandbox:
        parser.error("--dir goes with --sandbox; `ngrokd sandbox --dir DIR` is the cloud alone")
    try:
        run: Callable[[argparse.Namespace], int] = args.run
        return run(args)
    except ConfigError as exc:
        print(exc, file=sys.stderr)
        return USAGE
    except NgrokdError as exc:
        print(f"ngrokd: {exc}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:  # before the daemon takes signals itself
        return INTERRUPTED


def _open_standard_streams() -> None:
    """A closed one would be taken by the next file that is opened, and written to."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for good


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ngrokd",
        description="Gives ngrok's Kubernetes-bound endpoints local addresses and names.",
    )
    parser.add_argument("--version", action="version", version=f"ngrokd {__version__}")
    parser.add_argument("--config", metavar="PATH", help=f"default: {DEFAULT_CONFIG_PATH}")
    parser.add_argument("--foreground", action="store_true", help="log to standard error, no fork")
    parser.add_argument("-v", "--verbose", action="store_true", help="log at level debug")
    parser.add_argument(
        "--sandbox", action="store_true", help="run against a stand-in cloud, without an account"
    )
    parser.add_argument(
        "--dir", dest="sandbox_dir", metavar="DIR", help="with --sandbox: keep its state in DIR"
    )
    parser.set_defaults(run=_daemon)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    check = commands.add_parser("check-config", help="check a configuration file")
    check.add_argument("path", nargs="?", metavar="PATH", help=f"default: {DEFAULT_CONFIG_PATH}")
    check.set_defaults(run=_check_config)
    # Imported where it is used: the stand-in cloud is no part of a daemon at work.
    from ngrokd.sandbox import command as sandbox

    stand_in = commands.add_parser("sandbox", help="run only the stand-in cloud")
    sandbox.add_arguments(stand_in)
    stand_in.set_defaults(run=sandbox.run)
    return parser


def _check_config(args: argparse.Namespace) -> int:
    path = Path(args.path or args.config or DEFAULT_CONFIG_PATH)
    config = configfile.load(path, os.environ)
    for line in configfile.advice(path, config):
        print(f"{path}: consider: {line}", file=sys.stderr)
    print(f"{path}: ok")
    return DONE


def _daemon(args: argparse.Namespace) -> int:
    if args.sandbox:
        return _sandboxed(args)
    path = Path(args.config or DEFAULT_CONFIG_PATH).absolute()
    if args.config is None and configfile.write_default(path):
        print(f"ngrokd: {path} was written, with the defaults", file=sys.stderr)
    source = configfile.Source(path, os.environ, _overlay(args))
    config = source.load()  # before the fork, so that its faults reach the person who typed

    def serve(up: Callable[[], None]) -> int:
        return _serve(args, config, source, up)

    return _run(args, config.server.pid_file, serve)


def _sandboxed(args: argparse.Namespace) -> int:
    """The real daemon against the embedded stand-in cloud, in a folder that goes with it."""
    from ngrokd.sandbox.cloud import Sandbox

    path = Path(args.config).absolute() if args.config else None
    configfile.Source(path, os.environ).load()  # a faulty file is told before anything is made
    folder = _sandbox_folder(args.sandbox_dir)

    def serve(up: Callable[[], None]) -> int:
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
            source = configfile.Source(path, os.environ, overlay)
            config = source.load()
            return _serve(args, config, source, up, _print_hints(config))

    status = _run(args, str(folder / "ngrokd.pid"), serve)
    if status == DONE and not _in_foreground(args):
        print(f"The sandbox runs in the background, with its state in {folder}:\n")
        print(f"  {_ngrokctl()} --socket {folder}/ngrokd.sock list")
        print(f"  kill $(cat {folder}/ngrokd.pid)")
    return status


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
    with signals.ending_at_once(), pidfile.held(pid_file):
        return serve(lambda: None)


def _serve(
    args: argparse.Namespace,
    config: Config,
    source: configfile.Source,
    up: Callable[[], None],
    on_first_poll: Callable[[Status], None] = lambda status: None,
) -> int:
    # Imported after the fork: the parent that waits for a background start needs none of it.
    from ngrokd.daemon import Daemon

    logs.setup(config.server, _in_foreground(args), os.environ)
    return Daemon(config, source, up, on_first_poll).run()


def _in_foreground(args: argparse.Namespace) -> bool:
    """Asked for, or implied by a service manager, which wants to see its own child."""
    launchd = os.environ.get("XPC_SERVICE_NAME", "0")  # "0" in a terminal of macOS
    return args.foreground or "NOTIFY_SOCKET" in os.environ or launchd != "0"


def _overlay(args: argparse.Namespace, base: Optional[Overlay] = None) -> Overlay:
    """`base`, and what the arguments set over every other source."""
    settings = dict(base or {})
    if args.verbose:
        settings["server"] = {**settings.get("server", {}), "log_level": "debug"}
    return settings


def _print_hints(config: Config) -> Callable[[Status], None]:
    def show(status: Status) -> None:
        resolved = Path(config.net.hosts_file).resolve() == Path(RESOLVERS_FILE).resolve()
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
