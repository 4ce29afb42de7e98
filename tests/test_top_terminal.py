"""`ngrokctl top` driven in a real terminal: keys, sizes, daemons that go, and every way out."""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Optional

import pytest

from ngrokd.control import ctl
from tests.control_room import serving
from tests.terminal import PATIENCE_S, Terminal
from tests.test_ctl import CACHE, STAR, STATUS, WEB, Daemon

ROOT = Path(__file__).parent.parent
FOOT = "q quit  Enter details"
REVERSED = re.compile(r"\x1b\[[\d;]*7m")
COLOURED = re.compile(r"\x1b\[[\d;]*3[1-7]m")


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    daemon = Daemon()
    with serving(tmp_path / "s", daemon.commands()):
        yield daemon


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    with Terminal(tmp_path) as terminal:
        yield terminal


def top(
    terminal: Terminal, *options: str, env: Optional[Mapping[str, str]] = None, begun: str = FOOT
) -> str:
    """Starts it on the socket `s` beside the terminal; the screen once it shows `begun`."""
    argv = [sys.executable, "-m", ctl.__name__, "--socket", "s", "top", "--interval", "0.5"]
    terminal.run([*argv, *options], {"PYTHONPATH": str(ROOT), **(env or {})})
    return terminal.until(begun)


def ended(terminal: Terminal, code: int) -> None:
    """The shell is back, its terminal as it was, and lines typed are seen and read as ever."""
    terminal.until(f"ended {code}\nshell>")
    assert terminal.is_as_before()
    terminal.type("echo a''b")
    terminal.until("shell> echo a''b")
    terminal.press("Enter")
    terminal.until("\nab\n")


def many(number: int) -> list[dict[str, object]]:
    return [
        {**WEB, "id": f"ep_{n}", "hostname": f"e{n:04}.ns", "url": f"http://e{n:04}.ns"}
        for n in range(number)
    ]


# What is seen


def test_at_eighty_by_twenty_four_all_is_there_and_q_quits(
    daemon: Daemon, terminal: Terminal
) -> None:
    shown = top(terminal).split("\n")
    assert shown[0] == "ngrokd 0.1.0 is ready, with problems (pid 42, up 2 h 7 min)"
    assert shown[5:9] == [
        "ENDPOINT             STATE     OPEN      UP/s    DOWN/s  ERRORS  ACTIVE",
        "tcp://cache.ns:6379  failed       0         -         -       0       -",
        "http://web.ns        open         2         -         -       1       -",
        "tls://*.ns           skipped      0         -         -       0       -",
    ]
    assert shown[23].startswith(FOOT) and len(shown) == 24
    daemon.listed = [STAR, CACHE, {**WEB, "bytes_up": 99_999_999}]
    terminal.until("MiB       0 B       1 ")
    terminal.press("q")
    ended(terminal, 0)


@pytest.mark.long
def test_the_cursor_the_details_the_orders_and_the_filter(
    daemon: Daemon, terminal: Terminal
) -> None:
    top(terminal)
    terminal.press("Down", "Down", "Enter")
    assert "Endpoint       http://web.ns\n" in terminal.until("In hosts file")
    terminal.press("Down")
    terminal.until("Reason         a wildcard is no name")
    terminal.press("Escape")
    terminal.until(FOOT)
    terminal.press("c")
    shown = terminal.until("by connections")
    assert shown.index("web.ns") < shown.index("cache.ns:6379  ")
    terminal.press("r")
    terminal.until("by connections, reversed")
    terminal.type("/TCP qx")
    terminal.until("filter: TCP qx_")
    terminal.press("BSpace", "BSpace", "BSpace", "Enter")
    terminal.until("1 with 'TCP'", lambda shown: "web.ns" not in shown)
    terminal.press("Escape")
    terminal.until("web.ns")
    terminal.press("?")
    terminal.until("ACTIVE        how long ago")
    terminal.press("q")
    ended(terminal, 0)


