"""The arguments of `ngrokd install`, `uninstall`, `start`, `stop`, `restart` and `reload`.

Cheap to import, because every daemon does: what these commands do is imported when one is given.
"""

from __future__ import annotations

import argparse

from ngrokd.config import DEFAULT_CONFIG_PATH

INIT_SYSTEMS = ("systemd", "openrc", "sysv", "launchd")

_VERBS = {
    "start": "start the daemon, and wait until it is up",
    "stop": "stop the daemon, and wait until it has ended",
    "restart": "check the configuration, stop the daemon, start it",
    "reload": "check the configuration, and let the daemon read it again",
}


def add_commands(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Adds them to `ngrokd`'s own parser; each sets `run`."""
    _add_install(commands)
    _add_uninstall(commands)
    for verb, does in _VERBS.items():
        parser = commands.add_parser(
            verb,
            help=does,
            description=f"{does.capitalize()}: through the init system where `ngrokd install` put "
            "it into one, else directly by the pid file.",
        )
        _add_config(parser)
        parser.set_defaults(run=_control, verb=verb)


def _add_install(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "install",
        help="put the service into this machine's init system",
        description="Puts the service into this machine's init system, and lets it start at boot; "
        "it is not started now. Files that you changed stay as they are.",
    )
    _add_config(parser)
    _add_init(parser)
    _add_dry_run(parser)
    parser.set_defaults(run=_install)


def _add_uninstall(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "uninstall",
        help="stop the service and take it out of the init system",
        description="Stops the service and takes it out of the init system. The configuration and "
        "the state folder stay, unless --purge is given.",
    )
    _add_config(parser)
    _add_init(parser)
    _add_dry_run(parser)
    parser.add_argument(
        "--purge",
        action="store_true",
        help="also delete the operator at ngrok, then state, configuration and logs",
    )
    parser.add_argument(
        "--force",
        action="store_true",
        help="with --purge: even if ngrok cannot be told, and keeps the operator",
    )
    parser.set_defaults(run=_uninstall, fail=parser.error)


def _add_config(parser: argparse.ArgumentParser) -> None:
    # SUPPRESS: `ngrokd --config PATH install` must not be overwritten by this one's default.
    parser.add_argument(
        "--config",
        metavar="PATH",
        default=argparse.SUPPRESS,
        help=f"default: {DEFAULT_CONFIG_PATH}, or what the installed service uses",
    )


def _add_init(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--init",
        choices=INIT_SYSTEMS,
        metavar="NAME",
        help=f"the init system, instead of the one that runs: {', '.join(INIT_SYSTEMS)}",
    )


def _add_dry_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--dry-run", action="store_true", help="print every step, and do nothing"
    )


def _install(args: argparse.Namespace) -> int:
    from ngrokd.verbs import installation

    return installation.install(args.config, args.init, args.dry_run)


def _uninstall(args: argparse.Namespace) -> int:
    from ngrokd.verbs import installation

    if args.force and not args.purge:
        args.fail("--force goes with --purge")
    purge = installation.Purge.NO
    if args.purge:
        purge = installation.Purge.FORCED if args.force else installation.Purge.YES
    return installation.uninstall(args.config, args.init, args.dry_run, purge)


def _control(args: argparse.Namespace) -> int:
    from ngrokd.verbs import lifecycle

    return lifecycle.control_daemon(args.verb, args.config, ["--verbose"] if args.verbose else [])
