"""From the configured ingress to bytes that come back: real names, real files, real TLS."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Callable, Optional

import pytest

from ngrokd.config import Config, ForwardSettings, ServerSettings
from ngrokd.configfile import parse
from ngrokd.forward import dial
from ngrokd.messages import JobDone, JobKind
from ngrokd.upkeep.ingress import LOOK_S, IngressLink
from tests.certificates import Authority, Pair, server_context
from tests.ingress import TIMEOUT_S, Handler, Peer, TestIngress, echo, upgraded
from tests.town import COLD, Town, wait_until

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


class Way:
    """A link and a forwarder that have a real ingress; jobs are done when it is their turn."""

    def __init__(self, folder: Path, version: ssl.TLSVersion, stack: ExitStack) -> None:
        self.folder, self.version, self._stack = folder, version, stack
        self.authority, self.ours = Authority(folder, "Ingress CA"), Authority(folder, "Our CA")
        self.pair = self.ours.issue("client")
        self.ca_file = self.authority.cert
        self.registered = True
        self.ingress_endpoint = ""
        self.names: list[Optional[str]] = []  # by SNI
        self.town = Town()
        stack.callback(self.town.close)
        self._now = 0.0
        self._jobs: list[tuple[JobKind, Callable[[], object]]] = []
        submit = lambda kind, job: self._jobs.append((kind, job))  # noqa: E731
        self.link = IngressLink(Config(), self, self.town.forwarder, submit)  # type: ignore[arg-type]

    def serve(
        self, name: str, ip: str, handle: Optional[Handler] = None, pair: Optional[Pair] = None
    ) -> TestIngress:
        """An ingress whose certificate is for that name."""
        shown = pair or self.authority.issue(name)
        context = server_context(shown, self.ours.cert, self.version)
        context.sni_callback = lambda tls, asked, _: self.names.append(asked)
        ingress = TestIngress(handle or upgraded(echo), context, context, ip)
        return self._stack.enter_context(ingress)

    def point(self, endpoint: str) -> None:
        """As `ingressEndpoint` of the configuration, which is checked."""
        server = ServerSettings(
            client_cert=str(self.pair.cert),
            client_key=str(self.pair.key),
            ca_file=str(self.ca_file),
        )
        checked = parse(f"ingressEndpoint: '{endpoint}'", "test").ingress_endpoint
        self.link.configure(Config(ingress_endpoint=checked, server=server))
        self.link.refresh()
        self.go_on(0.0)

    def go_on(self, seconds: float = LOOK_S) -> None:
        """Time passes, and what it brings is done."""
        self._now += seconds
        self.link.tick(self._now)
        while self._jobs:
            kind, job = self._jobs.pop(0)
            self.link.handle(JobDone(kind, job()), self._now)
            self.link.tick(self._now)

    def must_echo(self) -> None:
        with self.town.connect() as client:
            client.sendall(b"hello")
            assert client.recv(5) == b"hello"

    def must_fail(self) -> str:
        """Why it does."""
        with pytest.raises(ConnectionResetError), self.town.connect() as client:
            client.recv(1)
        return self.town.counters().last_error


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def way(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Way]:
    with ExitStack() as stack:
        yield Way(tmp_path, request.param, stack)


@pytest.mark.parametrize(
    ("written", "ip", "sni"),
    [("[::1]:{}", "::1", None), ("127.0.0.1:{}", "127.0.0.1", None),
     ("LocalHost:{}", "127.0.0.1", "localhost")],
)  # fmt: skip
def test_an_ingress_is_reached_by_name_or_address_and_an_address_is_no_sni(
    way: Way, written: str, ip: str, sni: Optional[str]
) -> None:
    name = sni or ip
    ingress = way.serve(name, ip)
    way.point(written.format(ingress.address.port))
    way.must_echo()
    assert way.link.host == name and not way.link.problems
    assert way.link.endpoint == written.format(ingress.address.port).lower()
    assert set(way.names) == {sni}


def test_the_certificate_must_bear_the_address_that_is_configured(way: Way) -> None:
    ingress = way.serve("::2", "::1")
    way.point(f"[::1]:{ingress.address.port}")
    assert "its certificate is not for ::1" in way.must_fail()
    (problem,) = way.link.problems
    assert f"the ingress [::1]:{ingress.address.port} is not for that name" in problem
    assert "IP address mismatch" in problem and "for ::2" in problem


def test_another_ingress_takes_new_connections_and_leaves_running_ones_alone(way: Way) -> None:
    old, new = way.serve("127.0.0.1", "127.0.0.1"), way.serve("::1", "::1")
    way.point(f"127.0.0.1:{old.address.port}")
    with way.town.connect() as running:
        running.sendall(b"a")
        assert running.recv(1) == b"a"
        way.point(f"[::1]:{new.address.port}")
        old.handle = refuse
        way.must_echo()
        running.sendall(b"b")
        assert running.recv(1) == b"b"


def refuse(peer: Peer) -> None:
    peer.reset()


def test_warm_connections_go_to_the_new_ingress_too(way: Way) -> None:
    way.town.forwarder.configure(ForwardSettings(warm_connections="2"))
    old, new = way.serve("127.0.0.1", "127.0.0.1"), way.serve("::1", "::1")
    way.point(f"127.0.0.1:{old.address.port}")
    wait_until(lambda: way.town.forwarder.snapshot().warm.ready == 2)
    way.point(f"[::1]:{new.address.port}")
    old.handle = refuse
    wait_until(lambda: way.town.forwarder.snapshot().warm.ready == 2)
    way.must_echo()
    way.town.forwarder.configure(COLD)


def test_an_anchor_that_is_replaced_counts_for_new_connections_and_those_that_wait(
    way: Way,
) -> None:
    way.town.forwarder.configure(ForwardSettings(warm_connections="1"))
    ingress = way.serve("::1", "::1")
    way.point(f"[::1]:{ingress.address.port}")
    wait_until(lambda: way.town.forwarder.snapshot().warm.ready == 1)
    good = way.ca_file.read_bytes()
    with way.town.connect() as running:
        running.sendall(b"a")
        assert running.recv(1) == b"a"
        way.ca_file.write_bytes(way.ours.cert.read_bytes())
        way.go_on()
        assert "not trusted" in way.must_fail()
        assert "is not trusted" in way.link.problems[0]
        running.sendall(b"b")
        assert running.recv(1) == b"b"
    way.ca_file.write_bytes(good)
    way.go_on()
    assert not way.link.problems
    way.must_echo()


def test_the_forwarder_counts_who_trusted_the_ingress_who_did_not_and_who_never_got_there(
    way: Way,
) -> None:
    ingress = way.serve("::1", "::1")
    way.point(f"[::1]:{ingress.address.port}")
    way.must_echo()
    assert way.town.forwarder.verdicts() == (1, 0, 0)
    stranger = way.serve("::1", "::1", pair=way.ours.issue("::1"))
    way.point(f"[::1]:{stranger.address.port}")
    way.must_fail()
    assert way.town.forwarder.verdicts() == (1, 1, 0)
    way.point(f"[::1]:{1}")
    way.must_fail()
    assert way.town.forwarder.verdicts() == (1, 1, 1)


@pytest.mark.long
def test_a_client_who_gives_up_waiting_for_an_ingress_that_says_nothing_counts_too(
    way: Way, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dial, "LONG_S", 0.0)
    ingress = way.serve("::1", "::1")
    way.point(f"[::1]:{ingress.address.port}")
    ingress.handle = says_nothing
    with way.town.connect():
        wait_until(lambda: way.town.forwarder.snapshot().open == 1)
    # It is counted when `connect_timeout` is over.
    wait_until(lambda: way.town.forwarder.verdicts() == (0, 0, 1), 3 * TIMEOUT_S)


def says_nothing(peer: Peer) -> None:
    while peer.sock.recv(1 << 14):
        pass


def test_a_certificate_that_the_running_ingress_replaces_is_noticed_by_the_next_client(
    way: Way,
) -> None:
    ingress = way.serve("::1", "::1")
    way.point(f"[::1]:{ingress.address.port}")
    way.must_echo()
    way.go_on()
    bad = way.ours.issue("::1")
    ingress._server = server_context(bad, way.ours.cert, way.version)
    way.town.forwarder.set_ingress(None)  # forgets the session, as an hour would
    way.town.forwarder.set_ingress(way.link._current)
    way.must_fail()
    way.go_on(60.0)
    assert "issued by CN=Our CA" in way.link.problems[0]
