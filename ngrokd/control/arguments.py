"""The command line of ngrokctl."""

from __future__ import annotations

import argparse
import difflib
from collections.abc import Sequence

from ngrokd import __version__
from ngrokd.config import DEFAULT_CONFIG_PATH, DEFAULT_SOCKET_PATH
from ngrokd.control import amounts

WAIT_S = 60.0
INTERVAL_S = 2.0  # between two frames of `top`

CONFIG_VERBS = ("show", "edit", "path")
SHELLS = ("bash", "zsh", "fish")
SORTS = ("name", "connections", "up", "down", "traffic", "errors", "active", "state")
_LEVELS = ("debug", "info", "warning", "error")

_EPILOG = """\
examples:
  ngrokctl set-api-key < key.txt           the key is on no command line
  ngrokctl wait --for db.ns --timeout 30   then db.ns can be connected to
  ngrokctl list --json | jq -r '.endpoints[] | select(.state == "failed").reason'
  ngrokctl help wait                       the options of one command
environment:
  NGROKD_SOCKET, NGROKD_HOST   the daemon's socket, in this order
exit codes:
  0 done   1 failed   2 usage or bad configuration   3 no daemon answers
  4 timed out   5 not permitted
With --json too, errors are text on standard error and standard output is empty.
The manual is ngrokctl(1).
"""


