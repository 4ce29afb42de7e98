"""What is kept of connections, for how long, and of how many endpoints."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ngrokd.forward import ledger
from ngrokd.forward.ledger import KEPT_S, Ledger
from ngrokd.model import Cause, Counters, Failure, Target, WarmStatus

WEB, DB = Target("web.ns", 80), Target("db.ns", 5432)
NOW = 1000.0


def worked(*targets: Target) -> Ledger:
    """Each had one connection, of 3 bytes up and 5 down, that failed in the end."""
    made = Ledger()
    for target in targets:
        tally = made.of(target)
        tally.total += 1
        tally.bytes_up += 3
        tally.bytes_down += 5
        tally.fail(Failure(Cause.UPGRADE_TIMEOUT, "late"))
    return made


def seen(book: Ledger) -> dict[Target, Counters]:
    return book.freeze(WarmStatus()).counters


def total(book: Ledger) -> int:
    snapshot = book.freeze(WarmStatus())
    return sum(each.total for each in snapshot.counters.values()) + snapshot.forgotten.total


def test_an_endpoint_that_flaps_keeps_its_numbers() -> None:
    book = worked(WEB)
    book.settle({WEB}, NOW)
    book.settle(set(), NOW + 1)
    book.settle(set(), NOW + KEPT_S / 2)
    assert seen(book)[WEB].bytes_down == 5
    book.settle({WEB}, NOW + KEPT_S / 2 + 1)
    book.settle(set(), NOW + KEPT_S + 2)  # gone again: its day begins anew
    assert seen(book)[WEB].bytes_down == 5


def test_one_that_is_gone_for_a_day_is_forgotten_but_not_in_the_sums() -> None:
    book = worked(WEB, DB)
    book.settle({DB}, NOW)
    book.settle({DB}, NOW + KEPT_S)
    assert list(seen(book)) == [DB]
    forgotten = book.freeze(WarmStatus()).forgotten
    assert forgotten.total == forgotten.failed == 1
    assert (forgotten.bytes_up, forgotten.bytes_down) == (3, 5)
    assert forgotten.failures == ((Cause.UPGRADE_TIMEOUT, 1),)


def test_one_with_an_open_connection_is_not_forgotten() -> None:
    book = worked(WEB)
    book.of(WEB).open = 1
    book.settle(set(), NOW)
    book.settle(set(), NOW + 2 * KEPT_S)
    assert list(seen(book)) == [WEB]
    book.of(WEB).open = 0
    book.settle(set(), NOW + 2 * KEPT_S)
    assert list(seen(book)) == [WEB]  # its day begins when its last connection has ended


def test_endpoints_that_are_always_new_do_not_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "KEPT_AT_LEAST", 10)
    book = Ledger()
    for number in range(500):
        target = Target(f"e{number}.ns", 80)
        book.of(target).total += 1
        book.settle({target}, NOW + number)
    assert len(seen(book)) <= 11
    assert Target("e499.ns", 80) in seen(book)
    assert Target("e498.ns", 80) in seen(book)
    assert total(book) == 500


def test_all_of_many_endpoints_may_flap_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger, "KEPT_AT_LEAST", 10)
    many = [Target(f"e{number}.ns", 80) for number in range(100)]
    book = worked(*many)
    book.settle(set(many), NOW)
    book.settle(set(), NOW + 1)
    assert set(seen(book)) == set(many)


def test_what_has_not_changed_is_not_made_anew() -> None:
    book = Ledger()
    for name in ("still", "busy"):
        book.of(Target(name, 80)).total += 1
    before = book.freeze(WarmStatus()).counters
    busy = book.of(Target("busy", 80))
    changes: list[Callable[[], object]] = [
        lambda: setattr(busy, "open", 1),
        lambda: setattr(busy, "total", 2),
        lambda: setattr(busy, "bytes_up", 1),
        lambda: setattr(busy, "bytes_down", 1),
        lambda: setattr(busy, "last_activity", 1.0),
        lambda: busy.fail(Failure(Cause.INTERNAL_ERROR, "first")),
        lambda: busy.fail(Failure(Cause.CLIENT_LEFT, "second")),
    ]
    for change in changes:
        change()
        now = book.freeze(WarmStatus()).counters
        assert now[Target("still", 80)] is before[Target("still", 80)]
        assert now[Target("busy", 80)] != before[Target("busy", 80)]
        before = now
    assert before[Target("busy", 80)].last_error == "second"
