"""One ingress connection from accept to close: faults, handshake, request, upstream, relay."""

from __future__ import annotations

import logging
import select
import socket
import ssl
import time
from dataclasses import dataclass, field
from typing import Optional

from ngrokd.errors import NgrokdError, ProtocolError
from ngrokd.forward import wire
from ngrokd.forward.wire import ConnResponse
from ngrokd.model import Target
from ngrokd.sandbox.ca import HONEST
from ngrokd.sandbox.channel import TlsChannel
from ngrokd.sandbox.contexts import ServerContexts
from ngrokd.sandbox.desk import Desk
from ngrokd.sandbox.dial import dial
from ngrokd.sandbox.endpoints import Upstream
from ngrokd.sandbox.faults import IngressFault
from ngrokd.sandbox.link import Link, LinkEnded, wait_for
from ngrokd.sandbox.relay import Relay, linger, reset_on_close
from ngrokd.sandbox.stopping import StopSignal

logger = logging.getLogger(__name__)

DIAL_TIMEOUT_S = 10
HANG_READ_BYTES = 64 << 10
FIRST_PAYLOAD_TIMEOUT_S = 10.0  # how long early data waits for the upstream to speak first
FIRST_PAYLOAD_BYTES = 8 << 10  # with the response it must fit one TLS record of 16 KiB
NO_SUCH_ENDPOINT = "ERR_NGROK_706"
UPSTREAM_UNREACHABLE = "ERR_NGROK_8012"


class Refused(NgrokdError):
    """The client may not come in, or no further. `response` None: it is cut off without a word."""

    def __init__(self, reason: str, response: Optional[ConnResponse] = None) -> None:
        super().__init__(reason)
        self.response = response


@dataclass
class Story:
    """What the log of connections will say. Owner: the connection's thread."""

    operator_id: str = ""
    host: str = ""
    port: int = 0
    endpoint_id: str = ""
    tls_version: str = ""
    resumed: bool = False
    fault: str = ""
    result: str = ""
    bytes_up: int = 0
    bytes_down: int = 0
    began: float = field(default_factory=time.monotonic)

    def to_json(self) -> dict[str, object]:
        """For the control API."""
        shown = {name: value for name, value in vars(self).items() if name != "began"}
        return {**shown, "seconds": round(time.monotonic() - self.began, 3)}


class Tunnels:
    """Serves ingress connections, each on its own thread; holds nothing that changes."""

    def __init__(self, desk: Desk, contexts: ServerContexts) -> None:
        self._desk = desk
        self._contexts = contexts

    def serve(self, client: socket.socket, stopping: StopSignal) -> None:
        """To the end of the connection; the caller closes it."""
        _Tunnel(self._desk, self._contexts, client, stopping).run()