class Arguments:
    """The parsers. Owner: the only thread of ngrokctl."""

    def __init__(self) -> None:
        self.parser = argparse.ArgumentParser(
            prog="ngrokctl",
            description="Asks and steers the ngrokd of this machine.",
            epilog=_EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        self.parser.add_argument(
            "--version",
            action="version",
            version=f"ngrokctl {__version__}",
            help="show the version of ngrokctl and end",
        )
        _common(self.parser, {"json": False, "socket": ""})
        self._commands = self.parser.add_subparsers(
            dest="command", metavar="COMMAND", title="commands"
        )
        self._plain()
        self._with_options()
        self._top()
        self._trust()
        self._doctor()
        self._with_words()

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The options; raises SystemExit(2) after saying on standard error what is wrong."""
        self._refuse_unknown(argv)
        options, left = self.parser.parse_known_args(argv)
        if left:
            chosen = self._commands.choices.get(options.command, self.parser)
            chosen.error(f"unrecognized arguments: {' '.join(left)}")
        return options

    def _refuse_unknown(self, argv: Sequence[str]) -> None:
        """A command that there is not, with the one that was meant; argparse would list all."""
        words = iter(argv)
        for word in words:
            if word == "--socket":
                next(words, None)
            elif not word.startswith("-"):
                break
        else:
            return
        known = list(self._commands.choices)
        if word not in known:
            meant = difflib.get_close_matches(word, known, n=1)
            hint = f"did you mean `ngrokctl {meant[0]}`? " if meant else ""
            self.parser.error(f"there is no command {word!r}: {hint}`ngrokctl help` lists all")

    def help_for(self, command: str) -> str:
        """What `help COMMAND` prints; the overview for ""."""
        chosen = self._commands.choices[command] if command else self.parser
        return str(chosen.format_help()).rstrip()

    def _add(self, name: str, text: str) -> argparse.ArgumentParser:
        parser: argparse.ArgumentParser = self._commands.add_parser(
            name, help=text, description=f"{text[0].upper()}{text[1:]}.", allow_abbrev=False
        )
        _common(parser, {"json": argparse.SUPPRESS, "socket": argparse.SUPPRESS})
        return parser

    def _plain(self) -> None:
        self._add("status", "show what the daemon is doing")
        self._add("health", "tell whether it is healthy and ready; exit code 1 if it is not")
        self._add("events", "print what happens as it happens, until Ctrl-C")
        self._add("refresh", "ask ngrok for the endpoints now, and return once they are applied")
        self._add("reload", "read the configuration again")
        self._add("rotate-cert", "ask ngrok for a new client certificate now")
        self._add("ping", "tell whether a daemon answers")
        self._add("version", "show the versions of ngrokctl and of the daemon")

    def _with_options(self) -> None:
        listing = self._add("list", "show every endpoint, its local address and its state")
        listing.add_argument(
            "what",
            nargs="?",
            choices=["bound-endpoints"],
            metavar="bound-endpoints",
            help="may be said, and changes nothing",
        )
        listing.add_argument(
            "--all", action="store_true", help="every skipped endpoint, not only the first few"
        )
        listing.add_argument(
            "--hosts",
            action="store_true",
            help="the names instead, as they stand in the hosts file or are to be put there",
        )
        opened = self._add("open", "print the address and port that a name is open at, for scripts")
        opened.add_argument(
            "hostname",
            metavar="HOSTNAME",
            help="of an endpoint: all of its ports, one a line, unless HOSTNAME:PORT names one",
        )
        key = self._add("set-api-key", "give the daemon its ngrok API key")
        key.add_argument(
            "key",
            nargs="?",
            metavar="KEY",
            help="the API key; without it: asked for without echo, or read from standard input, "
            "so that no other user sees it in the list of processes",
        )
        wait = self._add("wait", "return when the daemon is ready, or a name or a number is open")
        wait.add_argument(
            "--for",
            dest="hostname",
            metavar="HOSTNAME",
            help="until this name is open on all of its ports",
        )
        wait.add_argument(
            "--endpoints", type=amounts.whole, metavar="N", help="until N endpoints are open"
        )
        wait.add_argument(
            "--timeout",
            type=amounts.seconds,
            default=WAIT_S,
            metavar="S",
            help="for at most S seconds, then exit code 4 (3 if no daemon ever answered); "
            f"default {WAIT_S:g}",
        )

        leaving = self._add(
            "deregister", "take this machine out of ngrok: its operator, certificate and keys"
        )
        leaving.add_argument(
            "--yes",
            action="store_true",
            help="without a question; needed where there is no terminal",
        )

    def _top(self) -> None:
        top = self._add("top", "show the endpoints and what flows through them, as it changes")
        top.add_argument(
            "--once",
            action="store_true",
            help="print one frame after one interval and end; needs no terminal",
        )
        top.add_argument(
            "--interval",
            type=amounts.interval,
            default=INTERVAL_S,
            metavar="S",
            help=f"ask the daemon every S seconds, at least {amounts.LEAST_INTERVAL_S:g}; "
            f"default {INTERVAL_S:g}",
        )
        top.add_argument(
            "--sort",
            choices=SORTS,
            default=SORTS[0],
            metavar="ORDER",
            help=f"begin in this order: {', '.join(SORTS)}",
        )
        top.add_argument(
            "--filter",
            default="",
            metavar="TEXT",
            help="begin with the endpoints that have these words in URL, address, state or reason",
        )

    def _trust(self) -> None:
        trust = self._add("trust", "have the daemon trust the CA that ngrok's ingress is signed by")
        trust.add_argument(
            "source",
            nargs="?",
            metavar="FILE-or-URL",
            help="a PEM file with the CA's certificate, an https:// URL, or - for standard input; "
            "default: the file that ngrok publishes on GitHub",
        )
        trust.add_argument(
            "--fingerprint",
            metavar="SHA256",
            help="the certificate's SHA-256, with colons or without, to trust another CA than "
            "ngrok's, whose fingerprint is known",
        )
        trust.add_argument(
            "--yes", action="store_true", help="do not ask on a terminal before it is installed"
        )
        trust.add_argument(
            "--config",
            metavar="PATH",
            default=DEFAULT_CONFIG_PATH,
            help="where no daemon answers, the configuration that names the state folder; "
            f"default {DEFAULT_CONFIG_PATH}",
        )

    def _doctor(self) -> None:
        doctor = self._add(
            "doctor", "check everything that ngrokd needs, and say what mends it; daemon or not"
        )
        doctor.add_argument(
            "--config",
            metavar="PATH",
            help="the configuration to check, instead of that of the daemon that runs or, where "
            f"none does, of the service that is installed, or {DEFAULT_CONFIG_PATH}",
        )
        doctor.add_argument(
            "--bundle",
            metavar="FILE",
            help="also write FILE, a tar.gz for a bug report, with every secret taken out",
        )

    def _with_words(self) -> None:
        level = self._add("log-level", "change how much the daemon logs")
        level.add_argument(
            "level", choices=_LEVELS, metavar="LEVEL", help=f"one of {', '.join(_LEVELS)}"
        )
        config = self._add("config", "show the configuration or its path, or edit it")
        config.add_argument(
            "what",
            choices=CONFIG_VERBS,
            metavar="WHAT",
            help="show: every setting, and where its value comes from; path: where the file is; "
            "edit: open it in $VISUAL or $EDITOR, check it, put it in place and reload",
        )
        config.add_argument(
            "--config",
            metavar="PATH",
            help="another file than that of the service, or, where none is installed, than "
            f"{DEFAULT_CONFIG_PATH}",
        )
        completion = self._add(
            "completion", "print a script that lets a shell complete ngrokctl and ngrokd"
        )
        completion.add_argument(
            "shell", choices=SHELLS, metavar="SHELL", help=f"one of {', '.join(SHELLS)}"
        )
        completion.add_argument("--hostnames", action="store_true", help=argparse.SUPPRESS)
        about = self._add("help", "show this, or the help of one command")
        about.add_argument(
            "about",
            nargs="?",
            metavar="COMMAND",
            choices=[*self._commands.choices],
            help="the one to explain",
        )


def _common(parser: argparse.ArgumentParser, defaults: dict[str, object]) -> None:
    parser.add_argument(
        "--json", action="store_true", default=defaults["json"], help="print one JSON object"
    )
    parser.add_argument(
        "--socket",
        metavar="PATH",
        default=defaults["socket"],
        help=f"the daemon's control socket; default {DEFAULT_SOCKET_PATH}",
    )
