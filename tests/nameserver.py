"""A name server of a test's own, and a stand-in for systemd-resolved: each on a thread."""

from __future__ import annotations

import contextlib
import ipaddress
import json
import socket
import struct
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

REFUSES = "refuses"
IS_SILENT = "is silent"


class NameServer:
    """Answers A and AAAA from `zone`, NXDOMAIN for other names; keeps what it was asked."""

    def __init__(
        self,
        zone: Mapping[str, str],
        ip: str = "127.0.0.1",
        port: int = 0,
        noise: Callable[[bytes], Sequence[bytes]] = lambda question: (),
    ) -> None:
        """`zone`: name: addresses with blanks between, or one of the words above.

        `noise`: what comes before each answer.
        """
        self._zone = zone
        self._noise = noise
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind((ip, port))
        self.asked: list[str] = []
        self.port: int = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self.serve, daemon=True)

    def __enter__(self) -> NameServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as stop:
            stop.sendto(b"", self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def serve(self) -> None:
        """Until an empty datagram comes."""
        while True:
            message, client = self._socket.recvfrom(4096)
            if not message:
                return
            answer = self._answer(message)
            for datagram in self._noise(message):
                self._socket.sendto(datagram, client)
            if answer:
                self._socket.sendto(answer, client)

    def _answer(self, message: bytes) -> bytes:
        name, end = _name(message)
        (kind,) = struct.unpack_from("!H", message, end)
        question = message[12 : end + 4]
        self.asked.append(name)
        found = self._zone.get(name)
        if found == IS_SILENT:
            return b""
        result = {None: 3, REFUSES: 5}.get(found, 0)
        words = [] if found is None or result else found.split()
        raw = [ipaddress.ip_address(word).packed for word in words]
        mine = [each for each in raw if (len(each) == 4) == (kind == 1)]
        records = [struct.pack("!3HIH", 0xC00C, kind, 1, 60, len(ip)) + ip for ip in mine]
        header = message[:2] + struct.pack("!5H", 0x8180 | result, 1, len(records), 0, 0)
        return header + question + b"".join(records)


class Resolved:
    """A Varlink socket that answers as systemd-resolved 252 does."""

    def __init__(self, path: Path, replies: Mapping[str, object]) -> None:
        """`replies`: name: the whole reply, or the bytes of one."""
        self._replies = replies
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.bind(str(path))
        self._socket.listen()
        self.calls: list[dict[str, object]] = []
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        link, _ = self._socket.accept()
        # A client that has had enough of nonsense closes while more is on its way.
        with contextlib.suppress(ConnectionError), link, link.makefile("rwb") as stream:
            received = b""
            while piece := link.recv(4096):
                received += piece
                if not received.endswith(b"\0"):
                    continue
                call = json.loads(received[:-1])
                received = b""
                self.calls.append(call)
                reply = self._replies[call["parameters"]["name"]]
                raw = reply if isinstance(reply, bytes) else json.dumps(reply).encode() + b"\0"
                stream.write(raw)
                stream.flush()

    def close(self) -> None:
        """No more clients."""
        self._socket.close()


def _name(message: bytes) -> tuple[str, int]:
    labels, at = [], 12
    while length := message[at]:
        labels.append(message[at + 1 : at + 1 + length].decode().lower())
        at += 1 + length
    return ".".join(labels), at + 1


if __name__ == "__main__":  # NAME=ADDRESS ..., on port 53 of 127.0.0.1
    server = NameServer(dict(word.split("=") for word in sys.argv[1:]), port=53)
    print("ready", flush=True)
    server.serve()
