"""The live view as text: rates, orders, filters, keys and lines, without a terminal."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ngrokd.control import arguments, tones
from ngrokd.control.text import places
from ngrokd.control.tones import Tone
from ngrokd.control.top import details
from ngrokd.control.top.frame import Room, as_text, frame, page_of
from ngrokd.control.top.samples import (
    UNKNOWN,
    Outage,
    Picture,
    Rates,
    Row,
    Rows,
    Sample,
    as_json,
    first,
    following,
    interrupted,
    still,
)
from ngrokd.control.top.view import MAX_FILTER, Mode, Sort, View, arranged, pressed, scrolled

NOW = 1_700_000_000.0
ROOM = Room(79, 24)


def endpoint(name: str, **changed: object) -> dict[str, object]:
    return {
        "id": f"ep_{name}",
        "hostname": f"{name}.ns",
        "url": f"http://{name}.ns",
        "listen_address": "10.107.0.2:80",
        "published": True,
        "state": "open",
        "reason": "",
        "connections": 0,
        "total_connections": 0,
        "errors": 0,
        "bytes_up": 0,
        "bytes_down": 0,
        "last_activity": None,
        **changed,
    }


def sample(
    at: float, *endpoints: dict[str, object], pid: int = 42, uptime: int = 100, **status: object
) -> Sample:
    sums = {
        way: sum(int(str(each[f"bytes_{way}"])) for each in endpoints) for way in ("up", "down")
    }
    told: dict[str, object] = {
        "version": "0.1.0",
        "state": "ready",
        "pid": pid,
        "uptime_s": uptime,
        "problems": [],
        "connections": {"open": 2, "total": 17, "failed": 1},
        "bytes": sums,
        **status,
    }
    return Sample(at, told, list(endpoints))


def rates(picture: Picture) -> dict[str, Rates]:
    return {str(row.endpoint["id"]): row.rates for row in picture.rows}


def lines(picture: Picture, view: Optional[View] = None, room: Room = ROOM) -> list[str]:
    return as_text(frame(picture, view or View(), room, NOW)).split("\n")


def names(rows: Sequence[Row]) -> list[str]:
    return [str(row.endpoint["hostname"]).replace(".ns", "") for row in rows]


# Rates


def test_a_rate_is_what_flowed_between_two_looks() -> None:
    before = first(sample(10.0, endpoint("a", bytes_up=100, bytes_down=5000)))
    after = following(before, sample(12.0, endpoint("a", bytes_up=300, bytes_down=5000)))
    assert rates(after) == {"ep_a": Rates(100.0, 0.0)}
    assert after.rates == Rates(100.0, 0.0)


def test_one_look_tells_no_rate() -> None:
    picture = first(sample(10.0, endpoint("a", bytes_up=100)))
    assert rates(picture) == {"ep_a": UNKNOWN} and picture.rates == UNKNOWN


def test_an_endpoint_that_is_new_has_no_rate_yet() -> None:
    before = first(sample(10.0, endpoint("a")))
    after = following(before, sample(12.0, endpoint("a"), endpoint("b", bytes_up=10)))
    assert rates(after)["ep_b"] == UNKNOWN


@pytest.mark.parametrize(
    "restarted",
    [
        {"pid": 43, "uptime": 200},
        {"pid": 42, "uptime": 1},  # process 1 of a container that was made anew
    ],
)
def test_a_daemon_that_was_started_anew_has_no_rates_until_the_second_look(
    restarted: dict[str, int],
) -> None:
    before = first(sample(10.0, endpoint("a", bytes_up=100)))
    anew = following(before, sample(12.0, endpoint("a", bytes_up=900), **restarted))
    assert rates(anew) == {"ep_a": UNKNOWN} and anew.rates == UNKNOWN
    later = {**restarted, "uptime": restarted["uptime"] + 2}
    then = following(anew, sample(14.0, endpoint("a", bytes_up=1000), **later))
    assert rates(then) == {"ep_a": Rates(50.0, 0.0)}


def test_a_counter_that_goes_back_tells_no_rate_and_hurts_no_other() -> None:
    before = first(sample(10.0, endpoint("a", bytes_up=100), endpoint("b", bytes_up=100)))
    newer = sample(12.0, endpoint("a", bytes_up=7), endpoint("b", bytes_up=300))
    assert rates(following(before, newer)) == {"ep_a": Rates(None, 0.0), "ep_b": Rates(100.0, 0.0)}


def test_two_looks_in_the_same_moment_tell_no_rate() -> None:
    before = first(sample(10.0, endpoint("a")))
    assert rates(following(before, sample(10.0, endpoint("a", bytes_up=9)))) == {"ep_a": UNKNOWN}


def test_in_an_outage_the_last_that_was_known_stays_without_rates() -> None:
    before = following(first(sample(10.0, endpoint("a"))), sample(12.0, endpoint("a", bytes_up=4)))
    broken = interrupted(before, Outage(77.0, "no ngrokd answers"))
    assert rates(broken) == {"ep_a": UNKNOWN} and broken.silent_s == 65.0
    assert still(broken, 80.5).silent_s == 68.5 and still(before, 80.5) == before
    back = following(broken, sample(80.0, endpoint("a"), pid=99))
    assert back.outage is None and back.silent_s == 0


def test_the_rates_are_in_the_json() -> None:
    before = first(sample(10.0, endpoint("a")))
    picture = following(before, sample(12.0, endpoint("a", bytes_up=300)))
    told: Any = as_json(picture, picture.rows)
    assert (told["rate_up"], told["rate_down"]) == (150.0, 0.0)
    assert told["endpoints"] == [
        {**endpoint("a", bytes_up=300), "rate_up": 150.0, "rate_down": 0.0}
    ]
    assert told["status"]["pid"] == 42


# Orders and filters


def _town() -> list[Row]:
    """`a` to `d`, each the first in something; `s` is skipped."""
    given = [
        (endpoint("c", connections=9), Rates(1.0, 2.0)),
        (endpoint("a", errors=4, last_activity="2023-11-14T22:13:08Z"), Rates(50.0, 1.0)),
        (endpoint("s", state="skipped", reason="a wildcard is no name"), UNKNOWN),
        (endpoint("d", url="tcp://d.ns:6379", state="failed"), Rates(2.0, 99.0)),
        (endpoint("b", last_activity="2023-11-14T22:13:18Z", connections=1), Rates(49.0, 51.5)),
    ]
    return [Row(str(each["id"]), each, rate) for each, rate in given]


@pytest.mark.parametrize(
    ("sort", "order"),
    [
        (Sort.NAME, "abcds"),
        (Sort.CONNECTIONS, "cbads"),
        (Sort.UP, "abdcs"),
        (Sort.DOWN, "dbcas"),
        (Sort.TRAFFIC, "dbacs"),
        (Sort.ERRORS, "abcds"),
        (Sort.ACTIVE, "bacds"),
        (Sort.STATE, "dabcs"),
    ],
)
def test_each_order_has_the_largest_first_and_equals_by_name(sort: Sort, order: str) -> None:
    assert "".join(names(arranged(_town(), View(sort=sort)))) == order


def test_an_order_can_be_reversed() -> None:
    assert "".join(names(arranged(_town(), View(is_reversed=True)))) == "sdcba"
    assert names(arranged(_town(), View(Sort.CONNECTIONS, is_reversed=True)))[-2:] == ["b", "c"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("", "abcds"),
        ("  ", "abcds"),
        ("TCP:", "d"),
        ("ns 6379", "d"),
        ("failed", "d"),
        ("wildcard", "s"),
        ("10.107.0.2:80 http", "abcs"),
        ("ep_b", "b"),
        ("nothing of it", ""),
    ],
)
def test_a_filter_shows_those_that_have_each_of_its_words(words: str, found: str) -> None:
    assert "".join(names(arranged(_town(), View(filter=words)))) == found


def test_the_orders_of_the_command_line_are_those_of_the_view() -> None:
    assert list(arguments.SORTS) == [sort.value for sort in Sort]


def test_an_order_is_made_once_for_all_who_ask_for_it() -> None:
    made: list[int] = []

    def make(rows: Sequence[Row]) -> list[Row]:
        made.append(len(rows))
        return list(rows)

    rows = Rows(_town())
    assert rows.order("name", make) == rows.order("name", make) == list(_town())
    assert len(made) == 1
    rows.order("state", make)
    assert len(made) == 2


@pytest.mark.parametrize("sort", list(Sort))
def test_rows_that_keep_their_order_are_in_the_same_one(sort: Sort) -> None:
    rows = Rows(_town())
    for view in (View(), View(sort=sort), View(sort=sort, is_reversed=True, filter="e")):
        assert arranged(rows, view) == arranged(_town(), view)


# Keys


def typed(keys: Sequence[str], view: Optional[View] = None, page: int = 3) -> View:
    found = view or View()
    for key in keys:
        found = pressed(found, key, _town(), page)
    return found


@pytest.mark.parametrize(
    ("keys", "chosen"),
    [
        (["down"], "ep_a"),
        (["down", "down", "j"], "ep_c"),
        (["down"] * 9, "ep_s"),
        (["end", "up", "k"], "ep_c"),
        (["up"], "ep_a"),
        (["G", "g"], "ep_a"),
        (["home", "page_down"], "ep_d"),
        (["end", "page_up"], "ep_b"),
        (["home", " ", " ", " "], "ep_s"),
    ],
)
def test_the_cursor_moves_and_stops_at_the_ends(keys: list[str], chosen: str) -> None:
    assert typed(keys).chosen == chosen


def test_the_cursor_stays_on_its_endpoint_in_another_order() -> None:
    view = typed(["down", "c"])
    assert view.chosen == "ep_a" and view.sort is Sort.CONNECTIONS
    assert typed(["down"], view).chosen == "ep_d"


def test_the_cursor_is_always_on_the_screen_and_no_room_below_is_left_empty() -> None:
    assert [typed(["down"] * n).top for n in range(1, 7)] == [0, 0, 0, 1, 2, 2]
    assert typed(["end", "home"]).top == 0
    assert scrolled(View(top=99), _town(), 3).top == 2
    assert scrolled(View(top=2), _town(), 9).top == 0


def test_where_the_chosen_endpoint_has_gone_the_cursor_begins_at_the_top_of_the_screen() -> None:
    view = pressed(View(chosen="gone", top=1), "down", _town(), 3)
    assert view.chosen == "ep_b"


def test_enter_shows_details_and_escape_the_list_again() -> None:
    view = typed(["down", "down", "enter"])
    assert (view.mode, view.chosen) == (Mode.DETAILS, "ep_b")
    assert typed(["down"], view).chosen == "ep_c"
    assert typed(["escape"], view).mode is Mode.LIST
    assert typed(["enter"]).chosen == "ep_a", "before the cursor was moved: the first"


def test_enter_does_nothing_where_there_is_no_endpoint() -> None:
    assert pressed(View(), "enter", [], 3) == View()
    assert pressed(View(), "down", [], 3) == View()


def test_a_filter_is_typed_kept_or_dropped() -> None:
    view = typed(["/", "q", "c", "backspace", "backspace", "t", "c", "p"])
    assert (view.mode, view.filter) == (Mode.FILTER, "tcp")
    assert typed(["enter"], view) == dataclasses.replace(view, mode=Mode.LIST)
    assert typed(["escape"], view).filter == ""
    assert typed(["clear"], view).filter == ""
    assert typed(["enter", "escape"], view).filter == "", "Esc in the list drops it, too"
    assert typed(["up", "f1"], view) == view, "only letters are typed"
    assert len(typed(["/", *"x" * 500]).filter) == MAX_FILTER


@pytest.mark.parametrize("keys", [["q"], ["Q"], ["?", "q"], ["down", "enter", "q"]])
def test_q_quits_from_everywhere_but_a_filter(keys: list[str]) -> None:
    assert typed(keys).mode is Mode.OVER


def test_r_reverses_and_another_order_begins_unreversed() -> None:
    assert typed(["r"]).is_reversed and not typed(["r", "r"]).is_reversed
    assert typed(["r", "u"]) == View(Sort.UP)


def test_help_goes_with_any_key() -> None:
    assert typed(["?"]).mode is Mode.HELP and typed(["?", "x"]) == View()


KEYS = st.lists(
    st.sampled_from(["up", "down", "page_up", "page_down", "home", "end", "enter", "escape"])
    | st.sampled_from(["backspace", "clear", "left", "right", "redraw", "strange"])
    | st.characters(min_codepoint=32, max_codepoint=126)
)


@given(KEYS, st.integers(-1, 9), st.integers(0, 90), st.integers(0, 30))
def test_whatever_is_typed_there_is_a_frame_that_fits(
    keys: list[str], page: int, width: int, height: int
) -> None:
    picture = Picture(sample(1.0), _town())
    view = View()
    for key in keys:
        view = pressed(view, key, picture.rows, page)
    shown = lines(picture, view, Room(width, height))
    assert len(shown) <= max(1, height) and all(places(line) <= width for line in shown)


# Lines


def _picture(**status: Any) -> Picture:
    picture = first(sample(1.0, **status))
    return dataclasses.replace(picture, rows=_town(), rates=Rates(2048.0, 1_500_000.0))


def test_a_frame_of_eighty_columns() -> None:
    shown = lines(_picture(), View(chosen="ep_b"), Room(79, 12))
    assert (
        "\n".join(shown)
        == """\
