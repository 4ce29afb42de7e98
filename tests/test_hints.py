"""The commands that the sandbox prints work for who reads them."""

from __future__ import annotations

from ngrokd.model import Address, EndpointState, EndpointStatus, Target
from ngrokd.verbs.hints import try_lines

HELLO = EndpointStatus(
    id="ep_1",
    url="http://hello.sandbox",
    state=EndpointState.OPEN,
    target=Target("hello.sandbox", 80),
    ip="127.107.0.2",
    listener=Address("127.107.0.2", 80),
    published=True,
)
ECHO = EndpointStatus(
    id="ep_2",
    url="tcp://echo.sandbox:7000",
    state=EndpointState.OPEN,
    target=Target("echo.sandbox", 7000),
    ip="127.107.0.3",
    listener=Address("127.107.0.3", 7000),
    published=True,
)


def first(endpoint: EndpointStatus) -> str:
    return try_lines([endpoint], "ngrokctl", "/tmp/s")[0]


def test_a_published_name_is_used_as_it_is() -> None:
    assert first(HELLO) == "curl http://hello.sandbox/"
    assert first(ECHO) == "echo hello | nc -N echo.sandbox 7000"


def test_without_a_name_curl_is_told_where_to_connect() -> None:
    moved = HELLO._replace(listener=Address("127.107.0.2", 9080), published=False)
    assert first(moved) == (
        "curl --connect-to hello.sandbox:80:127.107.0.2:9080 http://hello.sandbox/"
    )
    assert first(ECHO._replace(published=False)) == "echo hello | nc -N 127.107.0.3 7000"


def test_an_endpoint_that_is_not_open_is_not_offered() -> None:
    failed = HELLO._replace(state=EndpointState.FAILED, listener=None)
    assert try_lines([failed], "ngrokctl", "/tmp/s") == [
        "ngrokctl --socket /tmp/s status",
        "ngrokctl --socket /tmp/s list",
    ]


def test_paths_are_quoted_for_the_shell() -> None:
    line = try_lines([], "/home/my own/ngrokctl", "/tmp/a b")[0]
    assert line == "'/home/my own/ngrokctl' --socket '/tmp/a b' status"