class _Tunnel:
    """One connection. Owner: its thread."""

    def __init__(
        self, desk: Desk, contexts: ServerContexts, client: socket.socket, stopping: StopSignal
    ) -> None:
        self._desk, self._contexts = desk, contexts
        self._client, self._stopping = client, stopping
        self._early = b""
        self._number = 0  # in the log of connections; 0: not yet
        self.story = Story()

    def run(self) -> None:
        """Every end but a bug leaves its reason in the story."""
        try:
            self._run()
        except Refused as exc:
            self._end(str(exc), told=exc.response is not None)
        except (LinkEnded, ProtocolError) as exc:
            self._end(str(exc), told=False)
        except ssl.SSLError as exc:
            self._end(f"TLS: {exc.reason or exc}", told=True)
        except OSError as exc:
            self._end(f"the client is gone: {exc}", told=False)
        else:
            self.record()

    def _end(self, result: str, told: bool) -> None:
        """`told`: the client has been sent a reason, which must arrive before the connection
        ends."""
        self.story.result = result
        self.record()
        if told:
            linger(self._client, self._stopping)

    def record(self) -> None:
        """For the log of connections: what is known by now."""
        logger.debug("sandbox ingress: %s", self.story)
        self._number = self._desk.record_connection(self._number, self.story.to_json())

    def _run(self) -> None:
        settings = self._desk.settings()
        fault = self._desk.ingress_fault("connect")
        identity = fault.identity if fault and fault.kind == "certificate" else HONEST
        self._play(fault)
        channel = TlsChannel(self._contexts.get(identity, settings.tls_version))
        link = Link(self._client, channel, self._stopping)
        deadline = time.monotonic() + settings.upgrade_timeout
        link.handshake(deadline)
        self.story.tls_version, self.story.resumed = channel.version(), channel.resumed()
        self._admit(channel)
        target = self._read_request(link, deadline)
        self._admit(channel)  # it may have waited long for its first request
        try:
            self._upgrade(link, target, deadline)
        except Refused as exc:
            if exc.response is not None:
                link.send(wire.encode_response(exc.response), deadline)
                channel.close_write()
                link.flush(deadline)
            raise

    def _play(self, fault: Optional[IngressFault]) -> None:
        """The faults that are the same before and after the handshake."""
        self.story.fault = fault.kind if fault else self.story.fault
        if fault and fault.kind == "hang":
            self._hang()
        if fault and fault.kind == "reset":
            reset_on_close(self._client)
            raise Refused("reset, as asked")

    def _hang(self) -> None:
        """Until the client gives up. What it sends is read, else its end could not be seen."""
        while True:
            wait_for(self._client, select.POLLIN, None, self._stopping)
            if not self._client.recv(HANG_READ_BYTES):
                raise Refused("hung, as asked")

    def _admit(self, channel: TlsChannel) -> None:
        """Only operators that exist, with a certificate that is valid now: a resumed TLS session
        does not look at the dates again. Others see the connection end, as at ngrok."""
        certificate = channel.certificate()
        subject = dict(pair for names in certificate.get("subject", ()) for pair in names)
        self.story.operator_id = subject.get("commonName", "")
        if ssl.cert_time_to_seconds(certificate.get("notAfter", "")) < time.time():
            raise Refused("the client's certificate has expired")
        if not self._desk.operator_exists(self.story.operator_id):
            raise Refused(f"the operator {self.story.operator_id!r} does not exist")

    def _read_request(self, link: Link, deadline: float) -> Target:
        reader = wire.RequestReader()
        while True:
            target = reader.receive_data(link.read(deadline))
            if target is not None:
                self._early = reader.leftover
                self.story.host, self.story.port = target.hostname, target.port
                return target

    def _upgrade(self, link: Link, target: Target, deadline: float) -> None:
        fault = self._desk.ingress_fault("upgrade", target)
        self._play(fault)
        if fault and fault.kind == "raw":
            link.send(bytes.fromhex(fault.hex), deadline)
            raise Refused("answered with raw bytes, as asked", None)
        if fault and fault.kind == "error":
            text = fault.error_message or "the sandbox was asked to refuse"
            raise _refusal(fault.error_code, text)
        route = self._desk.route(target)
        if route is None:
            raise _refusal(NO_SUCH_ENDPOINT, f"no endpoint {target} was found")
        self.story.endpoint_id = route.endpoint_id
        notices = (fault.error_message,) if fault and fault.kind == "notice" else ()
        answer = wire.encode_response(
            ConnResponse(route.endpoint_id, route.proto, notices=notices)
        )
        with self._dial(route.upstream, target) as upstream:
            self.story.result = "open"
            self.record()  # before the client is told, who may look at the log at once
            self._send_answer(link, answer, fault, upstream, deadline)
            self._relay(link, upstream)

    def _dial(self, upstream: Optional[Upstream], target: Target) -> socket.socket:
        if upstream is None:
            raise _refusal(UPSTREAM_UNREACHABLE, f"{target} has no upstream in this sandbox")
        try:
            return dial(upstream, time.monotonic() + DIAL_TIMEOUT_S, self._stopping)
        except OSError as exc:
            text = f"the upstream {upstream} of {target} cannot be reached: {exc}"
            raise _refusal(UPSTREAM_UNREACHABLE, text) from exc

    def _send_answer(
        self,
        link: Link,
        answer: bytes,
        fault: Optional[IngressFault],
        upstream: socket.socket,
        deadline: float,
    ) -> None:
        if fault and fault.kind == "slow":
            for index in range(len(answer)):
                if self._stopping.wait(fault.delay_s):
                    raise LinkEnded("the sandbox was stopped")
                link.send(answer[index : index + 1], deadline + fault.delay_s * len(answer))
            return
        if fault and fault.kind == "early_data":
            answer += fault.data.encode("utf-8", "surrogatepass") or self._first_payload(upstream)
        link.send(answer, deadline)

    def _first_payload(self, upstream: socket.socket) -> bytes:
        deadline = time.monotonic() + FIRST_PAYLOAD_TIMEOUT_S
        wait_for(upstream, select.POLLIN, deadline, self._stopping)
        return upstream.recv(FIRST_PAYLOAD_BYTES)

    def _relay(self, link: Link, upstream: socket.socket) -> None:
        relay = Relay(self._client, link.channel, upstream, self._stopping)
        self.story.result = relay.run(self._early) or "done"
        self.story.bytes_up, self.story.bytes_down = relay.bytes_up, relay.bytes_down


def _refusal(code: str, message: str) -> Refused:
    response = ConnResponse(error_code=code, error_message=message)
    return Refused(f"{code} {message}".strip(), response)
