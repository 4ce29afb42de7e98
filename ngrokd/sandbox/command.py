"""`ngrokd sandbox`: runs only the stand-in cloud and prints how to point a daemon at it."""

from __future__ import annotations

import argparse
import contextlib
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Optional

import yaml

from ngrokd.errors import NgrokdError
from ngrokd.sandbox.cloud import Sandbox
from ngrokd.sandbox.configfile import FIRST_LINE, ConfigFile
from ngrokd.sandbox.endpoints import MAX_PORT, PORT, EndpointSpec, SpecError, parse_argument
from ngrokd.sandbox.stopping import StopSignal

ENDING_SIGNALS = (signal.SIGINT, signal.SIGTERM)
EXIT_DONE, EXIT_FAILED = 0, 1


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What `ngrokd sandbox` accepts. A bad value is named and ends the program with 2."""
    parser.add_argument(
        "--endpoint",
        action="append",
        default=[],
        type=_endpoint,
        metavar="URL=HOST:PORT",
        help="list URL (http, https, tcp or tls) and connect it to HOST:PORT; may be repeated",
    )
    parser.add_argument(
        "--dir",
        type=Path,
        metavar="DIR",
        help="keep the certificates, operators and files here (default: a temporary folder)",
    )
    parser.add_argument(
        "--config-out",
        type=Path,
        metavar="FILE",
        help="write the configuration for a daemon to FILE too, once everything listens",
    )
    parser.add_argument(
        "--port",
        type=_port,
        default=0,
        metavar="N",
        help="the port of the API (default: a free one)",
    )
    parser.add_argument(
        "--ingress-port",
        type=_port,
        default=0,
        metavar="N",
        help="the port of the ingress (default: a free one)",
    )
    parser.add_argument(
        "--no-samples",
        action="store_true",
        help="without hello.sandbox, files.sandbox and echo.sandbox",
    )


def run(args: argparse.Namespace) -> int:
    """Until SIGINT or SIGTERM; the exit code. Main thread only: it takes both signals."""
    stopping = StopSignal()
    # The handlers do nothing: Python calls one only once the main thread is back from its system
    # call, and none comes back for a signal that came just before it, or to another thread. The
    # descriptor is written to at once.
    previous = {number: signal.signal(number, lambda *_: None) for number in ENDING_SIGNALS}
    previous_fd = signal.set_wakeup_fd(stopping.wakeup_fd(), warn_on_full_buffer=False)
    try:
        with _folder(args.dir) as folder:
            _serve(args, folder, stopping)
    except NgrokdError as exc:
        print(f"ngrokd sandbox: {exc}", file=sys.stderr)  # noqa: T201
        return EXIT_FAILED
    finally:
        signal.set_wakeup_fd(previous_fd)
        for number, handler in previous.items():
            signal.signal(number, handler)
        stopping.close()
    return EXIT_DONE


def _serve(args: argparse.Namespace, folder: Path, stopping: StopSignal) -> None:
    sandbox = Sandbox(
        folder, args.endpoint, not args.no_samples, args.port, ingress_port=args.ingress_port
    )
    with contextlib.ExitStack() as stack:
        out = ConfigFile(args.config_out) if args.config_out else None
        if out:
            out.prepare()
        sandbox.start()
        stack.callback(sandbox.stop)
        text = instructions(sandbox)
        if out:
            out.write(text)
            stack.callback(out.withdraw)
        print(text, end="", flush=True)  # noqa: T201
        stopping.wait()


def instructions(sandbox: Sandbox) -> str:
    """A whole configuration file; what else there is to know stands in its comments."""
    listed = (f"#   {spec.url} -> {spec.upstream}" for spec in sandbox.listed)
    lines = (
        FIRST_LINE,
        *listed,
        f"# Control API: curl {sandbox.api_url}/sandbox   (Ctrl-C ends the sandbox)",
        "# This configuration points a daemon at it; no root needed:",
    )
    settings = sandbox.config()
    # Who pastes this, maybe as root, has not asked for names in the machine's own hosts file.
    settings["net"]["hosts_file"] = str(sandbox.folder / "hosts")
    config: str = yaml.safe_dump(settings, sort_keys=False)
    return "\n".join(lines) + "\n" + config


@contextlib.contextmanager
def _folder(wanted: Optional[Path]) -> Iterator[Path]:
    """The folder asked for, which stays, or a temporary one, which goes."""
    if wanted is not None:
        yield wanted
        return
    with tempfile.TemporaryDirectory(prefix="ngrokd-sandbox-") as name:
        yield Path(name)


def _endpoint(text: str) -> EndpointSpec:
    try:
        return parse_argument(text)
    except SpecError as exc:
        raise argparse.ArgumentTypeError(f"{text!r}: {exc}") from exc


def _port(text: str) -> int:
    if not PORT.fullmatch(text) or int(text) > MAX_PORT:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port from 0 to {MAX_PORT}")
    return int(text)
