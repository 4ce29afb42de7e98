"""What a person can try against the sandbox. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from ngrokd.model import EndpointState, EndpointStatus

HTTP = "http://"


def try_lines(
    endpoints: Iterable[EndpointStatus], ngrokctl: str, socket_path: str, resolved: bool = True
) -> list[str]:
    """Commands that work as they stand for the user who started the daemon.

    `resolved`: published names stand in the file that this machine's programs read.
    """
    lines: list[str] = []
    for endpoint in endpoints:
        if endpoint.state is EndpointState.OPEN:
            lines.append(_reach(endpoint, resolved and endpoint.published))
    control = f"{shlex.quote(ngrokctl)} --socket {shlex.quote(socket_path)}"
    return [*lines, f"{control} status", f"{control} list"]


def _reach(endpoint: EndpointStatus, by_name: bool) -> str:
    assert endpoint.target is not None and endpoint.listener is not None
    name, port = endpoint.target.hostname, endpoint.target.port
    host = name if by_name else endpoint.listener.ip
    if not endpoint.url.startswith(HTTP):
        return f"echo hello | nc -N {host} {endpoint.listener.port}"
    url = shlex.quote(endpoint.url.rstrip("/") + "/")
    if by_name:
        return f"curl {url}"
    # The name is not in the hosts file, or the port is another: curl is told where to connect.
    at = endpoint.listener
    return f"curl --connect-to {name}:{port}:{at.ip}:{at.port} {url}"
