"""The ingress's address as it is written: HOST[:PORT], IPv6 in brackets. Pure."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

DEFAULT_PORT = 443
MAX_HOST = 253  # RFC 1035's 255 bytes, as text

_LABEL = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?")  # RFC 1035, and `_`
_PORT = re.compile(r"[0-9]{1,5}")


@dataclass(frozen=True)
class IngressAddress:
    """`host` is a name in lower case or an IP address, without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        """As it is written, with its port."""
        shown = f"[{self.host}]" if ":" in self.host else self.host
        return f"{shown}:{self.port}"


def parse(text: str) -> IngressAddress:
    """ValueError: what is wrong with it, to follow the text itself."""
    if "://" in text:
        raise ValueError("is a URL: write only its host and port")
    if text.startswith("["):
        inside, closed, rest = text[1:].partition("]")
        if not closed or not _is_ip(inside, 6):
            raise ValueError("has no IPv6 address between its brackets")
        if rest and not rest.startswith(":"):
            raise ValueError("has something after the bracket that is no port")
        host, colon, port = ipaddress.ip_address(inside).compressed, rest[:1], rest[1:]
    elif text.count(":") > 1:
        if _is_ip(text, 6):
            raise ValueError(f"is an IPv6 address without brackets: write [{text}]")
        raise ValueError("has more than one colon")
    else:
        host, colon, port = text.partition(":")
        host = host.lower()
        if not is_host(host):
            raise ValueError("names no usable host")
    if colon and not (_PORT.fullmatch(port) and 1 <= int(port) <= 65535):
        raise ValueError("has no usable port after the colon")
    return IngressAddress(host, int(port) if colon else DEFAULT_PORT)


def is_ingress_address(text: str) -> bool:
    """`parse` takes it."""
    try:
        parse(text)
    except ValueError:
        return False
    return True


def is_host(text: str) -> bool:
    """A name, or an IPv4 address: what ends in a number can be nothing else (RFC 1123 2.1)."""
    labels = text.split(".")
    if labels[-1].isdigit():
        return _is_ip(text, 4)
    return len(text) <= MAX_HOST and all(_LABEL.fullmatch(label) for label in labels)


def _is_ip(text: str, version: int) -> bool:
    """Without a zone: no certificate can be made out for one."""
    try:
        return "%" not in text and ipaddress.ip_address(text).version == version
    except ValueError:
        return False