@pytest.mark.long
@pytest.mark.parametrize(
    ("env", "has_colour"),
    [
        ({"TERM": "tmux-256color", "NO_COLOR": ""}, True),
        ({"TERM": "screen"}, True),
        ({"TERM": "tmux-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "vt100"}, False),
        ({"TERM": "vt220", "LC_ALL": "C"}, False),
        ({"TERM": "xterm", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, True),
    ],
    ids=str,
)
def test_with_colours_or_without_it_tells_the_same(
    daemon: Daemon, terminal: Terminal, env: dict[str, str], has_colour: bool
) -> None:
    daemon.listed = [{**WEB, "url": "http://" + "bü" * 40 + ".ns"}, CACHE]
    shown = top(terminal, env=env)
    assert re.search(r"^http://b.b\S+[…~]  open  ", shown, re.MULTILINE)
    terminal.press("Down")
    terminal.until(FOOT, lambda _: len(REVERSED.findall(terminal.shown(styled=True))) == 2)
    assert bool(COLOURED.search(terminal.shown(styled=True))) is has_colour
    terminal.press("q")
    ended(terminal, 0)


@pytest.mark.long
def test_it_follows_the_size_of_the_terminal_down_to_almost_nothing(
    daemon: Daemon, terminal: Terminal
) -> None:
    daemon.listed = many(100)
    top(terminal)
    terminal.resize(140, 40)
    terminal.until("ADDRESS", lambda shown: len(re.findall("^http", shown, re.MULTILINE)) == 33)
    terminal.resize(45, 10)
    shown = terminal.until("DOWN/s", lambda shown: "ERRORS" not in shown)
    assert len(re.findall("^http", shown, re.MULTILINE)) == 3
    for columns, lines in ((3, 2), (1, 1), (5, 24), (80, 3)):
        terminal.resize(columns, lines)
    terminal.until("ngrokd 0.1.0 is ready", lambda shown: shown.split("\n")[2].startswith(FOOT))
    terminal.resize(80, 24)
    terminal.until("ACTIVE", lambda shown: FOOT in shown)
    terminal.press("q")
    ended(terminal, 0)


@pytest.mark.long
@pytest.mark.parametrize("number", [0, 3, 2000])
def test_few_endpoints_or_thousands(daemon: Daemon, terminal: Terminal, number: int) -> None:
    daemon.status = {**STATUS, "problems": []}
    daemon.listed = many(number)
    shown = top(terminal)
    if number == 0:
        assert "\nNo endpoints.\n" in shown
    terminal.press("Enter")
    terminal.until("http://e0000.ns" if number else "No endpoints.")
    terminal.press("Escape", "End")
    if number:
        terminal.until(f"http://e{number - 1:04}.ns")
    terminal.press("q")
    ended(terminal, 0)


@pytest.mark.long
def test_what_was_pasted_by_mistake_keeps_nobody_from_ctrl_c(
    daemon: Daemon, terminal: Terminal
) -> None:
    daemon.listed = many(8000)
    top(terminal)
    for _ in range(10):
        terminal.type("the uick brown fox jumps over nothing cj uj dk ej ")
    terminal.press("C-c")
    ended(terminal, 130)


@pytest.mark.long
def test_nothing_in_a_name_or_a_reason_controls_the_terminal(
    daemon: Daemon, terminal: Terminal
) -> None:
    evil = "\x1b[2J\x1b[H\x1b]0;owned\x07\x9b31m\r\n\u202e\x0e"
    daemon.status = {**STATUS, "problems": [evil]}
    daemon.listed = [{**WEB, "url": f"http://{evil}", "reason": evil, "last_error": evil}]
    shown = top(terminal)
    assert "http://\\x1b[2J\\x1b[" in shown and "! \\x1b[2J" in shown
    terminal.press("Enter")
    terminal.until("Reason         \\x1b[2J\\x1b[H\\x1b]0;owned\\x07\\x9b31m")
    assert "owned" not in terminal.title()
    terminal.press("q")
    ended(terminal, 0)


# Daemons that go


@pytest.mark.long
def test_a_daemon_that_dies_is_told_and_one_that_comes_back_is_shown(
    tmp_path: Path, terminal: Terminal
) -> None:
    daemon = Daemon()
    with serving(tmp_path / "s", daemon.commands()):
        top(terminal)
    shown = terminal.until("no answer for ")
    assert "no ngrokd answers on s (" in shown and "http://web.ns" in shown
    terminal.until("no answer for 2 s")
    daemon.status = {**STATUS, "pid": 43, "uptime_s": 1, "state": "registering", "problems": []}
    daemon.listed = []
    with serving(tmp_path / "s", daemon.commands()):
        shown = terminal.until("is registering with ngrok (pid 43, up 1 s)")
        assert "no answer" not in shown
        terminal.until("No endpoints.")
        terminal.press("q")
        ended(terminal, 0)


def test_without_a_daemon_it_says_so_as_every_command_does(terminal: Terminal) -> None:
    shown = top(terminal, begun="ended 3\n")
    assert "ngrokctl: no ngrokd answers on s (No such file or directory)\n" in shown


# Ways out


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("SIGTERM", 143),
        ("SIGINT", 130),
        ("SIGHUP", 129),
        ("SIGQUIT", 131),
        ("C-c", 130),
        ("C-\\", 131),
    ],
)
def test_a_signal_ends_it_and_gives_the_terminal_back(
    daemon: Daemon, terminal: Terminal, name: str, code: int
) -> None:
    top(terminal)
    if name.startswith("C-"):
        terminal.press(name)
    else:
        os.kill(terminal.foreground(), getattr(signal, name))
    ended(terminal, code)


@pytest.mark.long
def test_a_terminal_that_goes_away_ends_it(daemon: Daemon, terminal: Terminal) -> None:
    top(terminal)
    with open(os.pidfd_open(terminal.foreground())) as process:
        terminal.close()
        assert select.select([process], [], [], PATIENCE_S)[0], "it runs on without a terminal"


@pytest.mark.long
def test_stopped_by_ctrl_z_the_terminal_is_the_shells_and_then_the_views_again(
    daemon: Daemon, terminal: Terminal
) -> None:
    top(terminal)
    terminal.press("C-z")
    terminal.until("ended 148\nshell>")
    terminal.type("clear; echo a''b")
    terminal.press("Enter")
    terminal.until("ab\nshell>", lambda shown: FOOT not in shown)
    terminal.type("fg; echo back $?")
    terminal.press("Enter")
    terminal.until(FOOT)
    terminal.press("q")
    terminal.until("back 0\n")


@pytest.mark.long
@pytest.mark.parametrize("broken", ["look", "draw"])
def test_a_fault_of_its_own_leaves_the_terminal_as_it_was_and_its_traceback_on_it(
    daemon: Daemon, tmp_path: Path, terminal: Terminal, broken: str
) -> None:
    """A fault in the thread that asks, or in the one that draws."""
    (tmp_path / "faulty.py").write_text(
        "import sys\n"
        "from ngrokd.control import ctl\n"
        "from ngrokd.control.top import command, live\n"
        "class Faulty:\n"
        "    def __init__(self, works): self.left, self.works = 1, works\n"
        "    def __call__(self, *args):\n"
        "        self.left -= 1\n"
        "        if self.left < 0: raise RuntimeError('a fault of its own')\n"
        "        return self.works(*args)\n"
        f"if {broken!r} == 'look': command.look = Faulty(command.look)\n"
        "else: live.frame = Faulty(live.frame)\n"
        "sys.exit(ctl.main(['--socket', 's', 'top', '--interval', '0.5']))\n"
    )
    terminal.run([sys.executable, "faulty.py"], {"PYTHONPATH": str(ROOT)})
    shown = terminal.until("ended 1\n")
    assert "RuntimeError: a fault of its own" in shown and FOOT not in shown
    ended(terminal, 1)


@pytest.mark.long
@pytest.mark.parametrize("term", ["dumb", "no-such-terminal", ""])
def test_a_terminal_that_cannot_show_it_is_refused(
    daemon: Daemon, terminal: Terminal, term: str
) -> None:
    shown = top(terminal, env={"TERM": term}, begun="ended 2\n")
    assert "`ngrokctl top --once`" in shown.replace("\n", "")


# Without a terminal


def run(*options: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", ctl.__name__, "--socket", "s", "top", *options],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TERM": "xterm"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )


def test_in_a_pipe_it_says_what_to_use_instead(daemon: Daemon, tmp_path: Path) -> None:
    done = run(folder=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "ngrokctl: `top` needs a terminal: `ngrokctl top --once` prints one frame\n"
    )
    assert daemon.asked == []


@pytest.mark.parametrize("options", [("--interval", "0.1"), ("--interval", "x"), ("--sort", "x")])
def test_a_wrong_option_is_refused(options: tuple[str, ...]) -> None:
    assert ctl.main(["top", *options]) == 2


def test_once_prints_one_frame_with_rates_uncut(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    daemon.listed = [{**WEB, "url": "http://" + "x" * 200}, CACHE, STAR]
    words = ["--socket", str(tmp_path / "s"), "top", "--once", "--interval", "0.5"]
    assert ctl.main([*words, "--sort", "connections", "--filter", "open"]) == 0
    shown = capsys.readouterr().out.split("\n")
    assert shown[1].endswith("   0 B/s up, 0 B/s down")
    assert shown[2].endswith("by connections")
    assert shown[2].startswith("Endpoints    1 with 'open' of 1 open, ")
    assert shown[5].split()[0] == "ENDPOINT" and shown[6].startswith("http://" + "x" * 200 + "  ")
    assert len(shown) == 8 and shown[-1] == ""
    assert [name for name, _ in daemon.asked] == ["status", "list"] * 2


def test_json_is_one_frame_as_an_object(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--socket", str(tmp_path / "s"), "top", "--json", "--interval", "0.5"]
    assert ctl.main([*words, "--sort", "state"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert list(told) == ["status", "rate_up", "rate_down", "endpoints"]
    assert told["status"] == STATUS and told["rate_up"] == 0.0
    assert [each["id"] for each in told["endpoints"]] == ["ep_2", "ep_1", "ep_3"]
    assert told["endpoints"][1] == {**WEB, "rate_up": 0.0, "rate_down": 0.0}


def test_curses_is_loaded_for_the_live_view_only() -> None:
    code = (
        "import sys, ngrokd.control.ctl, ngrokd.control.top.command;"
        "sys.exit('curses' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=PATIENCE_S).returncode == 0
