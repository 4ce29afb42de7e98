"""The whole stand-in cloud: starts its parts in order, says where they are, stops them."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path

from ngrokd.sandbox.api import ApiServer
from ngrokd.sandbox.books import Books
from ngrokd.sandbox.ca import Authority
from ngrokd.sandbox.clerk import Clerk
from ngrokd.sandbox.contexts import ServerContexts
from ngrokd.sandbox.control import ControlApi
from ngrokd.sandbox.desk import Desk
from ngrokd.sandbox.endpoints import EndpointSpec
from ngrokd.sandbox.folderlock import locked
from ngrokd.sandbox.listener import Listener
from ngrokd.sandbox.samples import Samples
from ngrokd.sandbox.service import Service
from ngrokd.sandbox.slots import SLOTS, held
from ngrokd.sandbox.store import make_folder
from ngrokd.sandbox.tunnel import Tunnels

__all__ = ["EndpointSpec", "Sandbox"]

API_KEY = "sandbox-key"


class Sandbox:
    """Owner: who starts it; every part runs on threads of its own, which `stop` joins.

    `folder` keeps the certificate authority and the operators: a sandbox started on it again is
    the same cloud. `api_url`, `ingress` and `config()` are true once it is started. `domain` is
    that of the samples; by default the slot's name: sandbox, and sandbox2 for the second to run.
    """

    api_key = API_KEY

    def __init__(
        self,
        folder: Path,
        endpoints: Sequence[EndpointSpec] = (),
        samples: bool = True,
        port: int = 0,
        ingress_port: int = 0,
        domain: str = "",
    ) -> None:
        self.folder = folder.absolute()
        self.api_url = ""
        self.ingress = ""
        self.ca_file = self.folder / "cloud" / "intermediate.crt"
        self.listed: tuple[EndpointSpec, ...] = ()  # at the start; the control API may change it
        self._specs = tuple(endpoints)
        self._samples = samples
        self._port = port
        self._ingress_port = ingress_port
        self._domain = domain
        self._slot = SLOTS[0]
        self._running = contextlib.ExitStack()

    def start(self) -> None:
        """Everything listens when it returns; otherwise nothing is left and an NgrokdError says
        why. Not before a daemon has forked: threads do not survive that."""
        with contextlib.ExitStack() as stack:
            self._start(stack)
            self._running = stack.pop_all()

    def stop(self) -> None:
        """Ends every connection, joins every thread; twice is harmless."""
        self._running.close()

    def _start(self, stack: contextlib.ExitStack) -> None:
        make_folder(self.folder)
        stack.enter_context(locked(self.folder))
        self._slot = stack.enter_context(held())
        authority = Authority(self.ca_file.parent)
        books = Books(self.folder / "operators.json")
        clerk = Clerk()
        stack.callback(clerk.stop)
        self.listed = (*self._start_samples(stack), *self._specs)
        for spec in self.listed:
            books.add_endpoint(spec)
        service = Service(books, authority, API_KEY)
        desk = Desk(clerk, books, service, ControlApi(books, self._overview))
        tunnels = Tunnels(desk, ServerContexts(authority))
        ingress = Listener("sandbox-ingress", self._ingress_port, tunnels.serve, desk.refusing)
        stack.callback(ingress.stop)
        desk.on_change = ingress.look_again
        api = ApiServer(desk.deliver, self._port)
        stack.callback(api.stop)
        self.api_url = service.api_url = f"http://127.0.0.1:{api.port}"
        self.ingress = service.ingress = f"localhost:{ingress.port}"
        ingress.start()
        api.start()

    def _start_samples(self, stack: contextlib.ExitStack) -> tuple[EndpointSpec, ...]:
        if not self._samples:
            return ()
        samples = Samples(self.folder / "files")
        stack.callback(samples.stop)
        samples.start()
        return samples.endpoints(self._domain or self._slot.name)

    def config(self) -> dict[str, dict[str, object]]:
        """What a daemon's configuration has to say to use this cloud, without root."""
        state = self.folder / "daemon"
        return {
            "api": {"url": self.api_url, "key": API_KEY},
            "server": {
                "ca_file": str(self.ca_file),
                "client_cert": str(state / "tls.crt"),
                "client_key": str(state / "tls.key"),
                "socket_path": str(self.folder / "ngrokd.sock"),
                "pid_file": str(self.folder / "ngrokd.pid"),
                "health_port": self._slot.health_port,
            },
            "net": {"interface_name": self._slot.name, "subnet": self._slot.subnet},
        }

    def _overview(self) -> dict[str, object]:
        return {
            "api_url": self.api_url,
            "api_key": API_KEY,
            "ingress": self.ingress,
            "ca_file": str(self.ca_file),
            "folder": str(self.folder),
        }
