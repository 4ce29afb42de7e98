"""The URL of a bound endpoint: scheme, hostname and port, or the reason why it has none.

Liberal, because ngrok's own sources disagree (ngrok's documents show two and three labels, tcp
only and tls too): http, https, tls and tcp, one to five labels (ERR_NGROK_9031), default ports. Not
`urlsplit`: it silently drops tabs and line breaks, which must be refused here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

DEFAULT_PORTS = {"http": 80, "https": 443, "tls": 443, "tcp": None}

MAX_LABELS = 5
MAX_LABEL = 63
MAX_SHOWN = 80  # of what is wrong
MAX_HOSTNAME = 253  # RFC 1035 section 2.3.4, without the root's dot
# What follows the authority begins with one of `/?#`: a long URL is not tried at every length.
_WHOLE = re.compile(r"(?:([A-Za-z][A-Za-z0-9+.-]*)://)?([^/?#]*)([/?#][^\s\x00-\x1f\x7f]*)?")
# Underscores are no hostname by RFC 952, yet resolvers and certificates carry them.
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_LETTERS = re.compile(r"[a-z0-9_-]*")
_ACE_PREFIX = "xn--"
# IDNA 2003, which Python's codec and old resolvers follow, maps these to something else or to
# nothing; IDNA 2008, which curl and browsers follow, keeps them: they ask for different names.
_DISPUTED = re.compile("[\u00df\u03c2\u200c\u200d]")
_CONTROL = re.compile("[\x80-\xa0\ud800-\udfff]")  # what `xn--a` and other accidents come to
_PORT = re.compile(r"[0-9]{1,5}")


class Unusable(Exception):
    """This URL cannot be served. Handler: skip that endpoint, with this text as its reason."""


@dataclass(frozen=True)
class EndpointUrl:
    """What can be served. `str()` is the one spelling of it."""

    scheme: str
    hostname: str
    port: int

    def __str__(self) -> str:
        shown = "" if DEFAULT_PORTS[self.scheme] == self.port else f":{self.port}"
        return f"{self.scheme}://{self.hostname}{shown}"


def parse(text: str, default_scheme: str = "https") -> EndpointUrl:
    """`text` as an endpoint; Unusable otherwise, too for a path: the wire carries none."""
    found = _WHOLE.fullmatch(text)
    if found is None:
        raise Unusable("the URL contains a space or a control character")
    scheme = (found.group(1) or default_scheme).lower()
    if scheme not in DEFAULT_PORTS:
        raise Unusable(f"the scheme {scheme} is not http, https, tls or tcp")
    authority = found.group(2)
    if "@" in authority:
        raise Unusable("the URL names a user, which no endpoint has")
    host, _, port = authority.partition(":")
    url = EndpointUrl(scheme, _hostname(host), _port(port, DEFAULT_PORTS[scheme]))
    behind = found.group(3) or "/"
    if behind != "/":  # who typed `web#1.ns` did not mean the name `web`
        raise Unusable(f"the URL has {behind[:MAX_SHOWN]!r} behind its host and port")
    return url


def _hostname(text: str) -> str:
    name = text.lower()
    if "*" in name:
        raise Unusable("a wildcard name cannot be published: name each host in an endpoint")
    if not name.isascii():
        name = _in_ascii(name)
    if name.endswith("."):  # the root: web.ns. is web.ns
        name = name[:-1]
    if not name:
        raise Unusable("the URL names no host")
    if len(name) > MAX_HOSTNAME:
        raise Unusable(f"the hostname is longer than {MAX_HOSTNAME} characters")
    labels = name.split(".")
    for label in labels:
        _check_label(label)
    if len(labels) > MAX_LABELS:
        raise Unusable(f"the hostname has more than {MAX_LABELS} labels, ngrok's limit")
    if re.fullmatch(r"[0-9]+|0x[0-9a-f]*", labels[-1]):
        # What inet_aton takes for an address (1, 127.1, 0x7f.1) never reaches the hosts file.
        raise Unusable("the host is an address, not a name")
    return name


def _check_label(label: str) -> None:
    if not label:
        raise Unusable("the hostname has an empty label (two dots in a row, or one at an end)")
    if not _LABEL.fullmatch(label):
        raise Unusable(f"{label[:MAX_SHOWN]!r} in the hostname is not a name: {_fault_of(label)}")
    if label.startswith(_ACE_PREFIX) and not _decodes(label):
        raise Unusable(f"{label!r} in the hostname stands for no international name (IDNA)")


def _fault_of(label: str) -> str:
    if not _LETTERS.fullmatch(label):
        return "it has more than letters, digits, hyphens and underscores"
    if len(label) > MAX_LABEL:
        return f"it is longer than {MAX_LABEL} characters"
    return "it begins or ends with a hyphen"


def _in_ascii(name: str) -> str:
    """The form that resolvers ask for: `xn--...` in place of each label with other letters.

    The codec loads its tables with the first such name: a daemon without one does not pay for them.
    """
    if len(name) > MAX_HOSTNAME:  # before the codec, whose time grows with the square
        raise Unusable(f"the hostname is longer than {MAX_HOSTNAME} characters")
    disputed = _DISPUTED.search(name)
    if disputed:
        raise Unusable(
            f"programs disagree about {disputed.group()!a} in a hostname: name it in ngrok by"
            f" its {_ACE_PREFIX} form"
        )
    try:
        return name.encode("idna").decode("ascii").lower()
    except UnicodeError as exc:
        raise Unusable(f"{name[:80]!r} is no hostname, not even an international one") from exc


def _decodes(label: str) -> bool:
    """There is a name with other letters that is written like this, and only like this."""
    encoded = label[len(_ACE_PREFIX) :]
    try:
        name = encoded.encode("ascii").decode("punycode")
        again = name.encode("punycode").decode("ascii")
    except UnicodeError:
        return False
    return again == encoded and not name.isascii() and not _CONTROL.search(name)


def _port(text: str, default: Optional[int]) -> int:
    if not text:
        if default is None:
            raise Unusable("a tcp endpoint needs a port in its URL")
        return default
    if not _PORT.fullmatch(text) or not 1 <= int(text) <= 65535:
        raise Unusable(f"the port {text[:20]!r} is not a number from 1 to 65535")
    return int(text)
