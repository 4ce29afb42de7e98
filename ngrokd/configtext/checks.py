"""Checks of single settings: a value as it was written becomes one as `Config` keeps it.

A check raises Wrong with what is wrong; what is allowed stands beside it in the schema.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from ngrokd.cloud import ingressaddress
from ngrokd.configtext.spelling import closest

Check = Callable[[object], Any]

MAX_SOCKET_PATH_BYTES = 103  # sun_path of macOS less its NUL; Linux takes four more
_MAX_PATH_BYTES = 4095  # PATH_MAX less the NUL
_SHOWN_CHARACTERS = 40
_MAX_KEY_CHARACTERS = 512  # an API key has 49; it becomes an HTTP header

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")  # RFC 1035, and `_`
_INTERFACE = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.-]{0,14}")
_GROUP = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}")
_NETWORK = re.compile(r"[0-9.]+/[0-9]{1,2}")
# Names that the kernel, or its sysctl tree, has given a meaning of their own.
_RESERVED_INTERFACES = frozenset({"lo", "all", "default", ".", ".."})
_UNUSABLE_NETWORKS = {
    "0.0.0.0/8": "this network",
    "169.254.0.0/16": "link-local addresses",
    "224.0.0.0/4": "multicast addresses",
    "240.0.0.0/4": "reserved addresses",
}


class Wrong(Exception):
    """What is wrong with a value. Handler: becomes one fault of the configuration."""


def shown(value: object) -> str:
    """A value as it may stand in a message: one line, bounded; of a list only that it is one."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, (str, int, float)):
        text = ascii(value) if isinstance(value, str) else str(value)
        return text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "..."
    return "a list" if isinstance(value, (list, tuple)) else "a section"


def wrong_kind(value: object, wanted: str) -> Wrong:
    """`value` is not of the kind that is wanted at all."""
    if value is None:
        return Wrong("it has no value")
    return Wrong(f"{shown(value)} is not {wanted}")


def text_of(value: object) -> str:
    """The value, which must be text of one line."""
    if not isinstance(value, str):
        raise wrong_kind(value, "text: write it in quotes" if _is_plain(value) else "text")
    if not value.isprintable():
        raise Wrong(f"{shown(value)} has control characters")
    return value


def _is_plain(value: object) -> bool:
    return isinstance(value, (bool, int, float))


def number(low: float, high: float, whole: bool = False) -> Check:
    """A number from `low` to `high`. A boolean is none, though Python's is an int."""

    def check(value: object) -> Any:
        if isinstance(value, str) and re.fullmatch(r"[-+]?[0-9]+(\.[0-9]+)?", value):
            raise Wrong(f"{shown(value)} is text: write it without quotes")
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise wrong_kind(value, "a number")
        if value < low:
            raise Wrong(f"{shown(value)} is too small")
        if not value <= high:  # so written, NaN is refused too
            raise Wrong(f"{shown(value)} is too large")
        if whole and not isinstance(value, int):
            raise Wrong(f"{shown(value)} is not a whole number")
        return value

    return check


def choice(*words: str) -> Check:
    """One of `words`, as written there."""

    def check(value: object) -> str:
        text = text_of(value)
        if text in words:
            return text
        close = closest(text.lower(), words)
        raise Wrong(f"{shown(text)} is none of them" + (f": write {close}" if close else ""))

    return check


def path(*words: str, empty: bool = False, max_bytes: int = _MAX_PATH_BYTES) -> Check:
    """An absolute path of a file, one of `words`, or (with `empty`) nothing."""

    def check(value: object) -> str:
        if empty and value in (None, ""):
            return ""
        text = text_of(value)
        if text in words:
            return text
        if text.startswith("~"):
            raise Wrong(f"{shown(text)} starts with ~, which only a shell knows")
        if not text.startswith("/"):
            raise Wrong(f"{shown(text)} is not absolute")
        if text.endswith("/"):
            raise Wrong(f"{shown(text)} is a folder")
        length = len(text.encode("utf-8", "surrogateescape"))
        if length > max_bytes:
            raise Wrong(f"{shown(text)} has {length} bytes")
        return text

    return check


def api_key(value: object) -> str:
    """Never shown, whatever is wrong with it."""
    if value in (None, ""):
        return ""
    if not isinstance(value, str):
        raise Wrong("it is not text: write it in quotes")
    if any(character.isspace() for character in value):
        raise Wrong("it contains white space")
    if len(value) > _MAX_KEY_CHARACTERS or not (value.isascii() and value.isprintable()):
        raise Wrong("it is longer than any key, or contains characters that no key has")
    return value


def api_url(value: object) -> str:
    """Not shown either where it may hold a password."""
    text = text_of(value)
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise Wrong("it is not a URL with a usable host and port") from exc
    if "@" in text:
        raise Wrong("it holds a user name or password")
    if parts.query or parts.fragment or "?" in text or "#" in text:
        raise Wrong("it has a query or fragment")
    if parts.scheme not in ("http", "https") or not text.isascii() or " " in text:
        raise Wrong(f"{shown(text)} is not an https:// URL")
    if port == 0 or not (_is_host(host) or (":" in host and _is_ip(host))):
        raise Wrong(f"{shown(text)} names no usable host and port")
    if parts.scheme == "http" and not _is_loopback(host):
        raise Wrong(f"{shown(text)} would send the API key in clear text")
    return text.rstrip("/")


