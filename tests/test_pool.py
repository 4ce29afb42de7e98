"""Warm connections over real sockets: who gets one, how long they wait, what they teach."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Optional

import pytest

from ngrokd.config import ForwardSettings
from ngrokd.forward import demand, lifetime, opening, pacing, pool, sessions, wire
from ngrokd.forward.leg import Leg
from ngrokd.model import Address, Ingress, Target, WarmStatus
from tests import certificates
from tests.certificates import SERVER_NAME, Authority, Contexts, client_context, server_context
from tests.ingress import TIMEOUT_S, Peer, TestIngress
from tests.test_tls import VERSIONS
from tests.town import Town, read_all, wait_until, wait_until_closed


class Host:
    """An ingress that echoes, and knows what each of its connections came to. Owner: the test."""

    def __init__(self, contexts: Contexts) -> None:
        self.contexts = contexts
        self.arrived = 0
        self.asked: list[Target] = []
        self.ended_in_order = 0  # left by the daemon before they were asked
        self.resumed: list[bool] = []
        self.waited = 0  # for their request
        self.patience_s = TIMEOUT_S  # for a request
        self.dropped = 0  # by us, out of patience
        self.lets_down = 0  # so many requests are met with the end of the connection
        self.held = threading.Event()  # answers wait for it
        self.held.set()
        self.held_handshakes = threading.Event()
        self.held_handshakes.set()
        self.ingress = TestIngress(self._serve, contexts.server, contexts.client)

    def _serve(self, peer: Peer) -> None:
        self.arrived += 1
        assert self.held_handshakes.wait(TIMEOUT_S)
        peer.handshake()
        self.resumed.append(bool(peer.tls.session_reused))
        peer.sock.settimeout(self.patience_s)
        self.waited += 1
        try:
            self.asked.append(peer.read_request())
        except socket.timeout:  # TimeoutError itself from Python 3.10 on
            self.dropped += 1
            return
        except Exception:
            self.ended_in_order += 1
            raise
        peer.sock.settimeout(TIMEOUT_S)
        if self.lets_down:
            self.lets_down -= 1
            return
        assert self.held.wait(TIMEOUT_S)
        peer.answer(wire.ConnResponse("ep_test", "tcp"))
        with contextlib.suppress(OSError, ssl.SSLError):
            peer.send(peer.read_all())
            peer.end()


@pytest.fixture
def host(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Host]:
    """Of TLS 1.3, unless a test asks for each version."""
    version = getattr(request, "param", ssl.TLSVersion.TLSv1_3)
    made = Host(certificates.contexts(tmp_path, version))
    with made.ingress:
        yield made


on_each_version = pytest.mark.parametrize(
    "host", list(VERSIONS.values()), ids=list(VERSIONS), indirect=True
)
Build = Callable[[str], Town]


@pytest.fixture
def build(host: Host) -> Iterator[Build]:
    """A town with that setting, which knows the host."""
    with contextlib.ExitStack() as stack:

        def made(setting: str) -> Town:
            town = Town(ForwardSettings(warm_connections=setting))
            stack.callback(town.close)
            town.forwarder.set_ingress(host.ingress.ingress)
            return town

        yield made


def warm(town: Town) -> WarmStatus:
    return town.forwarder.snapshot().warm


def use(town: Town, text: bytes = b"hello") -> None:
    """One whole connection of a client."""
    with town.connect() as client:
        client.sendall(text)
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == text


def wait_until_ready(town: Town, count: int = 1) -> None:
    wait_until(lambda: warm(town).ready == count)


@on_each_version
def test_the_second_client_finds_a_connection_that_has_shaken_hands(
    host: Host, build: Build
) -> None:
    town = build("auto")
    assert warm(town) == WarmStatus("auto", max_age_s=lifetime.OLDEST_S)

    use(town)
    wait_until_ready(town)
    assert (host.arrived, len(host.asked)) == (2, 1)
    use(town)

    assert len(host.asked) == 2
    assert (warm(town).used, warm(town).missed) == (1, 1)
    assert town.counters().failed == 0


def test_one_pool_serves_every_endpoint(host: Host, build: Build) -> None:
    town = build("auto")
    other = Target("db.ns", 5432)
    address = town.listen(other)
    use(town)
    wait_until_ready(town)

    with town.connect(address) as client:
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""

    assert warm(town).used == 1
    assert host.asked[-1] == other


def test_a_number_is_ready_before_anybody_comes(host: Host, build: Build) -> None:
    town = build("12")
    wait_until_ready(town, 12)

    assert (host.arrived, host.asked) == (12, [])


def test_off_keeps_none(host: Host, build: Build) -> None:
    town = build("off")
    use(town)
    use(town)

    assert warm(town) == WarmStatus("off", max_age_s=lifetime.OLDEST_S)
    assert host.arrived == 2


def test_the_setting_may_change_while_it_runs(host: Host, build: Build) -> None:
    town = build("off")
    town.forwarder.configure(ForwardSettings(warm_connections="3"))
    wait_until_ready(town, 3)
    town.forwarder.configure(ForwardSettings(warm_connections="1"))
    wait_until_ready(town, 1)
    town.forwarder.configure(ForwardSettings(warm_connections="off"))
    wait_until_ready(town, 0)
    host.ingress.wait()

    assert host.ended_in_order == 3


def test_none_is_kept_once_nobody_has_come_for_a_while(
    host: Host, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(demand, "MEMORY_S", 1.5)
    town = build("auto")
    use(town)
    wait_until_ready(town)
    wait_until_ready(town, 0)
    host.ingress.wait()

    assert warm(town).wanted == 0
    assert host.ended_in_order == 1


def test_none_is_kept_where_nobody_can_come(host: Host, build: Build) -> None:
    town = build("2")
    wait_until_ready(town, 2)
    town.forwarder.remove_listeners([town.address])
    wait_until_ready(town, 0)

    assert warm(town).wanted == 0


@on_each_version
def test_one_that_the_far_side_ends_is_replaced_at_once(host: Host, build: Build) -> None:
    host.patience_s = 2.0  # longer than it has to wait here, so that it teaches nothing
    town = build("1")
    wait_until(lambda: host.waited == 1)
    host.patience_s = TIMEOUT_S
    wait_until(lambda: host.waited == 2)
    wait_until_ready(town)

    use(town)
    assert warm(town).used == 1
    assert town.counters().failed == 0


@on_each_version
def test_one_that_is_dead_when_it_is_asked_is_replaced_without_the_client_noticing(
    host: Host, build: Build
) -> None:
    town = build("1")
    wait_until_ready(town)
    host.lets_down = 1
    with town.connect() as client:
        client.sendall(b"all of it")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"all of it"

    assert town.counters().failed == 0
    assert len(host.asked) == 2
    assert (warm(town).used, warm(town).missed) == (0, 1)


def test_one_whose_peer_acknowledges_nothing_is_replaced_soon(
    host: Host, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "ACKNOWLEDGED_S", 0.05)
    monkeypatch.setattr(Leg, "unsent", property(lambda leg: 1))
    town = build("1")
    wait_until_ready(town)
    host.held.clear()
    with town.connect() as client:
        wait_until(lambda: len(host.asked) == 2)
        host.held.set()
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b""

    assert town.counters().failed == 0


def test_a_living_one_is_given_time_to_answer(
    host: Host, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening, "ACKNOWLEDGED_S", 0.05)
    town = build("1")
    wait_until_ready(town)
    host.held.clear()
    with town.connect() as client:
        wait_until(lambda: len(host.asked) == 1)
        threading.Event().wait(0.3)
        host.held.set()
        client.sendall(b"late")
        client.shutdown(socket.SHUT_WR)
        assert read_all(client) == b"late"

    assert len(host.asked) == 1


@on_each_version
def test_a_refusal_on_a_warm_connection_is_final(
    host: Host, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = build("1")
    wait_until_ready(town)
    refusal = wire.encode_response(wire.ConnResponse(error_code="ERR_NGROK_706"))
    monkeypatch.setattr(wire, "encode_response", lambda response: refusal)
    with pytest.raises(ConnectionResetError), town.connect() as client:
        client.recv(1)

    assert len(host.asked) == 1
    assert "ERR_NGROK_706" in town.counters().last_error


def test_a_far_side_s_patience_is_learned_and_never_tried_again(
    host: Host, build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    host.patience_s = 1.2
    with caplog.at_level(logging.INFO, pool.__name__):
        town = build("1")
        wait_until(lambda: warm(town).max_age_s < host.patience_s)
        wait_until_ready(town, 0)  # which are not replaced for nobody
        use(town)
        wait_until(lambda: host.ended_in_order == 3)

    assert host.dropped == 2
    assert caplog.text.count("warm ones are replaced after 0.9 s") == 1


def test_a_far_side_that_lets_nobody_wait_is_left_alone_which_is_said_once(
    host: Host, build: Build, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifetime, "ONE_EVENT_S", 0.05)
    monkeypatch.setattr(pacing, "FIRST_PAUSE_S", 0.1)
    host.patience_s = 0.05
    with caplog.at_level(logging.INFO, pool.__name__):
        town = build("1")
        wait_until(lambda: host.dropped >= lifetime.SHORT_LIVES)
        assert warm(town).max_age_s > 0, "it may not know our certificate"
        assert "not know our certificate" in warm(town).problem
        use(town)
        wait_until(lambda: warm(town).max_age_s == 0)
        arrived = host.arrived
        use(town)

    assert host.arrived == arrived + 1
    assert warm(town).ready == 0
    assert caplog.text.count("none is kept warm") == 1


@on_each_version
def test_a_new_certificate_replaces_those_that_wait_and_cuts_nobody(
    host: Host, build: Build, tmp_path: Path
) -> None:
    town = build("2")
    wait_until_ready(town, 2)
    with town.connect() as running:
        wait_until(lambda: len(host.asked) == 1)
        wait_until_ready(town, 2)
        arrived = host.arrived
        version = host.contexts.client.minimum_version
        (tmp_path / "new").mkdir()
        authority = Authority(tmp_path / "new")
        server = server_context(authority.issue(SERVER_NAME), authority.cert, version)
        client = client_context(authority.cert, authority.issue("client"), version)
        with Host(Contexts(client, server)).ingress as other:
            town.forwarder.set_ingress(other.ingress)
            wait_until_ready(town, 2)
            wait_until(lambda: host.ended_in_order == 2)
            use(town)
        running.sendall(b"goes on")
        running.shutdown(socket.SHUT_WR)
        assert read_all(running) == b"goes on"

    assert host.arrived == arrived
    assert town.counters().failed == 0


def test_those_at_an_address_that_is_no_longer_the_ingress_s_go(
    host: Host, build: Build
) -> None:
    town = build("1")
    wait_until_ready(town)
    moved = Host(host.contexts)
    with moved.ingress:
        town.forwarder.set_ingress(moved.ingress.ingress)
        wait_until(lambda: moved.arrived == 1 and host.ended_in_order == 1)
        use(town)

    assert len(moved.asked) == 1


def test_an_ingress_that_cannot_be_reached_is_tried_with_a_back_off_and_in_silence(
    host: Host, build: Build, caplog: pytest.LogCaptureFixture
) -> None:
    town = build("off")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = Address(*closed.getsockname())
    town.forwarder.set_ingress(Ingress(SERVER_NAME, (address,), host.contexts.client))
    town.forwarder.configure(ForwardSettings(warm_connections="4"))
    wait_until(lambda: "refused the TCP connection" in warm(town).problem)
    assert caplog.text == ""

    town.forwarder.set_ingress(host.ingress.ingress)
    wait_until_ready(town, 4)
    assert warm(town).problem == ""


def test_those_that_wait_are_given_up_for_clients_who_have_come(host: Host, build: Build) -> None:
    town = build("4")
    wait_until_ready(town, 4)
    town.forwarder._loop.call_soon(town.forwarder._pool.shed)
    wait_until(lambda: host.ended_in_order == 4)
    arrived = host.arrived
    use(town)

    assert warm(town).ready == 0
    assert host.arrived == arrived + 1, "none is made for those who may come"


@on_each_version
def test_an_ingress_that_refuses_our_certificate_is_not_stormed(
    host: Host, build: Build, tmp_path: Path
) -> None:
    version = host.contexts.client.minimum_version
    (tmp_path / "strange").mkdir()
    strange = Authority(tmp_path / "strange")
    nobody = client_context(tmp_path / "test-ca.crt", strange.issue("client"), version)
    town = build("off")
    town.forwarder.set_ingress(Ingress(SERVER_NAME, (host.ingress.address,), nobody))
    town.forwarder.configure(ForwardSettings(warm_connections="100"))
    wait_until(lambda: "refused our certificate" in warm(town).problem)
    threading.Event().wait(3.5)  # pauses of 1, 2 and 4 s

    assert host.arrived <= 3 * pacing.AT_ONCE, "what was under way before the first refusal, and 3"
    assert "refused our certificate" in warm(town).problem


def test_a_client_who_is_served_ends_the_pause(host: Host, build: Build) -> None:
    town = build("off")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = Address(*closed.getsockname())
    town.forwarder.set_ingress(Ingress(SERVER_NAME, (address,), host.contexts.client))
    town.forwarder.configure(ForwardSettings(warm_connections="4"))
    wait_until(lambda: warm(town).problem != "")
    both = (address, host.ingress.address)
    town.forwarder.set_ingress(Ingress(SERVER_NAME, both, host.contexts.client))
    use(town)

    wait_until_ready(town, 4)
    assert warm(town).problem == ""


def test_an_endpoint_that_fails_by_itself_teaches_nothing_about_waiting(
    host: Host, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifetime, "ONE_EVENT_S", 0.0)
    town = build("2")
    for _ in range(lifetime.SHORT_LIVES + 1):
        wait_until(lambda: warm(town).ready >= 1)
        host.lets_down = 2  # the warm one, and the new one after it
        with pytest.raises(ConnectionResetError), town.connect() as client:
            client.recv(1)

    assert warm(town).max_age_s == lifetime.OLDEST_S
    assert town.counters().failed == lifetime.SHORT_LIVES + 1


def test_more_are_made_once_there_is_room_for_them(host: Host) -> None:
    town = Town(ForwardSettings(warm_connections="2", max_connections=2))
    town.forwarder.set_ingress(host.ingress.ingress)
    clients = [town.connect() for _ in range(2)]
    wait_until(lambda: len(host.asked) == 2)
    wait_until(lambda: warm(town).wanted == 0)
    for client in clients:
        client.close()
    wait_until_ready(town, 2)
    town.close()


def test_one_under_way_to_an_address_that_is_withdrawn_is_not_given_away(
    host: Host, build: Build
) -> None:
    moved = Host(host.contexts)
    host.held_handshakes.clear()
    town = build("1")
    wait_until(lambda: host.arrived == 1)
    with moved.ingress:
        town.forwarder.set_ingress(moved.ingress.ingress)
        host.held_handshakes.set()
        wait_until(lambda: host.ended_in_order == 1)
        wait_until_ready(town)
        use(town)

    assert (len(host.asked), len(moved.asked)) == (0, 1)


@on_each_version
def test_a_verdict_on_the_ingress_is_not_resumed_for_ever(
    host: Host, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    town = build("off")
    use(town)
    use(town)
    monkeypatch.setattr(sessions, "VERDICT_S", 0.0)
    use(town)

    assert host.resumed == [False, True, False]


@on_each_version
def test_a_session_is_not_resumed_once_the_ingress_s_certificate_has_ended(
    host: Host, build: Build
) -> None:
    town = build("off")
    use(town)
    found = town.forwarder._board.sessions
    address, context = host.ingress.address, host.ingress.ingress
    day = 86_400.0

    assert found.get(context, address, time.monotonic(), time.time() + day / 2) is not None
    assert found.get(context, address, time.monotonic(), time.time() + 2 * day) is None
    assert len(found) == 0


def test_stopping_leaves_no_descriptor(host: Host, build: Build) -> None:
    before = len(os.listdir("/proc/self/fd"))
    town = Town(ForwardSettings(warm_connections="5"))
    town.forwarder.set_ingress(host.ingress.ingress)
    wait_until_ready(town, 5)
    use(town)
    wait_until_closed(town)
    town.close()

    wait_until(lambda: len(os.listdir("/proc/self/fd")) <= before)


@on_each_version
def test_later_handshakes_resume_the_first_one_s_session(host: Host, build: Build) -> None:
    town = build("off")
    for _ in range(3):
        use(town)

    assert host.resumed == [False, True, True]


@on_each_version
def test_a_session_is_not_resumed_with_another_certificate(
    host: Host, build: Build, tmp_path: Path
) -> None:
    town = build("off")
    use(town)
    version = host.contexts.client.minimum_version
    anew = client_context(tmp_path / "test-ca.crt", None, version)
    anew.load_cert_chain(tmp_path / "client.1.crt", tmp_path / "client.key")
    town.forwarder.set_ingress(Ingress(SERVER_NAME, (host.ingress.address,), anew))
    use(town)
    use(town)

    assert host.resumed == [False, False, True]


def distrust(town: Town, addresses: Optional[frozenset[str]]) -> None:
    """And wait until that is done."""
    town.forwarder.distrust_warm(addresses)
    town.forwarder.snapshot()


@on_each_version
def test_after_a_sleep_those_that_wait_are_others_and_those_that_run_go_on(
    host: Host, build: Build
) -> None:
    town = build("2")
    with town.connect() as running:
        wait_until(lambda: len(host.asked) == 1)
        wait_until_ready(town, 2)
        arrived = host.arrived
        distrust(town, None)
        wait_until(lambda: host.ended_in_order == 2)
        wait_until_ready(town, 2)
        assert host.arrived == arrived + 2
        running.sendall(b"goes on")
        running.shutdown(socket.SHUT_WR)
        assert read_all(running) == b"goes on"

    assert warm(town).max_age_s == lifetime.OLDEST_S, "that they were left teaches nothing"


def test_one_that_is_being_made_over_a_network_that_is_gone_is_begun_anew(
    host: Host, build: Build
) -> None:
    host.held_handshakes.clear()
    town = build("1")
    wait_until(lambda: host.arrived == 1)
    distrust(town, None)
    wait_until(lambda: host.arrived == 2)
    host.held_handshakes.set()
    wait_until_ready(town)
    use(town)
    assert town.counters().failed == 0


def test_only_those_made_from_the_addresses_in_doubt_go(host: Host, build: Build) -> None:
    town = build("2")
    wait_until_ready(town, 2)
    distrust(town, frozenset({"192.0.2.7", "172.17.0.1"}))
    distrust(town, frozenset())
    assert (host.arrived, warm(town).ready) == (2, 2)

    distrust(town, frozenset({"192.0.2.7", "127.0.0.1"}))
    wait_until(lambda: host.ended_in_order == 2)
    wait_until_ready(town, 2)
    assert host.arrived == 4


def test_after_a_sleep_an_ingress_that_could_not_be_reached_is_tried_without_a_pause(
    host: Host, build: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pacing, "FIRST_PAUSE_S", 1000.0)
    monkeypatch.setattr(pacing, "LONGEST_PAUSE_S", 1000.0)
    town = build("off")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        address = Address(*closed.getsockname())
    town.forwarder.set_ingress(Ingress(SERVER_NAME, (address,), host.contexts.client))
    town.forwarder.configure(ForwardSettings(warm_connections="4"))
    wait_until(lambda: warm(town).problem != "")
    both = (address, host.ingress.address)
    town.forwarder.set_ingress(Ingress(SERVER_NAME, both, host.contexts.client))
    distrust(town, frozenset({"192.0.2.7"}))
    assert warm(town).problem != "", "a network of another kind proves nothing"

    distrust(town, None)
    wait_until_ready(town, 4)
    assert warm(town).problem == ""
