"""What happens around the daemon meanwhile: faults, endpoints that come and go, new settings."""

from __future__ import annotations

import random
import signal
import threading
from collections.abc import Callable, Mapping

from ngrokd.control import client
from tests.integration.site import Daemon, Site
from tests.soak.books import Books
from tests.soak.clients import FLEETING, GREET, PORT

CALM_S = (0.5, 3.0)
FAULT_S = (0.2, 2.5)
ASK_S = 60.0

# All of these may cost new connections, and no open one.
INGRESS_FAULTS: tuple[Mapping[str, object], ...] = (
    {"kind": "refuse"},
    {"kind": "hang", "at": "connect"},
    {"kind": "hang", "at": "upgrade"},
    {"kind": "reset", "at": "connect"},
    {"kind": "reset", "at": "upgrade", "count": 5},
    {"kind": "certificate", "identity": "self_signed"},
    {"kind": "certificate", "identity": "expired", "count": 3},
    {"kind": "error", "error_code": "ERR_NGROK_706", "error_message": "not found"},
    {"kind": "slow", "delay_s": 0.02},
    {"kind": "raw", "hex": "0300ffffff"},
    {"kind": "raw", "hex": "ff"},
)
# None of these may cost anything.
HARMLESS_FAULTS: tuple[Mapping[str, object], ...] = (
    {"kind": "early_data", "host": GREET},
    {"kind": "notice", "error_message": "mind the gap"},
)
API_FAULTS: tuple[Mapping[str, object], ...] = (
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 429, "retry_after": "1"},
    {"kind": "delay", "delay_s": 1.0},
    {"kind": "garbage"},
    {"kind": "truncated"},
    {"kind": "drop"},
)


class Trouble:
    """One thing after the other, with some calm between. Owner: its thread."""

    def __init__(
        self,
        site: Site,
        daemon: Daemon,
        books: Books,
        dice: random.Random,
        forward: Mapping[str, object],
    ) -> None:
        self._site, self._daemon, self._books, self._dice = site, daemon, books, dice
        self._forward = forward  # what a reload leaves as it is
        self._stop = threading.Event()
        self._fleeting = False

    def run(self) -> None:
        """Until `stop`; everything is healed then."""
        calls: list[tuple[int, Callable[[], None]]] = [
            (6, self._ingress_fault),
            (2, self._harmless_fault),
            (2, self._api_fault),
            (3, self._come_or_go),
            (2, self._rotate),
            (2, self._reload),
        ]
        weights, kinds = zip(*calls)
        try:
            while not self._stop.wait(self._dice.uniform(*CALM_S)):
                kind = self._dice.choices(kinds, weights)[0]
                kind()
                self._books.good(f"trouble: {kind.__name__.strip('_')}")
        except Exception as exc:  # noqa: BLE001 - the verdict says it
            self._books.deviation(f"trouble: {kind.__name__.strip('_')}: {exc!r}")
        finally:
            self._site.cloud.heal()
            if self._fleeting:
                self._come_or_go()

    def stop(self) -> None:
        """Any thread."""
        self._stop.set()

    def _ingress_fault(self) -> None:
        with self._books.disturbed():
            self._play(self._site.cloud.ingress_fault, self._dice.choice(INGRESS_FAULTS))

    def _harmless_fault(self) -> None:
        self._play(self._site.cloud.ingress_fault, self._dice.choice(HARMLESS_FAULTS))

    def _api_fault(self) -> None:
        self._play(self._site.cloud.api_fault, self._dice.choice(API_FAULTS))

    def _play(self, post: Callable[..., str], fault: Mapping[str, object]) -> None:
        post(**fault)
        self._stop.wait(self._dice.uniform(*FAULT_S))
        self._site.cloud.heal()

    def _come_or_go(self) -> None:
        url = f"tcp://{FLEETING}:{PORT}"
        if self._fleeting:
            self._site.cloud.remove(url)
        else:
            self._site.cloud.add(url, f"127.0.0.1:{PORT}")
        self._fleeting = not self._fleeting
        self._daemon.refresh()

    def _rotate(self) -> None:
        certificate = self._site.state / "tls.crt"
        before = certificate.read_bytes()
        client.request(str(self._daemon.socket_path), "rotate-cert", timeout_s=ASK_S)
        for _ in range(100):
            if certificate.read_bytes() != before:
                return
            self._stop.wait(0.1)
        raise AssertionError("no new certificate")

    def _reload(self) -> None:
        warm = self._dice.choice(("auto", "off", "4"))
        reload(self._site, self._daemon, {**self._forward, "warm_connections": warm})


def reload(site: Site, daemon: Daemon, forward: Mapping[str, object]) -> None:
    """A new section `forward`, in force when this returns."""
    since = len(daemon.lines)
    site.write_config({"forward": forward})
    daemon.send(signal.SIGHUP)
    daemon.expect("configuration read again", since)
