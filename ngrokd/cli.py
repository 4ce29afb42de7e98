"""The command `ngrokd`: its arguments, and what each of them starts."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Callable, Optional

from ngrokd import __version__, configfile
from ngrokd.config import DEFAULT_CONFIG_PATH
from ngrokd.errors import ConfigError, NgrokdError
from ngrokd.verbs import cleanup, launch, servicecommands
from ngrokd.verbs.saying import flush, give_up, say

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

# What people try first.
OF_NGROKCTL = frozenset({"status", "list", "health", "set-api-key", "wait", "refresh", "log-level"})

_EPILOG = """\
examples:
  ngrokd install; ngrokd start; ngrokctl set-api-key; ngrokctl wait
  ngrokd --foreground --verbose     when something is wrong
  ngrokd --foreground --sandbox     try it: no account, no root

exit status: 0 done, 1 failed, 2 usage or configuration. The manual is ngrokd(8).
"""

if TYPE_CHECKING:
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]


def main(argv: Optional[Sequence[str]] = None, implied: Sequence[str] = ()) -> int:
    """The process's exit status: 0 done, 1 failed, 2 usage or configuration.

    `implied`: options that are as good as given, such as --foreground in a container, which ends
    with its first process.
    """
    _open_standard_streams()
    words = [*implied, *(sys.argv[1:] if argv is None else argv)]
    if words and words[0] in OF_NGROKCTL:
        print(f"ngrokd: a running daemon is asked by `ngrokctl {words[0]}`", file=sys.stderr)
        return USAGE
    parser = make_parser(with_sandbox="sandbox" in words or _asks_for_help(words))
    try:
        args = parser.parse_args(words)
    except SystemExit:  # argparse has printed what was asked for, or what is wrong
        flush()
        raise
    except OSError as exc:  # which the argparse of Python 3.11 and later keeps to itself
        give_up(exc)
        return DONE
    if args.sandbox_dir and not args.sandbox:
        parser.error("--dir goes with --sandbox; `ngrokd sandbox --dir DIR` is the cloud alone")
    if args.rehearse:
        _rehearse(args, parser)
    try:
        if args.config is not None:
            args.config = _absolute(args.config)
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


def _rehearse(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """`ngrokd --dry-run VERB` is `ngrokd VERB --dry-run`: it must not be done by mistake."""
    if hasattr(args, "dry_run"):
        args.dry_run = True
    elif args.run is not _daemon or args.sandbox:
        parser.error("--dry-run goes with no command, or with cleanup, install and uninstall")
    else:
        args.run = _dry_run


def _absolute(path: str) -> str:
    """Known before the daemon leaves the current folder. Raises ConfigError."""
    try:
        return str(Path(path).absolute())
    except FileNotFoundError as exc:
        fault = f"{path}: the current folder is no longer there: name the whole path"
        raise ConfigError([fault]) from exc


def _open_standard_streams() -> None:
    """A closed one would be taken by the next file that is opened, and written to."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for good


def make_parser(with_sandbox: bool = True) -> argparse.ArgumentParser:
    """Every argument. `with_sandbox`: those of the stand-in cloud, whose modules a daemon at work
    should not carry along."""
    parser = argparse.ArgumentParser(
        prog="ngrokd",
        description="Gives ngrok's Kubernetes-bound endpoints local addresses and names.\n"
        "Without a command it runs the daemon, in the background once it is up.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"ngrokd {__version__}",
        help="show the version of ngrokd and end",
    )
    parser.add_argument(
        "--config",
        metavar="PATH",
        help=f"the configuration file; default: {DEFAULT_CONFIG_PATH}",
    )
    parser.add_argument(
        "--foreground",
        action="store_true",
        help="stay in the terminal and log to standard error; implied under a service manager",
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="log at level debug")
    parser.add_argument(
        "--sandbox", action="store_true", help="run against a stand-in cloud, without an account"
    )
    parser.add_argument(
        "--dir", dest="sandbox_dir", metavar="DIR", help="with --sandbox: keep its state in DIR"
    )
    parser.add_argument(
        "--dry-run",
        dest="rehearse",
        action="store_true",
        help="print what a start would do on this machine, and do nothing",
    )
    parser.set_defaults(run=_daemon)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    servicecommands.add_commands(commands)
    cleanup.add_commands(commands)
    _add_check_config(commands)
    _add_sandbox(commands, with_sandbox)
    return parser


def _add_check_config(commands: Commands) -> None:
    parser = commands.add_parser(
        "check-config",
        help="check a configuration file",
        description="Checks a configuration file: every mistake with its line, and what is allowed"
        " there.",
    )
    parser.add_argument(
        "path",
        nargs="?",
        metavar="PATH",
        help=f"the configuration file; default: {DEFAULT_CONFIG_PATH}",
    )
    parser.set_defaults(run=_check_config)


def _add_sandbox(commands: Commands, with_arguments: bool) -> None:
    parser = commands.add_parser(
        "sandbox",
        help="run only the stand-in cloud",
        description="Runs only the stand-in cloud, and prints how to point a daemon at it.",
    )
    if with_arguments:
        from ngrokd.sandbox import command as sandbox

        sandbox.add_arguments(parser)
        parser.set_defaults(run=sandbox.run)


def _asks_for_help(words: Sequence[str]) -> bool:
    return "-h" in words or "--help" in words


def _check_config(args: argparse.Namespace) -> int:
    path = Path(args.path or args.config or DEFAULT_CONFIG_PATH)
    config = configfile.load(path, os.environ)
    for line in configfile.advice(path, config):
        print(f"{path}: consider: {line}", file=sys.stderr)
    say(f"{path}: ok")
    return DONE


def _dry_run(args: argparse.Namespace) -> int:
    from ngrokd.verbs import dryrun

    return dryrun.run(args, say)


def _daemon(args: argparse.Namespace) -> int:
    return launch.run_sandboxed(args) if args.sandbox else launch.run_daemon(args)
