"""A Mac that outlives the daemons on it: served by the test, used by their processes."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

from ngrokd.host.command import CommandError
from ngrokd.host.netif import utunsocket
from ngrokd.host.netif.utunsocket import UtunSocket
from tests.macos.controlsocket import ControlSocket, ioctl
from tests.macos.kernel import Refused
from tests.macos.mac import Mac

_REQUEST_BYTES = 1 << 20


class Served:
    """Serves `mac` at a path; `broken` is what a daemon did that this Mac does not know."""

    def __init__(self, mac: Mac, path: Path) -> None:
        self.mac = mac
        self.broken: list[str] = []
        self._lock = threading.Lock()
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._listener.bind(str(path))
        self._listener.listen()
        self._ended = False
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self._ended = True
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def do(self, *argv: str) -> str:
        """A command of somebody on this Mac, or of the test."""
        with self._lock:
            return self.mac(argv)

    def lo0(self) -> list[str]:
        """Its addresses but 127.0.0.1, sorted."""
        with self._lock:
            return sorted(self.mac.lo0())

    def ran(self, word: str) -> list[str]:
        """The commands with that word that ran so far."""
        with self._lock:
            return [line for line in self.mac.ran if word in line]

    def utuns(self) -> set[str]:
        """Those that ngrokd made."""
        with self._lock:
            return set(self.mac.wires)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                assert self._ended
                return
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        """One process at a time asks on each connection; a utun lasts as long as its connection."""
        made = ""
        with client:
            while request := client.recv(_REQUEST_BYTES):
                with self._lock:
                    answer, descriptors, made = self._answer(json.loads(request), made)
                socket.send_fds(client, [json.dumps(answer).encode()], descriptors)
                for each in descriptors:
                    socket.close(each)
        if made:
            with self._lock:
                self.mac.close_utun(made)

    def _answer(self, request: dict[str, Any], made: str) -> tuple[Any, list[int], str]:
        try:
            if "argv" in request:
                return {"out": self.mac(request["argv"], request["text"])}, [], made
            if "ip" in request:
                return {"out": self.mac.kernel.holds(request["ip"])}, [], made
            name, wire = self.mac.connect_utun(request["unit"])
            return {"out": name}, [wire.detach()], name
        except CommandError as exc:
            return {"refused": [str(exc), exc.returncode, exc.stderr]}, [], made
        except Refused as exc:
            return {"errno": str(exc)}, [], made
        except Exception as exc:  # noqa: BLE001 - the test tells it, and the daemon ends by it
            self.broken.append(f"{request}: {exc!r}")
            return {"broken": repr(exc)}, [], made


class RemoteMac:
    """A Runner, and what makes utuns, of the Mac that is served at a path."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._link = self._connected()
        self._utuns: dict[str, socket.socket] = {}

    def __call__(self, argv: Sequence[str], text: str = "") -> str:
        answer = self._ask(self._link, argv=list(argv), text=text)
        if "refused" in answer:
            message, status, stderr = answer["refused"]
            raise CommandError(message, status, stderr)
        return str(answer["out"])

    def holds(self, ip: str) -> bool:
        """Whether a program can bind to it."""
        return bool(self._ask(self._link, ip=ip)["out"])

    def open_utun(self, number: int) -> UtunSocket:
        """As `utunsocket.open_utun` on that Mac."""

        def new_socket(family: int, kind: int, protocol: int) -> socket.socket:
            return cast(socket.socket, ControlSocket(self, family, kind, protocol))

        return utunsocket.open_utun(number, new_socket, ioctl)

    def connect_utun(self, unit: int) -> tuple[str, socket.socket]:
        """On a connection of its own, whose end is that of the utun."""
        link = self._connected()
        link.send(json.dumps({"unit": unit}).encode())
        data, descriptors, _, _ = socket.recv_fds(link, _REQUEST_BYTES, 1)
        answer = json.loads(data)
        if "errno" in answer:
            link.close()
            raise Refused(answer["errno"])
        self._utuns[answer["out"]] = link
        return answer["out"], socket.socket(fileno=descriptors[0])

    def close_utun(self, name: str) -> None:
        """Its connection ends, and with it the utun."""
        self._utuns.pop(name).close()

    def _connected(self) -> socket.socket:
        link = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        link.connect(self._path)
        return link

    def _ask(self, link: socket.socket, **request: object) -> dict[str, Any]:
        link.send(json.dumps(request).encode())
        answer: dict[str, Any] = json.loads(link.recv(_REQUEST_BYTES))
        assert "broken" not in answer, answer
        return answer
