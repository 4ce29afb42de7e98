"""A program: makes a tun device, shows and deletes an interface, where there is no `ip`.

`python3 linkprogram.py make|show|delete NAME`. What it prints is what `ip -d -o link show` would,
as far as ngrokd reads it. It is a program of its own so that it is a command like any other; it
imports nothing of ngrokd.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator

DONE, FAILED, USAGE = 0, 1, 2

# linux/if_tun.h
_SET_IFF, _SET_PERSIST, _SET_OWNER, _SET_GROUP = 0x400454CA, 0x400454CB, 0x400454CC, 0x400454CE
_TUN, _NO_PI, _EXCLUSIVE = 0x1, 0x1000, 0x8000  # exclusive: never one that is there already
_REQUEST = struct.Struct("16sH22x")  # struct ifreq: name, flags
_TUN_DEVICE = "/dev/net/tun"
_OWNER = 0  # root, as user and as group: ngrokd's mark, and nobody else may open it

# linux/rtnetlink.h, linux/if_link.h
_HEADER = struct.Struct("=IHHII")  # length, type, flags, sequence, port
_LINK = struct.Struct("=BxHiII")  # family, type, index, flags, changed
_ATTRIBUTE = struct.Struct("=HH")  # length, type
_ERROR = struct.Struct("=i")
_IS_ERROR, _DEL_LINK, _GET_LINK = 2, 17, 18
_WANTED, _ACKNOWLEDGED = 0x1, 0x4  # NLM_F_REQUEST, NLM_F_ACK
_NAME, _LINK_INFO = 3, 18
_KIND, _OF_KIND = 1, 2
_TUN_OWNER, _TUN_GROUP, _TUN_TYPE, _TUN_PERSIST = 1, 2, 3, 6
_NOBODY = b"\xff\xff\xff\xff"
_TYPE_MASK = 0x3FFF
_NETLINK_ROUTE = 0
_ANSWER_BYTES = 64 * 1024


def make(name: str) -> None:
    """Raises OSError."""
    import fcntl

    descriptor = os.open(_TUN_DEVICE, os.O_RDWR | os.O_CLOEXEC)
    try:
        flags = _TUN | _NO_PI | _EXCLUSIVE
        fcntl.ioctl(descriptor, _SET_IFF, _REQUEST.pack(name.encode(), flags))
        fcntl.ioctl(descriptor, _SET_OWNER, _OWNER)
        fcntl.ioctl(descriptor, _SET_GROUP, _OWNER)
        fcntl.ioctl(descriptor, _SET_PERSIST, 1)  # last: without it, it ends with this process
    finally:
        os.close(descriptor)


def show(name: str) -> str:
    """Raises OSError."""
    answer = _ask(_GET_LINK, name)
    _, _, index, _, _ = _LINK.unpack_from(answer, _HEADER.size)
    found = dict(_attributes(answer[_HEADER.size + _LINK.size :]))
    info = dict(_attributes(found.get(_LINK_INFO, b"")))
    kind = info.get(_KIND, b"").rstrip(b"\0").decode("ascii", "replace")
    of_kind = dict(_attributes(info.get(_OF_KIND, b"")))
    details = _of_tun(of_kind) if kind == "tun" else ""
    return f"{index}: {name}: <> \\    link/unknown  \\    {kind}{details} \n"


def delete(name: str) -> None:
    """Raises OSError."""
    _ask(_DEL_LINK, name)


def main(words: list[str]) -> int:
    """The exit status."""
    if len(words) != 2 or words[0] not in ("make", "show", "delete") or len(words[1]) > 15:
        sys.stderr.write("usage: linkprogram.py make|show|delete NAME\n")
        return USAGE
    verb, name = words
    try:
        if verb == "show":
            sys.stdout.write(show(name))
        else:
            (make if verb == "make" else delete)(name)
    except OSError as exc:
        sys.stderr.write(f"{_in_the_words_of_ip(exc, name)}\n")
        return FAILED
    return DONE


def _in_the_words_of_ip(exc: OSError, name: str) -> str:
    if exc.errno == errno.ENODEV and exc.filename is None:
        return f'Cannot find device "{name}"'
    if exc.errno == errno.EBUSY:
        return "File exists"
    return f"{exc.filename}: {exc.strerror}" if exc.filename else str(exc.strerror)


def _of_tun(of_kind: dict[int, bytes]) -> str:
    frames = of_kind.get(_TUN_TYPE, b"\1") != b"\1"
    text = f" type {'tap' if frames else 'tun'}"
    text += " persist on" if of_kind.get(_TUN_PERSIST) == b"\1" else " persist off"
    for word, number in (("user", _TUN_OWNER), ("group", _TUN_GROUP)):
        owner = of_kind.get(number, _NOBODY)
        text += "" if owner == _NOBODY else f" {word} {int.from_bytes(owner, sys.byteorder)}"
    return text


def _ask(kind: int, name: str) -> bytes:
    """The kernel's answer about one interface. Raises OSError."""
    text = name.encode() + b"\0"
    attribute = _ATTRIBUTE.pack(_ATTRIBUTE.size + len(text), _NAME) + text
    body = _LINK.pack(0, 0, 0, 0, 0) + attribute + b"\0" * (-len(attribute) % 4)
    flags = _WANTED | (_ACKNOWLEDGED if kind == _DEL_LINK else 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETLINK_ROUTE) as kernel:
        kernel.send(_HEADER.pack(_HEADER.size + len(body), kind, flags, 1, 0) + body)
        answer = kernel.recv(_ANSWER_BYTES)
    if _HEADER.unpack_from(answer)[1] == _IS_ERROR:
        (number,) = _ERROR.unpack_from(answer, _HEADER.size)
        if number:
            raise OSError(-number, os.strerror(-number))
    return answer


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _TYPE_MASK, data[at + _ATTRIBUTE.size : at + length]
        at += (length + 3) & ~3


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
