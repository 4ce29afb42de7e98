"""Upstreams with one peculiarity each: `peers.py KIND=PORT[-LAST] ...`. Run inside a namespace."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import queue
import socket
import sys
import threading
from collections.abc import Callable

CHUNK = 1 << 16
WEBSOCKET_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
GREETING = b"goodbye\n"

_reports: queue.Queue[dict[str, object]] = queue.Queue()


def echo(client: socket.socket) -> None:
    """Gives back what comes, as it comes."""
    while part := client.recv(CHUNK):
        client.sendall(part)


def after_end(client: socket.socket) -> None:
    """Says nothing until the client has ended; then the digest of what came, then all of it."""
    body = _rest(client)
    client.sendall(hashlib.sha256(body).hexdigest().encode() + b"\n" + body)


def ends_first(client: socket.socket) -> None:
    """Greets, ends, and goes on reading; `report` tells what came."""
    client.sendall(GREETING)
    client.shutdown(socket.SHUT_WR)
    body = _rest(client)
    _reports.put({"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()})


def report(client: socket.socket) -> None:
    """The next finished reading of `ends_first`, as a JSON line."""
    client.sendall(json.dumps(_reports.get(timeout=30)).encode() + b"\n")


def greeter(client: socket.socket) -> None:
    """A server that speaks first."""
    client.sendall(GREETING)
    echo(client)


def websocket(client: socket.socket) -> None:
    """RFC 6455: accepts the upgrade, then gives back the payload of every frame."""
    head = b""
    while b"\r\n\r\n" not in head:
        part = client.recv(CHUNK)
        if not part:
            return
        head += part
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    key = {name.lower(): value for name, value in fields.items()}[b"sec-websocket-key"]
    accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET_GUID).digest())
    client.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
    )
    while start := client.recv(2, socket.MSG_WAITALL):
        length = start[1] & 0x7F  # the test's frames are short and masked
        mask = client.recv(4, socket.MSG_WAITALL)
        masked = client.recv(length, socket.MSG_WAITALL)
        payload = bytes(byte ^ mask[index % 4] for index, byte in enumerate(masked))
        client.sendall(bytes((start[0], length)) + payload)


def _rest(client: socket.socket) -> bytes:
    parts = []
    while part := client.recv(CHUNK):
        parts.append(part)
    return b"".join(parts)


KINDS: dict[str, Callable[[socket.socket], None]] = {
    "echo": echo,
    "after_end": after_end,
    "ends_first": ends_first,
    "report": report,
    "greeter": greeter,
    "websocket": websocket,
}


def _serve_one(kind: Callable[[socket.socket], None], client: socket.socket) -> None:
    with client, contextlib.suppress(ConnectionError, BrokenPipeError):
        kind(client)


def _accept(listening: socket.socket, kind: Callable[[socket.socket], None]) -> None:
    while True:
        client, _ = listening.accept()
        threading.Thread(target=_serve_one, args=(kind, client), daemon=True).start()


def main() -> None:
    """Until it is ended."""
    for argument in sys.argv[1:]:
        name, _, ports = argument.partition("=")
        first, _, last = ports.partition("-")
        for port in range(int(first), int(last or first) + 1):
            listening = socket.create_server(("127.0.0.1", port), backlog=1024)
            arguments = (listening, KINDS[name])
            threading.Thread(target=_accept, args=arguments, daemon=True).start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