ngrokd 0.1.0 is ready (pid 42, up 1 min 40 s)
Connections  2 open, 17 total, 1 failed   2.0 KiB/s up, 1.4 MiB/s down
Endpoints    3 open, 1 failed, 1 skipped   by name

ENDPOINT         STATE     OPEN      UP/s    DOWN/s  ERRORS  ACTIVE
http://a.ns      open         0      50 B       1 B       4    12 s
http://b.ns      open         1      49 B      52 B       0     2 s
http://c.ns      open         9       1 B       2 B       0       -
tcp://d.ns:6379  failed       0       2 B      99 B       0       -
http://s.ns      skipped      0         -         -       0       -

q quit  Enter details  / filter  sort: n c u d b e a t  r reverse  ? help"""
    )


def test_the_first_problem_is_shown_and_the_others_are_counted() -> None:
    one = lines(_picture(state="degraded", problems=["a\x1b[31m is\nbroken"]))
    assert one[0].startswith("ngrokd 0.1.0 is ready, with problems (")
    assert one[3] == "! a\\x1b[31m is\\x0abroken"
    assert lines(_picture(problems=["a", "b", "c"]))[3] == "! (2 more: `ngrokctl status`) a"


def test_an_outage_takes_the_place_of_the_state_and_the_rates() -> None:
    shown = lines(interrupted(_picture(), Outage(66.0, "no ngrokd answers on /s (gone)")))
    assert shown[0] == "no answer for 1 min 5 s: no ngrokd answers on /s (gone)"
    assert shown[1] == "Connections  2 open, 17 total, 1 failed"
    assert shown[5].startswith("http://a.ns      open         0         -         -")


def test_the_order_and_the_filter_are_told() -> None:
    shown = lines(_picture(), View(Sort.DOWN, is_reversed=True, filter="ns:6379"), Room(99, 24))
    assert shown[2] == (
        "Endpoints    1 with 'ns:6379' of 3 open, 1 failed, 1 skipped   by down, reversed"
    )
    shown = lines(_picture(), View(filter="x y", mode=Mode.FILTER))
    assert shown[4] == "No endpoint matches the filter." and shown[-1] == "filter: x y_"


def test_without_endpoints_that_is_said() -> None:
    shown = lines(first(sample(1.0)))
    assert shown[2] == "Endpoints    none   by name" and shown[4] == "No endpoints."


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (20, "ENDPOINT"),
        (35, "ENDPOINT  OPEN"),
        (45, "ENDPOINT  OPEN  UP/s  DOWN/s"),
        (60, "ENDPOINT  OPEN  UP/s  DOWN/s  ERRORS"),
        (79, "ENDPOINT  STATE  OPEN  UP/s  DOWN/s  ERRORS  ACTIVE"),
        (130, "ENDPOINT  ADDRESS  STATE  OPEN  TOTAL  UP/s  DOWN/s  ERRORS  ACTIVE"),
    ],
)
def test_the_narrower_the_screen_the_fewer_columns(width: int, titles: str) -> None:
    assert lines(_picture(), None, Room(width, 24))[4].split() == titles.split()


def test_a_long_url_is_cut_and_the_numbers_stay_where_they_are() -> None:
    long = Row("x", endpoint("x" * 200, connections=123_456), Rates(1023 * 1024, 0))
    shown = lines(Picture(sample(1.0), [long]), None, Room(79, 24))[5]
    assert shown == (
        "http://xxxxxxxxxxxxxxxxxx…  open     123456  1023 KiB       0 B       0       -"
    )
    assert len(shown) == 79


def test_in_a_pipe_nothing_is_cut_and_every_row_is_there() -> None:
    rows = [Row(str(n), endpoint(f"{'x' * 200}{n:04}"), UNKNOWN) for n in range(2000)]
    shown = lines(Picture(sample(1.0), rows), None, Room())
    assert len(shown) == 5 + 2000 and "…" not in "".join(shown)
    assert shown[4].split()[1] == "ADDRESS"


def test_of_two_thousand_endpoints_a_screen_shows_those_around_the_cursor() -> None:
    rows = [Row(f"{n:04}", endpoint(f"e{n:04}")) for n in range(2000)]
    picture = Picture(sample(1.0), rows)
    page = page_of(picture, View(), 24)
    view = pressed(View(), "end", rows, page)
    shown = lines(picture, view)
    assert page == 18 and len(shown) == 24
    assert [line.split()[0] for line in (shown[5], shown[22])] == [
        "http://e1982.ns",
        "http://e1999.ns",
    ]


def test_what_is_chosen_is_marked_and_states_have_their_tones() -> None:
    found = frame(_picture(), View(chosen="ep_b"), ROOM, NOW)
    assert [tone for _, tone in found[6]] == [Tone.CHOSEN]
    assert (tones.of_endpoint("failed"), "failed ") in [(t, p) for p, t in found[8]]


def test_colour_is_only_added_where_it_is_wanted() -> None:
    found = frame(_picture(), View(), ROOM, NOW)
    assert "\x1b[32mopen   \x1b[0m" in as_text(found, colour=True)
    assert "\x1b" not in as_text(found)


# Details and help


def test_the_details_of_an_endpoint() -> None:
    row = Row(
        "k",
        endpoint(
            "db",
            connections=2,
            total_connections=17,
            errors=13,
            failures={"connect_timeout": 12, "cut_while_open": 1},
            last_error="reset\x1b]0;x\x07",
            last_error_at="2023-11-14T22:13:08Z",
            bytes_up=1_234_567,
            last_activity="2023-11-14T22:13:18Z",
        ),
        Rates(2048.0, None),
    )
    assert (
        "\n".join(details.page([row], "k", 79, NOW))
        == """\