def ingress_endpoint(value: object) -> str:
    """HOST[:PORT], returned with its port."""
    if value in (None, ""):
        return ""
    text = text_of(value)
    try:
        return str(ingressaddress.parse(text))
    except ValueError as exc:
        raise Wrong(f"{shown(text)} {exc}") from exc


def subnet(value: object) -> str:
    """An IPv4 network that endpoint addresses can come from."""
    text = text_of(value)
    if not _NETWORK.fullmatch(text):
        hint = " has no prefix length" if _is_ipv4(text) else " is not an IPv4 network"
        raise Wrong(shown(text) + hint)
    try:
        network = ipaddress.IPv4Network(text, strict=False)
    except ValueError as exc:
        raise Wrong(f"{shown(text)} is not an IPv4 network") from exc
    if not 8 <= network.prefixlen <= 30:
        raise Wrong(f"{shown(text)} has a prefix of {network.prefixlen} bits")
    if str(network) != text:
        raise Wrong(f"{shown(text)} has host bits set: the network meant is {network}")
    for unusable, what in _UNUSABLE_NETWORKS.items():
        if network.overlaps(ipaddress.IPv4Network(unusable)):
            raise Wrong(f"{text} has {what} ({unusable}) in it")
    return text


def interface_name(value: object) -> str:
    """A name that Linux takes for a new interface (IFNAMSIZ), and ours for a hosts marker."""
    text = text_of(value)
    if text in _RESERVED_INTERFACES:
        raise Wrong(f"{shown(text)} has a meaning of its own")
    if not _INTERFACE.fullmatch(text):
        raise Wrong(f"{shown(text)} is not a name of an interface")
    return text


def listen_interface(value: object) -> str:
    """`virtual`, an IPv4 address of this machine, or the name of one of its interfaces."""
    text = text_of(value)
    if text.lower() == "virtual":
        return "virtual"
    if _looks_like_ipv4(text):
        return ipv4(text)
    if ":" in text:
        raise Wrong(f"{shown(text)}: IPv6 and ports are not possible here")
    if not (0 < len(text) <= 15 and text.isascii()) or re.search(r"[\s/]", text):
        raise Wrong(f"{shown(text)} is neither an address nor a name of an interface")
    return text


def ipv4(value: object) -> str:
    """An IPv4 address that can be listened on."""
    if not _is_ipv4(text := text_of(value)):
        raise Wrong(f"{shown(text)} is not an IPv4 address")
    address = ipaddress.IPv4Address(text)
    if address.is_multicast or address.is_reserved:
        raise Wrong(f"{text} cannot be listened on")
    return text


def hostname(value: object) -> str:
    """A name of one endpoint, in lower case."""
    text = text_of(value)
    if not _is_host(text) or _looks_like_ipv4(text):
        raise Wrong(f"{shown(text)} is not a hostname")
    return text.lower()


def selectors(value: object) -> tuple[str, ...]:
    """A list of CEL expressions; ngrok judges what they say."""
    if isinstance(value, str):
        raise Wrong(f"{shown(value)} is text: write [{shown(value)}]")
    if not isinstance(value, (list, tuple)):
        raise wrong_kind(value, "a list")
    if not value:
        raise Wrong("the list is empty")
    return tuple(_selector(index, item) for index, item in enumerate(value, start=1))


def _selector(index: int, item: object) -> str:
    if _is_plain(item):
        raise Wrong(f"item {index}, {shown(item)}, is not text: write it in quotes")
    if not isinstance(item, str) or not item.strip() or not item.isprintable():
        raise Wrong(f"item {index} is not one line of text")
    return item


def group(value: object) -> str:
    """The name of a group, or nothing. Whether it exists, the machine knows."""
    if value in (None, ""):
        return ""
    text = text_of(value)
    if not _GROUP.fullmatch(text):
        raise Wrong(f"{shown(text)} is not a name of a group")
    return text


def warm_connections(value: object) -> str:
    """`off`, `auto`, or a number in digits (0 is `off`)."""
    if isinstance(value, str) and not re.fullmatch(r"[0-9]{1,5}", value):
        return str(choice("off", "auto")(value))
    number_of = number(0, 1000, whole=True)
    return str(number_of(int(value) if isinstance(value, str) else value) or "off")


def _is_ipv4(text: str) -> bool:
    return _looks_like_ipv4(text) and _is_ip(text)


def _is_ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_loopback(host: str) -> bool:
    return host == "localhost" or (_is_ip(host) and ipaddress.ip_address(host).is_loopback)


def _looks_like_ipv4(text: str) -> bool:
    return not text.strip("0123456789.")


def _is_host(text: str) -> bool:
    if _looks_like_ipv4(text):
        return _is_ip(text)
    return len(text) <= 253 and all(_NAME.fullmatch(label) for label in text.split("."))
