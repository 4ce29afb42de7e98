"""ngrokctl: asks the running daemon, prints the answer, and exits with a code for scripts."""

from __future__ import annotations

import argparse
import getpass
import io
import json
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

from ngrokd.config import DEFAULT_SOCKET_PATH
from ngrokd.control import advice, tones, watching
from ngrokd.control.arguments import Arguments
from ngrokd.control.commands import COMMANDS, Call, Outcome
from ngrokd.control.protocol import BAD_ARGUMENTS, BAD_CONFIGURATION, NEEDS_OWNER, TIMEOUT
from ngrokd.control.question import agreed
from ngrokd.control.text import clean, showable
from ngrokd.errors import (
    ControlError,
    DaemonUnreachable,
    FileForbidden,
    NgrokdError,
    NotPermitted,
    TimedOut,
)

DONE = 0
FAILED = 1
USAGE = 2
NO_DAEMON = 3
TIMED_OUT = 4
NOT_PERMITTED = 5
INTERRUPTED = 130  # as a shell reports a program that Ctrl-C ended

MAX_KEY = 4096  # characters

_CODES = {
    TIMEOUT: TIMED_OUT,
    BAD_ARGUMENTS: USAGE,
    BAD_CONFIGURATION: USAGE,
    NEEDS_OWNER: NOT_PERMITTED,
}
_SCHEME = "unix://"  # NGROKD_HOST is often written as a URL; the daemon takes it so too


class UsageError(NgrokdError):
    """The command cannot be run as it was typed. Handler: exit 2."""


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Runs one command; returns the exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    _prepare_streams()
    try:
        return _one_command(words)
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough, as with `| head`. Python's own flush at exit must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return DONE
    except OSError as exc:
        _complain(f"cannot write the answer: {exc.strerror or exc}")
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return FAILED


def _one_command(words: Sequence[str]) -> int:
    arguments = Arguments()
    try:
        options = arguments.parse(words)
    except SystemExit as exc:  # argparse has printed the reason, or what was asked for
        sys.stdout.flush()
        return exc.code if isinstance(exc.code, int) else USAGE
    if options.command is None:
        arguments.parser.print_help(sys.stderr)
        return USAGE
    socket_path = _socket_path(options, os.environ)
    try:
        if options.command == "events":
            watching.watch(socket_path, options.json, _say)
            return DONE
        outcome = _run(arguments, options, socket_path)
    except NgrokdError as exc:
        return _explain(exc, options, words, socket_path)
    _show(outcome, options.json)
    return outcome.exit_code


def _run(arguments: Arguments, options: argparse.Namespace, socket_path: str) -> Outcome:
    if options.command == "help":
        text = arguments.help_for(options.about or "")
        return Outcome({"help": text}, text)
    if options.command == "completion":
        return _completion(options, socket_path)
    if options.command == "config":
        # It works without a daemon, too, and needs to read configurations.
        from ngrokd.verbs.configuring import configure

        return configure(Call(options, socket_path, _width()))
    if options.command == "doctor":
        # It works without a daemon, too, and looks at what only the other rooms know.
        from ngrokd.doctor.command import doctor

        return doctor(Call(options, socket_path, _width(), colour=_colour()))
    if options.command == "trust":
        # It works without a daemon, too, for which it needs more than this room.
        from ngrokd.verbs.trusting import trust

        return trust(Call(options, socket_path, _width()), _agreed)
    key = _read_key(options.key) if options.command == "set-api-key" else ""
    call = Call(options, socket_path, _width(), key, _colour())
    if options.command == "top":
        # No other command needs any of it.
        from ngrokd.control.top.command import top

        return top(call)
    return COMMANDS[options.command](call)


def _completion(options: argparse.Namespace, socket_path: str) -> Outcome:
    """The script or, for the script itself, the names that `wait --for` can be given."""
    # Imported where it is used: no other command needs any of it.
    from ngrokd.control import hostnames
    from ngrokd.control.completion import scripts

    if options.hostnames:
        names = hostnames.known(socket_path)
        return Outcome({"hostnames": names}, "\n".join(names))
    text = scripts.script(options.shell)
    return Outcome({"shell": options.shell, "script": text}, text.rstrip("\n"))


def _explain(
    exc: NgrokdError, options: argparse.Namespace, words: Sequence[str], socket_path: str
) -> int:
    """One reason with its mend on standard error; returns the exit code."""
    if isinstance(exc, (DaemonUnreachable, NotPermitted)):
        # What is not answered may take longer: where it is to be looked for is found out here.
        from ngrokd.verbs.whereabouts import whereabouts

        known = whereabouts()
        if isinstance(exc, DaemonUnreachable):
            _complain(advice.unreachable(str(exc), socket_path, known))
            return NO_DAEMON
        again = advice.again(words, getattr(options, "key", None), socket_path)
        if isinstance(exc, FileForbidden):
            _complain(advice.file_forbidden(str(exc), advice.user(), again))
            return NOT_PERMITTED
        config = known.config if socket_path == known.socket_path else advice.ITS_CONFIGURATION
        _complain(advice.not_permitted(str(exc), advice.caller(socket_path), again, config))
        return NOT_PERMITTED
    _complain(str(exc))
    if isinstance(exc, TimedOut):
        return TIMED_OUT
    if isinstance(exc, UsageError):
        return USAGE
    return _CODES.get(exc.code, FAILED) if isinstance(exc, ControlError) else FAILED


def _socket_path(options: argparse.Namespace, environ: Mapping[str, str]) -> str:
    named = (
        options.socket
        or environ.get("NGROKD_SOCKET")
        or environ.get("NGROKD_HOST")
        or DEFAULT_SOCKET_PATH
    )
    return str(named[len(_SCHEME) :] if named.startswith(_SCHEME) else named)


def _read_key(given: Optional[str]) -> str:
    """The key from the command line, a prompt without echo, or standard input."""
    if given is not None:
        key = given
    elif sys.stdin.isatty():
        try:
            key = getpass.getpass("ngrok API key: ")
        except EOFError:
            key = ""
    else:
        key = sys.stdin.readline(MAX_KEY + 2)
    key = key.strip()
    if not key:
        raise UsageError("no API key given; https://dashboard.ngrok.com/api-keys makes one")
    if len(key) > MAX_KEY or not key.isascii() or not key.isprintable() or " " in key:
        raise UsageError("that is not an API key: one word of plain letters, digits and signs")
    return key


def _agreed(certificate: list[str]) -> bool:
    return agreed("Trust it to sign for ngrok's ingress?", *certificate)


def _width() -> Optional[int]:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _colour() -> bool:
    return sys.stdout.isatty() and tones.wanted(os.environ)


def _show(outcome: Outcome, as_json: bool) -> None:
    if as_json:
        _say(json.dumps(outcome.data, indent=2))
    elif outcome.text:
        _say(outcome.text)


def _say(text: str) -> None:
    print(showable(text, sys.stdout.encoding), flush=True)


def _complain(reason: str) -> None:
    """Reasons can quote names from the network, so each line is made harmless."""
    first, *rest = reason.split("\n")
    print("\n".join([f"ngrokctl: {clean(first)}", *map(clean, rest)]), file=sys.stderr)


def _prepare_streams() -> None:
    """A closed one would be taken by the next socket; who closes it wants the exit code alone.

    A terminal that cannot show a character gets its escape, not a traceback.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - for good
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


if __name__ == "__main__":
    sys.exit(main())