Endpoint       http://db.ns
Id             ep_db
State          open
Hostname       db.ns
Address        10.107.0.2:80
In hosts file  yes
Connections    2 open, 17 total
Up             2.0 KiB/s, 1.2 MiB in all
Down           -, 0 B in all
Errors         13 (12 connect timeout, 1 cut while open)
Last error     12 s ago: reset\\x1b]0;x\\x07
Last active    2 s ago"""
    )


def test_long_details_go_on_below_themselves() -> None:
    row = Row("k", endpoint("x", reason="so it is " * 12))
    shown = details.page([row], "k", 60, NOW)
    assert all(len(line) <= 60 for line in shown)
    assert shown[4].startswith(" " * 15 + "s")


def test_details_of_an_endpoint_that_has_gone_say_so() -> None:
    shown = lines(_picture(), View(chosen="gone", mode=Mode.DETAILS))
    assert shown[4] == "This endpoint is gone."


def test_help_fits_a_screen_of_eighty_columns_and_names_every_order() -> None:
    assert all(len(line) <= 79 for line in details.HELP) and len(details.HELP) <= 18
    assert "Esc" in "".join(lines(_picture(), View(mode=Mode.HELP)))


# What comes from outside


HOSTILE = st.text() | st.just("\x1b[2J\x1b]0;x\x07\u202e\u2066\r\n\x9b31m")
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | HOSTILE,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ["url", "state", "reason", "hostname", "last_error", "failures", "connections", "bytes_up"]
MODES = st.sampled_from([Mode.LIST, Mode.DETAILS])


@given(st.dictionaries(st.sampled_from(FIELDS), VALUES | HOSTILE), HOSTILE, MODES)
def test_nothing_that_the_daemon_tells_controls_the_terminal_or_leaves_its_line(
    told: dict[str, object], problem: str, mode: Mode
) -> None:
    picture = first(Sample(1.0, {"problems": [problem], "state": problem}, [told]))
    view = View(mode=mode, chosen=picture.rows[0].key)
    for line in frame(picture, view, ROOM, NOW):
        whole = "".join(piece for piece, _ in line)
        assert whole.isprintable() and places(whole) <= 79
