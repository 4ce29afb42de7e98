"""Which faults become log lines."""

from __future__ import annotations

from ngrokd.forward.bursts import (
    BURST_S,
    NOTICE_PERIOD_S,
    NOTICES_KEPT,
    NOTICES_SAID,
    Bursts,
)
from ngrokd.model import Cause, Failure, Target

WEB, DB = Target("web.ns", 80), Target("db.ns", 5432)


def slow(text: str) -> Failure:
    return Failure(Cause.CONNECT_TIMEOUT, text)


def refused(text: str) -> Failure:
    return Failure(Cause.CERTIFICATE_REFUSED, text)


def test_the_first_fault_is_said_at_once_and_its_repeats_are_not() -> None:
    bursts = Bursts()

    assert bursts.fault(WEB, slow("it broke"), 0) == "web.ns:80: it broke"
    assert bursts.fault(WEB, slow("it broke"), 1) is None
    assert bursts.fault(WEB, slow("otherwise"), 2) is None


def test_each_target_has_its_own_burst() -> None:
    bursts = Bursts()
    bursts.fault(WEB, slow("it broke"), 0)

    assert bursts.fault(DB, slow("it broke"), 0) == "db.ns:5432: it broke"


def test_a_later_line_says_how_many_more_there_were() -> None:
    bursts = Bursts()
    for moment in range(6):
        bursts.fault(WEB, slow(f"fault {moment}"), moment)

    assert bursts.next_due() == BURST_S
    assert bursts.due(BURST_S - 1) == []
    assert bursts.due(BURST_S) == [
        "web.ns:80: 5 more connections failed within 30 s, the last with: fault 5"
    ]


def test_the_later_line_says_if_it_works_again() -> None:
    bursts = Bursts()
    bursts.fault(WEB, slow("it broke"), 0)
    bursts.fault(WEB, slow("it broke"), 1)
    bursts.success(WEB)

    assert bursts.due(BURST_S) == [
        "web.ns:80: 1 more connection failed within 30 s, the last with: it broke; it works again"
    ]


def test_a_burst_that_goes_on_gives_one_line_a_period() -> None:
    bursts = Bursts()
    lines = [bursts.fault(WEB, slow("it broke"), moment / 10) for moment in range(300)]
    for moment in range(300, 600):
        lines += bursts.due(moment / 10)
        lines.append(bursts.fault(WEB, slow("it broke"), moment / 10))

    assert len([line for line in lines if line]) == 2


def test_after_a_quiet_period_a_fault_is_said_at_once_again() -> None:
    bursts = Bursts()
    bursts.fault(WEB, slow("it broke"), 0)

    assert bursts.due(BURST_S) == []
    assert bursts.next_due() is None
    assert bursts.fault(WEB, slow("it broke"), BURST_S + 1) is not None


def test_each_cause_of_a_burst_is_said_once_at_once() -> None:
    bursts = Bursts()
    lines = []
    for moment in range(20):
        lines.append(bursts.fault(WEB, slow("too slow"), moment))
        if moment == 7:
            lines.append(bursts.fault(WEB, refused("not ours"), moment))

    assert [line for line in lines if line] == ["web.ns:80: too slow", "web.ns:80: not ours"]


def test_a_later_line_counts_each_cause_where_there_are_several() -> None:
    bursts = Bursts()
    for moment in range(4):
        bursts.fault(WEB, slow("too slow"), moment)
        bursts.fault(WEB, refused("not ours"), moment)
    bursts.fault(WEB, refused("not ours"), 5)

    assert bursts.due(BURST_S) == [
        "web.ns:80: 7 more connections failed within 30 s "
        "(3 connect_timeout, 4 certificate_refused), the last with: not ours"
    ]


def test_a_cause_said_in_a_burst_is_only_counted_as_long_as_the_burst_goes_on() -> None:
    bursts = Bursts()
    for moment in (0, 10, 40, 70):
        assert (bursts.fault(WEB, slow("too slow"), moment) is None) is (moment > 0)
        bursts.due(moment + 0.1)

    assert bursts.fault(WEB, refused("not ours"), 71) == "web.ns:80: not ours"
    assert bursts.fault(WEB, slow("too slow"), 72) is None
    assert bursts.due(101) != []
    assert bursts.due(132) == []
    assert bursts.fault(WEB, slow("too slow"), 133) == "web.ns:80: too slow"


def test_a_notice_is_said_once_and_memory_is_bounded() -> None:
    bursts = Bursts()

    assert bursts.notice(WEB, "update", 0) == "web.ns:80: ngrok says: update"
    assert bursts.notice(WEB, "update", 0) is None
    for number in range(2 * NOTICES_KEPT):
        target = Target(f"{number}.ns", 80)
        assert bursts.notice(target, "update", 0) is not None
    assert bursts.notice(WEB, "update", 0) is not None
    assert len(bursts._said) == NOTICES_KEPT


def test_of_a_flood_of_notices_few_are_said_and_the_rest_is_counted() -> None:
    bursts = Bursts()
    lines = [bursts.notice(WEB, f"notice {number}", 0) for number in range(5800)]

    assert [line for line in lines if line] == lines[:NOTICES_SAID]
    assert bursts.notice(DB, "notice 9", 0) is not None, "each target has its own"
    assert bursts.next_due() == NOTICE_PERIOD_S
    assert bursts.due(NOTICE_PERIOD_S - 1) == []
    assert bursts.due(NOTICE_PERIOD_S) == [
        f"web.ns:80: ngrok said {5800 - NOTICES_SAID} more within 60 minutes, "
        "the last: notice 5799"
    ]
    assert bursts.next_due() is None
    assert bursts.notice(WEB, "notice 0", NOTICE_PERIOD_S) is None, "once is once"
    assert bursts.notice(WEB, "notice 5799", NOTICE_PERIOD_S) is not None, "not said so far"


def test_a_burst_of_faults_is_due_before_a_notice_that_came_first() -> None:
    bursts = Bursts()
    bursts.notice(WEB, "update", 0)
    bursts.fault(WEB, slow("it broke"), 1)

    assert bursts.next_due() == BURST_S + 1
