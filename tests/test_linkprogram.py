"""The small program that makes an interface where there is no `ip`, against a real kernel."""

from __future__ import annotations

import subprocess
import sys

import pytest

from ngrokd.host.netif import iproute, linkprogram, links
from tests.namespace import Namespace


def program(namespace: Namespace, *words: str) -> subprocess.CompletedProcess[str]:
    argv = (sys.executable, "-I", "-S", linkprogram.__file__, *words)
    return namespace.run(*argv, check=False)


def test_a_wrong_call_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["show"], ["burn", "x"], ["make", "a" * 16]):
        assert linkprogram.main(words) == 2
        assert "usage" in capsys.readouterr().err


@pytest.mark.root
def test_a_tun_device_is_made_shown_as_ip_shows_it_and_deleted(namespace: Namespace) -> None:
    assert program(namespace, "make", "tun7").returncode == 0
    shown = links.of_iproute2(program(namespace, "show", "tun7").stdout)
    assert shown == links.of_iproute2(namespace.run(*links.show("tun7")).stdout)
    assert (shown.kind, shown.is_marked) == ("tun", True)
    again = program(namespace, "make", "tun7")
    assert again.returncode == 1 and iproute.is_taken(again.stderr)
    assert program(namespace, "delete", "tun7").returncode == 0
    for verb in ("show", "delete"):
        gone = program(namespace, verb, "tun7")
        assert gone.returncode == 1 and iproute.is_missing(gone.stderr)


@pytest.mark.root
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        ("link add x0 type bridge", "bridge"),
        ("tuntap add dev x0 mode tun", "tun"),
        ("tuntap add dev x0 mode tun user 0", "tun"),
        ("tuntap add dev x0 mode tap user 0 group 0", "tun of another program"),
    ],
)
def test_what_others_made_is_shown_without_our_mark_or_as_another_kind(
    namespace: Namespace, make: str, kind: str
) -> None:
    namespace.run("ip", *make.split())
    shown = links.of_iproute2(program(namespace, "show", "x0").stdout)
    by_ip = links.of_iproute2(namespace.run(*links.show("x0")).stdout)
    assert (shown.index, shown.kind) == (by_ip.index, kind)
    assert not (shown.is_marked and kind in links.KINDS)
    assert program(namespace, "delete", "x0").returncode == 0
    assert "x0" not in namespace.run("ip", "-o", "link").stdout


@pytest.mark.root
def test_a_tun_device_without_the_device_file_or_the_right_is_refused_in_words(
    namespace: Namespace,
) -> None:
    argv = ("setpriv", "--inh-caps=-all", "--bounding-set=-all", sys.executable)
    done = namespace.run(*argv, linkprogram.__file__, "make", "tun7", check=False)
    assert "not permitted" in done.stderr
    namespace.run("mount", "-t", "tmpfs", "none", "/dev/net")
    assert program(namespace, "make", "tun7").stderr.startswith("/dev/net/tun: No such file")
